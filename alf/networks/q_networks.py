"""Q networks: the value of every discrete action from one pass over the observation."""

import functools
from typing import Any, Callable, Optional, Tuple

import torch
from torch import Tensor

from alf.config_util import configurable
from alf.layers import make_parallel_spec
from alf.networks._action_spec_checks import check_discrete_action_spec
from alf.networks._call import call
from alf.networks.encoding_networks import EncodingNetwork, LSTMEncodingNetwork
from alf.networks.network import NaiveParallelNetwork, Network
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec
from alf.utils import math_ops

# Small weights begin with values near 0 for all observations.
_LAST_KERNEL_INITIALIZER = functools.partial(torch.nn.init.uniform_, a=-0.03, b=0.03)


@configurable
class QNetworkBase(Network):
    """An encoding network that ends in one value for each action.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape `()`, minimum 0.
        encoding_network_ctor: called with `input_tensor_spec`, the arguments of the last layer and
            `encoder_kwargs`.
        use_naive_parallel_network: whether `make_parallel` makes separate copies, called one after the
            other, which can be faster for large networks.
        name: name of the network.
        encoder_kwargs: further arguments of the encoding network.

    Raises:
        ValueError: if the action spec is something else.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: BoundedTensorSpec,
        encoding_network_ctor: Callable,
        use_naive_parallel_network: bool = False,
        name: str = "QNetworkBase",
        **encoder_kwargs,
    ):
        num_actions = check_discrete_action_spec(action_spec, name)
        if action_spec.ndim != 0:
            raise ValueError(f"{name}.action_spec: expected a single discrete action, shape (), got {action_spec}.")
        super().__init__(input_tensor_spec, name=name)
        self._use_naive_parallel_network = use_naive_parallel_network
        self._encoding_net = encoding_network_ctor(
            input_tensor_spec=input_tensor_spec,
            last_layer_size=num_actions,
            last_activation=math_ops.identity,
            last_kernel_initializer=_LAST_KERNEL_INITIALIZER,
            **encoder_kwargs,
        )

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state of the encoding network."""
        return self._encoding_net.state_spec

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the values of the actions `[B, K]` and the new state.

        Args:
            observation: nest of tensors `[B, ...]`.
            state: nest as `state_spec`.
        """
        return call(self._modules["_encoding_net"], observation, state)

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; values `[B, n, K]`."""
        if self._use_naive_parallel_network:
            return NaiveParallelNetwork(self, n)
        return ParallelQNetwork(self, n, f"parallel_{self.name}")


@configurable
class QNetwork(QNetworkBase):
    """A feed-forward Q network.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape `()`, minimum 0.
        input_preprocessors: see `EncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the last one.
        activation: of all layers but the last one.
        kernel_initializer: of all layers but the last one.
        use_naive_parallel_network: see `QNetworkBase`.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: BoundedTensorSpec,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        use_naive_parallel_network: bool = False,
        name: str = "QNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=EncodingNetwork,
            use_naive_parallel_network=use_naive_parallel_network,
            name=name,
            input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            fc_layer_params=fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
        )


@configurable
class QRNNNetwork(QNetworkBase):
    """A recurrent Q network.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape `()`, minimum 0.
        input_preprocessors: see `LSTMEncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the LSTM.
        lstm_hidden_size: size of each LSTM layer; an int for a single one.
        value_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all but the LSTM layers and the last one.
        kernel_initializer: of the same layers.
        use_naive_parallel_network: see `QNetworkBase`.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: BoundedTensorSpec,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        lstm_hidden_size: Any = 100,
        value_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        use_naive_parallel_network: bool = False,
        name: str = "QRNNNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=LSTMEncodingNetwork,
            use_naive_parallel_network=use_naive_parallel_network,
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

    def forward_sequence(
        self, observation: Any, state: Any, is_first: Optional[Tensor] = None, with_state: bool = True
    ) -> Tuple[Tensor, Any]:
        """Return the values of the actions `[T, B, K]` and the state after the last step; as stepping, but faster.

        Args:
            observation: nest of tensors `[T, B, ...]`.
            state: state before the first step, nest as `state_spec`.
            is_first: bool `[T, B]`, where the state is reset to zero before the step; `None`: nowhere.
            with_state: whether the last state is needed, else it is `()`; without it is faster.
        """
        return self._encoding_net.forward_sequence(observation, state, is_first, with_state)


class ParallelQNetwork(Network):
    """`n` Q networks with parameters of their own, computed at once.

    Args:
        q_network: the network to take the structure of.
        n: number of networks.
        name: name of the network.
    """

    def __init__(self, q_network: QNetworkBase, n: int, name: str = "ParallelQNetwork"):
        super().__init__(make_parallel_spec(q_network.input_tensor_spec, n), name=name)
        self._encoding_net = q_network._encoding_net.make_parallel(n, allow_non_parallel_input=True)

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state of the encoding network."""
        return self._encoding_net.state_spec

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the values of the actions `[B, n, K]` and the new state.

        Args:
            inputs: nest of tensors `[B, n, ...]`, or `[B, ...]` for all alike.
            state: nest as `state_spec`.
        """
        return call(self._modules["_encoding_net"], inputs, state)
