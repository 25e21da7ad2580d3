"""Rows of sequences as one batch, and back."""

from typing import Any

import torch

from alf.nest import Nest, map_structure


def check_at_least_two_steps(step_type: torch.Tensor, name: str) -> None:
    """Raise if sequences are too short to bootstrap from.

    Args:
        step_type: ``[T, B]``.
        name: of the algorithm, for the message.
    Raises:
        ValueError: if T is 1.
    """
    if step_type.shape[0] < 2:
        raise ValueError(f"{name}: expected sequences of at least 2 steps, the last of which is bootstrapped from, got "
                         f"{step_type.shape[0]}. Set alf.config(\"TrainerConfig\", mini_batch_length=2).")


def fold(nest: Nest, rows: slice = slice(None)) -> Nest:
    """Return some rows of tensors ``[T, B, ...]`` as one batch ``[N * B, ...]``."""
    if isinstance(nest, torch.Tensor):
        return nest[rows].flatten(0, 1)
    return map_structure(lambda leaf: leaf[rows].flatten(0, 1), nest)


def unfold(tensor: Any, batch_size: int) -> Any:
    """Return a tensor ``[N * B, ...]`` as ``[N, B, ...]``; what is no tensor stays as it is."""
    return tensor.unflatten(0, (-1, batch_size)) if isinstance(tensor, torch.Tensor) else tensor
