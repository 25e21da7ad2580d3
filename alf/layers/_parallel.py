"""Helpers over layers: many networks of one structure side by side."""

import copy
from typing import Any, Callable, Union

import torch
import torch.nn as nn

import alf.nest as nest
from alf.utils.parameter_reset import reset_parameters


def copy_layer(module: Any) -> Any:
    """Return a deep copy of a module, with the ``opt_args`` of its parameters, which torch's copy drops."""
    copied = copy.deepcopy(module)
    if isinstance(module, nn.Module):
        for old, new in zip(module.parameters(), copied.parameters(), strict=True):
            if hasattr(old, "opt_args"):
                new.opt_args = old.opt_args
    return copied


class NaiveParallelLayer(nn.Module):
    """``n`` copies of a layer, called one after the other.

    Args:
        module: a layer, or a function, which is the same in all copies.
        n: number of copies.
    """

    def __init__(self, module: Union[nn.Module, Callable], n: int):
        super().__init__()
        if isinstance(module, nn.Module):
            self._networks = nn.ModuleList([copy_layer(module) for _ in range(n)])
            self.reset_parameters()
        else:
            self._networks = [module] * n
        self._n = n

    def forward(self, inputs: Any) -> Any:
        """Return the outputs of the copies, a nest of ``[B, n, ...]``.

        Args:
            inputs: nest of ``[B, n, ...]``; copy ``i`` gets ``[:, i]``.
        """
        outputs = [
            module(nest.map_structure(lambda x, i=i: x[:, i], inputs))
            for i, module in enumerate(self._networks)
        ]
        return nest.map_structure(lambda *ys: torch.stack(ys, dim=1), *outputs)

    def reset_parameters(self) -> None:
        """Draw new parameters for all copies."""
        for module in self._networks:
            reset_parameters(module)


def make_parallel_net(module: Union[nn.Module, Callable], n: int) -> nn.Module:
    """Return ``n`` modules like ``module`` in one, which maps ``[B, n, ...]`` to ``[B, n, ...]``.

    The method ``make_parallel`` of the module makes it; without one it is a :class:`NaiveParallelLayer`.
    """
    if hasattr(module, "make_parallel"):
        return module.make_parallel(n)
    return NaiveParallelLayer(module, n)


def make_parallel_input(inputs: Any, n: int) -> Any:
    """Return a nest of ``[B, n, ...]`` views of the nest ``inputs`` of ``[B, ...]``; no memory is copied."""
    def _expand(x):
        return x.unsqueeze(1).expand(-1, n, *x.shape[1:])

    return _expand(inputs) if isinstance(inputs, torch.Tensor) else nest.map_structure(_expand, inputs)


def make_parallel_spec(specs: Any, n: int) -> Any:
    """Return the nest ``specs`` with a dimension ``n`` put in front of every shape."""
    return nest.map_structure(lambda spec: spec.replace(shape=(n, *spec.shape)), specs)
