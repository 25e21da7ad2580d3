"""Deterministic actors: an encoding network and a squashed linear layer for each action."""

import functools
from typing import Any, Callable, Optional, Tuple

import torch
from torch import nn

import alf.nest as nest
from alf.config_util import configurable
from alf.layers import FC
from alf.networks._action_spec_checks import check_bounded_action_spec, check_single_action_spec
from alf.networks._call import call
from alf.networks.encoding_networks import EncodingNetwork, LSTMEncodingNetwork
from alf.networks.network import Network
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec, TensorSpec
from alf.utils.spec_utils import spec_means_and_magnitudes

# Section 7 of https://arxiv.org/abs/1509.02971: initial actions near the middle of the bounds.
_LAST_KERNEL_INITIALIZER = functools.partial(torch.nn.init.uniform_, a=-0.003, b=0.003)


class _BoundedAction(nn.Module):
    """A linear layer squashed into the bounds of one action.

    Args:
        input_size: size of the encoding.
        spec: a bounded continuous spec.
        squashing_func: maps into [-1, 1].
        name: of the network, for errors.
    """

    keeps_full_precision = True  # in mixed precision: an action

    def __init__(self, input_size: int, spec: BoundedTensorSpec, squashing_func: Callable, name: str):
        super().__init__()
        check_single_action_spec(spec, name)
        if not spec.is_continuous:
            raise ValueError(
                f"{name}.action_spec: expected continuous actions, got {spec}. A deterministic actor cannot choose "
                f"among discrete actions; use a QNetwork or an ActorDistributionNetwork."
            )
        check_bounded_action_spec(spec, name, "The output is scaled to them.")
        means, magnitudes = spec_means_and_magnitudes(spec)
        self._is_unit_box = bool((means == 0).all() and (magnitudes == 1).all())
        self.register_buffer("_means", means, persistent=False)
        self.register_buffer("_magnitudes", magnitudes, persistent=False)
        self._shape = spec.shape
        self._layer = FC(input_size, spec.numel, activation=squashing_func, kernel_initializer=_LAST_KERNEL_INITIALIZER)

    def forward(self, encoding: torch.Tensor) -> torch.Tensor:
        """Return the action `[B, *spec.shape]`."""
        action = self._layer(encoding)
        if len(self._shape) != 1:
            action = action.view(action.shape[0], *self._shape)
        return action if self._is_unit_box else torch.addcmul(self._means, self._magnitudes, action)


@configurable
class ActorNetworkBase(Network):
    """An encoding network followed by a squashed linear layer for each action.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs.
        encoding_network_ctor: called with `input_tensor_spec` and `encoder_kwargs`; its output must be a
            vector.
        squashing_func: maps into [-1, 1], which is then scaled to the bounds.
        name: name of the network.
        encoder_kwargs: further arguments of the encoding network.

    Raises:
        ValueError: if an action is not bounded and continuous.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: NestedTensorSpec,
        encoding_network_ctor: Callable = EncodingNetwork,
        squashing_func: Callable = torch.tanh,
        name: str = "ActorNetworkBase",
        **encoder_kwargs,
    ):
        super().__init__(input_tensor_spec, name=name)
        self._encoding_net = encoding_network_ctor(input_tensor_spec=input_tensor_spec, **encoder_kwargs)
        encoding_spec = self._encoding_net.output_spec
        if nest.is_nested(encoding_spec) or encoding_spec.ndim != 1:
            raise ValueError(
                f"{name}: expected an encoding network that puts out a vector, got {encoding_spec}. Set "
                f"conv_layer_params for images and fc_layer_params, or flatten with input_preprocessors."
            )
        specs, self._structure = nest.flatten_with_structure(action_spec)
        self._action_layers = nn.ModuleList(
            [_BoundedAction(encoding_spec.shape[0], spec, squashing_func, name) for spec in specs]
        )

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of the state of the encoding network."""
        return self._encoding_net.state_spec

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return the action, a nest of tensors `[B, ...]` as the action spec, and the new state.

        Args:
            observation: nest of tensors `[B, ...]`.
            state: nest as `state_spec`.
        """
        encoding, state = call(self._modules["_encoding_net"], observation, state)
        return self._structure.unflatten([layer(encoding) for layer in self._action_layers]), state


@configurable
class ActorNetwork(ActorNetworkBase):
    """A feed-forward deterministic actor.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs.
        input_preprocessors: see `EncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the last one.
        activation: of all layers but the last one.
        squashing_func: maps into [-1, 1], which is then scaled to the bounds.
        kernel_initializer: of all layers but the last one.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: TensorSpec,
        action_spec: BoundedTensorSpec,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        squashing_func: Callable = torch.tanh,
        kernel_initializer: Optional[Callable] = None,
        name: str = "ActorNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=EncodingNetwork,
            squashing_func=squashing_func,
            name=name,
            input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            fc_layer_params=fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
        )


@configurable
class ActorRNNNetwork(ActorNetworkBase):
    """A recurrent deterministic actor.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs.
        input_preprocessors: see `LSTMEncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the LSTM.
        lstm_hidden_size: size of each LSTM layer; an int for a single one.
        actor_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all but the LSTM layers and the last one.
        squashing_func: maps into [-1, 1], which is then scaled to the bounds.
        kernel_initializer: of all but the LSTM layers and the last one.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: TensorSpec,
        action_spec: BoundedTensorSpec,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        lstm_hidden_size: Any = 100,
        actor_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        squashing_func: Callable = torch.tanh,
        kernel_initializer: Optional[Callable] = None,
        name: str = "ActorRNNNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=LSTMEncodingNetwork,
            squashing_func=squashing_func,
            name=name,
            input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            pre_fc_layer_params=fc_layer_params,
            hidden_size=lstm_hidden_size,
            post_fc_layer_params=actor_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
        )
