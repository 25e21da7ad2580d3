import pytest
import torch
import torch.nn as nn

import alf.layers as layers
from alf.layers import FC, AddN, Branch, NaiveParallelLayer, Sequential, reset_parameters
from alf.nest.utils import NestConcat


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_sequential_is_a_chain():
    a, b = FC(3, 4), FC(4, 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(Sequential(a, torch.tanh, b)(x), b(torch.tanh(a(x))))


def test_named_results_are_routed():
    net = Sequential(
        lambda x: x + 1,
        a=lambda x: x * 10,
        b=(("input", "a"), AddN()),
        c=("a", lambda x: -x),
        output=dict(previous="", a="a", b="b", all=["input", "c"]),
    )
    x = torch.tensor([1.0])
    out = net(x)
    assert out["a"].item() == 20 and out["b"].item() == 21 and out["previous"].item() == -20
    assert [t.item() for t in out["all"]] == [1, -20]


def test_paths_reach_into_results_and_inputs():
    net = Sequential(
        split=("input.x", lambda x: dict(p=x + 1, q=(x, 5 * x))), output=("split.q.1", "input.y")
    )
    assert net(dict(x=2, y=7)) == (10, 7)


def test_an_unknown_path_lists_what_is_known():
    with pytest.raises(ValueError, match=r"the path 'd.x' begins with 'd'.* Known are \['input', 'a'\]"):
        Sequential(a=FC(2, 2), b=("d.x", FC(2, 2)))
    with pytest.raises(ValueError, match="Sequential.output: the path 'z'"):
        Sequential(FC(2, 2), output="z")
    with pytest.raises(ValueError, match="cannot be called 'input'"):
        Sequential(input=FC(2, 2))
    with pytest.raises(ValueError, match="expected a callable or a pair .* got 3"):
        Sequential(3)
    with pytest.raises(ValueError, match="at least one element"):
        Sequential()


def test_branch_gives_the_nest_of_its_modules():
    x = torch.tensor([2.0])
    assert [t.item() for t in Branch(torch.neg, torch.square)(x)] == [-2, 4]
    assert Branch(dict(a=torch.neg))(x)["a"].item() == -2
    out = Branch(a=torch.neg, b=torch.square)(x)
    assert out["a"].item() == -2 and out["b"].item() == 4
    with pytest.raises(ValueError, match="either positional or named modules"):
        Branch(torch.neg, a=torch.neg)


def test_parallel_sequential_and_branch_equal_their_parts():
    net = Sequential(FC(3, 4), a=Branch(FC(4, 2), torch.tanh), b=(("a.0", "input"), NestConcat()), output="b")
    parallel = net.make_parallel(2)
    x = torch.randn(5, 2, 3)
    fc0, branch, _ = parallel
    h = torch.stack([x[:, i] @ fc0.weight[i].t() for i in range(2)], 1)
    y = torch.stack([h[:, i] @ branch._networks[0].weight[i].t() for i in range(2)], 1)
    torch.testing.assert_close(parallel(x), torch.cat([y, x], dim=-1))


def test_naive_parallel_layer_copies_and_draws_anew():
    layer = NaiveParallelLayer(FC(3, 2, weight_opt_args=dict(fixed_norm=True)), 2)
    a, b = layer._networks
    assert not a.weight.equal(b.weight) and a.weight.opt_args == dict(fixed_norm=True)
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(layer(x), torch.stack([a(x[:, 0]), b(x[:, 1])], 1))


def test_reset_parameters_reaches_everything_or_says_what_it_cannot():
    net = nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(2, 1), Sequential(FC(2, 2)))
    before = [p.clone() for p in net.parameters() if p.std() > 0]
    reset_parameters(net)
    after = [p for p in net.parameters() if p.std() > 0]
    assert before and not any(a.equal(b) for a, b in zip(before, after, strict=True))

    class Custom(nn.Module):
        def __init__(self):
            super().__init__()
            self.alpha = nn.Parameter(torch.zeros(1))

    with pytest.raises(ValueError, match=r"Custom has the parameters \['alpha'\] and no method"):
        reset_parameters(nn.Sequential(Custom()))


def test_amp_wrapper_computes_in_half_precision_and_returns_float32():
    seen = []

    def net(x):
        y = x @ torch.eye(2)
        seen.append(y.dtype)
        return dict(y=y, x=x)

    x = torch.ones(1, 2)
    out = layers.AMPWrapper(True, net)(x)
    assert out["y"].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layers.AMPWrapper(False, net)(x.bfloat16())
    assert seen == [torch.bfloat16, torch.float32]
