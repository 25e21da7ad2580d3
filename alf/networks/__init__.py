"""Networks: modules with specs and state, from which algorithms are built; also reachable as `alf.nn`.

The names below are imported when first used, so that a program pays only for the networks it has.
"""

import importlib
from typing import Any, List

# File -> public names in it.
_NAMES = {
    "action_encoder": ["SimpleActionEncoder"],
    "actor_distribution_networks": [
        "ActorDistributionNetwork", "ActorDistributionNetworkBase", "ActorDistributionRNNNetwork",
        "ParallelActorDistributionNetwork", "UnitNormalActorDistributionNetwork"
    ],
    "actor_networks": ["ActorNetwork", "ActorNetworkBase", "ActorRNNNetwork"],
    "containers": ["Branch", "Echo", "Parallel", "Sequential"],
    "critic_networks": ["CriticNetwork", "CriticRNNNetwork"],
    "distributional_q_networks": ["DistributionalQNetwork", "DuelingQNetwork"],
    "encoding_networks": [
        "EncodingNetwork", "ImageEncodingNetwork", "LSTMEncodingNetwork", "ParallelEncodingNetwork"
    ],
    "network": [
        "BatchSquashNetwork", "NaiveParallelNetwork", "Network", "NetworkWrapper", "get_input_tensor_spec",
        "wrap_as_network"
    ],
    "networks": ["AMPWrapper", "Delay", "GRUCell", "LSTMCell", "NoisyFC", "Residue", "TemporalPool"],
    "ou_process": ["OUProcess"],
    "preprocessor_networks": ["PreprocessorNetwork"],
    "preprocessors": ["CosineEmbeddingPreprocessor", "EmbeddingPreprocessor"],
    "projection_networks": [
        "BetaProjectionNetwork", "CategoricalProjectionNetwork", "CauchyProjectionNetwork",
        "MixtureProjectionNetwork", "NormalProjectionNetwork", "OnehotCategoricalProjectionNetwork",
        "ParallelCategoricalProjectionNetwork", "StableNormalProjectionNetwork", "TruncatedProjectionNetwork"
    ],
    "q_networks": ["ParallelQNetwork", "QNetwork", "QNetworkBase", "QRNNNetwork"],
    "value_networks": ["ParallelValueNetwork", "ValueNetwork", "ValueNetworkBase", "ValueRNNNetwork"],
}
_FILE_OF = {name: file for file, names in _NAMES.items() for name in names}

__all__ = sorted(_FILE_OF)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return importlib.import_module(f"alf.networks.{name}")
    if name in _FILE_OF:
        return getattr(importlib.import_module(f"alf.networks.{_FILE_OF[name]}"), name)
    raise AttributeError(f"module 'alf.networks' has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*__all__, *_NAMES])
