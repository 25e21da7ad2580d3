"""Value and Q networks: shapes, initial values, recurrence, parallel forms."""

import functools

import pytest
import torch

from alf.networks.network import NaiveParallelNetwork
from alf.networks.q_networks import ParallelQNetwork, QNetwork, QRNNNetwork
from alf.networks.value_networks import ParallelValueNetwork, ValueNetwork, ValueRNNNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import spec_utils

_B = 5
_obs_spec = TensorSpec((4,))
_action_spec = BoundedTensorSpec((), torch.int64, 0, 2)
_value_nets = [
    functools.partial(ValueNetwork, fc_layer_params=(8,)),
    functools.partial(ValueRNNNetwork, lstm_hidden_size=(6, 5), value_fc_layer_params=(4,)),
]
_q_nets = [
    functools.partial(QNetwork, fc_layer_params=(8,)),
    functools.partial(QRNNNetwork, lstm_hidden_size=6, value_fc_layer_params=(4,)),
]
_ids = ["feed_forward", "rnn"]


def _run(net, obs):
    return net(obs, spec_utils.zeros_from_spec(net.state_spec, obs.shape[0]))[0]


@pytest.mark.parametrize("ctor", _value_nets, ids=_ids)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_value_has_the_shape_of_its_spec(ctor, shape):
    net = ctor(_obs_spec, output_tensor_spec=TensorSpec(shape))
    assert _run(net, torch.randn(_B, 4)).shape == (_B, *shape)
    assert net.output_spec == TensorSpec(shape)
    assert net.is_rnn == (ctor.func is ValueRNNNetwork)


@pytest.mark.parametrize("ctor", _value_nets + _q_nets, ids=["value", "value_rnn", "q", "q_rnn"])
def test_initial_values_are_near_zero(ctor):
    args = (_obs_spec,) if "Value" in ctor.func.__name__ else (_obs_spec, _action_spec)
    assert _run(ctor(*args), torch.randn(100, 4)).abs().max() < 0.5


@pytest.mark.parametrize("ctor", _value_nets, ids=_ids)
def test_parallel_value_shares_or_splits_observations(ctor):
    net = ctor(_obs_spec).make_parallel(3)
    assert isinstance(net, ParallelValueNetwork)
    obs = torch.randn(_B, 4)
    values = _run(net, obs)
    assert values.shape == (_B, 3) and net.output_spec == TensorSpec((3,))
    assert torch.allclose(values, _run(net, obs.unsqueeze(1).expand(_B, 3, 4)), atol=1e-6)
    assert not torch.allclose(values[:, 0], values[:, 1])


@pytest.mark.parametrize("ctor", _q_nets, ids=_ids)
def test_q_network_has_a_value_for_each_action(ctor):
    net = ctor(_obs_spec, _action_spec)
    assert _run(net, torch.randn(_B, 4)).shape == (_B, 3)
    parallel = net.make_parallel(2)
    assert isinstance(parallel, ParallelQNetwork)
    assert _run(parallel, torch.randn(_B, 4)).shape == (_B, 2, 3)


def test_naive_parallel_q_network():
    net = QNetwork(_obs_spec, _action_spec, fc_layer_params=(8,), use_naive_parallel_network=True).make_parallel(2)
    assert isinstance(net, NaiveParallelNetwork)
    assert net(torch.randn(_B, 4))[0].shape == (_B, 2, 3)


@pytest.mark.parametrize(
    "spec,words",
    [
        (BoundedTensorSpec((2,)), "expected a discrete BoundedTensorSpec"),
        (BoundedTensorSpec((2,), torch.int64, 0, 3), r"a single discrete action, shape \(\)"),
        (BoundedTensorSpec((), torch.int64, 2, 3), "begin with 0"),
    ],
)
def test_q_network_refuses_other_actions(spec, words):
    with pytest.raises(ValueError, match=f"QNetwork.action_spec.*{words}"):
        QNetwork(_obs_spec, spec)
