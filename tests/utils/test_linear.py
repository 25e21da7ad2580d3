"""Tests of affine maps by oneDNN: the same numbers, gradients and gradients of gradients as by plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from alf.utils import linear as linear_module
from alf.utils.linear import linear, matrix_library, parallel_linear

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
# A product just large enough, and one far too small.
LARGE, SMALL = (64, 160, 144), (8, 16, 4)


@pytest.fixture(autouse=True)
def suits(monkeypatch):
    """Take this processor for one that oneDNN suits, and return a list that grows with each product it makes."""
    calls = []
    op = linear_module._linear_op

    def counted(*args):
        calls.append(args)
        return op(*args)

    monkeypatch.setattr(linear_module, "_is_processor_for_onednn", lambda: True)
    monkeypatch.setattr(linear_module, "_linear_op", counted)
    return calls


def _close(actual, expected):
    # One row of products of float32 in another order.
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-4, atol=1e-4)


def _with_gradients(function, x, weight, bias):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in (x, weight, bias) if leaf is not None]
    y = function(*leaves)
    g = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
    return [y, *torch.autograd.grad(y, leaves, g)]


def _reference(x, weight, bias=None):
    """The maps one by one in float64."""
    x, weight = x.double(), weight.double()
    each = [F.linear(x if x.ndim == 2 else x[:, i], weight[i], None if bias is None else bias[i].double())
            for i in range(len(weight))]
    return torch.stack(each, 1)


@needs_onednn
@pytest.mark.parametrize("sizes", [LARGE, SMALL])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_and_its_gradients_are_those_of_plain_pytorch(suits, sizes, has_bias):
    rows, num_inputs, num_outputs = sizes
    x, weight = torch.randn(rows, num_inputs), torch.randn(num_outputs, num_inputs)
    bias = torch.randn(num_outputs) if has_bias else None
    for ours, theirs in zip(_with_gradients(linear, x, weight, bias), _with_gradients(F.linear, x, weight, bias),
                            strict=True):
        _close(ours, theirs)
    assert len(suits) == (3 if sizes == LARGE else 0)


@needs_onednn
def test_linear_keeps_leading_dimensions():
    x, weight, bias = torch.randn(4, 16, 160), torch.randn(144, 160), torch.randn(144)
    _close(linear(x, weight, bias), F.linear(x, weight, bias))


@needs_onednn
def test_linear_takes_rows_with_gaps():
    x, weight = torch.randn(64, 320)[:, ::2], torch.randn(144, 320)[:, :160]
    _close(linear(x, weight), F.linear(x, weight))
    columns = torch.randn(320, 144)[::2].t()
    _close(linear(x, columns), F.linear(x, columns))


@needs_onednn
@pytest.mark.parametrize("sizes", [LARGE, SMALL, (512, 256, 1)])
@pytest.mark.parametrize("layout", ["own", "shared", "expanded", "batch last"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_parallel_linear_and_its_gradients_are_those_of_single_maps(sizes, layout, has_bias):
    rows, num_inputs, num_outputs = sizes
    weight = torch.randn(2, num_outputs, num_inputs)
    bias = torch.randn(2, num_outputs) if has_bias else None
    shape = (rows, num_inputs) if layout in ("shared", "expanded") else (rows, 2, num_inputs)
    x = torch.randn(shape)

    def laid_out(x):
        if layout == "expanded":
            return x.unsqueeze(1).expand(-1, 2, -1)
        return x.permute(1, 2, 0).contiguous().permute(2, 0, 1) if layout == "batch last" else x

    ours = _with_gradients(lambda x, *rest: parallel_linear(laid_out(x), *rest), x, weight, bias)
    for one, expected in zip(ours, _with_gradients(_reference, x, weight, bias), strict=True):
        _close(one, expected)


@needs_onednn
@pytest.mark.parametrize("layout", ["own", "shared", "expanded", "batch last"])
@pytest.mark.parametrize("has_bias", [True, False])
def test_parallel_linear_under_autocast_is_that_of_single_maps_of_bfloat16(layout, has_bias):
    weight, bias = torch.randn(2, 24, 16), torch.randn(2, 24) if has_bias else None
    x = torch.randn((8, 16) if layout in ("shared", "expanded") else (8, 2, 16))
    laid_out = {"expanded": lambda x: x.unsqueeze(1).expand(-1, 2, -1),
                "batch last": lambda x: x.permute(1, 2, 0).contiguous().permute(2, 0, 1)}.get(layout, lambda x: x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert parallel_linear(laid_out(x), weight, bias).dtype == torch.bfloat16
        ours = _with_gradients(lambda x, *rest: parallel_linear(laid_out(x), *rest).float(), x, weight, bias)
    rounded = [leaf if leaf is None else leaf.bfloat16() for leaf in (x, weight, bias)]
    assert all(gradient.dtype == torch.float32 for gradient in ours[1:])
    for one, expected in zip(ours, _with_gradients(_reference, *rounded), strict=True):
        assert (one.double() - expected.double()).norm() < 0.01 * expected.double().norm()


@needs_onednn
def test_parallel_linear_applies_the_activation_in_place():
    x, weight, bias = torch.randn(64, 2, 160), torch.randn(2, 144, 160), torch.randn(2, 144)
    _close(parallel_linear(x, weight, bias, torch.relu_), _reference(x, weight, bias).relu())


@needs_onednn
@pytest.mark.parametrize("function, weight_shape", [(linear, (144, 160)), (parallel_linear, (2, 144, 160))])
def test_gradients_of_gradients(function, weight_shape):
    def penalty(function, x, weight):
        x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
        gradient, = torch.autograd.grad(function(x, weight).tanh().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), weight)[0]

    x, weight = torch.randn(64, *weight_shape[:-2], 160), torch.randn(weight_shape) * 0.05
    plain = F.linear if function is linear else _reference
    _close(penalty(function, x, weight), penalty(lambda *args: plain(*args).float(), x, weight))


@needs_onednn
def test_only_gradients_that_are_needed_are_made(suits):
    x, weight = torch.randn(64, 160, requires_grad=True), torch.randn(144, 160)
    linear(x, weight).sum().backward()
    assert len(suits) == 2


@needs_onednn
@pytest.mark.parametrize("case", ["float64", "autocast", "switched off", "vmap"])
def test_what_does_not_suit_onednn_stays_with_plain_pytorch(suits, case):
    x, weight = torch.randn(64, 160), torch.randn(144, 160)
    if case == "float64":
        linear(x.double(), weight.double())
    elif case == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x, weight).dtype == torch.bfloat16
    elif case == "switched off":
        with torch.backends.mkldnn.flags(enabled=False):
            linear(x, weight)
            assert matrix_library() == "PyTorch's default"
    else:
        _close(torch.vmap(linear)(x.expand(3, -1, -1), weight.expand(3, -1, -1))[1], F.linear(x, weight))
    assert suits == []
    linear(x, weight)
    assert len(suits) == 1
    assert matrix_library() == "oneDNN"


def test_processors_of_intel_stay_with_plain_pytorch(monkeypatch, tmp_path):
    monkeypatch.undo()
    decide = linear_module._is_processor_for_onednn.__wrapped__
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for vendor, expected in (("GenuineIntel", False), ("AuthenticAMD", True)):
        cpuinfo = tmp_path / vendor
        cpuinfo.write_text(f"processor : 0\nvendor_id\t: {vendor}\n", encoding="utf-8")
        monkeypatch.setattr(linear_module, "_CPU_FACTS", str(cpuinfo))
        has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
        assert decide() is (expected and has_both)
    monkeypatch.setattr(linear_module, "_CPU_FACTS", str(tmp_path / "missing"))
    assert decide() is False
