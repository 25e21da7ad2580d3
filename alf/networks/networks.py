"""Recurrent cells and other small networks: LSTM, GRU, residual, temporal pooling, delay, noisy layers."""

from typing import Any, Callable, Dict, Optional, Tuple, Union

import torch
import torch.nn as nn

from alf.config_util import configurable
from alf.layers import FC, make_parallel_spec, run_with_autocast
from alf.networks.network import Network, wrap_as_network
from alf.tensor_specs import NestedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.linear import linear
from alf.utils.math_ops import identity


class LSTMCell(Network):
    """Long short-term memory, one step at a time.

    Args:
        input_size: size of the input.
        hidden_size: size of output and state.
        name: name of the network.
    """

    def __init__(self, input_size: int, hidden_size: int, name: str = 'LSTMCell'):
        spec = TensorSpec((hidden_size, ))
        super().__init__(TensorSpec((input_size, )), state_spec=(spec, spec), name=name)
        self._cell = nn.LSTMCell(input_size, hidden_size)

    @property
    def cell(self) -> nn.LSTMCell:
        """Torch's cell, which holds the parameters."""
        return self._cell

    def forward(self, input: torch.Tensor, state: Tuple[torch.Tensor, torch.Tensor]):
        """Return the output ``h`` ``[B, hidden_size]`` and the new state ``(h, c)``.

        Args:
            input: ``[B, input_size]``.
            state: ``(h, c)``, each ``[B, hidden_size]``.
        """
        h, c = self._cell(input, tuple(state))
        return h, (h, c)


class GRUCell(Network):
    """Gated recurrent unit, one step at a time.

    Args:
        input_size: size of the input.
        hidden_size: size of output and state.
        name: name of the network.
    """

    def __init__(self, input_size: int, hidden_size: int, name: str = 'GRUCell'):
        super().__init__(TensorSpec((input_size, )), state_spec=TensorSpec((hidden_size, )), name=name)
        self._cell = nn.GRUCell(input_size, hidden_size)

    def forward(self, input: torch.Tensor, state: torch.Tensor):
        """Return the output ``[B, hidden_size]`` and the new state, which is the same tensor.

        Args:
            input: ``[B, input_size]``.
            state: ``[B, hidden_size]``.
        """
        h = self._cell(input, state)
        return h, h


class Residue(Network):
    """Adds the input to the output of a network: ``activation(x + block(x))``.

    Args:
        block: network, layer or function that keeps the shape of its input.
        input_tensor_spec: spec of the input; by default that of the block.
        activation: applied to the sum.
        name: name of the network.
    """

    def __init__(self, block: Any, input_tensor_spec: Optional[TensorSpec] = None,
                 activation: Callable = torch.relu_, name: str = 'Residue'):
        block = wrap_as_network(block, input_tensor_spec)
        super().__init__(block.input_tensor_spec, state_spec=block.state_spec, name=name)
        self._block = block
        self._activation = activation

    def forward(self, x: torch.Tensor, state: Any = ()):
        """Return the output, shaped like ``x`` ``[B, ...]``, and the new state of the block."""
        y, state = self._block(x, state)
        return self._activation(x + y), state

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        block = self._block.make_parallel(n)
        return Residue(block, activation=self._activation, name=f"parallel_{self._name}")


class TemporalPool(Network):
    """Stacks the last few summaries of the past, each made from ``pooling_size`` successive inputs.

    For ``stack_size=2, pooling_size=2`` the inputs 1, 2, 3, 4, 5, 6 give, oldest summary first::

        skip  (0, 1)  (0, 1)    (1, 3)    (1, 3)      (3, 5)      (3, 5)
        avg   (0, 0)  (0, 1.5)  (0, 1.5)  (1.5, 3.5)  (1.5, 3.5)  (3.5, 5.5)
        max   (0, 0)  (0, 2)    (0, 2)    (2, 4)      (2, 4)      (4, 6)

    Args:
        input_size: size or shape of the input.
        stack_size: number of summaries.
        pooling_size: number of inputs in a summary.
        dtype: dtype of the input.
        mode: ``skip`` keeps the first input of each group, ``avg`` and ``max`` the average and the maximum.
        name: name of the network.
    Raises:
        ValueError: for another mode.
    """

    def __init__(self, input_size: Union[int, Tuple[int, ...]], stack_size: int, pooling_size: int = 1,
                 dtype: torch.dtype = torch.float32, mode: str = 'skip', name: str = 'TemporalPool'):
        if mode not in ("skip", "avg", "max"):
            raise ValueError(f"TemporalPool.mode: expected 'skip', 'avg' or 'max', got {mode!r}.")
        shape = (input_size, ) if isinstance(input_size, int) else tuple(input_size)
        spec = TensorSpec(shape, dtype)
        # Sums of small integers do not fit into their dtype.
        is_sum_of_integers = mode == "avg" and not dtype.is_floating_point
        partial_spec = TensorSpec(shape, torch.float32) if is_sum_of_integers else spec
        # The stack, what the unfinished group has gathered, and the number of inputs in that group.
        state_spec = (TensorSpec((stack_size, *shape), dtype), partial_spec, TensorSpec((), torch.int64))
        super().__init__(spec, state_spec=state_spec, name=name)
        self._stack_size = stack_size
        self._pooling_size = pooling_size
        self._mode = mode

    def forward(self, x: torch.Tensor, state: Tuple):
        """Return the stack ``[B, stack_size, *input_size]`` and the new state.

        Args:
            x: ``[B, *input_size]``.
            state: (stack, partial summary, number of inputs in it).
        """
        stack, partial, count = state
        first = self._like(count == 0, x)
        if self._mode == "skip":
            summary, is_new = x, count == 0
        else:
            joined = partial + x if self._mode == "avg" else torch.maximum(partial, x)
            partial = torch.where(first, x.to(joined.dtype), joined)
            summary = partial
            if self._mode == "avg":
                summary = (partial / self._pooling_size).to(x.dtype)
            is_new = count == self._pooling_size - 1
        pushed = torch.cat([stack[:, 1:], summary.unsqueeze(1)], dim=1)
        stack = torch.where(self._like(is_new, pushed), pushed, stack)
        return stack, (stack, partial, (count + 1) % self._pooling_size)

    @staticmethod
    def _like(mask: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return ``mask`` ``[B]`` with as many dimensions as ``x``."""
        return mask.view(-1, *(1, ) * (x.ndim - 1))


class Delay(Network):
    """Outputs the input of some steps ago; zeros before there is one.

    Args:
        input_tensor_spec: nest of specs of the input.
        delay: number of steps; 0 passes the input through.
        name: name of the network.
    """

    def __init__(self, input_tensor_spec: NestedTensorSpec, delay: int = 1, name: str = 'Delay'):
        if delay < 0:
            raise ValueError(f"Delay.delay: expected a number of steps >= 0, got {delay}.")
        super().__init__(input_tensor_spec, state_spec=(input_tensor_spec, ) * delay, name=name)
        self._delay = delay

    def forward(self, input: Any, state: Any):
        """Return the input of ``delay`` steps ago and the inputs since then, oldest first."""
        if self._delay == 0:
            return input, state
        return state[0], (*state[1:], input)

    def make_parallel(self, n: int) -> Network:
        """Return the network for inputs ``[B, n, ...]``."""
        spec = make_parallel_spec(self._input_tensor_spec, n)
        return Delay(spec, self._delay, name=f"parallel_{self._name}")


class AMPWrapper(Network):
    """Runs a network in automatic mixed precision, or keeps it out of an enclosing mixed precision region.

    Args:
        enabled: whether to use mixed precision inside.
        net: the network.
    """

    def __init__(self, enabled: bool, net: Network):
        super().__init__(net.input_tensor_spec, state_spec=net.state_spec, name=f"AMPWrapper_{net.name}")
        self._enabled = enabled
        self._net = net

    def forward(self, input: Any, state: Any = ()):
        """Return output and new state of the network; half precision tensors in them as float32."""
        return run_with_autocast(self._enabled, self._net, input, state)

    def make_parallel(self, n: int) -> Network:
        """Return ``n`` such networks, with own parameters, as one; ``[B, n, ...] -> [B, n, ...]``."""
        return AMPWrapper(self._enabled, self._net.make_parallel(n))


@configurable
class NoisyFC(Network):
    """Fully connected layer with learned, factorized Gaussian noise on its parameters.

    Eq. (9) to (11) of https://arxiv.org/abs/1706.10295, with a noise for each sample of the batch, which is
    kept in the state so that exploration is consistent over time. There is noise in training
    (``net.train()``) and in unrolls (``alf.utils.common.is_rollout()``), and none elsewhere.

    Args:
        input_size: size of the input.
        output_size: size of the output.
        std_init: initial standard deviation, before the division by the root of ``input_size``.
        new_noise_prob: probability at each step that a sample gets new noise. Where the state is zero, which
            is the initial state, it always does.
        activation: function or module; it may work in place.
        use_bn: whether batch normalization comes before the activation.
        use_ln: whether layer normalization comes before the activation.
        bn_ctor: called with ``output_size`` to make the batch normalization layer.
        kernel_initializer: called with the mean weight to fill it; ``None`` means ``variance_scaling_init``.
        kernel_init_gain: gain of the default initializer.
        bias_init_value: initial mean bias.
        bias_initializer: called with the mean bias to fill it, instead of ``bias_init_value``.
        weight_opt_args: kept as ``opt_args`` of the mean weight and of its standard deviation.
        bias_opt_args: the same for the bias.
    """

    def __init__(self,
                 input_size: int,
                 output_size: int,
                 std_init: float = 0.5,
                 new_noise_prob: float = 0.01,
                 activation: Callable = identity,
                 use_bn: bool = False,
                 use_ln: bool = False,
                 bn_ctor: Callable = nn.BatchNorm1d,
                 kernel_initializer: Optional[Callable] = None,
                 kernel_init_gain: float = 1.0,
                 bias_init_value: float = 0.0,
                 bias_initializer: Optional[Callable] = None,
                 weight_opt_args: Optional[Dict] = None,
                 bias_opt_args: Optional[Dict] = None):
        super().__init__(
            TensorSpec((input_size, )),
            state_spec=(TensorSpec((input_size, )), TensorSpec((output_size, ))),
            name="NoisyFC")
        self._input_size = input_size
        self._output_size = output_size
        self._std_init = std_init
        self._new_noise_prob = new_noise_prob
        self._mean = FC(
            input_size, output_size, activation=activation, use_bn=use_bn, use_ln=use_ln, bn_ctor=bn_ctor,
            kernel_initializer=kernel_initializer, kernel_init_gain=kernel_init_gain,
            bias_init_value=bias_init_value, bias_initializer=bias_initializer,
            weight_opt_args=weight_opt_args, bias_opt_args=bias_opt_args)
        self._weight_std = nn.Parameter(torch.empty(output_size, input_size))
        self._bias_std = nn.Parameter(torch.empty(output_size))
        for parameter, opt_args in ((self._weight_std, weight_opt_args), (self._bias_std, bias_opt_args)):
            if opt_args is not None:
                parameter.opt_args = opt_args
        self._fill_std()

    @property
    def input_size(self) -> int:
        """Size of the input."""
        return self._input_size

    @property
    def output_size(self) -> int:
        """Size of the output."""
        return self._output_size

    @property
    def weight(self) -> nn.Parameter:
        """Mean weight ``[output_size, input_size]``."""
        return self._mean.weight

    @property
    def bias(self) -> nn.Parameter:
        """Mean bias ``[output_size]``."""
        return self._mean.bias

    def _fill_std(self) -> None:
        with torch.no_grad():
            std = self._std_init / self._input_size**0.5
            self._weight_std.fill_(std)
            self._bias_std.fill_(std)

    def reset_parameters(self) -> None:
        """Draw new mean parameters and set the standard deviations back."""
        self._mean.reset_parameters()
        self._fill_std()

    def forward(self, input: torch.Tensor, state: Tuple[torch.Tensor, torch.Tensor]):
        """Return the output ``[B, output_size]`` and the noise that was used.

        Args:
            input: ``[B, input_size]``.
            state: noise of the last step, ``([B, input_size], [B, output_size])``; zeros at the beginning.
        """
        if not (self.training or common.is_rollout()):
            return self._mean(input), state
        noise_in, noise_out = state
        with torch.no_grad():
            draws_new = torch.rand(input.shape[0], 1, device=input.device) < self._new_noise_prob
            draws_new |= (noise_in == 0).all(dim=1, keepdim=True)
            noise_in = torch.where(draws_new, _scaled_noise(noise_in), noise_in)
            noise_out = torch.where(draws_new, _scaled_noise(noise_out), noise_out)
        # (std * noise_out noise_in^T) x, without a weight for each sample.
        y = linear(input, self.weight, self.bias)
        y = y + noise_out * linear(noise_in * input, self._weight_std, self._bias_std)
        return self._mean.finish(y), (noise_in, noise_out)


def _scaled_noise(like: torch.Tensor) -> torch.Tensor:
    """Return ``sign(e) sqrt(|e|)`` of standard normal noise ``e``, shaped like ``like``."""
    noise = torch.randn_like(like)
    return noise.sign() * noise.abs().sqrt()
