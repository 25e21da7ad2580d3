"""Lean distributions against torch.distributions, their numerics at the extremes, and operations on nests of them."""

import math
import pickle

import pytest
import torch
import torch.distributions as td
from hypothesis import given, settings
from hypothesis import strategies as st

import alf.nest as nest
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils as du


def _allclose(a, b, atol=1e-5):
    return torch.allclose(a, b, atol=atol, rtol=1e-5)


def _leaf(*shape, positive=False, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (x.abs() + 0.2 if positive else x).requires_grad_()


# ---- categorical
# --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    batch=st.lists(st.integers(1, 40), min_size=0, max_size=2),
    k=st.integers(1, 20),
    scale=st.sampled_from([0.1, 3.0, 1e4]),
    seed=st.integers(0, 1000),
)
def test_categorical_equals_torch(batch, k, scale, seed):
    logits = _leaf(*batch, k, seed=seed).detach() * scale
    # In float32 torch's own loses digits at logits of 1e4.
    mine, reference = du.Categorical(logits=logits), td.Categorical(logits=logits.double())
    action = torch.randint(k, batch)
    assert _allclose(mine.log_prob(action), reference.log_prob(action).float())
    assert _allclose(mine.entropy(), reference.entropy().float())
    assert _allclose(mine.probs, reference.probs.float())
    assert torch.equal(mine.mode, reference.mode)
    assert mine.batch_shape == reference.batch_shape and mine.event_shape == ()


@pytest.mark.parametrize("shape", [(4, 3), (300, 6), (300, 18), (2, 5, 3)])
def test_categorical_gradients_equal_torch(shape):
    logits = _leaf(*shape)
    action = torch.randint(shape[-1], shape[:-1])
    grads = []
    for cls in (du.Categorical, td.Categorical):
        dist = cls(logits=logits)
        grads.append(torch.autograd.grad((dist.log_prob(action) + 0.1 * dist.entropy()).sum(), logits)[0])
    assert _allclose(*grads)


def test_categorical_is_a_torch_categorical_and_works_with_kl():
    p, q = _leaf(4, 3), _leaf(4, 3, seed=1)
    mine = td.kl_divergence(du.Categorical(logits=p), du.Categorical(logits=q))
    assert _allclose(mine, td.kl_divergence(td.Categorical(logits=p), td.Categorical(logits=q)))
    assert isinstance(du.Categorical(logits=p), td.Categorical)


@pytest.mark.parametrize("k", [2, 6, 20])
def test_categorical_sample_frequencies(k):
    torch.manual_seed(0)
    probs = torch.rand(k)
    samples = du.Categorical(logits=probs.log().expand(40000, k)).sample()
    freq = torch.bincount(samples, minlength=k) / samples.numel()
    assert torch.allclose(freq, probs / probs.sum(), atol=0.01)


@pytest.mark.parametrize("num_rows", [1, 8, 63, 64, 500])
def test_categorical_sample_is_that_of_gumbel_noise(num_rows):
    logits = torch.randn(num_rows, 4)
    torch.manual_seed(1)
    sample = du.Categorical(logits=logits).sample()
    torch.manual_seed(1)
    if num_rows >= 64:  # where the log probabilities lie column by column
        noise = torch.rand(4, num_rows).t()
    else:
        noise = torch.rand(num_rows, 4)
    assert torch.equal(sample, (logits - noise.log().neg().log()).argmax(-1))


def test_categorical_sample_shape_comes_first():
    dist = du.Categorical(logits=torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]))
    samples = dist.sample((7,))
    assert samples.tolist() == [[0, 1]] * 7
    assert _allclose(dist.log_prob(samples), torch.zeros(7, 2))


def test_categorical_log_prob_broadcasts():
    dist = du.Categorical(logits=torch.zeros(3, 4))
    assert dist.log_prob(torch.tensor(2)).shape == (3,)
    assert dist.log_prob(torch.zeros(5, 3, dtype=torch.int32)).shape == (5, 3)
    assert du.Categorical(logits=torch.zeros(4)).log_prob(torch.zeros(3, dtype=torch.int64)).shape == (3,)


def test_masked_categories_are_never_sampled_and_give_no_nan():
    torch.manual_seed(0)
    logits = torch.zeros(20000, 4)
    logits[:, 1] = -math.inf
    logits.requires_grad_()
    dist = du.Categorical(logits=logits)
    actions = dist.sample()
    assert not (actions == 1).any()
    assert _allclose(dist.entropy(), torch.full((20000,), math.log(3)))
    (dist.entropy().mean() + dist.log_prob(actions).mean()).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, 1] == 0).all()


def test_huge_equal_logits_are_sampled_without_bias():
    # Noise added to logits of 1e6 would be rounded to 1/16, and the first category would win most ties.
    torch.manual_seed(0)
    samples = du.Categorical(logits=torch.full((40000, 2), 1e6)).sample()
    assert samples.float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_categorical_from_weights_normalises_them():
    dist = du.Categorical(probs=torch.tensor([[2.0, 0.0, 6.0]]))
    assert _allclose(dist.probs, torch.tensor([[0.25, 0.0, 0.75]]))


def test_categorical_wants_exactly_one_parameter():
    with pytest.raises(ValueError, match="either probs or logits, got neither"):
        du.Categorical()
    with pytest.raises(ValueError, match="got both"):
        du.Categorical(torch.ones(2), torch.ones(2))


def test_entropy_looked_at_without_grad_keeps_its_gradient_later():
    logits = _leaf(4, 3)
    dist = du.Categorical(logits=logits)
    scale = _leaf(4, 3, positive=True)
    normal = du.DiagMultivariateNormal(logits, scale)
    with torch.no_grad():
        dist.entropy(), normal.entropy()
    (dist.entropy().sum() + normal.entropy().sum()).backward()
    assert (logits.grad != 0).any() and (scale.grad != 0).any()


# ---- one-hot
# ------------------------------------------------------------------------------------------------


def test_one_hot_straight_through_equals_torch():
    logits = _leaf(5, 3)
    mine, reference = du.OneHotCategoricalStraightThrough(logits=logits), td.OneHotCategorical(logits=logits)
    sample = mine.rsample()
    assert torch.equal(sample.detach().sum(-1), torch.ones(5))
    assert _allclose(mine.log_prob(sample), reference.log_prob(sample.detach().round()))
    assert _allclose(mine.entropy(), reference.entropy())
    weight = torch.randn(5, 3)
    (grad,) = torch.autograd.grad((sample * weight).sum(), logits)
    (expected,) = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)
    assert _allclose(grad, expected)


def test_one_hot_modes():
    logits = torch.tensor([[0.0, 2.0, 1.0]], requires_grad=True)
    for dist in (du.OneHotCategoricalStraightThrough(logits=logits), du.OneHotCategoricalGumbelSoftmax(logits=logits)):
        assert dist.mode.tolist() == [[0, 1, 0]] and not dist.mode.requires_grad
        rmode = du.get_rmode(dist)
        assert _allclose(rmode, dist.mode) and rmode.requires_grad


def test_gumbel_softmax_samples_are_hard_or_relaxed():
    torch.manual_seed(0)
    logits = torch.zeros(500, 3, requires_grad=True)
    hard = du.OneHotCategoricalGumbelSoftmax(hard_sample=True, tau=0.5, logits=logits).rsample()
    soft = du.OneHotCategoricalGumbelSoftmax(hard_sample=False, tau=0.5, logits=logits).rsample()
    assert set(hard.detach().unique().tolist()) <= {0.0, 1.0}
    assert ((soft > 0.01) & (soft < 0.99)).any() and _allclose(soft.sum(-1), torch.ones(500))
    hard.square().sum().backward()
    assert (logits.grad != 0).any()


# ---- normal
# -------------------------------------------------------------------------------------------------


def _torch_normal(loc, scale):
    return td.Independent(td.Normal(loc, scale), 1)


@pytest.mark.parametrize("shape", [(3,), (5, 2), (4, 5, 1)])
def test_diag_normal_equals_torch_with_gradients(shape):
    loc, scale = _leaf(*shape), _leaf(*shape, positive=True, seed=1)
    value = torch.randn(shape)
    results = []
    for dist in (du.DiagMultivariateNormal(loc, scale), _torch_normal(loc, scale)):
        log_prob, entropy = dist.log_prob(value), dist.entropy()
        results.append((log_prob, entropy, *torch.autograd.grad((log_prob + entropy).sum(), (loc, scale))))
        assert dist.batch_shape == shape[:-1] and dist.event_shape == shape[-1:]
    for mine, reference in zip(*results, strict=True):
        assert _allclose(mine, reference)


def test_diag_normal_sample_moments_and_broadcast_scale():
    torch.manual_seed(0)
    dist = du.DiagMultivariateNormal(torch.tensor([[1.0, -2.0]]), torch.tensor([0.5, 3.0]))
    samples = dist.sample((20000,))
    assert samples.shape == (20000, 1, 2)
    assert torch.allclose(samples.mean(0), dist.mean, atol=0.06)
    assert torch.allclose(samples.std(0), dist.stddev, atol=0.06)
    assert dist.variance.tolist() == [[0.25, 9.0]]


def test_normal_kl_and_expand():
    p = (torch.zeros(2, 3), torch.ones(2, 3))
    q = (torch.ones(2, 3), torch.full((2, 3), 2.0))
    kl = td.kl_divergence(du.DiagMultivariateNormal(*p), du.DiagMultivariateNormal(*q))
    assert _allclose(kl, td.kl_divergence(_torch_normal(*p), _torch_normal(*q)))
    assert du.DiagMultivariateNormal(*p).expand((4, 2)).sample().shape == (4, 2, 3)


def test_rsample_with_log_prob_equals_log_prob_of_the_sample_with_gradients():
    loc, scale = _leaf(6, 2), _leaf(6, 2, positive=True, seed=1)
    for transforms in ((), (du.StableTanh(), du.AffineTransform(loc=1.0, scale=3.0))):
        base = du.DiagMultivariateNormal(loc, scale)
        dist = du.make_transformed(base, transforms) if transforms else base
        action, log_prob = du.rsample_action_distribution(dist, return_log_prob=True)
        expected = dist.log_prob(action)
        assert _allclose(log_prob, expected)
        for mine, reference in zip(
            torch.autograd.grad(log_prob.sum(), (loc, scale), retain_graph=True, materialize_grads=True),
            torch.autograd.grad(expected.sum(), (loc, scale), retain_graph=True),
            strict=True,
        ):
            assert _allclose(mine, reference, atol=1e-4)


def _torch_squashed(loc, scale, low, high):
    transforms = [td.TanhTransform(cache_size=1), td.AffineTransform((high + low) / 2, (high - low) / 2)]
    return td.TransformedDistribution(_torch_normal(loc, scale), transforms)


def test_squashed_normal_equals_torch_with_gradients():
    loc, scale = _leaf(6, 2), _leaf(6, 2, positive=True, seed=1)
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 2.0])
    value = low + (high - low) * (0.05 + 0.9 * torch.rand(6, 2))
    mine = du.SquashedDiagNormal(loc, scale, [du.StableTanh(), du.AffineTransform((high + low) / 2, (high - low) / 2)])
    reference = _torch_squashed(loc, scale, low, high)
    assert mine.batch_shape == (6,) and mine.event_shape == (2,)
    assert isinstance(mine, td.TransformedDistribution)
    grads = []
    for dist in (mine, reference):
        log_prob = dist.log_prob(value)
        grads.append((log_prob, *torch.autograd.grad(log_prob.sum(), (loc, scale))))
    for a, b in zip(*grads, strict=True):
        assert _allclose(a, b, atol=1e-4)


def test_squashed_normal_density_integrates_to_one():
    dist = du.SquashedDiagNormal(torch.tensor([0.7]), torch.tensor([0.9]), [du.StableTanh()])
    y = torch.linspace(-1 + 1e-6, 1 - 1e-6, 200001).view(-1, 1)
    assert torch.trapezoid(dist.log_prob(y).exp(), y.squeeze(-1)).item() == pytest.approx(1, abs=1e-3)


def test_squashed_normal_is_exact_for_its_own_saturated_sample():
    loc = torch.full((1, 1), 30.0, requires_grad=True)
    dist = du.SquashedDiagNormal(loc, torch.full((1, 1), 1e-3), [du.StableTanh()])
    action, log_prob = du.sample_action_distribution(dist, return_log_prob=True)
    assert action.item() == 1.0
    # Normal density at about its mean, and slope 4 exp(-2 x) of tanh: log p = -log(s sqrt(2 pi)) - log 4 +
    # 2 x - z^2 / 2.
    upper = -math.log(1e-3 * math.sqrt(2 * math.pi)) - math.log(4) + 60.1
    assert upper - 20 < log_prob.item() < upper
    stored = dist.log_prob(torch.ones(1, 1))
    assert torch.isfinite(stored).all()
    stored.sum().backward()
    assert torch.isfinite(loc.grad).all()


def test_one_transform_may_serve_several_distributions():
    tanh = du.StableTanh()
    loc = torch.zeros(3, 2)
    a, b = (du.SquashedDiagNormal(loc + c, torch.ones(3, 2), [tanh]) for c in (0.0, 1.0))
    x, y = a.sample(), b.sample()
    assert _allclose(a.log_prob(x), a.log_prob(x.clone()), atol=1e-4)
    assert _allclose(b.log_prob(y), b.log_prob(y.clone()), atol=1e-4)


# ---- Beta, Cauchy, affine
# -----------------------------------------------------------------------------------


def test_beta_equals_torch_with_gradients():
    a, b = _leaf(5, 2, positive=True), _leaf(5, 2, positive=True, seed=1)
    value = 0.02 + 0.96 * torch.rand(5, 2)
    results = []
    for dist in (du.DiagMultivariateBeta(a, b), td.Independent(td.Beta(a, b), 1)):
        log_prob, entropy = dist.log_prob(value), dist.entropy()
        results.append((log_prob, entropy, dist.mean, *torch.autograd.grad((log_prob + entropy).sum(), (a, b))))
    for mine, reference in zip(*results, strict=True):
        assert _allclose(mine, reference, atol=1e-4)


def test_beta_stays_finite_at_zero_and_one():
    a, b = torch.tensor([0.01, 3.0]), torch.tensor([0.01, 0.5])
    dist = du.Beta(a, b)
    eps = torch.finfo(torch.float32).eps
    samples = dist.rsample((1000,))
    assert samples.min() >= eps and samples.max() <= 1 - eps
    assert torch.isfinite(dist.log_prob(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))).all()
    assert du.Beta(a, b, eps=0.1).sample((100,)).max() <= 0.9


def test_beta_mode():
    a = torch.tensor([3.0, 0.5, 2.0, 1.0, 0.5])
    b = torch.tensor([2.0, 2.0, 0.5, 1.0, 0.5])
    assert torch.allclose(du.Beta(a, b).mode, torch.tensor([2 / 3, 0.0, 1.0, 0.5, 0.5]), atol=1e-6)


def test_stable_cauchy_equals_torch_and_clips_samples():
    torch.manual_seed(0)
    loc, scale = torch.tensor([1.0]), torch.tensor([2.0])
    mine, reference = du.StableCauchy(loc, scale), td.Cauchy(loc, scale)
    x = torch.linspace(-5, 5, 11)
    assert _allclose(mine.log_prob(x), reference.log_prob(x))
    assert _allclose(mine.entropy(), reference.entropy())
    samples = mine.rsample((20000,))
    limit = 2 * math.tan(math.pi * 0.49)
    assert (samples - 1).abs().max() <= limit * 1.001
    assert samples.median().item() == pytest.approx(1, abs=0.08)
    assert (mine.rsample((1000,), clipping_value=0.25) - 1).abs().max() <= 2.001


def test_diag_cauchy_sums_over_components():
    loc, scale = torch.zeros(3, 2), torch.ones(3, 2)
    dist = du.DiagMultivariateCauchy(loc, scale)
    expected = td.Independent(td.Cauchy(loc, scale), 1).log_prob(torch.ones(3, 2))
    assert _allclose(dist.log_prob(torch.ones(3, 2)), expected)
    assert dist.loc is loc and du.get_mode(dist).tolist() == loc.tolist()


def test_affine_transformed_distribution_moments_and_entropy():
    base = _torch_normal(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]]))
    loc, scale = torch.tensor([1.0, -1.0]), torch.tensor([-2.0, 3.0])
    dist = du.AffineTransformedDistribution(base, loc, scale)
    reference = _torch_normal(torch.tensor([[-1.0, 5.0]]), torch.tensor([[1.0, 3.0]]))
    for name in ("mean", "variance", "stddev", "mode"):
        assert _allclose(getattr(dist, name), getattr(reference, name)), name
    assert _allclose(dist.entropy(), reference.entropy())
    value = torch.tensor([[0.3, 4.0]])
    assert _allclose(dist.log_prob(value), reference.log_prob(value))
    with_numbers = du.AffineTransformedDistribution(base, 1.0, -2.0)
    assert _allclose(with_numbers.entropy(), base.entropy() + 2 * math.log(2))


# ---- specs and parameters
# -----------------------------------------------------------------------------------

_B, _A = 4, 3
_loc, _scale = torch.randn(_B, _A), torch.rand(_B, _A) + 0.1
_bounds = (torch.full((_A,), -1.0), torch.full((_A,), 2.0))
_dists = {
    "categorical": du.Categorical(logits=_loc),
    "torch_categorical": td.Categorical(logits=_loc),
    "multi_categorical": du.Independent(du.Categorical(logits=torch.randn(_B, 2, 5)), 1),
    "one_hot": td.OneHotCategorical(logits=_loc),
    "one_hot_st": du.OneHotCategoricalStraightThrough(logits=_loc),
    "one_hot_gumbel": du.OneHotCategoricalGumbelSoftmax(tau=0.3, logits=_loc),
    "normal": du.DiagMultivariateNormal(_loc, _scale),
    "torch_normal": td.Independent(td.Normal(_loc, _scale), 1),
    "squashed": du.SquashedDiagNormal(_loc, _scale, [du.StableTanh(), du.AffineTransform(1.0, 2.0)]),
    "torch_transformed": td.TransformedDistribution(
        td.Independent(td.Normal(_loc, _scale), 1), [du.Softclip(-1.0, 1.0), du.AffineTransform(1.0, 2.0)]
    ),
    "composed": td.TransformedDistribution(du.DiagMultivariateCauchy(_loc, _scale), [du.SoftclipTF(-1.0, 1.0)]),
    "beta": du.DiagMultivariateBeta(_scale, _scale + 1),
    "affine_beta": du.AffineTransformedDistribution(du.DiagMultivariateBeta(_scale, _scale), -1.0, 2.0),
    "affine_normal": du.AffineTransformedDistribution(du.DiagMultivariateNormal(_loc, _scale), -1.0, 2.0),
    "cauchy": du.DiagMultivariateCauchy(_loc, _scale),
    "truncated": du.TruncatedNormal(_loc, _scale, *_bounds),
    "mixture": td.MixtureSameFamily(
        du.Categorical(logits=torch.randn(_B, 2)),
        du.DiagMultivariateNormal(torch.randn(_B, 2, _A), torch.rand(_B, 2, _A)),
    ),
}


@pytest.mark.parametrize("name", list(_dists))
def test_distribution_survives_as_parameters_and_pickled_spec(name):
    torch.manual_seed(0)
    dist = _dists[name]
    spec = pickle.loads(pickle.dumps(du.extract_spec(dist)))
    params = du.distributions_to_params(dist)
    rebuilt = du.params_to_distributions(params, spec)
    value = dist.sample()
    assert _allclose(rebuilt.log_prob(value.clone()), dist.log_prob(value.clone()), atol=1e-4)
    assert isinstance(rebuilt, type(dist)) or isinstance(dist, type(rebuilt))
    assert rebuilt.batch_shape == dist.batch_shape and rebuilt.event_shape == dist.event_shape
    assert du.get_mode(rebuilt).shape == value.shape
    flat_shapes = [s.shape for s in nest.flatten(du.to_distribution_param_spec(spec))]
    assert flat_shapes == [tuple(p.shape[1:]) for p in nest.flatten(params)]


@pytest.mark.parametrize("name", ["categorical", "normal", "squashed", "affine_beta", "truncated", "mixture"])
def test_spec_builds_distributions_of_other_batch_shapes(name):
    spec = du.extract_spec(_dists[name])
    params = du.distributions_to_params(_dists[name])
    wide = du.params_to_distributions(nest.map_structure(lambda p: torch.stack([p, p]), params), spec)
    assert wide.batch_shape == (2, _B)


def test_parameters_have_the_names_that_buffers_store():
    assert set(du.distributions_to_params(_dists["normal"])) == {"loc", "scale"}
    assert set(du.distributions_to_params(_dists["squashed"])) == {"loc", "scale"}
    assert set(du.distributions_to_params(_dists["categorical"])) == {"logits"}


def test_nests_of_tensors_and_distributions_go_back_and_forth():
    nested = {"dist": _dists["normal"], "x": (torch.zeros(_B, 2), ()), "more": [_dists["categorical"]]}
    spec = du.extract_spec(nested)
    assert spec["x"] == (TensorSpec((2,)), ())
    params = du.distributions_to_params(nested)
    assert set(params["dist"]) == {"loc", "scale"} and params["x"][0] is nested["x"][0]
    rebuilt = du.params_to_distributions(params, spec)
    assert isinstance(rebuilt["dist"], du.DiagMultivariateNormal) and rebuilt["x"][1] == ()
    param_spec = du.to_distribution_param_spec(spec)
    assert param_spec["more"][0] == {"logits": TensorSpec((_A,))}
    plain = {"a": torch.zeros(2)}
    assert du.distributions_to_params(plain) is plain


def test_spec_of_time_major_distribution_leaves_two_dimensions_out():
    dist = du.Categorical(logits=torch.zeros(2, 3, 5))
    assert du.extract_spec(dist, from_dim=2).input_params_spec == {"logits": TensorSpec((5,))}
    assert du.DistributionSpec.from_distribution(dist).input_params_spec == {"logits": TensorSpec((2, 3, 5))}


def test_unknown_distribution_names_itself_and_what_is_known():
    with pytest.raises(ValueError, match=r"torch.distributions.von_mises.VonMises cannot be turned .*Categorical"):
        du.distributions_to_params({"a": td.VonMises(torch.zeros(2), torch.ones(2))})


def test_a_nest_without_distributions_is_its_own_parameters():
    tensors = {"a": torch.ones(3, 2), "b": (torch.zeros(3), )}
    spec = du.extract_spec(tensors)
    assert not du.has_distributions(spec)
    assert du.params_to_distributions(tensors, spec) is tensors
    with_one = du.extract_spec({**tensors, "c": du.Categorical(logits=torch.zeros(3, 2))})
    assert du.has_distributions(with_one)


def test_wrong_parameters_are_refused():
    spec = du.extract_spec(_dists["normal"])
    with pytest.raises(ValueError, match=r"expected parameters \['loc', 'scale'\], got \['loc'\]"):
        spec.build_distribution({"loc": _loc})
    with pytest.raises(RuntimeError):
        du.params_to_distributions([1, 2], {"a": spec})


# ---- operations on nests
# ------------------------------------------------------------------------------------

_pair = {"a": _dists["categorical"], "b": _dists["normal"]}


def test_entropy_and_log_probability_sum_over_the_nest():
    actions = {"a": torch.randint(_A, (_B,)), "b": torch.randn(_B, _A)}
    expected = _pair["a"].log_prob(actions["a"]) + _pair["b"].log_prob(actions["b"])
    assert _allclose(du.compute_log_probability(_pair, actions), expected)
    assert _allclose(du.compute_entropy(_pair), _pair["a"].entropy() + _pair["b"].entropy())
    assert du.compute_entropy(_pair).shape == (_B,)


def test_log_probability_needs_the_same_structure():
    with pytest.raises(RuntimeError):
        du.compute_log_probability(_pair, [torch.zeros(_B), torch.zeros(_B, _A)])
    with pytest.raises(
        ValueError, match="compute_entropy: expected a nest of distributions, got a leaf of type Tensor"
    ):
        du.compute_entropy({"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="at least one distribution"):
        du.compute_entropy(())


@pytest.mark.parametrize("grad", [True, False])
def test_sampling_a_nest_returns_its_log_probability(grad):
    with torch.set_grad_enabled(grad):
        actions, log_prob = du.sample_action_distribution(_pair, return_log_prob=True)
    assert set(actions) == {"a", "b"} and log_prob.shape == (_B,)
    assert _allclose(log_prob, du.compute_log_probability(_pair, actions))


def test_sample_has_no_gradient_but_its_log_prob_has():
    loc, scale = _leaf(4, 2), _leaf(4, 2, positive=True, seed=1)
    dist = du.DiagMultivariateNormal(loc, scale)
    action, log_prob = du.sample_action_distribution(dist, return_log_prob=True)
    assert not action.requires_grad
    (grad,) = torch.autograd.grad(log_prob.sum(), loc)
    assert _allclose(grad, (action - loc) / scale**2)


def test_rsample_refuses_distributions_without_gradient():
    with pytest.raises(ValueError, match="Categorical has no differentiable samples"):
        du.rsample_action_distribution(_pair)


def test_epsilon_greedy_takes_the_mode_with_probability_one_minus_eps():
    torch.manual_seed(0)
    dist = du.Categorical(logits=torch.tensor([0.0, 1.0]).expand(20000, 2))
    p_mode = math.e / (1 + math.e)
    for eps in (0.0, 0.3, 1.0):
        share = du.epsilon_greedy_sample(dist, eps).float().mean().item()
        assert share == pytest.approx(1 - eps + eps * p_mode, abs=0.015)


def test_epsilon_greedy_decides_once_for_the_whole_nest():
    torch.manual_seed(0)
    dists = [du.DiagMultivariateNormal(torch.zeros(500, n), torch.ones(500, n)) for n in (1, 2)]
    a, b = du.epsilon_greedy_sample(dists, 0.5)
    assert torch.equal((a == 0).all(-1), (b == 0).all(-1))
    assert 150 < (a == 0).all(-1).sum() < 350


def test_modes_of_transformed_and_mixed_distributions():
    assert _allclose(du.get_mode(_dists["squashed"]), 1 + 2 * torch.tanh(_loc))
    expected = 1 + 2 * du.Softclip(-1.0, 1.0)(_loc)
    assert _allclose(du.get_mode(_dists["torch_transformed"]), expected)
    mixture = td.MixtureSameFamily(
        du.Categorical(logits=torch.tensor([[0.0, 1.0], [1.0, 0.0]])),
        du.DiagMultivariateNormal(torch.arange(8.0).view(2, 2, 2), torch.ones(2, 2, 2)),
    )
    assert du.get_mode(mixture).tolist() == [[2, 3], [4, 5]]


def test_rmode_of_indices_is_refused():
    with pytest.raises(ValueError, match="the mode of Independent has no gradient"):
        du.get_rmode(_dists["multi_categorical"])
    assert du.get_rmode(_dists["normal"]) is _loc


def test_base_dist_is_the_innermost():
    assert type(du.get_base_dist(_dists["squashed"])) is td.Normal
    assert type(du.get_base_dist(_dists["multi_categorical"])) is du.Categorical
    assert type(du.get_base_dist(_dists["affine_beta"])) is du.Beta


def test_estimated_entropy_and_gradient_of_a_reparameterised_distribution():
    torch.manual_seed(0)
    loc, scale = torch.zeros(2, 1, requires_grad=True), torch.tensor([[0.5], [2.0]], requires_grad=True)
    dist = du.DiagMultivariateNormal(loc, scale)
    entropy, for_gradient = du.estimated_entropy(dist, num_samples=20000)
    assert torch.allclose(entropy, dist.entropy(), atol=0.03)
    (grad,) = torch.autograd.grad(for_gradient.sum(), scale)
    assert torch.allclose(grad, 1 / scale, rtol=0.05)


def test_estimated_entropy_gradient_by_the_score_function():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 1.0, -1.0]], requires_grad=True)
    dist = du.Categorical(logits=logits)
    entropy, for_gradient = du.estimated_entropy(dist, num_samples=100000)
    assert torch.allclose(entropy, dist.entropy(), atol=0.02)
    (grad,) = torch.autograd.grad(for_gradient.sum(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(dist.entropy().sum(), logits)
    assert torch.allclose(grad, expected, atol=0.02)


def test_estimated_entropy_checks_numerics_when_asked():
    dist = du.DiagMultivariateNormal(torch.full((2, 1), math.nan), torch.ones(2, 1))
    with pytest.raises(ValueError, match="not finite"):
        du.estimated_entropy(dist, check_numerics=True)


def test_entropy_with_fallback_is_exact_where_it_can_be():
    torch.manual_seed(0)
    entropy, for_gradient = du.entropy_with_fallback(_pair)
    assert _allclose(entropy, du.compute_entropy(_pair)) and _allclose(for_gradient, entropy)
    squashed = du.SquashedDiagNormal(torch.zeros(5000, 1), torch.ones(5000, 1), [du.StableTanh()])
    entropies, _ = du.entropy_with_fallback({"a": squashed}, return_sum=False)
    y = torch.linspace(-1 + 1e-6, 1 - 1e-6, 100001).view(-1, 1)
    log_p = du.SquashedDiagNormal(torch.zeros(1), torch.ones(1), [du.StableTanh()]).log_prob(y)
    expected = -torch.trapezoid(log_p.exp() * log_p, y.squeeze(-1)).item()
    assert entropies["a"].mean().item() == pytest.approx(expected, abs=0.05)


# ---- entropies from specs
# -----------------------------------------------------------------------------------


def test_default_target_entropy_of_continuous_and_discrete_actions():
    box = BoundedTensorSpec((2,), minimum=-1.0, maximum=[1.0, 3.0])
    assert du.calc_default_target_entropy(box) == pytest.approx(math.log(0.2) + math.log(0.4))
    five = BoundedTensorSpec((), torch.int64, 0, 4)
    assert du.calc_default_target_entropy(five) == pytest.approx(0.1 * math.log(4 / 0.1))
    one = BoundedTensorSpec((), torch.int64, 0, 0)
    assert du.calc_default_target_entropy(one) == 0


def test_quantized_target_entropy_is_that_of_bins():
    box = BoundedTensorSpec((3,), minimum=-1.0, maximum=1.0)
    # The density exp(1) on an interval of length exp(-1) fills 10 exp(-1) / 2 bins evenly.
    assert du.calc_default_target_entropy_quantized(box, 10) == pytest.approx(3 * math.log(5 * math.exp(-1)))


def test_max_entropy_and_uniform_log_prob():
    box = BoundedTensorSpec((2,), minimum=0.0, maximum=4.0)
    five = BoundedTensorSpec((2,), torch.int64, 0, 4)
    assert du.calc_uniform_log_prob(box) == pytest.approx(-2 * math.log(4))
    assert du.calc_uniform_log_prob(five) == pytest.approx(-2 * math.log(5))
    assert du.calc_default_max_entropy(box) == pytest.approx(2 * math.log(3.2))
    assert du.calc_default_max_entropy(five) == pytest.approx(0.8 * 2 * math.log(5))


def test_entropies_need_bounds():
    with pytest.raises(ValueError, match=r"calc_default_target_entropy: expected a BoundedTensorSpec, got TensorSpec"):
        du.calc_default_target_entropy(TensorSpec((2,)))
    with pytest.raises(ValueError, match="finite bounds"):
        du.calc_uniform_log_prob(BoundedTensorSpec((), minimum=0.0, maximum=math.inf))
    with pytest.raises(ValueError, match="0 < min_prob < 1, got 2"):
        du.calc_default_target_entropy(BoundedTensorSpec((2,)), min_prob=2)
