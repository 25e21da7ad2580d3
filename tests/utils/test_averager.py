"""Tests of averagers against explicit weights."""

import numpy as np
import pytest
import torch

from alf.tensor_specs import TensorSpec
from alf.utils.averager import (
    AdaptiveAverager,
    EMAverager,
    ScalarAdaptiveAverager,
    ScalarEMAverager,
    ScalarWindowAverager,
    WindowAverager,
    average_outer_dims,
)


def batches(num, shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, size=(num,) + shape).astype(np.float32)


def test_average_outer_dims():
    x = torch.arange(24.0).view(2, 3, 4)
    torch.testing.assert_close(
        average_outer_dims(x, TensorSpec((4,))), torch.tensor([10.0, 11.0, 12.0, 13.0])
    )
    assert average_outer_dims(x, TensorSpec((2, 3, 4))) is x
    assert average_outer_dims(torch.tensor([1, 2]), TensorSpec((), torch.int64)).item() == 1.5
    with pytest.raises(ValueError, match=r"Expected a tensor of shape \[..., 3\], got \(2, 3, 4\)"):
        average_outer_dims(x, TensorSpec((3,)))


def test_window_averager_keeps_the_last_updates():
    averager = WindowAverager(TensorSpec((2,)), window_size=3)
    assert averager.get().tolist() == [0, 0]
    data = batches(7, (5, 2))
    for n in range(7):
        got = averager.average(torch.from_numpy(data[n]))
        np.testing.assert_allclose(got, data[max(0, n - 2) : n + 1].mean(axis=(0, 1)), rtol=1e-5)


def weighted_mean(data, rates):
    """Mean with weights rate_i * prod_{j>i} (1 - rate_j)."""
    weights = [rate * np.prod([1 - later for later in rates[i + 1 :]]) for i, rate in enumerate(rates)]
    return sum(w * d for w, d in zip(weights, data)) / sum(weights)


def test_em_averager_has_no_bias_at_the_start():
    averager = EMAverager(dict(a=TensorSpec(()), b=TensorSpec((3,))), update_rate=0.1)
    data = batches(6, (4, 3))
    for n in range(6):
        averager.update(dict(a=torch.from_numpy(data[n, :, 0]), b=torch.from_numpy(data[n])))
        expected = weighted_mean(data[: n + 1].mean(axis=1), [0.1] * (n + 1))
        np.testing.assert_allclose(averager.get()["b"], expected, rtol=1e-5)
        np.testing.assert_allclose(averager.get()["a"], expected[0], rtol=1e-5)


def test_adaptive_averager_slows_down():
    averager = AdaptiveAverager(TensorSpec((3,)), speed=4.0)
    data = batches(9, (4, 3))
    for n in range(9):
        got = averager.average(torch.from_numpy(data[n]))
        expected = weighted_mean(data[: n + 1].mean(axis=1), [4 / (4 + k) for k in range(n + 1)])
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_rate_may_be_a_scheduler():
    rates = [0.5, 0.25]
    averager = ScalarEMAverager(lambda: rates.pop(0))
    averager.update(torch.tensor(2.0))
    averager.update(torch.tensor(6.0))
    assert averager.get().item() == pytest.approx((2 * 0.5 * 0.75 + 6 * 0.25) / (0.5 * 0.75 + 0.25))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScalarWindowAverager(4),
        lambda: ScalarEMAverager(0.1),
        lambda: ScalarAdaptiveAverager(),
        lambda: ScalarWindowAverager(2, dtype=torch.int64),
    ],
)
def test_state_is_restored_and_average_has_no_gradient(make):
    one, two = make(), make()
    for value in (1.0, 2.0, 5.0):
        one.update(torch.full((3,), value, requires_grad=True))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.get(), two.get()) and not one.get().requires_grad
    assert torch.equal(one.average(torch.tensor(7.0)), two.average(torch.tensor(7.0)))


def test_wrong_number_of_leaves_is_told():
    with pytest.raises(ValueError, match="EMAverager: expected a nest of 2 tensors"):
        EMAverager([TensorSpec(()), TensorSpec(())], 0.1).update(torch.zeros(3))
