"""Layers without parameters: elementwise ones, rearranging dimensions, picking fields, touching gradients."""

from typing import Any, Callable, Iterable, Tuple, Union

import torch
import torch.nn as nn
import torch.nn.functional as F

import alf.nest as nest
from alf.config_util import configurable
from alf.summary import summary_ops


class ElementwiseLayerBase(nn.Module):
    """Base of layers that do the same to every element, and so serve any number of parallel networks."""

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer itself: a dimension for parallel networks makes no difference to it."""
        return self


class Identity(ElementwiseLayerBase):
    """Return the input."""

    def forward(self, x: Any) -> Any:
        """Return ``x``, any nest."""
        return x


class Cast(ElementwiseLayerBase):
    """Convert to a dtype.

    Args:
        dtype: dtype of the output.
    """

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self._dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` as the dtype; the same tensor if it has it already."""
        return x.to(self._dtype)


def _after_batch(dim: int) -> int:
    """Return the dimension of a tensor with a batch dimension for one counted without it."""
    return dim + 1 if dim >= 0 else dim


class Transpose(nn.Module):
    """Swap two dimensions.

    Args:
        dim0: one of them, the batch dimension not counted; negative ones count from the end.
        dim1: the other one.
    """

    def __init__(self, dim0: int = 0, dim1: int = 1):
        super().__init__()
        self._dim0 = dim0
        self._dim1 = dim1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` ``[B, ...]`` with the dimensions swapped."""
        return x.transpose(_after_batch(self._dim0), _after_batch(self._dim1))

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer that does this to ``[B, n, ...]``."""
        return Transpose(_after_batch(self._dim0), _after_batch(self._dim1))


class Permute(nn.Module):
    """Reorder all dimensions but that of the batch.

    Args:
        dims: the wanted order, the batch dimension not counted: ``Permute(2, 0, 1)`` makes ``[B, C, H, W]``
            from ``[B, H, W, C]``.
    """

    def __init__(self, *dims: int):
        super().__init__()
        if sorted(d % len(dims) for d in dims) != list(range(len(dims))):
            raise ValueError(f"Permute: expected an order of the dimensions 0..{len(dims) - 1}, got {dims}.")
        self._dims = tuple(d % len(dims) for d in dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` ``[B, ...]`` with its dimensions reordered."""
        return x.permute(0, *(d + 1 for d in self._dims))

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer that does this to ``[B, n, ...]``."""
        return Permute(0, *(d + 1 for d in self._dims))


@configurable
class OneHot(nn.Module):
    """Turn integers into one-hot vectors.

    Args:
        num_classes: length of the vectors; inputs lie in ``0..num_classes - 1``.
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self._num_classes = num_classes

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return float32 ``[..., num_classes]`` for integers ``[...]``."""
        return F.one_hot(input.long(), self._num_classes).float()

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer itself: it serves inputs of any shape."""
        return self


@configurable
class Reshape(nn.Module):
    """Reshape all dimensions but that of the batch.

    Args:
        shape: the new sizes, at most one of them -1: ``Reshape(-1)`` flattens. One tuple will also do.
    """

    def __init__(self, *shape: Union[int, Tuple[int, ...]]):
        super().__init__()
        if len(shape) == 1 and not isinstance(shape[0], int):
            shape = shape[0]
        self._shape = tuple(shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` ``[B, ...]`` as ``[B, *shape]``."""
        return x.reshape(x.shape[0], *self._shape)

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer that does this to ``[B, n, ...]``."""
        return Reshape(n, *self._shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self._shape))


class Lambda(nn.Module):
    """Make a layer from a function.

    Args:
        func: takes the input and returns the output.
    """

    def __init__(self, func: Callable):
        super().__init__()
        self._func = func

    def forward(self, x: Any) -> Any:
        """Return ``func(x)``."""
        return self._func(x)

    def extra_repr(self) -> str:
        return getattr(self._func, "__name__", repr(self._func))


class GetFields(ElementwiseLayerBase):
    """Pick fields from a nest.

    Args:
        field_nest: nest of dotted paths, or one path: ``GetFields(("observation.image", "reward"))``.
        fields: for a dictionary, one path per key: ``GetFields(image="observation.image")``.
    Raises:
        ValueError: unless exactly one of the two ways is used.
    """

    def __init__(self, field_nest: Any = None, **fields: str):
        super().__init__()
        if (field_nest is None) == (not fields):
            raise ValueError(f"GetFields: expected either field_nest or keyword fields, got "
                             f"field_nest={field_nest!r} and fields={fields!r}.")
        self._field_nest = fields if field_nest is None else field_nest

    def forward(self, input: Any) -> Any:
        """Return a nest like ``field_nest`` holding the fields of ``input``."""
        return nest.map_structure(lambda path: nest.get_field(input, path), self._field_nest)


class Sum(nn.Module):
    """Sum over dimensions.

    Args:
        dim: dimension or tuple of dimensions, the batch dimension not counted; negative ones count from the
            end.
    """

    def __init__(self, dim: Union[int, Tuple[int, ...]]):
        super().__init__()
        dims = (dim, ) if isinstance(dim, int) else tuple(dim)
        self._dim = tuple(_after_batch(d) for d in dims)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input`` ``[B, ...]`` summed over ``dim``."""
        return input.sum(dim=self._dim)

    def make_parallel(self, n: int) -> nn.Module:
        """Return the layer that does this to ``[B, n, ...]``."""
        return Sum(self._dim)


class AddN(ElementwiseLayerBase):
    """Add the tensors of a list."""

    def forward(self, input: Iterable[torch.Tensor]) -> torch.Tensor:
        """Return the elementwise sum of the tensors in ``input``."""
        return sum(input)


class Detach(ElementwiseLayerBase):
    """Stop gradients."""

    def forward(self, input: Any) -> Any:
        """Return the nest ``input`` cut off from the graph."""
        return nest.map_structure(torch.Tensor.detach, input)


class Scale(ElementwiseLayerBase):
    """Multiply by a constant.

    Args:
        scale: the factor.
    """

    def __init__(self, scale: float):
        super().__init__()
        self._scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``scale * input``."""
        return self._scale * input


class _ScaleGradientFunction(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.scale * grad, None


class ScaleGradient(ElementwiseLayerBase):
    """Return the input and scale the gradient that comes back.

    Args:
        scale: factor on the gradient.
    """

    def __init__(self, scale: float):
        super().__init__()
        self._scale = scale

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input``."""
        return _ScaleGradientFunction.apply(input, self._scale)


@configurable
class SummarizeGradient(ElementwiseLayerBase):
    """Return the input and record the norm of the gradient that comes back, when summaries are recorded.

    Args:
        name: the summary is called ``SummarizeGradient/<name>``.
    """

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``, ``[B, ...]``; the recorded value is the norm per sample, averaged over the batch."""
        if not x.requires_grad or not summary_ops.should_record_summaries():
            return x
        # A view, so that the hook sees the gradient through this layer only, not that of other users of x.
        y = x.view_as(x)
        y.register_hook(lambda grad: summary_ops.scalar(f"SummarizeGradient/{self._name}",
                                                        grad.flatten(1).norm(dim=1).mean()))
        return y


class ReplicationPad2d(nn.Module):
    """Pad images by repeating their border, for any dtype (torch's layer of this name refuses uint8).

    Args:
        padding: width of the border, or (left, right, top, bottom).
    """

    def __init__(self, padding: Union[int, Tuple[int, int, int, int]]):
        super().__init__()
        self._padding = (padding, ) * 4 if isinstance(padding, int) else tuple(padding)
        if len(self._padding) != 4:
            raise ValueError(f"ReplicationPad2d.padding: expected an int or (left, right, top, bottom), got "
                             f"{padding}.")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``[..., top + H + bottom, left + W + right]`` for ``[..., H, W]``."""
        left, right, top, bottom = self._padding
        height, width = input.shape[-2:]
        rows = torch.arange(-top, height + bottom, device=input.device).clamp(0, height - 1)
        columns = torch.arange(-left, width + right, device=input.device).clamp(0, width - 1)
        return input[..., rows[:, None], columns]


class RandomCrop(nn.Module):
    """Crop every image at a random place of its own.

    Args:
        size: (height, width) of the crop, or an int for a square.
        padding: zeros added on each side first: int, or (vertical, horizontal).
    """

    def __init__(self, size: Union[int, Tuple[int, ...]], padding: Union[int, Tuple[int, ...]] = 0):
        super().__init__()
        self._size = (size, size) if isinstance(size, int) else tuple(size)
        self._padding = (padding, padding) if isinstance(padding, int) else tuple(padding)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return crops ``[B, C, *size]`` of images ``[B, C, H, W]``.

        Raises:
            ValueError: if the padded images are smaller than the crop.
        """
        vertical, horizontal = self._padding
        image = F.pad(input, (horizontal, horizontal, vertical, vertical)) if any(self._padding) else input
        batch_size, _, height, width = image.shape
        if height < self._size[0] or width < self._size[1]:
            raise ValueError(f"RandomCrop: cannot crop {self._size} from images of {(height, width)} "
                             f"(padding included). Enlarge padding or reduce size.")
        device = image.device
        top = torch.randint(height - self._size[0] + 1, (batch_size, 1, 1), device=device)
        left = torch.randint(width - self._size[1] + 1, (batch_size, 1, 1), device=device)
        rows = top + torch.arange(self._size[0], device=device).view(1, -1, 1)
        columns = left + torch.arange(self._size[1], device=device).view(1, 1, -1)
        samples = torch.arange(batch_size, device=device).view(-1, 1, 1)
        return image.permute(0, 2, 3, 1)[samples, rows, columns].permute(0, 3, 1, 2)
