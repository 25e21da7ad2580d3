"""Tests of losses against numbers by hand and naive loops."""

import math

import numpy as np
import pytest
import torch

from alf.utils import losses
from alf.utils.math_ops import Sqrt1pTransform


def test_element_wise_losses_by_hand():
    x, y = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([0.5, -1.0, 3.0])
    assert losses.element_wise_huber_loss(x, y).tolist() == [0.125, 0.5, 2.5]
    assert losses.element_wise_squared_loss(x, y).tolist() == [0.25, 1.0, 9.0]
    assert losses.huber_function(y, delta=2.0).tolist() == [0.125, 0.5, 4.0]
    with pytest.raises(ValueError, match=r"got \(3, 1\) and \(3,\)"):
        losses.element_wise_squared_loss(x, y.unsqueeze(-1))


def huber(u, delta):
    return u * u / 2 if abs(u) <= delta else delta * (abs(u) - delta / 2)


@pytest.mark.parametrize("delta", [0.0, 0.1, 1.0])
def test_multi_quantile_huber_loss_equals_naive_loop(delta):
    rng = np.random.default_rng(0)
    quantiles, target = rng.normal(size=(2, 5)), rng.normal(size=(2, 3))
    expected = np.zeros(2)
    for b in range(2):
        for i in range(5):
            for j in range(3):
                u = target[b, j] - quantiles[b, i]
                value = abs(u) if delta == 0 else huber(u, delta) / delta
                expected[b] += abs((i + 0.5) / 5 - (u < 0)) * value / 15
    got = losses.multi_quantile_huber_loss(torch.from_numpy(quantiles), torch.from_numpy(target), delta)
    np.testing.assert_allclose(got, expected)
    single = losses.multi_quantile_huber_loss(
        torch.from_numpy(quantiles), torch.from_numpy(target[:, 0]), delta
    )
    same = losses.multi_quantile_huber_loss(
        torch.from_numpy(quantiles), torch.from_numpy(target[:, :1]), delta
    )
    assert torch.equal(single, same)


def test_quantile_regression_finds_the_quantiles():
    data = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, size=(1, 4000)))
    quantiles = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([quantiles], lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        losses.multi_quantile_huber_loss(quantiles, data, 0.0).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(
        quantiles.detach()[0], np.quantile(data, [0.125, 0.375, 0.625, 0.875]), atol=0.02
    )


@pytest.mark.parametrize("weights", ["none", "next_delta_tau"])
@pytest.mark.parametrize("fractions", ["none", "tau_hat", "fixed_tau"])
@pytest.mark.parametrize("is_sum", [True, False])
def test_iqn_huber_loss_equals_naive_loop(weights, fractions, is_sum):
    rng = np.random.default_rng(1)
    value, target = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    w = np.full((2, 4), 0.25) if weights == "none" else rng.dirichlet(np.ones(4), size=2)
    tau = np.tile((np.arange(3) + 0.5) / 3, (2, 1))
    kwargs = {} if weights == "none" else dict(next_delta_tau=torch.from_numpy(w))
    if fractions == "tau_hat":
        tau = rng.uniform(size=(2, 3))
        kwargs["tau_hat"] = torch.from_numpy(tau)
    elif fractions == "fixed_tau":
        tau = np.tile([0.1, 0.4, 0.7], (2, 1))
        kwargs["fixed_tau"] = torch.from_numpy(tau[0])
    expected = np.zeros(2)
    for b in range(2):
        for i in range(3):
            for j in range(4):
                u = target[b, j] - value[b, i]
                expected[b] += w[b, j] * abs(tau[b, i] - (u < 0)) * huber(u, 1.0) / (1 if is_sum else 3)
    got = losses.iqn_huber_loss(
        torch.from_numpy(value), torch.from_numpy(target), sum_over_quantiles=is_sum, **kwargs
    )
    np.testing.assert_allclose(got, expected)


def test_discrete_regression_loss_by_hand():
    loss = losses.DiscreteRegressionLoss()
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]]))  # bins -2 .. 2
    expected = -(0.75 * math.log(0.3) + 0.25 * math.log(0.25))
    torch.testing.assert_close(loss(logits, torch.tensor([0.25])), torch.tensor([expected]))
    torch.testing.assert_close(loss(logits, torch.tensor([2.0])), torch.tensor([-math.log(0.15)]))
    torch.testing.assert_close(loss(logits, torch.tensor([9.0])), torch.tensor([-math.log(0.15)]))
    torch.testing.assert_close(loss(logits, torch.tensor([-9.0])), torch.tensor([-math.log(0.1)]))
    torch.testing.assert_close(loss.calc_expectation(logits), torch.tensor([-0.2 - 0.2 + 0.25 + 0.3]))


def test_ordered_discrete_regression_loss_by_hand():
    loss = losses.OrderedDiscreteRegressionLoss()
    p = torch.tensor([[0.9, 0.8, 0.6, 0.3, 0.1]])  # P(at least -2 .. 2)
    logits = torch.logit(p)
    torch.testing.assert_close(loss.calc_expectation(logits), torch.tensor([-2 + 0.8 + 0.6 + 0.3 + 0.1]))
    labels = [1, 1, 1, 0.25, 0]  # target 0.25
    expected = -sum(y * math.log(q) + (1 - y) * math.log(1 - q) for y, q in zip(labels, p[0].tolist()))
    torch.testing.assert_close(loss(logits, torch.tensor([0.25])), torch.tensor([expected]))


@pytest.mark.parametrize("cls", [losses.DiscreteRegressionLoss, losses.OrderedDiscreteRegressionLoss])
@pytest.mark.parametrize("inverse_after_mean", [True, False])
@pytest.mark.parametrize("transform", [None, Sqrt1pTransform()])
def test_minimum_of_the_loss_is_the_target(cls, inverse_after_mean, transform):
    loss = cls(transform, inverse_after_mean)
    logits = torch.zeros(1, 11, requires_grad=True)
    target = torch.tensor([3.0 if transform is None else 8.0])  # on a bin: sqrt(1 + 8) - 1 = 2
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        loss(logits, target).sum().backward()
        optimizer.step()
    torch.testing.assert_close(loss.calc_expectation(logits.detach()), target, atol=0.1, rtol=0)


@pytest.mark.parametrize("cls", [losses.DiscreteRegressionLoss, losses.OrderedDiscreteRegressionLoss])
def test_initial_bias_predicts_zero(cls):
    bias = torch.full((21,), 7.0)
    loss = cls(Sqrt1pTransform())
    loss.initialize_bias(bias)
    assert abs(loss.calc_expectation(bias.unsqueeze(0)).item()) < 1e-5


def test_quantile_and_square_loss_expectations():
    transform = Sqrt1pTransform()
    quantiles = torch.tensor([[1.0, 3.0]])
    assert losses.QuantileRegressionLoss().calc_expectation(quantiles).item() == 2.0
    after = losses.QuantileRegressionLoss(transform, inverse_after_mean=True).calc_expectation(quantiles)
    torch.testing.assert_close(after, transform.inverse_transform(torch.tensor([2.0])))
    before = losses.QuantileRegressionLoss(transform).calc_expectation(quantiles)
    torch.testing.assert_close(before, transform.inverse_transform(quantiles).mean(dim=-1))
    square = losses.SquareLoss(transform)
    target = torch.tensor([8.0])
    torch.testing.assert_close(square(torch.tensor([1.0]), target), (1 - transform.transform(target)) ** 2)
    torch.testing.assert_close(square.calc_expectation(transform.transform(target)), target)


def test_mean_squared_loss_keeps_batch_dimensions():
    pred, target = torch.zeros(2, 3, 4), torch.arange(24.0).view(2, 3, 4)
    torch.testing.assert_close(
        losses.MeanSquaredLoss(batch_dims=2)(pred, target), target.square().mean(dim=2)
    )
    torch.testing.assert_close(losses.MeanSquaredLoss()(pred, target), target.square().mean(dim=(1, 2)))
    torch.testing.assert_close(losses.MeanSquaredLoss()(pred[:, 0, 0], target[:, 0, 0]), target[:, 0, 0] ** 2)
