"""Networks made of networks and layers: `Sequential`, `Parallel`, `Branch` and `Echo`."""

from typing import Any, List, Tuple

import torch.nn as nn

import alf.nest as nest
from alf.layers import make_parallel_net, make_parallel_spec
from alf.layers.routing import Element, as_module, make_routes, parse_branches, parse_elements
from alf.networks._call import call
from alf.networks.network import Network, get_input_tensor_spec, wrap_as_network
from alf.tensor_specs import NestedTensorSpec


class _Sequential(Network):
    """The network behind :func:`Sequential`, and the base of the encoding networks.

    Args:
        elements: what runs, in order.
        output: nest of paths; ``""`` is the result of the last element.
        input_tensor_spec: nest of specs of the input.
        name: name of the network.
    """

    def __init__(self, elements: List[Element], output: Any = "", input_tensor_spec: NestedTensorSpec = None,
                 name: str = "Sequential"):
        modules = [as_module(e.module) for e in elements]
        if input_tensor_spec is None and elements[0].paths == "":
            input_tensor_spec = get_input_tensor_spec(modules[0])
        state_spec = [m.state_spec if isinstance(m, Network) else () for m in modules]
        has_state = len(nest.flatten(state_spec)) > 0
        super().__init__(input_tensor_spec, state_spec=state_spec if has_state else (), name=name)
        self._nets = nn.ModuleList(modules)
        self._output = output
        routes, self._output_route = make_routes(elements, output, name)
        # Beside its module: the name, the paths, the route, and whether it is a network.
        self._elements = [(e.name, e.paths, route, isinstance(m, Network))
                          for e, route, m in zip(elements, routes, modules, strict=True)]
        self._has_state = has_state
        is_chain = self._output_route is None and not any(routes)
        self._is_chain_of_layers = is_chain and not any(isinstance(m, Network) for m in modules)

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the output nest and the new state.

        Args:
            inputs: nest of ``[B, ...]``.
            state: ``()``, or a list with the state of each element, ``()`` for those without state.
        """
        modules = self._modules["_nets"]._modules.values()
        x = inputs
        if self._is_chain_of_layers:
            for module in modules:
                x = call(module, x)
            return x, ()
        results = {"input": inputs}
        new_state = []
        for i, ((name, _, route, is_network), module) in enumerate(zip(self._elements, modules, strict=True)):
            if route is not None:
                x = route(results, x)
            s = ()
            if is_network:
                x, s = call(module, x, state[i] if self._has_state else ())
            else:
                x = call(module, x)
            new_state.append(s)
            if name:
                results[name] = x
        if self._output_route is not None:
            x = self._output_route(results, x)
        return x, new_state if self._has_state else ()

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        elements = [Element(name, paths, make_parallel_net(m, n))
                    for (name, paths, _, _), m in zip(self._elements, self._nets, strict=True)]
        spec = self._input_tensor_spec
        return _Sequential(elements, self._output, None if spec is None else make_parallel_spec(spec, n),
                           name=f"parallel_{self._name}")

    def __getitem__(self, i: int) -> nn.Module:
        return self._nets[i]

    def __len__(self) -> int:
        return len(self._nets)


def Sequential(*modules: Any, output: Any = '', input_tensor_spec: NestedTensorSpec = None,
               name: str = 'Sequential', **named_modules: Any) -> Network:
    """Return a network that applies networks, layers and functions one after the other.

    The elements, their paths and names are those of :class:`alf.layers.Sequential`; beside layers, elements
    may be networks, and their states are kept. ::

        Sequential(encoder, core=LSTMCell(64, 32), policy=FC(32, 4),
                   value=("core", FC(32, 1)), output=("policy", "value"))

    Args:
        modules: elements without names, ``callable`` or ``(paths, callable)``; they run first, in order.
        output: nest of paths; the default ``""`` is the result of the last element.
        input_tensor_spec: nest of specs of the input; needed for ``output_spec`` if the first element does
            not tell.
        name: name of the network.
        named_modules: elements with names; they run after ``modules``, in order.
    Raises:
        ValueError: if a path does not begin with ``input`` or the name of an earlier element.
    """
    return _Sequential(parse_elements(modules, named_modules, name), output, input_tensor_spec, name)


class _NestOfNetworks(Network):
    """A nest of networks. The state is a nest of the same structure with the states of the networks.

    Args:
        modules: nest of networks, layers and functions.
        input_specs: specs of the inputs of the leaves, flattened; ``None`` where not known.
        input_tensor_spec: nest of specs of the input of the whole.
        name: name of the network.
    """

    def __init__(self, modules: Any, input_specs: List, input_tensor_spec: NestedTensorSpec, name: str):
        networks = [wrap_as_network(module, spec)
                    for module, spec in zip(nest.flatten(modules), input_specs, strict=True)]
        states = [net.state_spec for net in networks]
        has_state = len(nest.flatten(states)) > 0
        super().__init__(
            input_tensor_spec,
            state_spec=nest.pack_sequence_as(modules, states) if has_state else (),
            name=name)
        # Kept as a tree spec: packing and unpacking run at every call.
        self._structure = nest.flatten_with_structure(modules)[1]
        self._networks = nn.ModuleList(networks)
        self._has_state = has_state

    @property
    def networks(self) -> Any:
        """The nest of networks."""
        return self._structure.unflatten(self._networks)

    def _run(self, flat_inputs: List, state: Any) -> Tuple[Any, Any]:
        networks = self._modules["_networks"]._modules.values()
        if not self._has_state:
            outputs = [net(x)[0] for net, x in zip(networks, flat_inputs, strict=True)]
            return self._structure.unflatten(outputs), ()
        states = self._structure.flatten_up_to(state)
        results = [net(x, s) for net, x, s in zip(networks, flat_inputs, states, strict=True)]
        outputs, new_states = zip(*results, strict=True)
        return self._structure.unflatten(outputs), self._structure.unflatten(new_states)

    def _parallel_networks(self, n: int) -> Any:
        return nest.map_structure(lambda net: net.make_parallel(n), self.networks)


class Parallel(_NestOfNetworks):
    """Applies each network of a nest to the corresponding part of the input nest.

    ``Parallel((net1, net2))((x1, x2))`` outputs ``(net1(x1), net2(x2))``. Parts may be nests themselves.

    Args:
        modules: nest of networks, layers and functions; the input begins with the same structure. ``None``
            passes its part through.
        input_tensor_spec: nest of specs of the input; by default made from those of the modules.
        name: name of the network.
    """

    def __init__(self, modules: Any, input_tensor_spec: NestedTensorSpec = None, name: str = 'Parallel'):
        if input_tensor_spec is None:
            input_specs = [get_input_tensor_spec(m) for m in nest.flatten(modules)]
            if all(spec is not None for spec in input_specs):
                input_tensor_spec = nest.pack_sequence_as(modules, input_specs)
        else:
            input_specs = nest.flatten_up_to(modules, input_tensor_spec)
        super().__init__(modules, input_specs, input_tensor_spec, name)

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the nests of outputs and of new states."""
        return self._run(self._structure.flatten_up_to(inputs), state)

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        spec = self._input_tensor_spec
        return Parallel(self._parallel_networks(n), None if spec is None else make_parallel_spec(spec, n),
                        name=f"parallel_{self._name}")


class _Branch(_NestOfNetworks):
    """The network behind :func:`Branch`.

    Args:
        modules: nest of networks, layers and functions.
        input_tensor_spec: nest of specs of the input; by default that of the first module that tells.
        name: name of the network.
    """

    def __init__(self, modules: Any, input_tensor_spec: NestedTensorSpec = None, name: str = "Branch"):
        leaves = nest.flatten(modules)
        if input_tensor_spec is None:
            known = [spec for spec in map(get_input_tensor_spec, leaves) if spec is not None]
            input_tensor_spec = known[0] if known else None
        super().__init__(modules, [input_tensor_spec] * len(leaves), input_tensor_spec, name)

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the nests of outputs and of new states."""
        return self._run([inputs] * len(self._networks), state)

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        spec = self._input_tensor_spec
        return _Branch(self._parallel_networks(n), None if spec is None else make_parallel_spec(spec, n),
                       name=f"parallel_{self._name}")


def Branch(*modules: Any, input_tensor_spec: NestedTensorSpec = None, name: str = 'Branch',
           **named_modules: Any) -> Network:
    """Return a network that applies several networks to one input.

    The arguments are those of :class:`alf.layers.Branch`; beside layers, branches may be networks, and the
    nest of their states is the state.

    Args:
        modules: a nest of networks, layers and functions; several arguments mean a tuple.
        input_tensor_spec: nest of specs of the input; by default that of the first module that tells.
        name: name of the network.
        named_modules: a dictionary of them, instead of ``modules``.
    Raises:
        ValueError: unless there are either positional or named modules.
    """
    structure, leaves = parse_branches(modules, named_modules, name)
    return _Branch(nest.pack_sequence_as(structure, leaves), input_tensor_spec, name)


class Echo(Network):
    """Feeds part of the output of a network back as part of its next input.

    ``block`` maps ``dict(input=x, echo=e)`` to ``dict(output=y, echo=e_next)``; ``Echo`` maps ``x`` to ``y``
    and keeps ``e_next`` in its state, as the ``echo`` of the next step. The first ``echo`` is zero.

    Args:
        block: network, or layer, with such inputs and outputs; the specs of both echoes are the same.
        input_tensor_spec: spec of ``dict(input=..., echo=...)``; by default that of the block.
    Raises:
        ValueError: if the fields of input or output are others, or the echoes differ.
    """

    def __init__(self, block: Any, input_tensor_spec: NestedTensorSpec = None):
        block = wrap_as_network(block, input_tensor_spec)
        spec = block.input_tensor_spec
        if not isinstance(spec, dict) or set(spec) != {"input", "echo"}:
            raise ValueError(f"Echo: expected a block with the input dict(input=..., echo=...), got the "
                             f"input spec {spec}.")
        output_spec = block.output_spec
        if not isinstance(output_spec, dict) or set(output_spec) != {"output", "echo"}:
            raise ValueError(f"Echo: expected a block with the output dict(output=..., echo=...), got the "
                             f"output spec {output_spec}.")
        shapes = [[(s.shape, s.dtype) for s in nest.flatten(x["echo"])] for x in (spec, output_spec)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Echo: expected the same spec for the echo in input and output of the block, "
                             f"got {spec['echo']} and {output_spec['echo']}.")
        super().__init__(spec["input"], state_spec=(block.state_spec, spec["echo"]), name="Echo")
        self._block = block

    def forward(self, input: Any, state: Any) -> Tuple[Any, Any]:
        """Return the output of the block and the new state, ``(state of the block, echo)``."""
        block_state, echo = state
        result, block_state = self._block(dict(input=input, echo=echo), block_state)
        return result["output"], (block_state, result["echo"])

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        return Echo(self._block.make_parallel(n))
