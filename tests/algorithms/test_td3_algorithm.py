"""TD3: what it changes in DDPG, each against a direct computation, and that updates of the actor really are delayed."""

import functools

import pytest
import torch

from alf.algorithms.ddpg_algorithm import DdpgAlgorithm, DdpgState
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.algorithms.td3_algorithm import Td3Algorithm
from alf.data_structures import StepType, TimeStep
from alf.environments.suite_unittest import ActionType, PolicyUnittestEnv
from alf.networks import ActorNetwork, ActorRNNNetwork, CriticNetwork, CriticRNNNetwork
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

OBSERVATION = TensorSpec((3,))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)
WIDE = BoundedTensorSpec((2,), torch.float32, [-2, 0], [2, 10])
MID = int(StepType.MID)
GAMMA = 0.9


def make(action_spec=ACTION, recurrent=False, **kwargs):
    actor = functools.partial(ActorNetwork, fc_layer_params=(5,))
    critic = functools.partial(CriticNetwork, joint_fc_layer_params=(6,))
    if recurrent:
        actor = functools.partial(ActorRNNNetwork, lstm_hidden_size=4)
        critic = functools.partial(CriticRNNNetwork, lstm_hidden_size=4)
    algorithm = Td3Algorithm(
        OBSERVATION, action_spec, actor_network_ctor=actor, critic_network_ctor=critic,
        critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=GAMMA), actor_optimizer=Adam(lr=1e-2, name="actor"),
        critic_optimizer=Adam(lr=1e-2, name="critic"), **kwargs)
    # Away from the initial values near 0, and targets away from their networks.
    for p in algorithm.parameters():
        p.data.normal_(std=0.5)
    return algorithm


def sequences(T, B, action_spec=ACTION):
    """Return time steps ``[T, B, ...]`` and the info of their unroll."""
    inputs = TimeStep(
        step_type=torch.full((T, B), MID, dtype=torch.int32), reward=torch.randn(T, B), discount=torch.ones(T, B),
        observation=torch.randn(T, B, 3), prev_action=torch.zeros(T, B, 2),
        env_id=torch.zeros(T, B, dtype=torch.int32))
    algorithm_info = make(action_spec).rollout_step(
        TimeStep(step_type=inputs.step_type.flatten(), observation=inputs.observation.flatten(0, 1)), DdpgState()).info
    return inputs, algorithm_info._replace(action=algorithm_info.action.detach().unflatten(0, (T, B)))


def update(algorithm, inputs, rollout_info):
    """Update once as the trainer does, and return the losses."""
    info = algorithm.train_sequence(inputs, rollout_info)
    loss_info = algorithm.calc_loss(info)
    algorithm.update_with_gradient(loss_info)
    algorithm.after_update(inputs, info)
    return loss_info


def values(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def optimizer_state(algorithm, name):
    optimizer = next(o for o in algorithm.optimizers() if o.name == name)
    return {i: {key: value.clone() for key, value in state.items()}
            for i, state in optimizer.state_dict()["state"].items()}


# ---- delayed updates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [1, 2, 3])
def test_actor_targets_and_adam_state_change_in_every_period_th_update_only(period):
    algorithm = make(policy_update_period=period)
    batch = sequences(2, 8)
    for i in range(1, 2 * period + 1):
        actor, critics = values(algorithm._actor_network), values(algorithm._critic_networks)
        targets = values(algorithm._target_actor_network), values(algorithm._target_critic_networks)
        adam = optimizer_state(algorithm, "actor")
        loss_info = update(algorithm, *batch)
        is_due = i % period == 0
        assert isinstance(loss_info.extra.actor, torch.Tensor) == is_due
        assert not equal(critics, values(algorithm._critic_networks))
        assert equal(actor, values(algorithm._actor_network)) != is_due
        for before, target in zip(targets, (algorithm._target_actor_network, algorithm._target_critic_networks)):
            assert equal(before, values(target)) != is_due
        now = optimizer_state(algorithm, "actor")
        if is_due:
            assert all(state["step"] == i // period for state in now.values()) and now
        else:
            assert now.keys() == adam.keys()
            assert all(torch.equal(now[k][key], adam[k][key]) for k in adam for key in adam[k])


def test_the_count_of_updates_is_part_of_the_state():
    algorithm, other = make(policy_update_period=3), make(policy_update_period=3)
    batch = sequences(2, 8)
    for _ in range(2):
        update(algorithm, *batch)
    other.load_state_dict(algorithm.state_dict())
    for one in (algorithm, other):
        actor = values(one._actor_network)
        torch.manual_seed(1)
        update(one, *batch)
        assert not equal(actor, values(one._actor_network))
    assert equal(values(algorithm), values(other))


def test_recurrent_actor_keeps_its_state_going_in_updates_that_skip_it():
    algorithm = make(recurrent=True)
    inputs, rollout_info = sequences(2, 4)
    time_step = inputs._replace(**{name: getattr(inputs, name)[0] for name in inputs._fields[:6]})
    state = algorithm.get_initial_train_state(4)
    step = algorithm.train_step(time_step, state, rollout_info._replace(action=rollout_info.action[0]))
    assert step.info.actor_loss == ()
    expected = algorithm._actor_network(time_step.observation, state.actor)[1]
    for ours, theirs in zip(torch.utils._pytree.tree_leaves(step.state.actor),
                            torch.utils._pytree.tree_leaves(expected), strict=True):
        torch.testing.assert_close(ours, theirs)
        assert not ours.requires_grad


# ---- losses ------------------------------------------------------------------------------------------------------


def test_target_is_the_lower_of_two_values():
    algorithm = make(target_noise_stddev=0)
    inputs, rollout_info = sequences(2, 6)
    critic_loss = algorithm.calc_loss(algorithm.train_sequence(inputs, rollout_info)).extra.critic[0]
    for b in range(6):
        following = inputs.observation[1, b][None]
        target_q = algorithm._target_critic_networks((following, algorithm._target_actor_network(following)[0]))[0]
        target = inputs.reward[1, b] + GAMMA * min(target_q[0].tolist())
        q = algorithm._critic_networks((inputs.observation[0, b][None], rollout_info.action[0, b][None]))[0][0]
        assert critic_loss[b].item() == pytest.approx(sum((x - target.item())**2 for x in q.tolist()), rel=1e-4)


def test_actor_maximises_the_first_critic():
    algorithm = make(policy_update_period=1)
    observation = torch.randn(6, 3)
    loss, _ = algorithm._actor_step(observation, DdpgState())
    q = algorithm._critic_networks((observation, algorithm._actor_network(observation)[0]))[0]
    assert not torch.allclose(q[:, 0], q.min(dim=1).values)
    torch.testing.assert_close(loss, -q[:, 0])


def test_target_noise_is_clipped_and_stays_within_the_bounds():
    algorithm = make(WIDE, target_noise_stddev=0.2, target_noise_clip=0.3)
    half_range, middle = torch.tensor([2.0, 5.0]), torch.tensor([0.0, 5.0])
    noise = (algorithm._target_action(middle.expand(50000, 2)) - middle) / half_range
    # 1.5 standard deviations: 13.4 % of a normal distribution lie outside.
    assert noise.abs().max().item() == pytest.approx(0.3)
    share_at_clip = (noise.abs() > 0.3 - 1e-5).float().mean().item()
    assert share_at_clip == pytest.approx(0.1336, abs=0.005)
    inside = noise[noise.abs() < 0.1]
    assert len(inside) / noise.numel() == pytest.approx(0.3829, abs=0.005)  # within half a standard deviation

    high = torch.tensor([2.0, 10.0])
    at_bound = algorithm._target_action(high.expand(1000, 2))
    assert (at_bound <= high).all() and (at_bound < high).any() and (at_bound >= high - 0.3 * half_range - 1e-5).all()


def test_own_train_sequence_gives_the_gradients_of_the_default():
    # Without noise, whose shape differs.
    algorithm = make(target_noise_stddev=0, policy_update_period=1)
    inputs, rollout_info = sequences(3, 6)
    results = []
    default = functools.partial(super(DdpgAlgorithm, algorithm).train_sequence)
    for train_sequence in (algorithm.train_sequence, default):
        algorithm.zero_grad()
        algorithm.calc_loss(train_sequence(inputs, rollout_info)).loss.sum().backward()
        results.append([p.grad.clone() for p in algorithm.parameters() if p.grad is not None])
    assert len(results[0]) == len(values(algorithm._actor_network)) + len(values(algorithm._critic_networks))
    torch.testing.assert_close(*results)


# ---- acting ------------------------------------------------------------------------------------------------------


def test_exploration_noise_is_gaussian_and_independent_from_step_to_step():
    algorithm = make(WIDE, exploration_noise_stddev=0.1)
    for p in algorithm._actor_network.parameters():
        p.data.zero_()
    inputs = TimeStep(step_type=torch.full((20000,), MID, dtype=torch.int32), observation=torch.zeros(20000, 3))
    state = algorithm.get_initial_rollout_state(20000)
    first = algorithm.rollout_step(inputs, state)
    second = algorithm.rollout_step(inputs, first.state)
    torch.testing.assert_close(second.output.std(0), 0.1 * torch.tensor([2.0, 5.0]), rtol=0.03, atol=0)
    correlation = torch.corrcoef(torch.stack([first.output[:, 0], second.output[:, 0]]))[0, 1].item()
    assert correlation == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("kwargs", [dict(exploration_noise_stddev=-0.1), dict(target_noise_clip=-1.0),
                                    dict(policy_update_period=0)])
def test_bad_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match=f"Td3Algorithm.{next(iter(kwargs))}: expected a number >="):
        make(**kwargs)


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="Td3Algorithm.action_spec: expected continuous actions with bounds, got"):
        Td3Algorithm(OBSERVATION, BoundedTensorSpec((), torch.int64, 0, 3))


def test_it_finds_a_policy(make_config):
    env = PolicyUnittestEnv(20, 6, action_type=ActionType.Continuous)
    config = make_config(unroll_length=1, mini_batch_length=2, mini_batch_size=64, num_updates_per_train_iter=1,
                         whole_replay_buffer_training=False, clear_replay_buffer=False, replay_buffer_length=200,
                         initial_collect_steps=100)
    algorithm = Td3Algorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config, rollout_random_action=0.2,
        actor_network_ctor=functools.partial(ActorNetwork, fc_layer_params=(16,)),
        critic_network_ctor=functools.partial(CriticNetwork, joint_fc_layer_params=(32, 32)),
        critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.5), target_update_tau=0.05,
        actor_optimizer=Adam(lr=1e-2), critic_optimizer=Adam(lr=1e-2))
    for _ in range(500):
        algorithm.train_iter()
    bits = torch.tensor([[0.0], [1.0]])
    action = algorithm.predict_step(TimeStep(observation=bits), DdpgState()).output
    torch.testing.assert_close(action, bits, rtol=0, atol=0.15)
