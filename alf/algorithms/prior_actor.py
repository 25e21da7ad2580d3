"""Prior distributions over actions, from which a policy may diverge by a target only."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from alf.algorithms.algorithm import Algorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, TimeStep
from alf.nest import Nest, map_structure
from alf.tensor_specs import BoundedTensorSpec
from alf.utils import dist_utils, distributions
from alf.utils.distributions import normcdf  # noqa: F401  (part of this module's API)


class TruncatedNormal(td.Distribution):
    """A normal distribution of numbers, cut off at bounds, by means of that of vectors in ``alf.utils.distributions``.

    Args:
        loc: mean before the cut, ``[...]``.
        scale: standard deviation before the cut.
        low: lower bound.
        high: upper bound.
        validate_args: see ``torch.distributions.Distribution``.
    """

    has_rsample = True
    arg_constraints = {
        "loc": td.constraints.real,
        "scale": td.constraints.positive,
        "low": td.constraints.real,
        "high": td.constraints.real,
    }

    def __init__(self, loc: Tensor, scale: Tensor, low: Tensor, high: Tensor, validate_args=None):
        self.loc, self.scale, self.low, self.high = torch.broadcast_tensors(loc, scale, low, high)
        super().__init__(self.loc.shape, validate_args=validate_args)
        self._vectors = distributions.TruncatedNormal(
            *(part.unsqueeze(-1) for part in (self.loc, self.scale, self.low, self.high)))

    @property
    def support(self) -> td.constraints.Constraint:
        """The interval between the bounds."""
        return td.constraints.interval(self.low, self.high)

    @property
    def mode(self) -> Tensor:
        """The most probable value ``[...]``: the mean before the cut, or the bound next to it."""
        return self._vectors.mode.squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities; minus infinity outside of the bounds."""
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, self._vectors.log_prob(value.unsqueeze(-1)), -math.inf)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Return samples ``[*sample_shape, ...]`` without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Return samples ``[*sample_shape, ...]``, differentiable in ``loc`` and ``scale``."""
        return self._vectors.rsample(sample_shape).squeeze(-1)


class _PriorActor(Algorithm):
    """An algorithm whose output in every step is a distribution over actions.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action.
        debug_summaries: see :class:`Algorithm`.
        name: name in summaries.
    """

    def __init__(self, observation_spec: Nest, action_spec: BoundedTensorSpec, debug_summaries: bool, name: str):
        super().__init__(debug_summaries=debug_summaries, name=name)
        self._action_spec = action_spec

    def _prior(self, inputs: TimeStep) -> Nest:
        """Return the nest of distributions, batch shape ``[B]``."""
        raise NotImplementedError(f"{type(self).__name__} must define _prior().")

    def predict_step(self, inputs: TimeStep, state: Nest) -> AlgStep:
        """Return the prior as output.

        Args:
            inputs: time step ``[B, ...]``.
            state: not needed.
        """
        return AlgStep(output=self._prior(inputs), state=state)

    def rollout_step(self, inputs: TimeStep, state: Nest) -> AlgStep:
        """Return the prior as output; see :meth:`predict_step`."""
        return AlgStep(output=self._prior(inputs), state=state)


class _Uniform(td.Uniform):
    """The uniform distribution on a closed interval: squashed actions reach the upper bound."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities; minus infinity outside of the bounds."""
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -(self.high - self.low).log(), -math.inf)


def _uniform(spec: BoundedTensorSpec, batch_size: int, device: torch.device) -> td.Distribution:
    """Return the uniform distribution over a spec, batch shape ``[batch_size]``."""
    if spec.is_discrete:
        num_actions = int(spec.maximum.max()) - int(spec.minimum.min()) + 1
        return dist_utils.Categorical(logits=torch.zeros(batch_size, *spec.shape, num_actions, device=device))
    low, high = (torch.as_tensor(bound, device=device).expand(batch_size, *spec.shape)
                 for bound in (spec.minimum.copy(), spec.maximum.copy()))
    return dist_utils.Independent(_Uniform(low, high, validate_args=False), spec.ndim)


@configurable
class UniformPriorActor(_PriorActor):
    """All actions are alike.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action.
        debug_summaries: see :class:`Algorithm`.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 debug_summaries: bool = False,
                 name: str = "UniformPriorActor"):
        super().__init__(observation_spec, action_spec, debug_summaries, name)

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: Nest, rollout_info: Nest = None) -> AlgStep:
        """Return the prior as output; see :meth:`predict_step`.

        Args:
            inputs: time step ``[B, ...]``.
            state: not needed.
            rollout_info: not needed.
        """
        return AlgStep(output=self._prior(inputs), state=state)

    def _prior(self, inputs: TimeStep) -> Nest:
        batch_size, device = inputs.step_type.shape[0], inputs.step_type.device
        return map_structure(lambda spec: _uniform(spec, batch_size, device), self._action_spec)


@configurable
class SameActionPriorActor(_PriorActor):
    """The action is likely to be that of the step before, up to some noise; else all are alike.

    A continuous action is, component by component, a mixture of a :class:`TruncatedNormal` about the last action and
    the uniform distribution. A discrete one is the last action with the given probability, or any.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action.
        same_action_noise: standard deviation about the last action, as a fraction of half of the range.
        same_action_prob: probability to repeat the last action. Where an episode begins there is none: all are alike.
        debug_summaries: see :class:`Algorithm`.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 same_action_noise: float = 0.1,
                 same_action_prob: float = 0.9,
                 debug_summaries: bool = False,
                 name: str = "SameActionPriorActor"):
        super().__init__(observation_spec, action_spec, debug_summaries, name)
        self._same_action_noise = same_action_noise
        self._same_action_prob = same_action_prob

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def train_step(self, inputs: TimeStep, state: Nest, unroll_info: Nest = ()) -> AlgStep:
        """Return the prior as output; see :meth:`predict_step`.

        Args:
            inputs: time step ``[B, ...]``.
            state: not needed.
            unroll_info: not needed.
        """
        return AlgStep(output=self._prior(inputs), state=state)

    def _prior(self, inputs: TimeStep) -> Nest:
        same_prob = torch.where(inputs.is_first(), 0.0, self._same_action_prob)
        return map_structure(lambda spec, action: self._mixture(spec, action, same_prob), self._action_spec,
                             inputs.prev_action)

    def _mixture(self, spec: BoundedTensorSpec, action: Tensor, same_prob: Tensor) -> td.Distribution:
        """Return the prior over one action.

        Args:
            spec: of the action.
            action: the last one ``[B, ...]``.
            same_prob: probability to repeat it ``[B]``.
        """
        same_prob = same_prob.view(-1, *(1, ) * spec.ndim).expand(action.shape)
        if spec.is_discrete:
            num_actions = int(spec.maximum.max()) - int(spec.minimum.min()) + 1
            same = torch.nn.functional.one_hot(action.long(), num_actions)
            weight = same_prob.unsqueeze(-1)
            return dist_utils.Categorical(probs=weight * same + (1 - weight) / num_actions)
        low, high = (torch.as_tensor(bound, device=action.device).expand_as(action)
                     for bound in (spec.minimum.copy(), spec.maximum.copy()))
        near = TruncatedNormal(action, 0.5 * self._same_action_noise * (high - low), low, high, validate_args=False)
        return dist_utils.Independent(_NearOrUniform(near, same_prob), spec.ndim)


class _NearOrUniform(td.Distribution):
    """A mixture of a :class:`TruncatedNormal` and the uniform distribution between its bounds.

    Args:
        near: the truncated normal distribution, batch shape ``[...]``.
        near_prob: its weight ``[...]``.
    """

    arg_constraints = {}

    def __init__(self, near: TruncatedNormal, near_prob: Tensor):
        super().__init__(near.batch_shape, validate_args=False)
        self._near = near
        self._near_prob = near_prob

    @property
    def mode(self) -> Tensor:
        """The most probable value ``[...]``; the centre of the normal part, if it has no weight, too."""
        return self._near.mode

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log densities; minus infinity outside of the bounds."""
        near, far = self._near, -(self._near.high - self._near.low).log()
        inside = (value >= near.low) & (value <= near.high)
        log_prob = torch.logaddexp(self._near_prob.log() + near.log_prob(value), torch.log1p(-self._near_prob) + far)
        return torch.where(inside, log_prob, -math.inf)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Return samples ``[*sample_shape, ...]`` without gradient."""
        near = self._near.sample(sample_shape)
        uniform = self._near.low + torch.rand_like(near) * (self._near.high - self._near.low)
        return torch.where(torch.rand_like(near) < self._near_prob, near, uniform)
