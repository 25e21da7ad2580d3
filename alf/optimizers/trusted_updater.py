"""Parameter steps that are scaled back where a measured change would be too large."""

import math
from typing import Callable, Iterable, List

import torch

import alf.nest as nest


class TrustedUpdater:
    """Keeps updates of parameters within a trust region given by a measured change of the outputs.

    Made before an optimizer's step, called after it::

        updater = TrustedUpdater(parameters)
        optimizer.step()
        changes, steps = updater.adjust_step(change_f, max_change)
    """

    def __init__(self, parameters: Iterable[torch.Tensor]):
        """
        Args:
            parameters: the parameters; their present values are remembered.
        """
        self._parameters: List[torch.Tensor] = list(parameters)
        self._initial = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def adjust_step(self, change_f: Callable, max_change):
        """Shorten the step from the remembered values until no change exceeds its bound.

        The change is assumed to grow about linearly with the length of the step: each round scales the step
        by 0.9 * max_change / change (for the change that exceeds its bound most), for at most 100 rounds.

        Args:
            change_f: returns a nest of 0-d tensors: how much what matters has changed at the present
                parameters.
            max_change: nest of the same structure: the largest allowed changes.

        Returns:
            tuple:
            - the nest of changes as first measured;
            - int, the number of times the step was shortened.

        Raises:
            RuntimeError: the change is still too large after 100 rounds, or it is not finite.
        """
        bounds = [float(bound) for bound in nest.flatten(max_change)]
        first_changes = change_f()
        changes = first_changes
        for num_rounds in range(100):
            values = [float(change) for change in nest.flatten(changes)]
            if len(values) != len(bounds):
                raise ValueError(
                    f"TrustedUpdater.adjust_step: change_f gave {len(values)} changes, max_change has "
                    f"{len(bounds)} bounds."
                )
            if not all(map(math.isfinite, values)):  # each of them: max() passes over a NaN that is not the first
                raise RuntimeError(f"TrustedUpdater.adjust_step: changes are not finite: {values}.")
            excess = max(value / bound for value, bound in zip(values, bounds))
            if excess <= 1:
                return first_changes, num_rounds
            for p, initial in zip(self._parameters, self._initial):
                p.copy_(torch.lerp(initial, p, 0.9 / excess))
            changes = change_f()
        raise RuntimeError(
            f"TrustedUpdater.adjust_step: changes {values} still exceed {bounds} after 100 rounds; "
            "change_f must go to 0 with the length of the step."
        )
