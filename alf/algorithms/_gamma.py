"""The discount of a loss: a number, or one for each component of the reward."""

from typing import Sequence, Union

import torch
from torch import nn


def register_gamma(module: nn.Module, gamma: Union[float, Sequence[float], torch.Tensor], name: str) -> None:
    """Keep ``gamma`` as ``module._gamma``: a float, or for a vector a buffer that is not saved.

    Args:
        module: the loss.
        gamma: from 0 to 1; a number, or one for each component of the reward ``[R]``.
        name: of the loss, for errors.
    Raises:
        ValueError: if it is out of its range.
    """
    gammas = torch.as_tensor(gamma, dtype=torch.float32)
    if not bool(((gammas >= 0) & (gammas <= 1)).all()):
        raise ValueError(f"{name}.gamma: expected 0 <= gamma <= 1, got {gamma}. Set "
                         f"alf.config(\"{type(module).__name__}\", gamma=0.99).")
    if gammas.ndim:
        module.register_buffer("_gamma", gammas, persistent=False)
    else:
        module._gamma = float(gamma)
