"""Tests of normalizers against weighted moments computed in double precision."""

import numpy as np
import pytest
import torch

from alf.tensor_specs import TensorSpec
from alf.utils.normalizers import (
    AdaptiveNormalizer,
    EMNormalizer,
    Normalizer,
    ScalarAdaptiveNormalizer,
    ScalarEMNormalizer,
    ScalarWindowNormalizer,
    WindowNormalizer,
)


def weights_from_rates(rates):
    return np.array([rate * np.prod([1 - later for later in rates[i + 1 :]]) for i, rate in enumerate(rates)])


KINDS = {
    "em": (
        lambda spec, **kw: EMNormalizer(spec, update_rate=0.2, **kw),
        lambda n: weights_from_rates([0.2] * n),
    ),
    "adaptive": (
        lambda spec, **kw: AdaptiveNormalizer(spec, speed=3.0, **kw),
        lambda n: weights_from_rates([3 / (3 + k) for k in range(n)]),
    ),
    "window": (
        lambda spec, **kw: WindowNormalizer(spec, window_size=4, **kw),
        lambda n: np.array([0.0] * max(0, n - 4) + [1.0] * min(n, 4)),
    ),
}


def moments(data, weights):
    """Weighted mean and variance over batches [n, B, ...] of equal size."""
    data = data.astype(np.float64)
    w = (weights / weights.sum()).reshape((-1,) + (1,) * (data.ndim - 1)) / data.shape[1]
    mean = (w * data).sum(axis=(0, 1))
    return mean, (w * (data - mean) ** 2).sum(axis=(0, 1))


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_running_moments_equal_weighted_moments(kind, offset):
    make, weights = KINDS[kind]
    normalizer = make(TensorSpec((3,)))
    data = (np.random.default_rng(0).normal(size=(7, 5, 3)) * [1, 2, 3] + offset).astype(np.float32)
    for n in range(1, 8):
        got = normalizer(torch.from_numpy(data[n - 1]))
        mean, variance = moments(data[:n], weights(n))
        np.testing.assert_allclose(normalizer._variance, variance, rtol=2e-3)
        np.testing.assert_allclose(got, (data[n - 1] - mean) / np.sqrt(variance), atol=2e-3)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_leaves_of_a_nest_are_independent(kind):
    make, _ = KINDS[kind]
    spec = dict(a=TensorSpec(()), b=TensorSpec((2, 2)))
    both, alone = make(spec), make(spec["b"])
    rng = np.random.default_rng(1)
    for _ in range(3):
        b = torch.from_numpy(rng.normal(size=(4, 6, 2, 2)).astype(np.float32))
        got = both(dict(a=b[..., 0, 0] * 100, b=b))
        torch.testing.assert_close(got["b"], alone(b))
        torch.testing.assert_close(got["a"], got["b"][..., 0, 0], atol=1e-4, rtol=1e-4)


def test_without_zero_mean_the_root_mean_square_or_the_deviation_is_used():
    x = torch.tensor([3.0, 5.0])  # mean square 17, variance 1
    rms = ScalarAdaptiveNormalizer(zero_mean=False)(x)
    torch.testing.assert_close(rms, x / 17**0.5)
    torch.testing.assert_close(ScalarAdaptiveNormalizer(zero_mean=False, unit_std=True)(x), x)


@pytest.mark.parametrize("make", [ScalarWindowNormalizer, ScalarEMNormalizer, ScalarAdaptiveNormalizer])
def test_scalar_normalizers_and_their_state(make):
    one, two = make(), make()
    assert torch.equal(one.normalize(torch.tensor([5.0])), torch.tensor([5.0]))
    for x in ([1.0, 2.0, 4.0], [3.0, 3.0, 9.0]):
        one(torch.tensor(x))
    two.load_state_dict(one.state_dict())
    x = torch.tensor([1.0, -1.0])
    assert torch.equal(one(x), two(x))


def test_auto_update_off_and_clipping():
    normalizer = ScalarAdaptiveNormalizer(auto_update=False)
    normalizer.update(torch.tensor([0.0, 2.0]))
    assert normalizer(torch.tensor([11.0, 1.0])).tolist() == [10.0, 0.0]
    assert normalizer.normalize(torch.tensor([11.0, -11.0, 1.0]), clip_value=5.0).tolist() == [5.0, -5.0, 0.0]


def test_a_rate_that_begins_with_0_learns_later():
    rate = [0.0]
    normalizer = EMNormalizer(TensorSpec(()), update_rate=lambda: rate[0])
    x = torch.tensor([1.0, 3.0])
    normalizer.update(x)
    assert normalizer.normalize(x).isfinite().all()
    rate[0] = 0.5
    normalizer.update(x)
    torch.testing.assert_close(normalizer.normalize(x), torch.tensor([-1.0, 1.0]), atol=1e-3, rtol=0)


def test_gradient_flows_to_the_input_only():
    x = torch.tensor([1.0, 3.0], requires_grad=True)
    normalizer = ScalarAdaptiveNormalizer()
    normalizer(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(2))
    assert not normalizer._mean.requires_grad


def test_integers_are_taken():
    images = torch.tensor([[0, 4], [2, 8]], dtype=torch.uint8)
    got = AdaptiveNormalizer(TensorSpec((2,), torch.uint8))(images)
    torch.testing.assert_close(got, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))


def test_errors_are_told():
    with pytest.raises(NotImplementedError, match="use EMNormalizer, WindowNormalizer or AdaptiveNormalizer"):
        Normalizer(TensorSpec(()))(torch.zeros(2))
    with pytest.raises(ValueError, match=r"expected a tensor of shape \[..., 3\], got \(5, 2\)"):
        AdaptiveNormalizer(TensorSpec((3,)))(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="empty batch"):
        AdaptiveNormalizer(TensorSpec((3,))).update(torch.zeros(0, 3))
