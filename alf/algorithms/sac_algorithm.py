"""Soft actor-critic (SAC), https://arxiv.org/abs/1812.05905, for continuous, discrete and mixed actions.

Differences from the paper:

* A policy over a discrete action is not learned but follows from the values of the actions: ``softmax(Q / alpha)``,
  which is what the paper's policy is regressed on, Eq. (4). Mixed actions: the actor makes the continuous part, and the
  critics then value each discrete action together with it.
* The entropy of a discrete action, and the value that it leads to, are expectations, not samples.
* All losses are made of the same sequences; their last step is only bootstrapped from.
"""

import copy
from typing import Callable, List, Optional, Union

import torch
from torch import nn

from alf import summary
from alf.algorithms._actor_critic.action_kind import ActionParts, ActionType
from alf.algorithms._actor_critic.action_values import (
    action_gradient,
    minus_value_of_action,
    pessimistic_value,
    value_of_action,
)
from alf.algorithms._actor_critic.entropy_weights import alpha_loss, target_entropies
from alf.algorithms._actor_critic.networks import make_networks
from alf.algorithms._actor_critic.rows import check_at_least_two_steps, fold, unfold
from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, TimeStep, namedtuple
from alf.nest import Nest, flatten, flatten_with_structure, map_structure
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.networks.q_networks import QNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common, dist_utils, math_ops, summary_utils
from alf.utils.normalizers import AdaptiveNormalizer
from alf.utils.schedulers import Scheduler
from alf.utils.tensor_utils import tensor_extend_zero, tensor_prepend_zero

_LAST = int(StepType.LAST)

SacState = namedtuple(
    "SacState",
    [
        "repr",  # of the representation learner
        "target_repr",  # of its target
        "actor",  # of the actor network
        "critics",  # of the critic networks
        "target_critics",  # of the target critic networks
    ],
    default_value=())

SacCriticInfo = namedtuple(
    "SacCriticInfo",
    [
        "critics",  # float32 [T, B, n] or [T, B, n, ...]: of the stored action, by each of n replicas
        "target_critic",  # float32 [T, B] or [T, B, ...]: of an action of the policy, by the target critics
    ],
    default_value=())

SacInfo = namedtuple(
    "SacInfo",
    [
        "reward",  # float32 [T, B] or [T, B, R]
        "step_type",  # int32 [T, B]
        "discount",  # float32 [T, B]
        "action",  # nest [T, B, ...]: what was done
        "action_distribution",  # nest of distributions [T, B]: the policy
        "critic",  # SacCriticInfo
        "actor_loss",  # float32 [T, B]: minus the value of an action of the policy; () without an actor
        "log_pi",  # list of float32 [T, B]: log probability of each part of the action, minus that of the prior
        "entropy_reward",  # float32 [T, B]: value of the entropy of that action
        "repr",  # info of the representation learner
    ],
    default_value=())

SacLossInfo = namedtuple("SacLossInfo", ["actor", "critic", "alpha", "neg_entropy", "repr"], default_value=())

Policy = namedtuple(
    "Policy",
    [
        "distribution",  # nest of distributions [B], as the action
        "continuous",  # nest [B, ...]: a sample of the continuous part, with its graph; () if there is none
        "discrete_distribution",  # of the discrete part, given the continuous one; () if there is none
        "log_pi",  # list of float32 [B], as in SacInfo
        "loss",  # float32 [B], as SacInfo.actor_loss
    ],
    default_value=())


@configurable
class SacAlgorithm(OffPolicyAlgorithm):
    """SAC with an entropy weight of its own for each part of a nested action.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs: continuous actions, one discrete action of shape ``()``, or both.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``, and critics value each component.
        actor_network_cls: called with ``input_tensor_spec`` and ``action_spec``; makes the policy over continuous
            actions: those of the spec, or the list of several that stand beside a discrete one.
        critic_network_cls: called with ``input_tensor_spec=(observation_spec, action_spec)`` and
            ``output_tensor_spec``; for continuous actions only.
        q_network_cls: called with ``input_tensor_spec`` and ``action_spec``; makes the critics if there is a discrete
            action. Their input is the observation, or the pair of observation and continuous action.
        repr_alg_ctor: called with ``observation_spec``, ``action_spec``, ``reward_spec``, ``config`` and
            ``debug_summaries``; makes a representation learner, whose output the networks see. The critic's loss trains
            it too, the actor's does not, and target critics see that of a target copy.
        reward_weights: weights of the components of a vector reward in what the policy maximises; None: all 1.
        epsilon_greedy: share of sampled actions in ``predict_step``; the rest takes the mode. None:
            ``config.epsilon_greedy``.
        use_entropy_reward: value the entropy of future actions, as the paper does; else only that of the present one.
        normalize_entropy_reward: give that reward mean 0 and deviation 1, so that it neither rewards nor punishes long
            episodes.
        calculate_priority: give priorities to a prioritized replay buffer: the root of the mean critic loss.
        num_critic_replicas: number of critics; the lowest of their values counts.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        critic_loss_ctor: called with ``name`` and ``debug_summaries``, once a replica; None: ``OneStepTDLoss``.
        target_entropy: a number for each part of the action, or a function of its spec; or a nest of these as the
            action; or, for mixed actions, the pair of those for discrete and for continuous parts. None:
            ``dist_utils.calc_default_target_entropy``.
        prior_actor_ctor: called with ``observation_spec``, ``action_spec`` and ``debug_summaries``; makes an algorithm
            whose output is a prior over actions. The divergence from it then takes the place of minus the entropy.
        target_kld_per_dim: target of that divergence, for each component of the action.
        initial_log_alpha: logarithm of the entropy weights at the start.
        max_log_alpha: its largest value; None: no limit.
        target_update_tau: how far the target critics move towards the critics; see ``TargetUpdater``.
        target_update_period: in updates.
        parameter_reset_period: updates after which actor and critics get new parameters, as
            https://arxiv.org/abs/2205.07802 does; negative: never. Optimizers keep their state.
        dqda_clipping: elements of the gradient of the value with respect to the action are clipped to plus or minus
            this in the actor loss; None: not at all.
        actor_optimizer: trains the actor. As for the other two, None leaves it to the optimizer of an algorithm above;
            the trainer reports what no optimizer trains, and an entropy weight without one stays as it is.
        critic_optimizer: trains the critics.
        alpha_optimizer: trains the logarithms of the entropy weights.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        reproduce_locomotion: train the policy at the observation that follows the stored action, as the authors' code
            for MuJoCo does: one sampled action then serves the target of the critic and the loss of the policy.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_cls: Callable = ActorDistributionNetwork,
                 critic_network_cls: Callable = CriticNetwork,
                 q_network_cls: Callable = QNetwork,
                 repr_alg_ctor: Optional[Callable] = None,
                 reward_weights: Optional[List[float]] = None,
                 epsilon_greedy: Optional[float] = None,
                 use_entropy_reward: bool = True,
                 normalize_entropy_reward: bool = False,
                 calculate_priority: bool = False,
                 num_critic_replicas: int = 2,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 critic_loss_ctor: Optional[Callable] = None,
                 target_entropy: Union[None, float, Callable, list, tuple] = None,
                 prior_actor_ctor: Optional[Callable] = None,
                 target_kld_per_dim: float = 3.0,
                 initial_log_alpha: float = 0.0,
                 max_log_alpha: Optional[float] = None,
                 target_update_tau: Union[float, Scheduler] = 0.05,
                 target_update_period: Union[int, Scheduler] = 1,
                 parameter_reset_period: Union[int, Scheduler] = -1,
                 dqda_clipping: Optional[float] = None,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 alpha_optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 reproduce_locomotion: bool = False,
                 name: str = "SacAlgorithm"):
        parts = ActionParts(action_spec, name)
        repr_alg, network_input_spec = None, observation_spec
        if repr_alg_ctor is not None:
            repr_alg = repr_alg_ctor(
                observation_spec=observation_spec,
                action_spec=action_spec,
                reward_spec=reward_spec,
                config=config,
                debug_summaries=debug_summaries)
            network_input_spec = repr_alg.output_spec
        actor_network, critic_networks = make_networks(parts, network_input_spec, reward_spec, actor_network_cls,
                                                       critic_network_cls, q_network_cls, num_critic_replicas, name)
        repr_state_spec = () if repr_alg is None else repr_alg.train_state_spec
        repr_predict_state_spec = () if repr_alg is None else repr_alg.predict_state_spec
        actor_state_spec = () if actor_network is None else actor_network.state_spec
        critics_state_spec = critic_networks.state_spec
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            train_state_spec=SacState(repr_state_spec, repr_predict_state_spec, actor_state_spec, critics_state_spec,
                                      critics_state_spec),
            predict_state_spec=SacState(
                repr=repr_predict_state_spec,
                actor=actor_state_spec,
                critics=() if parts.type == ActionType.Continuous else critics_state_spec),
            reward_weights=reward_weights,
            env=env,
            config=config,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._parts = parts
        self._repr_alg = repr_alg
        self._actor_network = actor_network
        self._critic_networks = critic_networks
        self._target_repr_alg = copy.deepcopy(repr_alg)
        self._target_critic_networks = copy.deepcopy(critic_networks)
        for module in self._target_modules():
            module.requires_grad_(False)
        self._epsilon_greedy = common.get_epsilon_greedy(config) if epsilon_greedy is None else epsilon_greedy
        self._use_entropy_reward = use_entropy_reward
        self._entropy_normalizer = None
        if use_entropy_reward and normalize_entropy_reward:
            self._entropy_normalizer = AdaptiveNormalizer(
                TensorSpec((len(parts.specs), )), name=f"{name}.entropy_normalizer")
        self._calculate_priority = calculate_priority
        self._reproduce_locomotion = reproduce_locomotion
        self._dqda_clipping = dqda_clipping
        self._make_entropy_weights(target_entropy, prior_actor_ctor, target_kld_per_dim, initial_log_alpha,
                                   max_log_alpha)
        critic_loss_ctor = OneStepTDLoss if critic_loss_ctor is None else critic_loss_ctor
        self._critic_losses = nn.ModuleList(
            critic_loss_ctor(name=f"critic_loss{i}", debug_summaries=debug_summaries and i == 0)
            for i in range(num_critic_replicas))
        self._update_target = common.TargetUpdater(
            models=self._target_sources(),
            target_models=self._target_modules(),
            tau=target_update_tau,
            period=target_update_period)
        resettable = [critic_networks] if actor_network is None else [actor_network, critic_networks]
        self._periodic_reset = common.PeriodicReset(
            resettable, period=parameter_reset_period, reset_buffers=False, post_processings=[self._copy_to_target])
        trained = [(actor_optimizer, [actor_network]), (critic_optimizer, [critic_networks]),
                   (alpha_optimizer, self._log_alphas())]
        for optimizer, modules in trained:
            if optimizer is not None and modules != [None]:
                self.add_optimizer(optimizer, modules)

    # ---- construction --------------------------------------------------------------------------------------------

    def _make_entropy_weights(self, target_entropy, prior_actor_ctor: Optional[Callable], target_kld_per_dim: float,
                              initial_log_alpha: float, max_log_alpha: Optional[float]) -> None:
        parts, specs = self._parts, self._parts.specs
        self._prior_actor = None
        if prior_actor_ctor is not None:
            self._prior_actor = prior_actor_ctor(
                observation_spec=self._observation_spec,
                action_spec=self._action_spec,
                debug_summaries=self._debug_summaries)
            self._target_entropy = [-target_kld_per_dim * spec.numel for spec in specs]
        else:
            discrete_place = parts.discrete_place if parts.type == ActionType.Mixed else None
            self._target_entropy = target_entropies(specs, target_entropy, discrete_place, self._name)
        log_alphas = [nn.Parameter(torch.tensor(float(initial_log_alpha))) for _ in specs]
        self._log_alpha = log_alphas[0] if len(specs) == 1 else nn.ParameterList(log_alphas)
        self._max_log_alpha = max_log_alpha

    def _log_alphas(self) -> List[nn.Parameter]:
        """Return the logarithm of the entropy weight of each part of the action, in the order of the flat spec."""
        return [self._log_alpha] if isinstance(self._log_alpha, nn.Parameter) else list(self._log_alpha)

    def _target_sources(self) -> List[nn.Module]:
        """Return what the target networks follow."""
        return [module for module in (self._repr_alg, self._critic_networks) if module is not None]

    def _target_modules(self) -> List[nn.Module]:
        """Return the target networks."""
        return [module for module in (self._target_repr_alg, self._target_critic_networks) if module is not None]

    def _trainable_attributes_to_ignore(self) -> List[str]:
        return ["_target_critic_networks", "_target_repr_alg", "_prior_actor"]

    @torch.no_grad()
    def _copy_to_target(self) -> None:
        for source, target in zip(self._target_sources(), self._target_modules(), strict=True):
            torch._foreach_copy_(list(target.parameters()), list(source.parameters()))

    def convert_train_state_to_predict_state(self, state: SacState) -> SacState:
        """Return the part of a train state that acting needs."""
        critics = () if self._parts.type == ActionType.Continuous else state.critics
        return SacState(repr=state.repr, actor=state.actor, critics=critics)

    # ---- acting --------------------------------------------------------------------------------------------------

    def _represent(self, step_method: str, inputs: TimeStep, state: SacState, *rollout_info) -> AlgStep:
        """Return the step of the representation learner; without one, the observation."""
        if self._repr_alg is None:
            return AlgStep(output=inputs.observation)
        return getattr(self._repr_alg, step_method)(inputs, state.repr, *rollout_info)

    def _act(self, observation: Nest, state: SacState, epsilon_greedy: float):
        """Return an action, the distributions it was chosen from, and the new state of what chose it.

        Args:
            observation: nest ``[B, ...]``, as the networks see it.
            state: of actor and critics.
            epsilon_greedy: share of sampled actions; the rest takes the mode.
        """
        continuous_distribution = continuous = discrete_distribution = discrete = ()
        if self._actor_network is not None:
            continuous_distribution, actor_state = self._actor_network(observation, state=state.actor)
            continuous = dist_utils.epsilon_greedy_sample(continuous_distribution, epsilon_greedy)
            state = state._replace(actor=actor_state)
        if self._parts.type != ActionType.Continuous:
            values, critics_state = self._values(self._critic_networks, observation, continuous, state.critics)
            discrete_distribution = self._discrete_distribution(values)
            discrete = dist_utils.epsilon_greedy_sample(discrete_distribution, epsilon_greedy)
            state = state._replace(critics=critics_state)
        join = self._parts.join
        return join(continuous, discrete), join(continuous_distribution, discrete_distribution), state

    def predict_step(self, inputs: TimeStep, state: SacState) -> AlgStep:
        """Return the action: sampled for a share ``epsilon_greedy``, else the mode of the policy.

        Args:
            inputs: time step ``[B, ...]``.
            state: of what acts.
        """
        repr_step = self._represent("predict_step", inputs, state)
        action, distribution, state = self._act(repr_step.output, state, self._epsilon_greedy)
        return AlgStep(
            output=action, state=state._replace(repr=repr_step.state), info=SacInfo(action_distribution=distribution))

    def rollout_step(self, inputs: TimeStep, state: SacState) -> AlgStep:
        """Return a sampled action.

        Args:
            inputs: time step ``[B, ...]``.
            state: of all networks; that of those that do not act only advances if training begins from it.
        """
        repr_step = self._represent("rollout_step", inputs, state)
        action, new_state = self._explore(repr_step.output, state)
        if self.need_full_rollout_state():
            new_state = self._advance_critics(inputs, repr_step.output, action, state, new_state)
        return AlgStep(
            output=action,
            state=new_state._replace(repr=repr_step.state),
            info=SacInfo(action=action, repr=repr_step.info))

    def _explore(self, observation: Nest, state: SacState):
        """Return the action of a rollout, and the new state of what chose it. May be overridden.

        Args:
            observation: nest ``[B, ...]``, as the networks see it.
            state: of actor and critics.
        """
        action, _, state = self._act(observation, state, 1.0)
        return action, state

    def _advance_critics(self, inputs: TimeStep, observation: Nest, action: Nest, state: SacState,
                         new_state: SacState) -> SacState:
        """Return ``new_state`` with the states of critics and targets after an action was done.

        Args:
            inputs: time step ``[B, ...]``.
            observation: as the networks see it.
            action: what was done.
            state: before the step.
            new_state: with that of what acts.
        """
        continuous, _ = self._parts.split(action)
        target_observation, target_repr_state = self._target_represent(inputs, state)
        _, target_state = self._values(self._target_critic_networks, target_observation, continuous,
                                       state.target_critics)
        if self._parts.type == ActionType.Continuous:
            _, critics_state = self._values(self._critic_networks, observation, continuous, state.critics)
            new_state = new_state._replace(critics=critics_state)
        return new_state._replace(target_critics=target_state, target_repr=target_repr_state)

    # ---- values --------------------------------------------------------------------------------------------------

    def _values(self, networks: nn.Module, observation: Nest, continuous: Nest, state: Nest):
        """Return values of a continuous action ``[B, n]`` or ``[B, n, ...]``, or of all discrete ones ``[B, n, K]``
        beside it, and the new state.

        Args:
            networks: critics or target critics.
            observation: nest ``[B, ...]``.
            continuous: continuous part of the action ``[B, ...]``, ``()`` if there is none.
            state: of the networks.
        """
        inputs = observation if self._parts.type == ActionType.Discrete else (observation, continuous)
        return networks(inputs, state=state)

    def _lowest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the lowest ``[B, ...]`` of the values ``[B, n, ...]`` of the replicas. May be overridden."""
        return pessimistic_value(values, self._reward_weights)

    def _told_value(self, value: torch.Tensor) -> torch.Tensor:
        """Return what the policy maximises ``[B]``, from values ``[B]`` or ``[B, R]``. May be overridden."""
        return value if self._reward_weights is None else value @ self._reward_weights

    def _discrete_distribution(self, values: torch.Tensor) -> torch.distributions.Distribution:
        """Return the policy over the discrete action, from values ``[B, n, K]``. May be overridden."""
        log_alpha = self._log_alphas()[self._parts.discrete_place]
        return dist_utils.Categorical(logits=self._lowest(values.detach()) * (-log_alpha.detach()).exp())

    def _target_value(self, values: torch.Tensor, discrete_distribution) -> torch.Tensor:
        """Return the value ``[B]`` or ``[B, ...]`` of the policy. May be overridden.

        Args:
            values: of the target critics: ``[B, n, ...]`` of a sampled action, ``[B, n, K]`` of all discrete ones.
            discrete_distribution: policy over the discrete action; ``()`` without one.
        """
        value = self._lowest(values)
        return value if discrete_distribution == () else (discrete_distribution.probs * value).sum(-1)

    def _target_represent(self, inputs: TimeStep, state: SacState):
        """Return the observation that target critics see, and the new state of the target representation learner."""
        if self._target_repr_alg is None:
            return inputs.observation, ()
        step = self._target_repr_alg.predict_step(inputs, state.target_repr)
        return step.output, step.state

    # ---- training ------------------------------------------------------------------------------------------------

    def _policy_step(self, inputs: TimeStep, observation: Nest, state: SacState, values: Optional[torch.Tensor] = None,
                     with_loss: bool = True):
        """Return the policy at an observation, and the new state of the actor.

        Args:
            inputs: time step ``[B, ...]``, for the prior.
            observation: as the networks see it.
            state: of actor and critics.
            values: for a single discrete action: its values by the critics ``[B, n, K]``.
            with_loss: also compute the loss of the actor.
        """
        if self._parts.type == ActionType.Discrete:
            distribution = self._discrete_distribution(values)
            log_pi = self._minus_log_prior(inputs, (), distribution, [-distribution.entropy()])
            return Policy(self._parts.join((), distribution), (), distribution, log_pi), state.actor
        distribution, actor_state = self._actor_network(observation, state=state.actor)
        continuous, log_pi = _rsample(distribution)
        discrete_distribution = loss = ()
        is_mixed = self._parts.type == ActionType.Mixed
        if with_loss or is_mixed:
            # The graph from the action to its value ends at the action, so that its gradient stops there.
            leaf = map_structure(lambda action: action.detach().requires_grad_(with_loss), continuous)
            values, _ = self._values(self._critic_networks, observation, leaf, state.critics)
            lowest = self._lowest(values)
            if is_mixed:
                discrete_distribution = self._discrete_distribution(values)
                # The derivative of alpha * log(sum(exp(Q / alpha))), the soft value, is that of this expectation.
                lowest = (discrete_distribution.probs * lowest).sum(-1)
                log_pi.insert(self._parts.discrete_place, -discrete_distribution.entropy())
            if with_loss:
                value, actions = self._told_value(lowest), flatten(continuous)
                gradients = action_gradient(value, flatten(leaf), self._dqda_clipping)
                loss = minus_value_of_action(value, actions, gradients)
        log_pi = self._minus_log_prior(inputs, continuous, discrete_distribution, log_pi)
        distribution = self._parts.join(distribution, discrete_distribution)
        return Policy(distribution, continuous, discrete_distribution, log_pi, loss), actor_state

    def _minus_log_prior(self, inputs: TimeStep, continuous: Nest, discrete_distribution,
                         log_pi: List[torch.Tensor]) -> List[torch.Tensor]:
        """Return ``log_pi`` minus the log probability under the prior, expected for a discrete action.

        Args:
            inputs: time step ``[B, ...]``.
            continuous: sample of the continuous part.
            discrete_distribution: policy over the discrete part.
            log_pi: of each part ``[B]``.
        """
        if self._prior_actor is None:
            return log_pi
        prior = self._prior_actor.train_step(inputs, ()).output
        priors, discrete_prior = self._parts.split(prior)
        log_priors = [dist.log_prob(action) for dist, action in zip(flatten(priors), flatten(continuous), strict=True)]
        if discrete_prior != ():
            log_prior = (discrete_distribution.probs * discrete_prior.logits.log_softmax(-1)).sum(-1)
            log_priors.insert(self._parts.discrete_place, log_prior)
        return [ours - theirs for ours, theirs in zip(log_pi, log_priors, strict=True)]

    def train_step(self, inputs: TimeStep, state: SacState, rollout_info: SacInfo) -> AlgStep:
        """Return what the losses need of a stored step.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of all networks.
            rollout_info: info of the rollout step.
        """
        repr_step = self._represent("train_step", inputs, state, rollout_info.repr)
        observation = repr_step.output
        stored, stored_discrete = self._parts.split(rollout_info.action)
        values, critics_state = self._values(self._critic_networks, observation, stored, state.critics)
        policy, actor_state = self._policy_step(inputs, common.detach(observation), state, values)
        with torch.no_grad():
            target_observation, target_repr_state = self._target_represent(inputs, state)
            target_values, target_state = self._values(self._target_critic_networks, target_observation,
                                                       policy.continuous, state.target_critics)
            if flatten(target_state):
                # Its memory is of what was done, not of what the policy would do now.
                _, target_state = self._values(self._target_critic_networks, target_observation, stored,
                                               state.target_critics)
            target = self._target_value(target_values, policy.discrete_distribution)
        if self._parts.type != ActionType.Continuous:
            values = value_of_action(values, stored_discrete)
        return AlgStep(
            output=rollout_info.action,
            state=SacState(repr_step.state, target_repr_state, actor_state, critics_state, target_state),
            info=self._make_info(inputs, rollout_info, policy, values, target, self._entropy_reward(policy.log_pi),
                                 repr_step.info))

    def train_sequence(self, inputs: TimeStep, rollout_info: SacInfo, state: SacState = ()) -> SacInfo:
        """Return what the losses need of whole sequences, and nothing else.

        Critics value the actions of all steps but the last, target critics the policy at all steps but the first; the
        actor has a graph only at the steps that its loss is made of.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll ``[T, B, ...]``.
            state: not needed.
        Raises:
            ValueError: if the sequences have a single step.
        """
        check_at_least_two_steps(inputs.step_type, self._name)
        if self._repr_alg is not None or type(self).train_step is not SacAlgorithm.train_step:
            return super().train_sequence(inputs, rollout_info)
        batch_size = inputs.step_type.shape[1]
        state = self.get_initial_train_state(1)
        observation, later = fold(inputs.observation, slice(0, -1)), fold(inputs.observation, slice(1, None))
        stored, stored_discrete = self._parts.split(fold(rollout_info.action, slice(0, -1)))
        values, _ = self._values(self._critic_networks, observation, stored, ())
        if self._reproduce_locomotion:
            policy = at_later = self._policy_at(inputs, later, slice(1, None), state)
        else:
            policy = self._policy_at(inputs, observation, slice(0, -1), state, values)
            with torch.no_grad():
                last = fold(inputs.observation, slice(-1, None))
                at_last = self._policy_at(inputs, last, slice(-1, None), state, with_loss=False)
                at_later = _append(policy, at_last, batch_size)
        with torch.no_grad():
            target_values, _ = self._values(self._target_critic_networks, later, at_later.continuous, ())
            target = self._target_value(target_values, at_later.discrete_distribution)
        if self._parts.type != ActionType.Continuous:
            values = value_of_action(values, stored_discrete)
        return self._make_info(
            inputs,
            rollout_info,
            policy=policy._replace(
                loss=unfold(policy.loss, batch_size), log_pi=[unfold(part, batch_size) for part in policy.log_pi]),
            values=tensor_extend_zero(unfold(values, batch_size)),
            target=tensor_prepend_zero(unfold(target, batch_size)),
            entropy_reward=tensor_prepend_zero(unfold(self._entropy_reward(at_later.log_pi), batch_size)))

    def _policy_at(self, inputs: TimeStep, observation: Nest, rows: slice, state: SacState,
                   values: Optional[torch.Tensor] = None, with_loss: bool = True) -> Policy:
        """Return the policy at some rows of sequences, folded into one batch; arguments as in :meth:`_policy_step`.

        Args:
            inputs: time steps ``[T, B, ...]``.
            observation: of the rows, ``[N, ...]``.
            rows: which rows.
        """
        if self._parts.type == ActionType.Discrete and values is None:
            with torch.no_grad():
                values, _ = self._values(self._critic_networks, observation, (), ())
        inputs = () if self._prior_actor is None else fold(inputs, rows)
        return self._policy_step(inputs, observation, state, values, with_loss)[0]

    @torch.no_grad()
    def _entropy_reward(self, log_pi: List[torch.Tensor]) -> torch.Tensor:
        """Return the value ``[B]`` of the entropy of an action, from the ``log_pi`` ``[B]`` of its parts."""
        if self._entropy_normalizer is not None:
            log_pi = self._entropy_normalizer(torch.stack(log_pi, dim=-1)).unbind(-1)
        weights = self._log_alphas()
        return _sum([part * -log_alpha.exp() for part, log_alpha in zip(log_pi, weights, strict=True)])

    def _make_info(self, inputs: TimeStep, rollout_info: SacInfo, policy: Policy, values: torch.Tensor,
                   target: torch.Tensor, entropy_reward: torch.Tensor, repr_info: Nest = ()) -> SacInfo:
        return SacInfo(
            reward=inputs.reward,
            step_type=inputs.step_type,
            discount=inputs.discount,
            action=rollout_info.action,
            action_distribution=policy.distribution,
            actor_loss=policy.loss,
            log_pi=policy.log_pi,
            entropy_reward=entropy_reward,
            critic=SacCriticInfo(critics=values, target_critic=target),
            repr=repr_info)

    # ---- losses --------------------------------------------------------------------------------------------------

    def calc_loss(self, info: SacInfo) -> LossInfo:
        """Return the loss ``[T, B]``: of critics, actor and entropy weights. The last row is only bootstrapped from.

        Args:
            info: of sequences ``[T, B, ...]``.
        Raises:
            ValueError: if the sequences have a single step.
        """
        check_at_least_two_steps(info.step_type, self._name)
        critic_loss = self._calc_critic_loss(info)
        info = self._cut_to_policy_rows(info)
        actor_loss, weights_loss = self._calc_policy_losses(info)
        extend = tensor_prepend_zero if self._reproduce_locomotion else tensor_extend_zero
        loss = critic_loss + extend(actor_loss + weights_loss if self._actor_network is not None else weights_loss)
        extra = SacLossInfo(
            actor=actor_loss, critic=critic_loss, alpha=weights_loss, neg_entropy=_sum(info.log_pi).detach())
        if self._repr_alg is not None:
            repr_loss = self._repr_alg.calc_loss(info.repr)
            loss = math_ops.add_ignore_empty(loss, repr_loss.loss)
            extra = extra._replace(repr=repr_loss.extra)
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize(info)
        priority = self._calc_priority(info, critic_loss) if self._calculate_priority else ()
        scalar_loss = () if self._repr_alg is None else repr_loss.scalar_loss
        return LossInfo(loss=loss, scalar_loss=scalar_loss, priority=priority, extra=extra)

    def _cut_to_policy_rows(self, info: SacInfo) -> SacInfo:
        """Return ``info`` with what concerns the policy at the rows ``[T - 1, B]`` that its loss is made of."""
        if info.log_pi[0].shape[0] < info.step_type.shape[0]:
            return info
        rows = slice(1, None) if self._reproduce_locomotion else slice(0, -1)
        actor_loss, log_pi = map_structure(lambda leaf: leaf[rows], (info.actor_loss, info.log_pi))
        return info._replace(actor_loss=actor_loss, log_pi=log_pi)

    def _calc_policy_losses(self, info: SacInfo):
        """Return the loss of the actor, Eq. (7) of the paper, ``()`` without one, and that of the entropy weights."""
        actor_loss, weights_loss = info.actor_loss, None
        for log_alpha, log_pi, target in zip(self._log_alphas(), info.log_pi, self._target_entropy, strict=True):
            part = alpha_loss(log_alpha, log_pi, target)
            weights_loss = part if weights_loss is None else weights_loss + part
            if self._actor_network is not None:
                actor_loss = actor_loss + log_alpha.detach().exp() * log_pi
        return actor_loss, weights_loss

    def _calc_critic_loss(self, info: SacInfo) -> torch.Tensor:
        """Return the sum of the losses of the replicas ``[T, B]``; its last row is 0."""
        if self._use_entropy_reward:
            # Standing in the row of the observation it is of, the entropy counts from the step before on.
            gamma = self._critic_losses[0].gamma
            reward = common.expand_dims_as(info.entropy_reward * info.discount, info.reward) * gamma
            info = info._replace(reward=info.reward + reward)
        replicas = info.critic.critics.unbind(2)
        losses = [
            loss(info, value, info.critic.target_critic).loss
            for loss, value in zip(self._critic_losses, replicas, strict=True)
        ]
        return _sum(losses)

    def _calc_priority(self, info: SacInfo, critic_loss: torch.Tensor) -> torch.Tensor:
        """Return the root of the mean critic loss of each sequence ``[B]``."""
        valid = (info.step_type[:-1] != _LAST).to(critic_loss.dtype)
        mean = (critic_loss.detach()[:-1] * valid).sum(0) / valid.sum(0).clamp(min=1)
        return (mean / len(self._critic_losses)).sqrt()

    def _summarize(self, info: SacInfo) -> None:
        with summary.scope(self._name):
            for i, (log_alpha, log_pi) in enumerate(zip(self._log_alphas(), info.log_pi, strict=True)):
                suffix = "" if len(info.log_pi) == 1 else f"/{i}"
                summary.scalar(f"alpha{suffix}", log_alpha.detach().exp())
                summary_utils.add_mean_hist_summary(f"log_pi{suffix}", log_pi.detach())
            if self._use_entropy_reward:
                summary_utils.add_mean_hist_summary("entropy_reward", info.entropy_reward[1:])

    def after_update(self, root_inputs: TimeStep, info: SacInfo) -> None:
        """Move the targets, hold the entropy weights below their limit, and reset networks if that is due.

        Args:
            root_inputs: inputs of the root algorithm ``[T, B, ...]``.
            info: what :meth:`calc_loss` was given.
        """
        self._update_target()
        if self._max_log_alpha is not None:
            with torch.no_grad():
                for log_alpha in self._log_alphas():
                    log_alpha.clamp_(max=self._max_log_alpha)
        self._periodic_reset()

    def after_train_iter(self, inputs: TimeStep, info: SacInfo) -> None:
        """Tell the representation learner that an iteration is over.

        Args:
            inputs: of the root algorithm in the unroll ``[T, B, ...]``, or None.
            info: of the unroll.
        """
        if self._repr_alg is not None:
            self._repr_alg.after_train_iter(inputs, info.repr)


def _append(policy: Policy, last: Policy, batch_size: int) -> Policy:
    """Return the policy at the rows after the first one.

    Args:
        policy: at all rows but the last, ``[(T - 1) * B]``.
        last: at the last row ``[B]``.
        batch_size: B.
    """
    if policy.log_pi[0].shape[0] == batch_size:
        return last

    def join(now, at_last):
        return torch.cat([now.detach()[batch_size:], at_last])

    distribution = policy.discrete_distribution
    if distribution != ():
        distribution = dist_utils.Categorical(logits=join(distribution.logits, last.discrete_distribution.logits))
    return last._replace(
        continuous=map_structure(join, policy.continuous, last.continuous),
        discrete_distribution=distribution,
        log_pi=[join(now, at_last) for now, at_last in zip(policy.log_pi, last.log_pi, strict=True)])


def _rsample(distribution: Nest):
    """Return a sample of a nest of distributions with its graph, and the log probabilities ``[B]`` of its leaves."""
    leaves, structure = flatten_with_structure(distribution)
    samples = [dist_utils.rsample_action_distribution(leaf, return_log_prob=True) for leaf in leaves]
    return structure.unflatten([action for action, _ in samples]), [log_pi for _, log_pi in samples]


def _sum(tensors: List[torch.Tensor]) -> torch.Tensor:
    return sum(tensors[1:], tensors[0])
