"""Transforms: round trips, log slopes against autograd, and behaviour at the edges of their range."""

import math
import pickle

import pytest
import torch
import torch.distributions as td

from alf.utils import dist_utils, math_ops
from alf.utils.dist_utils import (
    AffineTransform,
    Softclip,
    SoftclipTF,
    Softlower,
    Softplus,
    Softsign,
    Softupper,
    StableTanh,
    get_invertible,
    get_transform_builder,
)

_transforms = [
    AffineTransform(loc=1.0, scale=-2.0),
    AffineTransform(loc=torch.tensor([1.0]).double(), scale=torch.tensor([0.5]).double()),
    Softplus(0.5),
    Softclip(-1.0, 2.0, 0.3),
    Softsign(),
    StableTanh(),
    Softlower(-0.5),
    Softupper(0.5),
    SoftclipTF(-1.0, 2.0, 0.7),
]
_ids = ["affine", "affine_tensor", "softplus", "softclip", "softsign", "tanh", "softlower", "softupper", "softclip_tf"]


@pytest.mark.parametrize("transform", _transforms, ids=_ids)
def test_inverse_undoes_the_transform_without_cache(transform):
    x = torch.linspace(-2, 3, 21, dtype=torch.float64)
    y = transform(x)
    assert torch.allclose(transform.inv(y.clone()), x, atol=1e-7)


@pytest.mark.parametrize("transform", _transforms, ids=_ids)
def test_log_slope_is_that_of_autograd(transform):
    x = torch.linspace(-2, 3, 21, dtype=torch.float64, requires_grad=True)
    y = transform(x)
    (slope,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    log_slope = transform.log_abs_det_jacobian(x, y)
    log_slope = log_slope if isinstance(log_slope, torch.Tensor) else torch.tensor(log_slope)
    assert torch.allclose(log_slope.expand_as(x), slope.abs().log(), atol=1e-7)


@pytest.mark.parametrize("transform", _transforms[:6], ids=_ids[:6])
def test_fresh_output_is_inverted_to_the_very_input(transform):
    x = torch.linspace(-5, 5, 5)
    assert transform.inv(transform(x)) is x


@pytest.mark.parametrize("transform", _transforms[:6], ids=_ids[:6])
def test_builder_makes_an_equal_transform_and_can_be_pickled(transform):
    rebuilt = pickle.loads(pickle.dumps(get_transform_builder(transform)))()
    assert type(rebuilt) is type(transform) and rebuilt is not transform
    x = torch.linspace(-2, 2, 5)
    assert torch.equal(rebuilt(x), transform(x))
    assert rebuilt == transform


def test_transforms_compute_the_functions_of_math_ops():
    x = torch.linspace(-4, 4, 17, dtype=torch.float64)
    pairs = [
        (Softclip(-1.0, 2.0, 0.3), math_ops.softclip(x, -1.0, 2.0, 0.3)),
        (SoftclipTF(-1.0, 2.0, 0.7), math_ops.softclip_tf(x, -1.0, 2.0, 0.7)),
        (Softlower(-0.5, 2.0), math_ops.softlower(x, -0.5, 2.0)),
        (Softupper(0.5, 2.0), math_ops.softupper(x, 0.5, 2.0)),
    ]
    for transform, expected in pairs:
        assert torch.allclose(transform(x), expected, atol=1e-8)


def test_stable_tanh_is_finite_where_tanh_is_rounded_to_one():
    transform = StableTanh()
    x = transform.inv(torch.tensor([-1.0, 1.0]))
    assert torch.isfinite(x).all() and (x.abs() > 8).all()
    far = torch.tensor([-50.0, 50.0], requires_grad=True)
    log_slope = transform.log_abs_det_jacobian(far, torch.tanh(far))
    assert torch.allclose(log_slope, torch.tensor(2 * math.log(2) - 100.0))
    log_slope.sum().backward()
    assert torch.allclose(far.grad, torch.tensor([2.0, -2.0]))


@pytest.mark.parametrize("transform", _transforms[2:6], ids=_ids[2:6])
def test_inverse_is_finite_at_the_ends_of_the_range(transform):
    x = torch.tensor([-200.0, 200.0])
    y = transform(x).clone()
    assert torch.isfinite(transform.inv(y)).all()


def test_get_invertible_remembers_the_input():
    exp = get_invertible(td.ExpTransform)()
    x = torch.tensor([-200.0])
    assert exp.inv(exp(x)) is x
    assert exp.with_cache(1) is exp


def test_transforms_refuse_bad_arguments():
    with pytest.raises(ValueError, match="expected low < high, got low=2.0, high=1.0"):
        Softclip(2.0, 1.0)
    with pytest.raises(ValueError, match="expected low < high"):
        SoftclipTF(1.0, 1.0)
    with pytest.raises(ValueError, match="Softplus.hinge_softness: expected > 0, got 0"):
        Softplus(0)


def test_unknown_transform_cannot_be_rebuilt_and_says_what_to_do():
    class Odd(td.Transform):
        pass

    with pytest.raises(ValueError, match=r"transform Odd again. Give the class a method get_builder"):
        dist_utils.get_transform_builder(Odd())
