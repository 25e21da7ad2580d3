"""How the weight of the entropy moves."""

import math

import pytest
import torch

from alf.algorithms.entropy_target_algorithm import (
    EntropyTargetAlgorithm,
    NestedEntropyTargetAlgorithm,
    SGDEntropyTargetAlgorithm,
)
from alf.optimizers import SGD
from alf.tensor_specs import BoundedTensorSpec
from alf.utils.dist_utils import Categorical

DISCRETE = BoundedTensorSpec((), torch.int64, 0, 3)
LOG_2 = math.log(2)


def make(**kwargs):
    settings = dict(initial_alpha=0.1, max_entropy=1.2, target_entropy=0.7, average_window=1)
    return EntropyTargetAlgorithm(DISCRETE, **{**settings, **kwargs})


def moves(algorithm, entropies):
    """Return how ``log(alpha)`` changes with each mean entropy."""
    changes = []
    for entropy in entropies:
        before = float(algorithm._log_alpha)
        algorithm.adjust_alpha(torch.tensor(entropy))
        changes.append(float(algorithm._log_alpha) - before)
    return changes


def test_alpha_decays_very_slowly_while_the_policy_is_free():
    assert moves(make(), [1.3, 1.35, 1.25]) == pytest.approx([-0.001] * 3, abs=1e-6)


def test_free_stage_ends_for_good_below_max_entropy():
    algorithm = make()
    assert moves(algorithm, [1.3, 1.1]) == pytest.approx([-0.001, -0.01], abs=1e-6)
    # Above max_entropy again, but rising away from the target: fast.
    assert moves(algorithm, [1.3]) == pytest.approx([-LOG_2], abs=1e-6)


@pytest.mark.parametrize("entropies,last", [
    ([0.9, 1.0], -LOG_2),  # above and rising: away from the target
    ([0.9, 0.8], -0.01),  # above and falling: it is coming back
    ([0.5, 0.4], LOG_2),  # below and falling: away
    ([0.5, 0.6], 0.01),  # below and rising: coming back
    ([0.5, 0.5], 0.01),
    ([0.9], -0.01),  # nothing to compare with yet
])
def test_alpha_moves_fast_while_the_entropy_leaves_its_target(entropies, last):
    algorithm = make(skip_free_stage=True)
    assert moves(algorithm, entropies)[-1] == pytest.approx(last, abs=1e-6)


def test_alpha_has_a_floor():
    algorithm = make(skip_free_stage=True, min_alpha=0.09)
    moves(algorithm, [1.0, 1.1, 1.2])
    assert float(algorithm._log_alpha.exp()) == pytest.approx(0.09)
    with pytest.raises(ValueError, match="initial_alpha: expected at least min_alpha=0.2, got 0.1"):
        make(min_alpha=0.2)


def test_entropy_is_averaged_over_a_window():
    algorithm = make(skip_free_stage=True, average_window=2)
    # means 0.6, 0.8: below, then above though the entropy has just risen to 1.0
    assert moves(algorithm, [0.6, 1.0]) == pytest.approx([0.01, -LOG_2], abs=1e-6)


def test_entropy_is_driven_to_its_target():
    algorithm = make(skip_free_stage=True)
    # A policy whose entropy answers to alpha: 1.3 * alpha / (alpha + 0.5).
    for _ in range(300):
        alpha = algorithm._log_alpha.exp()
        algorithm.adjust_alpha(1.3 * alpha / (alpha + 0.5))
    assert float(1.3 * alpha / (alpha + 0.5)) == pytest.approx(0.7, abs=0.1)


def info_of(algorithm, logits, step_type):
    return algorithm.train_step((Categorical(logits=logits), step_type)).info


def test_loss_is_minus_alpha_times_entropy_and_ignores_last_steps():
    algorithm = make(skip_free_stage=True)
    logits = torch.zeros(2, 1, 4)
    logits[1, 0, 0] = 50.0  # no entropy at LAST
    logits.requires_grad_(True)
    step_type = torch.tensor([[1], [2]], dtype=torch.int32)
    loss_info = algorithm.calc_loss(info_of(algorithm, logits, step_type))
    # Mean entropy log(4) = 1.386 is above the target for the first time: slowly down.
    alpha = 0.1 * math.exp(-0.01)
    assert loss_info.loss[0, 0].item() == pytest.approx(-alpha * math.log(4), rel=1e-5)
    masked = algorithm.calc_loss(info_of(algorithm, logits, step_type), valid_mask=torch.zeros(2, 1))
    assert masked.loss.shape == (2, 1)


def test_state_of_the_control_law_is_in_the_state_dict():
    algorithm, copy = make(), make()
    moves(algorithm, [1.3, 1.1, 0.9])
    copy.load_state_dict(algorithm.state_dict())
    assert moves(copy, [0.8, 0.5]) == moves(algorithm, [0.8, 0.5])


def test_parts_of_a_nested_action_have_their_own_alpha():
    spec = dict(a=DISCRETE, b=DISCRETE)
    algorithm = NestedEntropyTargetAlgorithm(spec, skip_free_stage=True, target_entropy=0.7, average_window=1)
    sure = torch.zeros(1, 1, 4)
    sure[..., 0] = 50.0
    dists = dict(a=Categorical(logits=torch.zeros(1, 1, 4)), b=Categorical(logits=sure))
    info = algorithm.train_step((dists, torch.ones(1, 1, dtype=torch.int32))).info
    loss_info = algorithm.calc_loss(info)
    alphas = [float(part._log_alpha.exp()) for part in algorithm._parts]
    assert alphas == pytest.approx([0.1 * math.exp(-0.01), 0.1 * math.exp(0.01)])
    assert loss_info.loss.item() == pytest.approx(-alphas[0] * math.log(4), rel=1e-4)
    assert len(loss_info.extra.neg_entropy) == 2


def test_gradient_descent_on_alpha_follows_the_difference_to_the_target():
    algorithm = SGDEntropyTargetAlgorithm(DISCRETE, initial_alpha=0.5, target_entropy=1.0, optimizer=SGD(lr=0.1))
    before = algorithm._log_alpha.item()
    step_type = torch.tensor([[1, 1], [2, 1]], dtype=torch.int32)
    logits = torch.zeros(2, 2, 4)
    logits[1, 0, 0] = 50.0
    algorithm.update_with_gradient(algorithm.calc_loss(info_of(algorithm, logits, step_type)))
    assert algorithm._log_alpha.item() == pytest.approx(before - 0.1 * (math.log(4) - 1.0), rel=1e-4)


def test_default_target_is_below_default_max():
    algorithm = EntropyTargetAlgorithm(DISCRETE)
    assert algorithm._target_entropy < algorithm._max_entropy < math.log(4)
    algorithm = EntropyTargetAlgorithm(DISCRETE, target_entropy=lambda specs: 0.25 * len(specs))
    assert algorithm._target_entropy == 0.25


def test_rollout_gives_the_entropy_only_on_policy():
    algorithm = make()
    inputs = (Categorical(logits=torch.zeros(1, 4)), torch.ones(1, dtype=torch.int32))
    algorithm.set_on_policy(False)
    assert algorithm.rollout_step(inputs).info == ()
    algorithm = make()
    algorithm.set_on_policy(True)
    assert algorithm.rollout_step(inputs).info.entropy.item() == pytest.approx(math.log(4))
