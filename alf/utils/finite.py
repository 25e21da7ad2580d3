"""What is NaN or infinite where it must not be, and how that is told."""

from typing import List

import torch
from torch import nn

_MAX_NAMES = 8


class NonFiniteError(RuntimeError):
    """A loss, a gradient, a parameter or, in a class of its own, a step of an environment is NaN or infinite."""


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether no number of ``tensor`` is NaN or infinite; on a GPU this waits for it."""
    return bool(torch.isfinite(tensor.detach()).all())


def listed(names: List[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def check_parameters(module: nn.Module, consequence: str) -> None:
    """Raise if a parameter of ``module`` is NaN or infinite. On a GPU this waits for it.

    Args:
        module: the module.
        consequence: what does not happen then, for the message.
    Raises:
        NonFiniteError: naming the parameters.
    """
    bad = [name for name, p in module.named_parameters() if p.is_floating_point() and not is_finite(p)]
    if bad:
        raise NonFiniteError(
            f"{consequence}: {len(bad)} parameters are NaN or infinite: {listed(bad)}. Updates with finite gradients "
            "make them so only with an lr that is far too large; else something writes to them. Correct that, and the "
            "same command goes on from the last checkpoint.")
