"""Algorithms find the known answers of tiny environments."""

import functools

import pytest
import torch

from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.actor_critic_loss import ActorCriticLoss
from alf.algorithms.agent import Agent
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.algorithms.ppo_loss import PPOLoss
from alf.environments.suite_unittest import (
    ActionType,
    MixedPolicyUnittestEnv,
    PolicyUnittestEnv,
    RNNPolicyUnittestEnv,
    ValueUnittestEnv,
)
from alf.networks import ActorDistributionNetwork, ActorDistributionRNNNetwork, ValueNetwork, ValueRNNNetwork
from alf.optimizers import Adam
from alf.utils.common import reset_state_if_necessary


def make(cls, env, config, recurrent=False, in_agent=False, lr=0.02, **loss_kwargs):
    loss_cls = PPOLoss if cls is PPOAlgorithm else ActorCriticLoss
    if recurrent:
        nets = dict(
            actor_network_ctor=functools.partial(ActorDistributionRNNNetwork, lstm_hidden_size=(8,)),
            value_network_ctor=functools.partial(ValueRNNNetwork, lstm_hidden_size=(8,)))
    else:
        nets = dict(
            actor_network_ctor=functools.partial(ActorDistributionNetwork, fc_layer_params=(16,)),
            value_network_ctor=functools.partial(ValueNetwork, fc_layer_params=(16,)))
    ctor = functools.partial(cls, loss=loss_cls(**loss_kwargs), **nets)
    kwargs = dict(env=env, config=config, optimizer=Adam(lr=lr))
    if in_agent:
        return Agent(env.observation_spec(), env.action_spec(), rl_algorithm_cls=ctor, **kwargs)
    return ctor(env.observation_spec(), env.action_spec(), **kwargs)


@torch.no_grad()
def mean_reward(algorithm, env, num_steps):
    """Return the mean reward of ``predict_step`` over the transitions that can be rewarded."""
    algorithm.eval()
    time_step = env.reset()
    zero = state = algorithm.get_initial_predict_state(env.batch_size)
    rewards = []
    for _ in range(num_steps):
        state = reset_state_if_necessary(state, zero, time_step.is_first())
        step = algorithm.predict_step(time_step, state)
        state = step.state
        time_step = env.step(step.output)
        rewards.append(time_step.reward[~time_step.is_first()])
    return float(torch.cat(rewards).mean())


BOTH = pytest.mark.parametrize("cls,in_agent", [(ActorCriticAlgorithm, False), (PPOAlgorithm, False),
                                                (PPOAlgorithm, True)])


@BOTH
@pytest.mark.parametrize("action_type", list(ActionType))
def test_policy_repeats_the_observation(make_config, cls, in_agent, action_type):
    env = PolicyUnittestEnv(20, 6, action_type=action_type)
    algorithm = make(cls, env, make_config(unroll_length=8, mini_batch_length=1, mini_batch_size=80),
                     in_agent=in_agent, gamma=0.5)
    for _ in range(150 if cls is ActorCriticAlgorithm else 30):
        algorithm.train_iter()
    assert mean_reward(algorithm, env, 30) > 0.9


@BOTH
def test_policy_is_found_in_mixed_precision(make_config, cls, in_agent):
    env = PolicyUnittestEnv(20, 6, action_type=ActionType.Continuous)
    algorithm = make(cls, env, make_config(unroll_length=8, mini_batch_length=1, mini_batch_size=80, enable_amp=True),
                     in_agent=in_agent, gamma=0.5)
    for _ in range(150 if cls is ActorCriticAlgorithm else 30):
        algorithm.train_iter()
    assert algorithm._learner.mixed_precision is not None
    assert mean_reward(algorithm, env, 30) > 0.9


@BOTH
def test_policy_of_mixed_actions(make_config, cls, in_agent):
    env = MixedPolicyUnittestEnv(20, 6)
    algorithm = make(cls, env, make_config(unroll_length=8, mini_batch_length=1, mini_batch_size=80),
                     in_agent=in_agent, gamma=0.5)
    for _ in range(150 if cls is ActorCriticAlgorithm else 40):
        algorithm.train_iter()
    assert mean_reward(algorithm, env, 30) > 0.9


@pytest.mark.parametrize("cls", [ActorCriticAlgorithm, PPOAlgorithm])
@pytest.mark.parametrize("recurrent", [True, False])
def test_remembering_takes_a_recurrent_network(make_config, cls, recurrent):
    env = RNNPolicyUnittestEnv(40, 4, gap=2)
    algorithm = make(cls, env, make_config(unroll_length=8, mini_batch_length=8, mini_batch_size=40), recurrent,
                     lr=0.05, gamma=0.9)
    for _ in range(60 if cls is ActorCriticAlgorithm else 20):
        algorithm.train_iter()
    # Of the three transitions of an episode only the last is rewarded.
    reward = 3 * mean_reward(algorithm, env, 40)
    assert reward > 0.95 if recurrent else reward < 0.7


@pytest.mark.parametrize("cls", [ActorCriticAlgorithm, PPOAlgorithm])
def test_value_is_the_discounted_sum_of_rewards(make_config, cls):
    gamma = 0.8
    # The position in the episode is all that the value depends on; a recurrent network counts it.
    env = ValueUnittestEnv(8, 4)
    algorithm = make(cls, env, make_config(unroll_length=8, mini_batch_length=8, mini_batch_size=8), recurrent=True,
                     lr=0.02, gamma=gamma)
    for _ in range(200 if cls is ActorCriticAlgorithm else 60):
        algorithm.train_iter()
    with torch.no_grad():
        experience = algorithm.unroll(8)
    value, step_type = experience.rollout_info.value[:, 0], experience.step_type[:, 0]
    begin = int((step_type == 0).nonzero()[0])
    expected = [1 + gamma + gamma**2, 1 + gamma, 1.0]
    assert value[begin:begin + 3].tolist() == pytest.approx(expected, abs=0.1)


def test_value_of_an_endless_task_is_bootstrapped(make_config):
    gamma = 0.8

    class Endless(ValueUnittestEnv):
        """Episodes are cut by a time limit: they do not terminate."""

        def _step(self, action):
            time_step = super()._step(action)
            return time_step._replace(discount=torch.ones_like(time_step.discount))

    algorithm = make(PPOAlgorithm, Endless(8, 5), make_config(unroll_length=8, mini_batch_length=1, mini_batch_size=32),
                     gamma=gamma)
    for _ in range(60):
        algorithm.train_iter()
    value = algorithm.unroll(4).rollout_info.value
    assert value.mean().item() == pytest.approx(1 / (1 - gamma), abs=0.3)
