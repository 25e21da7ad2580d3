"""FiniteGuard: no update with a loss or gradients that are NaN or infinite reaches the parameters."""

import math
from typing import Callable, List, Optional, Sequence, Tuple

import torch
from absl import logging
from torch import nn

from alf import progress
from alf.algorithms._training.loss_scaler import LossScaler
from alf.data_structures import LossInfo
from alf.nest import py_map_structure_with_path
from alf.utils.finite import NonFiniteError, is_finite, listed


class FiniteGuard:
    """Looks at loss and gradients before each step of the optimizers.

    Where the parameters are on the CPU each update is looked at there and then. On a GPU that would wait for it at
    every update. There a flag on the device, which the optimizers' kernels obey, keeps the parameters as they are, and
    is read at every ``read_every``-th update: ``"raise"`` then raises with the parameters, moments and step counts of
    the first bad update, and ``"skip_update"`` leaves out each bad one (Adam's step number alone counts it). Optimizers
    that are not of :mod:`alf.optimizers`, and parameters on several devices, are always looked at there and then.

    With a loss scaler, an update whose gradients are not finite is left out without a word, for the scaler then takes a
    smaller factor, unless the factor is so small that it cannot be the cause. By the flag, Adam's step number counts
    it, and what follows an update happens.

    Args:
        policy: ``"raise"`` or ``"skip_update"``, see ``TrainerConfig.non_finite``.
        read_every: updates between two readings of the flag.
        use_flag: use the flag on the device; None: unless the parameters are on the CPU.
    """

    def __init__(self, policy: str = "raise", read_every: int = 64, use_flag: Optional[bool] = None):
        self._policy = policy
        self._read_every = read_every
        self._use_flag = use_flag
        self.loss_scaler: Optional[LossScaler] = None  # has unscaled the gradients of each update
        self._planned_for: Optional[list] = None
        self._num_skipped = 0
        self._next_warning = 1
        self._num_unread = 0
        self.overflowed = False  # the last update was left out for a factor of the loss that was too large

    @property
    def skips(self) -> bool:
        """Whether bad updates are left out, rather than raised for."""
        return self._policy == "skip_update"

    @property
    def num_skipped(self) -> int:
        """How many updates were left out since the process began; on a GPU this waits for it."""
        if self._num_unread:
            self._read_flag()
        return self._num_skipped

    def passes(self, loss: torch.Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> bool:
        """Return whether the optimizers may step: loss and gradients are finite. Else gathered gradients are dropped.

        Args:
            loss: the scalar whose gradients are in the parameters.
            optimizers: of all parameters.
        """
        if self._planned_for is not optimizers:
            self._plan(optimizers)
        return self._passes_by_flag(loss, optimizers) if self._use_flag else self._passes_at_once(loss, optimizers)

    def _plan(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._planned_for = optimizers
        devices = {p.device for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
        if self._use_flag is None:
            obeys_flag = all(hasattr(optimizer, "gather") for optimizer in optimizers)
            self._use_flag = obeys_flag and len(devices) == 1 and next(iter(devices)).type != "cpu"
        if self._use_flag:
            device = next(iter(devices))
            self._found = torch.zeros((), device=device)
            self._num_found = torch.zeros((), device=device)
            self._one = torch.ones((), device=device)
            self._held_up = self._found if self.loss_scaler is None else torch.zeros((), device=device)
            for optimizer in optimizers:
                optimizer.found_inf = self._held_up

    def _passes_at_once(self, loss: torch.Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> bool:
        total = loss.item()
        self.overflowed = self._is_overflow(total)
        if self.overflowed:
            return False
        for optimizer in optimizers:
            total += optimizer.gather() if hasattr(optimizer, "gather") else _sum_of_gradients(optimizer)
        if math.isfinite(total):
            return True
        for optimizer in optimizers:
            if hasattr(optimizer, "drop"):
                optimizer.drop()
        return False

    def _is_overflow(self, loss: float) -> bool:
        """Return whether gradients are not finite because the factor of the loss is too large."""
        scaler = self.loss_scaler
        return scaler is not None and math.isfinite(loss) and scaler.overflowed.item() > scaler.is_hopeless.item()

    def _passes_by_flag(self, loss: torch.Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> bool:
        if self.skips:
            self._found.zero_()
        numbers = [loss.detach()]
        if self.loss_scaler is None:
            numbers += _gradients(optimizers)
        # What GradScaler uses: one kernel that looks at all of them, and multiplies by one.
        for dtype in {number.dtype for number in numbers}:
            torch._amp_foreach_non_finite_check_and_unscale_([n for n in numbers if n.dtype == dtype], self._found,
                                                             self._one)
        if self.loss_scaler is not None:
            torch.maximum(self._found, self.loss_scaler.is_hopeless, out=self._found)
            torch.maximum(self._found, self.loss_scaler.overflowed, out=self._held_up)
        self._num_found += self._found
        self._num_unread += 1
        return self._num_unread < self._read_every or self._read_flag() == 0 or self.skips

    def _read_flag(self) -> int:
        """Return how many updates the flag has held up since it was last read."""
        found, self._num_unread = int(self._num_found.item()), 0
        self._num_found.zero_()
        if found and self.skips:
            self._count(found, "")
        return found

    def refuse(self, loss_info: LossInfo, named_parameters: Callable[[], List[Tuple[str, nn.Parameter]]]) -> None:
        """Handle an update that did not pass: raise an error or count it as skipped, as the policy says.

        Args:
            loss_info: its losses.
            named_parameters: returns what is trained, in the order in which it was made.
        Raises:
            NonFiniteError: if the policy is to raise.
        """
        if self.skips:
            if self._num_skipped + 1 >= self._next_warning:
                self._count(1, self._told(loss_info, named_parameters()))
            else:
                self._num_skipped += 1
            return
        raise NonFiniteError(
            f"{_iteration()}: loss or gradients are not finite. The update was not made, and the parameters are those "
            f"before it.\n{self._told(loss_info, named_parameters())}\nTo fix it: look for a division by 0, a log or "
            "sqrt of 0 or an exp of a large number in what is named; lower the optimizer's lr; set its "
            "gradient_clipping; scale rewards and observations to the order of 1. To go on without such updates: "
            'alf.config("TrainerConfig", non_finite="skip_update").')

    def _count(self, number: int, told: str) -> None:
        self._num_skipped += number
        if self._num_skipped >= self._next_warning:
            self._next_warning = 10**len(str(self._num_skipped))
            logging.warning("%s: skipped an update whose loss or gradients are not finite, the %dth of this process. "
                            "The next warning comes at %d.%s", _iteration(), self._num_skipped, self._next_warning,
                            "\n" + told if told else "")

    def _told(self, loss_info: LossInfo, named_parameters: List[Tuple[str, nn.Parameter]]) -> str:
        lines = []
        parts = non_finite_parts(loss_info)
        if parts:
            lines.append("  parts of the loss: " + "; ".join(parts))
        gradients = [name for name, p in named_parameters if p.grad is not None and not is_finite(p.grad)]
        if gradients:
            lines.append(f"  gradients: of {len(gradients)} of {len(named_parameters)} parameters: "
                         f"{listed(gradients)}; the first module is {gradients[0].rpartition('.')[0] or 'the root'}")
        values = [name for name, p in named_parameters if not is_finite(p)]
        if values:
            lines.append(f"  parameters that were so before: {listed(values)}")
        if not lines and self._use_flag:
            lines.append(f"  It was one of the last {self._read_every} updates: the flag on the device is read no more "
                         "often. To see which parts are not finite, repeat the run on the CPU.")
        elif not lines:
            lines.append("  Each gradient is finite; their norm or sum exceeds the range of float32.")
        return "\n".join(lines)


def non_finite_parts(loss_info: LossInfo) -> List[str]:
    """Return the paths of the parts of a loss that are not finite, each with how many of its numbers are not.

    Args:
        loss_info: ``loss``, ``scalar_loss`` and the leaves of ``extra`` are looked at.
    """
    told = []

    def look(path, leaf):
        if not isinstance(leaf, torch.Tensor) or is_finite(leaf):
            return
        if leaf.numel() == 1:
            told.append(f"{path} ({leaf.item()})")
        else:
            told.append(f"{path} ({int(torch.isnan(leaf).sum())} NaN and {int(torch.isinf(leaf).sum())} infinite of "
                        f"{leaf.numel()})")

    parts = {"loss": loss_info.loss, "scalar_loss": loss_info.scalar_loss, "extra": loss_info.extra}
    py_map_structure_with_path(look, parts)
    return told


def _gradients(optimizers: Sequence[torch.optim.Optimizer]) -> List[torch.Tensor]:
    return [p.grad for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]
            if p.grad is not None]


def _sum_of_gradients(optimizer: torch.optim.Optimizer) -> float:
    return sum(grad.sum().item() for grad in _gradients([optimizer]))


def _iteration() -> str:
    return f"iteration {int(progress.get_progress('iterations')) + 1}"
