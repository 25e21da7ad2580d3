"""Algorithms that adjust the weight of the entropy of a policy so that the entropy stays near a target."""

from typing import Any, Callable, Optional, Tuple, Union

import numpy as np
import torch

from alf import summary
from alf.algorithms._training.update import masked_mean
from alf.algorithms.algorithm import Algorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, LossInfo, StepType, namedtuple
from alf.nest import Nest, flatten
from alf.utils import dist_utils
from alf.utils.averager import ScalarWindowAverager

_LAST = int(StepType.LAST)
_FREE, _ADJUST = 0, 1

EntropyTargetLossInfo = namedtuple("EntropyTargetLossInfo", ["neg_entropy"])

EntropyTargetInfo = namedtuple(
    "EntropyTargetInfo",
    [
        "step_type",  # int32 [T, B]
        "loss",  # float32 [T, B]: minus the entropy, differentiable
        "entropy",  # float32 [T, B]: the entropy, or an unbiased estimate
    ],
    default_value=())


def _default_entropies(action_spec: Nest, given: Any, per_spec: Callable) -> float:
    """Return ``given``, called if it is a function of the specs; None: the sum of ``per_spec`` over the specs."""
    specs = flatten(action_spec)
    if given is None:
        return float(sum(np.asarray(per_spec(spec)).sum() for spec in specs))
    return float(given(specs)) if callable(given) else float(given)


def _mean_entropy(info: EntropyTargetInfo, valid_mask: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Return the mean entropy, without graph, of the steps that are not at LAST and are under ``valid_mask``."""
    mask = info.step_type != _LAST
    if valid_mask is not None:
        mask = mask & valid_mask.to(torch.bool)
    return masked_mean(info.entropy.detach(), mask)


class _EntropyWeight(Algorithm):
    """What the algorithms share: the entropy of a policy as a loss, weighed by alpha."""

    def rollout_step(self, distribution_and_step_type: Tuple[Nest, torch.Tensor], state: Nest = None) -> AlgStep:
        """Return the entropy of an on-policy step; see :meth:`train_step`."""
        return self.train_step(distribution_and_step_type) if self.on_policy else AlgStep()

    def predict_step(self, distribution_and_step_type: Tuple[Nest, torch.Tensor], state: Nest = None) -> AlgStep:
        """Return the entropy; see :meth:`train_step`."""
        return self.train_step(distribution_and_step_type)

    def train_step(self, distribution_and_step_type: Tuple[Nest, torch.Tensor], state: Nest = None,
                   rollout_info: Nest = None) -> AlgStep:
        """Return the entropy of the policy as info.

        Args:
            distribution_and_step_type: nest of action distributions ``[B]``, and step types ``[B]``.
            state: not needed.
            rollout_info: not needed.
        """
        distribution, step_type = distribution_and_step_type
        entropy, entropy_for_gradient = dist_utils.entropy_with_fallback(distribution)
        return AlgStep(info=EntropyTargetInfo(step_type=step_type, loss=-entropy_for_gradient, entropy=entropy))


@configurable
class EntropyTargetAlgorithm(_EntropyWeight):
    """Multiplies alpha up when the entropy is below its target and down when it is above.

    In the free stage, which lasts while the mean entropy is above ``max_entropy``, alpha decays by
    ``very_slow_update_rate``. Then, at each update, ``log(alpha)`` moves towards holding the target: by
    ``fast_update_rate`` if the entropy is moving away from the target, by ``slow_update_rate`` if it is coming back.

    Args:
        action_spec: nest of bounded specs of the action.
        initial_alpha: weight of the entropy at the start.
        skip_free_stage: adjust from the first update on.
        max_entropy: entropy at which the free stage ends, a number or a function of the list of specs; None: 0.8 of the
            way from the lowest to the highest entropy.
        target_entropy: entropy to hold, likewise; None: a default for each spec.
        very_slow_update_rate: rate of ``log(alpha)`` in the free stage.
        slow_update_rate: rate while the entropy returns to its target.
        fast_update_rate: rate while it moves away.
        min_alpha: smallest alpha.
        average_window: updates over which the entropy is averaged.
        debug_summaries: write alpha and entropy.
        name: name in summaries.
    """

    def __init__(self,
                 action_spec: Nest,
                 initial_alpha: float = 0.1,
                 skip_free_stage: bool = False,
                 max_entropy: Union[None, float, Callable] = None,
                 target_entropy: Union[None, float, Callable] = None,
                 very_slow_update_rate: float = 0.001,
                 slow_update_rate: float = 0.01,
                 fast_update_rate: float = np.log(2),
                 min_alpha: float = 1e-4,
                 average_window: int = 2,
                 debug_summaries: bool = False,
                 name: str = "EntropyTargetAlgorithm"):
        super().__init__(debug_summaries=debug_summaries, name=name)
        if initial_alpha < min_alpha:
            raise ValueError(f"{name}.initial_alpha: expected at least min_alpha={min_alpha}, got {initial_alpha}.")
        self.register_buffer("_log_alpha", torch.tensor(float(np.log(initial_alpha))))
        self.register_buffer("_stage", torch.tensor(_ADJUST if skip_free_stage else _FREE))
        self.register_buffer("_previous_entropy", torch.tensor(float("nan")))
        self._averager = ScalarWindowAverager(average_window)
        self._max_entropy = _default_entropies(action_spec, max_entropy, dist_utils.calc_default_max_entropy)
        self._target_entropy = _default_entropies(action_spec, target_entropy, dist_utils.calc_default_target_entropy)
        self._very_slow_update_rate = very_slow_update_rate
        self._slow_update_rate = slow_update_rate
        self._fast_update_rate = float(fast_update_rate)
        self._min_log_alpha = float(np.log(min_alpha))

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def calc_loss(self, info: EntropyTargetInfo, valid_mask: Optional[torch.Tensor] = None) -> LossInfo:
        """Return ``-alpha * entropy`` ``[T, B]`` with alpha adjusted to the mean entropy of these steps.

        Args:
            info: of the steps ``[T, B]``.
            valid_mask: ``[T, B]``: steps that count besides those at LAST, which do not.
        """
        entropy = _mean_entropy(info, valid_mask)
        self.adjust_alpha(entropy)
        alpha = self._log_alpha.exp()
        if self._debug_summaries and summary.should_record_summaries():
            with summary.scope(self._name):
                summary.scalar("alpha", alpha)
                summary.scalar("entropy", entropy)
        return LossInfo(loss=alpha * info.loss, extra=EntropyTargetLossInfo(neg_entropy=info.loss))

    @torch.no_grad()
    def adjust_alpha(self, entropy: torch.Tensor) -> None:
        """Move alpha one step according to the mean ``entropy`` of a batch."""
        average = self._averager.average(entropy)
        rising = average > self._previous_entropy
        falling = average < self._previous_entropy
        self._previous_entropy.copy_(average)
        self._stage.copy_(torch.where(average < self._max_entropy, _ADJUST, self._stage))
        below = average < self._target_entropy
        leaving = torch.where(below, falling, rising)
        rate = torch.where(leaving, self._fast_update_rate, self._slow_update_rate)
        adjustment = torch.where(below, rate, -rate)
        self._log_alpha += torch.where(self._stage == _FREE, -self._very_slow_update_rate, adjustment)
        self._log_alpha.clamp_(min=self._min_log_alpha)


@configurable
class NestedEntropyTargetAlgorithm(_EntropyWeight):
    """An :class:`EntropyTargetAlgorithm` for each part of a nested action, with its own alpha. Arguments as there, but
    numbers hold for each part."""

    def __init__(self,
                 action_spec: Nest,
                 initial_alpha: float = 0.1,
                 skip_free_stage: bool = False,
                 max_entropy: Union[None, float, Callable] = None,
                 target_entropy: Union[None, float, Callable] = None,
                 very_slow_update_rate: float = 0.001,
                 slow_update_rate: float = 0.01,
                 fast_update_rate: float = np.log(2),
                 min_alpha: float = 1e-4,
                 average_window: int = 2,
                 debug_summaries: bool = False,
                 name: str = "EntropyTargetAlgorithm"):
        super().__init__(debug_summaries=debug_summaries, name=name)
        self._parts = torch.nn.ModuleList(
            EntropyTargetAlgorithm(spec, initial_alpha, skip_free_stage, max_entropy, target_entropy,
                                   very_slow_update_rate, slow_update_rate, fast_update_rate, min_alpha, average_window,
                                   debug_summaries, f"{name}/{i}") for i, spec in enumerate(flatten(action_spec)))

    def train_step(self, distribution_and_step_type: Tuple[Nest, torch.Tensor], state: Nest = None,
                   rollout_info: Nest = None) -> AlgStep:
        """Return the entropies of the parts as a list of infos; arguments as in :class:`EntropyTargetAlgorithm`."""
        distribution, step_type = distribution_and_step_type
        parts = zip(self._parts, flatten(distribution), strict=True)
        return AlgStep(info=[part.train_step((dist, step_type)).info for part, dist in parts])

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def calc_loss(self, info: list, valid_mask: Optional[torch.Tensor] = None) -> LossInfo:
        """Return the sum of the losses ``[T, B]`` of the parts."""
        losses = [part.calc_loss(part_info, valid_mask) for part, part_info in zip(self._parts, info, strict=True)]
        return LossInfo(
            loss=sum(loss.loss for loss in losses),
            extra=EntropyTargetLossInfo(neg_entropy=[loss.extra.neg_entropy for loss in losses]))


@configurable
class SGDEntropyTargetAlgorithm(_EntropyWeight):
    """Adjusts ``log(alpha)`` by gradient descent on ``log(alpha) * (entropy - target)``, Eq. (18) of
    https://arxiv.org/abs/1812.05905 with ``log(alpha)`` in place of alpha.

    Args:
        action_spec: nest of bounded specs of the action.
        initial_alpha: weight of the entropy at the start.
        target_entropy: entropy to hold, a number or a function of the list of specs; None: a default for each spec.
        window_size: updates over which the entropy is averaged.
        optimizer: trains ``log(alpha)``.
        debug_summaries: write alpha and entropy.
        name: name in summaries.
    """

    def __init__(self,
                 action_spec: Nest,
                 initial_alpha: float = 0.1,
                 target_entropy: Union[None, float, Callable] = None,
                 window_size: int = 1,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 debug_summaries: bool = False,
                 name: str = "SGDEntropyTargetAlgorithm"):
        super().__init__(optimizer=optimizer, debug_summaries=debug_summaries, name=name)
        self._log_alpha = torch.nn.Parameter(torch.tensor(float(np.log(initial_alpha))))
        self._averager = ScalarWindowAverager(window_size)
        self._target_entropy = _default_entropies(action_spec, target_entropy, dist_utils.calc_default_target_entropy)

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def calc_loss(self, info: EntropyTargetInfo) -> LossInfo:
        """Return ``-alpha * entropy`` and the loss of alpha, ``[T, B]``."""
        entropy = self._averager.average(_mean_entropy(info))
        alpha = self._log_alpha.exp().detach()
        alpha_loss = self._log_alpha * (entropy - self._target_entropy)
        if self._debug_summaries and summary.should_record_summaries():
            with summary.scope(self._name):
                summary.scalar("alpha", alpha)
                summary.scalar("entropy", entropy)
        return LossInfo(loss=alpha * info.loss + alpha_loss, extra=EntropyTargetLossInfo(neg_entropy=info.loss))
