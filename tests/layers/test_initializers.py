import functools
import math

import pytest
import torch

from alf.initializers import variance_scaling_init


def test_default_std_is_one_over_root_of_fan_in():
    torch.manual_seed(0)
    w = variance_scaling_init(torch.empty(500, 100))
    assert w.std().item() == pytest.approx(0.1, rel=0.02)
    assert w.abs().max().item() <= 2 * 0.1 / 0.8796 + 1e-6


@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
def test_all_distributions_have_the_same_variance(distribution):
    torch.manual_seed(0)
    w = variance_scaling_init(torch.empty(400, 400), gain=3.0, distribution=distribution)
    assert w.std().item() == pytest.approx(3.0 / 20, rel=0.02)


@pytest.mark.parametrize("mode, fan", [("fan_in", 18), ("fan_out", 900), ("fan_avg", 459)])
def test_fans_of_a_convolution_count_the_kernel(mode, fan):
    torch.manual_seed(0)
    w = variance_scaling_init(torch.empty(100, 2, 3, 3), mode=mode)
    assert w.std().item() == pytest.approx(fan**-0.5, rel=0.08)


def test_transposed_swaps_the_fans():
    torch.manual_seed(0)
    w = variance_scaling_init(torch.empty(100, 4, 3, 3), transposed=True)
    assert w.std().item() == pytest.approx(900**-0.5, rel=0.05)


@pytest.mark.parametrize(
    "activation, gain",
    [
        (torch.relu, math.sqrt(2)),
        (torch.relu_, math.sqrt(2)),
        (torch.nn.LeakyReLU(0.5), math.sqrt(2 / 1.25)),
        (functools.partial(torch.mul, other=4.0), 0.25),
    ],
)
def test_gain_after_activation_is_that_of_the_closed_form(activation, gain):
    def draw(**kwargs):
        torch.manual_seed(0)
        return variance_scaling_init(torch.empty(50, 50), **kwargs)

    plain = draw(calc_gain_after_activation=False, nonlinearity=activation)
    torch.testing.assert_close(draw(nonlinearity=activation), plain * gain, rtol=1e-4, atol=1e-6)


def test_activations_keep_their_second_moment_through_a_deep_relu_network():
    torch.manual_seed(0)
    x = torch.randn(256, 512)
    for _ in range(5):
        x = torch.relu(x @ variance_scaling_init(torch.empty(512, 512), nonlinearity=torch.relu).t())
    assert (x**2).mean().item() == pytest.approx(1.0, abs=0.25)


def test_measuring_the_gain_draws_no_random_number():
    torch.manual_seed(0)
    a = variance_scaling_init(torch.empty(4, 4), distribution="uniform")
    torch.manual_seed(0)
    b = variance_scaling_init(torch.empty(4, 4), distribution="uniform", nonlinearity=lambda x: 2 * x)
    torch.testing.assert_close(a, 2 * b)


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="mode: expected one of .*'fan_in'.* got 'fan'"):
        variance_scaling_init(torch.empty(2, 2), mode="fan")
    with pytest.raises(ValueError, match="distribution: expected .* got 'normall'"):
        variance_scaling_init(torch.empty(2, 2), distribution="normall")
    with pytest.raises(ValueError, match="2 or more dimensions, got shape \\(3,\\)"):
        variance_scaling_init(torch.empty(3))


def test_an_activation_that_is_zero_has_no_gain():
    with pytest.raises(ValueError, match="calc_gain_after_activation=False"):
        variance_scaling_init(torch.empty(2, 2), nonlinearity=torch.zeros_like)
