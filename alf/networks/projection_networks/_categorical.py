"""Projections to categorical distributions, over indices and over one-hot vectors."""

import functools
from typing import Any, Callable, Dict, Optional, Tuple

import torch.distributions as td
from torch import Tensor

from alf.config_util import configurable
from alf.layers import FC, make_parallel_spec
from alf.networks._action_spec_checks import check_discrete_action_spec
from alf.networks._call import call
from alf.networks.network import Network
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils


def _call(layer: Callable, inputs: Tensor, state: Any, has_state: bool) -> Tuple[Tensor, Any]:
    """Return output and new state of a layer, or of a network such as `NoisyFC`."""
    if has_state:
        return call(layer, inputs, state)
    output = call(layer, inputs)
    return (output[0], state) if isinstance(layer, Network) else (output, state)


def _make_categorical(logits: Tensor, action_ndim: int) -> td.Distribution:
    dist = dist_utils.Categorical(logits=logits)
    return dist_utils.Independent(dist, action_ndim) if action_ndim else dist


@configurable
class CategoricalProjectionNetwork(Network):
    """A linear layer to the logits of a categorical distribution.

    For an action of shape `()` the distribution is over `0 .. K - 1`; for shape `(k, ...)` it is over
    arrays of that shape with independent components.

    Args:
        input_size: size of the encoding.
        action_spec: a discrete spec with minimum 0 and the same maximum `K - 1` for all components.
        fc_ctor: makes the layer; may be a network with state, such as `NoisyFC`.
        logits_init_output_factor: gain of the initial weights; small values begin with a nearly uniform
            policy.
        weight_opt_args: optimizer options of the weight.
        bias_opt_args: optimizer options of the bias.
        name: name of the network.

    Raises:
        ValueError: if the action spec is not such a discrete spec.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: BoundedTensorSpec,
        fc_ctor: Callable = FC,
        logits_init_output_factor: float = 0.1,
        weight_opt_args: Optional[Dict] = None,
        bias_opt_args: Optional[Dict] = None,
        name: str = "CategoricalProjectionNetwork",
    ):
        num_actions = check_discrete_action_spec(action_spec, name)
        layer = fc_ctor(
            input_size,
            action_spec.numel * num_actions,
            kernel_init_gain=logits_init_output_factor,
            weight_opt_args=weight_opt_args,
            bias_opt_args=bias_opt_args,
        )
        state_spec = layer.state_spec if isinstance(layer, Network) else ()
        super().__init__(TensorSpec((input_size,)), state_spec=state_spec, name=name)
        self._projection_layer = layer
        self._has_state = self.is_rnn
        self._output_shape = (*action_spec.shape, num_actions)

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]`, and the state.

        Args:
            inputs: encodings `[B, input_size]`.
            state: state of the layer; `()` for a plain one.
        """
        logits, state = _call(self._modules["_projection_layer"], inputs, state, self._has_state)
        shape = self._output_shape
        if len(shape) > 1:
            logits = logits.view(*logits.shape[:-1], *shape)
        return _make_categorical(logits, len(shape) - 1), state

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; batch shape `[B, n]`."""
        if self._has_state:
            return super().make_parallel(n)
        args = dict(self.saved_args)
        name = args.pop("name", self.name)
        return ParallelCategoricalProjectionNetwork(**args, n=n, name=f"parallel_{name}")


@configurable
class ParallelCategoricalProjectionNetwork(Network):
    """`n` categorical projections with parameters of their own, computed at once.

    Args:
        input_size: size of the encoding.
        action_spec: as for `CategoricalProjectionNetwork`.
        n: number of projections.
        fc_ctor: makes the layer of one of them, which can be made parallel.
        logits_init_output_factor: gain of the initial weights.
        name: name of the network.
        weight_opt_args: optimizer options of the weight.
        bias_opt_args: optimizer options of the bias.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: BoundedTensorSpec,
        n: int,
        fc_ctor: Callable = FC,
        logits_init_output_factor: float = 0.1,
        name: str = "ParallelCategoricalProjectionNetwork",
        *,
        weight_opt_args: Optional[Dict] = None,
        bias_opt_args: Optional[Dict] = None,
    ):
        num_actions = check_discrete_action_spec(action_spec, name)
        super().__init__(make_parallel_spec(TensorSpec((input_size,)), n), name=name)
        self._projection_layer = fc_ctor(
            input_size,
            action_spec.numel * num_actions,
            kernel_init_gain=logits_init_output_factor,
            weight_opt_args=weight_opt_args,
            bias_opt_args=bias_opt_args,
        ).make_parallel(n)
        if isinstance(self._projection_layer, Network) and self._projection_layer.is_rnn:
            raise ValueError(
                f"{name}.fc_ctor: expected a layer without state, got {type(self._projection_layer).__name__}. Use "
                f"CategoricalProjectionNetwork(...).make_parallel({n})."
            )
        self._output_shape = (*action_spec.shape, num_actions)

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B, n]`, and the state as it is.

        Args:
            inputs: encodings `[B, n, input_size]`, or `[B, input_size]` for all alike.
            state: passed through.
        """
        logits, _ = _call(self._modules["_projection_layer"], inputs, (), False)
        shape = self._output_shape
        if len(shape) > 1:
            logits = logits.reshape(*logits.shape[:-1], *shape)
        return _make_categorical(logits, len(shape) - 1), state


# How OnehotCategoricalProjectionNetwork.mode makes the distribution from the temperature.
_ONEHOT_MODES = {
    "plain": lambda tau: functools.partial(td.OneHotCategorical, validate_args=False),
    "st": lambda tau: dist_utils.OneHotCategoricalStraightThrough,
    "st-gumbel": lambda tau: functools.partial(dist_utils.OneHotCategoricalGumbelSoftmax, hard_sample=True, tau=tau),
    "gumbel": lambda tau: functools.partial(dist_utils.OneHotCategoricalGumbelSoftmax, hard_sample=False, tau=tau),
}


@configurable
class OnehotCategoricalProjectionNetwork(Network):
    """A linear layer to a distribution over one-hot vectors, whose samples may carry gradients.

    Args:
        input_size: size of the encoding.
        action_spec: discrete, minimum 0. Shape `()`: K actions by its bounds. Shape `(K,)` with values 0
            and 1: the one-hot vectors of length K themselves.
        logits_init_output_factor: gain of the initial weights.
        mode: `st`: one-hot samples with the gradient of the probabilities; `st-gumbel`: one-hot samples
            with the gradient of a Gumbel-softmax relaxation; `gumbel`: relaxed samples; `plain`: no gradient.
        gumbel_temperature: temperature of the relaxation.
        name: name of the network.
    """

    def __init__(
        self,
        input_size: int,
        action_spec: BoundedTensorSpec,
        logits_init_output_factor: float = 0.1,
        mode: str = "st",
        gumbel_temperature: float = 1.0,
        name: str = "OnehotCategoricalProjectionNetwork",
    ):
        num_actions = check_discrete_action_spec(action_spec, name)
        if action_spec.ndim == 1 and num_actions <= 2:
            num_actions = action_spec.shape[0]
        elif action_spec.ndim != 0:
            raise ValueError(
                f"{name}.action_spec: expected shape () or one-hot vectors (shape (K,), values 0 and 1), got "
                f"{action_spec}."
            )
        if mode not in _ONEHOT_MODES:
            raise ValueError(f"{name}.mode: expected one of {sorted(_ONEHOT_MODES)}, got {mode!r}.")
        super().__init__(TensorSpec((input_size,)), name=name)
        self._projection_layer = FC(input_size, num_actions, kernel_init_gain=logits_init_output_factor)
        self._make_dist = _ONEHOT_MODES[mode](gumbel_temperature)

    def forward(self, inputs: Tensor, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]`, event shape `[K]`, and the state as it is.

        Args:
            inputs: encodings `[B, input_size]`.
            state: passed through.
        """
        return self._make_dist(logits=self._projection_layer(inputs)), state
