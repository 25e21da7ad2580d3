"""Critic networks: the value of an observation together with an action."""

import functools
from typing import Any, Callable, Optional, Tuple

import torch

from alf.config_util import configurable
from alf.nest.utils import NestConcat
from alf.networks.encoding_networks import EncodingNetwork, LSTMEncodingNetwork
from alf.networks.network import NaiveParallelNetwork, Network
from alf.tensor_specs import NestedTensorSpec, TensorSpec
from alf.utils import math_ops

# Section 7 of https://arxiv.org/abs/1509.02971: initial values near 0.
_LAST_KERNEL_INITIALIZER = functools.partial(torch.nn.init.uniform_, a=-0.003, b=0.003)
_SCALAR = TensorSpec(())


def _check_input_spec(input_tensor_spec: Any, name: str) -> Tuple[NestedTensorSpec, NestedTensorSpec]:
    """Return the specs of observation and action."""
    if not isinstance(input_tensor_spec, (tuple, list)) or len(input_tensor_spec) != 2:
        raise ValueError(
            f"{name}.input_tensor_spec: expected (observation_spec, action_spec), got {input_tensor_spec!r}."
        )
    return tuple(input_tensor_spec)


@configurable
class CriticNetwork(EncodingNetwork):
    """A feed-forward critic: encodes observation and action separately, then both together, to a value.

    Args:
        input_tensor_spec: `(observation_spec, action_spec)`, nests.
        output_tensor_spec: spec of the value: `()` for one value, `(R,)` for a value of each of R rewards.
        observation_input_processors: preprocessors of the observation; see `EncodingNetwork`.
        observation_input_processors_ctor: makes them from the observation spec.
        observation_preprocessing_combiner: makes one tensor of the preprocessed observation.
        observation_conv_layer_params: convolutional layers for the observation.
        observation_fc_layer_params: sizes of the dense layers for the observation alone.
        action_input_processors: preprocessors of the action; discrete actions need one that makes a vector.
        action_input_processors_ctor: makes them from the action spec.
        action_preprocessing_combiner: makes one tensor of the preprocessed action.
        action_fc_layer_params: sizes of the dense layers for the action alone.
        observation_action_combiner: makes one tensor of both encodings; None concatenates them.
        joint_fc_layer_params: sizes of the dense layers for both.
        activation: of all layers but the last one.
        kernel_initializer: of all layers but the last one.
        use_fc_bn: whether dense layers have batch normalization.
        use_fc_ln: whether dense layers have layer normalization.
        last_use_fc_bn: whether the last layer has batch normalization.
        last_use_fc_ln: whether the last layer has layer normalization.
        last_layer_activation: of the last layer.
        use_naive_parallel_network: whether `make_parallel` makes separate copies, called one after the
            other, which can be faster for large networks.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: Tuple[NestedTensorSpec, NestedTensorSpec],
        output_tensor_spec: TensorSpec = _SCALAR,
        observation_input_processors: Any = None,
        observation_input_processors_ctor: Optional[Callable] = None,
        observation_preprocessing_combiner: Optional[Callable] = None,
        observation_conv_layer_params: Optional[Tuple] = None,
        observation_fc_layer_params: Optional[Tuple[int, ...]] = None,
        action_input_processors: Any = None,
        action_input_processors_ctor: Optional[Callable] = None,
        action_preprocessing_combiner: Optional[Callable] = None,
        action_fc_layer_params: Optional[Tuple[int, ...]] = None,
        observation_action_combiner: Optional[Callable] = None,
        joint_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        use_fc_bn: bool = False,
        use_fc_ln: bool = False,
        last_use_fc_bn: bool = False,
        last_use_fc_ln: bool = False,
        last_layer_activation: Callable = math_ops.identity,
        use_naive_parallel_network: bool = False,
        name: str = "CriticNetwork",
    ):
        observation_spec, action_spec = _check_input_spec(input_tensor_spec, name)
        observation_encoder = EncodingNetwork(
            observation_spec,
            input_preprocessors=observation_input_processors,
            input_preprocessors_ctor=observation_input_processors_ctor,
            preprocessing_combiner=observation_preprocessing_combiner,
            conv_layer_params=observation_conv_layer_params,
            fc_layer_params=observation_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            use_fc_bn=use_fc_bn,
            use_fc_ln=use_fc_ln,
            name=f"{name}.obs_encoder",
        )
        action_encoder = EncodingNetwork(
            action_spec,
            input_preprocessors=action_input_processors,
            input_preprocessors_ctor=action_input_processors_ctor,
            preprocessing_combiner=action_preprocessing_combiner,
            fc_layer_params=action_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            use_fc_bn=use_fc_bn,
            use_fc_ln=use_fc_ln,
            name=f"{name}.action_encoder",
        )
        encoded = action_encoder.output_spec
        if encoded.ndim != 1 or not encoded.is_continuous:
            raise ValueError(
                f"{name}.input_tensor_spec: expected continuous actions of shape (N,), got {action_spec}. Give "
                "action_input_processors that make a vector of it, for example an EmbeddingPreprocessor."
            )
        super().__init__(
            input_tensor_spec=(observation_spec, action_spec),
            output_tensor_spec=output_tensor_spec,
            input_preprocessors=(observation_encoder, action_encoder),
            preprocessing_combiner=observation_action_combiner or NestConcat(),
            fc_layer_params=joint_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            use_fc_bn=use_fc_bn,
            use_fc_ln=use_fc_ln,
            last_layer_size=output_tensor_spec.numel,
            last_activation=last_layer_activation,
            last_kernel_initializer=_LAST_KERNEL_INITIALIZER,
            last_use_fc_bn=last_use_fc_bn,
            last_use_fc_ln=last_use_fc_ln,
            name=name,
        )
        self._use_naive_parallel_network = use_naive_parallel_network

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; values `[B, n, ...]`.

        Its input is `(observation, action)` of `[B, n, ...]`, or of `[B, ...]` for all alike.
        """
        if self._use_naive_parallel_network:
            return NaiveParallelNetwork(self, n)
        return super().make_parallel(n, allow_non_parallel_input=True)


@configurable
class CriticRNNNetwork(LSTMEncodingNetwork):
    """A recurrent critic: encodes observation and action separately, then both together with LSTM layers.

    Args:
        input_tensor_spec: `(observation_spec, action_spec)`, nests.
        output_tensor_spec: spec of the value: `()` for one value, `(R,)` for a value of each of R rewards.
        observation_input_processors: preprocessors of the observation; see `EncodingNetwork`.
        observation_preprocessing_combiner: makes one tensor of the preprocessed observation.
        observation_conv_layer_params: convolutional layers for the observation.
        observation_fc_layer_params: sizes of the dense layers for the observation alone.
        action_input_processors: preprocessors of the action; discrete actions need one that makes a vector.
        action_preprocessing_combiner: makes one tensor of the preprocessed action.
        action_fc_layer_params: sizes of the dense layers for the action alone.
        joint_fc_layer_params: sizes of the dense layers for both, before the LSTM.
        lstm_hidden_size: size of each LSTM layer; an int for a single one.
        critic_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all but the LSTM layers and the last one.
        kernel_initializer: of the same layers.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: Tuple[NestedTensorSpec, NestedTensorSpec],
        output_tensor_spec: TensorSpec = _SCALAR,
        observation_input_processors: Any = None,
        observation_preprocessing_combiner: Optional[Callable] = None,
        observation_conv_layer_params: Optional[Tuple] = None,
        observation_fc_layer_params: Optional[Tuple[int, ...]] = None,
        action_input_processors: Any = None,
        action_preprocessing_combiner: Optional[Callable] = None,
        action_fc_layer_params: Optional[Tuple[int, ...]] = None,
        joint_fc_layer_params: Optional[Tuple[int, ...]] = None,
        lstm_hidden_size: Any = 100,
        critic_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        name: str = "CriticRNNNetwork",
    ):
        observation_spec, action_spec = _check_input_spec(input_tensor_spec, name)
        observation_encoder = EncodingNetwork(
            observation_spec,
            input_preprocessors=observation_input_processors,
            preprocessing_combiner=observation_preprocessing_combiner,
            conv_layer_params=observation_conv_layer_params,
            fc_layer_params=observation_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            name=f"{name}.obs_encoder",
        )
        action_encoder = EncodingNetwork(
            action_spec,
            input_preprocessors=action_input_processors,
            preprocessing_combiner=action_preprocessing_combiner,
            fc_layer_params=action_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            name=f"{name}.action_encoder",
        )
        super().__init__(
            input_tensor_spec=(observation_spec, action_spec),
            output_tensor_spec=output_tensor_spec,
            input_preprocessors=(observation_encoder, action_encoder),
            preprocessing_combiner=NestConcat(),
            pre_fc_layer_params=joint_fc_layer_params,
            hidden_size=lstm_hidden_size,
            post_fc_layer_params=critic_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            last_layer_size=output_tensor_spec.numel,
            last_activation=math_ops.identity,
            last_kernel_initializer=_LAST_KERNEL_INITIALIZER,
            name=name,
        )

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; values `[B, n, ...]`.

        Its input is `(observation, action)` of `[B, n, ...]`, or of `[B, ...]` for all alike.
        """
        return super().make_parallel(n, allow_non_parallel_input=True)
