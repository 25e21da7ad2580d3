"""Proximal policy optimization (PPO), https://arxiv.org/abs/1707.06347.

Each iteration unrolls, computes advantages by GAE once, and makes several epochs of shuffled mini batches of the
unroll.
"""

from typing import Callable

from alf.algorithms._training.sequences import unfold_time
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm, ActorCriticInfo, ActorCriticState
from alf.algorithms.actor_critic_loss import ActorCriticLoss
from alf.algorithms.algorithm import Loss
from alf.algorithms.ppo_loss import PPOLoss
from alf.config_util import configurable
from alf.data_structures import AlgStep, TimeStep, namedtuple
from alf.nest import Nest, map_structure

PPOInfo = namedtuple(
    "PPOInfo",
    ActorCriticInfo._fields + (
        "returns",  # float32 [T, B] or [T, B, R]: what the value is regressed on
        "advantages",  # float32 [T, B] or [T, B, R]
    ),
    default_value=())


@configurable
class PPOAlgorithm(ActorCriticAlgorithm):
    """PPO on the unrolls of :class:`ActorCriticAlgorithm`, whose arguments it has.

    Its ``loss_class`` is :class:`PPOLoss`: the default of the base, ActorCriticLoss, stands for "not chosen".
    """

    def _make_loss(self, loss_class: Callable, debug_summaries: bool) -> Loss:
        return super()._make_loss(PPOLoss if loss_class is ActorCriticLoss else loss_class, debug_summaries)

    @property
    def on_policy(self) -> bool:
        """False: an unroll is trained on several times, without its graph."""
        return False

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def preprocess_experience(self, root_inputs: TimeStep, rollout_info: ActorCriticInfo, batch_info: Nest):
        """Return inputs and info with returns and advantages, without the last step, which is bootstrapped from.

        Args:
            root_inputs: time steps ``[B, T, ...]``.
            rollout_info: info of the unroll ``[B, T, ...]``.
            batch_info: not needed.
        """
        info = PPOInfo(*rollout_info)
        if self._loss.compute_advantages_internally:
            # The loss itself needs the step after each sequence, to bootstrap from.
            return root_inputs, info
        time_major = map_structure(lambda leaf: leaf.transpose(0, 1), rollout_info)
        returns, advantages = self._loss.compute_returns_and_advantages(time_major)
        # Mini batches are gathered leaf by leaf: what the loss does not read is not carried along.
        info = info._replace(
            returns=returns.transpose(0, 1), advantages=advantages.transpose(0, 1), reward=(), discount=(), value=())
        return map_structure(lambda leaf: leaf[:, :-1], (root_inputs, info))

    def train_step(self, inputs: TimeStep, state: Nest, rollout_info: PPOInfo) -> AlgStep:
        """Return the present policy and value for a stored step.

        Args:
            inputs: time step ``[B, ...]``.
            state: states of both networks.
            rollout_info: info of the step, with returns and advantages.
        """
        observation = inputs.observation
        value, value_state = self._value_network(observation, state=state.value)
        action_distribution, actor_state = self._actor_network(observation, state=state.actor)
        return AlgStep(
            output=rollout_info.action,
            state=ActorCriticState(actor=actor_state, value=value_state),
            info=rollout_info._replace(action_distribution=action_distribution, value=value))

    def train_sequence(self, inputs: TimeStep, rollout_info: PPOInfo, state: Nest = ()) -> PPOInfo:
        """Return the infos of :meth:`train_step` for all steps: of what is stored, only observations are folded.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the steps ``[T, B, ...]``, with returns and advantages.
            state: ``()``; recurrent networks go step by step.
        """
        observation = map_structure(lambda leaf: leaf.flatten(0, 1), inputs.observation)
        state = self.get_initial_train_state(1)
        value, _ = self._value_network(observation, state=state.value)
        action_distribution, _ = self._actor_network(observation, state=state.actor)
        action_distribution, value = unfold_time((action_distribution, value), inputs.step_type.shape)
        return rollout_info._replace(action_distribution=action_distribution, value=value)
