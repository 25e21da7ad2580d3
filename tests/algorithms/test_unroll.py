"""The unroll: which time steps an experience holds, what becomes of states, and rows that the environment reuses."""

import pytest
import torch

from alf.algorithms.data_transformer import FrameStacker, SimpleDataTransformer
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.data_structures import AlgStep, LossInfo, namedtuple
from alf.tensor_specs import TensorSpec

Info = namedtuple("Info", ["observation", "state", "step_type", "reward", "discount"], default_value=())


class CountingAlgorithm(RLAlgorithm):
    """Its state counts the steps since the episode began; its info tells what it was given."""

    def __init__(self, observation_spec, action_spec, reward_spec=TensorSpec(()), env=None, config=None,
                 is_on_policy=False, **kwargs):
        super().__init__(observation_spec, action_spec, train_state_spec=TensorSpec(()), reward_spec=reward_spec,
                         env=env, config=config, is_on_policy=is_on_policy, **kwargs)
        self._weight = torch.nn.Parameter(torch.tensor(1.0))
        self.trained = []
        self.modes = []

    def rollout_step(self, inputs, state):
        self.modes.append((self.training, torch.is_grad_enabled()))
        info = Info(inputs.observation, state, inputs.step_type, inputs.reward, inputs.discount)
        action = torch.full(inputs.step_type.shape, len(self.modes) % 3)
        return AlgStep(output=action, state=state + 1, info=info)

    def train_step(self, inputs, state, rollout_info):
        return AlgStep(state=state + 1, info=rollout_info._replace(state=(rollout_info.state, state)))

    def calc_loss(self, info):
        self.trained.append(info)
        return LossInfo(loss=self._weight * torch.ones(info.step_type.shape))


def make(env, config, **kwargs):
    return CountingAlgorithm(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env, config=config,
                             **kwargs)


def expected_rows(env, begin, end):
    return torch.stack([env.time_step_at(t).observation for t in range(begin, end)])


def test_unrolls_share_the_time_step_between_them(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=4))
    first, second = algorithm.unroll(4), algorithm.unroll(4)
    assert torch.equal(first.observation, expected_rows(env, 0, 5))
    assert torch.equal(second.observation, expected_rows(env, 4, 9))
    assert torch.equal(second.rollout_info.reward, torch.stack([env.time_step_at(t).reward for t in range(4, 9)]))


def test_only_the_steps_before_the_last_are_carried_out(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=4))
    first, second = algorithm.unroll(4), algorithm.unroll(4)
    carried_out = torch.stack(env.actions)
    assert torch.equal(carried_out, torch.cat([first.action[:-1], second.action[:-1]]))


def test_metrics_count_each_time_step_once(scripted_env, make_config):
    env = scripted_env(episode_lengths=((3,), (3,)))
    algorithm = make(env, make_config(unroll_length=4))
    for _ in range(3):
        algorithm.unroll(4)
    metrics = {metric.name: metric for metric in algorithm.get_metrics()}
    # 12 time steps of each of 2 environments are 4 episodes of 2 environment steps each.
    assert int(metrics["NumberOfEpisodes"].result()) == 8
    assert int(metrics["EnvironmentSteps"].result()) == 16
    assert algorithm.get_step_metrics() == algorithm.get_metrics()[:2]


def test_state_is_zero_where_an_episode_begins_and_goes_on_across_unrolls(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=3))
    states = torch.cat([algorithm.unroll(3).rollout_info.state[:-1] for _ in range(4)])
    # Episodes of 4 and 3 steps, and of 5, 2 and 6 steps.
    assert states[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 0]
    assert states[:, 1].tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("ring_rows", [1, 2, 4, 5, 6, 9])
def test_rows_that_the_environment_reuses_are_never_seen_overwritten(scripted_env, make_config, ring_rows):
    env = scripted_env(ring_rows=ring_rows)
    algorithm = make(env, make_config(unroll_length=4))
    fresh = scripted_env()
    expected = make(fresh, make_config(unroll_length=4))
    for length in (4, 5, 4):
        seen, right = algorithm.unroll(length), expected.unroll(length)
        assert torch.equal(seen.observation, right.observation)
        assert torch.equal(seen.rollout_info.observation, right.rollout_info.observation)
        assert torch.equal(seen.rollout_info.reward, right.rollout_info.reward)
        assert torch.equal(seen.prev_action, right.prev_action)


@pytest.mark.parametrize("ring_rows", [None, 1, 5, 9])
def test_transformers_see_each_time_step_once(scripted_env, make_config, ring_rows):

    class Remember(SimpleDataTransformer):
        seen = []

        def _transform(self, timestep):
            self.seen.append(timestep.observation[:, 0].clone())
            return timestep._replace(observation=timestep.observation * 2)

    env = scripted_env(ring_rows=ring_rows)
    config = make_config(unroll_length=4)
    config.data_transformer = Remember(env.observation_spec())
    algorithm = make(env, config)
    experience = [algorithm.unroll(4), algorithm.unroll(4)][1]
    assert torch.stack(Remember.seen)[:, 0].tolist() == list(range(9))
    assert torch.equal(experience.observation, 2 * expected_rows(env, 4, 9))
    Remember.seen.clear()


@pytest.mark.parametrize("ring_rows", [None, 1, 5])
def test_frames_are_stacked_across_unrolls_when_acting_and_when_training(scripted_env, make_config, ring_rows):
    env = scripted_env(ring_rows=ring_rows, episode_lengths=((7, 4), (5, 2, 6)))
    config = make_config(unroll_length=2, mini_batch_length=1)
    config.data_transformer = FrameStacker(env.observation_spec(), stack_size=4)
    algorithm = make(env, config)
    algorithm.add_optimizer(torch.optim.SGD([{"params": []}], lr=0.1), [algorithm])
    for _ in range(6):
        acted = algorithm.unroll(2)
        stored, batch_info = algorithm._replay.gather_all()
        from alf.algorithms._training.from_replay import prepare_experience
        trained, _ = prepare_experience(algorithm, stored, algorithm._replay.rollout_info_spec, batch_info,
                                        algorithm._replay)
        assert acted.observation.shape == (3, 2, 8)
        assert torch.equal(trained.observation, acted.observation)


def test_enough_rows_are_reserved_before_the_first_reset(scripted_env, make_config):
    env = scripted_env()
    make(env, make_config(unroll_length=4)).unroll(4)
    assert len(env.reserved) == 1 and env.reserved[0] >= 5


def test_fractional_unroll_length_is_met_on_average(scripted_env, make_config):
    algorithm = make(scripted_env(), make_config(unroll_length=0.4))
    lengths = [algorithm._next_unroll_length() for _ in range(10)]
    assert sum(lengths) == 4 and set(lengths) == {0, 1}
    algorithm = make(scripted_env(), make_config(unroll_length=2.5))
    assert [algorithm._next_unroll_length() for _ in range(4)] == [2, 3, 2, 3]


def test_an_iteration_without_a_step_trains_on_nothing(scripted_env, make_config):
    algorithm = make(scripted_env(), make_config(unroll_length=0.5))
    assert algorithm.train_iter() == 0
    assert algorithm.trained == []


def test_experience_has_the_reported_action_if_the_environment_overrules(scripted_env, make_config):
    env = scripted_env(episode_lengths=((9,), (9,)))
    env_step = env.step
    env.step = lambda action: env_step(torch.full_like(action, 2))
    algorithm = make(env, make_config(unroll_length=4), overwrite_policy_output=True)
    assert (algorithm.unroll(4).action[:-1] == 2).all()


def test_off_policy_unroll_is_in_eval_mode_and_without_graph_unless_asked(scripted_env, make_config):
    for kwargs, expected in (({}, (False, False)), ({"unroll_with_grad": True}, (False, True))):
        config = make_config(unroll_length=2, mini_batch_length=1, **kwargs)
        algorithm = make(scripted_env(), config)
        algorithm.add_optimizer(torch.optim.SGD([{"params": []}], lr=0.1), [algorithm])
        algorithm.train_iter()
        assert algorithm.modes[:-1] == [expected] * 2
        assert algorithm.training


def test_on_policy_unroll_is_in_train_mode_with_graph(scripted_env, make_config):
    algorithm = make(scripted_env(), make_config(unroll_length=2), is_on_policy=True)
    algorithm.add_optimizer(torch.optim.SGD([{"params": []}], lr=0.1), [algorithm])
    algorithm.train_iter()
    assert algorithm.modes == [(True, True)] * 2 + [(True, False)]


def test_an_algorithm_without_environment_says_that_it_cannot_unroll(scripted_env, make_config):
    env = scripted_env()
    algorithm = CountingAlgorithm(env.observation_spec(), env.action_spec(), config=make_config(), name="Child")
    with pytest.raises(RuntimeError, match="Child: only the root algorithm unrolls"):
        algorithm.unroll(2)


# ---- what is trained on --------------------------------------------------------------------------------------------


def train(scripted_env, make_config, iterations=1, **kwargs):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=6, **kwargs))
    algorithm.add_optimizer(torch.optim.SGD([{"params": []}], lr=0.1), [algorithm])
    steps = [algorithm.train_iter() for _ in range(iterations)]
    return env, algorithm, steps


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_without_preprocessing_each_sequence_has_the_next_step_to_bootstrap_from(scripted_env, make_config, length):
    env, algorithm, steps = train(scripted_env, make_config, mini_batch_length=length, mini_batch_size=100,
                                  num_updates_per_train_iter=1)
    (info,) = algorithm.trained
    assert steps == [12]
    assert info.observation.shape == (length + 1, 12 // length, 2)
    begins = info.observation[0]
    for i in range(1, length + 1):
        assert torch.equal(info.observation[i], begins + torch.tensor([float(i), 0.0]))
    trained = {tuple(row) for row in info.observation[:-1].reshape(-1, 2).tolist()}
    assert trained == {(float(t), float(b)) for t in range(6) for b in range(2)}


def test_stored_state_is_where_sequences_begin_if_asked_for(scripted_env, make_config):
    _, algorithm, _ = train(scripted_env, make_config, iterations=3, mini_batch_length=3, use_rollout_state=True)
    for info in algorithm.trained:
        rolled_out, trained = info.state
        assert torch.equal(rolled_out, trained)


def test_sequences_begin_with_zero_state_by_default_and_reset_where_episodes_begin(scripted_env, make_config):
    _, algorithm, _ = train(scripted_env, make_config, iterations=3, mini_batch_length=3)
    for info in algorithm.trained:
        state = torch.zeros(info.step_type.shape[1])
        for t in range(info.step_type.shape[0]):
            state = torch.where(info.step_type[t] == 0, 0.0, state)
            assert torch.equal(info.state[1][t], state)
            state = state + 1


def test_recurrent_algorithms_cannot_be_stepped_at_once(scripted_env, make_config):
    with pytest.raises(ValueError, match="temporally_independent_train_step: expected False for RLAlgorithm"):
        train(scripted_env, make_config, temporally_independent_train_step=True)


def test_number_of_updates_is_epochs_times_mini_batches(scripted_env, make_config):
    _, algorithm, steps = train(scripted_env, make_config, mini_batch_length=2, mini_batch_size=4,
                                num_updates_per_train_iter=3)
    # 6 sequences in 2 mini batches, 3 times
    assert len(algorithm.trained) == 6
    assert steps == [36]


def test_mini_batches_take_one_sequence_of_each_environment_by_default(scripted_env, make_config):
    _, algorithm, _ = train(scripted_env, make_config, num_updates_per_train_iter=1)
    assert [info.step_type.shape for info in algorithm.trained] == [(7, 2)]
    _, algorithm, _ = train(scripted_env, make_config, num_updates_per_train_iter=1, mini_batch_length=1)
    assert [info.step_type.shape for info in algorithm.trained] == [(2, 2)] * 6


def test_training_before_an_unroll_says_so(scripted_env, make_config):
    algorithm = make(scripted_env(), make_config(unroll_length=2))
    algorithm.unroll(2)
    algorithm._replay = type(algorithm._replay)()
    with pytest.raises(RuntimeError, match="no experience to train on yet"):
        algorithm.train_from_replay_buffer()


@pytest.mark.parametrize("mask_last", [True, False])
@pytest.mark.parametrize("on_policy", [True, False])
def test_loss_counts_at_last_steps_only_if_asked_and_never_in_the_bootstrap_row(scripted_env, make_config, mask_last,
                                                                              on_policy):
    env = scripted_env(episode_lengths=((3,), (4,)))
    config = make_config(unroll_length=6, num_updates_per_train_iter=1, mask_out_loss_for_last_step=mask_last)
    algorithm = make(env, config, is_on_policy=on_policy)
    algorithm.add_optimizer(torch.optim.SGD([{"params": []}], lr=1.0), [algorithm])
    told = []

    def calc_loss(info):
        # 1 at MID and FIRST, 100 at LAST, 10000 in the last row: the mean tells what counted.
        loss = torch.ones(info.step_type.shape)
        loss[info.step_type == 2] = 100.0
        loss[-1] = 10000.0
        return LossInfo(loss=algorithm._weight * loss)

    algorithm.calc_loss = calc_loss
    algorithm.after_update = lambda inputs, info: told.append(algorithm._weight.grad.item())
    algorithm.train_iter()
    num_last = 2 + 1  # rows 2 and 5 of environment 0, row 3 of environment 1
    assert told == [pytest.approx(1.0 if mask_last else (12 - num_last + 100 * num_last) / 12)]
