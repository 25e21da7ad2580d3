"""Actors: nested actions, recurrence, parallel forms."""

import functools

import pytest
import torch

import alf.nest as nest
from alf.nest.utils import NestConcat
from alf.networks.actor_distribution_networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    ParallelActorDistributionNetwork,
    UnitNormalActorDistributionNetwork,
)
from alf.networks.networks import NoisyFC
from alf.networks.projection_networks import BetaProjectionNetwork, CategoricalProjectionNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils, spec_utils

_B = 5
_obs_spec = TensorSpec((4,))
_discrete = BoundedTensorSpec((), torch.int64, 0, 2)
_continuous = BoundedTensorSpec((3,), minimum=-1.0, maximum=1.0)
_mixed = {"move": _continuous, "press": (_discrete, BoundedTensorSpec((2,), torch.int64, 0, 1))}
_actors = [
    functools.partial(ActorDistributionNetwork, fc_layer_params=(8, 6)),
    functools.partial(
        ActorDistributionRNNNetwork, fc_layer_params=(8,), lstm_hidden_size=(6,), actor_fc_layer_params=(5,)
    ),
]
_ids = ["feed_forward", "rnn"]


@pytest.mark.parametrize("ctor", _actors, ids=_ids)
@pytest.mark.parametrize("action_spec", [_discrete, _continuous, _mixed], ids=["discrete", "continuous", "mixed"])
def test_actor_puts_out_a_distribution_for_each_action(ctor, action_spec):
    net = ctor(_obs_spec, action_spec)
    state = spec_utils.zeros_from_spec(net.state_spec, _B)
    dists, new_state = net(torch.randn(_B, 4), state)
    actions, log_prob = dist_utils.sample_action_distribution(dists, return_log_prob=True)
    assert log_prob.shape == (_B,)
    assert spec_utils.consistent_with_spec(actions, nest.map_structure(TensorSpec.from_spec, action_spec), from_dim=1)
    nest.assert_same_structure(new_state, net.state_spec)
    assert net.is_rnn == (ctor.func is ActorDistributionRNNNetwork)
    assert net.is_distribution_output
    rebuilt = dist_utils.params_to_distributions(dist_utils.distributions_to_params(dists), net.output_spec)
    assert torch.allclose(dist_utils.compute_log_probability(rebuilt, actions), log_prob, atol=1e-5)


@pytest.mark.parametrize("ctor", _actors, ids=_ids)
def test_parallel_actor_accepts_shared_and_own_observations(ctor):
    net = ctor(_obs_spec, _mixed).make_parallel(3)
    assert isinstance(net, ParallelActorDistributionNetwork)
    state = spec_utils.zeros_from_spec(net.state_spec, _B)
    obs = torch.randn(_B, 4)
    shared, _ = net(obs, state)
    own, _ = net(obs.unsqueeze(1).expand(_B, 3, 4), state)
    assert shared["move"].batch_shape == (_B, 3)
    assert torch.allclose(shared["move"].loc, own["move"].loc, atol=1e-6)
    assert not torch.allclose(shared["move"].loc[:, 0], shared["move"].loc[:, 1])


def test_discrete_and_continuous_actions_get_their_own_projection():
    net = ActorDistributionNetwork(_obs_spec, _mixed, continuous_projection_net_ctor=BetaProjectionNetwork)
    dists, _ = net(torch.randn(_B, 4))
    assert isinstance(dists["move"], dist_utils.AffineTransformedDistribution)
    assert isinstance(dists["press"][0], dist_utils.Categorical)


def test_rnn_actor_remembers():
    torch.manual_seed(0)
    net = ActorDistributionRNNNetwork(_obs_spec, _continuous, lstm_hidden_size=6)
    state = spec_utils.zeros_from_spec(net.state_spec, 1)
    obs = torch.randn(1, 4)
    first, state = net(obs, state)
    second, _ = net(obs, state)
    assert not torch.allclose(first.loc, second.loc)


def test_state_of_a_noisy_projection_goes_with_that_of_the_encoder():
    noisy = functools.partial(CategoricalProjectionNetwork, fc_ctor=NoisyFC)
    for ctor in _actors:
        net = ctor(_obs_spec, {"a": _discrete, "b": _continuous}, discrete_projection_net_ctor=noisy)
        state = spec_utils.zeros_from_spec(net.state_spec, _B)
        dists, new_state = net(torch.randn(_B, 4), state)
        assert dists["a"].batch_shape == (_B,)
        assert spec_utils.consistent_with_spec(new_state, net.state_spec, from_dim=1)


def test_nested_observation_with_combiner():
    obs_spec = {"a": TensorSpec((4,)), "b": TensorSpec((2,))}
    net = ActorDistributionNetwork(obs_spec, _discrete, preprocessing_combiner=NestConcat(), fc_layer_params=(8,))
    dist, _ = net({"a": torch.randn(_B, 4), "b": torch.randn(_B, 2)})
    assert dist.batch_shape == (_B,)


def test_image_observation():
    net = ActorDistributionNetwork(
        TensorSpec((3, 10, 10)), _discrete, conv_layer_params=((4, 3, 2),), fc_layer_params=(8,)
    )
    assert net(torch.randn(_B, 3, 10, 10))[0].batch_shape == (_B,)


def test_copy_is_independent_and_keeps_the_arguments():
    net = ActorDistributionNetwork(_obs_spec, _continuous, fc_layer_params=(8,))
    copy = net.copy(name="other")
    assert copy.name == "other"
    assert [p.shape for p in copy.parameters()] == [p.shape for p in net.parameters()]
    assert not torch.equal(next(copy.parameters()), next(net.parameters()))


def test_parameters_have_the_names_of_checkpoints():
    net = ActorDistributionNetwork(_obs_spec, _continuous, fc_layer_params=(8,))
    assert {"_encoding_net._nets.0._weight", "_projection_net._std"} <= set(net.state_dict())


def test_unit_normal_actor_ignores_its_input():
    net = UnitNormalActorDistributionNetwork(_obs_spec, TensorSpec((3,)))
    dist, _ = net(torch.randn(_B, 4))
    assert dist.batch_shape == (_B,) and (dist.loc == 0).all() and (dist.scale == 1).all()


def test_encoder_must_put_out_a_vector():
    with pytest.raises(ValueError, match="expected an encoding network that puts out a vector"):
        ActorDistributionNetwork(TensorSpec((3, 10, 10)), _discrete)
    with pytest.raises(ValueError, match="at least one action"):
        ActorDistributionNetwork(_obs_spec, ())
