"""Advantage actor-critic (A2C), https://arxiv.org/abs/1602.01783: learns from the graph of each unroll.

Differences: all environments step together, and the last observation of an unroll is bootstrapped from, so that every
step taken is also learned from.
"""

from typing import Callable, Optional

import torch

from alf.algorithms.actor_critic_loss import ActorCriticLoss
from alf.algorithms.algorithm import Loss
from alf.algorithms.config import TrainerConfig
from alf.algorithms.on_policy_algorithm import OnPolicyAlgorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, TimeStep, namedtuple
from alf.nest import Nest
from alf.networks.actor_distribution_networks import ActorDistributionNetwork
from alf.networks.value_networks import ValueNetwork
from alf.tensor_specs import TensorSpec
from alf.utils import common, dist_utils

ActorCriticState = namedtuple("ActorCriticState", ["actor", "value"], default_value=())

ActorCriticInfo = namedtuple(
    "ActorCriticInfo",
    [
        "step_type",  # int32 [T, B]
        "discount",  # float32 [T, B]
        "reward",  # float32 [T, B] or [T, B, R]
        "action",  # nest [T, B, ...]: what was done
        "log_prob",  # float32 [T, B]: of `action` when it was done
        "action_distribution",  # nest of distributions [T, B]
        "value",  # float32 [T, B] or [T, B, R]
        "reward_weights",  # float32 [T, B, R] with a vector reward
    ],
    default_value=())


@configurable
class ActorCriticAlgorithm(OnPolicyAlgorithm):
    """An actor network and a value network, trained by ``loss`` on each unroll.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action: discrete, continuous or both.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``.
        reward_weights: weights of the components of a vector reward; None: all 1.
        actor_network_ctor: called with ``input_tensor_spec`` and ``action_spec``.
        value_network_ctor: called with ``input_tensor_spec`` and ``output_tensor_spec``.
        epsilon_greedy: probability of sampling the action in ``predict_step``, instead of taking the mode.
            None: ``config.epsilon_greedy``.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        loss: the loss; None: made by ``loss_class``.
        loss_class: makes the loss.
        optimizer: trains both networks.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: Nest,
                 reward_spec: TensorSpec = TensorSpec(()),
                 reward_weights=None,
                 actor_network_ctor: Callable = ActorDistributionNetwork,
                 value_network_ctor: Callable = ValueNetwork,
                 epsilon_greedy: Optional[float] = None,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 loss: Optional[Loss] = None,
                 loss_class: Callable = ActorCriticLoss,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "ActorCriticAlgorithm"):
        actor_network = actor_network_ctor(input_tensor_spec=observation_spec, action_spec=action_spec)
        value_network = value_network_ctor(input_tensor_spec=observation_spec, output_tensor_spec=reward_spec)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            reward_weights=reward_weights,
            train_state_spec=ActorCriticState(actor=actor_network.state_spec, value=value_network.state_spec),
            predict_state_spec=ActorCriticState(actor=actor_network.state_spec),
            env=env,
            config=config,
            optimizer=optimizer,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._epsilon_greedy = common.get_epsilon_greedy(config) if epsilon_greedy is None else epsilon_greedy
        self._actor_network = actor_network
        self._value_network = value_network
        self._loss = self._make_loss(loss_class, debug_summaries) if loss is None else loss

    def _make_loss(self, loss_class: Callable, debug_summaries: bool) -> Loss:
        return loss_class(debug_summaries=debug_summaries)

    def convert_train_state_to_predict_state(self, state: ActorCriticState) -> ActorCriticState:
        """Return ``state`` without that of the value network."""
        return state._replace(value=())

    def predict_step(self, inputs: TimeStep, state: ActorCriticState) -> AlgStep:
        """Return the action: sampled with probability ``epsilon_greedy``, else the mode of the policy.

        Args:
            inputs: time step ``[B, ...]``.
            state: state of the actor network.
        """
        action_distribution, actor_state = self._actor_network(inputs.observation, state=state.actor)
        action = dist_utils.epsilon_greedy_sample(action_distribution, self._epsilon_greedy)
        return AlgStep(
            output=action,
            state=ActorCriticState(actor=actor_state),
            info=ActorCriticInfo(action_distribution=action_distribution))

    def rollout_step(self, inputs: TimeStep, state: ActorCriticState) -> AlgStep:
        """Return a sampled action and what the loss needs of this step.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of both networks.
        """
        observation = inputs.observation
        value, value_state = self._value_network(observation, state=state.value)
        action_distribution, actor_state = self._actor_network(observation, state=state.actor)
        on_policy = self.on_policy
        if on_policy:
            action, log_prob = dist_utils.sample_action_distribution(action_distribution), ()
        else:
            action, log_prob = dist_utils.sample_action_distribution(action_distribution, return_log_prob=True)
        return AlgStep(
            output=action,
            state=ActorCriticState(actor=actor_state, value=value_state),
            info=ActorCriticInfo(
                action=action,
                log_prob=log_prob,
                value=value,
                step_type=inputs.step_type,
                reward=inputs.reward,
                discount=inputs.discount,
                # Stored off-policy, a distribution costs more than the rest of the step, and log_prob says enough.
                action_distribution=action_distribution if on_policy else (),
                reward_weights=() if self._reward_weights is None else self._reward_weights.expand_as(value)))

    def overwrite_action(self, rollout_info: ActorCriticInfo, action: Nest) -> ActorCriticInfo:
        """Return the info of rollout steps with another action; arguments as of :class:`RLAlgorithm`.

        Raises:
            ValueError: if it has the log probability of the action, and so none of another action.
        """
        if isinstance(rollout_info.log_prob, torch.Tensor):
            raise ValueError(f"RLAlgorithm.overwrite_policy_output=True: {self.name} learns from how probable its own "
                             "actions were, which of others is not known. Set it to False, or use another algorithm.")
        return super().overwrite_action(rollout_info, action)

    def calc_loss(self, info: ActorCriticInfo) -> LossInfo:
        """Return the loss ``[T, B]`` of an unroll."""
        return self._loss(info)
