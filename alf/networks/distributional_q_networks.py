"""Q networks with the switches of Rainbow: value distributions, dueling streams, noisy layers."""

import functools
from typing import Any, Callable, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from alf.config_util import configurable
from alf.layers import FC, Sequential, make_parallel_spec
from alf.networks._action_spec_checks import check_discrete_action_spec
from alf.networks._noisy_dense import NoisyDense
from alf.networks.encoding_networks import EncodingNetwork
from alf.networks.network import Network
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec
from alf.utils.math_ops import identity

# As for QNetwork: values begin near 0.
_LAST_KERNEL_INITIALIZER = functools.partial(torch.nn.init.uniform_, a=-0.03, b=0.03)


def combine_streams(value: Tensor, advantage: Tensor) -> Tensor:
    """Return ``value + advantage - mean over actions of advantage``, Eq. (9) of https://arxiv.org/abs/1511.06581.

    Args:
        value: ``[..., 1, N]``.
        advantage: ``[..., K, N]``.
    """
    return value + (advantage - advantage.mean(dim=-2, keepdim=True))


class _Head(nn.Module):
    """Dense layers from features ``[..., F]`` to values ``[..., K, N]``, with one stream or two.

    Args:
        advantage: layers that give ``[..., K * N]``.
        value: layers that give ``[..., N]``; None: no dueling, ``advantage`` gives the values.
        num_actions: K.
        num_values: N; None: values are ``[..., K]``.
    """

    def __init__(self, advantage: nn.Module, value: Optional[nn.Module], num_actions: int, num_values: Optional[int]):
        super().__init__()
        self._advantage = advantage
        self._value = value
        self._num_actions = num_actions
        self._num_values = num_values

    def forward(self, features: Tensor) -> Tensor:
        advantage = self._advantage(features)
        if self._value is None and self._num_values is None:
            return advantage
        values = advantage.unflatten(-1, (self._num_actions, self._num_values or 1))
        if self._value is not None:
            values = combine_streams(self._value(features).unsqueeze(-2), values)
        return values.squeeze(-1) if self._num_values is None else values

    def make_parallel(self, n: int) -> "_Head":
        value = None if self._value is None else self._value.make_parallel(n)
        return _Head(self._advantage.make_parallel(n), value, self._num_actions, self._num_values)


class _HeadedQNetwork(Network):
    """An encoding network and a head; arguments as for the classes below."""

    def __init__(self, input_tensor_spec: NestedTensorSpec, action_spec: BoundedTensorSpec, num_values: Optional[int],
                 dueling: bool, noisy_std: Optional[float], stream_fc_layer_params: Optional[Tuple[int, ...]],
                 activation: Callable, kernel_initializer: Optional[Callable], name: str, **encoder_kwargs):
        num_actions = check_discrete_action_spec(action_spec, name)
        if action_spec.ndim != 0:
            raise ValueError(f"{name}.action_spec: expected a single discrete action, shape (), got {action_spec}.")
        if num_values is not None and num_values < 1:
            raise ValueError(f"{name}.num_values: expected None or a number >= 1, got {num_values}.")
        super().__init__(input_tensor_spec, name=name)
        self._encoding_net = EncodingNetwork(
            input_tensor_spec, activation=activation, kernel_initializer=kernel_initializer, name=f"{name}_encoder",
            **encoder_kwargs)
        features = self._encoding_net.output_spec
        if features.ndim != 1:
            raise ValueError(f"{name}: dense layers expect a vector, got {features}. Set conv_layer_params for images, "
                             f"or input_preprocessors=alf.layers.Reshape(-1) to flatten.")

        def stream(output_size: int) -> nn.Module:
            layers, size = [], features.shape[0]
            for hidden_size in stream_fc_layer_params or ():
                layers.append(NoisyDense(size, hidden_size, noisy_std, activation) if noisy_std is not None else
                              FC(size, hidden_size, activation=activation, kernel_initializer=kernel_initializer))
                size = hidden_size
            layers.append(NoisyDense(size, output_size, noisy_std) if noisy_std is not None else
                          FC(size, output_size, activation=identity, kernel_initializer=_LAST_KERNEL_INITIALIZER))
            return Sequential(*layers)

        size = num_values or 1
        self._head = _Head(stream(num_actions * size), stream(size) if dueling else None, num_actions, num_values)

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the values of the actions ``[B, K]``, or ``[B, K, num_values]``, and the state ``()``.

        Args:
            observation: nest of tensors ``[B, ...]``.
            state: ``()``.
        """
        modules = self._modules
        return modules["_head"](modules["_encoding_net"](observation)[0]), state

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with parameters of their own, as one; values ``[B, n, K]``, or with another
        dimension ``num_values`` at the end."""
        return _ParallelHeadedQNetwork(self, n)


class _ParallelHeadedQNetwork(Network):
    """``n`` networks with encoder and head as one; it accepts ``[B, n, ...]`` and ``[B, ...]``."""

    def __init__(self, q_network: _HeadedQNetwork, n: int):
        super().__init__(make_parallel_spec(q_network.input_tensor_spec, n), name=f"parallel_{q_network.name}")
        self._encoding_net = q_network._encoding_net.make_parallel(n, allow_non_parallel_input=True)
        self._head = q_network._head.make_parallel(n)

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the values of the actions ``[B, n, K]`` or ``[B, n, K, num_values]``, and the state ``()``."""
        modules = self._modules
        return modules["_head"](modules["_encoding_net"](inputs)[0]), state


@configurable
class DistributionalQNetwork(_HeadedQNetwork):
    """A Q network that may give several numbers for each action, and whose last layers may be noisy.

    The numbers are what ``DqnAlgorithm.value_distribution`` makes of them: logits of the atoms of a categorical
    distribution (https://arxiv.org/abs/1707.06887) or quantiles (https://arxiv.org/abs/1710.10044).

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape ``()``, minimum 0.
        num_values: numbers for each action, as a dimension of their own; None: one, without that dimension.
        noisy_std: initial standard deviation of the noise in the layers after the encoder, 0.5 in
            https://arxiv.org/abs/1706.10295; there is new noise in every call in training and unrolls, none in
            evaluation. None: no noise.
        input_preprocessors: see ``EncodingNetwork``, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers of the encoder, for images.
        fc_layer_params: sizes of the dense layers of the encoder.
        stream_fc_layer_params: sizes of the dense layers between the encoder and the last layer.
        activation: of all layers but the last one.
        kernel_initializer: of all layers but the last one and the noisy ones.
        name: name of the network.

    Raises:
        ValueError: if the action spec is something else, or there are fewer than one ``num_values``.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: BoundedTensorSpec,
        num_values: Optional[int] = None,
        noisy_std: Optional[float] = None,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        stream_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        name: str = "DistributionalQNetwork",
    ):
        super().__init__(
            input_tensor_spec, action_spec, num_values, dueling=False, noisy_std=noisy_std,
            stream_fc_layer_params=stream_fc_layer_params, activation=activation, kernel_initializer=kernel_initializer,
            name=name, input_preprocessors=input_preprocessors, preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params, fc_layer_params=fc_layer_params)


@configurable
class DuelingQNetwork(_HeadedQNetwork):
    """A Q network with one stream for the value of the state and one for the advantages of the actions.

    ``Q(s, a) = V(s) + A(s, a) - mean_b A(s, b)``, Eq. (9) of https://arxiv.org/abs/1511.06581; with ``num_values`` that
    holds for each of the numbers, as in https://arxiv.org/abs/1710.02298.

    Args:
        input_tensor_spec: see :class:`DistributionalQNetwork`, as all the others.
        action_spec: a discrete spec of shape ``()``, minimum 0.
        num_values: numbers for each action; None: one, without a dimension of its own.
        noisy_std: initial standard deviation of the noise in both streams; None: no noise.
        input_preprocessors: see ``EncodingNetwork``.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers of the encoder, which both streams share.
        fc_layer_params: sizes of the dense layers of the encoder.
        stream_fc_layer_params: sizes of the dense layers of each stream.
        activation: of all layers but the last ones.
        kernel_initializer: of all layers but the last ones and the noisy ones.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: BoundedTensorSpec,
        num_values: Optional[int] = None,
        noisy_std: Optional[float] = None,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        stream_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        name: str = "DuelingQNetwork",
    ):
        super().__init__(
            input_tensor_spec, action_spec, num_values, dueling=True, noisy_std=noisy_std,
            stream_fc_layer_params=stream_fc_layer_params, activation=activation, kernel_initializer=kernel_initializer,
            name=name, input_preprocessors=input_preprocessors, preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params, fc_layer_params=fc_layer_params)
