"""Implicit Q-learning (IQL), https://arxiv.org/abs/2110.06169: learns from stored actions without trying others.

A value network follows an upper expectile of the action values of stored actions, which stands for the best of them;
critics learn from it by one-step targets; the actor imitates stored actions, the better the more. As in the authors'
code there are several critics, of which the lowest counts. Difference: each component of a vector reward has values of
its own, and their advantages are added up with the weights of the reward; the value of one with a negative weight
follows the lower expectile.
"""

from typing import Callable, List, Optional

import torch
from torch import nn

from alf.algorithms._actor_critic.action_kind import check_continuous
from alf.algorithms._actor_critic.action_values import pessimistic_value
from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, TimeStep, namedtuple
from alf.nest import Nest, map_structure
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.networks.value_networks import ValueNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common, dist_utils
from alf.utils.math_ops import add_n
from alf.utils.tensor_utils import tensor_extend_zero

_LAST = int(StepType.LAST)

IqlState = namedtuple("IqlState", ["actor", "critic", "target_critic", "value"], default_value=())

IqlInfo = namedtuple(
    "IqlInfo",
    [
        "action",  # nest [T, B, ...]: what was done
        "step_type",  # int32 [T, B]
        "reward",  # float32 [T, B] or [T, B, R]
        "discount",  # float32 [T, B]
        "critics",  # float32 [T, B, n] or [T, B, n, R]: action values of `action`
        "target_critic",  # float32 [T, B] or [T, B, R]: the lowest one of the target critics
        "value",  # float32 [T, B] or [T, B, R]
        "log_prob",  # float32 [T, B]: of `action`, under the actor
    ],
    default_value=())

IqlLossInfo = namedtuple("IqlLossInfo", ["actor", "critic", "value"])


def expectile_loss(error: torch.Tensor, expectile: float) -> torch.Tensor:
    """Return ``|expectile - 1(error < 0)| * error^2``, Eq. (4) of https://arxiv.org/abs/2110.06169, elementwise.

    Args:
        error: target minus prediction.
        expectile: in (0, 1); 0.5: half the squared error; towards 1, the prediction becomes the largest target.
    """
    return torch.where(error < 0, 1 - expectile, expectile) * error.square()


def exponential_advantage(advantage: torch.Tensor, temperature: float, largest: float) -> torch.Tensor:
    """Return the weight ``min(exp(temperature * advantage), largest)`` of imitation, elementwise.

    Eq. (7) of https://arxiv.org/abs/2110.06169, where ``temperature`` is called beta; the cap is that of the authors'
    code.
    """
    return (temperature * advantage).exp().clamp(max=largest)


@configurable
class IqlAlgorithm(OffPolicyAlgorithm):
    """Implicit Q-learning from stored buffers, and, if there is an unroll, also from its own experience.

    Sequences need ``TrainerConfig.mini_batch_length`` of 2 or more; the last step is only bootstrapped from.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs of the action.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``.
        actor_network_cls: called with ``input_tensor_spec`` and ``action_spec``.
        critic_network_cls: called with ``input_tensor_spec=(observation_spec, action_spec)`` and
            ``output_tensor_spec=reward_spec``.
        v_network_cls: called with ``input_tensor_spec`` and ``output_tensor_spec=reward_spec``.
        reward_weights: weights of the components of a vector reward; None: all 1.
        epsilon_greedy: probability of sampling in ``predict_step`` instead of taking the mode of the policy.
            None: ``config.epsilon_greedy``.
        calculate_priority: give the replay buffer the priorities of sampled sequences.
        num_critic_replicas: number of critics.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        critic_loss_ctor: makes the loss of each critic; None: OneStepTDLoss.
        target_update_tau: how far the target critics move towards the critics.
        target_update_period: they move every so many updates.
        temperature: beta of the paper: 0 imitates all stored actions alike, a large one only the best.
        actor_optimizer: trains the actor; None: the optimizer of an algorithm above does.
        critic_optimizer: trains the critics; None: likewise.
        value_optimizer: trains the value network; None: likewise.
        expectile: tau of the paper, in (0, 1).
        max_exp_advantage: largest weight of a stored action.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
    Raises:
        ValueError: if ``expectile`` is not in (0, 1), or for discrete actions.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_cls: Callable = ActorDistributionNetwork,
                 critic_network_cls: Callable = CriticNetwork,
                 v_network_cls: Callable = ValueNetwork,
                 reward_weights: Optional[List[float]] = None,
                 epsilon_greedy: Optional[float] = None,
                 calculate_priority: bool = False,
                 num_critic_replicas: int = 2,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 critic_loss_ctor: Optional[Callable] = None,
                 target_update_tau: float = 0.05,
                 target_update_period: int = 1,
                 temperature: float = 1.0,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 value_optimizer: Optional[torch.optim.Optimizer] = None,
                 expectile: float = 0.8,
                 max_exp_advantage: float = 100,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "IqlAlgorithm"):
        if not 0 < expectile < 1:
            raise ValueError(f"{name}.expectile: expected 0 < expectile < 1, got {expectile}. Set "
                             "alf.config(\"IqlAlgorithm\", expectile=0.8).")
        check_continuous(action_spec, name, "Discrete ones are learned from stored buffers by BcAlgorithm with "
                         "actor_network_cls=ActorDistributionNetwork, online by DqnAlgorithm or SacAlgorithm.")
        actor_network = actor_network_cls(input_tensor_spec=observation_spec, action_spec=action_spec)
        critic_networks = critic_network_cls(
            input_tensor_spec=(observation_spec, action_spec),
            output_tensor_spec=reward_spec).make_parallel(num_critic_replicas)
        value_network = v_network_cls(input_tensor_spec=observation_spec, output_tensor_spec=reward_spec)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            train_state_spec=IqlState(
                actor=actor_network.state_spec,
                critic=critic_networks.state_spec,
                target_critic=critic_networks.state_spec,
                value=value_network.state_spec),
            predict_state_spec=IqlState(actor=actor_network.state_spec),
            reward_weights=reward_weights,
            env=env,
            config=config,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._epsilon_greedy = common.get_epsilon_greedy(config) if epsilon_greedy is None else epsilon_greedy
        self._calculate_priority = calculate_priority
        self._temperature = temperature
        self._expectile = expectile
        self._max_exp_advantage = max_exp_advantage
        self._actor_network = actor_network
        self._critic_networks = critic_networks
        self._value_network = value_network
        self._target_critic_networks = critic_networks.copy()
        for optimizer, network in ((actor_optimizer, actor_network), (critic_optimizer, critic_networks),
                                   (value_optimizer, value_network)):
            if optimizer is not None:
                self.add_optimizer(optimizer, [network])
        critic_loss_ctor = OneStepTDLoss if critic_loss_ctor is None else critic_loss_ctor
        self._critic_losses = nn.ModuleList([
            critic_loss_ctor(debug_summaries=debug_summaries, name=f"critic_loss{i + 1}")
            for i in range(num_critic_replicas)
        ])
        self._update_target = common.TargetUpdater(
            models=critic_networks,
            target_models=self._target_critic_networks,
            tau=target_update_tau,
            period=target_update_period)

    def _trainable_attributes_to_ignore(self) -> List[str]:
        return ["_target_critic_networks"]

    def convert_train_state_to_predict_state(self, state: IqlState) -> IqlState:
        """Return the state of the actor."""
        return IqlState(actor=state.actor)

    # ---- acting --------------------------------------------------------------------------------------------------

    def predict_step(self, inputs: TimeStep, state: IqlState) -> AlgStep:
        """Return the action: sampled with probability ``epsilon_greedy``, else the mode of the policy.

        Args:
            inputs: time step ``[B, ...]``.
            state: state of the actor.
        """
        distribution, actor_state = self._actor_network(inputs.observation, state=state.actor)
        action = dist_utils.epsilon_greedy_sample(distribution, self._epsilon_greedy)
        return AlgStep(output=action, state=IqlState(actor=actor_state), info=IqlInfo(action=action))

    def rollout_step(self, inputs: TimeStep, state: IqlState) -> AlgStep:
        """Return a sampled action.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of all networks.
        """
        distribution, actor_state = self._actor_network(inputs.observation, state=state.actor)
        action = dist_utils.sample_action_distribution(distribution)
        state = state._replace(actor=actor_state)
        if self.need_full_rollout_state():
            pair = (inputs.observation, action)
            state = state._replace(
                critic=self._critic_networks(pair, state=state.critic)[1],
                target_critic=self._target_critic_networks(pair, state=state.target_critic)[1],
                value=self._value_network(inputs.observation, state=state.value)[1])
        return AlgStep(output=action, state=state, info=IqlInfo(action=action))

    # ---- training ------------------------------------------------------------------------------------------------

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: IqlState, rollout_info: IqlInfo) -> AlgStep:
        """Return the values of the stored action, and how probable it is.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of all networks.
            rollout_info: its ``action`` is the stored one, a nest ``[B, ...]``.
        """
        observation, action = inputs.observation, rollout_info.action
        value, value_state = self._value_network(observation, state=state.value)
        critics, critic_state = self._critic_networks((observation, action), state=state.critic)
        with torch.no_grad():
            targets, target_state = self._target_critic_networks((observation, action), state=state.target_critic)
        distribution, actor_state = self._actor_network(observation, state=state.actor)
        info = IqlInfo(
            action=action,
            step_type=inputs.step_type,
            reward=inputs.reward,
            discount=inputs.discount,
            critics=critics,
            target_critic=pessimistic_value(targets, self._reward_weights),
            value=value,
            log_prob=dist_utils.compute_log_probability(distribution, action))
        new_state = IqlState(actor=actor_state, critic=critic_state, target_critic=target_state, value=value_state)
        return AlgStep(output=action, state=new_state, info=info)

    def train_sequence(self, inputs: TimeStep, rollout_info: IqlInfo, state: IqlState = ()) -> IqlInfo:
        """Return the infos of :meth:`train_step`; of the last step, which is only bootstrapped from, its value alone.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: their infos ``[T, B, ...]``.
            state: not needed: recurrent networks are stepped through time.
        """
        self._check_length(inputs.step_type)
        earlier, earlier_info = map_structure(lambda leaf: leaf[:-1], (inputs, rollout_info))
        info = super().train_sequence(earlier, earlier_info)
        with torch.no_grad():
            last_value, _ = self._value_network(map_structure(lambda leaf: leaf[-1], inputs.observation))
        unused = {name: tensor_extend_zero(getattr(info, name)) for name in ("critics", "target_critic", "log_prob")}
        return info._replace(
            action=rollout_info.action,
            step_type=inputs.step_type,
            reward=inputs.reward,
            discount=inputs.discount,
            value=torch.cat([info.value, last_value.unsqueeze(0)]),
            **unused)

    def calc_loss(self, info: IqlInfo) -> LossInfo:
        """Return the sum of the losses ``[T, B]`` of value, critics and actor; the last row is 0.

        Args:
            info: of sequences ``[T, B, ...]``.
        Raises:
            ValueError: if the sequences have one step only.
        """
        self._check_length(info.step_type)
        advantage = info.target_critic[:-1] - info.value[:-1]
        if self.has_multidim_reward():
            # Of a component that counts negatively the lower expectile stands for the best actions.
            better = torch.where(self._reward_weights < 0, -advantage, advantage)
            value_loss = expectile_loss(better, self._expectile).mean(-1)
            advantage = (advantage * self._reward_weights).sum(-1)
        else:
            value_loss = expectile_loss(advantage, self._expectile)
        weight = exponential_advantage(advantage.detach(), self._temperature, self._max_exp_advantage)
        actor_loss = -weight * info.log_prob[:-1]
        critic_loss = add_n([
            critic_loss(info, value=info.critics[:, :, i], target_value=info.value).loss
            for i, critic_loss in enumerate(self._critic_losses)
        ])
        value_loss, actor_loss = tensor_extend_zero(value_loss), tensor_extend_zero(actor_loss)
        return LossInfo(
            loss=actor_loss + critic_loss + value_loss,
            extra=IqlLossInfo(actor=actor_loss, critic=critic_loss, value=value_loss),
            priority=self._priority(critic_loss.detach(), info.step_type) if self._calculate_priority else ())

    def _check_length(self, step_type: torch.Tensor) -> None:
        if step_type.shape[0] < 2:
            raise ValueError(f"{self.name}: expected sequences of 2 steps or more, got 1: nothing can be learned from "
                             "a step without the next one. Set alf.config(\"TrainerConfig\", mini_batch_length=2).")

    def _priority(self, critic_loss: torch.Tensor, step_type: torch.Tensor) -> torch.Tensor:
        """Return the root of the mean error of each sequence ``[B]``, over the rows that start a transition."""
        counts = step_type[:-1] != _LAST
        return ((critic_loss[:-1] * counts).sum(0) / counts.sum(0).clamp(min=1)).sqrt()

    def after_update(self, root_inputs: TimeStep, info: IqlInfo) -> None:
        """Move the target critics."""
        self._update_target()
