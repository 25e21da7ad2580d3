"""Preprocessors: networks without state that turn one part of an observation into a vector."""

import math
from typing import Any, Callable, Optional, Tuple

import torch
import torch.nn as nn

from alf.config_util import configurable
from alf.networks.encoding_networks import EncodingNetwork
from alf.networks.network import Network
from alf.tensor_specs import TensorSpec
from alf.utils.math_ops import identity


@configurable
class EmbeddingPreprocessor(Network):
    """Turns an integer, an image or a vector into a vector of a given size.

    Integers are looked up in a learned table; images and vectors go through an encoding network.

    Args:
        input_tensor_spec: spec of the input; one of an integer dtype needs bounds and is a scalar, unless
            ``conv_layer_params`` makes it an image.
        embedding_dim: size of the output.
        conv_layer_params: convolutions for images, see ``EncodingNetwork``.
        fc_layer_params: sizes of dense layers between the table or the convolutions and the output.
        activation: of all these layers.
        last_activation: applied to the output.
        name: name of the network.
    Raises:
        ValueError: if the spec is of an integer dtype but neither bounded scalar nor image.
    """

    def __init__(self,
                 input_tensor_spec: TensorSpec,
                 embedding_dim: int,
                 conv_layer_params: Optional[Tuple[Tuple, ...]] = None,
                 fc_layer_params: Optional[Tuple[int, ...]] = None,
                 activation: Callable = torch.relu_,
                 last_activation: Callable = identity,
                 name: str = "EmbeddingPreproc"):
        super().__init__(input_tensor_spec, name=name)
        self._table = None
        self._encoder = None
        self._last_activation = None
        encoder_spec = input_tensor_spec
        if input_tensor_spec.is_discrete and not conv_layer_params:
            if not input_tensor_spec.is_bounded() or input_tensor_spec.shape != ():
                raise ValueError(f"{name}.input_tensor_spec: expected a bounded scalar of an integer dtype "
                                 f"(or an image with conv_layer_params), got {input_tensor_spec}.")
            self._minimum = int(input_tensor_spec.minimum)
            self._table = nn.Embedding(int(input_tensor_spec.maximum) - self._minimum + 1, embedding_dim)
            encoder_spec = TensorSpec((embedding_dim, ))
        if self._table is None or fc_layer_params:
            self._encoder = EncodingNetwork(
                encoder_spec, conv_layer_params=conv_layer_params, fc_layer_params=fc_layer_params,
                activation=activation, last_layer_size=embedding_dim, last_activation=last_activation)
        else:
            self._last_activation = last_activation

    def forward(self, inputs: torch.Tensor, state: Any = ()):
        """Return ``[B, embedding_dim]`` for ``inputs`` ``[B, ...]``, and ``state`` as it is."""
        x = inputs
        if self._table is not None:
            x = self._table(x - self._minimum)
        if self._encoder is not None:
            x, _ = self._encoder(x)
        return x if self._last_activation is None else self._last_activation(x), state


@configurable
class CosineEmbeddingPreprocessor(Network):
    """Embeds numbers by cosines: ``cos(pi i tau)`` for ``i`` from 0 to ``embedding_dim - 1``.

    Eq. (4) of https://arxiv.org/abs/1806.06923, without its dense layer.

    Args:
        input_tensor_spec: spec of the numbers, any shape.
        embedding_dim: number of cosines.
        name: name of the network.
    """

    def __init__(self, input_tensor_spec: TensorSpec, embedding_dim: int,
                 name: str = "CosineEmbeddingNetwork"):
        super().__init__(input_tensor_spec, name=name)
        self._embedding_dim = embedding_dim
        self.register_buffer("_frequencies", math.pi * torch.arange(embedding_dim, dtype=torch.float32),
                             persistent=False)

    def forward(self, tau: torch.Tensor, state: Any = ()):
        """Return ``[..., embedding_dim]`` for ``tau`` ``[...]``, and ``state`` as it is."""
        return torch.cos(tau.unsqueeze(-1) * self._frequencies), state

    def make_parallel(self, n: int) -> Network:
        """Return the network for inputs ``[B, n, ...]``."""
        spec = self._input_tensor_spec
        return CosineEmbeddingPreprocessor(spec.replace(shape=(n, *spec.shape)), self._embedding_dim,
                                           name=f"parallel_{self._name}")
