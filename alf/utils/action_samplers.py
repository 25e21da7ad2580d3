"""Samplers that turn a batch of action probabilities into actions."""

from typing import Tuple

import torch
from torch import Tensor, nn

from alf.config_util import configurable
from alf.tensor_specs import TensorSpec


def _race(probs: Tensor, log_uniform: Tensor) -> Tensor:
    """Return `argmax_i p_i / E_i` with `E_i = -log u_i` ~ Exp(1), whose law is `probs` normalised."""
    return (probs / log_uniform).argmin(-1)


class _CategoricalSeedSamplerBase(nn.Module):
    """Base of the samplers whose noise is a state that lasts for many steps.

    Args:
        num_classes: number of actions, N.
        new_noise_prob: probability, each step and row, that the noise is drawn anew.
    """

    def __init__(self, num_classes: int, new_noise_prob: float):
        super().__init__()
        if not 0 <= new_noise_prob <= 1:
            raise ValueError(f"{type(self).__name__}.new_noise_prob: expected 0..1, got {new_noise_prob}.")
        self._new_noise_prob = new_noise_prob
        self._state_spec = TensorSpec((num_classes,))

    @property
    def state_spec(self) -> TensorSpec:
        """Spec of the noise, `[N]`; a zero state means that there is none yet."""
        return self._state_spec

    def _next_noise(self, state: Tensor) -> Tensor:
        """Return the noise `[B, N]` of this step: logarithms of uniform numbers, all < 0."""
        fresh = torch.rand_like(state).log_()
        renew = torch.rand(state.shape[:1], device=state.device) < self._new_noise_prob
        return torch.where((renew | (state == 0).all(-1)).unsqueeze(-1), fresh, state)


@configurable
class CategoricalSeedSampler(_CategoricalSeedSamplerBase):
    """Samples actions with noise that is kept over time, so that exploration is consistent from step to step.

    The action is `argmax_i p_i^c / E_i` with exponential noise E that is drawn anew only now and then. At
    any single step its law is `p^c` normalised; as long as the noise stays, equal probabilities give equal
    actions.

    Args:
        num_classes: number of actions, N.
        new_noise_prob: probability, each step and row, that the noise is drawn anew.
        concentration: the exponent c; larger is greedier.
    """

    def __init__(self, num_classes: int, new_noise_prob: float = 0.01, concentration: float = 1):
        super().__init__(num_classes, new_noise_prob)
        if not concentration > 0:
            raise ValueError(f"CategoricalSeedSampler.concentration: expected > 0, got {concentration}.")
        self._concentration = concentration

    def forward(self, input: Tensor, state: Tensor) -> Tuple[Tensor, Tensor]:
        """Return actions and the noise to keep.

        Args:
            input: non-negative weights `[B, N]`.
            state: noise of the last step `[B, N]`, zeros at first.

        Returns:
            Actions `[B]`, int64, and the state `[B, N]`.
        """
        state = self._next_noise(state)
        return _race(
            input / input.amax(-1, keepdim=True)
            if self._concentration == 1
            else (input / input.amax(-1, keepdim=True)) ** self._concentration,
            state,
        ), state


class EpsilonGreedySampler(nn.Module):
    """Samples from the weights with probability epsilon, takes the largest otherwise.

    Args:
        epsilon_greedy: probability to sample, in [0, 1].
    """

    def __init__(self, epsilon_greedy: float = 0.1):
        super().__init__()
        if not 0 <= epsilon_greedy <= 1:
            raise ValueError(f"EpsilonGreedySampler.epsilon_greedy: expected 0..1, got {epsilon_greedy}.")
        self._epsilon_greedy = epsilon_greedy

    def forward(self, input: Tensor) -> Tensor:
        """Return actions `[B]`, int64.

        Args:
            input: non-negative weights `[B, N]`.
        """
        greedy = input.argmax(-1)
        sampled = _race(input, torch.rand_like(input).log_())
        return torch.where(torch.rand(greedy.shape, device=input.device) < self._epsilon_greedy, sampled, greedy)


class MultinomialSampler(nn.Module):
    """Samples actions with probabilities proportional to the weights."""

    def forward(self, input: Tensor) -> Tensor:
        """Return actions `[B]`, int64.

        Args:
            input: non-negative weights `[B, N]`.
        """
        return _race(input, torch.rand_like(input).log_())
