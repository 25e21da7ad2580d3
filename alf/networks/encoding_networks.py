"""Networks that encode observations: images by convolutions, vectors by dense layers, sequences by LSTMs."""

from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.layers import FC, Cast, Conv2D, Identity, Reshape, make_parallel_input, make_parallel_spec
from alf.layers.routing import Element
from alf.nest.utils import NestConcat
from alf.networks._lstm_sequence import cut_at_resets, run_lstm
from alf.networks.containers import _Sequential
from alf.networks.network import Network, own_module
from alf.networks.networks import LSTMCell
from alf.networks.preprocessor_networks import check_single_tensor, make_preprocessors
from alf.tensor_specs import NestedTensorSpec, TensorSpec

_Size = Union[int, Tuple[int, int]]


def _unnamed(modules: Sequence[Any]) -> List[Element]:
    return [Element("", "", m) for m in modules]


def _pair(size: _Size) -> Tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


@configurable
class ImageEncodingNetwork(_Sequential):
    """A stack of convolutions.

    Args:
        input_channels: channels of the images.
        input_size: size of the images, int or (height, width).
        conv_layer_params: a tuple (filters, kernel size, strides) or (filters, kernel size, strides, padding)
            for each layer; sizes are ints or (vertical, horizontal).
        use_batch_ensemble: must be False.
        ensemble_size: not used without batch ensemble.
        same_padding: pad by half the kernel, so that with stride 1 the size is kept; padding in
            ``conv_layer_params`` is then ignored.
        activation: of every layer.
        kernel_initializer: of every layer; ``None`` means ``variance_scaling_init``.
        flatten_output: output vectors.
        name: name of the network.
    Raises:
        ValueError: if the parameters of a layer are malformed, or a kernel is larger than its image.
    """

    def __init__(self,
                 input_channels: int,
                 input_size: _Size,
                 conv_layer_params: Tuple[Tuple, ...],
                 use_batch_ensemble: bool = False,
                 ensemble_size: int = 10,
                 same_padding: bool = False,
                 activation: Callable = torch.relu_,
                 kernel_initializer: Optional[Callable] = None,
                 flatten_output: bool = False,
                 name: str = 'ImageEncodingNetwork'):
        _refuse_batch_ensemble(use_batch_ensemble, name)
        input_size = _pair(input_size)
        layers, channels, size = [], input_channels, input_size
        for i, params in enumerate(conv_layer_params):
            if not isinstance(params, (tuple, list)) or len(params) not in (3, 4):
                raise ValueError(f"{name}.conv_layer_params[{i}]: expected (filters, kernel size, strides) "
                                 f"or (filters, kernel size, strides, padding), got {params!r}.")
            filters, kernel, strides = params[0], _pair(params[1]), _pair(params[2])
            padding = _pair(params[3]) if len(params) == 4 else (0, 0)
            if same_padding:
                padding = tuple((k - 1) // 2 for k in kernel)
            new_size = tuple((s + 2 * p - k) // stride + 1
                             for s, p, k, stride in zip(size, padding, kernel, strides, strict=True))
            if min(new_size) < 1:
                raise ValueError(f"{name}.conv_layer_params[{i}]: the kernel {kernel} is larger than its "
                                 f"image of "
                                 f"size {size} (padding {padding}). The images are {input_size} in the "
                                 f"beginning; use fewer or smaller layers, or padding.")
            layers.append(Conv2D(channels, filters, kernel, activation=activation, strides=strides,
                                 padding=padding, kernel_initializer=kernel_initializer))
            channels, size = filters, new_size
        if flatten_output:
            layers[0].train_channels_last()
            layers.append(Reshape(-1))
        spec = TensorSpec((input_channels, *input_size))
        super().__init__(_unnamed(layers), input_tensor_spec=spec, name=name)


def _refuse_batch_ensemble(use_batch_ensemble: bool, name: str) -> None:
    if use_batch_ensemble:
        raise ValueError(f"{name}.use_batch_ensemble: expected False: there are no batch ensemble layers. "
                         f"For an ensemble with separate parameters use make_parallel(n).")


@configurable
class EncodingNetwork(_Sequential):
    """Preprocessors, combiner, convolutions and dense layers: each of them if asked for, in this order.

    Images of an integer dtype are cast to float32 and not scaled: that is what ``ImageScaleTransformer`` is
    for.

    Args:
        input_tensor_spec: nest of specs of the input.
        output_tensor_spec: if given, the output is reshaped to its shape.
        input_preprocessors: nest of networks without state, modules or functions, shaped like
            ``input_tensor_spec`` or its upper levels; ``None`` at a leaf passes that part through. Networks
            are copied unless they are singletons (``net.singleton()``).
        input_preprocessors_ctor: called with ``input_tensor_spec`` to make ``input_preprocessors``.
        preprocessing_combiner: makes one tensor of the (preprocessed) nest, e.g. ``NestConcat()``.
        conv_layer_params: see :class:`ImageEncodingNetwork`; the output is flattened.
        fc_layer_params: sizes of the dense layers.
        activation: of all layers but the last one added by ``last_layer_size``.
        kernel_initializer: of all layers; ``None`` means ``variance_scaling_init``.
        use_fc_bn: whether dense layers use batch normalization.
        use_fc_ln: whether dense layers use layer normalization.
        use_batch_ensemble: must be False.
        ensemble_size: not used without batch ensemble.
        input_with_ensemble_ids: not used without batch ensemble.
        last_layer_size: size of one more dense layer.
        last_activation: its activation; both are given or neither.
        last_kernel_initializer: its initializer; by default ``kernel_initializer``.
        last_use_fc_bn: whether it uses batch normalization.
        last_use_fc_ln: whether it uses layer normalization.
        name: name of the network.
    Raises:
        ValueError: if the arguments do not fit each other or the input.
    """

    def __init__(self,
                 input_tensor_spec: NestedTensorSpec,
                 output_tensor_spec: Optional[TensorSpec] = None,
                 input_preprocessors: Any = None,
                 input_preprocessors_ctor: Optional[Callable] = None,
                 preprocessing_combiner: Optional[Callable] = None,
                 conv_layer_params: Optional[Tuple[Tuple, ...]] = None,
                 fc_layer_params: Optional[Tuple[int, ...]] = None,
                 activation: Callable = torch.relu_,
                 kernel_initializer: Optional[Callable] = None,
                 use_fc_bn: bool = False,
                 use_fc_ln: bool = False,
                 use_batch_ensemble: bool = False,
                 ensemble_size: int = 10,
                 input_with_ensemble_ids: bool = False,
                 last_layer_size: Optional[int] = None,
                 last_activation: Optional[Callable] = None,
                 last_kernel_initializer: Optional[Callable] = None,
                 last_use_fc_bn: bool = False,
                 last_use_fc_ln: bool = False,
                 name: str = 'EncodingNetwork'):
        _refuse_batch_ensemble(use_batch_ensemble or input_with_ensemble_ids, name)
        if input_preprocessors_ctor is not None:
            if input_preprocessors is not None:
                raise ValueError(f"{name}: expected input_preprocessors or input_preprocessors_ctor, got "
                                 f"both.")
            input_preprocessors = input_preprocessors_ctor(input_tensor_spec)
        if (last_layer_size is None) != (last_activation is None):
            raise ValueError(f"{name}: expected both last_layer_size and last_activation or neither, got "
                             f"last_layer_size={last_layer_size} and last_activation={last_activation}. For "
                             f"a linear last layer set last_activation=alf.math.identity.")
        layers, spec = [], input_tensor_spec
        if input_preprocessors is not None:
            layers.append(make_preprocessors(input_preprocessors, spec, name))
            spec = layers[-1].output_spec
        if preprocessing_combiner is not None:
            layers.append(own_module(preprocessing_combiner))
            spec = preprocessing_combiner(spec)
        spec = check_single_tensor(spec, name)
        if not spec.dtype.is_floating_point:
            layers.append(Cast(torch.float32))
        if conv_layer_params:
            if spec.ndim != 3:
                raise ValueError(f"{name}.conv_layer_params: expected images of shape (channels, height, "
                                 f"width), got {spec}. Leave conv_layer_params out for other input.")
            layers.append(ImageEncodingNetwork(
                spec.shape[0], spec.shape[1:], conv_layer_params, activation=activation,
                kernel_initializer=kernel_initializer, flatten_output=True))
            spec = layers[-1].output_spec
        fc_args = [(size, activation, kernel_initializer, use_fc_bn, use_fc_ln)
                   for size in fc_layer_params or ()]
        if last_layer_size is not None:
            fc_args.append((last_layer_size, last_activation, last_kernel_initializer or kernel_initializer,
                            last_use_fc_bn, last_use_fc_ln))
        if fc_args and spec.ndim != 1:
            raise ValueError(f"{name}: dense layers expect a vector, got {spec}. Set conv_layer_params for "
                             f"images, or input_preprocessors=alf.layers.Reshape(-1) to flatten.")
        for size, fc_activation, initializer, use_bn, use_ln in fc_args:
            layers.append(FC(spec.shape[0], size, activation=fc_activation, use_bn=use_bn, use_ln=use_ln,
                             kernel_initializer=initializer))
            spec = TensorSpec((size, ))
        if output_tensor_spec is not None and output_tensor_spec.shape != spec.shape:
            if output_tensor_spec.numel != spec.numel:
                raise ValueError(f"{name}.output_tensor_spec: expected {spec.numel} elements, as many as the "
                                 f"last layer puts out, got {output_tensor_spec}.")
            layers.append(Reshape(*output_tensor_spec.shape))
        super().__init__(_unnamed(layers or [Identity()]), input_tensor_spec=input_tensor_spec, name=name)

    def make_parallel(self, n: int, allow_non_parallel_input: bool = False) -> Network:
        """Return ``n`` such networks, with parameters of their own, as one; ``[B, n, ...] -> [B, n, ...]``.

        Args:
            n: number of networks.
            allow_non_parallel_input: whether ``[B, ...]`` is also accepted, as the input of all ``n``.
        """
        parallel = super().make_parallel(n)
        return _SharedInput(parallel, self._input_tensor_spec, n) if allow_non_parallel_input else parallel


class _SharedInput(Network):
    """A parallel network that also accepts one input for all.

    Args:
        network: the parallel network.
        single_spec: nest of specs of the input of one of the networks in it.
        n: number of networks in it.
    """

    def __init__(self, network: Network, single_spec: NestedTensorSpec, n: int):
        super().__init__(make_parallel_spec(single_spec, n), state_spec=network.state_spec, name=network.name)
        self._pnet = network
        self._n = n
        self._single_ndim = nest.flatten(single_spec)[0].ndim + 1

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return output and new state, nests of ``[B, n, ...]``.

        Args:
            inputs: nest of ``[B, n, ...]`` or of ``[B, ...]``.
            state: nest of ``[B, n, ...]``.
        """
        leaf = inputs if isinstance(inputs, torch.Tensor) else nest.flatten(inputs)[0]
        if leaf.ndim == self._single_ndim:
            inputs = make_parallel_input(inputs, self._n)
        return self._pnet(inputs, state)


@configurable
class LSTMEncodingNetwork(_Sequential):
    """An encoding network, LSTM layers, and dense layers.

    Args:
        input_tensor_spec: nest of specs of the input.
        output_tensor_spec: if given, the output is reshaped to its shape.
        input_preprocessors: see :class:`EncodingNetwork`.
        preprocessing_combiner: see :class:`EncodingNetwork`.
        conv_layer_params: see :class:`EncodingNetwork`.
        pre_fc_layer_params: sizes of the dense layers before the LSTM.
        hidden_size: size of each LSTM layer; an int for a single one.
        lstm_output_layers: number of the LSTM layer that is output, -1 for the last one, or several, whose
            outputs are concatenated.
        post_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all layers but the last one added by ``last_layer_size``.
        kernel_initializer: of all but the LSTM layers; ``None`` means ``variance_scaling_init``.
        last_layer_size: size of one more dense layer.
        last_activation: its activation; both are given or neither.
        last_kernel_initializer: its initializer; by default ``kernel_initializer``.
        name: name of the network.
    Raises:
        ValueError: if the arguments do not fit each other or the input.
    """

    def __init__(self,
                 input_tensor_spec: NestedTensorSpec,
                 output_tensor_spec: Optional[TensorSpec] = None,
                 input_preprocessors: Any = None,
                 preprocessing_combiner: Optional[Callable] = None,
                 conv_layer_params: Optional[Tuple[Tuple, ...]] = None,
                 pre_fc_layer_params: Optional[Tuple[int, ...]] = None,
                 hidden_size: Union[int, Tuple[int, ...]] = (100, ),
                 lstm_output_layers: Union[int, Tuple[int, ...]] = -1,
                 post_fc_layer_params: Optional[Tuple[int, ...]] = None,
                 activation: Callable = torch.relu_,
                 kernel_initializer: Optional[Callable] = None,
                 last_layer_size: Optional[int] = None,
                 last_activation: Optional[Callable] = None,
                 last_kernel_initializer: Optional[Callable] = None,
                 name: str = 'LSTMEncodingNetwork'):
        sizes = (hidden_size, ) if isinstance(hidden_size, int) else tuple(hidden_size)
        if not sizes:
            raise ValueError(f"{name}.hidden_size: expected at least one LSTM layer, got {hidden_size!r}. "
                             f"Use EncodingNetwork for a network without.")
        pre = EncodingNetwork(
            input_tensor_spec, input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner, conv_layer_params=conv_layer_params,
            fc_layer_params=pre_fc_layer_params, activation=activation, kernel_initializer=kernel_initializer,
            name=f"{name}_pre")
        if pre.output_spec.ndim != 1:
            raise ValueError(f"{name}: LSTM layers expect a vector, got {pre.output_spec}. Set "
                             f"conv_layer_params for "
                             f"images, or input_preprocessors=alf.layers.Reshape(-1) to flatten.")
        elements = _unnamed([pre])
        input_size = pre.output_spec.shape[0]
        for i, size in enumerate(sizes):
            elements.append(Element(f"lstm{i}", "", LSTMCell(input_size, size, name=f"lstm{i}")))
            input_size = size
        chosen = _chosen_layers(lstm_output_layers, len(sizes), name)
        post_input = f"lstm{chosen[0]}"
        if len(chosen) > 1:
            elements.append(Element("", tuple(f"lstm{i}" for i in chosen), NestConcat()))
            post_input = ""
        post = EncodingNetwork(
            TensorSpec((sum(sizes[i] for i in chosen), )), output_tensor_spec=output_tensor_spec,
            fc_layer_params=post_fc_layer_params, activation=activation,
            kernel_initializer=kernel_initializer, last_layer_size=last_layer_size,
            last_activation=last_activation, last_kernel_initializer=last_kernel_initializer,
            name=f"{name}_post")
        elements.append(Element("", post_input, post))
        super().__init__(elements, input_tensor_spec=input_tensor_spec, name=name)
        self._num_lstm_layers = len(sizes)
        self._output_layers = chosen

    def make_parallel(self, n: int, allow_non_parallel_input: bool = False) -> Network:
        """Return ``n`` such networks, with parameters of their own, as one; ``[B, n, ...] -> [B, n, ...]``.

        Args:
            n: number of networks.
            allow_non_parallel_input: whether ``[B, ...]`` is also accepted, as the input of all ``n``.
        """
        parallel = super().make_parallel(n)
        return _SharedInput(parallel, self._input_tensor_spec, n) if allow_non_parallel_input else parallel

    def forward_sequence(self, inputs: Any, state: Any,
                         is_first: Optional[torch.Tensor] = None, with_state: bool = True) -> Tuple[Any, Any]:
        """Return what stepping through a sequence gives, computed faster.

        Whatever has no state runs once on all steps. Sequences are cut at resets, and the LSTM layers run over the
        pieces side by side.

        Args:
            inputs: nest of ``[T, B, ...]``.
            state: state before the first step, as for ``forward``.
            is_first: bool ``[T, B]``, where the state is reset to zero before the step; ``None``: nowhere.
            with_state: whether the last state is needed; without it is faster.
        Returns:
            tuple of the outputs ``[T, B, ...]`` and the state after the last step, ``()`` if it is not needed.
        """
        pre, *cells = self._nets[:1 + self._num_lstm_layers]
        num_steps, batch_size = nest.get_nest_size(inputs, 0), nest.get_nest_size(inputs, 1)
        x, _ = pre(nest.map_structure(lambda t: t.flatten(0, 1), inputs))
        x = x.view(num_steps, batch_size, -1)
        pieces = None if is_first is None else cut_at_resets(is_first, with_state)
        outputs = []
        new_state = list(state)
        for i, cell in enumerate(cells):
            x, new_state[1 + i] = run_lstm(cell, x, state[1 + i], pieces, with_state)
            outputs.append(x)
        x = torch.cat([outputs[i] for i in self._output_layers], dim=-1)
        y, _ = self._nets[-1](x.flatten(0, 1))
        return y.view(num_steps, batch_size, *y.shape[1:]), new_state if with_state else ()


def _chosen_layers(layers: Union[int, Tuple[int, ...]], num_layers: int, name: str) -> List[int]:
    chosen = [layers] if isinstance(layers, int) else list(layers)
    if not chosen or not all(-num_layers <= i < num_layers for i in chosen):
        raise ValueError(f"{name}.lstm_output_layers: expected numbers of the {num_layers} LSTM layers, from "
                         f"{-num_layers} to {num_layers - 1}, got {layers}.")
    return [i % num_layers for i in chosen]


@configurable
def ParallelEncodingNetwork(input_tensor_spec: NestedTensorSpec,
                            n: int,
                            output_tensor_spec: Optional[TensorSpec] = None,
                            input_preprocessors: Any = None,
                            preprocessing_combiner: Optional[Callable] = None,
                            conv_layer_params: Optional[Tuple[Tuple, ...]] = None,
                            fc_layer_params: Optional[Tuple[int, ...]] = None,
                            activation: Callable = torch.relu_,
                            kernel_initializer: Optional[Callable] = None,
                            use_fc_bn: bool = False,
                            use_fc_ln: bool = False,
                            last_layer_size: Optional[int] = None,
                            last_activation: Optional[Callable] = None,
                            last_kernel_initializer: Optional[Callable] = None,
                            last_use_fc_bn: bool = False,
                            last_use_fc_ln: bool = False,
                            name: str = 'ParallelEncodingNetwork') -> Network:
    """Return ``n`` encoding networks as one; it accepts ``[B, n, ...]`` and ``[B, ...]``.

    Args:
        input_tensor_spec: nest of specs of the input of one of them.
        n: number of networks.
        The other arguments are those of :class:`EncodingNetwork`.
    """
    single = EncodingNetwork(
        input_tensor_spec, output_tensor_spec=output_tensor_spec, input_preprocessors=input_preprocessors,
        preprocessing_combiner=preprocessing_combiner, conv_layer_params=conv_layer_params,
        fc_layer_params=fc_layer_params, activation=activation, kernel_initializer=kernel_initializer,
        use_fc_bn=use_fc_bn, use_fc_ln=use_fc_ln, last_layer_size=last_layer_size,
        last_activation=last_activation, last_kernel_initializer=last_kernel_initializer,
        last_use_fc_bn=last_use_fc_bn, last_use_fc_ln=last_use_fc_ln, name=name)
    return single.make_parallel(n, allow_non_parallel_input=True)
