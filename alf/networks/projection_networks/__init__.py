"""Projection networks: from an encoding of the observation to a distribution over one action."""

from alf.networks.projection_networks._bounded import BetaProjectionNetwork, TruncatedProjectionNetwork
from alf.networks.projection_networks._categorical import (
    CategoricalProjectionNetwork,
    OnehotCategoricalProjectionNetwork,
    ParallelCategoricalProjectionNetwork,
)
from alf.networks.projection_networks._mixture import MixtureProjectionNetwork
from alf.networks.projection_networks._normal import (
    CauchyProjectionNetwork,
    NormalProjectionNetwork,
    StableNormalProjectionNetwork,
)

__all__ = [
    "BetaProjectionNetwork",
    "CategoricalProjectionNetwork",
    "CauchyProjectionNetwork",
    "MixtureProjectionNetwork",
    "NormalProjectionNetwork",
    "OnehotCategoricalProjectionNetwork",
    "ParallelCategoricalProjectionNetwork",
    "StableNormalProjectionNetwork",
    "TruncatedProjectionNetwork",
]
