"""Samplers: their frequencies, and noise that lasts."""

import pytest
import torch

from alf.utils.action_samplers import CategoricalSeedSampler, EpsilonGreedySampler, MultinomialSampler

_N = 20000
_weights = torch.tensor([2.0, 0.0, 5.0, 3.0])


def _frequencies(actions):
    return torch.bincount(actions, minlength=4) / actions.numel()


def test_multinomial_sampler_has_the_given_frequencies():
    torch.manual_seed(0)
    freq = _frequencies(MultinomialSampler()(_weights.expand(_N, 4)))
    assert torch.allclose(freq, _weights / 10, atol=0.015)
    assert freq[1] == 0


def test_epsilon_greedy_sampler_mixes_mode_and_samples():
    torch.manual_seed(0)
    freq = _frequencies(EpsilonGreedySampler(0.4)(_weights.expand(_N, 4)))
    expected = 0.4 * _weights / 10 + 0.6 * torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert torch.allclose(freq, expected, atol=0.015)
    assert (EpsilonGreedySampler(0.0)(_weights.expand(50, 4)) == 2).all()


@pytest.mark.parametrize("concentration", [1, 2])
def test_seed_sampler_has_the_given_frequencies_at_each_step(concentration):
    torch.manual_seed(0)
    sampler = CategoricalSeedSampler(4, concentration=concentration)
    actions, _ = sampler(_weights.expand(_N, 4), torch.zeros(_N, 4))
    expected = _weights**concentration
    assert torch.allclose(_frequencies(actions), expected / expected.sum(), atol=0.015)


def test_seed_sampler_repeats_actions_while_the_noise_lasts():
    torch.manual_seed(0)
    sampler = CategoricalSeedSampler(4, new_noise_prob=0.0)
    weights = _weights.expand(100, 4)
    first, state = sampler(weights, torch.zeros(100, *sampler.state_spec.shape))
    again, same_state = sampler(weights, state)
    assert torch.equal(first, again) and torch.equal(state, same_state)


def test_seed_sampler_renews_noise_at_the_given_rate():
    torch.manual_seed(0)
    sampler = CategoricalSeedSampler(4, new_noise_prob=0.3)
    _, state = sampler(_weights.expand(_N, 4), torch.zeros(_N, 4))
    _, new_state = sampler(_weights.expand(_N, 4), state)
    assert (state != new_state).any(-1).float().mean().item() == pytest.approx(0.3, abs=0.015)


def test_samplers_refuse_bad_probabilities():
    with pytest.raises(ValueError, match="EpsilonGreedySampler.epsilon_greedy: expected 0..1, got 1.5"):
        EpsilonGreedySampler(1.5)
    with pytest.raises(ValueError, match="new_noise_prob"):
        CategoricalSeedSampler(3, new_noise_prob=-0.1)
    with pytest.raises(ValueError, match="concentration"):
        CategoricalSeedSampler(3, concentration=0)
