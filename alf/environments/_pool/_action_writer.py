"""ActionWriter: checks a batch of actions and writes it into the shared action blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import alf.nest as nest
from alf.environments._pool._worker import ALL_PARTS


class ActionWriter:
    """Writes actions of the batch, or of one part of it, where the environments read them.

    Args:
        spec: nest of TensorSpec of the action.
        blocks: arrays ``[B, ...]`` per leaf, in flatten order.
        num_parts: number of parts of the batch.
    """

    def __init__(self, spec: Any, blocks: list[np.ndarray], num_parts: int):
        self._spec = spec
        self._is_nested = nest.is_nested(spec)
        part_size = len(blocks[0]) // num_parts
        tensors = [torch.from_numpy(block) for block in blocks]
        cut = {part: [t[part * part_size : (part + 1) * part_size] for t in tensors] for part in range(num_parts)}
        cut[ALL_PARTS] = tensors
        # With shape and dtype, which take longer to ask for than to compare.
        self._targets = {part: [(t, t.shape, t.dtype) for t in leaves] for part, leaves in cut.items()}

    def __call__(self, action: Any, part: int) -> None:
        """Write ``action``.

        Raises:
            ValueError: if its structure, a shape or a dtype is not that of the spec.
        """
        targets = self._targets[part]
        if not self._is_nested:
            self._write(action, *targets[0], 0)
            return
        try:
            nest.assert_same_structure(action, self._spec)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"FastParallelEnvironment.step: action: expected a nest like the action spec {self._spec}: "
                f"{error}"
            ) from None
        for index, (leaf, target) in enumerate(zip(nest.flatten(action), targets)):
            self._write(leaf, *target, index)

    def _write(self, leaf: Any, target: torch.Tensor, shape: torch.Size, dtype: torch.dtype, index: int) -> None:
        if leaf.__class__ is not torch.Tensor:
            leaf = torch.as_tensor(leaf)
        if leaf.shape != shape or (leaf.dtype is not dtype and not _converts(leaf, target)):
            path = self._path(index)
            raise ValueError(
                f"FastParallelEnvironment.step: {path}: expected shape {tuple(shape)} and dtype {dtype}, got "
                f"{tuple(leaf.shape)} and {leaf.dtype}."
            )
        target.copy_(leaf.detach() if leaf.requires_grad else leaf)

    def _path(self, index: int) -> str:
        paths: list[str] = []
        nest.py_map_structure_with_path(lambda path, _: paths.append(path), self._spec)
        return ".".join(filter(None, ("action", paths[index])))


def _converts(source: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether the conversion keeps what is meant: a float is no index, but any number may become a float."""
    return target.is_floating_point() or not source.is_floating_point()
