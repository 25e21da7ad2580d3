"""What is measured while environments run: returns, episode lengths, counts of steps and episodes."""

from alf.metrics import metric, metrics
from alf.metrics._group import MetricsGroup
from alf.metrics._segments import update_metrics
from alf.metrics.metric import StepMetric
from alf.metrics.metrics import (
    AverageDiscountedReturnMetric,
    AverageEnvInfoMetric,
    AverageEpisodeLengthMetric,
    AverageEpisodicAggregationMetric,
    AverageReturnMetric,
    AverageRewardMetric,
    EnvironmentSteps,
    EpisodicStartAverageDiscountedReturnMetric,
    MetricBuffer,
    NumberOfEpisodes,
)

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
    "MetricsGroup",
    "NumberOfEpisodes",
    "StepMetric",
    "metric",
    "metrics",
    "update_metrics",
]
