"""Deep Q-learning (DQN), https://www.nature.com/articles/nature14236, and the improvements that Rainbow puts together.

Each is a switch of its own (https://arxiv.org/abs/1710.02298):

* double Q-learning: ``DqnAlgorithm.target_net_target_action=False``
* value distributions: ``DqnAlgorithm.value_distribution``, with a network that has ``num_values``
* dueling streams: ``q_network_cls=DuelingQNetwork``
* noisy layers: ``noisy_std`` of that network, and ``DqnAlgorithm.rollout_epsilon_greedy=0``
* n-step targets: the data transformer ``NStepReturn``
* prioritized replay: ``TrainerConfig.priority_replay``

Of :class:`SacAlgorithm` this has the critics of discrete actions, their replicas, targets and resets; there is no
entropy.
"""

import functools
import inspect
from typing import Callable, Optional, Union

import torch

from alf.algorithms._actor_critic.rows import check_at_least_two_steps, fold, unfold
from alf.algorithms._q_learning.categorical import categorical_mean
from alf.algorithms._q_learning.exploration import epsilon_greedy_actions, rollout_epsilons
from alf.algorithms._q_learning.targets import (
    distributions_of_actions,
    smallest_of_replicas,
    target_distribution,
    target_value,
    values_of_actions,
)
from alf.algorithms.categorical_td_loss import CategoricalTDLoss
from alf.algorithms.config import TrainerConfig
from alf.algorithms.one_step_loss import OneStepTDLoss, OneStepTDQRLoss
from alf.algorithms.sac_algorithm import SacAlgorithm, SacState
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, TimeStep, namedtuple
from alf.nest import Nest, flatten
from alf.networks.q_networks import QNetwork
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec, TensorSpec
from alf.utils.schedulers import Scheduler, as_scheduler
from alf.utils.tensor_utils import tensor_extend_zero, tensor_prepend_zero

_LAST = int(StepType.LAST)

# Only the states of critics and target critics are used.
DqnState = SacState

DqnInfo = namedtuple(
    "DqnInfo",
    [
        "action",  # int64 [T, B]: what was done
        "reward",  # float32 [T, B]
        "step_type",  # int32 [T, B]
        "discount",  # float32 [T, B]
        "value",  # float32 [T, B, n]: of the action by each replica; or [T, B, n, N]: logits of atoms, or quantiles
        "target_value",  # float32 [T, B] or [T, B, N]: of the best action, by the target network
    ],
    default_value=())

DqnLossInfo = namedtuple(
    "DqnLossInfo",
    [
        "q_loss",  # float32 [T, B]: sum over replicas
    ],
    default_value=())

_DISTRIBUTIONS = (None, "c51", "qr")


@configurable
class DqnAlgorithm(SacAlgorithm):
    """DQN for a single discrete action.

    Target networks follow as ``SacAlgorithm.target_update_tau`` and ``target_update_period`` say; the hard updates of
    DQN are ``target_update_tau=1`` and a ``target_update_period`` of some hundreds or thousands of updates.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape ``()``, minimum 0.
        reward_spec: spec of the reward, a scalar.
        q_network_cls: called with ``input_tensor_spec`` and ``action_spec``, and for a value distribution with
            ``num_values``; makes the Q network.
        q_optimizer: trains it; None: the optimizer of an algorithm above.
        rollout_epsilon_greedy: probability of random actions in unrolls, a number or a scheduler; 0 for noisy
            networks. In evaluation it is ``TrainerConfig.epsilon_greedy``.
        target_net_target_action: whether the target network itself chooses the action that it values, as in DQN; if
            not, the trained one does: double Q-learning, https://arxiv.org/abs/1509.06461.
        num_critic_replicas: number of Q networks; the value of an action is the smallest of theirs.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        critic_loss_ctor: called with ``name`` and ``debug_summaries``, once a replica, and with those of
            ``num_atoms`` (for ``"qr"`` as ``num_quantiles``), ``v_min`` and ``v_max`` that are not None. None:
            ``OneStepTDLoss``; ``CategoricalTDLoss`` for ``"c51"``, ``OneStepTDQRLoss`` for ``"qr"``.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
        value_distribution: None: a value is its mean; ``"c51"``: a categorical distribution over fixed atoms,
            https://arxiv.org/abs/1707.06887; ``"qr"``: quantiles, https://arxiv.org/abs/1710.10044.
        num_atoms: number of atoms, or of quantiles; None: as the loss says.
        v_min: smallest atom of ``"c51"``; None: as the loss says.
        v_max: largest atom of ``"c51"``; None: as the loss says.
        rollout_epsilon_alpha: environment i of N explores with ``epsilon ** (1 + alpha * i / (N - 1))``,
            https://arxiv.org/abs/1803.00933.
        calculate_priority: give priorities to a prioritized replay buffer: the mean of ``|TD error|`` over the steps
            of a sequence, or of the loss for a distribution. None: if ``TrainerConfig.priority_replay``.
    Raises:
        ValueError: if action, reward, network or an argument is of another kind.
    """

    def __init__(self,
                 observation_spec: NestedTensorSpec,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 q_network_cls: Callable[..., QNetwork] = QNetwork,
                 q_optimizer: Optional[torch.optim.Optimizer] = None,
                 rollout_epsilon_greedy: Union[float, Scheduler] = 0.1,
                 target_net_target_action: bool = True,
                 num_critic_replicas: int = 2,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 critic_loss_ctor: Optional[Callable] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "DqnAlgorithm",
                 value_distribution: Optional[str] = None,
                 num_atoms: Optional[int] = None,
                 v_min: Optional[float] = None,
                 v_max: Optional[float] = None,
                 rollout_epsilon_alpha: float = 0.0,
                 calculate_priority: Optional[bool] = None):
        _check_specs(action_spec, reward_spec, name)
        if value_distribution not in _DISTRIBUTIONS:
            raise ValueError(f"{name}.value_distribution: expected one of {list(_DISTRIBUTIONS)}, got "
                             f"{value_distribution!r}.")
        if not callable(rollout_epsilon_greedy) and not 0 <= rollout_epsilon_greedy <= 1:
            raise ValueError(f"{name}.rollout_epsilon_greedy: expected a number from 0 to 1 or a scheduler, got "
                             f"{rollout_epsilon_greedy!r}.")
        loss_ctor = _loss_ctor(critic_loss_ctor, value_distribution, num_atoms, v_min, v_max)
        if value_distribution is not None:
            _check_has_num_values(q_network_cls, value_distribution, name)
            loss = loss_ctor(name=name, debug_summaries=False)
            num_values = loss.num_quantiles if value_distribution == "qr" else len(loss.support)
            q_network_cls = functools.partial(q_network_cls, num_values=num_values)
        if calculate_priority is None:
            calculate_priority = config is not None and config.priority_replay
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            q_network_cls=q_network_cls,
            repr_alg_ctor=None,
            reward_weights=None,
            use_entropy_reward=False,
            calculate_priority=calculate_priority,
            num_critic_replicas=num_critic_replicas,
            env=env,
            config=config,
            critic_loss_ctor=loss_ctor,
            target_entropy=0.0,
            prior_actor_ctor=None,
            max_log_alpha=None,
            actor_optimizer=None,
            critic_optimizer=q_optimizer,
            alpha_optimizer=None,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            reproduce_locomotion=False,
            name=name)
        self._log_alpha = None  # there is no entropy to weigh
        self._value_distribution = value_distribution
        self._double = not target_net_target_action
        self._rollout_epsilon = as_scheduler(rollout_epsilon_greedy)
        self._rollout_epsilon_alpha = rollout_epsilon_alpha

    # ---- values --------------------------------------------------------------------------------------------------

    def _means(self, values: torch.Tensor) -> torch.Tensor:
        """Return the mean values of the actions ``[B, n, K]`` from what the networks put out."""
        if self._value_distribution is None:
            return values
        if self._value_distribution == "c51":
            return categorical_mean(values, self._critic_losses[0].support)
        return values.mean(dim=-1)

    def _of_action(self, values: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return the part of ``values`` ``[B, n, K]`` or ``[B, n, K, N]`` that belongs to actions ``[B]``."""
        of_actions = values_of_actions if self._value_distribution is None else distributions_of_actions
        return of_actions(values, action.long())

    def _target(self, target_values: torch.Tensor, selecting_values: Optional[torch.Tensor]) -> torch.Tensor:
        """Return the value ``[B]`` or its distribution ``[B, N]`` of the best action.

        Args:
            target_values: of the target network, ``[B, n, K]`` or ``[B, n, K, N]``.
            selecting_values: of the network that selects the action; None: the target network.
        """
        selecting_q = None if selecting_values is None else self._means(selecting_values)
        if self._value_distribution is None:
            return target_value(target_values, selecting_q)
        return target_distribution(target_values, self._means(target_values), selecting_q)

    # ---- acting --------------------------------------------------------------------------------------------------

    def _choose(self, inputs: TimeStep, state: DqnState, epsilon: Union[float, torch.Tensor]):
        """Return epsilon-greedy actions ``[B]`` and the new state of the network."""
        values, critics_state = self._critic_networks(inputs.observation, state=state.critics)
        q_values = smallest_of_replicas(self._means(values))
        action = epsilon_greedy_actions(q_values, epsilon).to(self._parts.discrete_spec.dtype)
        return action, state._replace(critics=critics_state)

    def predict_step(self, inputs: TimeStep, state: DqnState) -> AlgStep:
        """Return the best action, or with probability ``TrainerConfig.epsilon_greedy`` a random one.

        Args:
            inputs: time step ``[B, ...]``.
            state: of the network.
        """
        action, state = self._choose(inputs, state, self._epsilon_greedy)
        return AlgStep(output=self._parts.join((), action), state=state)

    def rollout_step(self, inputs: TimeStep, state: DqnState) -> AlgStep:
        """Return the best action, or with probability ``rollout_epsilon_greedy`` a random one.

        Args:
            inputs: time step ``[B, ...]``.
            state: of both networks; that of the target only advances if training begins from it.
        """
        epsilon = float(self._rollout_epsilon())
        if self._rollout_epsilon_alpha and epsilon > 0:
            epsilon = rollout_epsilons(epsilon, self._rollout_epsilon_alpha, inputs, self._config)
        action, new_state = self._choose(inputs, state, epsilon)
        if self.need_full_rollout_state():
            _, target_state = self._target_critic_networks(inputs.observation, state=state.target_critics)
            new_state = new_state._replace(target_critics=target_state)
        return AlgStep(output=self._parts.join((), action), state=new_state, info=DqnInfo(action=action))

    def overwrite_action(self, rollout_info: DqnInfo, action: Nest) -> DqnInfo:
        """Return the info of rollout steps with another action, nested as the action spec."""
        return rollout_info._replace(action=self._parts.split(action)[1])

    # ---- training ------------------------------------------------------------------------------------------------

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: DqnState, rollout_info: DqnInfo) -> AlgStep:
        """Return the value of a stored action and the target network's value of the best one.

        Args:
            inputs: time step ``[B, ...]``.
            state: of both networks.
            rollout_info: its ``action`` is what was done.
        """
        values, critics_state = self._critic_networks(inputs.observation, state=state.critics)
        with torch.no_grad():
            target_values, target_state = self._target_critic_networks(inputs.observation, state=state.target_critics)
            target = self._target(target_values, values.detach() if self._double else None)
        return AlgStep(
            output=rollout_info.action,
            state=state._replace(critics=critics_state, target_critics=target_state),
            info=self._info(inputs, rollout_info, self._of_action(values, rollout_info.action), target))

    def train_sequence(self, inputs: TimeStep, rollout_info: DqnInfo, state: Nest = ()) -> DqnInfo:
        """Return the info of all steps: values of all but the last row, target values of all but the first.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll ``[T, B, ...]``.
            state: ``()``; recurrent networks go step by step.
        Raises:
            ValueError: if the sequences have a single step.
        """
        check_at_least_two_steps(inputs.step_type, self._name)
        batch_size = inputs.step_type.shape[1]
        later = fold(inputs.observation, slice(1, None))
        with torch.no_grad():
            target_values, _ = self._target_critic_networks(later)
            selecting_values = self._critic_networks(later)[0] if self._double else None
            target = self._target(target_values, selecting_values)
        values, _ = self._critic_networks(fold(inputs.observation, slice(0, -1)))
        value = self._of_action(values, fold(rollout_info.action, slice(0, -1)))
        return self._info(inputs, rollout_info, tensor_extend_zero(unfold(value, batch_size)),
                          tensor_prepend_zero(unfold(target, batch_size)))

    @staticmethod
    def _info(inputs: TimeStep, rollout_info: DqnInfo, value: torch.Tensor, target: torch.Tensor) -> DqnInfo:
        return DqnInfo(
            action=rollout_info.action,
            reward=inputs.reward,
            step_type=inputs.step_type,
            discount=inputs.discount,
            value=value,
            target_value=target)

    def calc_loss(self, info: DqnInfo) -> LossInfo:
        """Return the loss ``[T, B]``: the sum over replicas; 0 at ``LAST`` and in the last row.

        Args:
            info: time-major ``[T, B, ...]``; the last row of ``value`` and the first of ``target_value`` do not matter.
        Raises:
            ValueError: if the sequences have a single step.
        """
        check_at_least_two_steps(info.step_type, self._name)
        losses = [critic_loss(info, info.value[:, :, i], info.target_value).loss
                  for i, critic_loss in enumerate(self._critic_losses)]
        valid = info.step_type != _LAST
        loss = sum(losses[1:], losses[0]) * valid
        priority = self._priority(info, loss.detach(), valid) if self._calculate_priority else ()
        return LossInfo(loss=loss, priority=priority, extra=DqnLossInfo(q_loss=loss))

    def _priority(self, info: DqnInfo, loss: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Return the mean over the steps of a sequence and over replicas of what is surprising in them, ``[B]``."""
        valid = valid[:-1]
        if self._value_distribution is None:
            target = self._critic_losses[0].compute_td_target(info, info.target_value)
            surprise = (target.unsqueeze(-1) - info.value[:-1].detach()).abs().mean(dim=-1) * valid
        else:
            surprise = loss[:-1] / len(self._critic_losses)
        return surprise.sum(dim=0) / valid.sum(dim=0).clamp(min=1)


def _check_specs(action_spec: BoundedTensorSpec, reward_spec: TensorSpec, name: str) -> None:
    specs = flatten(action_spec)
    if len(specs) != 1 or not specs[0].is_discrete or specs[0].ndim != 0:
        raise ValueError(f"{name}.action_spec: expected a single discrete action of shape (), got {action_spec}. For "
                         "continuous actions use SacAlgorithm, or DiscreteActionWrapper around the environment.")
    if reward_spec.numel != 1:
        raise ValueError(f"{name}.reward_spec: expected a scalar reward, got {reward_spec}.")


def _check_has_num_values(q_network_cls: Callable, value_distribution: str, name: str) -> None:
    parameters = inspect.signature(q_network_cls).parameters
    if "num_values" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(f"{name}.value_distribution={value_distribution!r} needs a network with several numbers for "
                         f"each action: set q_network_cls to DistributionalQNetwork or DuelingQNetwork, got "
                         f"{getattr(q_network_cls, '__name__', q_network_cls)}.")


def _loss_ctor(critic_loss_ctor: Optional[Callable], value_distribution: Optional[str],
               num_atoms: Optional[int], v_min: Optional[float], v_max: Optional[float]) -> Callable:
    """Return what makes the loss of a replica when called with ``name`` and ``debug_summaries``."""
    if value_distribution is None:
        return critic_loss_ctor or OneStepTDLoss
    if value_distribution == "c51":
        loss_ctor, arguments = CategoricalTDLoss, dict(num_atoms=num_atoms, v_min=v_min, v_max=v_max)
    else:
        loss_ctor, arguments = OneStepTDQRLoss, dict(num_quantiles=num_atoms)
    given = {name: value for name, value in arguments.items() if value is not None}
    return functools.partial(critic_loss_ctor or loss_ctor, **given)
