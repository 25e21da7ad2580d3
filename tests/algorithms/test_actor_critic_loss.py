"""ActorCriticLoss against numbers worked out by hand."""

import pytest
import torch

from alf.algorithms.actor_critic_algorithm import ActorCriticInfo
from alf.algorithms.actor_critic_loss import ActorCriticLoss, normalize_advantages
from alf.utils.dist_utils import Categorical

F, M, L = 0, 1, 2


def make_info(step_type, reward, discount, value, logits=None, action=None, **kwargs):
    step_type = torch.tensor(step_type, dtype=torch.int32)
    value = torch.tensor(value, requires_grad=True)
    logits = torch.zeros(*step_type.shape, 2) if logits is None else torch.tensor(logits)
    logits.requires_grad_(True)
    return ActorCriticInfo(
        step_type=step_type,
        reward=torch.tensor(reward),
        discount=torch.tensor(discount),
        value=value,
        action=torch.zeros(step_type.shape, dtype=torch.int64) if action is None else torch.tensor(action),
        action_distribution=Categorical(logits=logits),
        **kwargs), logits


# One environment: an episode that terminates in row 2, then a new one that goes on after the last row.
STEPS = dict(
    step_type=[[M], [M], [L], [F], [M]],
    reward=[[9.0], [1.0], [2.0], [0.0], [4.0]],
    discount=[[1.0], [1.0], [0.0], [1.0], [1.0]],
    value=[[1.0], [2.0], [3.0], [4.0], [5.0]])
LOG_HALF = -0.6931472


def test_returns_stop_at_termination_and_bootstrap_from_the_last_row():
    info, _ = make_info(**STEPS)
    extra = ActorCriticLoss(gamma=0.5).calc_loss(info).extra
    # Row 1: 2 + 0. Row 0: 1 + 0.5 * 2. Row 2 is LAST: its value. Row 3: 4 + 0.5 * 5.
    returns = torch.tensor([[2.0], [2.0], [3.0], [6.5], [5.0]])
    torch.testing.assert_close(extra.td_loss, (returns - info.value) ** 2)
    torch.testing.assert_close(extra.pg_loss, -(returns - info.value).detach() * LOG_HALF)


def test_gae_by_hand():
    info, _ = make_info(**STEPS)
    extra = ActorCriticLoss(gamma=0.5, use_gae=True, td_lambda=0.5).calc_loss(info).extra
    # delta_1 = 2 - 2 = 0; delta_0 = 1 + 0.5 * 2 - 1 = 1, A_0 = 1 + 0.25 * 0; A_3 = 4 + 0.5 * 5 - 4 = 2.5
    advantages = torch.tensor([[1.0], [0.0], [0.0], [2.5], [0.0]])
    torch.testing.assert_close(extra.pg_loss, -advantages * LOG_HALF)
    # The target is advantage + value.
    torch.testing.assert_close(extra.td_loss, advantages**2)


def test_value_may_be_regressed_on_the_return_in_spite_of_gae():
    info, _ = make_info(**STEPS)
    extra = ActorCriticLoss(gamma=0.5, use_gae=True, td_lambda=0.5, use_td_lambda_return=False).calc_loss(info).extra
    torch.testing.assert_close(extra.td_loss, torch.tensor([[1.0], [0.0], [0.0], [6.25], [0.0]]))


def test_time_limit_bootstraps_from_the_last_observation():
    steps = dict(STEPS, discount=[[1.0], [1.0], [1.0], [1.0], [1.0]])
    info, _ = make_info(**steps)
    extra = ActorCriticLoss(gamma=0.5).calc_loss(info).extra
    # Row 1: 2 + 0.5 * v_2 = 3.5. Row 0: 1 + 0.5 * 3.5 = 2.75.
    torch.testing.assert_close(extra.td_loss[:2].detach(), torch.tensor([[1.75**2], [1.5**2]]))


def test_gradients_reach_value_only_by_td_loss_and_policy_only_by_pg_loss():
    info, logits = make_info(**STEPS)
    loss_info = ActorCriticLoss(gamma=0.5, td_loss_weight=3.0).calc_loss(info)
    loss_info.loss.sum().backward()
    returns = torch.tensor([[2.0], [2.0], [3.0], [6.5], [5.0]])
    torch.testing.assert_close(info.value.grad, 3.0 * 2.0 * (info.value.detach() - returns))
    # d(-A log p_0)/d logits = -A (onehot - p)
    advantages = returns - info.value.detach()
    expected = -advantages.unsqueeze(-1) * torch.tensor([0.5, -0.5])
    torch.testing.assert_close(logits.grad, expected)


def test_entropy_is_subtracted_with_its_weight():
    info, _ = make_info(**STEPS)
    plain = ActorCriticLoss(gamma=0.5).calc_loss(info)
    with_entropy = ActorCriticLoss(gamma=0.5, entropy_regularization=0.1).calc_loss(info)
    assert plain.extra.neg_entropy == ()
    torch.testing.assert_close(with_entropy.extra.neg_entropy.detach(), torch.full((5, 1), LOG_HALF))
    torch.testing.assert_close(with_entropy.loss, plain.loss + 0.1 * LOG_HALF)


def test_advantages_are_normalized_over_rows_that_start_a_transition():
    advantages = torch.tensor([[1.0, 7.0], [3.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    result = normalize_advantages(advantages, mask)
    # mean 11 / 3, variance (64 + 4 + 100) / 27
    std = (168 / 27) ** 0.5
    torch.testing.assert_close(
        result, torch.tensor([[-8 / 3 / std, 10 / 3 / std], [-2 / 3 / std, 0.0]]), rtol=1e-5, atol=1e-6)


def test_loss_normalizes_without_last_steps_and_without_the_bootstrap_row():
    info, _ = make_info(**STEPS)
    extra = ActorCriticLoss(gamma=0.5, use_gae=True, td_lambda=0.5, normalize_advantages=True).calc_loss(info).extra
    advantages = torch.tensor([1.0, 0.0, 2.5])
    normalized = (advantages - advantages.mean()) / advantages.std(correction=0)
    expected = torch.zeros(5, 1)
    expected[[0, 1, 3], 0] = -normalized * LOG_HALF
    torch.testing.assert_close(extra.pg_loss, expected)


def test_advantages_are_clipped_after_normalization():
    info, _ = make_info(**STEPS)
    extra = ActorCriticLoss(gamma=0.5, use_gae=True, td_lambda=0.5, advantage_clip=2.0).calc_loss(info).extra
    torch.testing.assert_close(extra.pg_loss[3], torch.tensor([-2.0 * LOG_HALF]))


def test_equal_advantages_normalize_to_zero_rather_than_nan():
    result = normalize_advantages(torch.full((2, 2), 3.0), torch.ones(2, 2, dtype=torch.bool))
    torch.testing.assert_close(result, torch.zeros(2, 2))


VECTOR = dict(
    step_type=[[F], [M]],
    reward=[[[0.0, 0.0]], [[1.0, 10.0]]],
    discount=[[1.0], [1.0]],
    value=[[[1.0, 2.0]], [[3.0, 4.0]]])


def test_vector_reward_is_weighted_and_has_its_own_discounts():
    info, _ = make_info(**VECTOR, reward_weights=torch.tensor([2.0, 0.5]).expand(2, 1, 2))
    extra = ActorCriticLoss(gamma=[0.5, 0.0]).calc_loss(info).extra
    # returns (1 + 0.5 * 3, 10); advantages (1.5, 8); weighted 2 * 1.5 + 0.5 * 8 = 7
    torch.testing.assert_close(extra.pg_loss, torch.tensor([[-7.0 * LOG_HALF], [0.0]]))
    torch.testing.assert_close(extra.td_loss.detach(), torch.tensor([[(1.5**2 + 8.0**2) / 2], [0.0]]))


def test_without_weights_components_of_a_reward_are_added():
    info, _ = make_info(**VECTOR)
    extra = ActorCriticLoss(gamma=0.5).calc_loss(info).extra
    # returns (2.5, 12); advantages 1.5 + 10
    torch.testing.assert_close(extra.pg_loss[0], torch.tensor([-11.5 * LOG_HALF]))


@pytest.mark.parametrize("gamma", [99, -0.1, [0.9, 1.1]])
def test_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(ValueError, match=r"PPO2.gamma: expected 0 <= gamma <= 1, got .*alf.config"):
        ActorCriticLoss(gamma=gamma, name="PPO2")


def test_number_of_gammas_must_be_that_of_rewards():
    info, _ = make_info(**STEPS)
    with pytest.raises(ValueError, match=r"gamma: expected a number, or one for each component"):
        ActorCriticLoss(gamma=[0.9, 0.8]).calc_loss(info)


def test_debug_summaries_have_the_name_of_the_loss_as_scope(written):
    info, _ = make_info(**STEPS)
    ActorCriticLoss(debug_summaries=True, name="MyLoss").calc_loss(info)
    assert {"MyLoss/values", "MyLoss/returns", "MyLoss/advantages/mean",
            "MyLoss/explained_variance_of_return_by_value"} <= set(written.tags[0])
