"""OacAlgorithm: where its rollouts look, by the formula and by numbers."""

import functools
import math

import pytest
import torch

from alf.algorithms._actor_critic.optimism import optimistic_shift
from alf.algorithms.oac_algorithm import OacAlgorithm, dist_transform_action, prepare_critic_action
from alf.algorithms.sac_algorithm import SacState
from alf.data_structures import TimeStep
from alf.nest.utils import NestConcat
from alf.networks import ActorDistributionNetwork, BetaProjectionNetwork, CriticNetwork, NormalProjectionNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

OBSERVATION, ACTION = TensorSpec((3,)), BoundedTensorSpec((2,), torch.float32, -1, 1)
SQUASHED = functools.partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True)


def make_algorithm(action_spec=ACTION, projection=SQUASHED, **kwargs):
    return OacAlgorithm(
        OBSERVATION,
        action_spec,
        actor_network_cls=functools.partial(
            ActorDistributionNetwork, fc_layer_params=(8,), continuous_projection_net_ctor=projection),
        critic_network_cls=functools.partial(
            CriticNetwork,
            joint_fc_layer_params=(8,),
            action_preprocessing_combiner=NestConcat() if isinstance(action_spec, list) else None),
        **kwargs)


def time_step(batch_size=5):
    torch.manual_seed(0)
    return TimeStep(step_type=torch.ones(batch_size, dtype=torch.int32), observation=torch.randn(batch_size, 3))


def test_shift_by_hand():
    gradient, scale = torch.tensor([[3.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.5, 0.5], [1.0, 0.5]])
    shift, = optimistic_shift([gradient], [scale], delta=2.0)
    # sqrt(2 * 2) = 2; |scale * gradient| is 1.5 and sqrt(3^2 + 2^2).
    norm = math.sqrt(13)
    expected = [[2 * 0.25 * 3 / 1.5, 0.0], [2 * 1.0 * 3 / norm, 2 * 0.25 * 4 / norm]]
    torch.testing.assert_close(shift, torch.tensor(expected))


def test_shift_has_the_divergence_it_may_have():
    torch.manual_seed(0)
    gradients, scales = list(torch.randn(2, 4, 3)), list(torch.rand(2, 4, 3) + 0.1)
    shifts = optimistic_shift(gradients, scales, delta=0.7)
    divergence = sum(0.5 * (shift / scale).square().sum(-1) for shift, scale in zip(shifts, scales, strict=True))
    torch.testing.assert_close(divergence, torch.full((4,), 0.7))


def test_no_gradient_no_shift():
    shift, = optimistic_shift([torch.zeros(2, 3)], [torch.ones(2, 3)], delta=1.0)
    assert not shift.any()


def test_rollout_samples_around_the_optimistic_mean(monkeypatch):
    monkeypatch.setattr(torch, "normal", lambda mean, scale: mean)
    algorithm = make_algorithm(explore_delta=0.5, beta_ub=3.0)
    inputs = time_step()
    action = algorithm.rollout_step(inputs, SacState()).output
    distribution, _ = algorithm._actor_network(inputs.observation)
    mean = distribution.loc.detach().requires_grad_()
    values, _ = algorithm._critic_networks((inputs.observation, mean.tanh()))
    upper_bound = values.mean(1) + 3.0 * (values[:, 0] - values[:, 1]).abs() / 2
    gradient, = torch.autograd.grad(upper_bound.sum(), mean)
    variance = distribution.scale.square()
    norm = (variance * gradient.square()).sum(-1, keepdim=True).sqrt()
    expected = (mean + math.sqrt(2 * 0.5) * variance * gradient / norm).tanh()
    torch.testing.assert_close(action, expected, atol=1e-5, rtol=1e-4)


def test_prediction_is_not_optimistic():
    algorithm = make_algorithm(explore_delta=50.0)
    inputs = time_step()
    mode = algorithm._actor_network(inputs.observation)[0].mode
    torch.testing.assert_close(algorithm.predict_step(inputs, SacState()).output, mode)


def test_rollout_needs_no_graph_and_leaves_none():
    algorithm = make_algorithm([ACTION, ACTION])
    with torch.no_grad():
        step = algorithm.rollout_step(time_step(), SacState())
    assert [action.requires_grad for action in step.output] == [False, False]
    assert all(action.abs().max() <= 1 for action in step.output)
    assert all(p.grad is None for p in algorithm.parameters())


def test_vector_reward_is_weighed():
    algorithm = make_algorithm(reward_spec=TensorSpec((2,)), beta_ub=2.0)
    algorithm.set_reward_weights(torch.tensor([1.0, 0.0]))
    values = torch.randn(4, 2, 2)
    expected = values[..., 0].mean(1) + 2.0 * (values[:, 0, 0] - values[:, 1, 0]).abs() / 2
    torch.testing.assert_close(algorithm._upper_bound(values), expected)


def test_action_is_transformed_as_the_distribution_does():
    distribution = algorithm_distribution = make_algorithm()._actor_network(torch.zeros(1, 3))[0]
    value = torch.tensor([[0.3, -2.0]])
    torch.testing.assert_close(dist_transform_action(value, distribution), value.tanh())
    plain = dist_utils.DiagMultivariateNormal(algorithm_distribution.loc, algorithm_distribution.scale)
    assert dist_transform_action(value, plain) is value


def test_critic_action_is_a_leaf():
    action = prepare_critic_action({"a": torch.zeros(2, requires_grad=True) * 2})["a"]
    assert action.is_leaf and action.requires_grad


def test_discrete_actions_and_other_distributions_are_refused():
    with pytest.raises(ValueError, match="expected continuous actions"):
        make_algorithm(BoundedTensorSpec((), torch.int64, 0, 3))
    algorithm = make_algorithm(projection=BetaProjectionNetwork)
    with pytest.raises(ValueError, match="expected normal distributions"):
        algorithm.rollout_step(time_step(), SacState())
