"""Learning from the graph of an unroll."""

import functools

import pytest
import torch

from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.actor_critic_loss import ActorCriticLoss
from alf.algorithms.agent import Agent
from alf.algorithms.data_transformer import ObservationNormalizer
from alf.nest import flatten
from alf.optimizers import SGD
from alf.utils import common, dist_utils


def make(env, config, networks, **kwargs):
    return ActorCriticAlgorithm(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env, config=config,
                                optimizer=SGD(lr=0.1), loss=ActorCriticLoss(entropy_regularization=0.01),
                                **networks, **kwargs)


def unroll_loss(algorithm, num_steps):
    """Return an unroll and its total loss with graph."""
    with torch.enable_grad():
        experience = algorithm.unroll(num_steps)
        loss = algorithm.calc_loss(experience.rollout_info).loss
    masks = experience.step_type != 2
    masks[-1] = False
    return experience, (loss * masks).sum() / masks.sum()


def recomputed_loss(algorithm, experience, state):
    """Return the same loss with every step computed anew, from ``state`` on."""
    zero = algorithm.get_initial_rollout_state(2)
    infos = []
    for t in range(experience.step_type.shape[0]):
        state = common.reset_state_if_necessary(state, zero, experience.step_type[t] == 0)
        dist, actor_state = algorithm._actor_network(experience.observation[t], state=state.actor)
        value, value_state = algorithm._value_network(experience.observation[t], state=state.value)
        state = type(state)(actor=actor_state, value=value_state)
        infos.append((dist_utils.compute_log_probability(dist, experience.action[t]), value,
                      dist_utils.compute_entropy(dist)))
    log_prob, value, entropy = (torch.stack(column) for column in zip(*infos))
    r, d, last = experience.reward, experience.discount, experience.step_type == 2
    returns = value.detach().clone()
    for t in reversed(range(r.shape[0] - 1)):
        returns[t] = torch.where(last[t], returns[t], r[t + 1] + 0.99 * d[t + 1] * returns[t + 1])
    loss = -(returns - value.detach()) * log_prob + (returns - value) ** 2 - 0.01 * entropy
    masks = ~last
    masks[-1] = False
    return (loss * masks).sum() / masks.sum()


@pytest.mark.parametrize("recurrent", [False, True])
def test_gradient_through_the_unroll_equals_that_of_recomputed_steps(scripted_env, make_config, networks, recurrent):
    algorithm = make(scripted_env(episode_lengths=((9, 4), (7, 5))), make_config(unroll_length=5),
                     networks[recurrent])
    for _ in range(3):
        has_begun = algorithm._unroll is not None
        begin = algorithm._unroll._parts[0].policy_state if has_begun else algorithm.get_initial_rollout_state(2)
        begin = common.detach(begin)
        experience, loss = unroll_loss(algorithm, 5)
        expected_loss = recomputed_loss(algorithm, experience, begin)
        torch.testing.assert_close(loss, expected_loss)
        parameters = list(algorithm.parameters())
        expected = torch.autograd.grad(expected_loss, parameters)
        torch.testing.assert_close(torch.autograd.grad(loss, parameters), expected, rtol=1e-4, atol=1e-6)


def test_gradient_of_states_goes_back_to_the_beginning_of_the_unroll_and_no_further(scripted_env, make_config,
                                                                                  networks):
    algorithm = make(scripted_env(episode_lengths=((50,), (50,))), make_config(unroll_length=4), networks[True])
    weight = next(algorithm._value_network.parameters())
    for _ in range(2):
        with torch.enable_grad():
            experience = algorithm.unroll(4)
        state = flatten(algorithm._unroll._parts[0].policy_state.value)[0]
        (gradient,) = torch.autograd.grad(state.sum(), weight, retain_graph=True)
        assert gradient.abs().sum() > 0
        # This frees the graph, so the next backward would fail if it reached into this unroll.
        algorithm.calc_loss(experience.rollout_info).loss.sum().backward()


def test_one_iteration_is_one_gradient_step(scripted_env, make_config, networks):
    algorithm = make(scripted_env(), make_config(unroll_length=5), networks[False])
    before = [p.detach().clone() for p in algorithm.parameters()]
    kept = {}
    train_from_unroll = algorithm.train_from_unroll

    def spy(experience, info):
        loss = algorithm.calc_loss(info).loss
        masks = experience.step_type != 2
        masks[-1] = False
        mean = loss[masks].mean()
        kept["grads"] = torch.autograd.grad(mean, list(algorithm.parameters()), retain_graph=True)
        return train_from_unroll(experience, info)

    algorithm.train_from_unroll = spy
    assert algorithm.train_iter() == 10
    for p, old, grad in zip(algorithm.parameters(), before, kept["grads"]):
        torch.testing.assert_close(p.detach(), old - 0.1 * grad, rtol=1e-4, atol=1e-6)


def test_on_policy_counts_one_step_of_summaries_an_iteration(scripted_env, make_config, networks):
    from alf import summary
    for every_mini_batch in (False, True):
        summary.reset_global_counter()
        config = make_config(unroll_length=2, update_counter_every_mini_batch=every_mini_batch)
        algorithm = make(scripted_env(), config, networks[False])
        for _ in range(3):
            algorithm.train_iter()
        assert summary.get_global_counter() == 3


def test_agent_of_a2c_is_on_policy_and_equals_a2c(scripted_env, make_config, networks):
    updated = []
    for cls in ("alone", "agent"):
        torch.manual_seed(5)
        env, config = scripted_env(), make_config(unroll_length=4)
        a2c = functools.partial(ActorCriticAlgorithm, loss=ActorCriticLoss(), **networks[True])
        if cls == "agent":
            algorithm = Agent(env.observation_spec(), env.action_spec(), env=env, config=config, rl_algorithm_cls=a2c,
                              optimizer=SGD(lr=0.1))
        else:
            algorithm = a2c(env.observation_spec(), env.action_spec(), env=env, config=config, optimizer=SGD(lr=0.1))
        assert algorithm.on_policy
        for _ in range(3):
            algorithm.train_iter()
        updated.append(torch.cat([p.detach().flatten() for p in algorithm.parameters()]))
    torch.testing.assert_close(*updated)


def test_policy_cannot_be_turned_against_its_kind(scripted_env, make_config, networks):
    algorithm = make(scripted_env(), make_config(), networks[False], name="A2C")
    algorithm.set_on_policy(True)
    with pytest.raises(ValueError, match="A2C: cannot be used off-policy"):
        algorithm.set_on_policy(False)


@pytest.mark.parametrize("update_mode", ["replay", "rollout"])
def test_normalizer_learns_from_the_unroll_whatever_its_mode(scripted_env, make_config, networks, update_mode):
    """An on-policy algorithm replays nothing: statistics that waited for it would never change."""
    env = scripted_env()
    config = make_config(unroll_length=4)
    config.data_transformer = ObservationNormalizer(env.observation_spec(), update_mode=update_mode)
    algorithm = make(env, config, networks[False])
    before = [buffer.clone() for buffer in config.data_transformer.buffers()]
    algorithm.train_iter()
    after = list(config.data_transformer.buffers())
    assert any(not torch.equal(old, new) for old, new in zip(before, after))
