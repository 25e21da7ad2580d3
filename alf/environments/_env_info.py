"""EnvInfo: turns the info dictionaries of Gymnasium environments into arrays of fixed shape and dtype."""

from __future__ import annotations

import logging
from typing import Any, Iterator

import numpy as np

import alf.nest as nest
from alf.tensor_specs import TensorSpec

logger = logging.getLogger(__name__)


def _numeric(value: Any) -> np.ndarray | None:
    """Return ``value`` as an array that a TensorSpec can describe, or None if it is not numeric."""
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return array.astype(np.float32)
        if array.dtype.kind in "iu":
            return array if array.dtype == np.uint8 else array.astype(np.int64)
        if array.dtype.kind == "b":
            return array
    return None


def _items(info: dict, keys: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yield ``(path of keys, value)`` of the leaves of nested dictionaries, keys in sorted order."""
    for key in sorted(info, key=str):
        value = info[key]
        if isinstance(value, dict):
            yield from _items(value, keys + (key,))
        else:
            yield keys + (key,), value


class EnvInfo:
    """The numeric part of the infos of one environment, learned from a sample.

    Args:
        sample: info of one step; its numbers, arrays and nested dictionaries of them make the spec.
        name: how messages call the environment.
    """

    def __init__(self, sample: dict, name: str):
        self._name = name
        self._known = {keys for keys, _ in _items(sample)}
        self._warned = False
        self.spec: dict = {}
        arrays = []
        dropped = []
        for keys, value in _items(sample):
            array = _numeric(value)
            if array is None or not all(isinstance(key, str) for key in keys):
                dropped.append(keys)
                continue
            arrays.append((keys, array))
            level = self.spec
            for key in keys[:-1]:
                level = level.setdefault(key, {})
            level[keys[-1]] = TensorSpec(array.shape, array.dtype)
        # Sorted by path, which is the order in which nest visits nested dictionaries.
        self._leaves = [(keys, np.zeros_like(array)) for keys, array in arrays]
        if dropped:
            self._warn(f"info values that are not numbers are left out of env_info: {_paths(dropped)}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            logger.warning("%s: %s.", self._name, text)
            self._warned = True

    def plain_keys(self) -> list[str] | None:
        """Return the keys in the order of the leaves if all are scalars at the top of ``info``, else None."""
        if all(len(keys) == 1 and zero.shape == () and zero.dtype != np.uint8 for keys, zero in self._leaves):
            return [keys[0] for keys, _ in self._leaves]
        return None

    def __bool__(self) -> bool:
        return bool(self._leaves)

    def _value(self, info: dict, keys: tuple, zero: np.ndarray) -> Any:
        value = info
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                return zero
        if zero.ndim and np.shape(value) != zero.shape:
            raise self._error(keys, zero, value)
        return value

    def _error(self, keys: tuple, zero: np.ndarray, value: Any) -> ValueError:
        return ValueError(
            f"{self._name}: info[{'.'.join(keys)!r}]: expected shape {zero.shape} as in the first step, got "
            f"{np.shape(value)} ({value!r:.80}). Report numbers of a fixed shape, or take this key out of "
            f"info."
        )

    def write(self, blocks: list[np.ndarray], index: int, info: dict) -> None:
        """Write ``info`` into row ``index`` of ``blocks``, in flatten order; missing values are 0."""
        for block, (keys, zero) in zip(blocks, self._leaves, strict=True):
            value = self._value(info, keys, zero)
            try:
                block[index] = value
            except (TypeError, ValueError):
                raise self._error(keys, zero, value) from None

    def arrays(self, info: dict) -> dict:
        """Return ``info`` as the nest of arrays described by ``spec``; missing values are 0."""
        arrays = []
        for keys, zero in self._leaves:
            array = np.empty((1,) + zero.shape, zero.dtype)
            value = self._value(info, keys, zero)
            try:
                array[0] = value
            except (TypeError, ValueError):
                raise self._error(keys, zero, value) from None
            arrays.append(array[0, ...])
        return nest.pack_sequence_as(self.spec, arrays) if arrays else {}

    def check_late_keys(self, info: dict) -> None:
        """Warn once about values that the sample did not have: they cannot be added any more."""
        if self._warned:
            return
        late = [keys for keys, value in _items(info) if keys not in self._known and _numeric(value) is not None]
        if late:
            self._warn(
                f"info values that the first step did not have are left out of env_info: {_paths(late)}. "
                "Report them from the first step on to record them"
            )


def _paths(all_keys: list[tuple]) -> str:
    return ", ".join(".".join(map(str, keys)) for keys in all_keys)
