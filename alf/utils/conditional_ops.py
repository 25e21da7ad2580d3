"""Work on the rows of a batch for which a condition holds, and leave the others as they are."""

from typing import Any, Callable

import torch
from torch import Tensor

import alf.nest as nest


def select_from_mask(data: Any, mask: Tensor) -> Any:
    """Return the rows of a nest of tensors where `mask` is true.

    Args:
        data: a nest of tensors `[B, ...]`.
        mask: bool `[B]`.

    Returns:
        The nest with tensors `[mask.sum(), ...]`.
    """
    (indices,) = torch.where(mask)
    return nest.map_structure(lambda tensor: tensor[indices], data)


def conditional_update(target: Any, cond: Tensor, func: Callable, *args, **kwargs) -> Any:
    """Return `target` with the rows where `cond` is true replaced by what `func` computes for these rows.

    `func` only sees the selected rows; it is not called at all when there are none.

    Args:
        target: a nest of tensors `[B, ...]`.
        cond: bool `[B]`.
        func: called with the selected rows of `args` and `kwargs`; returns a nest structured as `target`.
        args: nests of tensors `[B, ...]`.
        kwargs: nests of tensors `[B, ...]`.
    """
    (indices,) = torch.where(cond)
    if indices.numel() == 0:
        return target
    if indices.numel() == cond.numel():
        return func(*args, **kwargs)
    selected_args, selected_kwargs = nest.map_structure(lambda tensor: tensor[indices], (args, kwargs))
    result = func(*selected_args, **selected_kwargs)
    return nest.map_structure(lambda old, new: old.index_put((indices,), new), target, result)
