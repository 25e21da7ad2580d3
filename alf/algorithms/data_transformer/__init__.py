"""Transformations of time steps between environment and algorithm: stacking frames, scaling, normalizing.

The replay buffer keeps raw time steps. A transformer therefore works twice: on the time step of each unroll
step (``transform_timestep()``) and on experience sampled from the buffer (``transform_experience()``), so
that what an algorithm is trained on is always transformed by the present statistics.
"""

from alf.algorithms.data_transformer._base import (
    DataTransformer,
    IdentityDataTransformer,
    SequentialDataTransformer,
    SimpleDataTransformer,
    UntransformedTimeStep,
    create_data_transformer,
)
from alf.algorithms.data_transformer._frame_stacker import FrameStacker, FrameStackState
from alf.algorithms.data_transformer._hindsight import HindsightExperienceTransformer
from alf.algorithms.data_transformer._n_step import NStepReturn
from alf.algorithms.data_transformer._observations import ImageScaleTransformer, ObservationNormalizer
from alf.algorithms.data_transformer._rewards import (
    FunctionalRewardTransformer,
    RewardClipping,
    RewardNormalizer,
    RewardScaling,
    RewardShifting,
    RewardTransformer,
    l2_dist_close_reward_fn,
)

__all__ = [
    "DataTransformer",
    "FrameStackState",
    "FrameStacker",
    "FunctionalRewardTransformer",
    "HindsightExperienceTransformer",
    "IdentityDataTransformer",
    "ImageScaleTransformer",
    "NStepReturn",
    "ObservationNormalizer",
    "RewardClipping",
    "RewardNormalizer",
    "RewardScaling",
    "RewardShifting",
    "RewardTransformer",
    "SequentialDataTransformer",
    "SimpleDataTransformer",
    "UntransformedTimeStep",
    "create_data_transformer",
    "l2_dist_close_reward_fn",
]
