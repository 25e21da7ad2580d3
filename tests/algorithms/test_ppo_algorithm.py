"""PPO: advantages against a naive loop, and what training sees of a policy that has not changed."""

import functools

import pytest
import torch

import alf
from alf.algorithms.agent import Agent
from alf.algorithms.data_transformer import FrameStacker
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.algorithms.ppo_loss import PPOLoss
from alf.networks import ActorDistributionNetwork, NormalProjectionNetwork
from alf.optimizers import SGD
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

CONTINUOUS = BoundedTensorSpec((2,), torch.float32, -1, 1)
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 2)


def naive_gae(reward, value, step_type, discount, gamma, lam):
    """Return advantages ``[T, B]`` of the first T of T + 1 rows, environment by environment, from the definition."""
    num_rows, num_envs = reward.shape
    result = torch.zeros(num_rows - 1, num_envs)
    for b in range(num_envs):
        for t in range(num_rows - 1):
            weight, advantage = 1.0, 0.0
            for k in range(t, num_rows - 1):
                if step_type[k, b] == 2:
                    break
                target = reward[k + 1, b] + gamma * discount[k + 1, b] * value[k + 1, b]
                advantage += weight * (target - value[k, b])
                weight *= gamma * lam * discount[k + 1, b]
            result[t, b] = advantage
    return result


def make(env, config, networks, lr=0.0, cls=PPOAlgorithm, **kwargs):
    return cls(env.observation_spec(), env.action_spec(), env.reward_spec(), env=env, config=config,
               optimizer=SGD(lr=lr), **networks, **kwargs)


def test_advantages_equal_a_naive_loop_over_environments(scripted_env, make_config, networks):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=9), networks[False],
                     loss=PPOLoss(gamma=0.9, td_lambda=0.8))
    for _ in range(3):
        experience = algorithm.unroll(9)
        info = experience.rollout_info
        batch_major = [leaf.transpose(0, 1) for leaf in info if isinstance(leaf, torch.Tensor)]
        fields = [name for name, leaf in zip(info._fields, info) if isinstance(leaf, torch.Tensor)]
        info_b = type(info)(**dict(zip(fields, batch_major)))
        inputs = experience.time_step._replace(
            **{name: getattr(experience.time_step, name).transpose(0, 1)
               for name in ("step_type", "reward", "discount", "observation", "prev_action", "env_id")})
        new_inputs, new_info = algorithm.preprocess_experience(inputs, info_b, ())
        rows = [env.time_step_at(int(t)) for t in experience.observation[:, 0, 0]]
        expected = naive_gae(*[torch.stack(x) for x in ([r.reward for r in rows], list(info.value),
                                                        [r.step_type for r in rows], [r.discount for r in rows])],
                             gamma=0.9, lam=0.8)
        torch.testing.assert_close(new_info.advantages.transpose(0, 1), expected)
        torch.testing.assert_close(new_info.returns, new_info.advantages + info_b.value[:, :-1])
        assert torch.equal(new_inputs.observation, inputs.observation[:, :-1])


def test_actions_of_others_have_no_ratio(scripted_env, make_config, networks):
    alf.config("RLAlgorithm", overwrite_policy_output=True)
    try:
        algorithm = make(scripted_env(), make_config(unroll_length=4), networks[False])
    finally:
        alf.reset_configs()
    with pytest.raises(ValueError, match="overwrite_policy_output=True: .* learns from how probable its own actions"):
        algorithm.train_iter()


def test_a_reward_of_one_component_is_learned_with_its_weight(scripted_env, make_config, networks):
    env = scripted_env()
    algorithm = PPOAlgorithm(env.observation_spec(), env.action_spec(), TensorSpec((1,)), **networks[False],
                             reward_weights=[2.0])
    assert algorithm.has_multidim_reward() and algorithm.reward_weights.tolist() == [2.0]


class Spy(PPOLoss):
    """Remembers what it is given."""

    def __init__(self, **kwargs):
        super().__init__(normalize_advantages=False, **kwargs)
        self.given = []
        self.ratios = []

    def calc_loss(self, info):
        self.given.append(info)
        if info.log_prob != ():
            log_prob = dist_utils.compute_log_probability(info.action_distribution, info.action)
            self.ratios.append((log_prob - info.log_prob).detach().exp())
        return super().calc_loss(info)


@pytest.mark.parametrize("action_spec", [DISCRETE, CONTINUOUS, [DISCRETE, CONTINUOUS]])
@pytest.mark.parametrize("in_agent", [False, True])
def test_ratio_is_one_while_parameters_have_not_changed(scripted_env, make_config, networks, action_spec, in_agent):
    env = scripted_env(action_spec=action_spec)
    config = make_config(unroll_length=6, mini_batch_length=1, mini_batch_size=5)
    loss = Spy()
    if in_agent:
        agent_ppo = functools.partial(PPOAlgorithm, loss=loss, **networks[False])
        algorithm = make(env, config, {}, cls=Agent, rl_algorithm_cls=agent_ppo)
    else:
        algorithm = make(env, config, networks[False], loss=loss)
    for _ in range(3):
        algorithm.train_iter()
    torch.testing.assert_close(torch.cat(loss.ratios, 1), torch.ones(1, 3 * 4 * 12), rtol=0, atol=1e-5)


@pytest.mark.parametrize("use_rollout_state", [True, False])
def test_recurrent_ratio_is_one_if_training_begins_from_the_stored_state(scripted_env, make_config, networks,
                                                                        use_rollout_state):
    env = scripted_env(episode_lengths=((9, 4), (7, 5)))
    config = make_config(unroll_length=4, mini_batch_length=4, use_rollout_state=use_rollout_state,
                         num_updates_per_train_iter=1)
    loss = Spy()
    algorithm = make(env, config, networks[True], loss=loss)
    for _ in range(6):
        algorithm.train_iter()
    error = torch.stack(loss.ratios).sub(1).abs().max()
    assert (error < 1e-5) == use_rollout_state


def test_recurrent_ratio_is_one_for_short_sequences_from_the_stored_state(scripted_env, make_config, networks):
    env = scripted_env(episode_lengths=((9, 4), (7, 5)))
    config = make_config(unroll_length=6, mini_batch_length=2, mini_batch_size=3, use_rollout_state=True)
    loss = Spy()
    algorithm = make(env, config, networks[True], loss=loss)
    for _ in range(4):
        algorithm.train_iter()
    torch.testing.assert_close(torch.cat(loss.ratios, 1), torch.ones(2, 4 * 4 * 6), rtol=0, atol=1e-5)


def test_ratio_is_one_with_stacked_frames(scripted_env, make_config, networks):
    env = scripted_env(episode_lengths=((9, 4), (7, 5)))
    config = make_config(unroll_length=2, mini_batch_length=1)
    config.data_transformer = FrameStacker(env.observation_spec(), stack_size=4)
    loss = Spy()
    algorithm = PPOAlgorithm(config.data_transformer.transformed_observation_spec, env.action_spec(), env=env,
                             config=config, optimizer=SGD(lr=0.0), loss=loss, **networks[False])
    for _ in range(6):
        algorithm.train_iter()
    ratios = torch.cat(loss.ratios, 1)
    torch.testing.assert_close(ratios, torch.ones_like(ratios), rtol=0, atol=1e-5)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("internally", [False, True])
def test_each_transition_is_trained_on_once_an_epoch(scripted_env, make_config, networks, recurrent, internally):
    env = scripted_env()
    config = make_config(unroll_length=6, mini_batch_length=2, mini_batch_size=4, num_updates_per_train_iter=2)
    loss = Spy(compute_advantages_internally=internally, gamma=0.9, td_lambda=0.8)
    algorithm = make(env, config, networks[recurrent], loss=loss)
    identities = []
    algorithm.after_update = lambda inputs, info: identities.append((inputs.observation, inputs.step_type))
    for iteration in range(3):
        identities.clear()
        assert algorithm.train_iter() == 6 * 2 * 2
        observation, step_type = (torch.cat(parts, 1) for parts in zip(*identities))
        if internally:
            observation, step_type = observation[:-1], step_type[:-1]
        trained = sorted(map(tuple, observation[step_type != 2].tolist()))
        rows = range(6 * iteration, 6 * iteration + 6)
        expected = [(float(t), float(b)) for t in rows for b in range(2) if env.time_step_at(t).step_type[b] != 2]
        assert trained == sorted(expected * 2)


def test_internal_advantages_equal_preprocessed_ones_with_whole_unrolls(scripted_env, make_config, networks):
    updated = []
    for internally in (False, True):
        torch.manual_seed(3)
        env = scripted_env()
        loss = PPOLoss(compute_advantages_internally=internally, entropy_regularization=0.01)
        algorithm = make(env, make_config(unroll_length=6, num_updates_per_train_iter=1, mini_batch_size=2),
                         networks[False], lr=0.1, loss=loss)
        algorithm.train_iter()
        updated.append(torch.cat([p.detach().flatten() for p in algorithm.parameters()]))
    torch.testing.assert_close(*updated)


def test_vector_reward_reaches_the_loss_with_its_weights(scripted_env, make_config, networks):
    env = scripted_env(reward_dim=2)
    loss = Spy(gamma=[0.9, 0.5])
    algorithm = make(env, make_config(unroll_length=4), networks[False], loss=loss, reward_weights=[1.0, 3.0])
    algorithm.train_iter()
    info = loss.given[0]
    assert info.advantages.shape == info.value.shape == (4, 2, 2)
    assert (info.reward_weights == torch.tensor([1.0, 3.0])).all()


def test_loss_class_of_the_base_means_ppo_loss(scripted_env, make_config, networks):
    algorithm = make(scripted_env(), make_config(), networks[False])
    assert type(algorithm._loss) is PPOLoss
    assert algorithm.on_policy is False


def test_squashed_actions_have_the_same_log_prob_when_stored(scripted_env, make_config, networks):
    env = scripted_env(action_spec=CONTINUOUS)
    actor = functools.partial(
        ActorDistributionNetwork, fc_layer_params=(8,),
        continuous_projection_net_ctor=functools.partial(NormalProjectionNetwork, scale_distribution=True,
                                                         state_dependent_std=True))
    loss = Spy()
    algorithm = make(env, make_config(unroll_length=8), dict(networks[False], actor_network_ctor=actor), loss=loss)
    algorithm.train_iter()
    torch.testing.assert_close(loss.ratios[0], torch.ones(8, 2), rtol=0, atol=1e-4)


def test_stepping_through_time_learns_the_same_as_stepping_at_once(scripted_env, make_config, networks):
    updated = []
    for independent in (None, True, False):
        torch.manual_seed(3)
        config = make_config(unroll_length=6, mini_batch_length=3, temporally_independent_train_step=independent)
        algorithm = make(scripted_env(), config, networks[False], lr=0.1)
        algorithm.train_iter()
        updated.append(torch.cat([p.detach().flatten() for p in algorithm.parameters()]))
    torch.testing.assert_close(updated[0], updated[1], rtol=0, atol=0)
    torch.testing.assert_close(updated[0], updated[2])


def test_a_train_step_that_a_subclass_overrides_is_called(scripted_env, make_config, networks):
    class Mine(PPOAlgorithm):
        def train_step(self, inputs, state, rollout_info):
            called.append(inputs.step_type.shape)
            return super().train_step(inputs, state, rollout_info)

    env, called = scripted_env(), []
    algorithm = Mine(env.observation_spec(), env.action_spec(), **networks[False], env=env,
                     config=make_config(unroll_length=4, num_updates_per_train_iter=3), optimizer=SGD(lr=0.1))
    algorithm.train_iter()
    assert called == [(8, )] * 3


@pytest.mark.parametrize("argument,configured", [(None, 1.0), (1.0, 0.0), (None, 0.0), (0.0, 1.0)])
def test_share_of_random_actions_is_the_argument_or_else_the_config(scripted_env, make_config, networks, argument,
                                                                  configured):
    env = scripted_env(episode_lengths=((9,),) * 200)
    algorithm = make(env, make_config(epsilon_greedy=configured), networks[False], epsilon_greedy=argument)
    observation = torch.zeros(200, 2)
    time_step = env.current_time_step()._replace(observation=observation)
    actions = algorithm.predict_step(time_step, algorithm.get_initial_predict_state(200)).output
    is_random = (configured if argument is None else argument) == 1.0
    assert (len(actions.unique()) > 1) == is_random


def test_metrics_average_over_enough_episodes(scripted_env, make_config, networks):
    env = scripted_env(episode_lengths=((2, 3), (2, 3)))
    for size, length in ((2, 1.0), (100, 4 / 3)):
        algorithm = make(env, make_config(unroll_length=5, metric_min_buffer_size=size), networks[False])
        env._current_time_step = None
        algorithm.unroll(5)
        algorithm.unroll(2)  # episodes of 2, 3 and 2 time steps: 1, 2 and 1 environment steps
        metric = {metric.name: metric for metric in algorithm.get_metrics()}["AverageEpisodeLength"]
        assert metric.result().item() == pytest.approx(length)
