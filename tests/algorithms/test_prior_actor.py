"""Prior actors and the truncated normal distribution against PyTorch's distributions and numerical integrals."""

import math

import pytest
import torch

import alf.nest as nest
from alf.algorithms.prior_actor import SameActionPriorActor, TruncatedNormal, UniformPriorActor, normcdf
from alf.data_structures import StepType, TimeStep
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

OBSERVATION = TensorSpec((3,))
CONTINUOUS, DISCRETE = BoundedTensorSpec((2,), torch.float32, -1, 3), BoundedTensorSpec((), torch.int64, 0, 3)


def make_inputs(step_type, prev_action):
    step_type = torch.tensor(step_type, dtype=torch.int32)
    return TimeStep(step_type=step_type, observation=torch.zeros(len(step_type), 3), prev_action=prev_action)


def test_normcdf_equals_the_difference_of_distribution_functions():
    a, b = torch.tensor([-1.0, -math.inf, 0.5]), torch.tensor([2.0, 0.3, math.inf])
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(normcdf(a, b), normal.cdf(b) - normal.cdf(a))


def test_normcdf_keeps_its_digits_far_above_zero():
    far = torch.tensor([8.0, 9.0])
    torch.testing.assert_close(normcdf(far, far + 1), normcdf(-far - 1, -far))
    assert (normcdf(far, far + 1) > 0).all()


def test_truncated_normal_density_integrates_to_one_and_vanishes_outside():
    distribution = TruncatedNormal(torch.tensor(0.9), torch.tensor(0.5), torch.tensor(-1.0), torch.tensor(1.0))
    x = torch.linspace(-1, 1, 20001, dtype=torch.float64).float()
    density = distribution.log_prob(x).exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1.0, abs=1e-4)
    assert distribution.log_prob(torch.tensor([-1.1, 1.1])).tolist() == [-math.inf, -math.inf]
    assert (density[-1] / density[10000]).item() == pytest.approx(math.exp(-0.5 * 0.04 + 0.5 * 1.8**2), rel=1e-3)


@pytest.mark.parametrize("loc", [-0.9, 0.2, 6.0])
def test_truncated_normal_samples_follow_its_density(loc):
    torch.manual_seed(0)
    distribution = TruncatedNormal(torch.tensor(loc), torch.tensor(0.7), torch.tensor(-1.0), torch.tensor(1.0))
    samples = distribution.sample((20000,))
    assert samples.min() >= -1 and samples.max() <= 1
    x = torch.linspace(-1, 1, 2001)
    expected = torch.trapezoid(distribution.log_prob(x).exp() * x, x)
    assert samples.mean().item() == pytest.approx(expected.item(), abs=0.015)


def test_truncated_normal_samples_are_differentiable():
    loc = torch.tensor(0.1, requires_grad=True)
    distribution = TruncatedNormal(loc, torch.tensor(0.5), torch.tensor(-1.0), torch.tensor(1.0))
    torch.manual_seed(0)
    distribution.rsample((1000,)).mean().backward()
    step = 0.01
    x = torch.linspace(-1, 1, 4001)
    means = []
    for shifted in (0.1 - step, 0.1 + step):
        other = TruncatedNormal(torch.tensor(shifted), torch.tensor(0.5), torch.tensor(-1.0), torch.tensor(1.0))
        means.append(torch.trapezoid(other.log_prob(x).exp() * x, x).item())
    assert loc.grad.item() == pytest.approx((means[1] - means[0]) / (2 * step), abs=0.05)


def test_uniform_prior():
    spec = {"c": CONTINUOUS, "d": DISCRETE}
    prior = UniformPriorActor(OBSERVATION, spec).train_step(make_inputs([1, 1], ()), ()).output
    nest.assert_same_structure(prior, spec)
    torch.testing.assert_close(prior["c"].log_prob(torch.zeros(2, 2)), torch.full((2,), -2 * math.log(4.0)))
    # Squashed actions reach both bounds.
    ends = torch.stack([torch.as_tensor(CONTINUOUS.minimum), torch.as_tensor(CONTINUOUS.maximum)]).expand(2, 2)
    torch.testing.assert_close(prior["c"].log_prob(ends), torch.full((2,), -2 * math.log(4.0)))
    assert prior["c"].log_prob(ends * 1.01).tolist() == [-math.inf, -math.inf]
    torch.testing.assert_close(prior["d"].log_prob(torch.tensor([0, 3])), torch.full((2,), -math.log(4.0)))


def test_prior_of_the_same_discrete_action():
    actor = SameActionPriorActor(OBSERVATION, DISCRETE, same_action_prob=0.8)
    inputs = make_inputs([int(StepType.MID), int(StepType.FIRST)], torch.tensor([2, 2]))
    probs = actor.predict_step(inputs, ()).output.probs
    torch.testing.assert_close(probs[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))
    torch.testing.assert_close(probs[1], torch.full((4,), 0.25))


def test_prior_of_the_same_continuous_action():
    actor = SameActionPriorActor(OBSERVATION, CONTINUOUS, same_action_noise=0.1, same_action_prob=0.8)
    inputs = make_inputs([int(StepType.MID), int(StepType.FIRST)], torch.tensor([[0.5, 2.0], [0.5, 2.0]]))
    prior = actor.rollout_step(inputs, ()).output
    # Noise: a tenth of half of the range 4; the bounds are far away. Both components are at their likeliest.
    peak = 0.8 / (0.2 * math.sqrt(2 * math.pi)) + 0.2 / 4
    log_prob = prior.log_prob(torch.tensor([[0.5, 2.0], [0.5, 2.0]]))
    torch.testing.assert_close(log_prob, torch.tensor([2 * math.log(peak), -2 * math.log(4.0)]))
    assert (prior.log_prob(torch.full((2, 2), 3.5)) == -math.inf).all()


def test_samples_of_the_prior_repeat_the_action_as_often_as_told():
    torch.manual_seed(0)
    actor = SameActionPriorActor(OBSERVATION, CONTINUOUS, same_action_noise=0.01, same_action_prob=0.7)
    prior = actor.rollout_step(make_inputs([1], torch.tensor([[0.5, 2.0]])), ()).output
    samples = prior.sample((4000,))
    near = ((samples - torch.tensor([0.5, 2.0])).abs() < 0.1).float().mean()
    assert near.item() == pytest.approx(0.7 + 0.3 * 0.2 / 4, abs=0.02)


def test_gradient_of_the_prior_is_finite_where_an_episode_begins():
    actor = SameActionPriorActor(OBSERVATION, CONTINUOUS)
    prior = actor.rollout_step(make_inputs([int(StepType.FIRST)] * 2, torch.zeros(2, 2)), ()).output
    action = torch.tensor([[0.5, 2.9], [-1.0, 3.0]], requires_grad=True)
    prior.log_prob(action).sum().backward()
    assert action.grad.isfinite().all()
