"""Q-learning with a target network, as small as an off-policy algorithm gets; docs/own_algorithm.md explains it."""

import torch

from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, namedtuple
from alf.networks import QNetwork
from alf.tensor_specs import TensorSpec
from alf.utils.common import TargetUpdater

QLearningInfo = namedtuple(
    "QLearningInfo",
    [
        "action",  # int64 [T, B]: what was done
        "value",  # float32 [T, B]: of that action
        "next_value",  # float32 [T, B]: of the best action, by the target network
        "reward",  # float32 [T, B]
        "discount",  # float32 [T, B]: 0 where the episode terminated
        "step_type",  # int32 [T, B]
    ],
    default_value=())


@configurable
class QLearningAlgorithm(OffPolicyAlgorithm):
    """Q-learning for one discrete action.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape ``()``, minimum 0.
        reward_spec: spec of the reward, a scalar.
        q_network_cls: called with ``input_tensor_spec`` and ``action_spec``; makes the Q network.
        gamma: discount of the future.
        epsilon: share of random actions in unrolls.
        target_update_period: updates between copies to the target network.
        optimizer: trains the Q network.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        debug_summaries: write more summaries.
        name: name in summaries.
    """

    def __init__(self, observation_spec, action_spec, reward_spec=TensorSpec(()), q_network_cls=QNetwork, gamma=0.99,
                 epsilon=0.1, target_update_period=100, optimizer=None, env=None, config=None, debug_summaries=False,
                 name="QLearningAlgorithm"):
        super().__init__(observation_spec, action_spec, train_state_spec=(), reward_spec=reward_spec, env=env,
                         config=config, optimizer=optimizer, debug_summaries=debug_summaries, name=name)
        self._q_network = q_network_cls(input_tensor_spec=observation_spec, action_spec=action_spec)
        self._target_network = self._q_network.copy()
        self._update_target = TargetUpdater(self._q_network, self._target_network, period=target_update_period)
        self._gamma = gamma
        self._epsilon = epsilon

    def _trainable_attributes_to_ignore(self):
        return ["_target_network"]

    def predict_step(self, inputs, state):
        """Return the best actions ``[B]`` for a time step ``[B, ...]``."""
        values, _ = self._q_network(inputs.observation)  # [B, number of actions]
        return AlgStep(output=values.argmax(dim=-1))

    def rollout_step(self, inputs, state):
        """Return the best actions ``[B]``, for a share ``epsilon`` random ones, and what is stored with the step."""
        values, _ = self._q_network(inputs.observation)
        best = values.argmax(dim=-1)
        is_random = torch.rand(best.shape) < self._epsilon
        action = torch.where(is_random, torch.randint_like(best, values.shape[-1]), best)
        return AlgStep(output=action, info=QLearningInfo(action=action))

    def train_step(self, inputs, state, rollout_info):
        """Return what the loss needs of stored steps ``[B, ...]``."""
        values, _ = self._q_network(inputs.observation)
        value = values.gather(-1, rollout_info.action.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            target_values, _ = self._target_network(inputs.observation)
        return AlgStep(output=rollout_info.action, info=QLearningInfo(
            action=rollout_info.action, value=value, next_value=target_values.max(dim=-1).values,
            reward=inputs.reward, discount=inputs.discount, step_type=inputs.step_type))

    def calc_loss(self, info):
        """Return the loss ``[T, B]`` of sequences; the last row is only bootstrapped from."""
        target = info.reward[1:] + self._gamma * info.discount[1:] * info.next_value[1:]
        valid = info.step_type[:-1] != int(StepType.LAST)
        loss = valid * (target - info.value[:-1]) ** 2
        loss = torch.cat([loss, torch.zeros_like(loss[:1])])
        return LossInfo(loss=loss, extra=dict(q_loss=loss))

    def after_update(self, root_inputs, info):
        """Copy the Q network to the target network, if it is due."""
        self._update_target()
