"""R2D2: targets, priorities, burn-in, stored states, exploration, and a task that needs memory."""

import functools

import pytest
import torch

import alf.environments.suite_memory as suite_memory
from alf.algorithms._q_learning.sequence_priority import priorities_from_each_row, sequence_priority
from alf.algorithms.agent import Agent
from alf.algorithms.config import TrainerConfig
from alf.algorithms.r2d2_algorithm import R2d2Algorithm, R2d2Info, R2d2RolloutInfo
from alf.data_structures import Experience, TimeStep
from alf.environments.alf_wrappers import BatchEnvironmentWrapper, TensorWrapper
from alf.nest import map_structure
from alf.nest.utils import NestConcat
from alf.networks import QNetwork, QRNNNetwork
from alf.optimizers import SGD, Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.common import reset_state_if_necessary
from alf.utils.math_ops import SqrtLinearTransform

FIRST, MID, LAST = 0, 1, 2
OBSERVATION, ACTION = TensorSpec((2,)), BoundedTensorSpec((), torch.int64, 0, 2)
SMALL = functools.partial(QRNNNetwork, fc_layer_params=(8,), lstm_hidden_size=6, value_fc_layer_params=(8,))


def make(**kwargs):
    settings = dict(q_network_cls=SMALL, q_optimizer=SGD(lr=0.1), burn_in_steps=0)
    return R2d2Algorithm(OBSERVATION, ACTION, **{**settings, **kwargs})


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def random_time_steps(T, B):
    """Return time steps ``[T, B, ...]`` of which a fourth are FIRST and a fourth LAST."""
    step_type = torch.tensor([FIRST, MID, MID, LAST], dtype=torch.int32)[torch.randint(4, (T, B))]
    return TimeStep(
        step_type=step_type, reward=torch.randn(T, B), discount=torch.randint(2, (T, B)).float(),
        observation=torch.randn(T, B, 2), prev_action=torch.randint(3, (T, B)), env_id=torch.arange(B).expand(T, B))


# ---- loss ------------------------------------------------------------------------------------------------------------


def hand_made_info():
    """Return an info of one sequence: two steps, a termination, the first two steps of the next episode."""
    time_step = TimeStep(
        step_type=torch.tensor([MID, MID, LAST, FIRST, MID], dtype=torch.int32).unsqueeze(1),
        reward=column(7, 1, 2, 0, 3), discount=column(1, 1, 0, 1, 1),
        # Row t + 1 tells the action of row t.
        prev_action=torch.tensor([0, 1, 0, 0, 1]).unsqueeze(1))
    values = torch.tensor([[1., 2.], [4., 3.], [9., 9.], [5., 6.], [8., 7.]]).unsqueeze(1)
    # In the last row the network prefers action 0 and the target network action 1: the first counts, at the value of
    # the second.
    target_values = torch.tensor([[0., 0.], [0., 0.], [50., 50.], [0., 0.], [10., 20.]]).unsqueeze(1)
    return R2d2Info(time_step=time_step, values=values.requires_grad_(), target_values=target_values)


def test_loss_by_hand():
    algorithm = make(gamma=0.5, n_step=2, value_transform_ctor=None)
    info = hand_made_info()
    loss_info = algorithm.calc_loss(info)
    # row 0: target 1 + 0.5 * 2 = 2 (termination), value of action 1: 2; row 1: target 2, value of action 0: 4
    # row 3: target 3 + 0.5 * 10 = 8 (the sequence ends after one step), value of action 1: 6
    assert loss_info.loss.squeeze(1).tolist() == [0, 4, 0, 4, 0]
    loss_info.loss.sum().backward()
    expected = torch.zeros(5, 1, 2)
    expected[1, 0, 0], expected[3, 0, 1] = 2 * (4 - 2), 2 * (6 - 8)
    assert torch.equal(info.values.grad, expected)
    # 0.9 * 2 + 0.1 * mean(0, 2, 2)
    assert float(loss_info.priority) == pytest.approx(0.9 * 2 + 0.1 * 4 / 3)


def test_targets_are_rescaled():
    transform = SqrtLinearTransform()
    algorithm = make(gamma=0.5, n_step=2)
    targets = algorithm._targets(hand_made_info()).squeeze(1)
    ten = float(transform.inverse_transform(torch.tensor(10.)))
    expected = transform.transform(torch.tensor([1 + 0.5 * 2, 2, 0, 3 + 0.5 * ten]))
    torch.testing.assert_close(targets[[0, 1, 3]], expected[[0, 1, 3]])


def test_loss_of_burn_in_is_zero():
    algorithm = make(burn_in_steps=3)
    time_step = random_time_steps(8, 4)
    loss_info = algorithm.calc_loss(algorithm.train_sequence(time_step, ()))
    assert loss_info.loss.shape == (8, 4) and loss_info.priority.shape == (4,)
    assert (loss_info.loss[:3] == 0).all() and (loss_info.loss[-1] == 0).all()
    counts = time_step.step_type[3:-1] != LAST
    assert torch.equal(loss_info.loss[3:-1] != 0, counts)


# ---- sequences -------------------------------------------------------------------------------------------------------


def step_by_step(network, inputs, state, is_first, start, end):
    """Return the outputs of a network called once for each of some steps, and its state."""
    zero = map_structure(torch.zeros_like, state)
    outputs = []
    for t in range(start, end):
        state = reset_state_if_necessary(state, zero, is_first[t])
        y, state = network(map_structure(lambda leaf, t=t: leaf[t], inputs), state)
        outputs.append(y)
    return torch.stack(outputs) if outputs else None, state


def random_state(algorithm, batch_size):
    return map_structure(lambda spec: torch.randn(batch_size, *spec.shape), algorithm.train_state_spec)


@pytest.mark.parametrize("burn_in", [0, 1, 4])
@pytest.mark.parametrize("more_inputs", [False, True])
def test_sequence_at_once_equals_stepping_in_values_and_gradients(burn_in, more_inputs):
    network = functools.partial(SMALL, preprocessing_combiner=NestConcat()) if more_inputs else SMALL
    algorithm = make(burn_in_steps=burn_in, use_prev_action_and_reward=more_inputs, q_network_cls=network)
    with torch.no_grad():
        for p in algorithm._target_q_network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    time_step, state = random_time_steps(9, 5), random_state(algorithm, 5)
    info = algorithm.train_sequence(time_step, (), state)
    parameters = list(algorithm._q_network.parameters())
    gradients = torch.autograd.grad(algorithm.calc_loss(info).loss.sum(), parameters)

    inputs = time_step.observation
    if more_inputs:
        one_hot = (time_step.prev_action.unsqueeze(-1) == torch.arange(3)).float()
        inputs = dict(observation=inputs, prev_action=one_hot, prev_reward=time_step.reward.unsqueeze(-1))
    run = functools.partial(step_by_step, inputs=inputs, is_first=time_step.is_first())
    with torch.no_grad():
        target_values, _ = run(algorithm._target_q_network, state=state, start=0, end=9)
        _, warm = run(algorithm._q_network, state=state, start=0, end=burn_in)
    values, _ = run(algorithm._q_network, state=warm, start=burn_in, end=9)
    torch.testing.assert_close(info.values, values)
    torch.testing.assert_close(info.target_values, target_values[burn_in:])
    stepped = info._replace(values=values, target_values=target_values[burn_in:])
    expected = torch.autograd.grad(algorithm.calc_loss(stepped).loss.sum(), parameters)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


def test_sequence_without_stored_state_begins_from_zeros():
    algorithm = make()
    time_step = random_time_steps(4, 3)
    zeros = algorithm.get_initial_train_state(3)
    assert torch.equal(algorithm.train_sequence(time_step, ()).values,
                       algorithm.train_sequence(time_step, (), zeros).values)


# ---- priorities ------------------------------------------------------------------------------------------------------


def test_priority_mixes_the_largest_and_the_mean_error():
    td_errors = torch.tensor([[1., -5.], [-3., 100.], [2., 1.]])
    counts = torch.tensor([[True, True], [True, False], [True, True]])
    priority = sequence_priority(td_errors, counts, eta=0.75)
    torch.testing.assert_close(priority, torch.tensor([0.75 * 3 + 0.25 * 2, 0.75 * 5 + 0.25 * 3]))


@pytest.mark.parametrize("skip, length", [(0, 1), (0, 3), (2, 2), (1, 9), (7, 2)])
def test_priorities_of_rows_are_those_of_the_sequences_that_begin_there(skip, length):
    td_errors, counts = torch.randn(6, 4), torch.rand(6, 4) < 0.7
    counts[0] = True
    result = priorities_from_each_row(td_errors, counts, 0.9, skip, length)
    assert result.shape == (7, 4)
    for t in range(7):
        for b in range(4):
            seen = [abs(float(td_errors[s, b])) for s in range(t + skip, min(6, t + skip + length)) if counts[s, b]]
            if not seen:
                seen = [abs(float(td_errors[s, b])) for s in range(6) if counts[s, b]]
            assert float(result[t, b]) == pytest.approx(0.9 * max(seen) + 0.1 * sum(seen) / len(seen), rel=1e-5)


def test_rollout_priority_by_hand():
    algorithm = make(gamma=0.5, value_transform_ctor=None)
    experience = Experience(
        # The last pair goes from LAST to FIRST: it does not count.
        time_step=TimeStep(step_type=torch.tensor([[FIRST], [MID], [LAST], [FIRST]], dtype=torch.int32),
                           discount=column(1, 1, 0, 1)),
        rollout_info=R2d2RolloutInfo(
            value=column(1, 2, 3, 4), max_value=column(1, 8, 90, 4), reward=column(0, 5, 6, 0)))
    # row 0: 5 + 0.5 * 8 - 1 = 8; row 1: 6 - 2 = 4
    priority = algorithm.rollout_priority(experience).squeeze(1)
    torch.testing.assert_close(priority, torch.tensor([0.9 * 8 + 0.1 * 6, 4, 0.9 * 8 + 0.1 * 6, 0.9 * 8 + 0.1 * 6]))
    assert algorithm.rollout_priority(map_structure(lambda x: x[:1], experience)) is None


# ---- exploration -----------------------------------------------------------------------------------------------------


def test_each_environment_has_its_own_share_of_random_actions(monkeypatch):
    algorithm = make(rollout_epsilon_greedy=0.5, rollout_epsilon_alpha=1.0)
    # Action 2 is always best, so that a random action differs from it with probability 2/3.
    monkeypatch.setattr(algorithm._q_network, "forward",
                        lambda x, state: (torch.tensor([0., 1., 2.]).expand(x.shape[0], 3), state))
    time_step = map_structure(lambda leaf: leaf[0], random_time_steps(1, 3))
    with torch.no_grad():
        steps = [algorithm.rollout_step(time_step, ()) for _ in range(3000)]
    actions = torch.stack([step.output for step in steps])
    assert actions.dtype == torch.int64
    share = (actions != 2).float().mean(0)
    torch.testing.assert_close(share, 2 / 3 * torch.tensor([0.5, 0.5**1.5, 0.25]), rtol=0, atol=0.04)
    info = steps[0].info
    assert torch.equal(info.value, steps[0].output.float()) and info.max_value.tolist() == [2, 2, 2]
    assert torch.equal(info.reward, time_step.reward)


def test_prediction_is_greedy_and_explores_as_the_config_says(tmp_path):
    time_step = map_structure(lambda leaf: leaf[0].repeat_interleave(500, 0), random_time_steps(1, 2))
    greedy = make()
    state = greedy.get_initial_predict_state(1000)
    values, _ = greedy._q_network(time_step.observation, state)
    assert torch.equal(greedy.predict_step(time_step, state).output, values.argmax(-1))
    config = TrainerConfig(root_dir=str(tmp_path), epsilon_greedy=1.0)
    actions = make(config=config).predict_step(time_step, state).output
    assert actions.bincount(minlength=3).min() > 250


# ---- with environment and replay buffer ------------------------------------------------------------------------------


def replay_config(make_config, **kwargs):
    settings = dict(whole_replay_buffer_training=False, clear_replay_buffer=False, use_rollout_state=True,
                    num_updates_per_train_iter=1, replay_buffer_length=100, unroll_length=60, mini_batch_length=8,
                    mini_batch_size=16)
    return make_config(**{**settings, **kwargs})


def record_sequences(algorithm):
    """Return a list that collects ``(rollout_info, info)`` of each call of ``train_sequence``."""
    calls, train_sequence = [], algorithm.train_sequence

    def recording(inputs, rollout_info, *state):
        info = train_sequence(inputs, rollout_info, *state)
        calls.append((rollout_info, info))
        return info

    algorithm.train_sequence = recording
    return calls


@pytest.mark.parametrize("state_interval", [1, 5])
@pytest.mark.parametrize("in_agent, burn_in", [(False, 0), (False, 3), (True, 3)])
def test_stored_states_give_the_values_that_were_acted_on(scripted_env, make_config, monkeypatch, state_interval,
                                                          in_agent, burn_in):
    from alf.experience_replayers import replay_buffer
    interval = functools.partial(replay_buffer.ReplayBuffer, state_interval=state_interval)
    monkeypatch.setattr(replay_buffer, "ReplayBuffer", interval)
    env = scripted_env()
    ctor = functools.partial(R2d2Algorithm, q_network_cls=SMALL, burn_in_steps=burn_in, rollout_epsilon_alpha=0.0)
    algorithm = functools.partial(Agent, rl_algorithm_cls=ctor) if in_agent else ctor
    algorithm = algorithm(env.observation_spec(), env.action_spec(), env=env, config=replay_config(make_config),
                          optimizer=SGD(lr=0.1))
    r2d2 = algorithm._rl_algorithm if in_agent else algorithm
    calls = record_sequences(r2d2)
    algorithm.train_iter()
    (rollout_info, info), = calls
    actions = info.time_step.prev_action[1:].unsqueeze(-1)
    goes_on = info.time_step.step_type[:-1] != LAST
    # The parameters are those of the unroll: from the stored state the same values come out, episode after episode.
    values = info.values[:-1].gather(-1, actions).squeeze(-1)
    torch.testing.assert_close(values[goes_on], rollout_info.value[burn_in:-1][goes_on])
    torch.testing.assert_close(info.values[:-1].amax(-1), rollout_info.max_value[burn_in:-1])
    # The target network was copied in the beginning.
    torch.testing.assert_close(info.target_values, info.values)
    assert bool(goes_on.any()) and len(values.unique()) > 10


def test_target_network_is_copied_when_due(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env=env, config=replay_config(make_config, unroll_length=9), target_update_period=3)
    names = [name for name, _ in algorithm._q_network.named_parameters()]

    def distance():
        pairs = zip(algorithm._q_network.parameters(), algorithm._target_q_network.parameters(), strict=True)
        return sum(float((p - q).detach().abs().sum()) for p, q in pairs)

    distances = []
    for _ in range(6):
        algorithm.train_iter()
        distances.append(distance())
    assert [d == 0 for d in distances] == [False, False, True, False, False, True]
    info, = algorithm.get_optimizer_info()
    assert info["parameters"] == ["_q_network." + name for name in names]


def test_prioritized_replay_stores_priorities_of_unroll_and_loss(scripted_env, make_config):
    env = scripted_env()
    config = replay_config(make_config, priority_replay=True, unroll_length=20)
    algorithm = make(env=env, config=config, burn_in_steps=2)
    given, rollout_priority = [], algorithm.rollout_priority
    algorithm.rollout_priority = lambda experience: given.append(rollout_priority(experience)) or given[-1]
    updated, update = [], algorithm._replay.update_priority
    algorithm._replay.update_priority = lambda info, priority: (updated.append(priority), update(info, priority))
    for _ in range(2):
        algorithm.train_iter()
    assert [p.shape for p in given] == [(20, 2), (20, 2)] and all((p > 0).all() for p in given)
    assert [p.shape for p in updated] == [(16,), (16,)] and all((p > 0).all() for p in updated)


def test_learns_to_remember(make_config):
    mazes = [suite_memory.load(env_id=i, env_args=dict(corridor_length=3)) for i in range(8)]
    for i, maze in enumerate(mazes):
        maze.seed(i)
    env = TensorWrapper(BatchEnvironmentWrapper(mazes))
    config = replay_config(make_config, unroll_length=10, mini_batch_length=14, num_updates_per_train_iter=4,
                           initial_collect_steps=200)
    algorithm = R2d2Algorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config, q_network_cls=SMALL, burn_in_steps=2,
        gamma=0.9, target_update_period=10, rollout_epsilon_alpha=0.0, q_optimizer=Adam(lr=1e-2))
    for _ in range(60):
        algorithm.train_iter()
    state = zeros = algorithm.get_initial_predict_state(8)
    time_step, rewards = env.reset(), []
    with torch.no_grad():
        for _ in range(50):
            state = reset_state_if_necessary(state, zeros, time_step.is_first())
            step = algorithm.predict_step(time_step, state)
            time_step, state = env.step(step.output), step.state
            rewards.append(time_step.reward[time_step.is_last()])
    rewards = torch.cat(rewards)
    # Without memory the mean would be 0.
    assert len(rewards) == 80 and float(rewards.mean()) > 0.9


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_refuses_what_it_cannot_train(make_config):
    with pytest.raises(ValueError, match="expected a recurrent network .*got QNetwork.*DqnAlgorithm"):
        make(q_network_cls=QNetwork)
    with pytest.raises(ValueError, match="reward_spec: expected a scalar reward"):
        make(reward_spec=TensorSpec((2,)))
    with pytest.raises(ValueError, match="n_step: expected a number from 1"):
        make(n_step=0)
    with pytest.raises(ValueError, match="mini_batch_length: expected at least 9 .*burn_in_steps=7.*got 8"):
        make(burn_in_steps=7, config=replay_config(make_config))
    with pytest.raises(NotImplementedError, match="not step by step. In an Agent it must be the only algorithm"):
        make().train_step((), (), ())
