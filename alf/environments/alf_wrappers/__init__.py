"""Wrappers of AlfEnvironments: time limits, rewards, actions, tasks, batches."""

from alf.environments.alf_wrappers._actions import (
    DiscreteActionWrapper,
    NormalizedActionWrapper,
    TemporallyCorrelatedNoiseWrapper,
)
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper
from alf.environments.alf_wrappers._batch import BatchedTensorWrapper, BatchEnvironmentWrapper, TensorWrapper
from alf.environments.alf_wrappers._episodes import (
    AtariTerminalOnLifeLossWrapper,
    NonEpisodicAgent,
    PerformanceProfiler,
    RandomFirstEpisodeLength,
    TimeLimit,
)
from alf.environments.alf_wrappers._non_finite_reset import NonFiniteReset
from alf.environments.alf_wrappers._observations import (
    ActionObservationWrapper,
    GoalReplayEnvWrapper,
    ScalarRewardWrapper,
)
from alf.environments.alf_wrappers._tasks import CurriculumWrapper, MultitaskWrapper

__all__ = [
    "ActionObservationWrapper",
    "AlfEnvironmentBaseWrapper",
    "AtariTerminalOnLifeLossWrapper",
    "BatchEnvironmentWrapper",
    "BatchedTensorWrapper",
    "CurriculumWrapper",
    "DiscreteActionWrapper",
    "GoalReplayEnvWrapper",
    "MultitaskWrapper",
    "NonEpisodicAgent",
    "NonFiniteReset",
    "NormalizedActionWrapper",
    "PerformanceProfiler",
    "RandomFirstEpisodeLength",
    "ScalarRewardWrapper",
    "TemporallyCorrelatedNoiseWrapper",
    "TensorWrapper",
    "TimeLimit",
]
