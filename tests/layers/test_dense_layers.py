import copy

import pytest
import torch
import torch.nn.functional as F

from alf.layers import FC, ParallelFC
from alf.utils.math_ops import identity


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_fc_is_a_linear_map_and_an_activation():
    fc = FC(3, 2, activation=torch.relu_)
    with torch.no_grad():
        fc.weight.copy_(torch.tensor([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]))
        fc.bias.copy_(torch.tensor([0.5, -10.0]))
    assert fc(torch.tensor([[3.0, 4.0, 1.0]])).tolist() == [[2.5, 0.0]]


def test_fc_accepts_any_number_of_batch_dimensions():
    fc = FC(3, 2, activation=torch.tanh, use_ln=True, use_bn=True).eval()
    x = torch.randn(4, 5, 3)
    torch.testing.assert_close(fc(x)[2, 3], fc(x[2, 3].unsqueeze(0))[0])


def test_fc_initialization_options():
    assert FC(4, 3, bias_init_value=0.25).bias.tolist() == [0.25] * 3
    assert FC(4, 3, bias_initializer=lambda b: b.fill_(7.0)).bias.tolist() == [7.0] * 3
    assert FC(4, 3, kernel_initializer=lambda w: w.fill_(2.0)).weight.tolist() == [[2.0] * 4] * 3
    assert FC(4, 3, use_bias=False).bias is None
    torch.manual_seed(1)
    ours = FC(4, 3, use_torch_init=True)
    torch.manual_seed(1)
    theirs = torch.nn.Linear(4, 3)
    assert ours.weight.equal(theirs.weight) and ours.bias.equal(theirs.bias)


def test_fc_gain_follows_the_activation():
    wide = FC(400, 400, activation=torch.relu_, kernel_init_gain=2.0)
    assert wide.weight.std().item() == pytest.approx(2 * 2**0.5 / 20, rel=0.02)
    assert FC(400, 400, activation=identity).weight.std().item() == pytest.approx(1 / 20, rel=0.02)


def test_opt_args_stay_with_the_parameters_in_parallel_layers():
    fc = FC(2, 2, weight_opt_args=dict(fixed_norm=True), bias_opt_args=dict(weight_decay=0.1))
    for layer in (fc, fc.make_parallel(3)):
        assert layer.weight.opt_args == dict(fixed_norm=True)
        assert layer.bias.opt_args == dict(weight_decay=0.1)


def test_in_place_activation_has_the_right_gradient():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    for activation in (torch.relu_, torch.tanh_, torch.sigmoid_):
        assert torch.autograd.gradcheck(FC(3, 4, activation=activation).double(), x)
        assert torch.autograd.gradcheck(ParallelFC(3, 4, 2, activation=activation).double(), x)


@pytest.mark.parametrize(
    "kwargs",
    [dict(), dict(use_bias=False), dict(use_ln=True), dict(use_bn=True), dict(use_ln=True, use_bn=True)],
)
def test_parallel_fc_equals_its_single_layers(kwargs):
    n = 3
    singles = [FC(4, 5, activation=torch.tanh, **kwargs) for _ in range(n)]
    for s in singles:  # affine parts of norms that differ from layer to layer
        for p in s.parameters():
            torch.nn.init.normal_(p)
    parallel = singles[0].make_parallel(n)
    with torch.no_grad():
        for name, p in parallel.named_parameters():
            p.copy_(torch.stack([dict(s.named_parameters())[name] for s in singles]).view(p.shape))
    for x in (torch.randn(7, n, 4), torch.randn(7, 4), torch.randn(7, 4).unsqueeze(1).expand(7, n, 4)):
        expected = torch.stack([s(x[:, i] if x.ndim == 3 else x) for i, s in enumerate(singles)], dim=1)
        torch.testing.assert_close(parallel(x), expected)


def test_parallel_fc_refuses_other_shapes():
    with pytest.raises(
        ValueError, match=r"expected inputs of shape \[B, 3, 4\] or \[B, 4\], got \[7, 2, 4\]"
    ):
        ParallelFC(4, 5, 3)(torch.zeros(7, 2, 4))


def test_layers_of_a_parallel_fc_are_initialized_on_their_own():
    w = FC(30, 30).make_parallel(2).weight
    assert not w[0].equal(w[1])
    assert w[1].std().item() == pytest.approx(30**-0.5, rel=0.1)


def test_reset_parameters_draws_anew():
    for layer in (FC(3, 3), ParallelFC(3, 3, 2)):
        before = layer.weight.clone()
        torch.nn.init.ones_(layer.bias)
        layer.reset_parameters()
        assert not layer.weight.equal(before) and not layer.bias.any()


def test_fc_works_with_deep_copies_state_dicts_and_functional_calls():
    fc = FC(3, 2)
    other = copy.deepcopy(fc)
    x = torch.randn(4, 3)
    torch.testing.assert_close(other(x), fc(x))
    torch.nn.init.zeros_(other.weight)
    assert not torch.allclose(other(x), fc(x))
    other.load_state_dict(fc.state_dict())
    torch.testing.assert_close(other(x), fc(x))
    assert sorted(fc.state_dict()) == ["_bias", "_weight"]
    params = {"_weight": torch.ones(2, 3), "_bias": torch.zeros(2)}
    torch.testing.assert_close(torch.func.functional_call(fc, params, (x,)), F.linear(x, torch.ones(2, 3)))
