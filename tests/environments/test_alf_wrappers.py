"""Wrappers of AlfEnvironments."""

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.alf_wrappers as alf_wrappers
from alf.environments._rows import FIRST, LAST, MID, Rows
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.parallel_environment import ParallelAlfEnvironment
from alf.environments.random_alf_environment import RandomAlfEnvironment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

spaces = gymnasium.spaces


class Line(gymnasium.Env):
    """Observation = number of steps; reward = sum of the action; terminates after ``length`` steps."""

    observation_space = spaces.Box(0, 1000, (1,))

    def __init__(self, length=1000, action_space=None, lives=None):
        self.action_space = action_space or spaces.Discrete(3)
        self.length, self.lives = length, lives
        self.num_resets = 0

    def info(self):
        return {} if self.lives is None else {"lives": self.lives[min(self.t, len(self.lives) - 1)]}

    def reset(self, *, seed=None, options=None):
        self.t = 0
        self.num_resets += 1
        return np.zeros(1, np.float32), self.info()

    def step(self, action):
        self.t += 1
        self.action = action
        return (
            np.full(1, self.t, np.float32),
            float(np.sum(action)),
            self.t >= self.length,
            False,
            self.info(),
        )


def types(env, num_steps, through_rows, action=1):
    """Return (step type, discount, observation) of a reset and ``num_steps`` steps."""
    result = []
    if through_rows:
        rows = Rows.allocate(env, 2)
        returned = env.reset_into(rows, 1)
        for i in range(num_steps + 1):
            assert returned == rows.step_type[1]
            result.append((int(rows.step_type[1]), float(rows.discount[1]), float(rows.observation[0][1, 0])))
            if i < num_steps:
                returned = env.step_into(rows, 1, action)
        assert not rows.observation[0][0].any()
        return result
    for step in [env.reset()] + [env.step(np.asarray(action)) for _ in range(num_steps)]:
        result.append((int(step.step_type), float(step.discount), float(step.observation[0])))
    return result


both_ways = pytest.mark.parametrize("through_rows", [False, True])


@both_ways
def test_time_limit_ends_with_discount_kept(through_rows):
    env = alf_wrappers.TimeLimit(AlfGymWrapper(Line(), discount=0.9), duration=2)
    first, mid, last = (FIRST, 1, 0), (MID, pytest.approx(0.9), 1), (LAST, pytest.approx(0.9), 2)
    assert types(env, 5, through_rows) == [first, mid, last, first, mid, last]
    assert env.duration == 2


@both_ways
def test_time_limit_leaves_terminations_alone(through_rows):
    env = alf_wrappers.TimeLimit(AlfGymWrapper(Line(length=2)), duration=3)
    assert types(env, 3, through_rows) == [(FIRST, 1, 0), (MID, 1, 1), (LAST, 0, 2), (FIRST, 1, 0)]


@both_ways
def test_time_limit_and_termination_together_terminate(through_rows):
    env = alf_wrappers.TimeLimit(AlfGymWrapper(Line(length=2)), duration=2)
    assert types(env, 2, through_rows)[-1] == (LAST, 0, 2)


def test_time_limit_of_zero_is_an_error():
    with pytest.raises(ValueError, match=r"TimeLimit\.duration: expected >= 1, got 0"):
        alf_wrappers.TimeLimit(AlfGymWrapper(Line()), 0)


def test_time_limit_of_a_batch_is_an_error():
    batch = RandomAlfEnvironment(TensorSpec((2,)), BoundedTensorSpec((), torch.int64), batch_size=3)
    with pytest.raises(ValueError, match="expected an unbatched environment, got a batch of 3"):
        alf_wrappers.TimeLimit(batch, 5)


@both_ways
def test_random_first_episode_length_shortens_only_the_first(through_rows):
    lengths = set()
    for seed in range(20):
        env = alf_wrappers.RandomFirstEpisodeLength(AlfGymWrapper(Line(length=8)), random_length_range=3)
        env.seed(seed)
        step_types = [step_type for step_type, _, _ in types(env, 16, through_rows)]
        first = step_types.index(LAST)
        assert 1 <= first <= 3
        assert step_types.index(LAST, first + 1) - first == 9
        lengths.add(first)
    assert lengths == {1, 2, 3}


@both_ways
def test_non_episodic_agent_has_a_discount_at_the_end(through_rows):
    env = alf_wrappers.NonEpisodicAgent(AlfGymWrapper(Line(length=2)), discount=0.75)
    assert [discount for _, discount, _ in types(env, 3, through_rows)] == [1, 1, 0.75, 1]


@both_ways
def test_life_loss_terminates_without_resetting_the_game(through_rows):
    line = Line(length=6, lives=[2, 2, 1, 1, 1, 1, 0])
    env = alf_wrappers.AtariTerminalOnLifeLossWrapper(AlfGymWrapper(line))
    env.env_info_spec()
    before = line.num_resets
    # The step that starts the second episode is a no-op at t = 3; the last life ends with the game at t = 6.
    expected = [
        (FIRST, 1, 0),
        (MID, 1, 1),
        (LAST, 0, 2),
        (FIRST, 1, 3),
        (MID, 1, 4),
        (MID, 1, 5),
        (LAST, 0, 6),
        (FIRST, 1, 0),
    ]
    assert types(env, 7, through_rows) == expected
    assert line.num_resets - before == 2


def test_life_loss_without_lives_is_an_error():
    with pytest.raises(ValueError, match="expected 'lives' in the info"):
        alf_wrappers.AtariTerminalOnLifeLossWrapper(AlfGymWrapper(Line())).reset()


def test_action_observation_contains_the_previous_action():
    env = alf_wrappers.ActionObservationWrapper(AlfGymWrapper(Line()))
    assert env.observation_spec() == dict(
        observation=BoundedTensorSpec((1,), torch.float32, 0, 1000),
        prev_action=BoundedTensorSpec((), torch.int64, 0, 2),
    )
    assert env.time_step_spec().observation == env.observation_spec()
    env.reset()
    step = env.step(np.asarray(2))
    assert step.observation["prev_action"] == 2 and step.observation["observation"][0] == 1
    rows = Rows.allocate(env, 1)
    env.step_into(rows, 0, 1)
    assert rows.observation[0][0, 0] == 2 and rows.observation[1][0] == 1


class TwoRewards(Line):
    reward_space = spaces.Box(-10, 10, (2,))

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, np.array([1.0, 4.0]), terminated, truncated, info


@pytest.mark.parametrize("weights, reward", [(None, 1.0), ([0.5, 2.0], 8.5)])
def test_scalar_reward_is_the_weighted_sum(weights, reward):
    env = alf_wrappers.ScalarRewardWrapper(AlfGymWrapper(TwoRewards()), weights)
    assert env.reward_spec() == TensorSpec(()) == env.time_step_spec().reward
    assert env.reset().reward == 0
    assert env.step(np.asarray(0)).reward == reward


def test_scalar_reward_with_a_wrong_number_of_weights_is_an_error():
    with pytest.raises(ValueError, match=r"expected 2 numbers, got 3"):
        alf_wrappers.ScalarRewardWrapper(AlfGymWrapper(TwoRewards()), [1, 2, 3])


def continuous(low=-1.0, high=1.0, shape=(2,)):
    return Line(action_space=spaces.Box(low, high, shape))


@both_ways
def test_discrete_action_names_a_point_of_the_grid(through_rows):
    env = alf_wrappers.DiscreteActionWrapper(AlfGymWrapper(continuous(-1, 1)), actions_num=3)
    assert env.action_spec() == BoundedTensorSpec((), torch.int64, 0, 8)
    expected = {0: [-1, -1], 1: [-1, 0], 2: [-1, 1], 3: [0, -1], 8: [1, 1]}
    rows = Rows.allocate(env, 1)
    env.reset()
    for action, point in expected.items():
        if through_rows:
            env.step_into(rows, 0, action)
        else:
            assert env.step(np.asarray(action)).prev_action == action
        assert env.gym.action.tolist() == point


def test_discrete_action_with_too_many_points_is_an_error():
    with pytest.raises(ValueError, match="make .* actions. Use fewer values"):
        alf_wrappers.DiscreteActionWrapper(AlfGymWrapper(continuous(shape=(17,))), actions_num=5)


def test_normalized_actions_stay_in_the_bounds_in_spite_of_rounding():
    env = alf_wrappers.NormalizedActionWrapper(AlfGymWrapper(continuous(-4.59, -0.2)))
    env.reset()
    for action in (-1.0, 1.0):
        env.step(np.full(env.action_spec().shape, action, np.float32))
        assert env.gym.action_space.contains(env.gym.action)


@both_ways
def test_normalized_action_is_mapped_to_the_bounds(through_rows):
    env = alf_wrappers.NormalizedActionWrapper(AlfGymWrapper(continuous(2.0, 6.0)))
    assert env.action_spec() == BoundedTensorSpec((2,), torch.float32, -1, 1)
    action = np.array([-0.5, 1.0], np.float32)
    env.reset()
    if through_rows:
        env.step_into(Rows.allocate(env, 1), 0, action)
    else:
        step = env.step(action)
        assert step.prev_action.tolist() == [-0.5, 1.0]
    assert env.gym.action.tolist() == [3.0, 6.0]


def test_normalized_action_of_a_tensor_batch():
    inner = RandomAlfEnvironment(
        TensorSpec((1,)),
        BoundedTensorSpec((1,), torch.float32, 0, 4),
        batch_size=2,
        use_tensor_time_step=True,
    )
    env = alf_wrappers.NormalizedActionWrapper(inner)
    env.reset()
    step = env.step(torch.tensor([[1.0], [-1.0]]))
    assert step.prev_action.tolist() == [[1.0], [-1.0]]


def test_correlated_noise_accumulates_and_is_clipped_and_starts_from_zero():
    env = alf_wrappers.TemporallyCorrelatedNoiseWrapper(
        AlfGymWrapper(Line(length=50, action_space=spaces.Box(-100, 100, (1,)))),
        sigma=0.5,
        past_noise_weight=1.0,
    )
    env.seed(3)
    rng = np.random.default_rng(3)
    env.reset()
    noise = 0.0
    for _ in range(50):
        noise += 0.5 * rng.standard_normal((1,), np.float32)[0]
        env.step(np.ones(1, np.float32))
        assert env.gym.action[0] == pytest.approx(1 + noise, abs=1e-4)
    env.step(np.ones(1, np.float32))  # FIRST
    env.step(np.full(1, 100, np.float32))
    assert abs(env.gym.action[0] - 100) < 3 and env.gym.action[0] <= 100


def test_performance_profiler_hands_over_a_profile():
    profiles = []
    env = alf_wrappers.PerformanceProfiler(AlfGymWrapper(Line()), profiles.append, process_steps=3)
    env.reset()
    for _ in range(7):
        env.step(np.asarray(0))
    assert len(profiles) == 2 and profiles[0].getstats() and env.duration > 0


def test_tensor_wrapper_returns_tensors():
    env = alf_wrappers.TensorWrapper(AlfGymWrapper(Line()))
    assert env.is_tensor_based and not env.batched
    step = env.reset()
    assert step.observation.dtype == torch.float32 and step.observation.shape == (1,)
    step = env.step(torch.tensor(2))
    assert step.reward == 2 and step.prev_action.dtype == torch.int64


def test_batched_tensor_wrapper_is_a_batch_of_one():
    env = alf_wrappers.BatchedTensorWrapper(AlfGymWrapper(Line(length=2)))
    assert env.is_tensor_based and env.batched and env.batch_size == 1
    steps = [env.reset()] + [env.step(torch.tensor([1])) for _ in range(3)]
    assert [s.step_type.tolist() for s in steps] == [[FIRST], [MID], [LAST], [FIRST]]
    assert steps[1].observation.shape == (1, 1) and steps[1].prev_action.tolist() == [1]


def test_batch_environment_steps_each_row_on_its_own():
    envs = [AlfGymWrapper(Line(length=n)) for n in (1, 2, 3)]
    batch = alf_wrappers.BatchEnvironmentWrapper(envs)
    steps = [batch.reset()] + [batch.step(np.array([0, 1, 2])) for _ in range(3)]
    assert [s.step_type.tolist() for s in steps] == [[0, 0, 0], [2, 1, 1], [0, 2, 1], [2, 0, 2]]
    assert [s.reward.tolist() for s in steps] == [[0, 0, 0], [0, 1, 2], [0, 1, 2], [0, 0, 2]]
    assert [s.prev_action.tolist() for s in steps] == [[0, 0, 0], [0, 1, 2], [0, 1, 2], [0, 0, 2]]
    assert steps[0].env_id.tolist() == [0, 1, 2]
    assert not batch.is_tensor_based and batch.batch_size == 3


def test_batch_environment_names_the_row_with_nan():

    class Bad(Line):
        def step(self, action):
            return np.full(1, np.nan, np.float32), 0.0, False, False, {}

    batch = alf_wrappers.BatchEnvironmentWrapper([AlfGymWrapper(Line()), AlfGymWrapper(Bad())])
    batch.reset()
    with pytest.raises(ValueError, match="observation of environment 1: expected finite numbers"):
        batch.step(np.array([0, 0]))


def test_batch_of_no_or_different_environments_is_an_error():
    with pytest.raises(ValueError, match="at least one environment"):
        alf_wrappers.BatchEnvironmentWrapper([])
    with pytest.raises(ValueError, match=r"envs\[1\]\.action_spec: expected that of environment 0"):
        alf_wrappers.BatchEnvironmentWrapper([AlfGymWrapper(Line()), AlfGymWrapper(continuous())])


def multitask(*lengths, env_id=None):
    names = [f"line{n}" for n in lengths]
    return alf_wrappers.MultitaskWrapper.load(
        lambda name, env_id=None: AlfGymWrapper(Line(length=int(name[4:])), env_id), names, env_id
    )


def test_multitask_takes_the_task_where_an_episode_starts():
    env = multitask(1, 2, env_id=6)
    assert env.num_tasks == 2 and env.task_names == ["line1", "line2"]
    steps = [env.reset()] + [env.step({"task_id": np.asarray(t), "action": np.asarray(2)}) for t in (1, 1, 0, 0, 0)]
    assert [int(s.step_type) for s in steps] == [FIRST, LAST, FIRST, MID, LAST, FIRST]
    assert [int(s.prev_action["task_id"]) for s in steps] == [0, 1, 0, 0, 0, 0]
    assert [int(s.prev_action["action"]) for s in steps] == [0, 2, 0, 2, 2, 0]
    assert {int(s.env_id) for s in steps} == {6}


class TaskBatch(RandomAlfEnvironment):
    """Two one-step tasks: task 0 pays 1 always, task 1 pays more and more."""

    def __init__(self, batch_size):
        action_spec = dict(task_id=BoundedTensorSpec((), torch.int64, 0, 1), action=BoundedTensorSpec((), torch.int64))
        super().__init__(
            TensorSpec((1,)),
            action_spec,
            batch_size=batch_size,
            use_tensor_time_step=True,
            max_duration=1,
            reward_fn=self._pay,
        )
        self.paid = 0.0

    def _pay(self, step_type, action, observation):
        self.paid += 0.01
        return np.where(action["task_id"] == 1, self.paid, 1.0)

    num_tasks = 2
    task_names = ["flat", "rising"]


def test_curriculum_prefers_the_task_with_progress():
    env = alf_wrappers.CurriculumWrapper(
        TaskBatch(4),
        progress_favor=10.0,
        current_score_update_rate=0.1,
        past_score_update_rate=0.05,
        warmup_period=20,
    )
    env.seed(1)
    env._counts[:] = 2**24  # beyond which a float32 cannot count
    env._add_episode(0, 1.0)
    assert env._counts.tolist() == [2**24 + 1, 2**24]
    env._counts.zero_()
    env._current_scores.zero_()
    env._past_scores.zero_()
    assert env.action_spec() == BoundedTensorSpec((), torch.int64)
    env.reset()
    assert env.task_probabilities.tolist() == [0.5, 0.5]
    for _ in range(200):
        step = env.step(torch.zeros(4, dtype=torch.int64))
    assert env.task_probabilities[1] / env.task_probabilities[0] == pytest.approx(10, rel=1e-3)
    info = step.env_info["curriculum"]
    assert info["task_prob"]["rising"].shape == (4,) and info["task_prob"]["rising"][0] == pytest.approx(
        10 / 11, rel=1e-3
    )
    assert info["task_score"]["flat"][0] == pytest.approx(1)
    assert step.prev_action.shape == (4,)


def test_curriculum_of_one_task_is_an_error():
    with pytest.raises(ValueError, match="several tasks, got RandomAlfEnvironment with 1 task"):
        alf_wrappers.CurriculumWrapper(
            RandomAlfEnvironment(TensorSpec(()), TensorSpec(()), batch_size=2, use_tensor_time_step=True)
        )


def test_wrappers_reach_through_to_the_gym_environment():
    line = Line()
    env = alf_wrappers.TimeLimit(alf_wrappers.NonEpisodicAgent(AlfGymWrapper(line)), 5)
    assert env.gym is line and isinstance(env.wrapped_env(), alf_wrappers.NonEpisodicAgent)
    with pytest.raises(AttributeError):
        _ = env.nonsense


def test_curriculum_counts_the_task_that_a_reset_plays():
    env = alf_wrappers.CurriculumWrapper(
        FastParallelEnvironment([lambda env_id: multitask(1, 2, env_id=env_id)] * 3, num_workers=0))
    env.seed(1)
    for episode in range(1, 6):
        env.reset()
        assert env.step(torch.full((3,), 2)).is_last().all()  # of task 0
        assert env._counts.tolist() == [3 * episode, 0]
    env.close()


@pytest.mark.parametrize("pool", [FastParallelEnvironment, ParallelAlfEnvironment])
def test_parallel_environments_play_the_task_that_is_asked_for(pool):
    make = [lambda env_id: multitask(1, 2, env_id=env_id)] * 3
    env = pool(make[:2])
    env.reset()
    steps = [env.step(dict(task_id=torch.tensor([t, t]), action=torch.tensor([2, 2]))).step_type.tolist()
             for t in (0, 1, 1, 1, 0)]
    env.close()
    assert steps == [[int(step_type)] * 2 for step_type in (LAST, FIRST, MID, LAST, FIRST)]
    with pytest.raises(ValueError, match="num_spare_envs_for_reload: spares are reset before"):
        pool(make, num_spare_envs_for_reload=1)


def test_discrete_actions_are_within_the_bounds_in_spite_of_rounding():
    for low, high in np.sort(np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)):
        env = alf_wrappers.DiscreteActionWrapper(AlfGymWrapper(continuous(low, high, (1,))), actions_num=7)
        assert env._grid.min() == low and env._grid.max() == high
