"""Projection networks: the distributions they make, their bounds, their parallel forms and what they refuse."""

import functools
import math

import pytest
import torch
import torch.distributions as td
from torch import nn

from alf.layers import reset_parameters
from alf.networks.networks import NoisyFC
from alf.networks.projection_networks import (
    BetaProjectionNetwork,
    CategoricalProjectionNetwork,
    CauchyProjectionNetwork,
    MixtureProjectionNetwork,
    NormalProjectionNetwork,
    OnehotCategoricalProjectionNetwork,
    ParallelCategoricalProjectionNetwork,
    StableNormalProjectionNetwork,
    TruncatedProjectionNetwork,
)
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils, spec_utils
from alf.utils.distributions import TruncatedCauchy

_B, _D = 5, 4
_unit_box = BoundedTensorSpec((3,), minimum=-1.0, maximum=1.0)
_box = BoundedTensorSpec((3,), minimum=[-2.0, -1.0, 0.0], maximum=[2.0, 1.0, 5.0])
_discrete = BoundedTensorSpec((), torch.int64, 0, 6)

_families = {
    "categorical": (CategoricalProjectionNetwork, _discrete),
    "multi_discrete": (CategoricalProjectionNetwork, BoundedTensorSpec((2,), torch.int64, 0, 3)),
    "onehot": (OnehotCategoricalProjectionNetwork, _discrete),
    "normal": (NormalProjectionNetwork, _box),
    "normal_unbounded": (functools.partial(NormalProjectionNetwork, squash_mean=False), TensorSpec((3,))),
    "normal_state_std": (functools.partial(NormalProjectionNetwork, state_dependent_std=True), _box),
    "squashed": (functools.partial(NormalProjectionNetwork, scale_distribution=True), _box),
    "stable": (functools.partial(StableNormalProjectionNetwork, max_std=2.0), _box),
    "cauchy": (CauchyProjectionNetwork, _box),
    "cauchy_squashed": (functools.partial(CauchyProjectionNetwork, scale_distribution=True), _box),
    "beta": (functools.partial(BetaProjectionNetwork, projection_output_init_gain=1.0), _box),
    "truncated": (TruncatedProjectionNetwork, _box),
    "truncated_cauchy": (
        functools.partial(TruncatedProjectionNetwork, dist_ctor=TruncatedCauchy, state_dependent_scale=True),
        _box,
    ),
    "mixture": (
        functools.partial(MixtureProjectionNetwork, num_components=4, component_ctor=NormalProjectionNetwork),
        _box,
    ),
}


def _make(name):
    torch.manual_seed(0)
    ctor, spec = _families[name]
    return ctor(_D, spec), spec


@pytest.mark.parametrize("name", list(_families))
def test_projection_makes_a_distribution_over_the_action(name):
    net, spec = _make(name)
    dist, state = net(torch.randn(_B, _D), ())
    assert state == () and net.state_spec == () and net.is_distribution_output
    assert dist.batch_shape == (_B,)
    action, log_prob = dist_utils.sample_action_distribution(dist, return_log_prob=True)
    assert log_prob.shape == (_B,) and torch.isfinite(log_prob).all()
    assert action.dtype == spec.dtype or name == "onehot"
    if name != "onehot":
        assert action.shape == (_B, *spec.shape)
    log_prob.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("name", list(_families))
def test_output_spec_rebuilds_the_distribution(name):
    net, _ = _make(name)
    dist, _ = net(torch.randn(_B, _D))
    rebuilt = dist_utils.params_to_distributions(dist_utils.distributions_to_params(dist), net.output_spec)
    action = dist_utils.get_mode(dist).detach().clone()
    assert torch.allclose(rebuilt.log_prob(action), dist.log_prob(action), atol=1e-4)


@pytest.mark.parametrize("name", list(_families))
def test_parallel_projection_has_parameters_of_its_own(name):
    net, _ = _make(name)
    parallel = net.make_parallel(3)
    x = torch.randn(_B, 3, _D)
    dist, _ = parallel(x)
    assert dist.batch_shape == (_B, 3) and dist.event_shape == net(x[:, 0])[0].event_shape
    assert sum(p.numel() for p in parallel.parameters()) == 3 * sum(p.numel() for p in net.parameters())
    shared, _ = parallel(x[:, 0])
    action = dist_utils.get_mode(dist).detach()
    assert torch.allclose(shared.log_prob(action)[:, 0], dist.log_prob(action)[:, 0], atol=1e-4)


@pytest.mark.parametrize("name", list(_families))
def test_copy_has_the_same_structure(name):
    net, _ = _make(name)
    copy = net.copy()
    assert [p.shape for p in copy.parameters()] == [p.shape for p in net.parameters()]
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in net.parameters()}


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", list(_families))
def test_all_parameters_are_drawn_anew(name, parallel):
    net, _ = _make(name)
    net = net.make_parallel(2) if parallel else net
    constant = {key: p.clone() for key, p in net.named_parameters() if (p == p.flatten()[0]).all()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(7.0)
    reset_parameters(net)
    for key, parameter in net.named_parameters():
        assert not (parameter == 7.0).any()
        assert key not in constant or torch.equal(parameter, constant[key])


@pytest.mark.parametrize("name", ["squashed", "cauchy_squashed", "beta", "truncated", "truncated_cauchy"])
def test_bounded_distributions_sample_inside_the_bounds(name):
    net, spec = _make(name)
    dist, _ = net(10 * torch.randn(2000, _D))
    action = dist.sample()
    assert torch.equal(spec_utils.clip_to_spec(action, spec), action)


def test_categorical_begins_nearly_uniform_and_follows_the_logits():
    net = CategoricalProjectionNetwork(_D, _discrete)
    dist, _ = net(torch.randn(100, _D))
    assert type(dist) is dist_utils.Categorical
    assert dist.entropy().min() > math.log(7) - 0.2
    x = torch.randn(_B, _D)
    layer = net._projection_layer
    assert torch.allclose(net(x)[0].logits, (x @ layer.weight.T + layer.bias).log_softmax(-1), atol=1e-6)


def test_multi_discrete_components_are_independent():
    net, _ = _make("multi_discrete")
    dist, _ = net(torch.randn(_B, _D))
    action = dist.sample()
    logits = dist.base_dist.logits
    expected = sum(logits[torch.arange(_B), i, action[:, i]] for i in range(2))
    assert torch.allclose(dist.log_prob(action), expected)


def test_parallel_categorical_equals_its_members():
    torch.manual_seed(0)
    net = ParallelCategoricalProjectionNetwork(_D, _discrete, 2, logits_init_output_factor=1.0)
    x = torch.randn(_B, 2, _D)
    weight, bias = net._projection_layer.weight, net._projection_layer.bias
    expected = torch.stack([x[:, i] @ weight[i].T + bias[i] for i in range(2)], 1).log_softmax(-1)
    assert torch.allclose(net(x)[0].logits, expected, atol=1e-5)


def test_optimizer_options_reach_the_parameters():
    args = dict(weight_opt_args={"weight_decay": 0.1}, bias_opt_args={"fixed_norm": True})
    for net in (
        CategoricalProjectionNetwork(_D, _discrete, **args),
        CategoricalProjectionNetwork(_D, _discrete, **args).make_parallel(2),
    ):
        assert net._projection_layer.weight.opt_args == args["weight_opt_args"]
        assert net._projection_layer.bias.opt_args == args["bias_opt_args"]


def test_noisy_layer_brings_its_state():
    net = CategoricalProjectionNetwork(_D, _discrete, fc_ctor=NoisyFC)
    state = spec_utils.zeros_from_spec(net.state_spec, _B)
    dist, new_state = net(torch.randn(_B, _D), state)
    assert dist.batch_shape == (_B,)
    assert spec_utils.consistent_with_spec(new_state, net.state_spec, from_dim=1)


def test_normal_squashes_its_mean_into_the_bounds():
    net = NormalProjectionNetwork(_D, _box, projection_output_init_gain=1.0)
    x = 100 * torch.randn(200, _D)
    loc = net(x)[0].loc
    assert torch.equal(spec_utils.clip_to_spec(loc, _box), loc)
    layer = net._means_projection_layer
    low, high = torch.tensor(_box.minimum.copy()), torch.tensor(_box.maximum.copy())
    expected = low + (high - low) * (1 + torch.tanh(x @ layer.weight.T + layer.bias)) / 2
    assert torch.allclose(loc, expected, atol=1e-5)


def test_normal_standard_deviation_does_not_depend_on_the_input_by_default():
    net = NormalProjectionNetwork(_D, _unit_box, std_bias_initializer_value=1.5)
    scale = net(torch.randn(_B, _D))[0].scale
    assert torch.allclose(scale, torch.full((_B, 3), math.log1p(math.exp(1.5))))
    net = NormalProjectionNetwork(_D, _unit_box, state_dependent_std=True, projection_output_init_gain=1.0)
    assert net(torch.randn(_B, _D))[0].scale.std(0).min() > 0


def test_normal_transforms_of_the_user():
    net = NormalProjectionNetwork(
        _D, TensorSpec((3,)), squash_mean=False, mean_transform=lambda x: 7 + 0 * x, std_transform=lambda x: 2 + 0 * x
    )
    dist, _ = net(torch.randn(_B, _D))
    assert (dist.loc == 7).all() and (dist.scale == 2).all()


def test_scaled_distribution_leaves_the_normal_mean_alone():
    net, _ = _make("squashed")
    x = 50 * torch.randn(_B, _D)
    dist, _ = net(x)
    layer = net._means_projection_layer
    assert torch.allclose(dist.loc, x @ layer.weight.T + layer.bias)
    value = dist.sample()
    torch_dist = td.TransformedDistribution(
        td.Independent(td.Normal(dist.loc, dist.scale), 1), dist.transforms, validate_args=False
    )
    assert torch.allclose(torch_dist.log_prob(value.clone()), dist.log_prob(value.clone()), atol=1e-3)


@pytest.mark.parametrize("transform", ["softplus", "exp"])
@pytest.mark.parametrize("limits", [(0.0, None), (0.1, 2.0)])
def test_stable_normal_begins_with_init_std_and_respects_limits(transform, limits):
    net = StableNormalProjectionNetwork(
        _D, _unit_box, inverse_std_transform=transform, init_std=0.7, min_std=limits[0], max_std=limits[1]
    )
    x = torch.randn(_B, _D)
    assert torch.allclose(net(x)[0].scale, torch.full((_B, 3), 0.7), atol=1e-5)
    with torch.no_grad():
        net._std.copy_(torch.tensor([-60.0, 0.0, 60.0]))
    scale = net(x)[0].scale
    assert (scale >= limits[0]).all() and (scale <= (limits[1] or math.inf)).all()


def test_beta_begins_uniform_and_clips_gradients():
    net = BetaProjectionNetwork(_D, _box)
    dist, _ = net(torch.randn(_B, _D))
    action = dist.sample()
    volume = 4.0 * 2.0 * 5.0
    assert torch.allclose(dist.log_prob(action), torch.full((_B,), -math.log(volume)), atol=1e-4)
    (1e6 * dist.log_prob(action)).sum().backward()
    # The slope of softplus is at most 1, and each row adds at most grad_clip.
    assert net._concentration_projection_layer.bias.grad.abs().max() <= _B * 0.01 + 1e-6


def test_beta_min_concentration_makes_one_peak():
    net = BetaProjectionNetwork(_D, _box, min_concentration=1.0, projection_output_init_gain=10.0)
    base = net(torch.randn(50, _D))[0].base_dist
    assert base.concentration1.min() >= 1 and base.concentration0.min() >= 1


def test_truncated_scale_limits():
    net = TruncatedProjectionNetwork(_D, _unit_box, scale_bias_initializer_value=10.0, min_scale=0.1, max_scale=0.5)
    assert torch.allclose(net(torch.randn(_B, _D))[0].scale, torch.full((_B, 3), 0.5))


def test_mixture_is_the_weighted_sum_of_its_components():
    net, _ = _make("mixture")
    assert net.num_components == 4
    dist, _ = net(torch.randn(_B, _D))
    value = torch.randn(_B, 3)
    per_component = dist.component_distribution.log_prob(value.unsqueeze(1)).exp()
    expected = (per_component * dist.mixture_distribution.probs).sum(1).log()
    assert torch.allclose(dist.log_prob(value), expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["plain", "st", "st-gumbel", "gumbel"])
def test_onehot_modes(mode):
    net = OnehotCategoricalProjectionNetwork(_D, BoundedTensorSpec((7,), torch.int64, 0, 1), mode=mode)
    dist, _ = net(torch.randn(_B, _D))
    assert dist.event_shape == (7,)
    assert dist.has_rsample == (mode != "plain")
    sample = dist.rsample() if dist.has_rsample else dist.sample()
    assert sample.shape == (_B, 7) and sample.requires_grad == (mode != "plain")


_refused = [
    (
        CategoricalProjectionNetwork,
        _box,
        r"expected a discrete BoundedTensorSpec .*got BoundedTensorSpec\(shape=\(3,\)",
    ),
    (CategoricalProjectionNetwork, TensorSpec((), torch.int64), "expected a discrete BoundedTensorSpec"),
    (CategoricalProjectionNetwork, BoundedTensorSpec((), torch.int64, 1, 3), "begin with 0"),
    (CategoricalProjectionNetwork, BoundedTensorSpec((2,), torch.int64, 0, [1, 3]), r"same number .* got \[2, 4\]"),
    (CategoricalProjectionNetwork, {"a": _discrete}, "expected one TensorSpec, got {'a'.*ActorDistributionNetwork"),
    (NormalProjectionNetwork, _discrete, r"expected a continuous spec .*use a discrete projection network"),
    (NormalProjectionNetwork, BoundedTensorSpec((2, 2)), r"one-dimensional spec, got .* of shape \(2, 2\)"),
    (NormalProjectionNetwork, TensorSpec((3,)), "with finite bounds, got TensorSpec.* squash_mean=True needs them"),
    (functools.partial(NormalProjectionNetwork, scale_distribution=True), TensorSpec((3,)), "scale_distribution=True"),
    (NormalProjectionNetwork, BoundedTensorSpec((3,), minimum=-math.inf, maximum=1.0), "finite bounds"),
    (BetaProjectionNetwork, TensorSpec((3,)), "BetaProjectionNetwork.action_spec: expected a BoundedTensorSpec"),
    (TruncatedProjectionNetwork, TensorSpec((3,)), "where the distribution is cut"),
    (functools.partial(StableNormalProjectionNetwork, init_std=3.0, max_std=2.0), _box, "min_std < init_std < max_std"),
    (functools.partial(StableNormalProjectionNetwork, inverse_std_transform="sqrt"), _box, r"'softplus'\], got 'sqrt'"),
    (functools.partial(OnehotCategoricalProjectionNetwork, mode="soft"), _discrete, "mode: expected one of .*'soft'"),
    (OnehotCategoricalProjectionNetwork, BoundedTensorSpec((2, 2), torch.int64, 0, 1), "one-hot vectors"),
    (functools.partial(MixtureProjectionNetwork, num_components=0, component_ctor=nn.Linear), _box, "num_components"),
]


@pytest.mark.parametrize("ctor,spec,words", _refused)
def test_unsuitable_action_specs_are_refused_by_name(ctor, spec, words):
    with pytest.raises(ValueError, match=words):
        ctor(_D, spec)
