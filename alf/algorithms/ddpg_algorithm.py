"""Deep deterministic policy gradient (DDPG), https://arxiv.org/abs/1509.02971.

Differences from the paper:

* Several critics may be trained; the lowest of their values counts.
* Rewards may be vectors: critics value each component, the actor maximises their weighted sum.
* Networks may be recurrent, as in https://arxiv.org/abs/1512.04455: critics remember what was done, and value the
  actions of actor and target actor after that history.
"""

import copy
from typing import Any, Callable, List, Optional, Tuple, Union

import torch

from alf.algorithms._actor_critic.action_box import ActionBox
from alf.algorithms._actor_critic.action_values import (
    action_gradient,
    minus_value_of_action,
    pessimistic_value,
    weights_fixed,
)
from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, TimeStep, namedtuple
from alf.nest import Nest, flatten, map_structure
from alf.networks.actor_networks import ActorNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.networks.network import NaiveParallelNetwork
from alf.networks.ou_process import OUProcess
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.schedulers import Scheduler, as_scheduler
from alf.utils.tensor_utils import tensor_extend_zero, tensor_prepend_zero

_LAST = int(StepType.LAST)

DdpgState = namedtuple(
    "DdpgState",
    [
        "actor",  # of the actor network
        "critics",  # of the critic networks, after what was done
        "target_actor",  # of the target actor network
        "target_critics",  # of the target critic networks, after what was done
        "noise",  # nest as the action: of the exploration noise
    ],
    default_value=())

DdpgCriticInfo = namedtuple(
    "DdpgCriticInfo",
    [
        "q_values",  # float32 [T, B, n] or [T, B, n, R]: of the stored action, by each of n critics
        "target_q_value",  # float32 [T, B] or [T, B, R]: of the target actor's action, by the target critics
    ],
    default_value=())

DdpgInfo = namedtuple(
    "DdpgInfo",
    [
        "step_type",  # int32 [T, B]
        "discount",  # float32 [T, B]
        "reward",  # float32 [T, B] or [T, B, R]
        "action",  # nest [T, B, ...]: what was done
        "actor_loss",  # float32 [T, B] or [T - 1, B]; () in an update that leaves the actor as it is
        "critic",  # DdpgCriticInfo
    ],
    default_value=())

DdpgLossInfo = namedtuple("DdpgLossInfo", ["actor", "critic"], default_value=())


@configurable
class DdpgAlgorithm(OffPolicyAlgorithm):
    """DDPG: an actor that follows the gradient of critics, which learn from stored experience.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs of the action.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``, and critics value each component.
        actor_network_ctor: called with ``input_tensor_spec`` and ``action_spec``.
        critic_network_ctor: called with ``input_tensor_spec=(observation_spec, action_spec)`` and
            ``output_tensor_spec``.
        reward_weights: weights of the components of a vector reward in what the actor maximises; None: all 1.
        epsilon_greedy: probability of uniformly random actions in ``predict_step``. None: ``config.epsilon_greedy``.
        calculate_priority: give priorities to a prioritized replay buffer: the root of the mean critic loss.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        ou_stddev: standard deviation of one step of the Ornstein-Uhlenbeck noise that ``rollout_step`` adds, in units
            of half the distance of the bounds of the action. 0: no noise.
        ou_damping: pull of that noise towards 0, in [0, 1]. It starts from 0 in each episode.
        critic_loss_ctor: called with ``name`` and ``debug_summaries``; makes a :class:`TDLoss`, for all critics. None:
            ``OneStepTDLoss``.
        num_critic_replicas: number of critics.
        target_update_tau: how far targets move towards their networks; see ``TargetUpdater``.
        target_update_period: in updates.
        rollout_random_action: probability of uniformly random actions in ``rollout_step``, a number or a scheduler. A
            ``StepScheduler`` of environment steps from 1 to 0 fills the replay buffer with random actions first.
        dqda_clipping: elements of the gradient of the value with respect to the action are clipped to plus or minus
            this in the actor loss; None: not at all.
        action_l2: weight of the squared action in the actor loss.
        actor_optimizer: trains the actor. As for the other, None leaves it to the optimizer of an algorithm above.
        critic_optimizer: trains the critics.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
    Raises:
        ValueError: if an action is discrete or has no bounds.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_ctor: Callable = ActorNetwork,
                 critic_network_ctor: Callable = CriticNetwork,
                 reward_weights: Optional[List[float]] = None,
                 epsilon_greedy: Optional[float] = None,
                 calculate_priority: bool = False,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 ou_stddev: float = 0.2,
                 ou_damping: float = 0.15,
                 critic_loss_ctor: Optional[Callable] = None,
                 num_critic_replicas: int = 1,
                 target_update_tau: Union[float, Scheduler] = 0.05,
                 target_update_period: Union[int, Scheduler] = 1,
                 rollout_random_action: Union[float, Scheduler] = 0.0,
                 dqda_clipping: Optional[float] = None,
                 action_l2: float = 0,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "DdpgAlgorithm"):
        action_box = ActionBox(action_spec, name)
        actor_network = actor_network_ctor(input_tensor_spec=observation_spec, action_spec=action_spec)
        critic_network = critic_network_ctor(
            input_tensor_spec=(observation_spec, action_spec), output_tensor_spec=reward_spec)
        # The matrix products of a single network are quicker than those of a batch of one.
        critic_networks = (NaiveParallelNetwork(critic_network, 1) if num_critic_replicas == 1 else
                           critic_network.make_parallel(num_critic_replicas))
        noise_spec = map_structure(TensorSpec.from_spec, action_spec) if ou_stddev else ()
        actor_state_spec, critics_state_spec = actor_network.state_spec, critic_networks.state_spec
        state_spec = DdpgState(actor_state_spec, critics_state_spec, actor_state_spec, critics_state_spec, noise_spec)
        is_recurrent = bool(flatten(state_spec._replace(noise=())))
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            # Training passes the noise through, only so that it can begin from the state of the unroll.
            train_state_spec=state_spec if is_recurrent else DdpgState(),
            rollout_state_spec=state_spec,
            predict_state_spec=DdpgState(actor=actor_state_spec),
            reward_weights=reward_weights,
            env=env,
            config=config,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._is_recurrent = is_recurrent
        self._action_box = action_box
        self._actor_network = actor_network
        self._critic_networks = critic_networks
        self._target_actor_network = copy.deepcopy(actor_network).requires_grad_(False)
        self._target_critic_networks = copy.deepcopy(critic_networks).requires_grad_(False)
        self._noise_process = OUProcess(noise_spec, damping=ou_damping, stddev=ou_stddev) if ou_stddev else None
        self._epsilon_greedy = common.get_epsilon_greedy(config) if epsilon_greedy is None else epsilon_greedy
        self._rollout_random_action = as_scheduler(rollout_random_action)
        self._calculate_priority = calculate_priority
        self._dqda_clipping = dqda_clipping
        self._action_l2 = action_l2
        critic_loss_ctor = OneStepTDLoss if critic_loss_ctor is None else critic_loss_ctor
        self._critic_loss = critic_loss_ctor(name="critic_loss", debug_summaries=debug_summaries)
        self._update_target = common.TargetUpdater(
            models=[actor_network, critic_networks],
            target_models=[self._target_actor_network, self._target_critic_networks],
            tau=target_update_tau,
            period=target_update_period)
        for optimizer, network in ((actor_optimizer, actor_network), (critic_optimizer, critic_networks)):
            if optimizer is not None:
                self.add_optimizer(optimizer, [network])

    def _trainable_attributes_to_ignore(self) -> List[str]:
        return ["_target_actor_network", "_target_critic_networks"]

    def convert_train_state_to_predict_state(self, state: DdpgState) -> DdpgState:
        """Return the part of a train state that acting without noise needs."""
        return DdpgState(actor=state.actor)

    def need_full_rollout_state(self) -> bool:
        """Return whether the unroll must compute the states of all networks, for training to begin from them."""
        return self._is_recurrent and self._use_rollout_state

    # ---- acting --------------------------------------------------------------------------------------------------

    def predict_step(self, inputs: TimeStep, state: DdpgState) -> AlgStep:
        """Return the action: uniformly random with probability ``epsilon_greedy``, else the actor's.

        Args:
            inputs: time step ``[B, ...]``.
            state: of the actor.
        """
        action, actor_state = self._actor_network(inputs.observation, state.actor)
        action = self._action_box.replace_some(action, self._epsilon_greedy)
        return AlgStep(output=action, state=DdpgState(actor=actor_state))

    def rollout_step(self, time_step: TimeStep, state: DdpgState = None) -> AlgStep:
        """Return the actor's action with noise, or with probability ``rollout_random_action`` a random one.

        Args:
            time_step: ``[B, ...]``.
            state: of all networks and of the noise; None: as where an episode begins.
        """
        observation = time_step.observation
        if state is None:
            state = self.get_initial_rollout_state(time_step.step_type.shape[0])
        action, actor_state = self._actor_network(observation, state.actor)
        action, noise = self._explore(action, state.noise)
        action = self._action_box.replace_some(action, self._rollout_random_action())
        new_state = state._replace(actor=actor_state, noise=noise)
        if self.need_full_rollout_state():
            _, target_actor_state = self._target_actor_network(observation, state.target_actor)
            _, critics_state = self._critic_networks((observation, action), state.critics)
            _, target_critics_state = self._target_critic_networks((observation, action), state.target_critics)
            new_state = new_state._replace(
                critics=critics_state, target_actor=target_actor_state, target_critics=target_critics_state)
        return AlgStep(output=action, state=new_state, info=DdpgInfo(action=action))

    def _explore(self, action: Nest, noise: Nest) -> Tuple[Nest, Nest]:
        """Return the action ``[B, ...]`` with noise, and the new state of the noise. May be overridden."""
        if self._noise_process is None:
            return action, noise
        noise = self._noise_process(noise)
        return self._action_box.perturb(action, noise), noise

    # ---- training ------------------------------------------------------------------------------------------------

    def _trains_actor(self) -> bool:
        """Return whether the present update trains the actor. May be overridden."""
        return True

    def _target_action(self, action: Nest) -> Nest:
        """Return what target critics value in place of the target actor's action ``[B, ...]``. May be overridden."""
        return action

    def _value_for_actor(self, q_values: torch.Tensor) -> torch.Tensor:
        """Return what the actor maximises ``[B]`` or ``[B, R]``, of the values ``[B, n]`` or ``[B, n, R]`` of the
        critics. May be overridden."""
        return pessimistic_value(q_values, self._reward_weights)

    def _actor_step(self, observation: Nest, state: DdpgState) -> Tuple[Any, Nest]:
        """Return the loss of the actor ``[B]``, ``()`` in an update that does not train it, and its new state.

        Its gradient is that of ``-Q(s, mu(s))``, Eq. (6) of https://arxiv.org/abs/1509.02971.
        """
        if not self._trains_actor():
            if not self._is_recurrent:
                return (), state.actor
            with torch.no_grad():
                return (), self._actor_network(observation, state.actor)[1]
        action, actor_state = self._actor_network(observation, state.actor)
        # The graph from the action to its value ends at the action, so that its gradient stops there.
        leaf = map_structure(lambda a: a.detach().requires_grad_(), action)
        with weights_fixed(self._critic_networks):
            q_values, _ = self._critic_networks((observation, leaf), state.critics)
        value = self._value_for_actor(q_values)
        if self._reward_weights is not None:
            value = value @ self._reward_weights
        actions = flatten(action)
        loss = minus_value_of_action(value, actions, action_gradient(value, flatten(leaf), self._dqda_clipping))
        if self._action_l2 > 0:
            loss = loss + self._action_l2 * sum(a.square().unsqueeze(-1).flatten(1).sum(-1) for a in actions)
        return loss, actor_state

    @torch.no_grad()
    def _target_step(self, observation: Nest, target_actor_state: Nest,
                     target_critics_state: Nest) -> Tuple[torch.Tensor, Nest]:
        """Return ``Q'(s, mu'(s))`` ``[B]`` or ``[B, R]``, and the new state of the target actor."""
        action, actor_state = self._target_actor_network(observation, target_actor_state)
        q_values, _ = self._target_critic_networks((observation, self._target_action(action)), target_critics_state)
        return pessimistic_value(q_values, self._reward_weights), actor_state

    @torch.no_grad()
    def _advance_target_critics(self, observation: Nest, action: Nest, state: Nest) -> Nest:
        """Return the state of the target critics after ``action`` was done."""
        return self._target_critic_networks((observation, action), state)[1] if flatten(state) else state

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: DdpgState, rollout_info: DdpgInfo) -> AlgStep:
        """Return what the losses need of a stored step.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of all networks.
            rollout_info: info of the rollout step.
        """
        observation, action = inputs.observation, rollout_info.action
        q_values, critics_state = self._critic_networks((observation, action), state.critics)
        actor_loss, actor_state = self._actor_step(observation, state)
        target_q_value, target_actor_state = self._target_step(observation, state.target_actor, state.target_critics)
        target_critics_state = self._advance_target_critics(observation, action, state.target_critics)
        return AlgStep(
            output=action,
            state=DdpgState(actor_state, critics_state, target_actor_state, target_critics_state, state.noise),
            info=self._make_info(inputs, action, actor_loss, q_values, target_q_value))

    def train_sequence(self, inputs: TimeStep, rollout_info: DdpgInfo, state: Nest = ()) -> DdpgInfo:
        """Return what the losses need of sequences: targets of all steps but the first, the rest of all but the last.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll ``[T, B, ...]``.
            state: not needed: this is not called for recurrent networks.
        """
        length = inputs.step_type.shape[0]
        observation, action = map_structure(lambda leaf: leaf[:-1].flatten(0, 1),
                                            (inputs.observation, rollout_info.action))
        next_observation = map_structure(lambda leaf: leaf[1:].flatten(0, 1), inputs.observation)

        def as_rows(leaf):
            return leaf.unflatten(0, (length - 1, -1)) if length > 2 else leaf.unsqueeze(0)

        q_values, _ = self._critic_networks((observation, action))
        actor_loss, _ = self._actor_step(observation, DdpgState())
        target_q_value, _ = self._target_step(next_observation, (), ())
        return self._make_info(inputs, rollout_info.action, map_structure(as_rows, actor_loss),
                               tensor_extend_zero(as_rows(q_values)), tensor_prepend_zero(as_rows(target_q_value)))

    @staticmethod
    def _make_info(inputs: TimeStep, action: Nest, actor_loss: Any, q_values: torch.Tensor,
                   target_q_value: torch.Tensor) -> DdpgInfo:
        return DdpgInfo(
            step_type=inputs.step_type,
            discount=inputs.discount,
            reward=inputs.reward,
            action=action,
            actor_loss=actor_loss,
            critic=DdpgCriticInfo(q_values=q_values, target_q_value=target_q_value))

    # ---- losses --------------------------------------------------------------------------------------------------

    def calc_loss(self, info: DdpgInfo) -> LossInfo:
        """Return the loss ``[T, B]``: the sum of those of actor and critics. The last row is only bootstrapped from.

        Args:
            info: of sequences ``[T, B, ...]``.
        Raises:
            ValueError: if the sequences have a single step.
        """
        num_rows = info.step_type.shape[0]
        if num_rows < 2:
            raise ValueError(f"TrainerConfig.mini_batch_length: {self.name} expected sequences of at least 2 steps, "
                             f"for the last one is only bootstrapped from, got {num_rows}. Set it with "
                             "alf.config(\"TrainerConfig\", mini_batch_length=2).")
        critic_losses = self._critic_losses(info)
        critic_loss = loss = critic_losses.sum(-1)
        actor_loss = ()
        if isinstance(info.actor_loss, torch.Tensor):
            actor_loss = tensor_extend_zero(info.actor_loss[:num_rows - 1])
            loss = critic_loss + actor_loss
        return LossInfo(
            loss=loss,
            priority=self._priority(critic_losses, info.step_type) if self._calculate_priority else (),
            extra=DdpgLossInfo(actor=actor_loss, critic=critic_loss))

    def _critic_losses(self, info: DdpgInfo) -> torch.Tensor:
        """Return the TD losses of the critics ``[T, B, n]``."""
        q_values, target = info.critic.q_values, info.critic.target_q_value
        num_critics = q_values.shape[2]
        if num_critics == 1:
            return self._critic_loss(info, q_values.squeeze(2), target).loss.unsqueeze(-1)

        # They all have the same target: to the loss they are a larger batch.
        def repeat(leaf):
            return leaf.unsqueeze(2).expand(-1, -1, num_critics, *leaf.shape[2:]).flatten(1, 2)

        batch = DdpgInfo(step_type=repeat(info.step_type), discount=repeat(info.discount), reward=repeat(info.reward))
        loss = self._critic_loss(batch, q_values.flatten(1, 2), repeat(target)).loss
        return loss.unflatten(1, (-1, num_critics))

    @staticmethod
    @torch.no_grad()
    def _priority(critic_losses: torch.Tensor, step_type: torch.Tensor) -> torch.Tensor:
        """Return the root of the mean loss of a critic ``[B]`` over steps that begin a transition; 0 without any."""
        counts = step_type[:-1] != _LAST
        mean = (critic_losses[:-1].mean(-1) * counts).sum(0) / counts.sum(0).clamp(min=1)
        return mean.sqrt()

    def after_update(self, root_inputs: TimeStep, info: DdpgInfo) -> None:
        """Move the targets.

        Args:
            root_inputs: not needed.
            info: not needed.
        """
        self._update_target()
