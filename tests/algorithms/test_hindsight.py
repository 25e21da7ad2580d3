"""Hindsight experience replay against naive loops over a replay buffer of a few episodes."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import alf.nest as nest
from alf.algorithms import data_transformer as dt
from alf.data_structures import BatchInfo, Experience, TimeStep, add_batch_info
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec

FIRST, MID, LAST = 0, 1, 2
SPEC = dict(observation=TensorSpec((2,)), achieved_goal=TensorSpec((2,)), desired_goal=TensorSpec((2,)))


class NaiveReplay:
    """What the transformer asks of a replay buffer, by loops; slot ``position % max_length`` of a ring."""

    def __init__(self, num_envs, max_length, num_steps, seed, reward_dim=()):
        rng = np.random.default_rng(seed)
        self.max_length, self.end = max_length, num_steps
        self.begin = max(0, num_steps - max_length)
        self.steps = []
        for env in range(num_envs):
            steps, t = [], 0
            while t < num_steps:
                length = int(rng.integers(2, 7))
                goal = rng.normal(size=2)
                for k in range(length):
                    steps.append(
                        dict(
                            step_type=FIRST if k == 0 else LAST if k == length - 1 else MID,
                            # every achieved goal is a number of its own, so that it tells where it comes from
                            achieved_goal=np.array([env, t + k], np.float32),
                            desired_goal=goal.astype(np.float32),
                            reward=rng.normal(size=reward_dim).astype(np.float32),
                        )
                    )
                t += length
            self.steps.append(steps[:num_steps])

    def at(self, env, position):
        assert self.begin <= position < self.end, f"position {position} is not stored"
        return self.steps[env][position]

    def _last(self, env, position):
        while position < self.end - 1 and self.at(env, position)["step_type"] != LAST:
            position += 1
        return position

    def steps_to_episode_end(self, pos, env_ids):
        return torch.tensor([self._last(e, p) - p for e, p in zip(env_ids.tolist(), pos.tolist())])

    def get_episode_begin_position(self, pos, env_ids):
        begins = []
        for env, position in zip(env_ids.tolist(), pos.tolist()):
            while position > self.begin and self.at(env, position)["step_type"] != FIRST:
                position -= 1
            begins.append(position)
        return torch.tensor(begins)

    def get_field(self, field_name, env_ids, positions):
        name = field_name.rpartition(".")[2]
        pairs = zip(env_ids.reshape(-1).tolist(), positions.reshape(-1).tolist())
        values = np.stack([self.at(e, p)[name] for e, p in pairs])
        return torch.from_numpy(values.reshape(*positions.shape, *values.shape[1:]))

    def sample(self, B, T, seed):
        """Return sequences ``[B, T, ...]`` as training gets them."""
        rng = np.random.default_rng(seed)
        env_ids = torch.from_numpy(rng.integers(0, len(self.steps), B))
        positions = torch.from_numpy(rng.integers(self.begin, self.end - T + 1, B))
        rows = positions.unsqueeze(1) + torch.arange(T)
        leaf = partial(self.get_field, env_ids=env_ids.unsqueeze(1).expand(B, T), positions=rows)
        observation = {name: leaf(name) for name in ("achieved_goal", "desired_goal")}
        observation["observation"] = torch.zeros(B, T, 2)
        time_step = TimeStep(
            step_type=leaf("step_type"), reward=leaf("reward"), discount=torch.ones(B, T), observation=observation
        )
        return add_batch_info(
            Experience(time_step=time_step), BatchInfo(env_ids=env_ids, positions=positions), self
        )


def distance(achieved, goal):
    """A reward that differs for all pairs of goals."""
    return (achieved - goal).pow(2).sum(-1) + 0.5


def check_by_loops(had, got, replay, strategy, her_proportion):
    """Return which sequences were relabeled, and with which positions, after checking everything else."""
    chosen = []
    B, T = had.step_type.shape
    for b in range(B):
        env, position = int(had.batch_info.env_ids[b]), int(had.batch_info.positions[b])
        in_episode = []
        for t in range(T):
            in_episode.append(t == 0 or (in_episode[-1] and had.step_type[b, t - 1] != LAST))
        last = replay._last(env, position)
        goal = got.observation["desired_goal"][b, 0]
        is_new = not torch.equal(goal, had.observation["desired_goal"][b, 0])
        if is_new:
            assert goal[0] == env
            begin = int(replay.get_episode_begin_position(torch.tensor([position]), torch.tensor([env])))
            first = position + 1 if strategy == "future" else begin
            assert first <= int(goal[1]) <= last and position < last
            chosen.append((b, int(goal[1])))
        for t in range(T):
            relabeled = is_new and in_episode[t]
            expected_goal = goal if relabeled else had.observation["desired_goal"][b, t]
            assert torch.equal(got.observation["desired_goal"][b, t], expected_goal)
            expected = had.reward[b, t].clone()
            if relabeled and t > 0:
                new = distance(had.observation["achieved_goal"][b, t], goal)
                expected = torch.cat([new.view(1), expected[1:]]) if expected.ndim else new
            assert torch.equal(got.reward[b, t], expected)
    if her_proportion == 1:
        assert {b for b, _ in chosen} == {b for b in range(B) if had.step_type[b, 0] != LAST
                                          and had.batch_info.positions[b] < replay.end - 1}
    if her_proportion == 0:
        assert not chosen
    return chosen


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    T=st.integers(1, 6),
    num_steps=st.sampled_from([6, 13, 40]),
    strategy=st.sampled_from(["future", "episode"]),
    her_proportion=st.sampled_from([0.0, 0.5, 1.0]),
    reward_dim=st.sampled_from([(), (3,)]),
)
def test_relabeling_equals_naive_loops(seed, T, num_steps, strategy, her_proportion, reward_dim):
    torch.manual_seed(seed)
    replay = NaiveReplay(num_envs=3, max_length=15, num_steps=num_steps, seed=seed, reward_dim=reward_dim)
    had = replay.sample(B=12, T=T, seed=seed)
    before = nest.map_structure(torch.clone, had.time_step)
    transformer = dt.HindsightExperienceTransformer(SPEC, her_proportion, reward_fn=distance, strategy=strategy)
    got = transformer.transform_experience(had)
    check_by_loops(had, got, replay, strategy, her_proportion)
    nest.map_structure(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), had.time_step, before)
    for name in ("observation", "achieved_goal"):
        assert torch.equal(got.observation[name], had.observation[name])
    assert torch.equal(got.discount, had.discount) and torch.equal(got.step_type, had.step_type)


@pytest.mark.parametrize("strategy", ["future", "episode"])
@pytest.mark.parametrize("num_steps", [9, 40])  # before and after the ring wraps around
def test_relabeling_of_the_replay_buffer_equals_naive_loops(strategy, num_steps):
    naive = NaiveReplay(num_envs=3, max_length=15, num_steps=num_steps, seed=1)
    time_step_spec = TimeStep(
        step_type=TensorSpec((), torch.int32), reward=TensorSpec(()), discount=TensorSpec(()), observation=SPEC
    )
    buffer = ReplayBuffer(Experience(time_step=time_step_spec), num_environments=3, max_length=15)
    for t in range(num_steps):
        row = [steps[t] for steps in naive.steps]
        leaf = lambda name: torch.from_numpy(np.stack([step[name] for step in row]))  # noqa: B023, E731
        observation = dict(
            achieved_goal=leaf("achieved_goal"), desired_goal=leaf("desired_goal"), observation=torch.zeros(3, 2)
        )
        buffer.add_batch(
            Experience(
                time_step=TimeStep(
                    step_type=leaf("step_type").int(),
                    reward=leaf("reward"),
                    discount=torch.ones(3),
                    observation=observation,
                )
            )
        )
    torch.manual_seed(0)
    transformer = dt.HindsightExperienceTransformer(SPEC, 0.8, reward_fn=distance, strategy=strategy)
    num_chosen = 0
    for _ in range(5):
        batch, info = buffer.get_batch(16, 4)
        had = add_batch_info(batch, info, buffer)
        num_chosen += len(check_by_loops(had, transformer.transform_experience(had), naive, strategy, 0.8))
    assert num_chosen > 20


@pytest.mark.parametrize("strategy, expected", [("future", [3, 4, 5]), ("episode", [0, 1, 2, 3, 4, 5])])
def test_goals_are_drawn_uniformly(strategy, expected):
    replay = NaiveReplay(num_envs=1, max_length=10, num_steps=6, seed=0)
    for t, step in enumerate(replay.steps[0]):  # one episode of 6 steps
        step["step_type"] = FIRST if t == 0 else LAST if t == 5 else MID
    B = 6000
    one = replay.sample(1, 2, seed=0)
    many = Experience(
        time_step=nest.map_structure(lambda x: x.repeat_interleave(B, 0), one.time_step),
        batch_info=BatchInfo(env_ids=torch.zeros(B, dtype=torch.int64), positions=torch.full((B,), 2)),
        replay_buffer=replay,
    )
    torch.manual_seed(0)
    transformer = dt.HindsightExperienceTransformer(SPEC, her_proportion=0.6, strategy=strategy)
    goals = transformer.transform_experience(many).observation["desired_goal"][:, 0]
    is_new = (goals != one.observation["desired_goal"][0, 0]).any(-1)
    assert abs(is_new.float().mean() - 0.6) < 0.03
    positions, counts = goals[is_new, 1].unique(return_counts=True)
    assert positions.tolist() == expected
    share = counts / counts.sum()
    assert (share - 1 / len(expected)).abs().max() < 0.03


def test_goal_achieved_by_the_first_action_is_rewarded_in_the_next_row():
    replay = NaiveReplay(num_envs=1, max_length=10, num_steps=2, seed=0)
    replay.steps[0][0].update(step_type=FIRST)
    replay.steps[0][1].update(step_type=LAST, reward=np.float32(-1))
    experience = replay.sample(1, 2, seed=0)
    got = dt.HindsightExperienceTransformer(SPEC, her_proportion=1.0).transform_experience(experience)
    assert got.observation["desired_goal"][0].tolist() == [[0.0, 1.0], [0.0, 1.0]]
    assert got.reward[0, 1] == 0.0 and got.reward[0, 0] == experience.reward[0, 0]


def test_unroll_is_left_as_it_is():
    step = TimeStep(observation=nest.map_structure(lambda s: s.zeros((2,)), SPEC))
    assert dt.HindsightExperienceTransformer(SPEC).transform_timestep(step, ()) == (step, ())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(her_proportion=1.2), "her_proportion: expected 0 <= her_proportion <= 1, got 1.2"),
        (dict(strategy="final"), "strategy: expected 'future' or 'episode', got 'final'"),
        (dict(desired_goal_field="observation.desired_goal"), "desired_goal_field.*time_step.observation"),
        (dict(achieved_goal_field="time_step.observation.reached"), "reached"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        dt.HindsightExperienceTransformer(SPEC, **arguments)


def test_goals_of_two_shapes_are_told():
    with pytest.raises(ValueError, match=r"they need one shape; got \(3,\).*and \(2,\)"):
        dt.HindsightExperienceTransformer({**SPEC, "achieved_goal": TensorSpec((3,))})


def test_reward_function_of_wrong_shape_is_told():
    experience = NaiveReplay(1, 10, 8, seed=0).sample(4, 2, seed=0)
    transformer = dt.HindsightExperienceTransformer(SPEC, reward_fn=lambda achieved, goal: achieved - goal)
    with pytest.raises(ValueError, match=r"reward_fn: expected rewards of shape \(4, 2\).*got \(4, 2, 2\)"):
        transformer.transform_experience(experience)


def test_experience_without_a_replay_buffer_is_told():
    experience = NaiveReplay(1, 10, 8, seed=0).sample(4, 2, seed=0)._replace(replay_buffer=())
    with pytest.raises(ValueError, match="off-policy training"):
        dt.HindsightExperienceTransformer(SPEC).transform_experience(experience)


def test_training_without_samples_is_refused():
    algorithm = SimpleNamespace(name="SacAlgorithm", on_policy=False)
    transformer = dt.HindsightExperienceTransformer(SPEC)
    transformer.check_training(algorithm, SimpleNamespace(whole_replay_buffer_training=False))
    with pytest.raises(ValueError, match="HindsightExperienceTransformer needs .*whole_replay_buffer_training=False"):
        transformer.check_training(algorithm, SimpleNamespace(whole_replay_buffer_training=True))


stack_images = partial(dt.FrameStacker, stack_size=2, fields=["observation"])


@pytest.mark.parametrize(
    "earlier", [dt.ObservationNormalizer, dt.RewardClipping, stack_images, partial(dt.RewardScaling, scale=2.0)]
)
def test_transformers_that_change_data_must_come_later(earlier):
    name = getattr(earlier, "func", earlier).__name__
    with pytest.raises(ValueError, match=f"Put HindsightExperienceTransformer before {name}"):
        dt.create_data_transformer([earlier, dt.HindsightExperienceTransformer], SPEC)
    dt.create_data_transformer([dt.UntransformedTimeStep, dt.HindsightExperienceTransformer, earlier], SPEC)


def test_stacked_goals_are_told():
    stack_goals = partial(dt.FrameStacker, stack_size=2, fields=["desired_goal"])
    with pytest.raises(ValueError, match="FrameStacker reads .*desired_goal.*HindsightExperienceTransformer"):
        dt.create_data_transformer([dt.HindsightExperienceTransformer, stack_goals], SPEC)


def test_new_goals_reach_n_step_returns():
    replay = NaiveReplay(num_envs=2, max_length=30, num_steps=30, seed=3)
    ctors = [
        partial(dt.HindsightExperienceTransformer, her_proportion=1.0, reward_fn=distance),
        partial(dt.NStepReturn, n_step=3, gamma=0.5),
    ]
    experience = replay.sample(32, 4, seed=0)
    torch.manual_seed(0)
    pairs = dt.create_data_transformer(ctors, SPEC).transform_experience(experience)
    torch.manual_seed(0)
    relabeled = dt.create_data_transformer(ctors[0], SPEC).transform_experience(experience)
    full = (experience.step_type[:, :3] != LAST).all(1)
    assert full.any()
    expected = relabeled.reward[full] @ torch.tensor([0.0, 1.0, 0.5, 0.25])
    torch.testing.assert_close(pairs.reward[full, 1], expected)
    assert torch.equal(pairs.observation["desired_goal"][:, 0], relabeled.observation["desired_goal"][:, 0])
