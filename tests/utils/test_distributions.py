"""Truncated distributions against numerical integration and SciPy-free closed forms."""

import math

import pytest
import torch
import torch.distributions as td

from alf.utils.distributions import T2ITS, CauchyITS, NormalITS, TruncatedCauchy, TruncatedNormal, TruncatedT2

_all = [TruncatedNormal, TruncatedCauchy, TruncatedT2]
_its = [(NormalITS(), td.Normal(0.0, 1.0)), (CauchyITS(), td.Cauchy(0.0, 1.0)), (T2ITS(), td.StudentT(2.0))]


@pytest.mark.parametrize("its,reference", _its, ids=lambda x: type(x).__name__)
def test_standard_distributions_match_torch(its, reference):
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    assert torch.allclose(its.log_prob(x), reference.log_prob(x), atol=1e-6)
    assert torch.allclose(its.icdf(its.cdf(x)), x, atol=1e-9)
    if not isinstance(reference, td.StudentT):
        assert torch.allclose(its.cdf(x), reference.cdf(x), atol=1e-6)


@pytest.mark.parametrize("its", [NormalITS(), CauchyITS(), T2ITS()], ids=lambda x: type(x).__name__)
def test_cdf_slope_is_the_density(its):
    x = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(its.cdf(x).sum(), x)
    assert torch.allclose(slope, its.log_prob(x).exp(), atol=1e-9)


def test_t2_cdf_keeps_relative_precision_in_the_lower_tail():
    # P(X < -x) = 1 / (2 x^2) + O(x^-4).
    assert T2ITS().cdf(torch.tensor(-1e4)).item() == pytest.approx(0.5e-8, rel=1e-5)
    assert CauchyITS().cdf(torch.tensor(-1e6)).item() == pytest.approx(1e-6 / math.pi, rel=1e-5)


def test_normal_cdf_keeps_relative_precision_in_the_lower_tail():
    assert NormalITS().cdf(torch.tensor(-8.0)).item() == pytest.approx(6.22096e-16, rel=1e-4)


@pytest.mark.parametrize("cls", _all)
@pytest.mark.parametrize("loc", [-3.0, 0.0, 0.7, 5.0])
def test_density_integrates_to_one_between_the_bounds(cls, loc):
    low, high = -1.0, 2.0
    dist = cls(
        torch.full((1, 1), loc, dtype=torch.float64),
        torch.full((1, 1), 0.8, dtype=torch.float64),
        torch.tensor([low], dtype=torch.float64),
        torch.tensor([high], dtype=torch.float64),
    )
    x = torch.linspace(low, high, 20001, dtype=torch.float64)
    density = dist.log_prob(x.view(-1, 1)).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("cls", _all)
def test_samples_stay_inside_and_have_the_moments_of_the_density(cls):
    torch.manual_seed(0)
    low, high = -1.0, 2.0
    dist = cls(torch.tensor([[0.5]]), torch.tensor([[1.0]]), torch.tensor([low]), torch.tensor([high]))
    x = torch.linspace(low, high, 20001)
    mean = torch.trapezoid(x * dist.log_prob(x.view(-1, 1)).exp(), x).item()
    samples = dist.sample((20000,))
    assert samples.shape == (20000, 1, 1)
    assert samples.min() >= low and samples.max() <= high
    assert samples.mean().item() == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("cls", _all)
@pytest.mark.parametrize("loc,scale", [(0.0, 1e-3), (0.0, 1e3), (30.0, 1.0), (-30.0, 1.0)])
def test_extreme_parameters_give_finite_samples_and_gradients(cls, loc, scale):
    torch.manual_seed(0)
    loc = torch.full((64, 2), loc, requires_grad=True)
    scale = torch.full((64, 2), scale, requires_grad=True)
    dist = cls(loc, scale, torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 2.0]))
    sample = dist.rsample()
    log_prob = dist.log_prob(sample)
    (sample.sum() + log_prob.sum()).backward()
    for tensor in (sample, log_prob, loc.grad, scale.grad):
        assert torch.isfinite(tensor).all()


def test_log_prob_sums_over_the_components():
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
    loc, scale = torch.tensor([[0.1, 0.2]]), torch.tensor([[0.5, 1.5]])
    value = torch.tensor([[0.3, -0.4]])
    both = TruncatedNormal(loc, scale, low, high).log_prob(value)
    each = [
        TruncatedNormal(loc[:, i : i + 1], scale[:, i : i + 1], low[i : i + 1], high[i : i + 1]).log_prob(
            value[:, i : i + 1]
        )
        for i in range(2)
    ]
    assert both.shape == (1,)
    assert torch.allclose(both, each[0] + each[1])


def test_mode_is_the_location_moved_inside():
    dist = TruncatedNormal(torch.tensor([[-3.0, 0.5]]), torch.ones(1, 2), torch.tensor([-1.0, -1.0]), torch.ones(2))
    assert dist.mode.tolist() == [[-1.0, 0.5]]


def test_expand_keeps_the_distribution():
    dist = TruncatedCauchy(torch.tensor([0.2]), torch.tensor([0.5]), torch.tensor([-1.0]), torch.tensor([1.0]))
    wide = dist.expand((4,))
    assert type(wide) is TruncatedCauchy and wide.batch_shape == (4,)
    assert torch.allclose(wide.log_prob(torch.full((4, 1), 0.3)), dist.log_prob(torch.tensor([0.3])).expand(4))
