"""Tests of returns and advantages against naive loops with episodes ending everywhere."""

import numpy as np
import pytest
import torch

from alf.utils import value_ops

FIRST, MID, LAST = 0, 1, 2


def make_data(T, B, R=(), seed=0, discount_shape=None):
    rng = np.random.default_rng(seed)
    step_types = np.full((T, B), MID, np.int32)
    discounts = np.full((T, B), 0.9, np.float32)
    for b in range(B):
        t = int(rng.integers(0, 4)) - 1
        while t < T:
            if t >= 0:
                step_types[t, b] = LAST
                discounts[t, b] = 0.9 * rng.integers(0, 2)
            if t + 1 < T:
                step_types[t + 1, b] = FIRST
            t += int(rng.integers(1, 6))
    if discount_shape:
        discounts = discounts[..., None] * rng.uniform(0.5, 1, size=R).astype(np.float32)
    rewards = rng.normal(size=(T, B) + R).astype(np.float32)
    values = rng.normal(size=(T, B) + R).astype(np.float32)
    return rewards, values, step_types, discounts


def naive_return(r, v, s, d):
    T, B = s.shape
    out = np.zeros_like(r[:-1], dtype=np.float64)
    for b in range(B):
        acc = v[T - 1, b].astype(np.float64)
        for t in range(T - 2, -1, -1):
            acc = v[t, b].astype(np.float64) if s[t, b] == LAST else r[t + 1, b] + d[t + 1, b] * acc
            out[t, b] = acc
    return out


def naive_gae(r, v, s, d, lam):
    T, B = s.shape
    out = np.zeros_like(r[:-1], dtype=np.float64)
    for b in range(B):
        acc = np.zeros(r.shape[2:])
        for t in range(T - 2, -1, -1):
            if s[t, b] == LAST:
                acc = np.zeros(r.shape[2:])
            else:
                acc = r[t + 1, b] + d[t + 1, b] * v[t + 1, b] - v[t, b] + d[t + 1, b] * lam * acc
            out[t, b] = acc
    return out


SHAPES = [(2, 1, ()), (3, 2, ()), (33, 8, ()), (65, 4, (3,)), (4, 3000, ()), (300, 2, ())]


def as_tensors(arrays):
    return [torch.from_numpy(a) for a in arrays]


@pytest.mark.parametrize("T,B,R", SHAPES)
@pytest.mark.parametrize("wants_grad", [False, True])
def test_discounted_return_equals_naive_loop(T, B, R, wants_grad):
    data = make_data(T, B, R)
    tensors = as_tensors(data)
    tensors[1].requires_grad_(wants_grad)
    r, v, s, d = data
    expected = naive_return(r, v, s, d)
    got = value_ops.discounted_return(*tensors)
    assert got.requires_grad == wants_grad
    np.testing.assert_allclose(got.detach(), expected, atol=2e-5)


@pytest.mark.parametrize("T,B,R", SHAPES)
@pytest.mark.parametrize("wants_grad", [False, True])
@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_gae_equals_naive_loop(T, B, R, wants_grad, lam):
    data = make_data(T, B, R, seed=1)
    tensors = as_tensors(data)
    tensors[1].requires_grad_(wants_grad)
    got = value_ops.generalized_advantage_estimation(*tensors, td_lambda=lam)
    np.testing.assert_allclose(got.detach(), naive_gae(*data, lam), atol=2e-5)


def test_each_reward_dimension_may_have_its_own_discount():
    data = make_data(20, 3, (2,), seed=2, discount_shape=True)
    tensors = as_tensors(data)
    np.testing.assert_allclose(value_ops.discounted_return(*tensors), naive_return(*data), atol=2e-5)
    np.testing.assert_allclose(
        value_ops.generalized_advantage_estimation(*tensors, td_lambda=0.7), naive_gae(*data, 0.7), atol=2e-5
    )


def test_batch_major_gives_the_transposed_result():
    tensors = as_tensors(make_data(12, 3, seed=3))
    swapped = [t.transpose(0, 1).contiguous() for t in tensors]
    for op in (value_ops.discounted_return, value_ops.generalized_advantage_estimation):
        torch.testing.assert_close(op(*swapped, time_major=False), op(*tensors).transpose(0, 1))


def test_advantage_with_lambda_one_is_return_minus_value():
    tensors = as_tensors(make_data(30, 4, seed=4))
    advantages = value_ops.generalized_advantage_estimation(*tensors, td_lambda=1.0)
    torch.testing.assert_close(
        advantages, value_ops.discounted_return(*tensors) - tensors[1][:-1], atol=1e-5, rtol=1e-5
    )


def test_one_step_return_by_hand():
    # row 1 is the end of an episode by a time limit, row 2 begins the next, row 3 is a termination
    rewards = torch.tensor([[0.0], [1.0], [0.0], [4.0]])
    values = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    step_types = torch.tensor([[MID], [LAST], [FIRST], [LAST]], dtype=torch.int32)
    discounts = torch.tensor([[0.5], [0.5], [0.5], [0.0]])
    got = value_ops.one_step_discounted_return(rewards, values, step_types, discounts)
    assert got.flatten().tolist() == [1 + 0.5 * 20, 20.0, 4.0]
    assert value_ops.discounted_return(rewards, values, step_types, discounts).flatten().tolist() == [
        11.0,
        20.0,
        4.0,
    ]
    got = value_ops.generalized_advantage_estimation(rewards, values, step_types, discounts, td_lambda=0.5)
    assert got.flatten().tolist() == [1.0, 0.0, -26.0]


def test_gradient_of_gae_equals_that_of_the_loop():
    r, v, s, d = as_tensors(make_data(10, 2, seed=5))
    v.requires_grad_(True)
    value_ops.generalized_advantage_estimation(r, v, s, d, td_lambda=0.9).square().sum().backward()
    w = v.detach().clone().requires_grad_(True)
    acc, rows = torch.zeros(2), []
    for t in range(8, -1, -1):
        acc = (s[t] != LAST) * (r[t + 1] + d[t + 1] * w[t + 1] - w[t] + d[t + 1] * 0.9 * acc)
        rows.append(acc)
    torch.stack(rows).square().sum().backward()
    torch.testing.assert_close(v.grad, w.grad, atol=1e-5, rtol=1e-5)


def test_inputs_are_not_changed():
    tensors = as_tensors(make_data(9, 2, seed=6))
    before = [t.clone() for t in tensors]
    value_ops.discounted_return(*tensors)
    value_ops.generalized_advantage_estimation(*tensors)
    value_ops.one_step_discounted_return(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before))


def test_wrong_shapes_are_told():
    r, v, s, d = as_tensors(make_data(5, 2))
    with pytest.raises(
        ValueError,
        match=r"discounted_return: expected rewards and values .*got rewards \(5, 2\), values "
        r"\(4, 2\)",
    ):
        value_ops.discounted_return(r, v[:-1], s, d)
    with pytest.raises(ValueError, match="T >= 2"):
        value_ops.generalized_advantage_estimation(r[:1], v[:1], s[:1], d[:1])


def importance_ratio(mode, **kwargs):
    new = torch.distributions.Categorical(probs=torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    old = torch.distributions.Categorical(probs=torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    arguments = dict(
        clipping_mode=mode,
        scope="ratio",
        importance_ratio_clipping=0.2,
        log_prob_clipping=0.0,
        check_numerics=True,
        debug_summaries=False,
    )
    arguments.update(kwargs)
    return value_ops.action_importance_ratio(new, old, torch.tensor([0, 0]), **arguments)


def test_importance_ratio_is_clipped_on_both_sides_or_capped():
    ratio, clipped = importance_ratio("double_sided")
    torch.testing.assert_close(ratio, torch.tensor([1.8, 0.4]))
    torch.testing.assert_close(clipped, torch.tensor([1.2, 0.8]))
    torch.testing.assert_close(importance_ratio("capping")[1], torch.tensor([1.2, 0.4]))
    ratio, _ = importance_ratio("capping", log_prob_clipping=0.1)
    torch.testing.assert_close(ratio, torch.exp(torch.tensor([0.1, -0.1])))
    with pytest.raises(ValueError, match="clipping_mode: expected 'double_sided' or 'capping', got 'both'"):
        importance_ratio("both")
    with pytest.raises(FloatingPointError, match="2 of 2 ratios are not finite"):
        importance_ratio("capping", rollout_log_prob=torch.full((2,), -float("inf")))
