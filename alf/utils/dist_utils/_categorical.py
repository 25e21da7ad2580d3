"""Categorical distributions that cost little to make, sample and evaluate; one-hot ones with gradients."""

from typing import Optional

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor

from alf.config_util import configurable
from alf.utils.dist_utils._lean import _EMPTY, LeanDistribution, may_cache

# Numbers up to which the overhead of a call counts for more than its loop.
_FEW = 256


def _log_softmax(logits: Tensor) -> Tensor:
    """Return `log_softmax(logits, -1)`.

    PyTorch's CPU kernel vectorises along the reduced dimension and falls back to scalar code for rows
    shorter than 16; for many such rows the reduction over the leading dimension of the transposed tensor is
    several times faster. With gradients the transposes cost extra graph nodes, so the break-even is later
    (measured, one thread).
    """
    if logits.ndim == 2 and 2 < logits.shape[1] < 16 and logits.is_cpu:
        recorded = logits.requires_grad and torch.is_grad_enabled()
        if logits.numel() >= (1500 if recorded else _FEW):
            return torch.log_softmax(logits.t(), 0).t()
    return torch.log_softmax(logits, -1)


class Categorical(LeanDistribution, td.Categorical):
    """A distribution over `{0, ..., K - 1}`; drop-in for `torch.distributions.Categorical` without its
    checks.

    Logits of `-inf` mask a category out: it is never sampled, and neither the entropy nor its gradient
    becomes NaN.

    Args:
        probs: non-negative weights `[..., K]`, need not sum to 1.
        logits: unnormalised log probabilities `[..., K]`. Exactly one of the two.
        validate_args: accepted for likeness with PyTorch; nothing is validated.
    """

    has_enumerate_support = True

    def __init__(self, probs: Optional[Tensor] = None, logits: Optional[Tensor] = None, validate_args=None):
        if logits is None:
            if probs is None:
                raise ValueError("Categorical: expected either probs or logits, got neither.")
            self._param = torch.log(probs)
        elif probs is not None:
            raise ValueError("Categorical: expected either probs or logits, got both.")
        else:
            self._param = logits
        self._log_probs = None

    @property
    def _batch_shape(self) -> torch.Size:
        return self._param.shape[:-1]

    @property
    def _num_events(self) -> int:
        return self._param.shape[-1]

    @property
    def logits(self) -> Tensor:
        """Normalised log probabilities `[..., K]`."""
        log_probs = self._log_probs
        if log_probs is None:
            log_probs = _log_softmax(self._param)
            if may_cache(self._param):
                self._log_probs = log_probs
        return log_probs

    @property
    def probs(self) -> Tensor:
        """Probabilities `[..., K]`."""
        return self.logits.exp()

    @property
    def mode(self) -> Tensor:
        """The most probable category `[...]`, int64."""
        return self._param.argmax(-1)

    def expand(self, batch_shape, _instance=None) -> "Categorical":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        return Categorical(logits=self._param.expand(torch.Size(batch_shape) + self._param.shape[-1:]))

    def sample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return categories `[*sample_shape, ...]`, int64.

        An exponential race: with E_i ~ Exp(1), `argmax_i p_i / E_i` has law p. One pass of random numbers
        and no cumulative sum, so that impossible categories cannot win by rounding. E_i is `-log u_i`, which
        makes it argmin.
        """
        probs = self.logits.detach().exp()
        if sample_shape:
            probs = probs.expand(torch.Size(sample_shape) + probs.shape).clone()
        race = probs.div_(torch.rand_like(probs).log_())
        # argmin is quicker to call, and many times slower on the transposed layout `_log_softmax` may leave.
        return race.argmin(-1) if race.numel() < _FEW else race.min(-1)[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities of the categories `value`; its shape broadcasts with the batch shape."""
        log_probs = self.logits
        if value.dtype is not torch.int64:
            value = value.long()
        if log_probs.ndim == 2 and value.ndim == 1 and value.shape[0] == log_probs.shape[0]:
            return -F.nll_loss(log_probs, value, reduction="none")
        shape = log_probs.shape[:-1]
        if value.shape != shape:
            shape = torch.broadcast_shapes(value.shape, shape)
            value, log_probs = value.expand(shape), log_probs.expand(shape + log_probs.shape[-1:])
        return log_probs.gather(-1, value.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Return entropies `[...]` in nats."""
        log_probs = self.logits
        # 0 * -inf of a masked category would be NaN; the clamp makes it 0, and its gradient too.
        return -(log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)).sum(-1)


class _LeanOneHot(LeanDistribution):
    """What the one-hot distributions share: a lean `Categorical` inside."""

    def __init__(self, probs: Optional[Tensor] = None, logits: Optional[Tensor] = None, validate_args=None):
        self._categorical = Categorical(probs, logits)

    @property
    def _batch_shape(self) -> torch.Size:
        return self._param.shape[:-1]

    @property
    def _event_shape(self) -> torch.Size:
        return self._param.shape[-1:]

    @property
    def mode(self) -> Tensor:
        """The most probable category as a one-hot vector `[..., K]` with the dtype of the logits."""
        logits = self._param
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)

    @property
    def rmode(self) -> Tensor:
        """`mode` with the gradient of the probabilities (straight-through)."""
        probs = self.probs
        return self.mode + (probs - probs.detach())

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log probabilities of the categories at the largest entries of `value`, `[..., K]`."""
        return self._categorical.log_prob(value.argmax(-1))


class OneHotCategoricalStraightThrough(_LeanOneHot, td.OneHotCategoricalStraightThrough):
    """One-hot samples whose gradient is that of the probabilities (https://arxiv.org/abs/1308.3432).

    Args:
        probs: non-negative weights `[..., K]`.
        logits: unnormalised log probabilities `[..., K]`. Exactly one of the two.
        validate_args: accepted for likeness with PyTorch; nothing is validated.
    """

    def expand(self, batch_shape, _instance=None) -> "OneHotCategoricalStraightThrough":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        logits = self._param.expand(torch.Size(batch_shape) + self._param.shape[-1:])
        return OneHotCategoricalStraightThrough(logits=logits)


@configurable
class OneHotCategoricalGumbelSoftmax(_LeanOneHot, td.OneHotCategorical):
    """One-hot samples with the gradient of a Gumbel-softmax relaxation (https://arxiv.org/abs/1611.01144).

    Args:
        hard_sample: True: samples are one-hot and only their gradient is relaxed; False: samples are
            relaxed too.
        tau: temperature of the relaxation, > 0.
        kwargs: `probs` or `logits`.
    """

    has_rsample = True

    def __init__(self, hard_sample: bool = True, tau: float = 1.0, **kwargs):
        if not tau > 0:
            raise ValueError(f"OneHotCategoricalGumbelSoftmax.tau: expected > 0, got {tau}.")
        super().__init__(**kwargs)
        self._hard_sample, self._tau = hard_sample, tau

    def expand(self, batch_shape, _instance=None) -> "OneHotCategoricalGumbelSoftmax":
        """Return the distribution with its batch dimensions expanded to `batch_shape`."""
        logits = self._param.expand(torch.Size(batch_shape) + self._param.shape[-1:])
        return OneHotCategoricalGumbelSoftmax(self._hard_sample, self._tau, logits=logits)

    def rsample(self, sample_shape: torch.Size = _EMPTY) -> Tensor:
        """Return samples `[*sample_shape, ..., K]` with the relaxed gradient."""
        logits = self._param.expand(torch.Size(sample_shape) + self._param.shape)
        return F.gumbel_softmax(logits, tau=self._tau, hard=self._hard_sample, dim=-1)
