"""Projections to location-scale distributions: normal and Cauchy, plain or squashed into the bounds of the action."""

import functools
import math
from typing import Any, Callable, Optional, Tuple

import torch
import torch.distributions as td
from torch import Tensor, nn

from alf.config_util import configurable
from alf.layers import FC, make_parallel_spec
from alf.networks._action_spec_checks import check_bounded_action_spec, check_continuous_action_spec
from alf.networks._call import call
from alf.networks.network import Network
from alf.tensor_specs import TensorSpec
from alf.utils import dist_utils, math_ops
from alf.utils.dist_utils import StableTanh
from alf.utils.spec_utils import spec_means_and_magnitudes

_STABLE_TANH = StableTanh()


@configurable
class NormalProjectionNetwork(Network):
    """Linear layers to mean and standard deviation of a diagonal normal distribution.

    There are two ways to respect bounds. With `squash_mean` the mean is squashed into them by tanh, and
    samples may leave them. With `scale_distribution` the whole distribution is squashed, as in
    https://arxiv.org/abs/1801.01290: samples stay inside, and the mean is not squashed.

    Args:
        input_size: size of the encoding.
        action_spec: a continuous spec of shape `(A,)`; bounded, if something is squashed.
        parallelism: number of projections with parameters of their own; None for a single one.
        activation: activation of the layers.
        projection_output_init_gain: gain of the initial weights.
        std_bias_initializer_value: initial value of what `std_transform` is applied to.
        squash_mean: whether to squash the mean into the bounds; unused with `scale_distribution` or
            `mean_transform`.
        mean_transform: applied to the mean instead of that squashing.
        state_dependent_std: True: the standard deviation depends on the input; False: it is a parameter.
        std_transform: makes the standard deviation positive.
        scale_distribution: whether to squash the distribution into the bounds.
        dist_squashing_transform: squashes the reals into (-1, 1), used with `scale_distribution`.
        name: name of the network.

    Raises:
        ValueError: if the action spec is not continuous, or lacks the bounds that the squashing needs.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: TensorSpec,
        parallelism: Optional[int] = None,
        activation: Callable = math_ops.identity,
        projection_output_init_gain: float = 0.3,
        std_bias_initializer_value: float = 0.0,
        squash_mean: bool = True,
        mean_transform: Optional[Callable] = None,
        state_dependent_std: bool = False,
        std_transform: Callable = nn.functional.softplus,
        scale_distribution: bool = False,
        dist_squashing_transform: td.Transform = _STABLE_TANH,
        name: str = "NormalProjectionNetwork",
    ):
        check_continuous_action_spec(action_spec, name)
        spec = TensorSpec((input_size,))
        super().__init__(spec if parallelism is None else make_parallel_spec(spec, parallelism), name=name)
        self._std_transform = std_transform
        self._scale_distribution = scale_distribution
        self._mean_transform = mean_transform
        self._squash_mean = squash_mean and mean_transform is None and not scale_distribution
        self._is_unit_box = False
        if self._squash_mean or scale_distribution:
            what = "squash_mean=True" if self._squash_mean else "scale_distribution=True"
            check_bounded_action_spec(
                action_spec, name, f"{what} needs them; set it to False for actions without bounds."
            )
            means, magnitudes = spec_means_and_magnitudes(action_spec)
            self._is_unit_box = bool((means == 0).all() and (magnitudes == 1).all())
            self.register_buffer("_action_means", means, persistent=False)
            self.register_buffer("_action_magnitudes", magnitudes, persistent=False)
        if scale_distribution:
            self._transforms = [dist_squashing_transform]
            if not self._is_unit_box:
                self._transforms.append(dist_utils.AffineTransform(loc=means, scale=magnitudes))

        def _make_layer(bias_init_value):
            layer = FC(
                input_size,
                action_spec.shape[0],
                activation=activation,
                kernel_init_gain=projection_output_init_gain,
                bias_init_value=bias_init_value,
            )
            return layer if parallelism is None else layer.make_parallel(parallelism)

        self._means_projection_layer = _make_layer(0.0)
        self._std_projection_layer = _make_layer(std_bias_initializer_value) if state_dependent_std else None
        outer = () if parallelism is None else (parallelism,)
        self._first_std = float(std_bias_initializer_value)
        self._std = (
            None if state_dependent_std else nn.Parameter(torch.full(outer + action_spec.shape, self._first_std))
        )

    @torch.no_grad()
    def _reset_parameters(self) -> None:
        if self._std is not None:
            self._std.fill_(self._first_std)

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]` (`[B, n]` if parallel), event shape `[A]`; the state
        as it is.

        Args:
            inputs: encodings `[B, input_size]`; if parallel also `[B, n, input_size]`.
            state: passed through.
        """
        loc, scale = self._loc_and_scale(inputs)
        if self._scale_distribution:
            return self._make_squashed(loc, scale), state
        return self._make_plain(loc, scale), state

    def _loc_and_scale(self, inputs: Tensor) -> Tuple[Tensor, Tensor]:
        modules = self._modules
        loc = call(modules["_means_projection_layer"], inputs)
        if self._mean_transform is not None:
            loc = self._mean_transform(loc)
        elif self._squash_mean:
            loc = torch.tanh(loc)
            if not self._is_unit_box:
                loc = torch.addcmul(self._action_means, self._action_magnitudes, loc)
        std_layer = modules.get("_std_projection_layer")
        if std_layer is None:
            scale = self._std_transform(self._parameters["_std"]).expand_as(loc)
        else:
            scale = self._std_transform(call(std_layer, inputs))
        return loc, scale

    def _make_plain(self, loc: Tensor, scale: Tensor) -> td.Distribution:
        return dist_utils.DiagMultivariateNormal(loc, scale)

    def _make_squashed(self, loc: Tensor, scale: Tensor) -> td.Distribution:
        return dist_utils.SquashedDiagNormal(loc, scale, self._transforms)

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; batch shape `[B, n]`."""
        args = dict(self.saved_args)
        if args.get("parallelism") is not None:
            raise ValueError(f"{self.name}.make_parallel: the network is parallel already.")
        name = args.pop("name", self.name)
        args.pop("parallelism", None)
        return type(self)(**args, parallelism=n, name=f"parallel_{name}")


# inverse_std_transform: (the function f, its inverse); both map onto the positive numbers.
_INVERSE_STD_TRANSFORMS = {
    "softplus": (nn.functional.softplus, lambda y: y + math.log(-math.expm1(-y))),
    "exp": (torch.exp, math.log),
}


def _std_from_inverse(x: Tensor, transform: Callable, min_std: float, min_inverse_std: float) -> Tensor:
    """Return `min_std + 1 / (min_inverse_std + f(x))`."""
    return min_std + 1 / (min_inverse_std + transform(x))


@configurable
class StableNormalProjectionNetwork(NormalProjectionNetwork):
    """A normal projection that parametrises the inverse of the standard deviation, and begins with a given
    one.

    The standard deviation is `min_std + 1 / (1 / (max_std - min_std) + f(x))`, `f` the inverse-std
    transform. The gradient of the log probability with respect to `x` stays bounded as the policy becomes
    deterministic.

    Args:
        input_size: see `NormalProjectionNetwork`, as all arguments not listed here.
        action_spec: a continuous spec of shape `(A,)`.
        parallelism: number of projections; None for a single one.
        activation: activation of the layers.
        projection_output_init_gain: gain of the initial weights.
        squash_mean: whether to squash the mean into the bounds.
        state_dependent_std: whether the standard deviation depends on the input.
        inverse_std_transform: `f`, `softplus` or `exp`.
        scale_distribution: whether to squash the distribution into the bounds.
        init_std: initial standard deviation, between the two limits.
        min_std: lower limit, >= 0.
        max_std: upper limit; None for none.
        dist_squashing_transform: squashes the reals into (-1, 1).
        name: name of the network.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: TensorSpec,
        parallelism: Optional[int] = None,
        activation: Callable = math_ops.identity,
        projection_output_init_gain: float = 1e-05,
        squash_mean: bool = True,
        state_dependent_std: bool = False,
        inverse_std_transform: str = "softplus",
        scale_distribution: bool = False,
        init_std: float = 1.0,
        min_std: float = 0.0,
        max_std: Optional[float] = None,
        dist_squashing_transform: td.Transform = _STABLE_TANH,
        name: str = "StableNormalProjectionNetwork",
    ):
        if inverse_std_transform not in _INVERSE_STD_TRANSFORMS:
            raise ValueError(
                f"{name}.inverse_std_transform: expected one of {sorted(_INVERSE_STD_TRANSFORMS)}, got "
                f"{inverse_std_transform!r}."
            )
        if not 0 <= min_std < init_std < (math.inf if max_std is None else max_std):
            raise ValueError(
                f"{name}: expected 0 <= min_std < init_std < max_std, got min_std={min_std}, init_std={init_std}, "
                f"max_std={max_std}."
            )
        transform, inverse = _INVERSE_STD_TRANSFORMS[inverse_std_transform]
        min_inverse_std = 0.0 if max_std is None else 1 / (max_std - min_std)
        super().__init__(
            input_size,
            action_spec,
            parallelism=parallelism,
            activation=activation,
            projection_output_init_gain=projection_output_init_gain,
            std_bias_initializer_value=inverse(1 / (init_std - min_std) - min_inverse_std),
            squash_mean=squash_mean,
            mean_transform=None,
            state_dependent_std=state_dependent_std,
            std_transform=functools.partial(
                _std_from_inverse, transform=transform, min_std=min_std, min_inverse_std=min_inverse_std
            ),
            scale_distribution=scale_distribution,
            dist_squashing_transform=dist_squashing_transform,
            name=name,
        )


@configurable
class CauchyProjectionNetwork(NormalProjectionNetwork):
    """Linear layers to median and scale of independent Cauchy distributions: exploration with heavy tails.

    Args:
        input_size: size of the encoding.
        action_spec: a continuous spec of shape `(A,)`; bounded, if something is squashed.
        squash_median: whether to squash the median into the bounds.
        scale_bias_initializer_value: initial value of what `scale_transform` is applied to.
        state_dependent_scale: whether the scale depends on the input.
        scale_transform: makes the scale positive.
        scale_distribution: whether to squash the distribution into the bounds.
        dist_squashing_transform: squashes the reals into (-1, 1).
        name: name of the network.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: TensorSpec,
        squash_median: bool = True,
        scale_bias_initializer_value: float = 0.0,
        state_dependent_scale: bool = False,
        scale_transform: Callable = nn.functional.softplus,
        scale_distribution: bool = False,
        dist_squashing_transform: td.Transform = _STABLE_TANH,
        name: str = "CauchyProjectionNetwork",
    ):
        super().__init__(
            input_size,
            action_spec,
            parallelism=None,
            std_bias_initializer_value=scale_bias_initializer_value,
            squash_mean=squash_median,
            mean_transform=None,
            state_dependent_std=state_dependent_scale,
            std_transform=scale_transform,
            scale_distribution=scale_distribution,
            dist_squashing_transform=dist_squashing_transform,
            name=name,
        )

    def _make_plain(self, loc: Tensor, scale: Tensor) -> td.Distribution:
        return dist_utils.DiagMultivariateCauchy(loc, scale)

    def _make_squashed(self, loc: Tensor, scale: Tensor) -> td.Distribution:
        # Transforms of its own: torch's class uses their memory, and shared memory would keep old graphs
        # alive.
        transforms = [dist_utils.get_transform_builder(t)() for t in self._transforms]
        return dist_utils.make_transformed(dist_utils.DiagMultivariateCauchy(loc, scale), transforms)

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; batch shape `[B, n]`."""
        return Network.make_parallel(self, n)
