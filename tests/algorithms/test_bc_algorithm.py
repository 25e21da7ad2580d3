"""Behavioral cloning: losses computed by hand, for actors that put out an action or a distribution of it."""

import functools

import pytest
import torch

from alf.algorithms.bc_algorithm import BcAlgorithm, BcState, squared_error
from alf.data_structures import BasicRLInfo, StepType, restart
from alf.nest import flatten
from alf.networks import ActorDistributionNetwork, ActorNetwork, ActorRNNNetwork, NormalProjectionNetwork
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

OBSERVATION = TensorSpec((2,))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)


def time_step(observation):
    return restart(observation, ACTION, batched=True)._replace(
        step_type=torch.full((len(observation),), int(StepType.MID), dtype=torch.int32))


def make(actor, action_spec=ACTION, **kwargs):
    return BcAlgorithm(OBSERVATION, action_spec, actor_network_cls=actor, **kwargs)


def train_step(algorithm, observation, action):
    return algorithm.train_step_offline(time_step(observation), BcState(), BasicRLInfo(action=action))


def test_a_deterministic_actor_is_trained_by_the_squared_error():
    algorithm = make(functools.partial(ActorNetwork, fc_layer_params=(4,)))
    observation, action = torch.randn(3, 2), torch.rand(3, 2) * 2 - 1
    step = train_step(algorithm, observation, action)
    predicted = algorithm.predict_step(time_step(observation), BcState()).output.detach()
    by_hand = [sum((float(predicted[b, i]) - float(action[b, i])) ** 2 for i in range(2)) / 2 for b in range(3)]
    torch.testing.assert_close(step.info.loss, torch.tensor(by_hand))
    loss = algorithm.calc_loss_offline(step.info)
    assert loss.loss is step.info.loss


def test_errors_of_several_actions_are_added():
    predicted = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([3.0])}
    action = {"a": torch.tensor([[0.0, 0.0]]), "b": torch.tensor([1.0])}
    assert squared_error(predicted, action).tolist() == [2.5 + 4.0]


def test_a_distribution_is_trained_by_the_likelihood_of_the_stored_action():
    projection = functools.partial(NormalProjectionNetwork, state_dependent_std=True)
    algorithm = make(functools.partial(ActorDistributionNetwork, continuous_projection_net_ctor=projection))
    observation, action = torch.randn(3, 2), torch.rand(3, 2)
    info = train_step(algorithm, observation, action).info
    distribution, _ = algorithm._actor_network(observation)
    z = (action - distribution.base_dist.loc if hasattr(distribution, "base_dist") else action - distribution.loc)
    scale = distribution.base_dist.scale if hasattr(distribution, "base_dist") else distribution.scale
    by_hand = (0.5 * (z / scale) ** 2 + scale.log() + 0.5 * torch.log(torch.tensor(2 * torch.pi))).sum(-1)
    torch.testing.assert_close(info.loss, by_hand)


def test_discrete_actions_are_trained_by_their_cross_entropy():
    spec = BoundedTensorSpec((), torch.int64, 0, 3)
    algorithm = make(ActorDistributionNetwork, spec)
    observation, action = torch.randn(5, 2), torch.tensor([0, 1, 2, 3, 1])
    info = train_step(algorithm, observation, action).info
    probs = algorithm._actor_network(observation)[0].probs
    torch.testing.assert_close(info.loss, -probs[range(5), action].log())


def test_epsilon_zero_takes_the_mode():
    algorithm = make(ActorDistributionNetwork, epsilon_greedy=0.0)
    observation = torch.randn(3, 2)
    action = algorithm.predict_step(time_step(observation), BcState()).output
    torch.testing.assert_close(action, algorithm._actor_network(observation)[0].mode)


def test_a_recurrent_actor_carries_its_state():
    algorithm = make(functools.partial(ActorRNNNetwork, lstm_hidden_size=(3,)))
    state = algorithm.get_initial_train_state(2)
    observation = torch.randn(2, 2)
    step = algorithm.train_step_offline(time_step(observation), state, BasicRLInfo(action=torch.zeros(2, 2)))
    assert all(bool(leaf.abs().sum() > 0) for leaf in flatten(step.state))
    again = algorithm.train_step_offline(time_step(observation), step.state, BasicRLInfo(action=torch.zeros(2, 2)))
    assert not torch.equal(step.info.loss, again.info.loss)


def test_its_optimizer_trains_the_actor():
    algorithm = make(functools.partial(ActorNetwork, fc_layer_params=(16,)), actor_optimizer=Adam(lr=0.01))
    observation = torch.randn(16, 2)
    action = observation.tanh()
    losses = []
    for _ in range(100):
        info = train_step(algorithm, observation, action).info
        loss_info = algorithm.calc_loss_offline(info)
        losses.append(float(loss_info.loss.detach().mean()))
        algorithm.update_with_gradient(loss_info)
    assert losses[-1] < 0.1 * losses[0]


def test_a_run_that_acts_to_learn_is_refused(make_config):
    with pytest.raises(ValueError, match="TrainerConfig.unroll_length: expected 0 for BcAlgorithm.*got 8"):
        make(ActorNetwork, config=make_config(unroll_length=8))
