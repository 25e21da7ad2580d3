"""Behavioral cloning: learns to act as the one who made a stored buffer, by supervised learning.

See Section 2 of https://arxiv.org/abs/1805.01954 for its place among the ways to imitate. It needs no rewards.
"""

from typing import Callable, Optional

import torch
from torch.distributions import Distribution

from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, TimeStep, namedtuple
from alf.nest import Nest, extract_any_leaf_from_nest, flatten
from alf.networks.actor_networks import ActorNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common, dist_utils
from alf.utils.math_ops import add_n

BcState = namedtuple("BcState", ["actor"], default_value=())

BcInfo = namedtuple(
    "BcInfo",
    [
        "loss",  # float32 [T, B]: how far the actor is from the stored action
        "action_distribution",  # nest of distributions [T, B]; () for a deterministic actor
    ],
    default_value=())


def _is_distribution(output: Nest) -> bool:
    return isinstance(extract_any_leaf_from_nest(output), Distribution)


def squared_error(predicted: Nest, action: Nest) -> torch.Tensor:
    """Return the squared error ``[B]``, the mean over the elements of each action, summed over actions.

    Args:
        predicted: nest of tensors ``[B, ...]``.
        action: the same.
    """
    pairs = zip(flatten(predicted), flatten(action), strict=True)
    return add_n([(p - a).square().reshape(len(a), -1).mean(-1) for p, a in pairs])


@configurable
class BcAlgorithm(OffPolicyAlgorithm):
    """An actor trained on stored actions: by their squared error, or by their likelihood if it is a distribution.

    It trains offline only: ``TrainerConfig.unroll_length=0`` and ``TrainerConfig.offline_buffer_dir``.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action.
        reward_spec: spec of the reward, which is not used.
        actor_network_cls: called with ``input_tensor_spec`` and ``action_spec``; makes a network that puts out an
            action, as ActorNetwork does, or a distribution of it, as ActorDistributionNetwork does.
        actor_optimizer: trains the actor; None: the optimizer of an algorithm above does.
        env: batched environment with tensors, for the root only: for its specs and for evaluation.
        config: the settings of the run.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        epsilon_greedy: with a distribution, probability of sampling in ``predict_step`` instead of taking the mode.
            None: ``config.epsilon_greedy``.
        name: name in summaries.
    Raises:
        ValueError: if the run would act in the environment to learn, which this algorithm cannot use.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_cls: Callable = ActorNetwork,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 epsilon_greedy: Optional[float] = None,
                 name: str = "BcAlgorithm"):
        if config is not None and config.unroll_length > 0:
            raise ValueError(f"TrainerConfig.unroll_length: expected 0 for {name}, which learns from stored buffers "
                             f"only, got {config.unroll_length}. Set alf.config(\"TrainerConfig\", unroll_length=0, "
                             "offline_buffer_dir=...).")
        actor_network = actor_network_cls(input_tensor_spec=observation_spec, action_spec=action_spec)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            train_state_spec=BcState(actor=actor_network.state_spec),
            env=env,
            config=config,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._epsilon_greedy = common.get_epsilon_greedy(config) if epsilon_greedy is None else epsilon_greedy
        self._actor_network = actor_network
        if actor_optimizer is not None:
            self.add_optimizer(actor_optimizer, [actor_network])

    def predict_step(self, inputs: TimeStep, state: BcState) -> AlgStep:
        """Return the action.

        Args:
            inputs: time step ``[B, ...]``.
            state: state of the actor network.
        """
        action, actor_state = self._actor_network(inputs.observation, state=state.actor)
        if _is_distribution(action):
            action = dist_utils.epsilon_greedy_sample(action, self._epsilon_greedy)
        return AlgStep(output=action, state=BcState(actor=actor_state))

    def train_step_offline(self, inputs: TimeStep, state: BcState, rollout_info: Nest,
                           pre_train: bool = False) -> AlgStep:
        """Return how far the actor is from the stored action.

        Args:
            inputs: time step ``[B, ...]``.
            state: state of the actor network.
            rollout_info: its ``action`` is the stored one, a nest ``[B, ...]``.
            pre_train: makes no difference here.
        """
        output, actor_state = self._actor_network(inputs.observation, state=state.actor)
        if _is_distribution(output):
            log_prob = dist_utils.compute_log_probability(output, rollout_info.action)
            info = BcInfo(loss=-log_prob, action_distribution=output)
        else:
            info = BcInfo(loss=squared_error(output, rollout_info.action))
        return AlgStep(output=rollout_info.action, state=BcState(actor=actor_state), info=info)

    def calc_loss_offline(self, info: BcInfo, pre_train: bool = False) -> LossInfo:
        """Return the loss ``[T, B]``."""
        return LossInfo(loss=info.loss, extra={"actor": info.loss})
