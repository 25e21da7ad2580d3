"""A projection to a mixture of distributions of one family."""

from typing import Any, Callable, Tuple

import torch
import torch.distributions as td
from torch import Tensor

from alf.config_util import configurable
from alf.networks.network import Network
from alf.networks.projection_networks._categorical import CategoricalProjectionNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils


@configurable
class MixtureProjectionNetwork(Network):
    """A mixture: `num_components` projections of one kind, and a categorical one for their weights.

    Args:
        input_size: size of the encoding.
        action_spec: spec of the action, as the component needs it.
        num_components: number of components.
        component_ctor: called with `(input_size, action_spec)`, makes the projection network of a component.
        mixture_ctor: called with `(input_size, spec of the component's index)`, makes that of the weights.
        name: name of the network.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: TensorSpec,
        num_components: int,
        component_ctor: Callable,
        mixture_ctor: Callable = CategoricalProjectionNetwork,
        name: str = "mix_proj_net",
    ):
        if num_components < 1:
            raise ValueError(f"{name}.num_components: expected at least 1, got {num_components}.")
        super().__init__(TensorSpec((input_size,)), name=name)
        index_spec = BoundedTensorSpec((), dtype=torch.int64, minimum=0, maximum=num_components - 1)
        self._num_components = num_components
        self._mixture_net = mixture_ctor(input_size, index_spec)
        self._component_net = component_ctor(input_size, action_spec).make_parallel(num_components)

    @property
    def num_components(self) -> int:
        """Number of components."""
        return self._num_components

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]`, and the state as it is.

        Args:
            inputs: encodings `[B, input_size]`.
            state: passed through.
        """
        weights, _ = self._mixture_net(inputs)
        components, _ = self._component_net(inputs)
        return dist_utils.make_mixture(weights, components), state
