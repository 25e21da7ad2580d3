"""Targets, projections and exploration rates of Q-learning against naive loops and numbers worked out by hand."""

import math

import pytest
import torch

from alf.algorithms._q_learning.categorical import (
    atoms,
    categorical_divergence,
    categorical_mean,
    project_onto_atoms,
)
from alf.algorithms._q_learning.exploration import epsilon_greedy_actions, per_environment_epsilons
from alf.algorithms._q_learning.targets import (
    distributions_of_actions,
    target_distribution,
    target_value,
    values_of_actions,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ---- targets of values -----------------------------------------------------------------------------------------------


def test_target_is_the_largest_value_of_the_target_network():
    assert target_value(torch.tensor([[[1.0, 5.0, 3.0]], [[-1.0, -2.0, -3.0]]])).tolist() == [5.0, -1.0]


def test_double_target_is_the_target_networks_value_of_the_action_the_other_selects():
    target_q = torch.tensor([[[1.0, 5.0, 3.0]], [[-1.0, -2.0, -3.0]]])
    selecting_q = torch.tensor([[[0.0, 1.0, 2.0]], [[7.0, 9.0, 8.0]]])
    assert target_value(target_q, selecting_q).tolist() == [3.0, -2.0]


def test_replicas_count_by_their_smallest_value_of_each_action():
    target_q = torch.tensor([[[1.0, 9.0], [4.0, 0.5]]])  # smallest: 1, 0.5
    assert target_value(target_q).tolist() == [1.0]
    selecting_q = torch.tensor([[[5.0, 3.0], [1.0, 2.0]]])  # smallest: 1, 2, so action 1
    assert target_value(target_q, selecting_q).tolist() == [0.5]


def test_values_of_actions_match_a_loop():
    q_values, action = torch.randn(3, 4, 2, 5), torch.randint(0, 5, (3, 4))
    values = values_of_actions(q_values, action)
    for t in range(3):
        for b in range(4):
            for i in range(2):
                assert values[t, b, i] == q_values[t, b, i, action[t, b]]


def test_distributions_of_actions_match_a_loop():
    values, action = torch.randn(3, 4, 2, 5, 6), torch.randint(0, 5, (3, 4))
    chosen = distributions_of_actions(values, action)
    assert chosen.shape == (3, 4, 2, 6)
    for t in range(3):
        for b in range(4):
            assert torch.equal(chosen[t, b], values[t, b, :, action[t, b]])


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("num_replicas", [1, 2])
def test_target_distribution_matches_a_loop(double, num_replicas):
    values = torch.randn(3, 4, num_replicas, 5, 6)
    means, selecting = values.mean(-1), torch.randn(3, 4, num_replicas, 5)
    target = target_distribution(values, means, selecting if double else None)
    for t in range(3):
        for b in range(4):
            scores = (selecting if double else means)[t, b].tolist()
            action = max(range(5), key=lambda a, s=scores: min(row[a] for row in s))
            replica = min(range(num_replicas), key=lambda i, t=t, b=b, a=action: float(means[t, b, i, a]))
            assert torch.equal(target[t, b], values[t, b, replica, action])


# ---- categorical distributions ---------------------------------------------------------------------------------------


def _project_naively(probs, positions, v_min, v_max):
    """Algorithm 1 of https://arxiv.org/abs/1707.06887, one mass at a time."""
    n = len(probs)
    spacing = (v_max - v_min) / (n - 1)
    out = [0.0] * n
    for p, x in zip(probs, positions, strict=True):
        b = (min(max(x, v_min), v_max) - v_min) / spacing
        low, up = math.floor(b), math.ceil(b)
        if low == up:
            out[low] += p
        else:
            out[low] += p * (up - b)
            out[up] += p * (b - low)
    return out


@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_projection_matches_a_loop(discount):
    support = atoms(-2.0, 3.0, 11).double()
    probs = torch.randn(3, 4, 11).double().softmax(-1)
    positions = 2 * torch.randn(3, 4, 1).double() + discount * support
    projected = project_onto_atoms(probs, positions, support)
    for t in range(3):
        for b in range(4):
            expected = _project_naively(probs[t, b].tolist(), positions[t, b].tolist(), -2.0, 3.0)
            assert projected[t, b].tolist() == pytest.approx(expected, abs=1e-9)


def test_projection_shares_a_mass_between_its_neighbours():
    support = atoms(0.0, 4.0, 5)
    probs = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])
    projected = project_onto_atoms(probs, torch.full((5,), 1.25), support)
    assert projected.tolist() == pytest.approx([0, 0.75, 0.25, 0, 0])


def test_projection_keeps_mass_and_the_mean_of_what_lies_inside_the_support():
    support = atoms(-10.0, 10.0, 51)
    probs = (5 * torch.randn(100, 51)).softmax(-1)
    positions = torch.rand(100, 1) + 0.8 * support
    projected = project_onto_atoms(probs, positions, support)
    assert (projected >= 0).all()
    torch.testing.assert_close(projected.sum(-1), torch.ones(100))
    torch.testing.assert_close(projected @ support, (probs * positions).sum(-1), atol=1e-4, rtol=1e-4)


def test_projection_of_the_support_itself_changes_nothing():
    support, probs = atoms(-10.0, 10.0, 51), torch.rand(7, 51).softmax(-1)
    torch.testing.assert_close(project_onto_atoms(probs, support.expand(7, 51), support), probs, atol=1e-5, rtol=0)


def test_projection_after_a_termination_is_the_reward_alone():
    support, probs = atoms(-1.0, 1.0, 3), torch.tensor([[0.2, 0.3, 0.5]])
    projected = project_onto_atoms(probs, 0.5 + 0.0 * support.expand(1, 3), support)
    assert projected[0].tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_projection_clips_to_the_ends_of_the_support():
    support, probs = atoms(-1.0, 1.0, 3), torch.tensor([[0.2, 0.3, 0.5]] * 2)
    projected = project_onto_atoms(probs, torch.tensor([[9.0], [-9.0]]).expand(2, 3), support)
    assert projected[0].tolist() == pytest.approx([0, 0, 1]) and projected[1].tolist() == pytest.approx([1, 0, 0])


def test_projection_tells_the_shapes_it_expects():
    with pytest.raises(ValueError, match=r"expected probs and positions \[\.\.\., 3\], got \(2, 3\) and \(3,\)"):
        project_onto_atoms(torch.ones(2, 3), torch.ones(3), atoms(0, 1, 3))


@pytest.mark.parametrize("args", [(1.0, 1.0, 5), (0.0, 1.0, 1)])
def test_atoms_need_a_range_and_two_of_them(args):
    with pytest.raises(ValueError, match=f"num_atoms={args[2]}, v_min={args[0]}"):
        atoms(*args)


def test_mean_of_a_categorical_distribution():
    assert categorical_mean(torch.log(torch.tensor([0.25, 0.75])), torch.tensor([-4.0, 4.0])) == pytest.approx(2.0)


def test_divergence_is_that_of_torch():
    logits, target = torch.randn(4, 5), torch.randn(4, 5).softmax(-1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(target), torch.distributions.Categorical(logits=logits))
    torch.testing.assert_close(categorical_divergence(logits, target), expected)


def test_divergence_has_the_gradient_of_the_cross_entropy_and_is_zero_at_the_target():
    logits, target = torch.randn(5, requires_grad=True), torch.tensor([0.0, 0.0, 0.25, 0.75, 0.0])
    grad = torch.autograd.grad(categorical_divergence(logits, target), logits)[0]
    torch.testing.assert_close(grad, logits.detach().softmax(-1) - target)
    assert categorical_divergence(target.clamp(min=1e-30).log(), target) == pytest.approx(0, abs=1e-6)


# ---- exploration -----------------------------------------------------------------------------------------------------


def test_epsilons_of_environments_are_those_of_ape_x():
    epsilons = per_environment_epsilons(0.4, 7.0, 4)
    assert epsilons.tolist() == pytest.approx([0.4**(1 + 7 * i / 3) for i in range(4)])


@pytest.mark.parametrize("alpha, num_envs", [(7.0, 1), (0.0, 3)])
def test_one_environment_and_no_alpha_have_epsilon_itself(alpha, num_envs):
    assert per_environment_epsilons(0.4, alpha, num_envs).tolist() == pytest.approx([0.4] * num_envs)


def test_greedy_stays_greedy_in_all_environments():
    assert per_environment_epsilons(0.0, 7.0, 3).tolist() == [0.0] * 3


def test_epsilon_greedy_actions_have_the_frequencies_of_epsilon():
    q_values = torch.tensor([[0.0, 2.0, 1.0, -1.0]]).expand(200_000, 4)
    actions = epsilon_greedy_actions(q_values, 0.2)
    frequencies = actions.bincount(minlength=4) / len(actions)
    assert frequencies.tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05], abs=0.005)


def test_epsilon_greedy_actions_of_single_rows_have_the_same_frequencies():
    q_values = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    actions = torch.cat([epsilon_greedy_actions(q_values, 0.2) for _ in range(20_000)])
    frequencies = actions.bincount(minlength=4) / len(actions)
    assert frequencies.tolist() == pytest.approx([0.05, 0.85, 0.05, 0.05], abs=0.01)


def test_epsilon_greedy_actions_take_an_epsilon_for_each_row():
    q_values = torch.tensor([[0.0, 1.0]]).expand(20_000, 2)
    epsilons = torch.cat([torch.zeros(10_000), torch.ones(10_000)])
    actions = epsilon_greedy_actions(q_values, epsilons)
    assert (actions[:10_000] == 1).all()
    assert actions[10_000:].float().mean() == pytest.approx(0.5, abs=0.02)
