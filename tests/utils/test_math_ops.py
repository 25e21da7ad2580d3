"""Elementary functions against closed forms, autograd's numerical gradient and round trips."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alf.utils import math_ops

_reals = st.floats(-1e4, 1e4, allow_nan=False)


def test_clipped_exp_has_no_gradient_beyond_its_limits():
    x = torch.tensor([-30.0, 0.0, 1.0, 5.0], requires_grad=True)
    y = math_ops.clipped_exp(x)
    y.sum().backward()
    assert torch.allclose(y, torch.tensor([math.exp(-20), 1.0, math.e, math.exp(2)]))
    assert torch.allclose(x.grad, torch.tensor([0.0, 1.0, math.e, 0.0]))


def test_add_ignore_empty_returns_the_one_that_is_not_empty():
    assert math_ops.add_ignore_empty((), 3) == 3
    assert math_ops.add_ignore_empty(2, ()) == 2
    assert math_ops.add_ignore_empty(2, 3) == 5
    assert math_ops.add_ignore_empty((), ()) == ()


def test_swish_is_x_times_sigmoid():
    x = torch.linspace(-4, 4, 9)
    assert torch.allclose(math_ops.swish(x), x / (1 + torch.exp(-x)))


@pytest.mark.parametrize("softness", [0.1, 1.0, 3.0])
def test_soft_clips_stay_inside_and_are_monotone(softness):
    x = torch.linspace(-9, 9, 500, dtype=torch.float64)
    low, high = -1.5, 2.0
    for y in (math_ops.softclip(x, low, high, softness), math_ops.softclip_tf(x, low, high, softness)):
        assert (y > low - 1e-8).all() and (y < high + 1e-8).all()
        assert (y.diff() > -1e-8).all()
        assert (y.diff()[(x[1:] > low) & (x[1:] < high)] > 0).all()
    assert (math_ops.softlower(x, low, softness) >= low).all()
    assert (math_ops.softupper(x, high, softness) <= high).all()


def test_softclip_is_symmetric_about_the_middle():
    x = torch.linspace(0, 5, 11)
    assert torch.allclose(math_ops.softclip(x, -1.0, 1.0), -math_ops.softclip(-x, -1.0, 1.0), atol=1e-6)


def test_soft_limits_become_hard_as_softness_goes_to_zero():
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0])
    hard = x.clamp(-1, 1)
    for soft in (math_ops.softclip, math_ops.softclip_tf):
        assert torch.allclose(soft(x, -1.0, 1.0, 1e-3), hard, atol=1e-3)


def test_softlower_matches_hand_value_at_the_hinge():
    assert math_ops.softlower(torch.tensor(2.0), 2.0, 0.5).item() == pytest.approx(2 + 0.5 * math.log(2))


def test_n_ary_operations_reduce_elementwise():
    tensors = [torch.tensor([1.0, 5.0]), torch.tensor([4.0, 2.0]), torch.tensor([3.0, 3.0])]
    assert math_ops.max_n(tensors).tolist() == [4, 5]
    assert math_ops.min_n(tensors).tolist() == [1, 2]
    assert math_ops.add_n(tensors).tolist() == [8, 10]
    assert math_ops.mul_n(tensors).tolist() == [12, 30]
    assert math_ops.square(tensors[0]).tolist() == [1, 25]


def test_weighted_reduce_mean_ignores_rows_of_weight_zero():
    x = torch.tensor([[1.0, 10.0], [3.0, 20.0], [100.0, 30.0]])
    weight = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    assert math_ops.weighted_reduce_mean(x, weight, dim=0).tolist() == [2.5, 0.0]
    assert math_ops.weighted_reduce_mean(x, weight).item() == 2.5


def test_sum_to_leftmost_keeps_leading_dimensions():
    x = torch.arange(24.0).view(2, 3, 4)
    assert torch.equal(math_ops.sum_to_leftmost(x, 1), torch.tensor([66.0, 210.0]))
    assert math_ops.sum_to_leftmost(x, 2).shape == (2, 3)
    assert math_ops.sum_to_leftmost(x, 3) is x


def test_argmin_takes_the_first_of_equal_elements():
    assert math_ops.argmin(torch.tensor([[2, 1, 1], [0, 0, 3]])).tolist() == [1, 0]


def test_shuffle_keeps_rows_of_a_nest_together():
    values = {"a": torch.arange(50), "b": (torch.arange(50) * 2).unsqueeze(-1)}
    shuffled = math_ops.shuffle(values)
    assert not torch.equal(shuffled["a"], values["a"])
    assert torch.equal(shuffled["a"].sort().values, values["a"])
    assert torch.equal(shuffled["a"] * 2, shuffled["b"].squeeze(-1))


def test_shuffle_refuses_tensors_of_different_length():
    with pytest.raises(ValueError, match=r"as many rows, got \[2, 3\]"):
        math_ops.shuffle([torch.zeros(2), torch.zeros(3)])


def test_normalize_min_max_maps_to_the_unit_interval():
    assert math_ops.normalize_min_max(torch.tensor([2.0, 4.0, 6.0])).tolist() == [0.0, 0.5, 1.0]
    assert math_ops.normalize_min_max(torch.full((3,), 7.0)).tolist() == [0.0, 0.0, 0.0]


def test_binary_neg_entropy_is_zero_at_the_ends_and_least_in_the_middle():
    y = math_ops.binary_neg_entropy(torch.tensor([0.0, 0.5, 1.0, 0.25]))
    expected = [0, -math.log(2), 0, 0.25 * math.log(0.25) + 0.75 * math.log(0.75)]
    assert y.tolist() == pytest.approx(expected, abs=1e-6)


def test_softsign_gradients_are_right():
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(math_ops.softsign, x)
    assert torch.autograd.gradcheck(lambda t: math_ops.softsign_(t.clone()), x)
    assert torch.allclose(math_ops.softsign(x), torch.nn.functional.softsign(x))


def test_softsign_in_place_overwrites_its_input():
    x = torch.tensor([-3.0, 1.0])
    y = math_ops.softsign_(x)
    assert y.data_ptr() == x.data_ptr()
    assert x.tolist() == [-0.75, 0.5]


_transforms = [math_ops.SqrtLinearTransform(), math_ops.Sqrt1pTransform(), math_ops.Log1pTransform()]


@pytest.mark.parametrize("transform", _transforms, ids=lambda t: type(t).__name__)
@settings(max_examples=50, deadline=None)
@given(x=_reals)
def test_invertible_transforms_round_trip(transform, x):
    x = torch.tensor(x, dtype=torch.float64)
    back = transform.inverse_transform(transform.transform(x))
    assert back.item() == pytest.approx(x.item(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("transform", _transforms, ids=lambda t: type(t).__name__)
def test_invertible_transforms_are_odd_and_increasing(transform):
    x = torch.linspace(0, 100, 50, dtype=torch.float64)
    y = transform.transform(x)
    assert (y.diff() > 0).all()
    assert torch.allclose(transform.transform(-x), -y)


def test_transforms_match_their_formulas():
    x = torch.tensor([-8.0, 3.0])
    assert torch.allclose(math_ops.Sqrt1pTransform().transform(x), torch.tensor([-2.0, 1.0]))
    assert torch.allclose(math_ops.SqrtLinearTransform(0.1).transform(x), torch.tensor([-2.8, 1.3]))
    expected = 20 * torch.tensor([-math.log(9), math.log(4)])
    assert torch.allclose(math_ops.Log1pTransform().transform(x), expected)


def test_inverse_transform_keeps_precision_near_zero_in_float32():
    y = torch.tensor([1e-5])
    for transform in _transforms:
        assert transform.transform(transform.inverse_transform(y)).item() == pytest.approx(1e-5, rel=1e-4)


def test_transforms_refuse_bad_arguments():
    with pytest.raises(ValueError, match="SqrtLinearTransform.eps: expected > 0, got 0"):
        math_ops.SqrtLinearTransform(eps=0)
    with pytest.raises(ValueError, match="Log1pTransform.alpha"):
        math_ops.Log1pTransform(alpha=-1)
