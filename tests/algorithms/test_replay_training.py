"""Training from a replay buffer: what is stored, when an update is due, what it is given, and priorities."""

import functools
import types

import pytest
import torch

import alf
import alf.summary as summary
from alf.algorithms._training import from_replay
from alf.algorithms._training.replay import Replay
from alf.algorithms.agent import Agent
from alf.algorithms.config import TrainerConfig
from alf.algorithms.data_transformer import FrameStacker, RewardScaling
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.data_structures import AlgStep, Experience, LossInfo, StepType, TimeStep, namedtuple
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec
from alf.utils import dist_utils

FIRST, MID, LAST = (int(step_type) for step_type in (StepType.FIRST, StepType.MID, StepType.LAST))
Info = namedtuple("Info", ["observation", "state", "step_type", "reward", "discount", "action"], default_value=())


class Recorder(OffPolicyAlgorithm):
    """Its info tells what it was given; its state counts the steps since the episode began."""

    def __init__(self, observation_spec, action_spec, reward_spec=TensorSpec(()), env=None, config=None,
                 has_state=False, priority=None, **kwargs):
        super().__init__(observation_spec, action_spec, train_state_spec=TensorSpec(()) if has_state else (),
                         reward_spec=reward_spec, env=env, config=config, **kwargs)
        self._weight = torch.nn.Parameter(torch.tensor(1.0))
        self._has_state = has_state
        self._priority = priority
        self.trained = []
        self.rollouts = 0

    def rollout_step(self, inputs, state):
        self.rollouts += 1
        action = torch.full(inputs.step_type.shape, self.rollouts % 3)
        info = Info(inputs.observation, (), inputs.step_type, inputs.reward, inputs.discount, action)
        return AlgStep(output=action, state=state + 1 if self._has_state else (), info=info)

    def train_step(self, inputs, state, rollout_info):
        info = rollout_info._replace(observation=inputs.observation, reward=inputs.reward, state=state)
        return AlgStep(state=state + 1 if self._has_state else (), info=info)

    def calc_loss(self, info):
        self.trained.append(info)
        loss = self._weight * torch.ones(info.step_type.shape)
        return LossInfo(loss=loss, priority=() if self._priority is None else self._priority(info))


def make(env, config, **kwargs):
    return Recorder(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env, config=config,
                    optimizer=alf.optimizers.SGD(lr=0.1), **kwargs)


@pytest.fixture
def sampling_config(make_config):
    return functools.partial(
        make_config, whole_replay_buffer_training=False, clear_replay_buffer=False, mini_batch_length=2,
        mini_batch_size=5, unroll_length=3, replay_buffer_length=20, num_updates_per_train_iter=4)


def test_each_step_is_acted_on_and_stored_once(scripted_env, sampling_config):
    env = scripted_env()
    algorithm = make(env, sampling_config())
    for _ in range(4):
        algorithm.train_iter()
    assert algorithm.rollouts == 12
    stored, _ = algorithm._replay.buffer.gather_all()
    expected = torch.stack([env.time_step_at(t).observation for t in range(12)], dim=1)
    assert torch.equal(stored.observation, expected)
    assert torch.equal(stored.action[0], torch.arange(1, 13) % 3)


def test_updates_are_given_neighbouring_steps(scripted_env, sampling_config):
    env = scripted_env()
    algorithm = make(env, sampling_config())
    steps = [algorithm.train_iter() for _ in range(5)]
    assert len(algorithm.trained) == 20 and steps == [20] * 5  # 4 updates of 5 pairs
    for info in algorithm.trained:
        time, row = info.observation.unbind(-1)
        assert time.shape == (2, 5)
        assert torch.equal(time[1], time[0] + 1) and torch.equal(row[0], row[1])
        for t, b, reward, step_type in zip(time.flatten(), row.flatten(), info.reward.flatten(),
                                           info.step_type.flatten(), strict=True):
            expected = env.time_step_at(int(t))
            assert reward == expected.reward[int(b)] and step_type == expected.step_type[int(b)]


def test_rewards_of_samples_and_the_time_of_preprocessing_are_told(scripted_env, sampling_config, written):
    algorithm = make(scripted_env(), sampling_config())
    assert not algorithm.changes_experience
    algorithm.train_iter()
    rewards = algorithm.trained[-1].reward
    assert written.values[(1, "replayer/RLAlgorithm_replay_buffer.original_reward_mean")] == pytest.approx(
        float(rewards.mean()))
    assert written.tags[1].count("time/preprocess_experience") == 1


def test_losses_with_labels_are_told_for_each_category(scripted_env, sampling_config, written):
    class Labelled(Recorder):
        def calc_loss(self, info):
            label = torch.arange(10).reshape(2, 5) % 2
            return LossInfo(loss=self._weight * (1 + label), batch_label=label)

    env = scripted_env()
    algorithm = Labelled(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env,
                         config=sampling_config(num_updates_per_train_iter=1, mask_out_loss_for_last_step=False),
                         optimizer=alf.optimizers.SGD(lr=0.1))
    algorithm.train_iter()
    assert {tag: value for (_, tag), value in written.values.items() if tag.startswith("per_category")} == {
        "per_category_loss/0/loss": 1.0, "per_category_loss/1/loss": 2.0}


class Preprocessor(Recorder):
    """Learns from rewards that are one larger."""

    def preprocess_experience(self, root_inputs, rollout_info, batch_info):
        assert root_inputs.step_type.shape == (5, 2) and batch_info.positions.shape == (5, )
        return root_inputs._replace(reward=root_inputs.reward + 1), rollout_info._replace(discount=())


def test_updates_are_given_what_preprocessing_makes(scripted_env, sampling_config):
    env = scripted_env()
    plain = make(env, sampling_config())
    assert not plain.preprocesses_experience
    algorithm = Preprocessor(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env,
                             config=sampling_config(), optimizer=alf.optimizers.SGD(lr=0.1))
    assert algorithm.preprocesses_experience
    algorithm.train_iter()
    for info in algorithm.trained:
        times, rows = info.observation.long().unbind(-1)
        expected = [[env.time_step_at(int(t)).reward[int(b)] + 1 for t, b in zip(*row)] for row in zip(times, rows)]
        assert torch.equal(info.reward, torch.tensor(expected)) and info.discount == ()


def test_nothing_is_learned_before_initial_collect_steps(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(initial_collect_steps=12))
    steps = [algorithm.train_iter() for _ in range(3)]  # 3 steps of 2 environments each
    assert steps == [0, 20, 20]
    assert summary.get_global_counter() == 3


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_reported_actions_are_learned_if_asked_to(scripted_env, sampling_config, wrap, overwrite):
    env = scripted_env(episode_lengths=((99,), (99,)))
    env_step = env.step
    env.step = lambda action: env_step(torch.full_like(action, 2))
    alf.config("RLAlgorithm", overwrite_policy_output=overwrite)
    try:
        if wrap:
            algorithm = Agent(env.observation_spec(), env.action_spec(), env=env, config=sampling_config(),
                              rl_algorithm_cls=Recorder, optimizer=alf.optimizers.SGD(lr=0.1))
        else:
            algorithm = make(env, sampling_config())
    finally:
        alf.reset_configs()
    algorithm.train_iter()
    recorder = algorithm._rl_algorithm if wrap else algorithm
    learned = torch.cat([info.action.flatten() for info in recorder.trained])
    assert bool((learned == 2).all()) == overwrite


def test_a_whole_buffer_is_not_learned_before_it_has_initial_collect_steps(scripted_env, make_config):
    algorithm = make(scripted_env(), make_config(
        clear_replay_buffer=False, initial_collect_steps=12, unroll_length=3, mini_batch_length=1,
        num_updates_per_train_iter=1))
    steps = [algorithm.train_iter() for _ in range(3)]  # 3 steps of 2 environments each
    assert steps == [0, 2 * 5, 2 * 8]


def test_more_initial_steps_than_the_buffer_holds_are_refused(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(initial_collect_steps=41))
    with pytest.raises(ValueError, match="initial_collect_steps: expected at most the 40 steps .* got 41"):
        algorithm.train_iter()


@pytest.mark.parametrize("num_earlier, interval", [(0, 1), (2, 1), (0, 3), (2, 4)])
@pytest.mark.parametrize("missing", [0, 1])
def test_a_buffer_without_a_start_at_all_times_is_refused(sampling_config, num_earlier, interval, missing):
    alf.config("ReplayBuffer", state_interval=interval)
    max_length = 3 + num_earlier + interval - 1 - missing
    replay = Replay(sampling_config(mini_batch_length=3, replay_buffer_length=max(3, max_length)), num_earlier)
    replay._config.replay_buffer_length = max_length
    step = Experience(time_step=TimeStep(step_type=torch.ones(1, 2, dtype=torch.int32)), state=torch.zeros(1, 2, 1))
    if missing:
        told = f"replay_buffer_length: expected at least {max_length + 1} steps .*mini_batch_length=3.*got {max_length}"
        with pytest.raises(ValueError, match=told):
            replay.add(step, ())
    else:
        replay.add(step, ())
    buffer = ReplayBuffer(dist_utils.extract_spec(step, from_dim=2), 2, max_length, num_earlier, state_field="state")
    for _ in range(max_length):
        buffer.add_steps(step)
    has_start = []
    for _ in range(interval):
        has_start.append(buffer.num_starts(3) > 0)
        buffer.add_steps(step)
    assert all(has_start) == (not missing)


@pytest.mark.parametrize("mini_batch_length, length", [(None, 2), (4, 5)])
def test_a_buffer_that_never_holds_all_that_is_trained_on_is_refused(scripted_env, make_config, mini_batch_length,
                                                                    length):
    config = functools.partial(make_config, clear_replay_buffer=False, mini_batch_length=mini_batch_length)
    make(scripted_env(), config(replay_buffer_length=length)).train_iter()
    with pytest.raises(ValueError, match=f"replay_buffer_length: expected at least {length} steps.*got {length - 1}"):
        make(scripted_env(), config(replay_buffer_length=length - 1)).train_iter()


@pytest.mark.parametrize("ratio, updates", [(0.5, [1, 0, 1, 0, 1, 1]), (2.5, [3, 3, 3, 3, 3, 3])])
def test_replay_ratio_sets_how_much_is_learned(scripted_env, sampling_config, ratio, updates):
    algorithm = make(scripted_env(), sampling_config(replay_ratio=ratio))
    # 6 steps are collected in an iteration, an update learns from 5.
    learned = [algorithm.train_iter() // 5 for _ in range(6)]
    collected = [6 * (i + 1) for i in range(6)]
    total = [5 * sum(learned[:i + 1]) for i in range(6)]
    for c, n in zip(collected, total, strict=True):
        assert ratio * c <= n < ratio * c + 5
    assert sum(learned) == sum(updates)


def test_replay_ratio_does_not_count_steps_before_training_may_begin(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(replay_ratio=2.5, initial_collect_steps=24))
    # 6 steps are collected in an iteration, an update learns from 5. The fourth may train, and counts.
    assert [algorithm.train_iter() // 5 for _ in range(7)] == [0, 0, 0, 3, 3, 3, 3]


def test_fractional_unroll_length_trains_in_iterations_without_unroll(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(unroll_length=0.5, num_updates_per_train_iter=1))
    algorithm.unroll(2)
    for _ in range(4):
        algorithm.train_iter()
    assert algorithm.rollouts == 4 and len(algorithm.trained) == 4


def test_training_goes_on_after_the_environments_stop(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(num_iterations=10, num_env_steps=10))
    for _ in range(10):
        algorithm.train_iter()
    # The first steps of episodes are not made by an action: 18 time steps of both environments are 12 steps.
    assert algorithm.rollouts == 9 and len(algorithm.trained) == 40


def test_transformers_act_on_what_is_sampled(scripted_env, sampling_config):
    env = scripted_env()
    config = sampling_config()
    config.data_transformer = RewardScaling(scale=10.0)
    algorithm = make(env, config)
    for _ in range(3):
        algorithm.train_iter()
    stored, _ = algorithm._replay.buffer.gather_all()
    assert torch.equal(stored.reward[:, 4], env.time_step_at(4).reward)
    for info in algorithm.trained:
        t, b = info.observation[0, 0].int().tolist()
        assert torch.isclose(info.reward[0, 0], 10 * env.time_step_at(t).reward[b])


def test_frames_are_stacked_from_the_buffer(scripted_env, sampling_config):
    env = scripted_env()
    config = sampling_config(replay_buffer_length=8)
    config.data_transformer = FrameStacker(env.observation_spec(), stack_size=3)
    algorithm = make(env, config)
    for _ in range(10):
        algorithm.train_iter()
    seen = 0
    for info in algorithm.trained:
        frames = info.observation.reshape(2, 5, 3, 2)
        for i in range(2):
            for j in range(5):
                t, b = frames[i, j, -1].int().tolist()
                begin = t
                while env.time_step_at(begin).step_type[b] != 0:
                    begin -= 1
                expected = [max(t - 2, begin), max(t - 1, begin), t]
                assert frames[i, j, :, 0].tolist() == expected
                seen += begin < t - 1
    assert seen > 100


@pytest.mark.parametrize("use_rollout_state", [True, False])
def test_recurrent_training_begins_from_the_stored_state(scripted_env, sampling_config, use_rollout_state):
    env = scripted_env()
    algorithm = make(env, sampling_config(use_rollout_state=use_rollout_state, mini_batch_length=3), has_state=True)
    for _ in range(6):
        algorithm.train_iter()
    for info in algorithm.trained:
        for j in range(5):
            t, b = info.observation[0, j].int().tolist()
            since = 0
            while use_rollout_state and env.time_step_at(t - since).step_type[b] != 0:
                since += 1
            expected = []
            for step_type in info.step_type[:, j].tolist():
                since = 0 if step_type == 0 else since
                expected.append(since)
                since += 1
            assert info.state[:, j].tolist() == expected


def test_losses_at_the_end_of_an_episode_do_not_count(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(mini_batch_length=1, mini_batch_size=8, unroll_length=8))
    masked = []
    original = algorithm.update_with_gradient

    def spy(loss_info, valid_masks=None, **kwargs):
        masked.append(valid_masks)
        return original(loss_info, valid_masks, **kwargs)

    algorithm.update_with_gradient = spy
    algorithm.train_iter()
    for info, mask in zip(algorithm.trained, masked, strict=True):
        assert torch.equal(mask, info.step_type != 2)


# ---- priorities -----------------------------------------------------------------------------------------------------


def test_steps_are_sampled_by_the_priority_of_their_loss(scripted_env, sampling_config):
    env = scripted_env(episode_lengths=((1000, ), (1000, )))

    def priority(info):
        return (info.observation[0, :, 0] == 3).float() * 1e6

    config = sampling_config(priority_replay=True, priority_replay_alpha=1.0, priority_replay_eps=1e-3,
                             num_updates_per_train_iter=30, unroll_length=10)
    algorithm = make(env, config, priority=priority)
    algorithm.train_iter()
    last = torch.cat([info.observation[0, :, 0] for info in algorithm.trained[-10:]])
    assert (last == 3).float().mean() > 0.35  # of 2 environments, without replacement in a batch of 5


def test_importance_weights_undo_the_preference(scripted_env, sampling_config):
    config = sampling_config(priority_replay=True, priority_replay_alpha=0.5, priority_replay_beta=0.7,
                             priority_replay_eps=0.0, unroll_length=10)
    algorithm = make(scripted_env(episode_lengths=((1000, ), (1000, ))), config,
                     priority=lambda info: info.observation[0, :, 0] + 1.0)
    weights = []
    original = algorithm.update_with_gradient

    def spy(loss_info, valid_masks=None, batch_info=None, **kwargs):
        weights.append(batch_info.importance_weights)
        return original(loss_info, valid_masks, batch_info=batch_info, **kwargs)

    algorithm.update_with_gradient = spy
    algorithm.train_iter()
    # All starts have the priority 1 of new steps at first.
    assert torch.allclose(weights[0], torch.ones(5))
    buffer = algorithm._replay.buffer
    env_ids = torch.arange(2).repeat_interleave(10)
    positions = torch.arange(10).repeat(2)
    buffer.update_priority(env_ids, positions, (positions + 1.0)**0.5)
    algorithm._config.mini_batch_size = 18  # all starts: the last step of each has no successor
    _, batch_info = algorithm._replay.sample()
    mean = sum((p + 1.0)**0.5 for p in range(9)) / 9
    expected = ((batch_info.positions + 1.0)**0.5 / mean)**-0.7
    assert torch.allclose(batch_info.importance_weights, expected.float(), rtol=1e-4)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
def test_priorities_that_are_none_are_refused_whatever_the_exponent(scripted_env, sampling_config, wrong, alpha):
    config = sampling_config(priority_replay=True, priority_replay_alpha=alpha)
    algorithm = make(scripted_env(), config, priority=lambda info: torch.tensor([1.0, 0.0, wrong, 1.0, 1.0]))
    told = f"RLAlgorithm.calc_loss: expected priorities .* >= 0; 1 of 5 are not, the first is {wrong}"
    with pytest.raises(ValueError, match=told):
        algorithm.train_iter()


def test_priority_replay_with_an_algorithm_without_priorities_is_refused(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(priority_replay=True))
    with pytest.raises(ValueError, match="priority_replay=True: RLAlgorithm gives no priorities.*calculate_priority"):
        algorithm.train_iter()


# ---- the whole buffer ------------------------------------------------------------------------------------------------


def test_whole_buffer_training_takes_every_step_once_an_epoch(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=3, clear_replay_buffer=False, replay_buffer_length=7,
                                      mini_batch_length=3, mini_batch_size=2, num_updates_per_train_iter=2))
    assert algorithm.train_iter() == 0  # 3 steps, of which 2 are followed by another, make no sequence
    for _ in range(4):
        algorithm.trained.clear()
        steps = algorithm.train_iter()
    # 7 of 15 steps are stored of each of 2 environments: 2 sequences of 3 and the step after them.
    assert steps == 2 * 12
    epoch = torch.cat([info.observation[:-1].flatten(0, 1) for info in algorithm.trained[:2]])
    assert sorted(map(tuple, epoch.int().tolist())) == [(t, b) for t in range(8, 14) for b in range(2)]


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_contents_and_counts_of_the_replay_are_restored(scripted_env, sampling_config):
    alf.config("ReplayBuffer", enable_checkpoint=True)
    try:
        algorithm = make(scripted_env(), sampling_config(replay_ratio=0.7))
        for _ in range(4):
            algorithm.train_iter()
        state = algorithm.rollout_state_dict()
        other = make(scripted_env(), sampling_config(replay_ratio=0.7))
        other.load_rollout_state_dict(state)
        assert other._replay.state_dict()["credit"] == algorithm._replay.state_dict()["credit"]
        other.unroll(3)
        before, _ = algorithm._replay.buffer.gather_all()
        after, _ = other._replay.buffer.gather_all()
        assert torch.equal(after.observation[:, :12], before.observation)
        assert after.observation.shape[1] == 15
    finally:
        alf.reset_configs()


@pytest.mark.parametrize("num_steps", [12, 13], ids=["within an episode", "right after its FIRST step"])
def test_episodes_that_do_not_go_on_after_a_resume_end_with_the_steps_that_are_stored(
        scripted_env, sampling_config, num_steps):
    alf.config("ReplayBuffer", enable_checkpoint=True)
    try:
        algorithm = make(scripted_env([[4], [7]]), sampling_config())
        algorithm.unroll(num_steps)
        state = algorithm.rollout_state_dict()
        other = make(scripted_env([[4], [7]]), sampling_config())
        other.load_rollout_state_dict({**state, "unroll": {}})
        other.unroll(3)
        stored, _ = algorithm._replay.buffer.gather_all()
        buffer = other._replay.buffer
        found, _ = buffer.gather_all()
        expected = stored.step_type.clone()
        expected[:, -1] = LAST
        assert torch.equal(found.step_type[:, :num_steps], expected)
        assert found.step_type[:, num_steps].tolist() == [FIRST] * 2
        assert torch.equal(found.discount[:, :num_steps], stored.discount)
        # Hindsight and stacks of frames see the same ends: of an episode of which one step is stored, that step alone.
        env_ids = torch.arange(2)
        latest = torch.full((2, ), num_steps - 1)
        was_first = stored.step_type[:, -1] == FIRST
        assert bool(was_first.any()) == (num_steps == 13)
        begins = buffer.get_episode_begin_position(latest, env_ids)
        assert torch.equal(begins == latest, was_first)
        before = buffer.steps_to_episode_end(begins - 1, env_ids)
        assert before.tolist() == [0, 0] and buffer.steps_to_episode_end(latest, env_ids).tolist() == [0, 0]
    finally:
        alf.reset_configs()


def test_where_the_unroll_stood_is_forgotten_when_another_process_unrolls(scripted_env, sampling_config):
    algorithm = make(scripted_env(), sampling_config(async_unroll=True))
    unroll = {"environments": ["old"], "present": [torch.zeros(2)]}
    algorithm.load_rollout_state_dict({"unroll_carry": 0.0, "unroll": unroll, "credit": 0.0, "steps_per_update": 0})
    assert algorithm.rollout_state_dict()["unroll"] == {}  # a later start without async_unroll would go back to it


def test_episodes_that_go_on_after_a_resume_do_not_end(scripted_env, sampling_config):
    alf.config("ReplayBuffer", enable_checkpoint=True)
    try:
        algorithm = make(scripted_env([[40]]), sampling_config())
        algorithm.unroll(5)
        state = algorithm.rollout_state_dict()
        assert not state["unroll"]
        other = make(algorithm._env, sampling_config())  # as one whose environments were brought to where they were
        other.load_rollout_state_dict(state)
        other.unroll(3)
        assert other._replay.buffer.gather_all()[0].step_type.tolist() == [[FIRST] + [MID] * 7]
    finally:
        alf.reset_configs()


# ---- settings that contradict each other -----------------------------------------------------------------------------


def test_sequences_longer_than_the_buffer_are_refused():
    with pytest.raises(ValueError, match="mini_batch_length: expected at most replay_buffer_length=4.* got 8"):
        TrainerConfig(root_dir="x", whole_replay_buffer_training=False, replay_buffer_length=4, mini_batch_length=8)


def test_replay_ratio_and_whole_buffer_training_are_refused_together():
    with pytest.raises(ValueError, match="replay_ratio .*whole_replay_buffer_training=True"):
        TrainerConfig(root_dir="x", replay_ratio=1.0)


def test_states_of_acting_that_training_cannot_begin_with_are_told():
    algorithm = types.SimpleNamespace(name="Own", train_state_spec={"a": TensorSpec((2,))},
                                      rollout_state_spec=[TensorSpec((2,))])
    batch = types.SimpleNamespace(state=[torch.zeros(3, 4, 2)])
    with pytest.raises(ValueError, match="use_rollout_state=True: expected a train_state_spec of Own that is a part"):
        from_replay._initial_state(algorithm, batch)


def test_a_whole_buffer_is_not_learned_before_frames_can_be_stacked(scripted_env, make_config):
    env = scripted_env()
    config = make_config(clear_replay_buffer=False, mini_batch_length=1, mini_batch_size=5, unroll_length=1,
                         replay_buffer_length=20, num_updates_per_train_iter=4)
    config.data_transformer = FrameStacker(env.observation_spec(), stack_size=4)
    algorithm = make(env, config)
    assert [algorithm.train_iter() for _ in range(6)] == [0, 0, 0, 0, 8, 16]
