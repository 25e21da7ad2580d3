"""Affine maps ``x W^T + b`` of float32 on CPUs, by the faster one of the two matrix libraries that PyTorch brings.

PyTorch hands products of float32 to MKL, which has kernels with AVX-512 for processors of Intel only. On those of other
makers its AVX2 kernels do half the work per second that oneDNN does there, the library PyTorch takes for convolutions
and bfloat16. So on such a processor, and where a product is large enough to pay for the detour, it goes to oneDNN.
``torch.backends.mkldnn.enabled = False`` brings all products back to MKL.
"""

import functools
from typing import Callable, Optional

import torch
import torch.nn.functional as F

from alf.utils.math_ops import identity

# Multiplications and additions from which oneDNN wins, its call of a Python function included: measured with layers
# from 64 x 64 to 3136 x 512 and batches from 8 to 4096.
_MIN_PRODUCTS = 1_300_000

_CPU_FACTS = "/proc/cpuinfo"

_library = torch.library.Library("alf", "DEF")
_library.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "linear", "CPU")
def _onednn_linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor]) -> torch.Tensor:
    # With rows or columns that have gaps between them oneDNN has only its reference kernel, two hundred times as slow.
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.t().contiguous().t() if weight.stride(0) == 1 else weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


@torch.library.impl(_library, "linear", "Meta")
def _meta_linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor]) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


# An operator, and not the function itself: compilers cannot look into oneDNN, and keep the call of an operator.
_linear_op = torch.ops.alf.linear.default


class _Linear(torch.autograd.Function):
    """``x W^T + b`` of matrices, with gradients by oneDNN. Those of gradients are made by plain PyTorch."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _linear_op(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        # Only gradients that are to be differentiated again are made with gradients enabled.
        product = F.linear if torch.is_grad_enabled() else _linear_op
        return (product(grad, weight.t(), None) if needs_x else None,
                product(grad.t().contiguous(), x.t(), None) if needs_weight else None,
                grad.sum(0) if needs_bias else None)


class _ParallelLinear(torch.autograd.Function):
    """The same for ``n`` maps: ``[n, B, in]`` to ``[n, B, out]``, each tensor with its rows in one piece."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _products(x, weight.transpose(1, 2), bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        products = torch.bmm if torch.is_grad_enabled() else _products
        return (products(grad, weight) if needs_x else None,
                products(grad.transpose(1, 2).contiguous(), x) if needs_weight else None,
                grad.sum(1) if needs_bias else None)


def _products(left: torch.Tensor, right: torch.Tensor, bias: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Return the products of ``[n, P, K]`` and ``[n, K, Q]``, plus the bias ``[n, Q]``."""
    num_products = left.numel() * right.shape[2]
    if num_products >= _MIN_PRODUCTS:
        biases = [None] * left.shape[0] if bias is None else bias.unbind()
        each = zip(left.unbind(), right.transpose(1, 2).unbind(), biases, strict=True)
        return torch.stack([_linear_op(*one) for one in each])
    if bias is not None:
        return torch.baddbmm(bias.unsqueeze(1), left, right)
    # For matrix libraries a single column is the worst case.
    return left * right if left.shape[2] == 1 else torch.bmm(left, right)


@functools.cache
def _is_processor_for_onednn() -> bool:
    """Return whether oneDNN has faster kernels for this processor than MKL has."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        with open(_CPU_FACTS, encoding="utf-8") as file:
            vendors = [line for line in file if line.startswith("vendor_id")]
    except OSError:
        return False
    return bool(vendors) and "GenuineIntel" not in vendors[0]


def matrix_library() -> str:
    """Return the name of the library that large products of float32 on the CPU go to."""
    return "oneDNN" if _is_processor_for_onednn() and torch.backends.mkldnn.enabled else "PyTorch's default"


def _suits_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Return whether oneDNN is faster for these, if they are large enough."""
    return (x.is_cpu and x.dtype == weight.dtype == torch.float32 and _is_processor_for_onednn()
            and torch.backends.mkldnn.enabled and not torch.is_autocast_enabled("cpu")
            and not torch._C._are_functorch_transforms_active())


def linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Return ``x W^T + b`` ``[..., out]``, what ``torch.nn.functional.linear`` returns, up to rounding.

    Args:
        x: ``[..., in]``.
        weight: ``[out, in]``.
        bias: ``[out]``.
    """
    if x.numel() * weight.shape[0] < _MIN_PRODUCTS or not _suits_onednn(x, weight):
        return F.linear(x, weight, bias)
    if x.ndim == 2:
        return _Linear.apply(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], -1)


def _autocast_parallel_linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor],
                              activation: Callable) -> torch.Tensor:
    """Return what :func:`parallel_linear` does; products with 16 bits are fastest where rows are in one piece."""
    n, num_outputs, _ = weight.shape
    if x.ndim == 2:
        y = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return activation(y).view(-1, n, num_outputs)
    x, weight = x.transpose(0, 1), weight.transpose(1, 2)
    y = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight)
    return activation(y).transpose(0, 1)


def parallel_linear(x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor] = None,
                    activation: Callable = identity) -> torch.Tensor:
    """Return ``activation(x W^T + b)`` ``[B, n, out]`` of ``n`` affine maps; in memory the batch may come in any place.

    Args:
        x: ``[B, n, in]``, or ``[B, in]`` as input of all maps.
        weight: ``[n, out, in]``.
        bias: ``[n, out]``.
        activation: function of each element by itself; it may work in place. It comes before the result is permuted,
            because autograd pays dearly for in-place work on a view.
    """
    n, num_outputs, _ = weight.shape
    if x.ndim == 3 and x.stride(1) == 0:
        x = x.select(1, 0)
    if _suits_onednn(x, weight):
        is_large = x.numel() * num_outputs >= _MIN_PRODUCTS
        if x.ndim == 2 and is_large:
            y = _Linear.apply(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
            return activation(y).view(-1, n, num_outputs)
        # What comes from a large layer has its rows in one piece, and a small one leaves it so.
        if x.ndim == 3 and (is_large or x.stride(2) == 1):
            return activation(_ParallelLinear.apply(x.transpose(0, 1).contiguous(), weight, bias)).transpose(0, 1)
    elif torch.is_autocast_enabled(x.device.type):
        return _autocast_parallel_linear(x, weight, bias, activation)
    x = x.t().expand(n, *x.shape[::-1]) if x.ndim == 2 else x.permute(1, 2, 0)
    # With the batch last, the gradient of the weight is laid out as the weight is: autograd need not copy it.
    y = torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)
    return activation(y).permute(2, 0, 1)
