"""TDLoss and its quantile and one-step versions against naive loops and numbers worked out by hand."""

import pytest
import torch

from alf.algorithms.one_step_loss import OneStepTDLoss, OneStepTDQRLoss
from alf.algorithms.td_loss import TDLoss, TDQRLoss
from alf.data_structures import StepType, namedtuple
from alf.utils.losses import element_wise_huber_loss

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)

Info = namedtuple("Info", ["reward", "step_type", "discount"])


def make_info(rewards, step_types=None, discounts=None):
    rewards = torch.tensor(rewards)
    outer = rewards.shape[:2]
    step_types = torch.full(outer, MID, dtype=torch.int32) if step_types is None else torch.tensor(step_types)
    return Info(rewards, step_types, torch.ones(outer) if discounts is None else torch.tensor(discounts))


def random_info(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    num_steps, batch_size = shape[:2]
    step_type = torch.randint(0, 3, (num_steps, batch_size), generator=generator, dtype=torch.int32)
    discount = (torch.rand(num_steps, batch_size, generator=generator) > 0.3).float()
    values = torch.randn(shape, generator=generator)
    return Info(torch.randn(shape, generator=generator), step_type, discount), values


def naive_targets(reward, step_type, discount, value, gamma, td_lambda):
    """Targets of one environment, from the end: lists of numbers."""
    targets = [0.0] * (len(reward) - 1)
    following = value[-1]
    for t in reversed(range(len(reward) - 1)):
        if step_type[t] == LAST:
            following = value[t]
        else:
            mixed = (1 - td_lambda) * value[t + 1] + td_lambda * following
            following = reward[t + 1] + gamma * discount[t + 1] * mixed
        targets[t] = following
    return targets


def test_one_step_target_by_hand():
    info = make_info([[0.0], [2.0]])
    loss = OneStepTDLoss(gamma=0.5)(info, torch.tensor([[1.0], [7.0]]), torch.tensor([[9.0], [4.0]]))
    # 2 + 0.5 * 4 = 4; the last row is only bootstrapped from.
    assert loss.loss.tolist() == [[(4.0 - 1.0)**2], [0.0]]


def test_termination_is_not_bootstrapped_from_but_a_time_limit_is():
    info = make_info([[0.0, 0.0], [1.0, 1.0]], [[MID, MID], [LAST, LAST]], [[1.0, 1.0], [0.0, 1.0]])
    target = OneStepTDLoss(gamma=0.9).compute_td_target(info, torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    assert target.tolist() == [[1.0, pytest.approx(1.0 + 0.9 * 10.0)]]


@pytest.mark.parametrize("td_lambda", [0.0, 0.6, 1.0])
def test_targets_equal_a_naive_loop_with_episode_ends_inside(td_lambda):
    info, values = random_info((7, 20))
    targets = TDLoss(gamma=0.8, td_lambda=td_lambda).compute_td_target(info, values)
    for b in range(20):
        expected = naive_targets(*(part[:, b].tolist() for part in (*info, values)), 0.8, td_lambda)
        torch.testing.assert_close(targets[:, b], torch.tensor(expected))


def test_a_target_does_not_reach_into_the_next_episode():
    step_types = [[MID], [LAST], [FIRST], [MID]]
    targets = []
    for late in (0.0, 100.0):
        info = make_info([[0.0], [1.0], [0.0], [late]], step_types, [[1.0]] * 4)
        values = torch.tensor([[1.0], [2.0], [3.0], [late]])
        targets.append(TDLoss(gamma=0.9, td_lambda=0.9).compute_td_target(info, values))
    assert targets[0][0] == targets[1][0] == pytest.approx(1.0 + 0.9 * 2.0)
    assert targets[0][2] != targets[1][2]


def test_vector_reward_with_a_gamma_for_each_component():
    info, values = random_info((4, 6, 2))
    loss = TDLoss(gamma=[0.5, 0.9], td_lambda=0.7)
    targets = loss.compute_td_target(info, values)
    for i, gamma in enumerate([0.5, 0.9]):
        part = Info(info.reward[..., i], info.step_type, info.discount)
        torch.testing.assert_close(targets[..., i],
                                   TDLoss(gamma=gamma, td_lambda=0.7).compute_td_target(part, values[..., i]))
    result = loss(info, torch.zeros(4, 6, 2), values)
    torch.testing.assert_close(result.loss[:-1], targets.square().mean(-1))
    assert not result.loss[-1].any()


def test_gradient_goes_to_the_value_only():
    info, values = random_info((3, 5))
    value, target_value = values.clone().requires_grad_(), values.clone().requires_grad_()
    loss = TDLoss(td_lambda=0.5)
    loss(info, value, target_value).loss.sum().backward()
    error = loss.compute_td_target(info, values) - values[:-1]
    torch.testing.assert_close(value.grad[:-1], -2 * error)
    assert not value.grad[-1].any() and target_value.grad is None


def test_error_function_is_given_target_and_value():
    loss = OneStepTDLoss(gamma=1.0, td_error_loss_fn=element_wise_huber_loss)
    info = make_info([[0.0], [3.0]])
    assert loss(info, torch.zeros(2, 1), torch.zeros(2, 1)).loss[0].item() == 2.5


def test_normalized_targets_leave_out_rows_that_start_no_transition():
    info = make_info([[0.0, 0.0, 0.0], [1.0, 3.0, 0.0]], [[MID, MID, LAST], [MID, MID, FIRST]])
    loss = TDLoss(gamma=0.0, td_lambda=0.0, normalize_target=True)
    values = torch.tensor([[1.0, 1.0, 1e6], [0.0, 0.0, 0.0]])
    result = loss(info, torch.zeros(2, 3), values).loss
    # Targets 1 and 3 have deviation 1, so errors keep their size.
    torch.testing.assert_close(result[0, :2], torch.tensor([1.0, 9.0]))


def test_values_and_targets_of_different_shapes_are_named():
    info = make_info([[0.0], [2.0]])
    with pytest.raises(ValueError, match=r"one shape, got \(2, 1\) and \(2, 1, 3\)"):
        TDLoss()(info, torch.zeros(2, 1), torch.zeros(2, 1, 3))


@pytest.mark.parametrize("arguments", [{"gamma": 1.5}, {"gamma": [0.9, -0.1]}, {"td_lambda": 2.0}])
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TDLoss(**arguments)


def test_gamma_must_fit_the_reward():
    info, values = random_info((3, 2, 3))
    with pytest.raises(ValueError, match="one for each component"):
        TDLoss(gamma=[0.9, 0.8])(info, values, values)


def quantile_loss(value, targets, taus):
    """Mean over i and j of ``|tau_i - 1(u < 0)| * huber(u)``, ``u = target_j - value_i``; lists of numbers."""
    total = 0.0
    for v, tau in zip(value, taus, strict=True):
        for target in targets:
            u = target - v
            huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
            total += abs(tau - (u < 0)) * huber
    return total / len(value) / len(targets)


@pytest.mark.parametrize("td_lambda", [0.0, 0.4, 1.0])
def test_quantile_loss_equals_a_naive_loop(td_lambda):
    info, _ = random_info((5, 4))
    value, target_value = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(1))
    loss = TDQRLoss(num_quantiles=3, gamma=0.9, td_lambda=td_lambda)(info, value, target_value).loss
    assert loss.shape == (5, 4) and not loss[-1].any()
    for b in range(4):
        targets = [
            naive_targets(*(part[:, b].tolist() for part in info), target_value[:, b, k].tolist(), 0.9, td_lambda)
            for k in range(3)
        ]
        for t in range(4):
            expected = quantile_loss(value[t, b].tolist(), [target[t] for target in targets], [1 / 6, 0.5, 5 / 6])
            assert loss[t, b].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_sum_over_quantiles_is_that_many_times_the_mean():
    info, _ = random_info((2, 4))
    value, target_value = torch.randn(2, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    losses = [OneStepTDQRLoss(num_quantiles=5, sum_over_quantiles=flag) for flag in (False, True)]
    mean, total = (loss(info, value, target_value).loss for loss in losses)
    torch.testing.assert_close(total, 5 * mean)


def test_quantile_fractions_and_weights_are_those_of_their_rows():
    info, _ = random_info((2, 3))
    value, target_value = torch.randn(2, 2, 3, 2, generator=torch.Generator().manual_seed(1))
    tau = torch.tensor([0.1, 0.7]).expand(2, 3, 2)
    # All weight on the first target quantile of the next row.
    weights = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).unsqueeze(1).expand(2, 3, 2)
    loss = OneStepTDQRLoss(gamma=0.9, sum_over_quantiles=False)
    result = loss(info, value, target_value, tau_hat=tau, delta_tau=weights, next_delta_tau=weights).loss
    targets = loss.compute_td_target(info, target_value)
    for b in range(3):
        expected = quantile_loss(value[0, b].tolist(), [targets[0, b, 0].item()], [0.1, 0.7])
        assert result[0, b].item() == pytest.approx(expected, rel=1e-4)


def test_quantiles_of_a_vector_reward():
    info, _ = random_info((3, 4, 2))
    value, target_value = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(1))
    loss = OneStepTDQRLoss(num_quantiles=5, gamma=[0.9, 0.5])(info, value, target_value).loss
    parts = []
    for i, gamma in enumerate([0.9, 0.5]):
        part = Info(info.reward[..., i], *info[1:])
        result = OneStepTDQRLoss(num_quantiles=5, gamma=gamma)(part, value[..., i, :], target_value[..., i, :])
        parts.append(result.loss)
    torch.testing.assert_close(loss, sum(parts) / 2)


def test_number_of_quantiles_must_be_that_of_the_value():
    info, _ = random_info((2, 3))
    with pytest.raises(ValueError, match="num_quantiles"):
        TDQRLoss(num_quantiles=5)(info, torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
