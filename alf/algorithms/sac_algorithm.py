"""Soft actor-critic (SAC), https://arxiv.org/abs/1812.05905, for continuous, discrete and mixed actions.

Differences from the paper:

* A policy over a discrete action is not learned but follows from the values of the actions: ``softmax(Q / alpha)``,
  which is what the paper's policy is regressed on, Eq. (4). Mixed actions: the actor makes the continuous part, and the
  critics then value each discrete action together with it.
* The entropy of a discrete action, and the value that it leads to, are expectations, not samples.
* All losses are made of the same sequences; their last step is only bootstrapped from.
"""

import copy
from typing import Callable, List, Optional, Tuple, Union

import torch
from torch import nn

from alf import summary
from alf.algorithms._actor_critic.action_kind import ActionParts, ActionType
from alf.algorithms._actor_critic.action_values import pessimistic_value, value_of_action
from alf.algorithms._actor_critic.entropy_weights import EntropyWeights, target_entropies
from alf.algorithms._actor_critic.networks import make_networks
from alf.algorithms._actor_critic.representation import Representation
from alf.algorithms._actor_critic.rows import check_at_least_two_steps, fold, unfold
from alf.algorithms._actor_critic.sac_losses import (
    critic_priority,
    cut_to_policy_rows,
    sum_of_critic_losses,
    summarize_entropy,
)
from alf.algorithms._actor_critic.sac_nests import SacCriticInfo, SacInfo, SacLossInfo, SacState
from alf.algorithms._actor_critic.soft_policy import Policy, SoftPolicy, append_last_row
from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.config_util import configurable
from alf.data_structures import AlgStep, BatchInfo, LossInfo, TimeStep
from alf.nest import Nest, flatten
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.networks.q_networks import QNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common, math_ops
from alf.utils.normalizers import AdaptiveNormalizer
from alf.utils.schedulers import Scheduler
from alf.utils.tensor_utils import tensor_extend_zero, tensor_prepend_zero


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
        epsilon_greedy: probability of sampling in ``predict_step`` instead of taking the mode. None:
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
        representation = Representation.make(repr_alg_ctor, observation_spec, action_spec, reward_spec, config,
                                             debug_summaries)
        actor_network, critic_networks = make_networks(parts, representation.output_spec, reward_spec,
                                                       actor_network_cls, critic_network_cls, q_network_cls,
                                                       num_critic_replicas, name)
        actor_state_spec = () if actor_network is None else actor_network.state_spec
        critics_state_spec = critic_networks.state_spec
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            train_state_spec=SacState(representation.state_spec, representation.predict_state_spec, actor_state_spec,
                                      critics_state_spec, critics_state_spec),
            predict_state_spec=SacState(
                repr=representation.predict_state_spec,
                actor=actor_state_spec,
                critics=() if parts.type == ActionType.Continuous else critics_state_spec),
            reward_weights=reward_weights,
            env=env,
            config=config,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._parts = parts
        self._representation = representation
        self._repr_alg, self._target_repr_alg = representation.learner, representation.target
        self._actor_network = actor_network
        self._critic_networks = critic_networks
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
        self._prior_actor = None
        if prior_actor_ctor is not None:
            self._prior_actor = prior_actor_ctor(
                observation_spec=observation_spec, action_spec=action_spec, debug_summaries=debug_summaries)
        log_alphas = [nn.Parameter(torch.tensor(float(initial_log_alpha))) for _ in parts.specs]
        self._log_alpha = log_alphas[0] if len(log_alphas) == 1 else nn.ParameterList(log_alphas)
        targets = [-target_kld_per_dim * spec.numel for spec in parts.specs]
        if prior_actor_ctor is None:
            targets = target_entropies(parts.specs, target_entropy, parts.discrete_place, name)
        self._weights = EntropyWeights(self._log_alphas, targets, max_log_alpha, self._entropy_normalizer)
        self._policy = SoftPolicy(parts, actor_network, critic_networks, self._weights, self._lowest,
                                  self._scalarize_value, self._prior_actor, dqda_clipping)
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
                   (alpha_optimizer, log_alphas)]
        for optimizer, modules in trained:
            if optimizer is not None and modules != [None]:
                self.add_optimizer(optimizer, modules)

    # ---- what subclasses may override ----------------------------------------------------------------------------

    def _explore(self, observation: Nest, state: SacState) -> Tuple[Nest, SacState]:
        """Return the action of a rollout, and the new state of what chose it. May be overridden.

        Args:
            observation: nest ``[B, ...]``, as the networks see it.
            state: of actor and critics.
        """
        action, _, state = self._policy.act(observation, state, 1.0)
        return action, state

    def _lowest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the lowest ``[B, ...]`` of the values ``[B, n, ...]`` of the replicas. May be overridden."""
        return pessimistic_value(values, self._reward_weights)

    def _scalarize_value(self, value: torch.Tensor) -> torch.Tensor:
        """Return what the policy maximises ``[B]``, from values ``[B]`` or ``[B, R]``. May be overridden."""
        return value if self._reward_weights is None else value @ self._reward_weights

    def _log_alphas(self) -> List[torch.Tensor]:
        """Return the logarithms of the entropy weights ``[]``, in the order of the flat action spec."""
        return [self._log_alpha] if isinstance(self._log_alpha, torch.Tensor) else list(self._log_alpha)

    # ---- target networks -----------------------------------------------------------------------------------------

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

    # ---- acting --------------------------------------------------------------------------------------------------

    def convert_train_state_to_predict_state(self, state: SacState) -> SacState:
        """Return the part of a train state that acting needs."""
        critics = () if self._parts.type == ActionType.Continuous else state.critics
        return SacState(repr=state.repr, actor=state.actor, critics=critics)

    def predict_step(self, inputs: TimeStep, state: SacState) -> AlgStep:
        """Return the action: sampled with probability ``epsilon_greedy``, else the mode of the policy.

        Args:
            inputs: time step ``[B, ...]``.
            state: of what acts.
        """
        repr_step = self._representation.step("predict_step", inputs, state.repr)
        action, distribution, state = self._policy.act(repr_step.output, state, self._epsilon_greedy)
        return AlgStep(
            output=action, state=state._replace(repr=repr_step.state), info=SacInfo(action_distribution=distribution))

    def rollout_step(self, inputs: TimeStep, state: SacState) -> AlgStep:
        """Return a sampled action.

        Args:
            inputs: time step ``[B, ...]``.
            state: of all networks; that of those that do not act only advances if training begins from it.
        """
        repr_step = self._representation.step("rollout_step", inputs, state.repr)
        action, new_state = self._explore(repr_step.output, state)
        if self.need_full_rollout_state():
            new_state = self._advance_critics(inputs, repr_step.output, action, state, new_state)
        return AlgStep(
            output=action,
            state=new_state._replace(repr=repr_step.state),
            info=SacInfo(action=action, repr=repr_step.info))

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
        target_observation, target_repr_state = self._representation.target_step(inputs, state.target_repr)
        _, target_state = self._values(self._target_critic_networks, target_observation, continuous,
                                       state.target_critics)
        if self._parts.type == ActionType.Continuous:
            _, critics_state = self._values(self._critic_networks, observation, continuous, state.critics)
            new_state = new_state._replace(critics=critics_state)
        return new_state._replace(target_critics=target_state, target_repr=target_repr_state)

    def _values(self, networks: nn.Module, observation: Nest, continuous: Nest,
                state: Nest) -> Tuple[torch.Tensor, Nest]:
        """Return values ``[B, n]``, ``[B, n, ...]`` or, of discrete actions, ``[B, n, K]``, and the new state.

        Args:
            networks: critics or target critics.
            observation: nest ``[B, ...]``, as the networks see it.
            continuous: continuous part of the action ``[B, ...]``, ``()`` if there is none.
            state: of the networks.
        """
        return networks(self._parts.critic_inputs(observation, continuous), state=state)

    # ---- training ------------------------------------------------------------------------------------------------

    def preprocess_experience(self, root_inputs: TimeStep, rollout_info: SacInfo,
                              batch_info: BatchInfo) -> Tuple[TimeStep, SacInfo]:
        """Let the representation learner preprocess experience.

        Args:
            root_inputs: time steps ``[B, T, ...]``.
            rollout_info: infos of the unroll ``[B, T, ...]``.
            batch_info: of the sequences.
        """
        return self._representation.preprocess_experience(root_inputs, rollout_info, batch_info)

    @property
    def preprocesses_experience(self) -> bool:
        """Whether there is a representation learner, or a subclass preprocesses."""
        return (self._representation.learner is not None
                or type(self).preprocess_experience is not SacAlgorithm.preprocess_experience)

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: SacState, rollout_info: SacInfo) -> AlgStep:
        """Return what the losses need of a stored step.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of all networks.
            rollout_info: info of the rollout step.
        """
        repr_step = self._representation.step("train_step", inputs, state.repr, rollout_info.repr)
        observation = repr_step.output
        stored, stored_discrete = self._parts.split(rollout_info.action)
        values, critics_state = self._values(self._critic_networks, observation, stored, state.critics)
        policy, actor_state = self._policy.at(inputs, common.detach(observation), state, values)
        with torch.no_grad():
            target_observation, target_repr_state = self._representation.target_step(inputs, state.target_repr)
            target_values, target_state = self._values(self._target_critic_networks, target_observation,
                                                       policy.continuous, state.target_critics)
            if flatten(target_state):
                # Its memory is of what was done, not of what the policy would do now.
                _, target_state = self._values(self._target_critic_networks, target_observation, stored,
                                               state.target_critics)
            target = self._policy.value(target_values, policy.discrete_distribution)
        if self._parts.type != ActionType.Continuous:
            values = value_of_action(values, stored_discrete)
        return AlgStep(
            output=rollout_info.action,
            state=SacState(repr_step.state, target_repr_state, actor_state, critics_state, target_state),
            info=self._make_info(inputs, rollout_info, policy, values, target, self._weights.reward(policy.log_pi),
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
        if self._repr_alg is not None:
            return super().train_sequence(inputs, rollout_info)
        batch_size = inputs.step_type.shape[1]
        state = self.get_initial_train_state(1)
        observation, later = fold(inputs.observation, slice(0, -1)), fold(inputs.observation, slice(1, None))
        stored, stored_discrete = self._parts.split(fold(rollout_info.action, slice(0, -1)))
        values, _ = self._values(self._critic_networks, observation, stored, ())
        if self._reproduce_locomotion:
            policy = at_later = self._policy.at_rows(inputs, later, slice(1, None), state)
        else:
            policy = self._policy.at_rows(inputs, observation, slice(0, -1), state, values)
            with torch.no_grad():
                last = fold(inputs.observation, slice(-1, None))
                at_last = self._policy.at_rows(inputs, last, slice(-1, None), state, with_loss=False)
                at_later = append_last_row(policy, at_last, batch_size)
        with torch.no_grad():
            target_values, _ = self._values(self._target_critic_networks, later, at_later.continuous, ())
            target = self._policy.value(target_values, at_later.discrete_distribution)
        if self._parts.type != ActionType.Continuous:
            values = value_of_action(values, stored_discrete)
        return self._make_info(
            inputs,
            rollout_info,
            policy=policy._replace(
                loss=unfold(policy.loss, batch_size), log_pi=[unfold(part, batch_size) for part in policy.log_pi]),
            values=tensor_extend_zero(unfold(values, batch_size)),
            target=tensor_prepend_zero(unfold(target, batch_size)),
            entropy_reward=tensor_prepend_zero(unfold(self._weights.reward(at_later.log_pi), batch_size)))

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
        critic_loss = sum_of_critic_losses(info, self._critic_losses, self._use_entropy_reward)
        info = cut_to_policy_rows(info, slice(1, None) if self._reproduce_locomotion else slice(0, -1))
        actor_loss, weights_loss = (), self._weights.loss(info.log_pi)
        policy_loss = weights_loss
        if self._actor_network is not None:
            actor_loss = self._weights.add_costs(info.actor_loss, info.log_pi)  # Eq. (7) of the paper
            policy_loss = actor_loss + weights_loss
        extend = tensor_prepend_zero if self._reproduce_locomotion else tensor_extend_zero
        loss, scalar_loss, repr_extra = critic_loss + extend(policy_loss), (), ()
        if self._repr_alg is not None:
            repr_loss = self._repr_alg.calc_loss(info.repr)
            loss = math_ops.add_ignore_empty(loss, repr_loss.loss)
            scalar_loss, repr_extra = repr_loss.scalar_loss, repr_loss.extra
        if self._debug_summaries and summary.should_record_summaries():
            with summary.scope(self._name):
                summarize_entropy(info, self._weights, self._use_entropy_reward)
        neg_entropy = sum(info.log_pi[1:], info.log_pi[0]).detach()
        priority = ()
        if self._calculate_priority:
            priority = critic_priority(info.step_type, critic_loss, len(self._critic_losses))
        extra = SacLossInfo(actor_loss, critic_loss, weights_loss, neg_entropy, repr_extra)
        return LossInfo(loss=loss, scalar_loss=scalar_loss, priority=priority, extra=extra)

    def after_update(self, root_inputs: TimeStep, info: SacInfo) -> None:
        """Tell the representation learner, move the targets, limit the entropy weights, reset networks if that is due.

        Args:
            root_inputs: inputs of the root algorithm ``[T, B, ...]``.
            info: what :meth:`calc_loss` was given, or ``()``.
        """
        if self._repr_alg is not None:
            self._repr_alg.after_update(root_inputs, () if info == () else info.repr)
        self._update_target()
        self._weights.limit()
        self._periodic_reset()

    def after_train_iter(self, inputs: TimeStep, info: SacInfo) -> None:
        """Tell the representation learner that an iteration is over.

        Args:
            inputs: of the root algorithm in the unroll ``[T, B, ...]``, or None.
            info: of the unroll.
        """
        if self._repr_alg is not None:
            self._repr_alg.after_train_iter(inputs, info.repr)
