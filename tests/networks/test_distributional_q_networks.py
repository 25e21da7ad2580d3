"""Dueling, distributional and noisy Q networks."""

import pytest
import torch

from alf.networks import DistributionalQNetwork, DuelingQNetwork
from alf.networks._noisy_dense import NoisyDense
from alf.networks.distributional_q_networks import combine_streams
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common

_OBSERVATION = TensorSpec((4,))
_ACTION = BoundedTensorSpec((), torch.int64, 0, 2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("cls", [DistributionalQNetwork, DuelingQNetwork])
@pytest.mark.parametrize("num_values, shape", [(None, (3,)), (1, (3, 1)), (5, (3, 5))])
def test_values_have_the_shape_asked_for(cls, num_values, shape):
    net = cls(_OBSERVATION, _ACTION, num_values=num_values, fc_layer_params=(8,), stream_fc_layer_params=(7,))
    assert net(torch.randn(6, 4))[0].shape == (6, *shape)
    assert net.output_spec == TensorSpec(shape)
    assert net.make_parallel(2)(torch.randn(6, 4))[0].shape == (6, 2, *shape)


def test_advantages_have_mean_zero():
    value, advantage = torch.randn(6, 1, 5), torch.randn(6, 3, 5)
    combined = combine_streams(value, advantage)
    torch.testing.assert_close(combined.mean(-2), value.squeeze(-2))
    torch.testing.assert_close(combined[:, 1] - combined[:, 0], advantage[:, 1] - advantage[:, 0])


def test_mean_over_actions_is_the_value_stream():
    net = DuelingQNetwork(_OBSERVATION, _ACTION, fc_layer_params=(8,), stream_fc_layer_params=(7,))
    x = torch.randn(6, 4)
    features = net._encoding_net(x)[0]
    torch.testing.assert_close(net(x)[0].mean(-1), net._head._value(features).squeeze(-1))


def test_noise_is_drawn_anew_in_training_and_in_unrolls_and_absent_elsewhere():
    net = DuelingQNetwork(_OBSERVATION, _ACTION, noisy_std=0.5, fc_layer_params=(8,), stream_fc_layer_params=(7,))
    x = torch.randn(6, 4)
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    still = net(x)[0]
    assert torch.equal(still, net(x)[0])
    with common.eval_context():
        assert torch.equal(still, net(x)[0])
    with common.rollout_context():
        noisy = net(x)[0]
        assert not torch.equal(noisy, still) and not torch.equal(noisy, net(x)[0])


def test_rows_of_a_batch_have_noise_of_their_own():
    layer = NoisyDense(4, 3)
    outputs = layer(torch.ones(1, 4).expand(5, 4))
    assert len({tuple(row) for row in outputs.tolist()}) == 5
    parallel = layer.make_parallel(2)(torch.ones(5, 2, 4))
    assert len({tuple(row) for row in parallel.flatten(0, 1).tolist()}) == 10


def test_noise_has_the_mean_and_variance_of_the_paper():
    layer = NoisyDense(4, 3, std_init=0.8)
    x = torch.tensor([1.0, -2.0, 0.5, 3.0])
    outputs = layer(x.expand(200_000, 4))
    mean = layer._weight @ x + layer._bias
    torch.testing.assert_close(outputs.mean(0), mean, atol=0.02, rtol=0)
    # The variance of sign(e) sqrt|e| is E|e| = sqrt(2 / pi). The weight noises e_i e_j and the bias noise e_j share
    # e_j, but differ in e_i, so that they are not correlated.
    m = (2 / torch.pi)**0.5
    sigma = 0.8 / 4**0.5
    variance = sigma**2 * (m * m * x.square().sum() + m)
    torch.testing.assert_close(outputs.var(0), variance.expand(3), rtol=0.03, atol=0)


def test_noise_is_learned():
    layer = NoisyDense(4, 3)
    layer(torch.randn(5, 4)).square().sum().backward()
    assert layer._weight_std.grad.abs().min() > 0 and layer._bias_std.grad.abs().min() > 0


def test_no_deviation_is_no_noise():
    layer = NoisyDense(4, 3, std_init=0.0)
    x = torch.randn(5, 4)
    torch.testing.assert_close(layer(x), x @ layer._weight.T + layer._bias)


@pytest.mark.parametrize("kwargs, message", [
    (dict(action_spec=BoundedTensorSpec((2,), torch.float32, -1, 1)), "DuelingQNetwork.action_spec: expected a dis"),
    (dict(action_spec=BoundedTensorSpec((2,), torch.int64, 0, 1)), "expected a single discrete action"),
    (dict(num_values=0), "DuelingQNetwork.num_values: expected None or a number >= 1, got 0"),
    (dict(noisy_std=-1.0), "std_init: expected a number >= 0, got -1.0"),
    (dict(input_tensor_spec=TensorSpec((3, 8, 8))), "Set conv_layer_params for images"),
])
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DuelingQNetwork(**{**dict(input_tensor_spec=_OBSERVATION, action_spec=_ACTION), **kwargs})
