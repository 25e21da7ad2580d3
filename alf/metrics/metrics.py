"""The metrics of every run: counts of steps and episodes, means of returns, lengths and infos.

Conventions: the reward of a time step belongs to the step that led there, so FIRST carries none and is not
counted; an episode ends at LAST. A step of a batch of B environments is B environment steps.
"""

from __future__ import annotations

import difflib
from typing import Any, Callable

import numpy as np
import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import StepType, TimeStep
from alf.metrics._episodic import AverageEpisodicAggregationMetric, Counter, MetricBuffer
from alf.metrics._segments import EpisodeSegments

__all__ = [
    "AverageDiscountedReturnMetric",
    "AverageEnvInfoMetric",
    "AverageEpisodeLengthMetric",
    "AverageEpisodicAggregationMetric",
    "AverageReturnMetric",
    "AverageRewardMetric",
    "EnvironmentSteps",
    "EpisodicStartAverageDiscountedReturnMetric",
    "MetricBuffer",
    "NumberOfEpisodes",
]

_FIRST, _LAST = int(StepType.FIRST), int(StepType.LAST)


class EnvironmentSteps(Counter):
    """Number of steps environments made; FIRST, which no action led to, is not counted.

    Args:
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
    """

    def __init__(
        self, name: str = "EnvironmentSteps", prefix: str = "Metrics", dtype: torch.dtype = torch.int64
    ):
        super().__init__(name=name, prefix=prefix, dtype=dtype)

    def _counted(self, step_type: np.ndarray) -> np.ndarray:
        return step_type != _FIRST


class NumberOfEpisodes(Counter):
    """Number of episodes that ended.

    Args:
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
    """

    def __init__(
        self, name: str = "NumberOfEpisodes", prefix: str = "Metrics", dtype: torch.dtype = torch.int64
    ):
        super().__init__(name=name, prefix=prefix, dtype=dtype)

    def _counted(self, step_type: np.ndarray) -> np.ndarray:
        return step_type == _LAST


class AverageReturnMetric(AverageEpisodicAggregationMetric):
    """Mean over the latest episodes of the sum of rewards; of each dimension if the reward is a vector.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "AverageReturn",
        prefix: str = "Metrics",
        dtype: torch.dtype = torch.float32,
        buffer_size: int = 10,
    ):
        super().__init__(
            name=name,
            prefix=prefix,
            dtype=dtype,
            buffer_size=buffer_size,
            example_time_step=example_time_step,
        )

    def _extract_metric_values(self, time_step: TimeStep) -> Any:
        return time_step.reward


@configurable
class AverageDiscountedReturnMetric(AverageEpisodicAggregationMetric):
    r"""Mean over the latest episodes of the mean over their steps of the discounted return from that step on.

    For an episode with rewards r_1 ... r_L that is 1/L sum_k r_k (1 + g + ... + g^{k-1}), since r_k is part
    of the returns of k
    steps: so it is summed up as the episode goes. Returns end with the episode, also where a time limit ended
        it.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
        discount: g, in [0, 1].
        reward_transformer: function applied to rewards first; None for none.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "AverageDiscountedReturn",
        prefix: str = "Metrics",
        dtype: torch.dtype = torch.float32,
        discount: float = 0.99,
        reward_transformer: Callable[[torch.Tensor], torch.Tensor] | None = None,
        buffer_size: int = 10,
    ):
        if not 0.0 <= discount <= 1.0:
            raise ValueError(f"{type(self).__name__}.discount: expected 0 <= discount <= 1, got {discount}.")
        super().__init__(name=name, prefix=prefix, dtype=dtype, buffer_size=buffer_size)
        self._discount = discount
        self._reward_transformer = reward_transformer
        self._begin(example_time_step)

    def _extract_metric_values(self, time_step: TimeStep) -> Any:
        reward = time_step.reward
        return reward if self._reward_transformer is None else self._reward_transformer(reward)

    def _step_weights(self, segments: EpisodeSegments) -> np.ndarray | None:
        if self._discount == 0.0:
            return None
        if self._discount == 1.0:
            return segments.positions
        return (1.0 - self._discount**segments.positions) / (1.0 - self._discount)

    def _finish(self, sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return sums / np.maximum(lengths, 1)[:, None]


@configurable
class EpisodicStartAverageDiscountedReturnMetric(AverageDiscountedReturnMetric):
    """Mean over the latest episodes of the discounted return from their first step on.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "EpisodicStartAverageDiscountedReturn",
        prefix: str = "Metrics",
        buffer_size: int = 10,
    ):
        super().__init__(example_time_step, name=name, prefix=prefix, buffer_size=buffer_size)

    def _step_weights(self, segments: EpisodeSegments) -> np.ndarray | None:
        return self._discount ** np.maximum(segments.positions - 1, 0).astype(np.float64)

    def _finish(self, sums: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return sums


@configurable
class AverageRewardMetric(AverageDiscountedReturnMetric):
    """Mean over the latest episodes of the mean reward of a step: the discounted return with a discount of 0.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "AverageReward",
        prefix: str = "Metrics",
        buffer_size: int = 10,
    ):
        super().__init__(example_time_step, name=name, prefix=prefix, discount=0.0, buffer_size=buffer_size)


class AverageEpisodeLengthMetric(AverageEpisodicAggregationMetric):
    """Mean over the latest episodes of their numbers of steps; FIRST is not counted.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag.
        prefix: first part of the summary tag.
        dtype: of the result.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "AverageEpisodeLength",
        prefix: str = "Metrics",
        dtype: torch.dtype = torch.float32,
        buffer_size: int = 10,
    ):
        super().__init__(
            name=name,
            prefix=prefix,
            dtype=dtype,
            buffer_size=buffer_size,
            example_time_step=example_time_step,
        )

    def _extract_metric_values(self, time_step: TimeStep) -> Any:
        return np.ones(time_step.step_type.shape, np.float64)


@configurable
class AverageEnvInfoMetric(AverageEpisodicAggregationMetric):
    """Mean over the latest episodes of what the environment reports in `env_info`, summed over each episode.

    So a number that is 1 at the last step of a successful episode and 0 elsewhere gives the rate of success.
    What FIRST carries is not counted.

    Args:
        example_time_step: a time step, leaves [B, ...].
        name: last part of the summary tag; the parts of `env_info` have sub-paths.
        prefix: first part of the summary tag.
        dtype: of the result.
        fields: dotted paths in `env_info`; None for all of it.
        buffer_size: number of episodes averaged over.
    """

    def __init__(
        self,
        example_time_step: TimeStep,
        name: str = "AverageEnvInfoMetric",
        prefix: str = "Metrics",
        dtype: torch.dtype = torch.float32,
        fields: list[str] | None = None,
        buffer_size: int = 10,
    ):
        super().__init__(name=name, prefix=prefix, dtype=dtype, buffer_size=buffer_size)
        self._fields = fields
        if fields is not None:
            known: list[str] = []
            nest.py_map_structure_with_path(lambda path, leaf: known.append(path), example_time_step.env_info)
            for field in fields:
                if not any(path == field or path.startswith(field + ".") for path in known):
                    nearest = difflib.get_close_matches(field, known, n=3)
                    raise ValueError(
                        f"AverageEnvInfoMetric.fields: env_info has no field {field!r}. "
                        f"Nearest: {nearest}; all: {sorted(known)}."
                    )
        self._begin(example_time_step)

    def _extract_metric_values(self, time_step: TimeStep) -> Any:
        if self._fields is None:
            return time_step.env_info
        return {field: nest.get_field(time_step.env_info, field) for field in self._fields}
