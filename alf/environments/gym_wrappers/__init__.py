"""Wrappers of Gymnasium environments: images, frames, Atari preprocessing, continuous actions."""

from alf.environments.gym_wrappers._actions import (
    ContinuousActionClip,
    ContinuousActionMapping,
    NonEpisodicEnv,
    NormalizedAction,
)
from alf.environments.gym_wrappers._atari import DMAtariPreprocessing, FrameSkip
from alf.environments.gym_wrappers._base import BaseObservationWrapper, transform_space
from alf.environments.gym_wrappers._frames import (
    EpisodicRandomFrameCrop,
    FrameCrop,
    FrameFlip,
    FrameGrayScale,
    FrameResize,
    FrameStack,
    ImageChannelFirst,
)
from alf.environments.gym_wrappers._select import SelectObservation

__all__ = [
    "BaseObservationWrapper",
    "ContinuousActionClip",
    "ContinuousActionMapping",
    "DMAtariPreprocessing",
    "EpisodicRandomFrameCrop",
    "FrameCrop",
    "FrameFlip",
    "FrameGrayScale",
    "FrameResize",
    "FrameSkip",
    "FrameStack",
    "ImageChannelFirst",
    "NonEpisodicEnv",
    "NormalizedAction",
    "SelectObservation",
    "transform_space",
]
