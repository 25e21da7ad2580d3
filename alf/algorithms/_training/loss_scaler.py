"""LossScaler: keeps gradients of float16 in its range."""

from typing import Sequence

import torch


class LossScaler(torch.amp.GradScaler):
    """A GradScaler for several optimizers that step together or not at all.

    The loss is multiplied by a factor, and the gradients are divided by it before anyone looks at them. The factor is
    halved when a gradient is not finite, and doubled after 2000 updates without that; these are the settings of
    ``torch.amp.GradScaler``. A gradient that is not finite though the factor is below 1 is not the fault of the factor.

    Attributes:
        overflowed: float32 0-d, 1 if a gradient of the last update was not finite, else 0.
        is_hopeless: float32 0-d, 1 if it was not although the factor was below 1, else 0.
    """

    overflowed: torch.Tensor
    is_hopeless: torch.Tensor

    @torch.no_grad()
    def unscale(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Divide the gradients of all optimizers by the factor, and adapt it. Does not wait for a GPU."""
        for optimizer in optimizers:
            self.unscale_(optimizer)
        found = [found for optimizer in optimizers for found in self._found_inf_per_device(optimizer).values()]
        self.overflowed = torch.stack([one.to(self._scale.device) for one in found]).amax()
        self.is_hopeless = self.overflowed * (self._scale < 1)
        self.update()
