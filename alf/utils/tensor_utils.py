"""Shapes, sums along time, norms and gradients of tensors."""

from typing import Any, Iterable, List, Optional, Tuple, Union

import torch
from torch import Tensor

import alf.nest as nest


class BatchSquash:
    """Folds several batch dimensions into one and back.

    Args:
        batch_dims: number of leading dimensions to fold.
    """

    def __init__(self, batch_dims: int):
        if batch_dims < 1:
            raise ValueError(f"BatchSquash.batch_dims: expected at least 1, got {batch_dims}.")
        self._batch_dims = batch_dims
        self._outer_shape: Optional[torch.Size] = None

    def flatten(self, tensor: Tensor) -> Tensor:
        """Return `[b_1, ..., b_k, ...]` as `[b_1 * ... * b_k, ...]` and remember the sizes."""
        if tensor.ndim < self._batch_dims:
            raise ValueError(
                f"BatchSquash.flatten: expected at least {self._batch_dims} dimensions, got shape "
                f"{tuple(tensor.shape)}."
            )
        self._outer_shape = tensor.shape[: self._batch_dims]
        return tensor if self._batch_dims == 1 else tensor.flatten(0, self._batch_dims - 1)

    def unflatten(self, tensor: Tensor) -> Tensor:
        """Return `[b_1 * ... * b_k, ...]` as `[b_1, ..., b_k, ...]` with the sizes seen by `flatten`."""
        if self._outer_shape is None:
            raise ValueError("BatchSquash.unflatten: called before flatten.")
        return tensor if self._batch_dims == 1 else tensor.reshape(*self._outer_shape, *tensor.shape[1:])


def tensor_extend_new_dim(x: Tensor, dim: int, n: int) -> Tensor:
    """Return `x` repeated `n` times along a new dimension `dim`, without copying."""
    sizes = [-1] * (x.ndim + 1)
    sizes[dim] = n
    return x.unsqueeze(dim).expand(sizes)


def reverse_cumsum(x: Tensor, dim: int) -> Tensor:
    """Return the sums of `x` from each position to the end of `dim`."""
    return x.flip(dim).cumsum(dim).flip(dim)


def reverse_cumprod(x: Tensor, dim: int) -> Tensor:
    """Return the products of `x` from each position to the end of `dim`."""
    return x.flip(dim).cumprod(dim).flip(dim)


def tensor_extend(x: Tensor, y: Tensor) -> Tensor:
    """Return `x`, `[T, ...]`, with `y`, `[...]`, appended as its last row: `[T + 1, ...]`."""
    return torch.cat([x, y.unsqueeze(0)])


def tensor_extend_zero(x: Tensor, dim: int = 0) -> Tensor:
    """Return `x` with a slice of zeros appended along `dim`."""
    return torch.cat([x, torch.zeros_like(x.narrow(dim, 0, 1))], dim)


def tensor_prepend(x: Tensor, y: Tensor) -> Tensor:
    """Return `x`, `[T, ...]`, with `y`, `[...]`, put before it as the first row: `[T + 1, ...]`."""
    return torch.cat([y.unsqueeze(0), x])


def tensor_prepend_zero(x: Tensor) -> Tensor:
    """Return `x`, `[T, ...]`, with a row of zeros put before it: `[T + 1, ...]`."""
    return torch.cat([torch.zeros_like(x[:1]), x])


def explained_variance(
    ypred: Tensor, y: Tensor, valid_mask: Optional[Tensor] = None, dim: Optional[int] = None
) -> Tensor:
    """Return the fraction of the variance of `y` that `ypred` explains: `1 - Var(y - ypred) / Var(y)`.

    1: perfect up to a constant; 0: as good as a constant; below 0: worse. 0 where `y` does not vary.

    Args:
        ypred: predictions.
        y: truth, shape as `ypred`.
        valid_mask: which elements count; broadcasts to `y`. None: all.
        dim: dimension along which variances are taken. None: all.
    """
    if ypred.shape != y.shape:
        raise ValueError(
            f"explained_variance: expected equal shapes, got ypred {tuple(ypred.shape)} and y {tuple(y.shape)}."
        )
    weight = torch.ones_like(y) if valid_mask is None else valid_mask.to(y.dtype).expand_as(y)
    dims = list(range(y.ndim)) if dim is None else dim
    count = weight.sum(dims, keepdim=True).clamp(min=1)

    def _variance(x):
        centred = x - (x * weight).sum(dims, keepdim=True) / count
        return (centred * centred * weight).sum(dims)

    total, residual = _variance(y), _variance(y - ypred)
    varies = total > 0
    return torch.where(varies, 1 - residual / torch.where(varies, total, 1.0), 0.0)


def to_tensor(data: Any, dtype: Optional[torch.dtype] = None) -> Tensor:
    """Return `data`, a number, sequence, array or tensor, as a tensor on the default device.

    Args:
        data: what to convert; a tensor of the right dtype and device is returned as it is.
        dtype: None means the dtype of `data`, float32 for Python floats.
    """
    return torch.as_tensor(data, dtype=dtype, device=torch.get_default_device())


def _as_list(tensors: Any) -> List[Tensor]:
    return [t for t in nest.flatten(list(tensors) if not nest.is_nested(tensors) else tensors) if t is not None]


def global_norm(tensors: Union[Any, Iterable[Tensor]]) -> Tensor:
    """Return the Euclidean norm of all elements of a nest or iterable of tensors together; None is skipped."""
    tensors = _as_list([tensors] if isinstance(tensors, Tensor) else tensors)
    if not tensors:
        raise ValueError("global_norm: expected at least one tensor, got none.")
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def clip_by_global_norm(
    tensors: Any, clip_norm: float, use_norm: Optional[Tensor] = None, in_place: bool = False
) -> Tuple[Any, Tensor]:
    """Return tensors scaled so that their global norm is at most `clip_norm`, and the norm before.

    Args:
        tensors: a nest of tensors.
        clip_norm: the largest norm, > 0.
        use_norm: the global norm, if already known.
        in_place: overwrite the tensors (they must allow it) and return them.
    """
    if not clip_norm > 0:
        raise ValueError(f"clip_by_global_norm.clip_norm: expected > 0, got {clip_norm}.")
    flat = nest.flatten(tensors)
    present = [t for t in flat if t is not None]
    norm = global_norm(present) if use_norm is None else use_norm
    # Written so that a norm of 0 divides by clip_norm, and so that nothing waits for the device.
    scale = clip_norm / torch.clamp(torch.as_tensor(norm), min=clip_norm)
    if in_place:
        with torch.no_grad():
            torch._foreach_mul_(present, scale)
        return tensors, norm
    return nest.pack_sequence_as(tensors, [None if t is None else t * scale for t in flat]), norm


def clip_by_norms(tensors: Any, clip_norm: float, in_place: bool = False) -> Any:
    """Return tensors each scaled so that its own norm is at most `clip_norm`; arguments as `clip_by_global_norm`."""
    if not clip_norm > 0:
        raise ValueError(f"clip_by_norms.clip_norm: expected > 0, got {clip_norm}.")
    flat = nest.flatten(tensors)
    present = [t for t in flat if t is not None]
    scales = [clip_norm / n.clamp(min=clip_norm) for n in torch._foreach_norm(present)]
    if in_place:
        with torch.no_grad():
            torch._foreach_mul_(present, scales)
        return tensors
    clipped = iter(torch._foreach_mul(present, scales))
    return nest.pack_sequence_as(tensors, [None if t is None else next(clipped) for t in flat])


def cov(data: Tensor, rowvar: bool = False) -> Tensor:
    """Return the covariance matrix of `data` (normalised by the number of observations minus one).

    Args:
        data: one or two dimensions.
        rowvar: True: a row is a variable and a column an observation; False: the other way round.
    """
    if data.ndim > 2:
        raise ValueError(f"cov: expected at most 2 dimensions, got shape {tuple(data.shape)}.")
    if data.ndim < 2:
        data = data.reshape(1, -1)
    elif not rowvar:
        data = data.t()
    return torch.cov(data).reshape(data.shape[0], data.shape[0])


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * ctx.scale, None


def scale_gradient(tensor: Tensor, scale: float, clone_input: bool = True) -> Tensor:
    """Return `tensor`, with the gradient that flows back through the result multiplied by `scale`.

    Args:
        tensor: any shape.
        scale: the factor.
        clone_input: True: only what is computed from the result is affected. False: `tensor` itself is
            marked, so that everything computed from it is affected.
    """
    if not tensor.requires_grad:
        return tensor
    if clone_input:
        return _ScaleGradient.apply(tensor, scale)
    tensor.register_hook(lambda grad: grad * scale)
    return tensor


def append_coordinate(im: Tensor) -> Tensor:
    """Return images with two channels appended: x and y coordinates from -1 to 1.

    Args:
        im: images `[B, C, H, W]`.

    Returns:
        `[B, C + 2, H, W]`; channel C is x (it grows along W), channel C + 1 is y.
    """
    if im.ndim != 4:
        raise ValueError(f"append_coordinate: expected images [B, C, H, W], got shape {tuple(im.shape)}.")
    b, _, h, w = im.shape
    x = torch.linspace(-1, 1, w, dtype=im.dtype, device=im.device).view(1, 1, 1, w).expand(b, 1, h, w)
    y = torch.linspace(-1, 1, h, dtype=im.dtype, device=im.device).view(1, 1, h, 1).expand(b, 1, h, w)
    return torch.cat([im, x, y], dim=1)


def spatial_broadcast(z: Tensor, im_shape: Tuple[int, int]) -> Tensor:
    """Return vectors repeated at every pixel, with coordinates appended (https://arxiv.org/abs/1901.07017).

    Args:
        z: vectors `[B, D]`.
        im_shape: `(H, W)`.

    Returns:
        `[B, D + 2, H, W]`.
    """
    if z.ndim != 2:
        raise ValueError(f"spatial_broadcast: expected vectors [B, D], got shape {tuple(z.shape)}.")
    return append_coordinate(z[:, :, None, None].expand(*z.shape, *im_shape))
