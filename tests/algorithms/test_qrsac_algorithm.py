"""QrsacAlgorithm: quantiles of critics, their minimum, and the losses made of them."""

import functools

import pytest
import torch

from alf.algorithms._actor_critic.action_values import pessimistic_quantiles
from alf.algorithms._training.sequences import step_at_once
from alf.algorithms.one_step_loss import OneStepTDQRLoss
from alf.algorithms.qrsac_algorithm import QrsacAlgorithm
from alf.algorithms.sac_algorithm import SacInfo
from alf.data_structures import TimeStep
from alf.networks import ActorDistributionNetwork, CriticNetwork, NormalProjectionNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

OBSERVATION, ACTION = TensorSpec((3,)), BoundedTensorSpec((2,), torch.float32, -1, 1)
SQUASHED = functools.partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True)


def make_algorithm(**kwargs):
    return QrsacAlgorithm(
        OBSERVATION,
        ACTION,
        actor_network_cls=functools.partial(
            ActorDistributionNetwork, fc_layer_params=(8,), continuous_projection_net_ctor=SQUASHED),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8,)),
        critic_loss_ctor=functools.partial(OneStepTDQRLoss, num_quantiles=4, gamma=0.9),
        target_entropy=-1.0,
        **kwargs)


def make_batch(num_steps=2, batch_size=5, reward_shape=()):
    torch.manual_seed(0)
    outer = (num_steps, batch_size)
    time_step = TimeStep(
        step_type=torch.ones(outer, dtype=torch.int32),
        reward=torch.randn(outer + reward_shape),
        discount=(torch.rand(outer) > 0.2).float(),
        observation=torch.randn(*outer, 3))
    return time_step, SacInfo(action=torch.rand(*outer, 2) * 2 - 1)


@pytest.fixture
def fixed_noise(monkeypatch):
    monkeypatch.setattr(dist_utils.DiagMultivariateNormal, "_noise",
                        lambda self, sample_shape: torch.sin(1000 * self.loc.detach()))


def gradients(algorithm, info):
    algorithm.zero_grad()
    loss = algorithm.calc_loss(info).loss
    loss.mean().backward()
    return loss, {name: p.grad for name, p in algorithm.named_parameters() if p.grad is not None}


def test_lowest_quantiles_by_hand():
    values = torch.tensor([[[1.0, 9.0], [3.0, 4.0]]])
    assert pessimistic_quantiles(values, by_mean=False).tolist() == [[1.0, 4.0]]
    assert pessimistic_quantiles(values, by_mean=True).tolist() == [[3.0, 4.0]]


def test_quantiles_of_a_component_that_counts_negatively_are_the_highest():
    values = torch.tensor([[[[1.0, 9.0]] * 2, [[3.0, 4.0]] * 2]])
    weights = torch.tensor([1.0, -1.0])
    assert pessimistic_quantiles(values, False, weights).tolist() == [[[1.0, 4.0], [3.0, 9.0]]]
    assert pessimistic_quantiles(values, True, weights).tolist() == [[[3.0, 4.0], [1.0, 9.0]]]


@pytest.mark.parametrize("min_critic_by_critic_mean", [False, True])
def test_critic_loss_is_that_of_the_lowest_target_quantiles(fixed_noise, min_critic_by_critic_mean):
    algorithm = make_algorithm(min_critic_by_critic_mean=min_critic_by_critic_mean, use_entropy_reward=True)
    with torch.no_grad():
        for p in algorithm._target_critic_networks.parameters():
            p.normal_()
    time_step, rollout_info = make_batch()
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, rollout_info))
    action, log_pi = dist_utils.rsample_action_distribution(
        algorithm._actor_network(time_step.observation[1])[0], return_log_prob=True)
    quantiles, _ = algorithm._target_critic_networks((time_step.observation[1], action))
    lowest = pessimistic_quantiles(quantiles, min_critic_by_critic_mean) - log_pi.unsqueeze(-1)
    target = time_step.reward[1].unsqueeze(-1) + 0.9 * time_step.discount[1].unsqueeze(-1) * lowest
    values, _ = algorithm._critic_networks((time_step.observation[0], rollout_info.action[0]))
    tau = torch.tensor([0.125, 0.375, 0.625, 0.875])
    expected = 0
    for i in range(2):
        u = target.unsqueeze(1) - values[:, i].unsqueeze(2)
        huber = torch.where(u.abs() <= 1, 0.5 * u * u, u.abs() - 0.5)
        expected = expected + ((tau.unsqueeze(1) - (u < 0).float()).abs() * huber).mean((1, 2))
    torch.testing.assert_close(loss.extra.critic[0], expected)


def test_actor_climbs_the_mean_of_the_quantiles(fixed_noise):
    algorithm = make_algorithm()
    time_step, rollout_info = make_batch()
    _, grads = gradients(algorithm, algorithm.train_sequence(time_step, rollout_info))
    observation = time_step.observation[0]
    action, log_pi = dist_utils.rsample_action_distribution(
        algorithm._actor_network(observation)[0], return_log_prob=True)
    value = algorithm._critic_networks((observation, action))[0].min(1).values.mean(-1)
    expected = torch.autograd.grad((log_pi - value).sum() / 10, list(algorithm._actor_network.parameters()))
    for (name, _), grad in zip(algorithm._actor_network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(grads[f"_actor_network.{name}"], grad)


@pytest.mark.parametrize("reward_shape", [(), (2,)])
def test_sequences_at_once_have_the_gradients_of_single_steps(fixed_noise, reward_shape):
    algorithm = make_algorithm(reward_spec=TensorSpec(reward_shape), use_entropy_reward=True)
    batch = make_batch(num_steps=3, reward_shape=reward_shape)
    loss, grads = gradients(algorithm, algorithm.train_sequence(*batch))
    expected_loss, expected = gradients(
        algorithm, step_at_once(algorithm.train_step, *batch, algorithm.get_initial_train_state(1)))
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(grads, expected)


def test_discrete_actions_are_refused():
    with pytest.raises(ValueError, match="expected continuous actions"):
        QrsacAlgorithm(OBSERVATION, BoundedTensorSpec((), torch.int64, 0, 3))
