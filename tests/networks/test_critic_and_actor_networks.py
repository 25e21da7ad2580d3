"""Critics, deterministic actors, their noise and the encoding of actions."""

import functools

import pytest
import torch

from alf.layers import OneHot
from alf.networks.action_encoder import SimpleActionEncoder
from alf.networks.actor_networks import ActorNetwork, ActorRNNNetwork
from alf.networks.critic_networks import CriticNetwork, CriticRNNNetwork
from alf.networks.network import NaiveParallelNetwork
from alf.networks.ou_process import OUProcess
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import spec_utils

_B = 5
_obs_spec = TensorSpec((4,))
_action_spec = BoundedTensorSpec((3,), minimum=[-2.0, -1.0, 0.0], maximum=[2.0, 1.0, 5.0])
_critics = [
    functools.partial(
        CriticNetwork, observation_fc_layer_params=(8,), action_fc_layer_params=(6,), joint_fc_layer_params=(7,)
    ),
    functools.partial(
        CriticRNNNetwork,
        observation_fc_layer_params=(8,),
        joint_fc_layer_params=(7,),
        lstm_hidden_size=6,
        critic_fc_layer_params=(5,),
    ),
]
_actors = [
    functools.partial(ActorNetwork, fc_layer_params=(8,)),
    functools.partial(ActorRNNNetwork, lstm_hidden_size=6, actor_fc_layer_params=(5,)),
]
_ids = ["feed_forward", "rnn"]


def _run(net, inputs, batch_size=_B):
    return net(inputs, spec_utils.zeros_from_spec(net.state_spec, batch_size))[0]


@pytest.mark.parametrize("ctor", _critics, ids=_ids)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_critic_values_depend_on_observation_and_action(ctor, shape):
    net = ctor((_obs_spec, _action_spec), output_tensor_spec=TensorSpec(shape))
    obs, action = torch.randn(_B, 4, requires_grad=True), torch.randn(_B, 3, requires_grad=True)
    value = _run(net, (obs, action))
    assert value.shape == (_B, *shape) and net.output_spec == TensorSpec(shape)
    value.sum().backward()
    assert (obs.grad != 0).any() and (action.grad != 0).any()


@pytest.mark.parametrize("ctor", _critics, ids=_ids)
def test_parallel_critic_shares_or_splits_inputs(ctor):
    net = ctor((_obs_spec, _action_spec)).make_parallel(2)
    obs, action = torch.randn(_B, 4), torch.randn(_B, 3)
    values = _run(net, (obs, action))
    assert values.shape == (_B, 2)
    split = _run(net, (obs.unsqueeze(1).expand(_B, 2, 4), action.unsqueeze(1).expand(_B, 2, 3)))
    assert torch.allclose(values, split, atol=1e-6)


def test_naive_parallel_critic():
    net = CriticNetwork((_obs_spec, _action_spec), use_naive_parallel_network=True).make_parallel(2)
    assert isinstance(net, NaiveParallelNetwork)
    assert _run(net, (torch.randn(_B, 4), torch.randn(_B, 3))).shape == (_B, 2)


def test_parallel_critic_parameters_have_the_names_of_checkpoints():
    net = CriticNetwork((_obs_spec, _action_spec), joint_fc_layer_params=(7,)).make_parallel(2)
    assert "_pnet._nets.2._weight" in net.state_dict()


def test_critic_of_discrete_actions_through_one_hot():
    spec = BoundedTensorSpec((), torch.int64, 0, 6)
    net = CriticNetwork((_obs_spec, spec), action_input_processors=OneHot(7), joint_fc_layer_params=(8,))
    assert net((torch.randn(_B, 4), torch.randint(7, (_B,))))[0].shape == (_B,)


def test_critic_without_layers_is_linear_with_small_weights():
    net = CriticNetwork((_obs_spec, _action_spec))
    assert sum(p.numel() for p in net.parameters()) == 4 + 3 + 1
    assert net((torch.ones(1, 4), torch.ones(1, 3)))[0].abs().item() < 7 * 0.003 + 1e-6


def test_critic_copy_has_the_same_structure():
    net = CriticNetwork((_obs_spec, _action_spec), joint_fc_layer_params=(7,))
    copy = net.copy()
    assert [p.shape for p in copy.parameters()] == [p.shape for p in net.parameters()]
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in net.parameters()}


def test_critic_wants_a_pair_of_specs():
    with pytest.raises(
        ValueError, match=r"CriticNetwork.input_tensor_spec: expected \(observation_spec, action_spec\)"
    ):
        CriticNetwork(_obs_spec)


@pytest.mark.parametrize("ctor", _actors, ids=_ids)
def test_actor_stays_in_the_bounds_and_begins_in_the_middle(ctor):
    torch.manual_seed(0)
    net = ctor(_obs_spec, _action_spec)
    action = _run(net, torch.randn(_B, 4))
    middle, half = spec_utils.spec_means_and_magnitudes(_action_spec)
    assert ((action - middle).abs() < 0.1 * half).all()
    with torch.no_grad():
        for p in net._action_layers.parameters():
            p.mul_(1e4)
    action = _run(net, torch.randn(200, 4), 200)
    assert torch.equal(spec_utils.clip_to_spec(action, _action_spec), action)
    assert ((action - middle).abs() > 0.9 * half).any()


def test_actor_of_nested_actions():
    spec = {"a": _action_spec, "b": (BoundedTensorSpec((), minimum=-1.0), BoundedTensorSpec((2, 2)))}
    net = ActorNetwork(_obs_spec, spec, fc_layer_params=(8,))
    action, _ = net(torch.randn(_B, 4))
    assert action["b"][0].shape == (_B,) and action["b"][1].shape == (_B, 2, 2)
    parallel = net.make_parallel(3)
    assert parallel(torch.randn(_B, 4))[0]["a"].shape == (_B, 3, 3)


@pytest.mark.parametrize(
    "spec,words",
    [
        (BoundedTensorSpec((), torch.int64, 0, 3), "expected continuous actions, got"),
        (TensorSpec((3,)), "expected a BoundedTensorSpec with finite bounds, got TensorSpec"),
    ],
)
def test_actor_refuses_other_actions(spec, words):
    with pytest.raises(ValueError, match=f"ActorNetwork.action_spec: {words}"):
        ActorNetwork(_obs_spec, spec)


def test_ou_process_has_its_stationary_moments():
    torch.manual_seed(0)
    process = OUProcess(TensorSpec((2,)), damping=0.15, stddev=0.2)
    x = spec_utils.zeros_from_spec(process.state_spec, 20000)
    xs = []
    for _ in range(60):
        x = process(x)
        xs.append(x)
    # x' = a x + s N: stationary variance s^2 / (1 - a^2), correlation a.
    assert x.std().item() == pytest.approx(0.2 / (1 - 0.85**2) ** 0.5, rel=0.02)
    correlation = torch.corrcoef(torch.stack([xs[-1][:, 0], xs[-2][:, 0]]))[0, 1].item()
    assert correlation == pytest.approx(0.85, abs=0.02)


def test_ou_process_refuses_bad_arguments():
    with pytest.raises(ValueError, match="expected continuous specs"):
        OUProcess(TensorSpec((), torch.int64))
    with pytest.raises(ValueError, match="damping <= 1"):
        OUProcess(TensorSpec(()), damping=1.5)


def test_action_encoder_makes_one_vector():
    spec = {
        "a": BoundedTensorSpec((), torch.int64, 1, 3),
        "b": BoundedTensorSpec((2,)),
        "c": BoundedTensorSpec((2,), torch.int64, 0, 1),
    }
    net = SimpleActionEncoder(spec)
    actions = {"a": torch.tensor([3]), "b": torch.tensor([[0.5, 0.25]]), "c": torch.tensor([[1, 0]])}
    encoded, state = net(actions)
    assert encoded.tolist() == [[0, 0, 1, 0.5, 0.25, 0, 1, 1, 0]] and state == ()
    assert net.output_spec == TensorSpec((9,))


def test_action_encoder_refuses_discrete_actions_without_common_bounds():
    with pytest.raises(ValueError, match="same bounds for all components"):
        SimpleActionEncoder(BoundedTensorSpec((2,), torch.int64, 0, [1, 2]))
