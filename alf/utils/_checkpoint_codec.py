"""Turning nested state into JSON and named tensors, and back. None of it can run code when it is read.

JSON has no tuples, no keys but text, no bytes, no infinities and no arrays, so those are written as an object
with one key that begins with "!": {"!tuple": [...]}. Tensors and arrays stay out of the JSON and are referred
to by name.
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import torch


class Encoder:
    """Collects the tensors of one file while encoding state.

    `tensors` is {name: CPU tensor}, contiguous and without shared memory.
    """

    def __init__(self):
        self.tensors: dict[str, torch.Tensor] = {}
        self._names: dict[tuple, str] = {}  # by memory, so that tied weights are stored once
        self._storages: set[int] = set()
        self._sources: list[torch.Tensor] = []  # kept alive, for the two above hold addresses

    def encode(self, value: Any, path: str) -> Any:
        """Return `value` as JSON-able data; raises TypeError with the path of what cannot be stored."""
        if isinstance(value, torch.Tensor):
            return self._encode_tensor(value.detach(), path)
        if isinstance(value, np.ndarray):
            return {"!ndarray": self._encode_tensor(_from_numpy(value, path), path)}
        if isinstance(value, np.generic) and not isinstance(
            value.item(), np.generic
        ):  # np.float64 is a float
            return {"!scalar": [value.dtype.str, self.encode(value.item(), path)]}
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"!float": repr(float(value))}
        if isinstance(value, (bytes, bytearray)):
            return {"!bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, torch.dtype):
            return {"!dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Size):
            return {"!size": list(value)}
        if isinstance(value, dict):
            return self._encode_dict(value, path)
        if isinstance(value, tuple) and type(value) is not tuple:
            raise TypeError(
                f"{path}: a {type(value).__name__} cannot be stored, because its class would be "
                f"lost. Let state_dict() return a dict or a plain tuple."
            )
        if isinstance(value, (list, tuple)):
            items = [self.encode(item, f"{path}.{i}") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"!tuple": items}
        raise TypeError(
            f"{path}: a {type(value).__module__}.{type(value).__qualname__} cannot be stored. "
            f"A state_dict() may hold tensors, arrays, numbers, text, bytes and None, in dicts, "
            f"lists and tuples."
        )

    def _encode_dict(self, value: dict, path: str) -> dict:
        is_like_tagged = len(value) == 1 and str(next(iter(value))).startswith("!")
        if all(type(key) is str for key in value) and not is_like_tagged:
            return {key: self.encode(item, f"{path}.{key}") for key, item in value.items()}
        pairs = [[self.encode(key, path), self.encode(item, f"{path}.{key}")] for key, item in value.items()]
        return {"!dict": pairs}

    def _encode_tensor(self, tensor: torch.Tensor, path: str) -> dict:
        if tensor.is_complex():
            return {"!complex": self._add(torch.view_as_real(tensor.resolve_conj()), path)}
        return {"!tensor": self._add(tensor, path)}

    def _add(self, tensor: torch.Tensor, path: str) -> str:
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            raise TypeError(
                f"{path}: a tensor of layout {tensor.layout} on {tensor.device} cannot be "
                f"stored. Let state_dict() return a dense one."
            )
        memory = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and memory in self._names:
            return self._names[memory]
        name = path
        while name in self.tensors:
            name += "'"
        self._names[memory] = name
        self._sources.append(tensor)
        storage = tensor.untyped_storage()
        stored = tensor.cpu().contiguous()
        if stored.untyped_storage().data_ptr() == storage.data_ptr() and storage.data_ptr():
            if storage.data_ptr() in self._storages or storage.nbytes() != stored.nbytes:
                stored = stored.clone()
            self._storages.add(storage.data_ptr())
        self.tensors[name] = stored
        return name


def _from_numpy(array: np.ndarray, path: str) -> torch.Tensor:
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise TypeError(
            f"{path}: an array of {array.dtype} cannot be stored. Let state_dict() return an "
            f"array of numbers or bools."
        ) from None


def decode(data: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return the state that `data` was encoded from.

    Args:
        data: what `Encoder.encode` returned.
        tensors: its tensors.
    Raises:
        ValueError: if `data` has a kind of value this version does not know.
        KeyError: if a tensor is missing.
    """
    if isinstance(data, list):
        return [decode(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        tag, content = next(iter(data.items()))
        if tag.startswith("!"):
            return _decode_tagged(tag, content, tensors)
    return {key: decode(item, tensors) for key, item in data.items()}


def _decode_tagged(tag: str, content: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if tag == "!tensor":
        return tensors[content]
    if tag == "!ndarray":
        return decode(content, tensors).numpy().copy()
    if tag == "!complex":
        return torch.view_as_complex(tensors[content])
    if tag == "!scalar":
        return np.dtype(content[0]).type(decode(content[1], tensors))
    if tag == "!float":
        return float(content)
    if tag == "!bytes":
        return base64.b64decode(content)
    if tag == "!dtype":
        dtype = getattr(torch, content, None)
        if isinstance(dtype, torch.dtype):
            return dtype
        raise ValueError(f"unknown torch dtype {content!r}")
    if tag == "!size":
        return torch.Size(content)
    if tag == "!tuple":
        return tuple(decode(item, tensors) for item in content)
    if tag == "!dict":
        return {decode(key, tensors): decode(item, tensors) for key, item in content}
    raise ValueError(f"unknown kind of value {tag!r}; it was probably written by a newer version of alf")
