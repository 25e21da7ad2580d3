"""Networks call their parts past `nn.Module.__call__`, but not past hooks and compiled parts."""

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from alf.networks import ActorDistributionNetwork, ValueNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

_OBSERVATION = TensorSpec((3, ))
_ACTIONS = {
    "discrete": BoundedTensorSpec((), torch.int64, 0, 1),
    "continuous": BoundedTensorSpec((2, ), torch.float32, -1, 1),
}


def _networks():
    return [ValueNetwork(_OBSERVATION, TensorSpec(()), fc_layer_params=(4, 5))] + [
        ActorDistributionNetwork(_OBSERVATION, spec, fc_layer_params=(4, 5)) for spec in _ACTIONS.values()]


@pytest.mark.parametrize("network", _networks(), ids=["value", *_ACTIONS])
def test_hooks_of_all_parts_are_called_once(network):
    called = []
    parts = [part for part in network.modules() if "forward" in vars(type(part)) or hasattr(part, "make_parallel")]
    hooks = [part.register_forward_hook(lambda module, args, output: called.append(module)) for part in parts]
    network(torch.zeros(2, 3))
    assert len(called) == len(set(map(id, called))) and set(called) == set(parts)
    for hook in hooks:
        hook.remove()
    network(torch.zeros(2, 3))
    assert len(called) == len(parts)


def test_hooks_may_change_inputs_and_outputs_of_a_part():
    network = ValueNetwork(_OBSERVATION, TensorSpec(()), fc_layer_params=(4, ))
    first = network._encoding_net[0]
    expected = network(torch.full((2, 3), 2.0))[0]
    first.register_forward_pre_hook(lambda module, args: (args[0] * 2, ))
    torch.testing.assert_close(network(torch.ones(2, 3))[0], expected)
    network._encoding_net.register_forward_hook(lambda module, args, output: (output[0] + 1, output[1]))
    torch.testing.assert_close(network(torch.ones(2, 3))[0], expected + 1)


def test_global_hooks_are_called_for_parts():
    network = ValueNetwork(_OBSERVATION, TensorSpec(()), fc_layer_params=(4, ))
    called = []
    hook = register_module_forward_hook(lambda module, args, output: called.append(module))
    try:
        network(torch.zeros(2, 3))
    finally:
        hook.remove()
    assert network._encoding_net in called and network._encoding_net[0] in called


def test_a_compiled_part_runs_as_it_was_compiled():
    network = ValueNetwork(_OBSERVATION, TensorSpec(()), fc_layer_params=(4, ))
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    network._encoding_net[0].compile(backend=backend)
    network(torch.zeros(2, 3))
    assert len(graphs) == 1
