"""Projections to distributions that live between bounds by themselves: Beta and truncated ones."""

from typing import Any, Callable, Optional, Tuple

import torch
import torch.distributions as td
from torch import Tensor, nn

from alf.config_util import configurable
from alf.layers import FC, make_parallel_spec
from alf.networks._action_spec_checks import check_bounded_action_spec, check_continuous_action_spec
from alf.networks.network import Network
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils, math_ops
from alf.utils.spec_utils import spec_means_and_magnitudes


@configurable
class BetaProjectionNetwork(Network):
    """A linear layer to the concentrations of Beta distributions, scaled to the bounds of the action.

    Args:
        input_size: size of the encoding.
        action_spec: a bounded continuous spec of shape `(A,)`.
        parallelism: number of projections with parameters of their own; None for a single one.
        activation: makes the concentrations positive.
        min_concentration: added to the concentrations; with 1 the distribution has a single peak.
        projection_output_init_gain: gain of the initial weights; 0 begins with the same distribution for
            all inputs.
        bias_init_value: initial bias; the default makes the concentrations 1 (uniform) under softplus.
        grad_clip: limit of the gradient of each concentration; None for none.
        name: name of the network.

    Raises:
        ValueError: if the action spec is not bounded and continuous.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: BoundedTensorSpec,
        parallelism: Optional[int] = None,
        activation: Callable = nn.functional.softplus,
        min_concentration: float = 0.0,
        projection_output_init_gain: float = 0.0,
        bias_init_value: float = 0.541324854612918,
        grad_clip: Optional[float] = 0.01,
        name: str = "BetaProjectionNetwork",
    ):
        check_continuous_action_spec(action_spec, name)
        check_bounded_action_spec(action_spec, name, "A Beta distribution lives between bounds.")
        spec = TensorSpec((input_size,))
        super().__init__(spec if parallelism is None else make_parallel_spec(spec, parallelism), name=name)
        layer = FC(
            input_size,
            2 * action_spec.shape[0],
            activation=activation,
            # Noise of variance 0 is not something the default initializer draws.
            kernel_initializer=nn.init.zeros_ if projection_output_init_gain == 0 else None,
            kernel_init_gain=projection_output_init_gain,
            bias_init_value=bias_init_value,
        )
        self._concentration_projection_layer = layer if parallelism is None else layer.make_parallel(parallelism)
        self._min_concentration = min_concentration
        self._grad_clip = grad_clip
        means, magnitudes = spec_means_and_magnitudes(action_spec)
        self._loc, self._scale = means - magnitudes, 2 * magnitudes

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]` (`[B, n]` if parallel), event shape `[A]`; the state
        as it is.

        Args:
            inputs: encodings `[B, input_size]`; if parallel also `[B, n, input_size]`.
            state: passed through.
        """
        concentration = self._concentration_projection_layer(inputs)
        if self._min_concentration != 0:
            concentration = concentration + self._min_concentration
        if self._grad_clip is not None and concentration.requires_grad:
            limit = self._grad_clip
            concentration.register_hook(lambda grad: grad.clamp(-limit, limit))
        concentration1, concentration0 = concentration.chunk(2, dim=-1)
        base = dist_utils.DiagMultivariateBeta(concentration1, concentration0)
        return dist_utils.AffineTransformedDistribution(base, loc=self._loc, scale=self._scale), state

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; batch shape `[B, n]`."""
        args = dict(self.saved_args)
        if args.get("parallelism") is not None:
            raise ValueError(f"{self.name}.make_parallel: the network is parallel already.")
        name = args.pop("name", self.name)
        args.pop("parallelism", None)
        return type(self)(**args, parallelism=n, name=f"parallel_{name}")


@configurable
class TruncatedProjectionNetwork(Network):
    """Linear layers to location and scale of a distribution cut to the bounds of the action.

    Args:
        input_size: size of the encoding.
        action_spec: a bounded continuous spec of shape `(A,)`.
        activation: activation of the layers.
        projection_output_init_gain: gain of the initial weights.
        scale_bias_initializer_value: initial value of what `scale_transform` is applied to.
        state_dependent_scale: True: the scale depends on the input; False: it is a parameter.
        loc_transform: squashes the location into [-1, 1], which is then scaled to the bounds.
        scale_transform: makes the scale positive.
        min_scale: lower limit of the scale; None for none. Beyond a limit the scale has no gradient.
        max_scale: upper limit of the scale; None for none.
        dist_ctor: the distribution: `TruncatedNormal`, `TruncatedCauchy` or `TruncatedT2`.
        name: name of the network.

    Raises:
        ValueError: if the action spec is not bounded and continuous.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: BoundedTensorSpec,
        activation: Callable = math_ops.identity,
        projection_output_init_gain: float = 0.3,
        scale_bias_initializer_value: float = 0.0,
        state_dependent_scale: bool = False,
        loc_transform: Callable = torch.tanh,
        scale_transform: Callable = nn.functional.softplus,
        min_scale: Optional[float] = None,
        max_scale: Optional[float] = None,
        dist_ctor: Callable = dist_utils.TruncatedNormal,
        name: str = "TruncatedProjectionNetwork",
    ):
        check_continuous_action_spec(action_spec, name)
        check_bounded_action_spec(action_spec, name, "They are where the distribution is cut.")
        super().__init__(TensorSpec((input_size,)), name=name)
        size = action_spec.shape[0]
        self._loc_projection_layer = FC(
            input_size, size, activation=activation, kernel_init_gain=projection_output_init_gain
        )
        self._scale_projection_layer = None
        self._scale = None
        self._first_scale = float(scale_bias_initializer_value)
        if state_dependent_scale:
            self._scale_projection_layer = FC(
                input_size,
                size,
                activation=activation,
                kernel_init_gain=projection_output_init_gain,
                bias_init_value=scale_bias_initializer_value,
            )
        else:
            self._scale = nn.Parameter(torch.full((size,), self._first_scale))
        self._loc_transform, self._scale_transform = loc_transform, scale_transform
        self._scale_limits = (min_scale, max_scale)
        self._dist_ctor = dist_ctor
        self._means, self._magnitudes = spec_means_and_magnitudes(action_spec)
        self._bounds = (self._means - self._magnitudes, self._means + self._magnitudes)

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        if self._scale is not None:
            self._scale.fill_(self._first_scale)

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]`, event shape `[A]`, and the state as it is.

        Args:
            inputs: encodings `[B, input_size]`.
            state: passed through.
        """
        loc = self._loc_transform(self._loc_projection_layer(inputs))
        loc = torch.addcmul(self._means, self._magnitudes, loc)
        raw_scale = self._scale if self._scale_projection_layer is None else self._scale_projection_layer(inputs)
        scale = self._scale_transform(raw_scale)
        if self._scale_limits != (None, None):
            scale = scale.clamp(*self._scale_limits)
        low, high = self._bounds
        return self._dist_ctor(loc=loc, scale=scale.expand_as(loc), lower_bound=low, upper_bound=high), state
