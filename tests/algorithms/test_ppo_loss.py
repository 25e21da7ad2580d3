"""PPOLoss against numbers worked out by hand."""

import math

import pytest
import torch

from alf.algorithms.ppo_algorithm import PPOInfo
from alf.algorithms.ppo_loss import PPOLoss
from alf.utils.dist_utils import Categorical

M, L = 1, 2


def make_info(ratios, advantages, step_type=None, value=0.0, returns=0.0):
    """Return an info of one row whose policy has made action 0 ``ratios`` times as likely; and its logits."""
    num = len(ratios)
    now = 0.5 * torch.tensor([ratios])
    logits = torch.stack([now.log(), (1 - now).log()], -1).requires_grad_(True)
    return PPOInfo(
        step_type=torch.tensor([step_type or [M] * num], dtype=torch.int32),
        action=torch.zeros(1, num, dtype=torch.int64),
        log_prob=torch.full((1, num), math.log(0.5)),
        action_distribution=Categorical(logits=logits),
        value=torch.full((1, num), value),
        returns=torch.full((1, num), returns),
        advantages=torch.tensor([advantages])), logits


def test_clipped_surrogate_for_both_signs():
    ratios = [1.5, 0.5, 1.5, 0.5, 1.1, 0.9]
    advantages = [1.0, 1.0, -1.0, -1.0, 2.0, -2.0]
    info, _ = make_info(ratios, advantages)
    loss = PPOLoss(normalize_advantages=False, importance_ratio_clipping=0.2).calc_loss(info)
    # min(r A, clip(r, 0.8, 1.2) A), with the sign of a loss
    torch.testing.assert_close(loss.extra.pg_loss.detach(), torch.tensor([[-1.2, -0.5, 1.5, 0.8, -2.2, 1.8]]))


def test_no_clipping_of_ratios_when_it_is_0():
    info, _ = make_info([1.5, 0.5], [1.0, -2.0])
    loss = PPOLoss(normalize_advantages=False, importance_ratio_clipping=0).calc_loss(info)
    torch.testing.assert_close(loss.extra.pg_loss.detach(), torch.tensor([[-1.5, 1.0]]))


def test_clipped_ratios_have_no_gradient_and_others_do():
    info, logits = make_info([1.5, 0.5, 1.5, 0.5], [1.0, 1.0, -1.0, -1.0])
    PPOLoss(normalize_advantages=False).calc_loss(info).extra.pg_loss.sum().backward()
    has_gradient = logits.grad[0].abs().sum(-1) > 1e-6
    assert has_gradient.tolist() == [False, True, True, False]


def test_no_clipping_of_log_prob_by_default_and_clipping_when_asked():
    info, _ = make_info([1.8], [1.0])
    loss = PPOLoss(normalize_advantages=False, importance_ratio_clipping=10.0, log_prob_clipping=0.1)
    torch.testing.assert_close(loss.calc_loss(info).extra.pg_loss.detach(), torch.tensor([[-math.exp(0.1)]]))


def test_last_steps_do_not_shift_normalized_advantages():
    info, _ = make_info([1.0, 1.0, 1.0], [1.0, 3.0, 0.0], step_type=[M, M, L])
    pg_loss = PPOLoss().calc_loss(info).extra.pg_loss
    torch.testing.assert_close(pg_loss.detach(), torch.tensor([[1.0, -1.0, 0.0]]))


def test_value_is_regressed_on_given_returns():
    info, _ = make_info([1.0], [0.0], value=1.0, returns=3.0)
    loss = PPOLoss(td_loss_weight=0.5, normalize_advantages=False).calc_loss(info)
    torch.testing.assert_close(loss.loss.detach(), torch.tensor([[0.5 * 4.0]]))


def test_clipping_may_be_scheduled():
    clipping = [0.1]
    loss = PPOLoss(normalize_advantages=False, importance_ratio_clipping=lambda: clipping[0])
    info, _ = make_info([1.5], [1.0])
    assert float(loss.calc_loss(info).extra.pg_loss.detach()) == pytest.approx(-1.1)
    clipping[0] = 0.3
    assert float(loss.calc_loss(info).extra.pg_loss.detach()) == pytest.approx(-1.3)


def test_internal_advantages_use_the_present_value_and_the_last_row_only_to_bootstrap():
    info, _ = make_info([1.0], [0.0])
    info = info._replace(
        step_type=torch.tensor([[M], [M]], dtype=torch.int32),
        action=torch.zeros(2, 1, dtype=torch.int64),
        log_prob=torch.full((2, 1), math.log(0.5)),
        action_distribution=Categorical(logits=torch.zeros(2, 1, 2)),
        reward=torch.tensor([[0.0], [1.0]]), discount=torch.ones(2, 1),
        value=torch.tensor([[1.0], [4.0]]), returns=(), advantages=())
    loss = PPOLoss(gamma=0.5, normalize_advantages=False, compute_advantages_internally=True).calc_loss(info)
    torch.testing.assert_close(loss.extra.pg_loss, torch.tensor([[-2.0], [0.0]]))  # 1 + 0.5 * 4 - 1
    torch.testing.assert_close(loss.extra.td_loss, torch.tensor([[4.0], [0.0]]))


def test_check_numerics_names_what_is_wrong():
    info, _ = make_info([1.0], [float("nan")])
    with pytest.raises(ValueError, match="check_numerics: 1 of 1 values"):
        PPOLoss(normalize_advantages=False, check_numerics=True).calc_loss(info)
