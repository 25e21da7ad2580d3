import pytest
import torch

import alf.layers as layers
from alf.nest.utils import NestConcat, NestSum
from alf.networks import EncodingNetwork, ImageEncodingNetwork, LSTMEncodingNetwork, ParallelEncodingNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.math_ops import identity

VECTOR = TensorSpec((4,))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_mlp_equals_its_layers_applied_by_hand():
    net = EncodingNetwork(
        VECTOR, fc_layer_params=(5, 6), activation=torch.tanh, last_layer_size=2, last_activation=identity
    )
    x = torch.randn(3, 4)
    expected = x
    for i in range(3):
        expected = expected @ net[i].weight.t() + net[i].bias
        expected = torch.tanh(expected) if i < 2 else expected
    torch.testing.assert_close(net(x)[0], expected)


def test_atari_network_shapes():
    net = ImageEncodingNetwork(4, 84, ((32, 8, 4), (64, 4, 2), (64, 3, 1)))
    assert net.output_spec == TensorSpec((64, 7, 7))
    net = EncodingNetwork(
        TensorSpec((4, 84, 84), torch.uint8),
        conv_layer_params=((32, 8, 4), (64, 4, 2), (64, 3, 1)),
        fc_layer_params=(512,),
    )
    assert net.output_spec == TensorSpec((512,))


def test_padding_and_same_padding():
    assert ImageEncodingNetwork(1, (10, 8), ((2, (3, 5), 1, (1, 2)),)).output_spec.shape == (2, 10, 8)
    assert ImageEncodingNetwork(1, (10, 8), ((2, (3, 5), 1),), same_padding=True).output_spec.shape == (
        2,
        10,
        8,
    )
    assert ImageEncodingNetwork(1, 10, ((2, 3, 1),), flatten_output=True).output_spec.shape == (128,)


def test_integer_vectors_are_cast():
    net = EncodingNetwork(TensorSpec((3,), torch.uint8), fc_layer_params=(2,))
    assert net(torch.randint(0, 255, (5, 3), dtype=torch.uint8))[0].dtype == torch.float32


def test_output_is_reshaped_to_the_output_spec():
    net = EncodingNetwork(VECTOR, output_tensor_spec=TensorSpec((2, 3)), fc_layer_params=(6,))
    assert net.output_spec == TensorSpec((2, 3))
    scalar = EncodingNetwork(
        VECTOR, output_tensor_spec=TensorSpec(()), last_layer_size=1, last_activation=identity
    )
    assert scalar(torch.randn(5, 4))[0].shape == (5,)


def test_nested_input_is_preprocessed_and_combined():
    spec = dict(a=TensorSpec((3,)), b=TensorSpec((2,)))
    net = EncodingNetwork(
        spec, input_preprocessors=dict(a=None, b=layers.FC(2, 3)), preprocessing_combiner=NestSum()
    )
    x = dict(a=torch.randn(4, 3), b=torch.randn(4, 2))
    fc = net[0].networks["b"]
    torch.testing.assert_close(net(x)[0], x["a"] + fc(x["b"])[0])


def test_preprocessors_can_be_made_from_the_spec():
    seen = []

    def ctor(spec):
        seen.append(spec)
        return layers.Reshape(-1)

    net = EncodingNetwork(TensorSpec((2, 3)), input_preprocessors_ctor=ctor, fc_layer_params=(4,))
    assert seen == [TensorSpec((2, 3))] and net.output_spec == TensorSpec((4,))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (
            dict(input_tensor_spec=dict(a=VECTOR, b=[TensorSpec((3,))])),
            r"nest of 2 tensors \(a: TensorSpec\(shape=\(4,\).*b.0: TensorSpec.* Set preprocessing_combiner",
        ),
        (
            dict(input_tensor_spec=TensorSpec((2, 3)), fc_layer_params=(4,)),
            "dense layers expect a vector, got TensorSpec",
        ),
        (
            dict(input_tensor_spec=VECTOR, conv_layer_params=((4, 3, 1),)),
            "expected images of shape .channels, height",
        ),
        (
            dict(input_tensor_spec=VECTOR, last_layer_size=3),
            "both last_layer_size and last_activation or neither",
        ),
        (
            dict(input_tensor_spec=VECTOR, last_activation=identity),
            "both last_layer_size and last_activation",
        ),
        (
            dict(input_tensor_spec=VECTOR, output_tensor_spec=TensorSpec((5,))),
            "output_tensor_spec: expected 4 elements",
        ),
        (
            dict(input_tensor_spec=VECTOR, input_preprocessors=dict(a=None)),
            "input_preprocessors: expected the structure",
        ),
        (
            dict(input_tensor_spec=TensorSpec((3, 8, 8)), conv_layer_params=((4, 3),)),
            r"conv_layer_params\[0\]: expected \(filters, kernel size, strides\)",
        ),
        (
            dict(input_tensor_spec=TensorSpec((3, 8, 8)), conv_layer_params=((4, 3, 2), (4, 5, 1))),
            r"conv_layer_params\[1\]: the kernel \(5, 5\) is larger than its image of size \(3, 3\)",
        ),
        (dict(input_tensor_spec=VECTOR, use_batch_ensemble=True), "use_batch_ensemble: expected False"),
        (
            dict(input_tensor_spec=VECTOR, input_preprocessors=LSTMEncodingNetwork(VECTOR)),
            "expected networks without st",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_told(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EncodingNetwork(**kwargs)


def test_parallel_encoding_network_accepts_shared_and_separate_input():
    spec = dict(a=VECTOR, b=TensorSpec((2,)))
    net = ParallelEncodingNetwork(spec, 3, preprocessing_combiner=NestConcat(), fc_layer_params=(5, 6))
    x = dict(a=torch.randn(7, 4), b=torch.randn(7, 2))
    shared, _ = net(x)
    separate, _ = net(layers.make_parallel_input(x, 3))
    assert shared.shape == (7, 3, 6)
    torch.testing.assert_close(shared, separate)
    assert net.output_spec == TensorSpec((3, 6))
    combined = torch.cat([x["a"], x["b"]], dim=-1)
    fc1, fc2 = net._pnet[1], net._pnet[2]
    h = torch.relu(combined @ fc1.weight[2].t() + fc1.bias[2])
    torch.testing.assert_close(shared[:, 2], torch.relu(h @ fc2.weight[2].t() + fc2.bias[2]))


def test_parallel_image_encoding_of_shared_uint8_images():
    image = TensorSpec((3, 12, 12), torch.uint8)
    net = EncodingNetwork(image, conv_layer_params=((4, 3, 2),), fc_layer_params=(5,))
    parallel = net.make_parallel(2, allow_non_parallel_input=True)
    x = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8)
    torch.testing.assert_close(parallel(x)[0], parallel(layers.make_parallel_input(x, 2).contiguous())[0])


def test_lstm_with_several_layers_equals_torch_lstm():
    net = LSTMEncodingNetwork(VECTOR, hidden_size=(5, 5))
    torchs = torch.nn.LSTM(4, 5, num_layers=2)
    for i in range(2):
        cell = net[1 + i].cell
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(torchs, f"{name}_l{i}").data.copy_(getattr(cell, name))
    x = torch.randn(6, 3, 4)
    zero = torch.zeros(3, 5)
    state = [(), (zero, zero), (zero, zero), ()]
    outputs = []
    for x_t in x:
        y, state = net(x_t, state)
        outputs.append(y)
    expected, (h, c) = torchs(x)
    torch.testing.assert_close(torch.stack(outputs), expected)
    torch.testing.assert_close(state[2][1], c[1])


@pytest.mark.parametrize("layers_out, size", [(-1, 7), (0, 5), ((0, -1), 12), ([1, 0], 12)])
def test_lstm_output_layers(layers_out, size):
    net = LSTMEncodingNetwork(VECTOR, hidden_size=(5, 7), lstm_output_layers=layers_out)
    assert net.output_spec == TensorSpec((size,))


def test_lstm_arguments_are_checked():
    with pytest.raises(ValueError, match="hidden_size: expected at least one LSTM layer"):
        LSTMEncodingNetwork(VECTOR, hidden_size=())
    with pytest.raises(ValueError, match="lstm_output_layers: .* 2 LSTM layers, from -2 to 1, got 2"):
        LSTMEncodingNetwork(VECTOR, hidden_size=(5, 5), lstm_output_layers=2)
    with pytest.raises(ValueError, match="LSTM layers expect a vector"):
        LSTMEncodingNetwork(TensorSpec((2, 3)))


def _random_nested_lstm():
    spec = dict(a=VECTOR, b=BoundedTensorSpec((), torch.int64, 0, 4))
    net = LSTMEncodingNetwork(
        spec,
        input_preprocessors=dict(a=None, b=torch.nn.Embedding(5, 3)),
        preprocessing_combiner=NestConcat(),
        pre_fc_layer_params=(6,),
        hidden_size=(5, 7),
        lstm_output_layers=(1, 0),
        post_fc_layer_params=(6,),
        output_tensor_spec=TensorSpec((2, 3)),
    )
    inputs = dict(a=torch.randn(9, 4, 4), b=torch.randint(0, 5, (9, 4)))
    state = [(), (torch.randn(4, 5), torch.randn(4, 5)), (torch.randn(4, 7), torch.randn(4, 7)), (), ()]
    return net, inputs, state


@pytest.mark.parametrize("resets", ["none", "nowhere", "some", "everywhere"])
def test_sequence_forward_equals_stepping(resets):
    net, inputs, state = _random_nested_lstm()
    is_first = dict(
        none=None,
        nowhere=torch.zeros(9, 4, dtype=torch.bool),
        some=torch.rand(9, 4) < 0.2,
        everywhere=torch.ones(9, 4, dtype=torch.bool),
    )[resets]
    y, last = net.forward_sequence(inputs, state, is_first)
    expected = []
    for t in range(9):
        if is_first is not None:
            keep = (~is_first[t]).float().unsqueeze(-1)
            state = [tuple(s * keep for s in cell) for cell in state]
        y_t, state = net(dict(a=inputs["a"][t], b=inputs["b"][t]), state)
        expected.append(y_t)
    torch.testing.assert_close(y, torch.stack(expected))
    for a, b in zip(last[1:3], state[1:3], strict=True):
        torch.testing.assert_close(a, b)
    assert last[0] == last[3] == last[4] == ()


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("reset_share", [0.0, 0.2, 0.8])
def test_sequence_forward_has_the_gradients_of_stepping(with_state, reset_share):
    net = LSTMEncodingNetwork(VECTOR, pre_fc_layer_params=(6,), hidden_size=(5, 7), post_fc_layer_params=(6,))
    x, is_first = torch.randn(9, 5, *VECTOR.shape, requires_grad=True), torch.rand(9, 5) < reset_share
    begin = [torch.randn(5, n, requires_grad=True) for n in (5, 5, 7, 7)]
    weight = torch.randn(9, 5, 6)
    leaves = [x, *begin, *net.parameters()]

    def state_of(h0, c0, h1, c1):
        return [(), (h0, c0), (h1, c1), ()]

    y, last = net.forward_sequence(x, state_of(*begin), is_first, with_state)
    assert with_state == (last != ())
    gradients = torch.autograd.grad((y * weight).sum(), leaves)
    state, steps = state_of(*begin), []
    for t in range(9):
        keep = (~is_first[t]).float().unsqueeze(-1)
        state = [tuple(s * keep for s in cell) for cell in state]
        y_t, state = net(x[t], state)
        steps.append(y_t)
    torch.testing.assert_close(y, torch.stack(steps))
    expected = torch.autograd.grad((torch.stack(steps) * weight).sum(), leaves)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)
