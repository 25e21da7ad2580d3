"""SacAlgorithm: its losses by hand and through autograd, its fast path against the plain one, its kinds of action."""

import collections
import copy
import functools
import math

import pytest
import torch
from torch import nn

import alf.nest as nest
from alf.algorithms._actor_critic.entropy_weights import target_entropies
from alf.algorithms._training.sequences import step_at_once, step_through_time
from alf.algorithms.config import TrainerConfig
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.algorithms.prior_actor import SameActionPriorActor
from alf.algorithms.sac_algorithm import SacAlgorithm, SacInfo, SacState
from alf.algorithms.td_loss import TDLoss
from alf.data_structures import TimeStep
from alf.nest.utils import NestConcat
from alf.networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    CriticNetwork,
    CriticRNNNetwork,
    Network,
    NormalProjectionNetwork,
    QNetwork,
    QRNNNetwork,
)
from alf.optimizers import SGD, Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

OBSERVATION = TensorSpec((3,))
CONTINUOUS = BoundedTensorSpec((2,), torch.float32, -1, 1)
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 3)
SPECS = {
    "continuous": CONTINUOUS,
    "discrete": DISCRETE,
    "nested": {"a": CONTINUOUS, "b": CONTINUOUS},
    "mixed": (DISCRETE, CONTINUOUS),
    "mixed_nested": [CONTINUOUS, DISCRETE, CONTINUOUS],
}
SQUASHED = functools.partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True)


def make_algorithm(spec=CONTINUOUS, cls=SacAlgorithm, **kwargs):
    specs = nest.flatten(spec)
    is_mixed = len({s.is_discrete for s in specs}) == 2
    arguments = {
        "actor_network_cls": functools.partial(
            ActorDistributionNetwork, fc_layer_params=(8,), continuous_projection_net_ctor=SQUASHED),
        "critic_network_cls": functools.partial(
            CriticNetwork,
            joint_fc_layer_params=(8,),
            action_preprocessing_combiner=NestConcat() if len(specs) > 1 else None),
        "q_network_cls": functools.partial(
            QNetwork, fc_layer_params=(8,), preprocessing_combiner=NestConcat() if is_mixed else None),
        "target_entropy": -1.0,
    }
    arguments.update(kwargs)
    return cls(OBSERVATION, spec, **arguments)


def make_batch(spec=CONTINUOUS, num_steps=2, batch_size=6, reward_shape=(), seed=0):
    torch.manual_seed(seed)
    outer = (num_steps, batch_size)
    time_step = TimeStep(
        step_type=torch.ones(outer, dtype=torch.int32),
        reward=torch.randn(outer + reward_shape),
        discount=(torch.rand(outer) > 0.2).float(),
        observation=torch.randn(outer + OBSERVATION.shape),
        prev_action=nest.map_structure(lambda s: s.sample(outer), spec))
    return time_step, SacInfo(action=nest.map_structure(lambda s: s.sample(outer), spec))


def first_row(time_step):
    return nest.map_structure(lambda leaf: leaf[0], time_step)


def gradients(algorithm, info):
    algorithm.zero_grad()
    loss = algorithm.calc_loss(info)
    (loss.loss.mean() + (loss.scalar_loss if isinstance(loss.scalar_loss, torch.Tensor) else 0)).backward()
    return loss, {name: p.grad for name, p in algorithm.named_parameters() if p.grad is not None}


@pytest.fixture
def fixed_noise(monkeypatch):
    """Noise that is a function of the row it is for, so that it does not depend on how rows are batched."""
    monkeypatch.setattr(dist_utils.DiagMultivariateNormal, "_noise",
                        lambda self, sample_shape: torch.sin(1000 * self.loc.detach()))


class LineActor(Network):
    """A normal policy with mean ``w * s`` and deviation 1."""

    def __init__(self, input_tensor_spec, action_spec, name="LineActor"):
        super().__init__(input_tensor_spec, name=name)
        self.w = nn.Parameter(torch.tensor(0.5))

    def forward(self, observation, state=()):
        loc = self.w * observation
        return dist_utils.DiagMultivariateNormal(loc, torch.ones_like(loc)), state


class LineCritic(Network):
    """``u * s + v * a``."""

    def __init__(self, input_tensor_spec, output_tensor_spec=TensorSpec(()), name="LineCritic"):
        super().__init__(input_tensor_spec, name=name)
        self.u, self.v = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs, state=()):
        observation, action = inputs
        return (self.u * observation + self.v * action).squeeze(-1), state


def line_algorithm(**kwargs):
    algorithm = SacAlgorithm(
        TensorSpec((1,)),
        BoundedTensorSpec((1,), torch.float32, -1, 1),
        actor_network_cls=LineActor,
        critic_network_cls=LineCritic,
        initial_log_alpha=-1.0,
        target_entropy=-2.0,
        critic_loss_ctor=functools.partial(OneStepTDLoss, gamma=0.9),
        **kwargs)
    weights = {"_critic_networks": [(1.0, 2.0), (3.0, 0.5)], "_target_critic_networks": [(0.5, 1.0), (0.25, 3.0)]}
    with torch.no_grad():
        for attribute, pairs in weights.items():
            for critic, (u, v) in zip(getattr(algorithm, attribute)._networks, pairs, strict=True):
                critic.u.fill_(u)
                critic.v.fill_(v)
    return algorithm


def line_batch():
    # s_0 = 1, a_0 = 0.4, r_1 = 3, s_1 = 2
    time_step = TimeStep(
        step_type=torch.ones(2, 1, dtype=torch.int32),
        reward=torch.tensor([[0.0], [3.0]]),
        discount=torch.ones(2, 1),
        observation=torch.tensor([[[1.0]], [[2.0]]]))
    return time_step, SacInfo(action=torch.tensor([[[0.4]], [[0.0]]]))


@pytest.mark.parametrize("use_entropy_reward", [True, False])
def test_losses_by_hand(monkeypatch, use_entropy_reward):
    monkeypatch.setattr(dist_utils.DiagMultivariateNormal, "_noise",
                        lambda self, sample_shape: torch.full_like(self.loc, 0.3))
    algorithm = line_algorithm(use_entropy_reward=use_entropy_reward)
    loss, grads = gradients(algorithm, algorithm.train_sequence(*line_batch()))
    alpha, log_pi = math.exp(-1), -0.5 * 0.3**2 - 0.5 * math.log(2 * math.pi)
    a_0, a_1 = 0.5 * 1 + 0.3, 0.5 * 2 + 0.3
    target_value = min(0.5 * 2 + 1.0 * a_1, 0.25 * 2 + 3.0 * a_1)
    y = 3 + 0.9 * (target_value - (alpha * log_pi if use_entropy_reward else 0))
    errors = [1.0 * 1 + 2.0 * 0.4 - y, 3.0 * 1 + 0.5 * 0.4 - y]
    assert loss.extra.critic[0].item() == pytest.approx(sum(e * e for e in errors), rel=1e-5)
    value_0 = min(1.0 + 2.0 * a_0, 3.0 + 0.5 * a_0)
    assert loss.extra.actor[0].item() == pytest.approx(alpha * log_pi - value_0, rel=1e-5)
    assert loss.extra.alpha[0].item() == pytest.approx(-1.0 * (-log_pi + 2.0), rel=1e-5)
    assert loss.loss[0].item() == pytest.approx(sum(part[0].item() for part in loss.extra[:3]), rel=1e-5)
    assert loss.loss[1].item() == 0
    # The mean over two rows halves each; the first critic is the lower one at a_0: 1 + 2 * 0.8 < 3 + 0.5 * 0.8.
    assert grads["_actor_network.w"].item() == pytest.approx(-2.0 * 1 / 2, rel=1e-5)
    assert grads["_log_alpha"].item() == pytest.approx((-log_pi + 2.0) / 2, rel=1e-5)
    for i, error in enumerate(errors):
        assert grads[f"_critic_networks._networks.{i}.u"].item() == pytest.approx(2 * error * 1 / 2, rel=1e-5)
        assert grads[f"_critic_networks._networks.{i}.v"].item() == pytest.approx(2 * error * 0.4 / 2, rel=1e-5)


def test_gradient_of_the_actor_is_that_through_the_critic(fixed_noise):
    algorithm = make_algorithm(initial_log_alpha=-0.5)
    time_step, rollout_info = make_batch()
    _, grads = gradients(algorithm, algorithm.train_sequence(time_step, rollout_info))
    observation = time_step.observation[0]
    distribution, _ = algorithm._actor_network(observation)
    action, log_pi = dist_utils.rsample_action_distribution(distribution, return_log_prob=True)
    values, _ = algorithm._critic_networks((observation, action))
    loss = (math.exp(-0.5) * log_pi - values.min(1).values).sum() / 12
    expected = torch.autograd.grad(loss, list(algorithm._actor_network.parameters()))
    for (name, _), grad in zip(algorithm._actor_network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(grads[f"_actor_network.{name}"], grad)


@pytest.mark.parametrize("num_steps", [2, 4])
@pytest.mark.parametrize("reproduce_locomotion", [False, True])
@pytest.mark.parametrize("kind", SPECS)
def test_sequences_at_once_have_the_losses_and_gradients_of_single_steps(fixed_noise, kind, reproduce_locomotion,
                                                                         num_steps):
    spec = SPECS[kind]
    algorithm = make_algorithm(
        spec, reproduce_locomotion=reproduce_locomotion, critic_loss_ctor=functools.partial(TDLoss, td_lambda=0.7))
    batch = make_batch(spec, num_steps)
    loss, grads = gradients(algorithm, algorithm.train_sequence(*batch))
    by_steps = step_at_once(algorithm.train_step, *batch, algorithm.get_initial_train_state(1))
    expected_loss, expected = gradients(algorithm, by_steps)
    torch.testing.assert_close(loss.loss, expected_loss.loss)
    assert grads.keys() == expected.keys() and len(grads) > 0
    torch.testing.assert_close(grads, expected)


@pytest.mark.parametrize("kind", ["continuous", "mixed"])
def test_sequences_at_once_with_a_prior(fixed_noise, kind):
    spec = SPECS[kind]
    algorithm = make_algorithm(spec, prior_actor_ctor=SameActionPriorActor)
    batch = make_batch(spec, 3)
    loss, grads = gradients(algorithm, algorithm.train_sequence(*batch))
    expected_loss, expected = gradients(
        algorithm, step_at_once(algorithm.train_step, *batch, algorithm.get_initial_train_state(1)))
    torch.testing.assert_close(loss.loss, expected_loss.loss)
    torch.testing.assert_close(grads, expected)


def test_a_subclass_with_its_own_train_step_is_trained_by_it():

    class Mine(SacAlgorithm):

        def train_step(self, inputs, state, rollout_info):
            step = super().train_step(inputs, state, rollout_info)
            return step._replace(info=step.info._replace(reward=step.info.reward + 100))

    algorithm = make_algorithm(cls=Mine)
    time_step, rollout_info = make_batch()
    info = algorithm.train_sequence(time_step, rollout_info)
    torch.testing.assert_close(info.reward, time_step.reward + 100)


def test_policy_is_trained_at_the_next_observation_to_reproduce_locomotion():
    algorithm = make_algorithm(reproduce_locomotion=True)
    time_step, rollout_info = make_batch(num_steps=2)
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, rollout_info))
    torch.testing.assert_close(loss.loss[0], loss.extra.critic[0])
    torch.testing.assert_close(loss.loss[1], (loss.extra.actor + loss.extra.alpha)[0])


# ---- kinds of action -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECS)
def test_actions_are_as_their_spec(kind):
    spec = SPECS[kind]
    algorithm = make_algorithm(spec)
    time_step = first_row(make_batch(spec, batch_size=5)[0])
    for step in (algorithm.rollout_step(time_step, algorithm.get_initial_rollout_state(5)),
                 algorithm.predict_step(time_step, algorithm.get_initial_predict_state(5))):
        nest.assert_same_structure(step.output, spec)
        for action, leaf in zip(nest.flatten(step.output), nest.flatten(spec), strict=True):
            assert action.shape == (5, *leaf.shape) and action.dtype == leaf.dtype
            assert (action >= float(leaf.minimum.min())).all() and (action <= float(leaf.maximum.max())).all()


def test_discrete_policy_is_the_softmax_of_the_lowest_values():
    algorithm = make_algorithm(DISCRETE, initial_log_alpha=math.log(0.2))
    time_step = first_row(make_batch(DISCRETE)[0])
    values, _ = algorithm._critic_networks(time_step.observation)
    step = algorithm.predict_step(time_step, algorithm.get_initial_predict_state(6))
    expected = (values.min(1).values / 0.2).softmax(-1)
    torch.testing.assert_close(step.info.action_distribution.probs, expected)
    assert (step.output == expected.argmax(-1)).all()


def test_discrete_target_is_the_soft_value_of_the_next_observation():
    algorithm = make_algorithm(DISCRETE, initial_log_alpha=math.log(0.2))
    time_step, rollout_info = make_batch(DISCRETE)
    with torch.no_grad():
        for p in algorithm._target_critic_networks.parameters():
            p.add_(0.1)
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, rollout_info))
    values = algorithm._critic_networks(time_step.observation[0])[0]
    probs = (algorithm._critic_networks(time_step.observation[1])[0].min(1).values / 0.2).softmax(-1)
    target_values = algorithm._target_critic_networks(time_step.observation[1])[0].min(1).values
    value = (probs * (target_values - 0.2 * probs.log())).sum(-1)
    target = time_step.reward[1] + 0.99 * time_step.discount[1] * value
    chosen = torch.stack([values[b, :, rollout_info.action[0, b]] for b in range(6)])
    torch.testing.assert_close(loss.extra.critic[0], (chosen - target.unsqueeze(1)).square().sum(1))


def test_actor_of_mixed_actions_climbs_the_soft_value(fixed_noise):
    algorithm = make_algorithm(SPECS["mixed"], initial_log_alpha=math.log(0.3))
    with torch.no_grad():
        for p in algorithm._critic_networks.parameters():
            p.normal_()
    time_step, rollout_info = make_batch(SPECS["mixed"])
    _, grads = gradients(algorithm, algorithm.train_sequence(time_step, rollout_info))
    observation = time_step.observation[0]
    distribution, _ = algorithm._actor_network(observation)
    action, log_pi = dist_utils.rsample_action_distribution(distribution, return_log_prob=True)
    values = algorithm._critic_networks((observation, action))[0].min(1).values
    loss = (0.3 * log_pi - 0.3 * (values / 0.3).logsumexp(-1)).sum() / 12
    expected = torch.autograd.grad(loss, list(algorithm._actor_network.parameters()))
    for (name, _), grad in zip(algorithm._actor_network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(grads[f"_actor_network.{name}"], grad)


def test_actions_that_cannot_be_handled_are_named():
    for spec in ((DISCRETE, DISCRETE), BoundedTensorSpec((2,), torch.int64, 0, 3)):
        with pytest.raises(ValueError, match="continuous actions, one discrete action"):
            make_algorithm(spec)
    with pytest.raises(ValueError, match="empty nest"):
        make_algorithm(())


@pytest.mark.parametrize("kind", ["continuous", "discrete", "mixed"])
def test_a_copy_acts_and_learns_with_networks_of_its_own(kind):
    spec = SPECS[kind]
    algorithm = make_algorithm(spec)
    other = copy.deepcopy(algorithm)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.5)
    time_step, rollout_info = make_batch(spec)
    first = first_row(time_step)
    step, other_step = (a.predict_step(first, a.get_initial_predict_state(6)) for a in (algorithm, other))
    parameters, others = (nest.flatten(dist_utils.distributions_to_params(s.info.action_distribution))
                          for s in (step, other_step))
    assert all(not torch.equal(ours, theirs) for ours, theirs in zip(parameters, others, strict=True))
    _, grads = gradients(other, other.train_sequence(time_step, rollout_info))
    assert grads and all(p.grad is None for p in algorithm.parameters())


@pytest.mark.parametrize("kind, argument", [("continuous", "critic_network_cls"), ("continuous", "actor_network_cls"),
                                            ("discrete", "q_network_cls")])
def test_missing_network_class_is_named(kind, argument):
    with pytest.raises(ValueError, match=argument):
        make_algorithm(SPECS[kind], **{argument: None})


def test_q_networks_have_no_vector_rewards():
    with pytest.raises(ValueError, match="one reward for discrete actions"):
        make_algorithm(DISCRETE, reward_spec=TensorSpec((2,)))


def test_single_steps_cannot_be_trained_on():
    algorithm = make_algorithm()
    with pytest.raises(ValueError, match="mini_batch_length=2"):
        algorithm.train_sequence(*make_batch(num_steps=1))


# ---- acting ----------------------------------------------------------------------------------------------------------


def test_epsilon_greedy_decides_between_mode_and_sample():
    time_step = first_row(make_batch(batch_size=400)[0])
    for epsilon, shares in ((0.0, (1.0, 1.0)), (1.0, (0.0, 0.0)), (0.5, (0.4, 0.6))):
        algorithm = make_algorithm(epsilon_greedy=epsilon)
        step = algorithm.predict_step(time_step, algorithm.get_initial_predict_state(400))
        mode = algorithm._actor_network(time_step.observation)[0].mode
        share = (step.output == mode).all(-1).float().mean().item()
        assert shares[0] <= share <= shares[1]


def test_epsilon_greedy_is_that_of_the_config_by_default():
    assert make_algorithm(config=TrainerConfig(root_dir="", conf_file="", epsilon_greedy=0.25))._epsilon_greedy == 0.25


def test_rollout_samples_from_the_policy():
    algorithm = make_algorithm(epsilon_greedy=0.0)
    time_step = first_row(make_batch()[0])
    actions = [algorithm.rollout_step(time_step, algorithm.get_initial_rollout_state(6)).output for _ in range(2)]
    assert not (actions[0] == actions[1]).any()


# ---- rewards, entropy ------------------------------------------------------------------------------------------------


def test_vector_reward_is_weighed_for_the_policy_only(fixed_noise):
    algorithm = make_algorithm(reward_spec=TensorSpec((2,)), reward_weights=[1.0, -0.5])
    batch = make_batch(reward_shape=(2,))
    info = algorithm.train_sequence(*batch)
    assert info.critic.critics.shape == (2, 6, 2, 2)
    _, grads = gradients(algorithm, info)
    observation = batch[0].observation[0]
    action, log_pi = dist_utils.rsample_action_distribution(
        algorithm._actor_network(observation)[0], return_log_prob=True)
    values = algorithm._critic_networks((observation, action))[0]
    # Of the component that counts negatively the highest value is the pessimistic one.
    value = values[..., 0].min(1).values - 0.5 * values[..., 1].max(1).values
    expected = torch.autograd.grad((log_pi - value).sum() / 12, list(algorithm._actor_network.parameters()))
    for (name, _), grad in zip(algorithm._actor_network.named_parameters(), expected, strict=True):
        torch.testing.assert_close(grads[f"_actor_network.{name}"], grad)


def test_target_entropy_for_each_part_of_the_action():
    spec = SPECS["mixed_nested"]
    assert make_algorithm(spec, target_entropy=(0.3, -2.0))._weights.targets == [-2.0, 0.3, -2.0]
    assert make_algorithm(spec, target_entropy=[-1.0, 0.3, -3.0])._weights.targets == [-1.0, 0.3, -3.0]
    steering = collections.namedtuple("Steering", ["steer", "gear"])
    named = steering(steer=BoundedTensorSpec((2,), torch.float32, -1, 1), gear=BoundedTensorSpec((), torch.int64, 0, 2))
    assert target_entropies([named.gear, named.steer], steering(steer=-2.0, gear=0.3), 0, "SAC") == [0.3, -2.0]
    assert make_algorithm(target_entropy=lambda s: -float(s.numel))._weights.targets == [-2.0]
    default = dist_utils.calc_default_target_entropy(CONTINUOUS)
    assert make_algorithm(target_entropy=None)._weights.targets == [default]
    with pytest.raises(ValueError, match="target_entropy: expected one for each of 1 actions"):
        make_algorithm(target_entropy=[1.0, 2.0])


@pytest.mark.parametrize("target_entropy, rises", [(50.0, True), (-50.0, False)])
def test_entropy_weight_rises_while_the_entropy_is_below_its_target(target_entropy, rises):
    algorithm = make_algorithm(target_entropy=target_entropy, alpha_optimizer=SGD(lr=0.01))
    batch = make_batch()
    algorithm.update_with_gradient(algorithm.calc_loss(algorithm.train_sequence(*batch)))
    assert (algorithm._log_alpha.item() > 0) == rises


def test_entropy_weight_has_a_limit():
    algorithm = make_algorithm(target_entropy=50.0, alpha_optimizer=SGD(lr=1.0), max_log_alpha=0.25)
    batch = make_batch()
    info = algorithm.train_sequence(*batch)
    algorithm.update_with_gradient(algorithm.calc_loss(info))
    algorithm.after_update(batch[0], info)
    assert algorithm._log_alpha.item() == 0.25


def test_normalized_entropy_reward_has_no_mean():
    algorithm = make_algorithm(normalize_entropy_reward=True)
    info = algorithm.train_sequence(*make_batch(batch_size=500))
    assert abs(info.entropy_reward[1].mean()) < 1e-3
    assert info.entropy_reward[1].std().item() == pytest.approx(1.0, abs=0.02)


def test_divergence_from_a_prior_takes_the_place_of_the_entropy(fixed_noise):
    algorithm = make_algorithm(prior_actor_ctor=SameActionPriorActor, target_kld_per_dim=2.0)
    batch = make_batch()
    info = algorithm.train_sequence(*batch)
    observation = batch[0].observation[0]
    action, log_pi = dist_utils.rsample_action_distribution(
        algorithm._actor_network(observation)[0], return_log_prob=True)
    prior = algorithm._prior_actor.train_step(first_row(batch[0]), ()).output
    kld = log_pi - prior.log_prob(action)
    torch.testing.assert_close(info.log_pi[0][0], kld)
    # Target of the divergence: 2 nats for each of 2 components.
    torch.testing.assert_close(algorithm.calc_loss(info).extra.alpha, algorithm._log_alpha * (4.0 - kld).unsqueeze(0))


def test_gradient_of_the_value_is_clipped():
    algorithm = line_algorithm(dqda_clipping=0.1)
    _, grads = gradients(algorithm, algorithm.train_sequence(*line_batch()))
    assert grads["_actor_network.w"].item() == pytest.approx(-0.1 * 1 / 2, rel=1e-5)


def test_priority_is_the_root_of_the_mean_critic_loss():
    algorithm = make_algorithm(calculate_priority=True)
    batch = make_batch(num_steps=3)
    step_type = batch[0].step_type.clone()
    step_type[1, 0] = 2
    batch = (batch[0]._replace(step_type=step_type), batch[1])
    loss = algorithm.calc_loss(algorithm.train_sequence(*batch))
    critic = loss.extra.critic.detach() / 2
    torch.testing.assert_close(loss.priority[0], critic[0, 0].sqrt())
    torch.testing.assert_close(loss.priority[1:], critic[:2, 1:].mean(0).sqrt())


# ---- targets and resets ----------------------------------------------------------------------------------------------


def test_targets_follow_the_critics_and_are_not_trained():
    algorithm = make_algorithm(target_update_tau=0.25, critic_optimizer=Adam(lr=0.1), actor_optimizer=Adam(lr=0.1))
    before = [p.clone() for p in algorithm._target_critic_networks.parameters()]
    torch.testing.assert_close(before, list(algorithm._critic_networks.parameters()))
    batch = make_batch()
    info = algorithm.train_sequence(*batch)
    algorithm.update_with_gradient(algorithm.calc_loss(info))
    after_step = list(algorithm._target_critic_networks.parameters())
    torch.testing.assert_close(after_step, before)
    algorithm.after_update(batch[0], info)
    for target, old, critic in zip(after_step, before, algorithm._critic_networks.parameters(), strict=True):
        torch.testing.assert_close(target.detach(), 0.75 * old + 0.25 * critic.detach())


def test_networks_are_reset_periodically_and_targets_with_them():
    algorithm = make_algorithm(parameter_reset_period=2, target_update_tau=0.5)
    batch = make_batch()
    parameters = [*algorithm._actor_network.parameters(), *algorithm._critic_networks.parameters()]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(7.0)
    algorithm.after_update(batch[0], ())
    assert all((parameter == 7.0).all() for parameter in parameters)
    algorithm.after_update(batch[0], ())
    assert not any((parameter == 7.0).any() for parameter in parameters)
    torch.testing.assert_close(
        list(algorithm._target_critic_networks.parameters()), list(algorithm._critic_networks.parameters()))


def test_each_optimizer_has_its_networks():
    optimizers = [Adam(lr=lr) for lr in (0.1, 0.2, 0.3)]
    algorithm = make_algorithm(
        actor_optimizer=optimizers[0], critic_optimizer=optimizers[1], alpha_optimizer=optimizers[2])
    assignment = algorithm.attach_optimizers()
    prefixes = [{algorithm.get_param_name(p).split(".")[0] for p in parameters} for parameters in assignment.parameters]
    assert prefixes == [{"_actor_network"}, {"_critic_networks"}, {"_log_alpha"}]
    assert not assignment.unhandled


# ---- recurrent networks ----------------------------------------------------------------------------------------------


def recurrent_algorithm(spec, **kwargs):
    return make_algorithm(
        spec,
        actor_network_cls=functools.partial(
            ActorDistributionRNNNetwork, lstm_hidden_size=4, continuous_projection_net_ctor=SQUASHED),
        critic_network_cls=functools.partial(CriticRNNNetwork, lstm_hidden_size=4),
        q_network_cls=functools.partial(
            QRNNNetwork, lstm_hidden_size=4, preprocessing_combiner=NestConcat() if isinstance(spec, tuple) else None),
        **kwargs)


@pytest.mark.parametrize("kind", ["continuous", "discrete", "mixed"])
def test_recurrent_critics_remember_what_was_done(kind):
    spec = SPECS[kind]
    algorithm = recurrent_algorithm(spec)
    time_step, rollout_info = make_batch(spec, num_steps=3)
    states = [algorithm.get_initial_train_state(6)]

    def train_step(inputs, state, info):
        step = algorithm.train_step(inputs, state, info)
        states.append(step.state)
        return step

    info = step_through_time(train_step, time_step, rollout_info, states[0], states[0])
    _, grads = gradients(algorithm, info)
    assert all(grad.isfinite().all() for grad in grads.values())
    # Targets equal the critics here, so that their memories are equal if both are of the stored actions.
    torch.testing.assert_close(states[-1].target_critics, states[-1].critics)
    action = nest.map_structure(lambda leaf: leaf[0], rollout_info.action)
    continuous, _ = algorithm._parts.split(action)
    _, expected = algorithm._values(algorithm._critic_networks, time_step.observation[0], continuous, states[0].critics)
    torch.testing.assert_close(states[1].critics, expected)
    predict_state = algorithm.convert_train_state_to_predict_state(states[-1])
    nest.assert_same_structure(predict_state, algorithm.predict_state_spec)


@pytest.mark.parametrize("kind", ["continuous", "discrete", "mixed"])
def test_rollout_state_is_the_train_state_if_training_begins_from_it(kind):
    spec = SPECS[kind]
    algorithm = recurrent_algorithm(spec)
    algorithm.use_rollout_state = True
    time_step = first_row(make_batch(spec)[0])
    state = nest.map_structure(lambda leaf: leaf + 0.1, algorithm.get_initial_rollout_state(6))
    rollout = algorithm.rollout_step(time_step, state)
    trained = algorithm.train_step(time_step, state, rollout.info)
    torch.testing.assert_close(rollout.state, trained.state)


# ---- learning --------------------------------------------------------------------------------------------------------


def learn(algorithm, spec, reward_of, num_updates):
    for i in range(num_updates):
        time_step, _ = make_batch(spec, batch_size=32, seed=i)
        step = algorithm.rollout_step(first_row(time_step), SacState())
        action = nest.map_structure(lambda leaf: torch.stack([leaf, leaf]), step.output)
        time_step = time_step._replace(reward=reward_of(action), discount=torch.zeros(2, 32))
        info = algorithm.train_sequence(time_step, SacInfo(action=nest.map_structure(torch.detach, action)))
        algorithm.update_with_gradient(algorithm.calc_loss(info))
        algorithm.after_update(time_step, info)
    return algorithm.predict_step(first_row(time_step), SacState()).output


def test_learns_the_best_continuous_action():
    torch.manual_seed(0)
    algorithm = make_algorithm(
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(32,)),
        target_entropy=-4.0,
        initial_log_alpha=-3.0,
        **{f"{name}_optimizer": Adam(lr=0.01) for name in ("actor", "critic", "alpha")})
    best = torch.tensor([0.5, -0.25])
    action = learn(algorithm, CONTINUOUS, lambda a: -(a.detach() - best).square().sum(-1), 300)
    torch.testing.assert_close(action.mean(0).detach(), best, atol=0.15, rtol=0)


def test_learns_the_best_discrete_action():
    torch.manual_seed(0)
    algorithm = make_algorithm(
        DISCRETE, target_entropy=0.5, critic_optimizer=Adam(lr=0.02), alpha_optimizer=Adam(lr=0.02))
    action = learn(algorithm, DISCRETE, lambda a: torch.tensor([0.0, 0.2, 1.0, 0.5])[a], 120)
    assert (action == 2).all()
