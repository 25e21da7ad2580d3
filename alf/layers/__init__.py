"""Layers: modules without state and without specs, from which networks are built.

All map ``[B, ...]`` to ``[B, ...]``; the parallel ones map ``[B, n, ...]`` to ``[B, n, ...]``.
"""

import torch

from alf.layers._blocks import BottleneckBlock, ResidueBlock, SimpleAttention
from alf.layers._composition import AMPWrapper, Branch, Sequential, run_with_autocast
from alf.layers._conv import Conv2D, ConvTranspose2D, ParallelConv2D, ParallelConvTranspose2D
from alf.layers._dense import FC, ParallelFC
from alf.layers._elementwise import (
    AddN,
    Cast,
    Detach,
    ElementwiseLayerBase,
    GetFields,
    Identity,
    Lambda,
    OneHot,
    Permute,
    RandomCrop,
    ReplicationPad2d,
    Reshape,
    Scale,
    ScaleGradient,
    Sum,
    SummarizeGradient,
    Transpose,
)
from alf.layers._parallel import (
    NaiveParallelLayer,
    copy_layer,
    make_parallel_input,
    make_parallel_net,
    make_parallel_spec,
)
from alf.utils.parameter_reset import reset_parameters


def normalize_along_batch_dims(x: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor,
                               variance_epsilon: float) -> torch.Tensor:
    """Return ``(x - mean) / sqrt(variance + variance_epsilon)``.

    Args:
        x: ``[B, ...]`` with any number of batch dimensions.
        mean: ``[...]``, without batch dimensions.
        variance: ``[...]``, without batch dimensions.
        variance_epsilon: keeps the division away from zero.
    Raises:
        ValueError: if mean and variance are not the trailing dimensions of ``x``.
    """
    if mean.shape != variance.shape or x.shape[x.ndim - mean.ndim:] != mean.shape:
        raise ValueError(f"normalize_along_batch_dims: expected mean and variance shaped like the trailing "
                         f"dimensions "
                         f"of x, got x {tuple(x.shape)}, mean {tuple(mean.shape)}, variance "
                         f"{tuple(variance.shape)}.")
    scale = torch.rsqrt(variance + variance_epsilon)
    return (x - mean) * scale


__all__ = [
    "AMPWrapper", "AddN", "BottleneckBlock", "Branch", "Cast", "Conv2D", "ConvTranspose2D", "Detach",
    "ElementwiseLayerBase", "FC", "GetFields", "Identity", "Lambda", "NaiveParallelLayer", "OneHot",
    "ParallelConv2D", "ParallelConvTranspose2D", "ParallelFC", "Permute", "RandomCrop",
    "ReplicationPad2d", "Reshape", "ResidueBlock", "Scale", "ScaleGradient", "Sequential",
    "SimpleAttention", "Sum", "SummarizeGradient", "Transpose", "copy_layer", "make_parallel_input",
    "make_parallel_net", "make_parallel_spec", "normalize_along_batch_dims", "reset_parameters",
    "run_with_autocast"
]
