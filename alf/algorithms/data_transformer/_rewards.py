"""Transformations of rewards, and the reward of goals."""

from typing import Callable, Optional, Sequence, Tuple, Union

import torch

from alf.algorithms.data_transformer._base import SimpleDataTransformer
from alf.algorithms.data_transformer._update_mode import UpdateMode
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.utils.normalizers import Normalizer, ScalarAdaptiveNormalizer


class RewardTransformer(SimpleDataTransformer):
    """Base of transformers of the reward. A subclass defines ``forward(reward)``, which must not look at the
    rest."""

    def __init__(self, observation_spec):
        """
        Args:
            observation_spec: nest of specs of the observation, which stays as it is.
        """
        super().__init__(observation_spec)

    def _transform(self, timestep: TimeStep) -> TimeStep:
        return timestep._replace(reward=self.forward(timestep.reward))

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        """Return the transformed reward, of the shape of ``reward``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward().")


@configurable
class RewardClipping(RewardTransformer):
    """Clips the reward."""

    def __init__(self, observation_spec=(), minmax: Tuple[float, float] = (-1, 1)):
        """
        Args:
            observation_spec: nest of specs of the observation.
            minmax: least and largest reward.
        """
        super().__init__(observation_spec)
        if not minmax[0] <= minmax[1]:
            raise ValueError(f"RewardClipping.minmax: expected (min, max) with min <= max, got {minmax}.")
        self._minmax = tuple(minmax)

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        return reward.clamp(*self._minmax)


@configurable
class RewardNormalizer(RewardTransformer):
    """Normalizes the reward by running statistics."""

    def __init__(
        self,
        observation_spec=(),
        normalizer: Optional[Normalizer] = None,
        update_max_calls: int = 0,
        clip_value: float = -1.0,
        update_mode: str = "replay",
    ):
        """
        Args:
            observation_spec: nest of specs of the observation.
            normalizer: of the reward; None: ``ScalarAdaptiveNormalizer(auto_update=False)``. Its
                ``auto_update`` does not matter here.
            update_max_calls: if positive, statistics stay fixed after this many updates.
            clip_value: if positive, normalized rewards are clipped to plus or minus this.
            update_mode: ``replay`` or ``rollout``, see :class:`ObservationNormalizer`.
        """
        super().__init__(observation_spec)
        self._normalizer = ScalarAdaptiveNormalizer(auto_update=False) if normalizer is None else normalizer
        self._update_max_calls = update_max_calls
        self._clip_value = clip_value
        self._is_update_time = UpdateMode("RewardNormalizer", update_mode)
        self.register_buffer("_num_updates", torch.zeros((), dtype=torch.int64))

    @property
    def normalizer(self) -> Normalizer:
        """The normalizer in use."""
        return self._normalizer

    @property
    def clip_value(self) -> float:
        """Bound of normalized rewards, if positive."""
        return self._clip_value

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        if self._is_update_time():
            is_open = self._update_max_calls <= 0
            if not is_open:
                is_open = int(self._num_updates) < self._update_max_calls
                self._num_updates += int(is_open)
            if is_open:
                self._normalizer.update(reward)
        return self._normalizer.normalize(reward, clip_value=self._clip_value)


@configurable
class RewardScaling(RewardTransformer):
    """Multiplies the reward."""

    def __init__(self, scale: Union[float, Sequence[float]], observation_spec=()):
        """
        Args:
            scale: the factor; a list gives each dimension of a vector reward its own.
            observation_spec: nest of specs of the observation.
        """
        super().__init__(observation_spec)
        self.register_buffer("_scale", torch.as_tensor(scale, dtype=torch.float32), persistent=False)

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        return reward * self._scale


@configurable
class RewardShifting(RewardTransformer):
    """Adds to the reward."""

    def __init__(self, bias: Union[float, Sequence[float]], observation_spec=()):
        """
        Args:
            bias: what is added; a list gives each dimension of a vector reward its own.
            observation_spec: nest of specs of the observation.
        """
        super().__init__(observation_spec)
        self.register_buffer("_bias", torch.as_tensor(bias, dtype=torch.float32), persistent=False)

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        return reward + self._bias


@configurable
class FunctionalRewardTransformer(RewardTransformer):
    """Applies a function to the reward."""

    def __init__(self, func: Callable[[torch.Tensor], torch.Tensor], observation_spec=()):
        """
        Args:
            func: takes a reward of any batch shape and returns one of the same shape.
            observation_spec: nest of specs of the observation.
        """
        super().__init__(observation_spec)
        self._func = func

    def forward(self, reward: torch.Tensor) -> torch.Tensor:
        return self._func(reward)


@configurable
def l2_dist_close_reward_fn(
    achieved_goal: torch.Tensor, goal: torch.Tensor, threshold: float = 0.05
) -> torch.Tensor:
    """Return 0 where the goal is reached and -1 elsewhere.

    Args:
        achieved_goal: ``[..., n]``.
        goal: ``[..., n]``.
        threshold: the goal is reached if the Euclidean distance is below this.

    Returns:
        ``[...]``, float32.
    """
    if goal.ndim == achieved_goal.ndim - 1:
        raise ValueError(
            f"l2_dist_close_reward_fn: expected goals of one shape [..., n], got "
            f"{tuple(achieved_goal.shape)} and {tuple(goal.shape)}."
        )
    is_reached = torch.linalg.vector_norm(achieved_goal - goal, dim=-1) < threshold
    return is_reached.to(torch.float32) - 1
