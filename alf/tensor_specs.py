"""TensorSpec and BoundedTensorSpec: shape, dtype and bounds of a tensor, without its batch dimensions."""

from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np
import torch

from alf._config._configurable import configurable

_NUMPY_DTYPES = {
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.uint8: np.uint8,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.bool: np.bool_,
}
_TORCH_DTYPES = {np.dtype(array_type): dtype for dtype, array_type in _NUMPY_DTYPES.items()}
_TORCH_DTYPES[np.dtype(np.uint16)] = torch.int32
_TORCH_DTYPES[np.dtype(np.uint32)] = torch.int64


def torch_dtype_to_str(dtype: torch.dtype) -> str:
    """Return the NumPy name of ``dtype``: ``"float32"`` for ``torch.float32``.

    Raises:
        ValueError: if there is no such dtype in NumPy.
    """
    if dtype not in _NUMPY_DTYPES:
        raise ValueError(f"dtype: expected one of {[str(d) for d in _NUMPY_DTYPES]}, got {dtype}.")
    return np.dtype(_NUMPY_DTYPES[dtype]).name


def _as_torch_dtype(dtype: Union[torch.dtype, np.dtype, type, str]) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        return _TORCH_DTYPES[np.dtype(dtype)]
    except (TypeError, KeyError):
        raise ValueError(f"TensorSpec.dtype: expected a torch or NumPy dtype that torch has, got {dtype!r}.") from None


def _outer(outer_dims: Optional[Tuple[int, ...]]) -> Tuple[int, ...]:
    return tuple(outer_dims) if outer_dims else ()


@configurable
class TensorSpec:
    """Shape and dtype of a tensor; batch dimensions are not part of it.

    Args:
        shape: sizes without batch dimensions.
        dtype: a torch dtype; a NumPy dtype or its name is converted.
    """

    __slots__ = ("_shape", "_dtype")

    def __init__(self, shape: Tuple[int, ...], dtype: torch.dtype = torch.float32):
        self._shape = tuple(int(size) for size in shape)
        self._dtype = _as_torch_dtype(dtype)

    @classmethod
    def from_spec(cls, spec: "TensorSpec") -> "TensorSpec":
        """Return a spec with the shape and dtype of ``spec``."""
        return TensorSpec(spec.shape, spec.dtype)

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor, from_dim: int = 0) -> "TensorSpec":
        """Return the spec of ``tensor``, its first ``from_dim`` dimensions left out."""
        return TensorSpec(tensor.shape[from_dim:], tensor.dtype)

    @classmethod
    def from_array(cls, array: np.ndarray, from_dim: int = 0) -> "TensorSpec":
        """Return the spec of a NumPy ``array``, its first ``from_dim`` dimensions left out."""
        return TensorSpec(array.shape[from_dim:], array.dtype)

    def replace(self,
                shape: Union[None, tuple, torch.Size] = None,
                dtype: Optional[torch.dtype] = None) -> "TensorSpec":
        """Return a spec like this one with another shape or dtype."""
        return TensorSpec(self._shape if shape is None else shape, self._dtype if dtype is None else dtype)

    def is_bounded(self) -> bool:
        """Return whether the spec has bounds."""
        return False

    @property
    def shape(self) -> Tuple[int, ...]:
        """Sizes without batch dimensions."""
        return self._shape

    @property
    def numel(self) -> int:
        """Number of elements."""
        return int(np.prod(self._shape, dtype=np.int64))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._shape)

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype."""
        return self._dtype

    @property
    def dtype_str(self) -> str:
        """The NumPy name of the dtype."""
        return torch_dtype_to_str(self._dtype)

    @property
    def is_discrete(self) -> bool:
        """Whether the dtype is an integer type or bool."""
        return not self._dtype.is_floating_point

    @property
    def is_continuous(self) -> bool:
        """Whether the dtype is a floating point type."""
        return self._dtype.is_floating_point

    def constant(self, value: Any, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return a tensor ``[*outer_dims, *shape]`` filled with ``value``, a number or an array that broadcasts."""
        size = _outer(outer_dims) + self._shape
        if isinstance(value, (int, float, bool)):
            return torch.full(size, value, dtype=self._dtype)
        return torch.as_tensor(value).to(self._dtype).expand(size).clone()

    def zeros(self, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return zeros ``[*outer_dims, *shape]``."""
        return torch.zeros(_outer(outer_dims) + self._shape, dtype=self._dtype)

    def ones(self, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return ones ``[*outer_dims, *shape]``."""
        return torch.ones(_outer(outer_dims) + self._shape, dtype=self._dtype)

    def numpy_constant(self, value: Any, outer_dims: Optional[Tuple[int, ...]] = None) -> np.ndarray:
        """Return an array ``[*outer_dims, *shape]`` filled with ``value``."""
        return np.full(_outer(outer_dims) + self._shape, value, dtype=_NUMPY_DTYPES[self._dtype])

    def numpy_zeros(self, outer_dims: Optional[Tuple[int, ...]] = None) -> np.ndarray:
        """Return an array of zeros ``[*outer_dims, *shape]``."""
        return self.numpy_constant(0, outer_dims)

    def randn(self, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return standard normal noise ``[*outer_dims, *shape]``; the dtype must be a floating point type."""
        self._check_continuous("randn")
        return torch.randn(_outer(outer_dims) + self._shape, dtype=self._dtype)

    def rand(self, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return uniform noise from [0, 1) ``[*outer_dims, *shape]``; the dtype must be a floating point type."""
        self._check_continuous("rand")
        return torch.rand(_outer(outer_dims) + self._shape, dtype=self._dtype)

    def _check_continuous(self, method: str) -> None:
        if not self.is_continuous:
            raise ValueError(f"{type(self).__name__}.{method}: expected a floating point dtype, got {self._dtype}.")

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self._shape}, dtype={self._dtype})"

    def __eq__(self, other: Any) -> bool:
        return type(other) is TensorSpec and self._shape == other._shape and self._dtype == other._dtype

    # Bounds are arrays and specs are compared by value, so a spec cannot be a dictionary key.
    __hash__ = None

    def __getstate__(self):
        return {"shape": self._shape, "dtype": self._dtype}

    def __setstate__(self, state):
        self._shape, self._dtype = state["shape"], state["dtype"]


@configurable
class BoundedTensorSpec(TensorSpec):
    """A :class:`TensorSpec` with inclusive bounds.

    Args:
        shape: sizes without batch dimensions.
        dtype: a torch dtype; a NumPy dtype or its name is converted.
        minimum: smallest value, a number or an array that broadcasts to ``shape``.
        maximum: largest value, inclusive, likewise.
    Raises:
        ValueError: if a bound does not broadcast to ``shape`` or a minimum exceeds its maximum.
    """

    __slots__ = ("_minimum", "_maximum")

    def __init__(self,
                 shape: Tuple[int, ...],
                 dtype: torch.dtype = torch.float32,
                 minimum: Union[float, np.ndarray] = 0,
                 maximum: Union[float, np.ndarray] = 1):
        super().__init__(shape, dtype)
        self._minimum = self._bound("minimum", minimum)
        self._maximum = self._bound("maximum", maximum)
        if np.any(self._minimum > self._maximum):
            raise ValueError(f"BoundedTensorSpec: expected minimum <= maximum, got minimum={self._minimum} and "
                             f"maximum={self._maximum}.")

    def _bound(self, name: str, value: Union[float, np.ndarray]) -> np.ndarray:
        array_type = _NUMPY_DTYPES[self._dtype]
        array = np.asarray(value)
        if np.issubdtype(array_type, np.integer):
            info = np.iinfo(array_type)
            array = np.clip(array, info.min, info.max)
        array = np.array(array, dtype=array_type)
        try:
            np.broadcast_to(array, self._shape)
        except ValueError:
            raise ValueError(f"BoundedTensorSpec.{name}: expected a shape that broadcasts to {self._shape}, got "
                             f"{array.shape}.") from None
        array.setflags(write=False)
        return array

    @classmethod
    def from_spec(cls, spec: "TensorSpec") -> "BoundedTensorSpec":
        """Return ``spec`` with its bounds; one without bounds gets those of its dtype."""
        if isinstance(spec, BoundedTensorSpec):
            return BoundedTensorSpec(spec.shape, spec.dtype, spec.minimum, spec.maximum)
        limits = torch.finfo(spec.dtype) if spec.is_continuous else torch.iinfo(spec.dtype)
        return BoundedTensorSpec(spec.shape, spec.dtype, limits.min, limits.max)

    def replace(self,
                shape: Union[None, tuple, torch.Size] = None,
                dtype: Optional[torch.dtype] = None,
                minimum: Union[None, float, np.ndarray] = None,
                maximum: Union[None, float, np.ndarray] = None) -> "BoundedTensorSpec":
        """Return a spec like this one with another shape, dtype or bound."""
        return BoundedTensorSpec(self._shape if shape is None else shape, self._dtype if dtype is None else dtype,
                                 self._minimum if minimum is None else minimum,
                                 self._maximum if maximum is None else maximum)

    def is_bounded(self) -> bool:
        """Return whether the spec has bounds."""
        return True

    @property
    def minimum(self) -> np.ndarray:
        """Smallest values, read-only, of a shape that broadcasts to ``shape``."""
        return self._minimum

    @property
    def maximum(self) -> np.ndarray:
        """Largest values, inclusive, read-only, of a shape that broadcasts to ``shape``."""
        return self._maximum

    def sample(self, outer_dims: Optional[Tuple[int, ...]] = None) -> torch.Tensor:
        """Return values drawn uniformly from the bounds, ``[*outer_dims, *shape]``.

        Unbounded floating point sides (infinite, or the largest number of the dtype) are sampled from
        half of the finite range.
        """
        size = _outer(outer_dims) + self._shape
        if self.is_discrete:
            low = torch.as_tensor(np.array(self._minimum, dtype=np.float64))
            count = torch.as_tensor(np.array(self._maximum, dtype=np.float64)) - low + 1
            drawn = torch.floor(torch.rand(size, dtype=torch.float64) * count)
            return (low + torch.minimum(drawn, count - 1)).to(self._dtype)
        low, high = (torch.as_tensor(b, dtype=torch.float64) for b in self._finite_bounds())
        return (low + (high - low) * torch.rand(size, dtype=torch.float64)).to(self._dtype)

    def numpy_sample(self, outer_dims: Optional[Tuple[int, ...]] = None, rng=np.random) -> np.ndarray:
        """Return an array drawn uniformly from the bounds, ``[*outer_dims, *shape]``.

        Args:
            outer_dims: sizes of the batch dimensions.
            rng: ``np.random``, a ``np.random.RandomState`` or a ``np.random.Generator``.
        """
        size = _outer(outer_dims) + self._shape
        array_type = _NUMPY_DTYPES[self._dtype]
        uniform = np.asarray(rng.uniform(size=size))
        if self.is_discrete:
            low = self._minimum.astype(np.float64)
            count = self._maximum.astype(np.float64) - low + 1
            return (low + np.minimum(np.floor(uniform * count), count - 1)).astype(array_type)
        low, high = self._finite_bounds()
        return (low + (high - low) * uniform).astype(array_type)

    def _finite_bounds(self) -> Tuple[np.ndarray, np.ndarray]:
        limit = torch.finfo(self._dtype).max / 2
        return np.clip(self._minimum.astype(np.float64), -limit, limit), np.clip(
            self._maximum.astype(np.float64), -limit, limit)

    def __repr__(self) -> str:
        return (f"BoundedTensorSpec(shape={self._shape}, dtype={self._dtype}, minimum={self._minimum!r}, "
                f"maximum={self._maximum!r})")

    def __eq__(self, other: Any) -> bool:
        return (type(other) is BoundedTensorSpec and self._shape == other._shape and self._dtype == other._dtype
                and np.array_equal(np.broadcast_to(self._minimum, self._shape),
                                   np.broadcast_to(other._minimum, self._shape))
                and np.array_equal(np.broadcast_to(self._maximum, self._shape),
                                   np.broadcast_to(other._maximum, self._shape)))

    __hash__ = None

    def __getstate__(self):
        return {**super().__getstate__(), "minimum": self._minimum, "maximum": self._maximum}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._minimum, self._maximum = state["minimum"], state["maximum"]


NestedTensorSpec = Union[TensorSpec, List["NestedTensorSpec"], Tuple["NestedTensorSpec", ...],
                         Dict[str, "NestedTensorSpec"]]
NestedBoundedTensorSpec = Union[BoundedTensorSpec, List["NestedBoundedTensorSpec"],
                                Tuple["NestedBoundedTensorSpec", ...], Dict[str, "NestedBoundedTensorSpec"]]
