"""Layers made of layers: `Sequential` with named results, `Branch`, and mixed precision around a layer."""

from typing import Any, Callable

import torch
import torch.nn as nn

import alf.nest as nest
from alf.layers._parallel import make_parallel_net
from alf.layers.routing import as_module, make_routes, parse_branches, parse_elements
from alf.utils.parameter_reset import reset_parameters


class Sequential(nn.Module):
    """Apply layers one after the other; results may be named and used again further on.

    ``Sequential(FC(4, 8), a=FC(8, 8), b=(("input", "a"), NestConcat()), output=("a", "b"))`` computes::

        x = FC(4, 8)(input);  a = FC(8, 8)(x);  b = NestConcat()((input, a));  output = (a, b)

    An element is a callable, or a pair ``(paths, callable)`` where ``paths`` is a nest of strings saying what
    the callable gets: ``"input"`` is the input of the whole, a name is the result of the element of that
    name, ``"name.field"`` is a field of it, and ``""`` is the result of the previous element, which is also
    what an element without paths gets. A pair of paths and callable is told from a module by being a tuple of
    two whose first item holds only strings.

    Args:
        modules: elements without names; they run first, in order.
        output: nest of such paths; the default ``""`` is the result of the last element.
        named_modules: elements with names; they run after ``modules``, in order.
    Raises:
        ValueError: if a path does not begin with a known name.
    """

    def __init__(self, *modules: Any, output: Any = '', **named_modules: Any):
        super().__init__()
        self._elements = parse_elements(modules, named_modules, "Sequential")
        self._routes, self._output_route = make_routes(self._elements, output, "Sequential")
        self._output = output
        self._networks = nn.ModuleList([as_module(e.module) for e in self._elements])
        # What remains of an element beside its module: the list of modules is the only holder of those.
        self._elements = [e._replace(module=None) for e in self._elements]
        self._is_chain = (self._output_route is None and not any(self._routes))

    def forward(self, inputs: Any) -> Any:
        """Return the output nest for the nest ``inputs``."""
        modules = self._modules["_networks"]._modules.values()
        x = inputs
        if self._is_chain:
            for module in modules:
                x = module(x)
            return x
        results = {"input": inputs}
        for element, route, module in zip(self._elements, self._routes, modules, strict=True):
            x = module(x if route is None else route(results, x))
            if element.name:
                results[element.name] = x
        return x if self._output_route is None else self._output_route(results, x)

    def __getitem__(self, i: int) -> nn.Module:
        return self._networks[i]

    def __len__(self) -> int:
        return len(self._networks)

    def reset_parameters(self) -> None:
        """Draw new parameters for all elements."""
        for module in self._networks:
            reset_parameters(module)

    def make_parallel(self, n: int) -> "Sequential":
        """Return ``n`` such layers, with parameters of their own, in one; ``[B, n, ...] -> [B, n, ...]``."""
        parallel = [(e.paths, make_parallel_net(m, n))
                    for e, m in zip(self._elements, self._networks, strict=True)]
        unnamed = [p for e, p in zip(self._elements, parallel, strict=True) if not e.name]
        named = {e.name: p for e, p in zip(self._elements, parallel, strict=True) if e.name}
        return Sequential(*unnamed, output=self._output, **named)


class Branch(nn.Module):
    """Apply several layers to one input.

    ``Branch(m1, m2)`` and ``Branch((m1, m2))`` return ``(m1(x), m2(x))``; ``Branch(a=m1, b=m2)`` and
    ``Branch(dict(a=m1, b=m2))`` return ``dict(a=m1(x), b=m2(x))``; any nest of layers gives a nest of
    results.

    Args:
        modules: a nest of callables; several arguments mean a tuple.
        named_modules: a dictionary of callables, instead of ``modules``.
    Raises:
        ValueError: unless exactly one of the two ways is used.
    """

    def __init__(self, *modules: Any, **named_modules: Any):
        super().__init__()
        self._structure, networks = parse_branches(modules, named_modules, "Branch")
        self._networks = nn.ModuleList([as_module(m) for m in networks])

    def forward(self, inputs: Any) -> Any:
        """Return the nest of results for the nest ``inputs``."""
        return nest.pack_sequence_as(self._structure, [m(inputs) for m in self._networks])

    def reset_parameters(self) -> None:
        """Draw new parameters for all branches."""
        for module in self._networks:
            reset_parameters(module)

    def make_parallel(self, n: int) -> "Branch":
        """Return ``n`` such layers, with parameters of their own, in one; ``[B, n, ...] -> [B, n, ...]``."""
        parallel = [make_parallel_net(m, n) for m in self._networks]
        return Branch(nest.pack_sequence_as(self._structure, parallel))


def run_with_autocast(enabled: bool, function: Callable, *inputs: Any) -> Any:
    """Return ``function(*inputs)`` run in mixed precision if ``enabled``, and in full precision otherwise.

    Floating point tensors in the result are float32 either way, so that whatever follows need not care.
    """
    leaves = [x for x in nest.flatten(inputs) if isinstance(x, torch.Tensor)]
    device_type = leaves[0].device.type if leaves else torch.get_default_device().type

    def _to_float32(x):
        is_low = isinstance(x, torch.Tensor) and x.dtype in (torch.float16, torch.bfloat16)
        return x.float() if is_low else x

    with torch.autocast(device_type, enabled=enabled):
        if not enabled:
            inputs = nest.map_structure(_to_float32, inputs)
        return nest.map_structure(_to_float32, function(*inputs))


class AMPWrapper(nn.Module):
    """Run a layer in automatic mixed precision, or keep it out of an enclosing mixed precision region.

    Args:
        enabled: whether to use mixed precision inside.
        net: the layer.
    """

    def __init__(self, enabled: bool, net: nn.Module):
        super().__init__()
        self._enabled = enabled
        self._net = net

    def forward(self, input: Any) -> Any:
        """Return the output nest for the nest ``input``; half precision tensors in it as float32."""
        return run_with_autocast(self._enabled, self._net, input)
