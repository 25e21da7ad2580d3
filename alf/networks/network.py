"""`Network`: a module that states its input, output and state specs, can copy itself and be made parallel.

A network is called with a batch and, if it is recurrent, its state::

    net = EncodingNetwork(TensorSpec((4, )), fc_layer_params=(64, 64))
    output, state = net(torch.zeros(8, 4))      # state is () for a network without state

    assert net.output_spec == TensorSpec((64, ))
    target = net.copy()                         # same structure, new parameters
    ensemble = net.make_parallel(10)            # [B, 10, 4] -> [B, 10, 64]
"""

import contextlib
import inspect
from typing import Any, Callable, Dict, Tuple

import torch
import torch.distributions as td
import torch.nn as nn

import alf.nest as nest
from alf.layers import FC, Sequential, copy_layer, make_parallel_net, make_parallel_spec, reset_parameters
from alf.tensor_specs import NestedTensorSpec, TensorSpec
from alf.utils.math_ops import identity


def copy_with_new_parameters(value: Any) -> Any:
    """Return ``value`` with every network and module in it replaced by a copy with parameters drawn anew.

    Networks make the copy themselves (singletons are shared); whatever is neither a module nor a list,
    tuple or dictionary is taken over as it is.
    """
    if isinstance(value, Network):
        return value.copy()
    if isinstance(value, nn.Module):
        copied = copy_layer(value)
        reset_parameters(copied)
        return copied
    if isinstance(value, dict):
        return type(value)((k, copy_with_new_parameters(v)) for k, v in value.items())
    if nest.is_namedtuple(value):
        return type(value)(*map(copy_with_new_parameters, value))
    if type(value) in (list, tuple):
        return type(value)(map(copy_with_new_parameters, value))
    return value


def own_module(module: Any) -> Any:
    """Return the module a network uses for one that was passed to its constructor.

    One conf value often goes to the constructors of several networks, which must not share its parameters by
    accident: a network is copied (unless it is a singleton), any other module is copied with the values of
    its parameters, which may be pretrained.
    """
    return module.copy() if isinstance(module, Network) else copy_layer(module)


class Network(nn.Module):
    """Base of all networks.

    A subclass implements ``forward(inputs, state=()) -> (output, new_state)``, where all tensors are
    ``[B, ...]``.

    Args:
        input_tensor_spec: nest of specs of the input; ``None`` if unknown, and then ``output_spec`` is too.
        state_spec: nest of specs of the state; ``()`` for a network without state.
        name: name of the network.
    """

    def __new__(cls, *args, **kwargs):
        network = super().__new__(cls)
        # What the caller wrote, for copy(). Set past nn.Module.__setattr__, which needs an initialized module
        # and would register modules among the arguments.
        object.__setattr__(network, "_call_args", (args, kwargs))
        return network

    def __init__(self, input_tensor_spec: NestedTensorSpec, state_spec: NestedTensorSpec = (),
                 name: str = "Network"):
        super().__init__()
        self._name = name
        self._input_tensor_spec = input_tensor_spec
        self._state_spec = state_spec
        self._output_spec = None
        self._is_distribution_output = None
        self._is_singleton = False

    def singleton(self, singleton_instance: bool = True) -> "Network":
        """Make ``copy()`` return the network itself from now on, and return the network.

        Networks that get one instance as (part of) their arguments copy it; a singleton is shared by them.

        Args:
            singleton_instance: False makes ``copy()`` copy again.
        """
        self._is_singleton = singleton_instance
        return self

    @property
    def saved_args(self) -> Dict[str, Any]:
        """Arguments the constructor was called with, by name; ``*args`` of a constructor under their name."""
        args, kwargs = self._call_args
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        saved = dict(list(bound.arguments.items())[1:])
        for name, parameter in bound.signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                saved.update(saved.pop(name, {}))
        return saved

    def copy(self, **kwargs) -> "Network":
        """Return a network of the same structure with parameters drawn anew, or itself if it is a singleton.

        Networks and other modules among the constructor's arguments are copied in the same way.

        Args:
            kwargs: arguments of the constructor to change.
        """
        if self._is_singleton:
            return self
        saved = {name: value if name in kwargs else copy_with_new_parameters(value)
                 for name, value in self.saved_args.items()}
        saved.update(kwargs)
        positional = []
        parameters = inspect.signature(type(self).__init__).parameters.values()
        if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            # Whatever stands before *args can only be passed by position.
            for p in list(parameters)[1:]:
                if p.kind is inspect.Parameter.VAR_POSITIONAL:
                    positional.extend(saved.pop(p.name, ()))
                    break
                positional.append(saved.pop(p.name, p.default))
        return type(self)(*positional, **saved)

    @property
    def name(self) -> str:
        """Name of the network."""
        return self._name

    @property
    def input_tensor_spec(self) -> NestedTensorSpec:
        """Nest of specs of the input."""
        return self._input_tensor_spec

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state; ``()`` for a network without state."""
        return self._state_spec

    @property
    def is_rnn(self) -> bool:
        """Whether the network has state."""
        return len(nest.flatten(self.state_spec)) > 0

    @property
    def output_spec(self) -> NestedTensorSpec:
        """Nest of specs of the output; distributions are described by a ``DistributionSpec``.

        Found by running the network once, in evaluation mode and without touching the random state.

        Raises:
            ValueError: if the input spec is not known.
        """
        if self._output_spec is None:
            self._find_output_spec()
        return self._output_spec

    @property
    def is_distribution_output(self) -> bool:
        """Whether there is a distribution in the output."""
        if self._is_distribution_output is None:
            self._find_output_spec()
        return self._is_distribution_output

    def _find_output_spec(self) -> None:
        if self.input_tensor_spec is None:
            raise ValueError(f"{self.name}: output_spec: the input spec is not known. Pass input_tensor_spec "
                             f"to the constructor.")
        parameter = next(self.parameters(), None)
        device = torch.get_default_device() if parameter is None else parameter.device
        cuda_devices = [device] if device.type == "cuda" else []
        with torch.no_grad(), _evaluation_mode(self), torch.random.fork_rng(devices=cuda_devices):
            inputs, state = nest.map_structure(lambda spec: _example(spec, device),
                                               (self.input_tensor_spec, self.state_spec))
            output, _ = self(inputs, state)
        leaves = nest.flatten(output)
        self._is_distribution_output = any(isinstance(leaf, td.Distribution) for leaf in leaves)
        if self._is_distribution_output:
            from alf.utils import dist_utils
            self._output_spec = dist_utils.extract_spec(output, from_dim=1)
        else:
            self._output_spec = nest.map_structure(lambda x: TensorSpec.from_tensor(x, from_dim=1), output)

    def make_parallel(self, n: int) -> "Network":
        """Return ``n`` networks of this structure, with parameters of their own, as one.

        It maps ``[B, n, ...]`` to ``[B, n, ...]``. To be overridden where the ``n`` can be computed at once.
        """
        return NaiveParallelNetwork(self, n)

    def extra_repr(self) -> str:
        return "" if self._name == type(self).__name__ else f"name={self._name!r}"


def _example(spec: TensorSpec, device: torch.device) -> torch.Tensor:
    """Return a valid batch of one: zeros, but integers, which may be indices, within their bounds."""
    x = spec.zeros(outer_dims=(1, ))
    if spec.is_bounded() and spec.is_discrete:
        x = torch.clamp(x, torch.as_tensor(spec.minimum.copy()), torch.as_tensor(spec.maximum.copy()))
    return x.to(device)


@contextlib.contextmanager
def _evaluation_mode(module: nn.Module):
    """Switch all parts of ``module`` to evaluation mode and at the end back to what each of them was in."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        yield
    finally:
        for m in training:
            m.training = True


class NaiveParallelNetwork(Network):
    """``n`` copies of a network, called one after the other.

    Args:
        network: the network to copy; any state.
        n: number of copies.
        name: name of the whole; by default ``naive_parallel_<name of network>``.
    """

    def __init__(self, network: Network, n: int, name: str = None):
        super().__init__(
            None if network.input_tensor_spec is None else make_parallel_spec(network.input_tensor_spec, n),
            state_spec=make_parallel_spec(network.state_spec, n),
            name=name or f"naive_parallel_{network.name}")
        self._networks = nn.ModuleList([network.copy(name=f"{network.name}_{i}") if _takes_name(network)
                                        else network.copy() for i in range(n)])
        self._n = n
        self._single_input_spec = network.input_tensor_spec

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the outputs and new states of the copies, nests of ``[B, n, ...]``.

        Args:
            inputs: nest of ``[B, n, ...]``, of which copy ``i`` gets ``[:, i]``; or nest of ``[B, ...]``,
                the same for all copies.
            state: nest of ``[B, n, ...]``.
        """
        if is_parallel_input(inputs, self._single_input_spec):
            all_inputs = [nest.map_structure(lambda x, i=i: x[:, i], inputs) for i in range(self._n)]
        else:
            all_inputs = [inputs] * self._n
        states = [nest.map_structure(lambda x, i=i: x[:, i], state) for i in range(self._n)]
        results = [network(x, s) for network, x, s in zip(self._networks, all_inputs, states, strict=True)]
        outputs, new_states = zip(*results, strict=True)
        return _stack(outputs), nest.map_structure(lambda *s: torch.stack(s, dim=1), *new_states)


def _takes_name(network: Network) -> bool:
    return "name" in inspect.signature(type(network).__init__).parameters


def is_parallel_input(inputs: Any, single_spec: NestedTensorSpec) -> bool:
    """Return whether ``inputs`` is a nest of ``[B, n, ...]`` for networks of input spec ``single_spec``.

    Without the spec the input must be parallel.
    """
    if single_spec is None:
        return True
    leaf, spec = nest.flatten(inputs)[0], nest.flatten(single_spec)[0]
    return leaf.ndim > spec.ndim + 1


def _stack(outputs: Tuple) -> Any:
    """Return nests of tensors or distributions ``[B, ...]`` stacked to one of ``[B, n, ...]``."""
    if not any(isinstance(leaf, td.Distribution) for leaf in nest.flatten(outputs[0])):
        return nest.map_structure(lambda *ys: torch.stack(ys, dim=1), *outputs)
    from alf.utils import dist_utils
    spec = dist_utils.extract_spec(outputs[0], from_dim=1)
    params = [dist_utils.distributions_to_params(y) for y in outputs]
    stacked = nest.map_structure(lambda *ys: torch.stack(ys, dim=1), *params)
    return dist_utils.params_to_distributions(stacked, spec)


class NetworkWrapper(Network):
    """Makes a network from a module or function.

    Args:
        module: called with the input and returns the output; or, if there is a state, called with
            ``(input, state)`` and returns ``(output, new_state)``.
        input_tensor_spec: nest of specs of the input.
        state_spec: nest of specs of the state.
        name: name of the network.
    """

    def __init__(self, module: Callable, input_tensor_spec: NestedTensorSpec,
                 state_spec: NestedTensorSpec = (), name: str = "NetworkWrapper"):
        super().__init__(input_tensor_spec, state_spec=state_spec, name=name)
        self._module = module
        self._has_state = len(nest.flatten(state_spec)) > 0

    def forward(self, x: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the output of the module and the new state."""
        return self._module(x, state) if self._has_state else (self._module(x), state)

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with parameters of their own, as one.

        A function is taken to treat every element alike, whatever the shape.
        """
        if self._has_state:
            return super().make_parallel(n)
        module = make_parallel_net(self._module, n) if isinstance(self._module, nn.Module) else self._module
        spec = None if self._input_tensor_spec is None else make_parallel_spec(self._input_tensor_spec, n)
        return NetworkWrapper(module, spec, name=f"parallel_{self._name}")


class BatchSquashNetwork(Network):
    """Runs a network on inputs with several batch dimensions by folding them into one.

    Args:
        network: a network without state.
        batch_dims: number of batch dimensions of the inputs.
        name: name of the network.
    Raises:
        ValueError: if the network has state: in a state there is one batch dimension only.
    """

    def __init__(self, network: Network, batch_dims: int = 2, name: str = "BatchSquashNetwork"):
        if network.is_rnn:
            raise ValueError(f"BatchSquashNetwork: expected a network without state, got {network.name} with "
                             f"state {network.state_spec}.")
        super().__init__(network.input_tensor_spec, name=name)
        self._network = network
        self._batch_dims = batch_dims

    @property
    def output_spec(self) -> NestedTensorSpec:
        """Nest of specs of the output, all batch dimensions left out."""
        return self._network.output_spec

    @property
    def is_distribution_output(self) -> bool:
        """Whether there is a distribution in the output."""
        return self._network.is_distribution_output

    def forward(self, x: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the output, nest of ``[*batch, ...]`` for a nest of ``[*batch, ...]``, and ``()``."""
        from alf.utils.tensor_utils import BatchSquash
        squash = BatchSquash(self._batch_dims)
        output, _ = self._network(nest.map_structure(squash.flatten, x))
        return nest.map_structure(squash.unflatten, output), ()


def get_input_tensor_spec(net: Any) -> NestedTensorSpec:
    """Return the input spec of a network or of a layer that fixes it, and ``None`` for anything else."""
    if isinstance(net, Network):
        return net.input_tensor_spec
    if isinstance(net, FC):
        return TensorSpec((net.input_size, ))
    if isinstance(net, nn.Linear):
        return TensorSpec((net.in_features, ))
    if isinstance(net, (Sequential, nn.Sequential)):
        return get_input_tensor_spec(net[0])
    return None


def wrap_as_network(net: Any, input_tensor_spec: NestedTensorSpec) -> Network:
    """Return ``net`` if it is a network, and a :class:`NetworkWrapper` around it otherwise.

    Args:
        net: network, module or function.
        input_tensor_spec: nest of specs of the input; ``None``: what ``get_input_tensor_spec`` finds.
    """
    if isinstance(net, Network):
        return net
    if net is None:
        net = identity
    return NetworkWrapper(net, get_input_tensor_spec(net) if input_tensor_spec is None else input_tensor_spec)
