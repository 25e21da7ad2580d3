"""Value networks: an encoding network with a linear last layer of the size of the value."""

import functools
from typing import Any, Callable, Optional, Tuple

import torch
from torch import Tensor

from alf.config_util import configurable
from alf.layers import make_parallel_spec
from alf.networks._call import call
from alf.networks.encoding_networks import EncodingNetwork, LSTMEncodingNetwork
from alf.networks.network import Network
from alf.tensor_specs import NestedTensorSpec, TensorSpec
from alf.utils import math_ops

# Small weights begin with values near 0 for all observations.
_LAST_KERNEL_INITIALIZER = functools.partial(torch.nn.init.uniform_, a=-0.03, b=0.03)
_SCALAR = TensorSpec(())


@configurable
class ValueNetworkBase(Network):
    """An encoding network that ends in a value.

    Args:
        input_tensor_spec: nest of specs of the observation.
        output_tensor_spec: spec of the value: `()` for one value, `(R,)` for a value of each of R rewards.
        encoding_network_ctor: called with `input_tensor_spec`, `output_tensor_spec`, the arguments of the
            last layer and `encoder_kwargs`.
        name: name of the network.
        encoder_kwargs: further arguments of the encoding network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        output_tensor_spec: TensorSpec,
        encoding_network_ctor: Callable,
        name: str = "ValueNetworkBase",
        **encoder_kwargs,
    ):
        super().__init__(input_tensor_spec, name=name)
        self._encoding_net = encoding_network_ctor(
            input_tensor_spec=input_tensor_spec,
            output_tensor_spec=output_tensor_spec,
            last_layer_size=output_tensor_spec.numel,
            last_activation=math_ops.identity,
            last_kernel_initializer=_LAST_KERNEL_INITIALIZER,
            **encoder_kwargs,
        )

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state of the encoding network."""
        return self._encoding_net.state_spec

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the value `[B, *output_tensor_spec.shape]` and the new state.

        Args:
            observation: nest of tensors `[B, ...]`.
            state: nest as `state_spec`.
        """
        return call(self._modules["_encoding_net"], observation, state)

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; values `[B, n, ...]`."""
        return ParallelValueNetwork(self, n, f"parallel_{self.name}")


@configurable
class ValueNetwork(ValueNetworkBase):
    """A feed-forward value network.

    Args:
        input_tensor_spec: nest of specs of the observation.
        output_tensor_spec: spec of the value: `()` for one value, `(R,)` for a value of each of R rewards.
        input_preprocessors: see `EncodingNetwork`, as all arguments not listed here.
        input_preprocessors_ctor: makes the preprocessors from the input spec.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the last one.
        activation: of all layers but the last one.
        kernel_initializer: of all layers but the last one.
        use_fc_bn: whether dense layers have batch normalization.
        use_fc_ln: whether dense layers have layer normalization.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        output_tensor_spec: TensorSpec = _SCALAR,
        input_preprocessors: Any = None,
        input_preprocessors_ctor: Optional[Callable] = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        use_fc_bn: bool = False,
        use_fc_ln: bool = False,
        name: str = "ValueNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            output_tensor_spec,
            encoding_network_ctor=EncodingNetwork,
            name=name,
            input_preprocessors=input_preprocessors,
            input_preprocessors_ctor=input_preprocessors_ctor,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            fc_layer_params=fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            use_fc_bn=use_fc_bn,
            use_fc_ln=use_fc_ln,
        )


@configurable
class ValueRNNNetwork(ValueNetworkBase):
    """A recurrent value network.

    Args:
        input_tensor_spec: nest of specs of the observation.
        output_tensor_spec: spec of the value: `()` for one value, `(R,)` for a value of each of R rewards.
        input_preprocessors: see `LSTMEncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the LSTM.
        lstm_hidden_size: size of each LSTM layer; an int for a single one.
        value_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all but the LSTM layers and the last one.
        kernel_initializer: of the same layers.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        output_tensor_spec: TensorSpec = _SCALAR,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        lstm_hidden_size: Any = 100,
        value_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        name: str = "ValueRNNNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            output_tensor_spec,
            encoding_network_ctor=LSTMEncodingNetwork,
            name=name,
            input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            pre_fc_layer_params=fc_layer_params,
            hidden_size=lstm_hidden_size,
            post_fc_layer_params=value_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
        )


class ParallelValueNetwork(Network):
    """`n` value networks with parameters of their own, computed at once.

    Args:
        value_network: the network to take the structure of.
        n: number of networks.
        name: name of the network.
    """

    def __init__(self, value_network: ValueNetworkBase, n: int, name: str = "ParallelValueNetwork"):
        super().__init__(make_parallel_spec(value_network.input_tensor_spec, n), name=name)
        self._encoding_net = value_network._encoding_net.make_parallel(n, allow_non_parallel_input=True)

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state of the encoding network."""
        return self._encoding_net.state_spec

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the values `[B, n, ...]` and the new state.

        Args:
            observation: nest of tensors `[B, n, ...]`, or `[B, ...]` for all alike.
            state: nest as `state_spec`.
        """
        return call(self._modules["_encoding_net"], observation, state)
