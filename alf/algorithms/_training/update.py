"""One update: from a LossInfo to changed parameters."""

from typing import Callable, List, Optional, Tuple

import torch

from alf.algorithms._training.finite_guard import FiniteGuard
from alf.algorithms._training.loss_scaler import LossScaler
from alf.data_structures import LossInfo
from alf.utils import profiling
from alf.utils.distributed import GradientAverager


def masked_mean(loss: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
    """Return the mean of ``loss`` over the entries under ``mask``; 0 if there are none.

    Args:
        loss: ``[T, B]`` or a scalar.
        mask: bool or float ``[T, B]``, or None.
    """
    if loss.ndim == 0 or mask is None:
        return loss.mean()
    mask = mask.to(loss.dtype)
    return (loss * mask).sum() / mask.sum().clamp_(min=1.0)


def total_loss(loss_info: LossInfo,
               valid_masks: Optional[torch.Tensor] = None,
               importance_weights: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Return the scalar to minimise: the mean of ``loss`` over valid steps, plus ``scalar_loss``.

    Args:
        loss_info: ``loss`` is ``[T, B]``, a scalar or ``()``; ``scalar_loss`` a scalar or ``()``.
        valid_masks: ``[T, B]``: 0 where the loss does not count.
        importance_weights: ``[B]``: weights of sequences sampled by priority.
    Raises:
        ValueError: if there is neither a ``loss`` nor a ``scalar_loss``.
    """
    parts = []
    if isinstance(loss_info.loss, torch.Tensor):
        loss = loss_info.loss
        if importance_weights is not None:
            loss = loss * importance_weights
        parts.append(masked_mean(loss, valid_masks))
    if isinstance(loss_info.scalar_loss, torch.Tensor):
        if loss_info.scalar_loss.ndim != 0:
            raise ValueError(f"LossInfo.scalar_loss: expected a scalar, got shape "
                             f"{tuple(loss_info.scalar_loss.shape)}. Losses of steps belong in LossInfo.loss.")
        parts.append(loss_info.scalar_loss)
    if not parts:
        raise ValueError("LossInfo: expected a loss or a scalar_loss, got neither.")
    return sum(parts[1:], parts[0])


def update_parameters(loss: torch.Tensor,
                      optimizers: List[torch.optim.Optimizer],
                      before_step: Optional[Callable[[], None]] = None,
                      guard: Optional[FiniteGuard] = None,
                      loss_scaler: Optional[LossScaler] = None,
                      averager: Optional[GradientAverager] = None) -> bool:
    """Make one step of each optimizer on the gradients of ``loss``; return whether it was made.

    Args:
        loss: a scalar.
        optimizers: the optimizers.
        before_step: called when the gradients are there; an optimizer may change them as it steps.
        guard: no optimizer steps unless loss and gradients pass it.
        loss_scaler: keeps gradients of float16 in its range.
        averager: of processes that train together.
    """
    for optimizer in optimizers:
        optimizer.zero_grad()
    (loss if loss_scaler is None else loss_scaler.scale(loss)).backward()
    if averager is not None:
        loss = averager.average(loss)
    if loss_scaler is not None:
        loss_scaler.unscale(optimizers)
    if before_step is not None:
        before_step()
    return step_optimizers(loss, optimizers, guard)


def step_optimizers(loss: torch.Tensor, optimizers: List[torch.optim.Optimizer],
                    guard: Optional[FiniteGuard] = None) -> bool:
    """Make one step of each optimizer on the gradients that parameters have; return whether it was made.

    Args:
        loss: the scalar that they are of.
        optimizers: the optimizers.
        guard: no optimizer steps unless loss and gradients pass it.
    """
    if guard is not None and not guard.passes(loss, optimizers):
        return False
    for optimizer in optimizers:
        optimizer.step()
    profiling.count_update()
    return True


def told_mean(part: torch.Tensor, valid_masks: Optional[torch.Tensor]) -> torch.Tensor:
    """Return the mean of a part of the loss for summaries: over valid steps if it is ``[T, B]``, else over all."""
    part = part.detach().to(torch.float32)
    return masked_mean(part, valid_masks if valid_masks is not None and part.shape == valid_masks.shape else None)


def learning_rates(optimizers: List[torch.optim.Optimizer]) -> List[Tuple[str, float]]:
    """Return name and learning rate of optimizers, names that occur again with a number."""
    rates = {}
    for optimizer in optimizers:
        name = base = getattr(optimizer, "name", type(optimizer).__name__)
        number = 1
        while name in rates:
            number += 1
            name = f"{base}_{number}"
        rates[name] = optimizer.lr if hasattr(optimizer, "lr") else optimizer.param_groups[0]["lr"]
    return list(rates.items())
