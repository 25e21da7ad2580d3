"""Implicit Q-learning: losses against loops over single steps, targets, the economical way against the plain one."""

import functools
import math
import operator

import pytest
import torch

import alf.nest as nest
from alf.algorithms.iql_algorithm import (
    IqlAlgorithm,
    IqlInfo,
    IqlState,
    expectile_loss,
    exponential_advantage,
)
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.data_structures import BasicRLInfo, TimeStep
from alf.networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    CriticNetwork,
    CriticRNNNetwork,
    ValueNetwork,
    ValueRNNNetwork,
)
from alf.optimizers import SGD
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

OBSERVATION = TensorSpec((3,))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)
T, B = 4, 5


def make(reward_dim=0, **kwargs):
    reward_spec = TensorSpec((reward_dim,) if reward_dim else ())
    arguments = dict(
        actor_network_cls=functools.partial(ActorDistributionNetwork, fc_layer_params=(8,)),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8,)),
        v_network_cls=functools.partial(ValueNetwork, fc_layer_params=(8,)),
        critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.9))
    algorithm = IqlAlgorithm(OBSERVATION, ACTION, reward_spec, **{**arguments, **kwargs})
    with torch.no_grad():  # initial values are almost 0 and almost equal
        for network in (algorithm._critic_networks, algorithm._target_critic_networks, algorithm._value_network):
            for p in network.parameters():
                p.normal_(std=0.5)
    return algorithm


def batch(reward_dim=0):
    """Return time steps ``[T, B]`` with a termination, a time limit, and the rollout info of random actions."""
    step_type = torch.ones(T, B, dtype=torch.int32)
    discount = torch.ones(T, B)
    step_type[1, 0], discount[1, 0], step_type[2, 0] = 2, 0.0, 0  # terminates at row 1
    step_type[2, 1], step_type[3, 1] = 2, 0  # time limit at row 2
    inputs = TimeStep(
        step_type=step_type,
        reward=torch.randn((T, B, reward_dim) if reward_dim else (T, B)),
        discount=discount,
        observation=torch.randn(T, B, 3),
        prev_action=torch.zeros(T, B, 2),
        env_id=torch.zeros(T, B, dtype=torch.int32))
    return inputs, BasicRLInfo(action=torch.rand(T, B, 2) * 2 - 1)


def plain_info(algorithm, inputs, rollout_info):
    """Return the info of ``train_step`` called for one time after the other."""
    steps = []
    for t in range(T):
        row = nest.map_structure(operator.itemgetter(t), (inputs, rollout_info))
        steps.append(algorithm.train_step(row[0], IqlState(), row[1]).info)
    return nest.map_structure(lambda *leaves: torch.stack(leaves), *steps)


def test_expectile_loss_by_hand():
    error = torch.tensor([2.0, -2.0, 0.0])
    torch.testing.assert_close(expectile_loss(error, 0.8), torch.tensor([0.8 * 4, 0.2 * 4, 0.0]))


def test_minimiser_of_the_expectile_loss_nears_the_largest_target():
    # The expectile m of {0, 1} solves tau (1 - m) = (1 - tau) m, so m = tau.
    targets = torch.tensor([0.0, 1.0])
    candidates = torch.linspace(0, 1, 101)
    for expectile in (0.5, 0.8, 0.99):
        losses = torch.stack([expectile_loss(targets - m, expectile).sum() for m in candidates])
        assert float(candidates[losses.argmin()]) == pytest.approx(expectile, abs=1e-6)


def test_weights_of_imitation_by_hand():
    weights = exponential_advantage(torch.tensor([0.0, 1.0, -1.0, 50.0]), temperature=3.0, largest=100.0)
    torch.testing.assert_close(weights, torch.tensor([1.0, math.exp(3.0), math.exp(-3.0), 100.0]))


def test_losses_equal_a_loop_over_single_steps():
    algorithm = make(expectile=0.7, temperature=2.0, max_exp_advantage=1.5)
    inputs, rollout_info = batch()
    info = plain_info(algorithm, inputs, rollout_info)
    loss = algorithm.calc_loss(info)
    for b in range(B):
        for t in range(T - 1):
            if inputs.step_type[t, b] == 2:
                continue  # does not count
            o, o2 = inputs.observation[t, b][None], inputs.observation[t + 1, b][None]
            a = rollout_info.action[t, b][None]
            q = algorithm._critic_networks((o, a))[0][0]
            target_q = algorithm._target_critic_networks((o, a))[0].min()
            v, v2 = algorithm._value_network(o)[0], algorithm._value_network(o2)[0]
            target = inputs.reward[t + 1, b] + 0.9 * inputs.discount[t + 1, b] * v2
            u = target_q - v
            weight = min(math.exp(2.0 * float(u)), 1.5)
            expected = {
                "critic": ((q - target) ** 2).sum(),
                "value": (0.3 if float(u) < 0 else 0.7) * (u ** 2).sum(),
                "actor": -weight * algorithm._actor_network(o)[0].log_prob(a).sum(),
            }
            for name, value in expected.items():
                torch.testing.assert_close(getattr(loss.extra, name)[t, b], value)
            torch.testing.assert_close(loss.loss[t, b], sum(expected.values()))
    assert loss.loss[-1].tolist() == [0.0] * B


def test_each_loss_trains_its_own_network():
    algorithm = make()
    info = plain_info(algorithm, *batch())
    extra = algorithm.calc_loss(info).extra
    networks = {"actor": algorithm._actor_network, "critic": algorithm._critic_networks,
                "value": algorithm._value_network}
    for name, own in networks.items():
        gradients = {other: torch.autograd.grad(getattr(extra, name).sum(), list(network.parameters()),
                                                retain_graph=True, allow_unused=True)
                     for other, network in networks.items()}
        for other, grads in gradients.items():
            has_gradient = any(g is not None and bool(g.abs().sum() > 0) for g in grads)
            assert has_gradient == (networks[other] is own), (name, other)


@pytest.mark.parametrize("reward_dim", [0, 2])
def test_the_sequence_step_has_the_gradients_of_the_plain_step(reward_dim):
    algorithm = make(reward_dim)
    inputs, rollout_info = batch(reward_dim)
    results = []
    for info in (plain_info(algorithm, inputs, rollout_info), algorithm.train_sequence(inputs, rollout_info)):
        loss = algorithm.calc_loss(info).loss
        parameters = [p for network in (algorithm._actor_network, algorithm._critic_networks, algorithm._value_network)
                      for p in network.parameters()]
        results.append((loss.detach(), torch.autograd.grad((loss * (inputs.step_type != 2)).mean(), parameters)))
    nest.map_structure(torch.testing.assert_close, *results)


def test_a_vector_reward_has_values_for_each_component_and_one_advantage():
    algorithm = make(2, reward_weights=[1.0, -0.5])
    info = plain_info(algorithm, *batch(2))
    assert info.critics.shape == (T, B, 2, 2) and info.value.shape == (T, B, 2)
    targets = algorithm._target_critic_networks((info_observation := batch(2)[0].observation[0], torch.zeros(B, 2)))[0]
    assert targets.shape == (B, 2, 2) and info_observation.shape == (B, 3)
    loss = algorithm.calc_loss(info).extra
    u = (info.target_critic - info.value)[:-1]
    weight = (u[..., 0] - 0.5 * u[..., 1]).exp().clamp(max=100)
    torch.testing.assert_close(loss.actor[:-1], -weight * info.log_prob[:-1])
    better = u * torch.tensor([1.0, -1.0])  # the second component counts negatively
    torch.testing.assert_close(loss.value[:-1], torch.where(better < 0, 0.2 * u ** 2, 0.8 * u ** 2).mean(-1))


def test_the_lowest_target_critic_counts_the_highest_for_a_negative_weight():
    algorithm = make(2, reward_weights=[1.0, -0.5])
    inputs, rollout_info = batch(2)
    info = plain_info(algorithm, inputs, rollout_info)
    values = algorithm._target_critic_networks((inputs.observation[0], rollout_info.action[0]))[0]
    torch.testing.assert_close(info.target_critic[0, :, 0], values[:, :, 0].min(1).values)
    torch.testing.assert_close(info.target_critic[0, :, 1], values[:, :, 1].max(1).values)


def test_priorities_are_the_mean_errors_of_what_counts():
    algorithm = make(calculate_priority=True)
    inputs, rollout_info = batch()
    loss = algorithm.calc_loss(plain_info(algorithm, inputs, rollout_info))
    for b in range(B):
        errors = [float(loss.extra.critic[t, b]) for t in range(T - 1) if inputs.step_type[t, b] != 2]
        assert float(loss.priority[b]) == pytest.approx(math.sqrt(sum(errors) / len(errors)), rel=1e-5)


def test_target_critics_move_and_are_not_trained():
    algorithm = make(target_update_tau=0.25, actor_optimizer=SGD(lr=0.1), critic_optimizer=SGD(lr=0.1),
                     value_optimizer=SGD(lr=0.1))
    before = [p.detach().clone() for p in algorithm._target_critic_networks.parameters()]
    info = plain_info(algorithm, *batch())
    algorithm.update_with_gradient(algorithm.calc_loss(info))
    critics = list(algorithm._critic_networks.parameters())
    assert all(torch.equal(p, q) for p, q in zip(algorithm._target_critic_networks.parameters(), before))
    algorithm.after_update(batch()[0], info)
    for target, old, critic in zip(algorithm._target_critic_networks.parameters(), before, critics):
        torch.testing.assert_close(target, 0.75 * old + 0.25 * critic)
    trained = {name.split(".")[0] for part in algorithm.get_optimizer_info() if part["optimizer"] != "None"
               for name in part["parameters"]}
    assert trained == {"_actor_network", "_critic_networks", "_value_network"}


def test_single_steps_are_refused():
    algorithm = make()
    inputs, rollout_info = nest.map_structure(lambda leaf: leaf[:1], batch())
    with pytest.raises(ValueError, match="expected sequences of 2 steps or more, got 1.*mini_batch_length=2"):
        algorithm.train_sequence(inputs, rollout_info)


def test_an_expectile_out_of_range_is_refused():
    with pytest.raises(ValueError, match="IqlAlgorithm.expectile: expected 0 < expectile < 1, got 1.0"):
        make(expectile=1.0)


def test_acting_takes_the_mode_and_rollout_samples():
    algorithm = make(epsilon_greedy=0.0)
    inputs = nest.map_structure(lambda leaf: leaf[0], batch()[0])
    action = algorithm.predict_step(inputs, IqlState()).output
    torch.testing.assert_close(action, algorithm._actor_network(inputs.observation)[0].mode)
    step = algorithm.rollout_step(inputs, IqlState())
    assert not torch.equal(step.output, action)
    assert isinstance(step.info, IqlInfo) and step.info.action is step.output


def test_recurrent_networks_carry_their_states():
    algorithm = make(
        actor_network_cls=functools.partial(ActorDistributionRNNNetwork, lstm_hidden_size=(4,)),
        critic_network_cls=functools.partial(CriticRNNNetwork, lstm_hidden_size=(4,)),
        v_network_cls=functools.partial(ValueRNNNetwork, lstm_hidden_size=(4,)))
    inputs, rollout_info = nest.map_structure(lambda leaf: leaf[0], batch())
    state = algorithm.get_initial_train_state(B)
    step = algorithm.train_step(inputs, state, rollout_info)
    nest.assert_same_structure(step.state, algorithm.train_state_spec)
    assert all(bool(leaf.abs().sum() > 0) for leaf in nest.flatten(step.state))
    algorithm.use_rollout_state = True
    rolled = algorithm.rollout_step(inputs, state)
    assert all(bool(leaf.abs().sum() > 0) for leaf in nest.flatten(rolled.state))
    algorithm.use_rollout_state = False
    rolled = algorithm.rollout_step(inputs, state)
    assert all(bool(leaf.abs().sum() == 0) for leaf in nest.flatten(rolled.state.critic))


def test_discrete_actions_are_refused_with_what_handles_them():
    action_spec = BoundedTensorSpec((), torch.int64, 0, 3)
    with pytest.raises(ValueError, match="IqlAlgorithm.action_spec: expected continuous actions, .*BcAlgorithm"):
        IqlAlgorithm(OBSERVATION, action_spec)
