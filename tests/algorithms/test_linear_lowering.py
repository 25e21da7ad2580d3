"""Products that compiled code hands to oneDNN: those of plain PyTorch, however the weights lie in memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from alf.algorithms._training import linear_lowering  # noqa: F401  what is tested

NUM_ROWS, NUM_INPUTS, NUM_OUTPUTS = 8, 48, 32

WEIGHTS = {
    "by rows": lambda: torch.randn(NUM_OUTPUTS, NUM_INPUTS),
    "transposed": lambda: torch.randn(NUM_INPUTS, NUM_OUTPUTS).t(),
    "with gaps": lambda: torch.randn(NUM_OUTPUTS, 2 * NUM_INPUTS)[:, ::2],
    "rows apart": lambda: torch.randn(NUM_OUTPUTS, 2 * NUM_INPUTS)[:, :NUM_INPUTS],
    "transposed, columns apart": lambda: torch.randn(NUM_INPUTS, 2 * NUM_OUTPUTS)[:, :NUM_OUTPUTS].t(),
}


def compiled(function, inputs, from_cpp=False):
    graph = make_fx(function, tracing_mode="real")(*inputs)
    for node in graph.graph.nodes:
        node.meta.pop("val", None)
    return torch._inductor.compile(graph, inputs, {"cpp_wrapper": from_cpp})


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("lies", list(WEIGHTS))
@torch.no_grad()
def test_products_are_those_of_plain_pytorch(lies, has_bias):
    weight, bias = WEIGHTS[lies](), torch.randn(NUM_OUTPUTS) if has_bias else None
    x = torch.randn(NUM_ROWS, NUM_INPUTS)
    inputs = [x, weight, *([bias] if has_bias else [])]
    run = compiled(lambda x, weight, *bias: torch.ops.alf.linear.default(x, weight, *(bias or (None, ))), inputs)
    for _ in range(2):
        torch.testing.assert_close(run(*inputs), F.linear(x, weight, bias))
        weight.copy_(torch.randn(weight.shape))  # weights change between updates


@pytest.mark.parametrize("from_cpp", [False, True])
@torch.no_grad()
def test_products_of_what_is_computed_before(from_cpp):
    x, weight, bias = torch.randn(NUM_ROWS, NUM_INPUTS), torch.randn(NUM_INPUTS, NUM_OUTPUTS), torch.randn(NUM_OUTPUTS)

    def function(x, weight, bias):
        return torch.ops.alf.linear.default(x.relu().t().contiguous().t(), weight.tanh().t(), bias.exp()).relu()

    run = compiled(function, [x, weight, bias], from_cpp)
    torch.testing.assert_close(run(x, weight, bias), F.linear(x.relu(), weight.tanh().t(), bias.exp()).relu())
