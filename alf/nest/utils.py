"""Nests of tensors to tensors: combiners for networks, stacking, devices, gradients."""

import abc
from typing import Callable, Dict, List, Optional

import torch
from torch import nn

from alf._config._configurable import configurable
from alf.nest.nest import (
    Nest,
    NestedTensor,
    assert_same_structure,
    flatten,
    get_field,
    is_nested,
    map_structure,
    pack_sequence_as,
    prune_nest_like,
)
from alf.tensor_specs import TensorSpec

__all__ = [
    "NestCombiner", "NestConcat", "NestMultiply", "NestOuterProduct", "NestSum", "convert_device", "get_nested_field",
    "get_outer_rank", "grad", "make_nested_module", "stack_nests", "zeros_like"
]

_SMALL_BYTES = 1 << 16  # of a tensor whose transfer takes no longer than to begin it, and which CUDA copies at once


class NestCombiner(abc.ABC, nn.Module):
    """Turns a nest of tensors into one tensor; networks with nested inputs take one as ``preprocessing_combiner``.

    Called with a nest of specs, it returns the spec of its output.

    Args:
        name: name of the combiner.
        batch_dims: number of batch dimensions of the tensors.
    """

    def __init__(self, name: str, batch_dims: int = 1):
        super().__init__()
        self._name = name
        self._batch_dims = batch_dims

    @abc.abstractmethod
    def _combine_flat(self, tensors: List[torch.Tensor]) -> torch.Tensor:
        """Return the combination of ``tensors``, each ``[B, ...]``. To be overridden."""

    def forward(self, nested: NestedTensor):
        """Return the combined tensor, or, for a nest of specs, its spec."""
        leaves = flatten(nested)
        if not leaves:
            raise ValueError(f"{self._name}: expected a nest with at least one leaf, got {nested!r}.")
        if isinstance(leaves[0], torch.Tensor):
            return self._combine(nested)
        outer = (1, ) * self._batch_dims
        combined = self._combine(map_structure(lambda spec: spec.zeros(outer), nested))
        return TensorSpec.from_tensor(combined, from_dim=self._batch_dims)

    def _combine(self, nested: NestedTensor) -> torch.Tensor:
        return self._combine_flat(flatten(nested))

    def make_parallel(self, n: int) -> "NestCombiner":
        """Return the combiner for tensors ``[B, n, ...]``. To be overridden."""
        raise NotImplementedError(f"{type(self).__name__} has no parallel form.")


def _activated(combined: torch.Tensor, tensors: List[torch.Tensor], activation: Optional[Callable]) -> torch.Tensor:
    """Return the activation of what was combined; one that works in place does not reach what it is made of."""
    if activation is None:
        return combined
    return activation(combined.clone() if combined is tensors[0] else combined)


@configurable
class NestConcat(NestCombiner):
    """Concatenates the tensors of a nest.

    Args:
        nest_mask: nest of bools like the input (parts may be left out): only tensors under True are taken.
        dim: dimension along which to concatenate; a non-negative one does not count batch dimensions.
        name: name of the combiner.
    """

    def __init__(self, nest_mask: Optional[Nest] = None, dim: int = -1, name: str = "NestConcat"):
        super().__init__(name)
        self._nest_mask = nest_mask
        self._dim = dim

    def _combine(self, nested):
        if self._nest_mask is None:
            return self._combine_flat(flatten(nested))
        kept = prune_nest_like(nested, self._nest_mask)
        assert_same_structure(kept, self._nest_mask)
        tensors = [t for t, taken in zip(flatten(kept), flatten(self._nest_mask)) if taken]
        if not tensors:
            raise ValueError(f"{self._name}.nest_mask: expected at least one True, got {self._nest_mask}.")
        return self._combine_flat(tensors)

    def _combine_flat(self, tensors):
        if len(tensors) == 1:
            return tensors[0]
        dim = self._dim if self._dim < 0 else self._dim + self._batch_dims
        if self._batch_dims == 1 or any(tensor.stride(1) for tensor in tensors):
            return torch.cat(tensors, dim=dim)
        # All networks have the same input: it is put together once, and they see that they share it.
        once = torch.cat([tensor.select(1, 0) for tensor in tensors], dim=dim if dim < 0 else dim - 1)
        return once.unsqueeze(1).expand(-1, tensors[0].shape[1], *once.shape[1:])

    def make_parallel(self, n: int) -> "NestConcat":
        """Return the combiner for tensors ``[B, n, ...]``."""
        parallel = NestConcat(self._nest_mask, self._dim, "parallel_" + self._name)
        parallel._batch_dims = self._batch_dims + 1
        return parallel


@configurable
class NestSum(NestCombiner):
    """Adds the tensors of a nest.

    Args:
        average: divide by the number of tensors.
        activation: applied to the sum.
        name: name of the combiner.
    """

    def __init__(self, average: bool = False, activation: Optional[Callable] = None, name: str = "NestSum"):
        super().__init__(name)
        self._average = average
        self._activation = activation

    def _combine_flat(self, tensors):
        total = sum(tensors[1:], tensors[0])
        if self._average:
            total = total / len(tensors)
        return _activated(total, tensors, self._activation)

    def make_parallel(self, n: int) -> "NestSum":
        """Return the combiner for tensors ``[B, n, ...]``."""
        parallel = NestSum(self._average, self._activation, "parallel_" + self._name)
        parallel._batch_dims = self._batch_dims + 1
        return parallel


@configurable
class NestMultiply(NestCombiner):
    """Multiplies the tensors of a nest.

    Args:
        activation: applied to the product.
        name: name of the combiner.
    """

    def __init__(self, activation: Optional[Callable] = None, name: str = "NestMultiply"):
        super().__init__(name)
        self._activation = activation

    def _combine_flat(self, tensors):
        product = tensors[0]
        for tensor in tensors[1:]:
            product = product * tensor
        return _activated(product, tensors, self._activation)

    def make_parallel(self, n: int) -> "NestMultiply":
        """Return the combiner for tensors ``[B, n, ...]``."""
        parallel = NestMultiply(self._activation, "parallel_" + self._name)
        parallel._batch_dims = self._batch_dims + 1
        return parallel


@configurable
class NestOuterProduct(NestCombiner):
    """Multiplies vectors ``[B, D_i]`` to their flattened outer product ``[B, D_1 * D_2 * ...]``.

    Args:
        activation: applied to the product.
        batch_dims: number of batch dimensions.
        padding: append a one to each vector, so that the product keeps the vectors themselves.
        name: name of the combiner.
    """

    def __init__(self,
                 activation: Optional[Callable] = None,
                 batch_dims: int = 1,
                 padding: bool = False,
                 name: str = "NestOuterProduct"):
        super().__init__(name, batch_dims)
        self._activation = activation
        self._padding = padding

    def _combine_flat(self, tensors):
        if self._padding:
            tensors = [torch.cat([t, torch.ones_like(t[..., :1])], dim=-1) for t in tensors]
        product = tensors[0]
        for tensor in tensors[1:]:
            product = (product.unsqueeze(-1) * tensor.unsqueeze(-2)).flatten(-2)
        return _activated(product, tensors, self._activation)

    def make_parallel(self, n: int) -> "NestOuterProduct":
        """Return the combiner for tensors ``[B, n, D]``."""
        return NestOuterProduct(self._activation, self._batch_dims + 1, self._padding, "parallel_" + self._name)


def stack_nests(nests: List[NestedTensor], dim: int = 0) -> NestedTensor:
    """Return the nest of the tensors of ``nests`` stacked along a new dimension ``dim``."""
    for other in nests[1:]:
        assert_same_structure(nests[0], other)
    columns = zip(*[flatten(nested) for nested in nests])
    return pack_sequence_as(nests[0], [torch.stack(column, dim=dim) for column in columns])


def get_outer_rank(tensors: NestedTensor, specs: Nest) -> int:
    """Return the number of batch dimensions that all ``tensors`` have beyond ``specs``.

    Raises:
        ValueError: if they differ, or a tensor does not end with the shape of its spec.
    """
    assert_same_structure(tensors, specs)
    ranks = set()
    for tensor, spec in zip(flatten(tensors), flatten(specs)):
        rank = tensor.ndim - spec.ndim
        if rank < 0 or tuple(tensor.shape[rank:]) != spec.shape:
            raise ValueError(f"get_outer_rank: expected a shape that ends with {spec.shape}, got "
                             f"{tuple(tensor.shape)}.")
        ranks.add(rank)
    if len(ranks) != 1:
        raise ValueError(f"get_outer_rank: expected one number of batch dimensions, got {sorted(ranks)}.")
    return ranks.pop()


def convert_device(nests: NestedTensor, device: Optional[str] = None) -> NestedTensor:
    """Return the tensors on ``device``, by default the current default device; tensors already there are not copied.

    Small ones are moved together, in one transfer for each device that they are on. What a GPU computes is not waited
    for where tensors go there; where they come from there, it is.
    """
    device = torch.get_default_device() if device is None else torch.device(device)
    leaves = flatten(nests)
    small: Dict[torch.device, List[int]] = {}
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, torch.Tensor) or _is_on(leaf, device):
            continue
        if leaf.nbytes > _SMALL_BYTES or leaf.requires_grad:
            leaves[index] = _moved(leaf, device)
        else:
            small.setdefault(leaf.device, []).append(index)
    for indices in small.values():
        for index, moved in zip(indices, _moved_together([leaves[i] for i in indices], device), strict=True):
            leaves[index] = moved
    return pack_sequence_as(nests, leaves)


def _is_on(tensor: torch.Tensor, device: torch.device) -> bool:
    return tensor.device == device or (device.index is None and tensor.device.type == device.type)


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type != "cuda" or tensor.requires_grad:
        return tensor.to(device)
    if tensor.is_cpu and tensor.nbytes > _SMALL_BYTES:
        tensor = tensor.pin_memory()  # from other memory CUDA copies when all is done that it was given before
    return tensor.to(device, non_blocking=True)


def _moved_together(tensors: List[torch.Tensor], device: torch.device) -> List[torch.Tensor]:
    """Return tensors of one device on another one, after one transfer."""
    if len(tensors) == 1:
        return [_moved(tensors[0], device)]
    # Larger numbers first, so that each tensor begins where its dtype may.
    order = sorted(range(len(tensors)), key=lambda i: tensors[i].itemsize, reverse=True)
    packed = torch.cat([tensors[i].contiguous().view(-1).view(torch.uint8) for i in order])
    parts = _moved(packed, device).split([tensors[i].nbytes for i in order])
    moved = list(tensors)
    for i, part in zip(order, parts, strict=True):
        # By `data`, for what is done to one in place is not done to the others.
        moved[i] = part.view(tensors[i].dtype).view(tensors[i].shape).data
    return moved


def grad(nested: NestedTensor, objective: torch.Tensor, retain_graph: bool = False) -> NestedTensor:
    """Return the nest of gradients of the scalar ``objective`` with respect to the tensors of ``nested``."""
    return pack_sequence_as(nested, list(torch.autograd.grad(objective, flatten(nested), retain_graph=retain_graph)))


def zeros_like(nested: NestedTensor) -> NestedTensor:
    """Return zeros with the shapes and dtypes of the tensors of ``nested``."""
    return map_structure(torch.zeros_like, nested)


def make_nested_module(nested: Nest, ignore_non_module_element: bool = True):
    """Return the modules of ``nested`` in torch's containers, so that an owner finds their parameters.

    Args:
        nested: nest of modules and perhaps other things.
        ignore_non_module_element: leave the others out instead of raising.
    Returns:
        A module (``nn.ModuleList``/``nn.ModuleDict`` for containers), or None where there is nothing to keep.
    Raises:
        ValueError: for another element if ``ignore_non_module_element`` is False.
    """
    if isinstance(nested, nn.Module):
        return nested
    if not is_nested(nested):
        if ignore_non_module_element:
            return None
        raise ValueError(f"make_nested_module: expected modules, got {type(nested).__name__}.")
    if isinstance(nested, dict) or hasattr(nested, "_fields"):
        pairs = nested.items() if isinstance(nested, dict) else nested._asdict().items()
        made = {name: make_nested_module(child, ignore_non_module_element) for name, child in pairs}
        return nn.ModuleDict({name: module for name, module in made.items() if module is not None})
    made = [make_nested_module(child, ignore_non_module_element) for child in nested]
    return nn.ModuleList([module for module in made if module is not None])


def get_nested_field(nested: Nest, nest_fields: Nest) -> Nest:
    """Return a nest like ``nest_fields`` with each dotted path replaced by the part of ``nested`` it names."""
    return map_structure(lambda path: get_field(nested, path), nest_fields)
