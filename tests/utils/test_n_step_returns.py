"""n-step returns along sequences of episodes."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alf.utils.n_step_returns import n_step_returns

FIRST, MID, LAST = 0, 1, 2


def naive(rewards, discounts, step_types, values, n):
    """Return the returns of one sequence, by following each of its rows forward."""
    T, returns = len(rewards), []
    for t in range(T):
        total, factor, j = 0.0, 1.0, t
        while j - t < n and j < T - 1 and step_types[j] != LAST:
            j += 1
            total += factor * rewards[j]
            factor *= discounts[j]
        returns.append(total + factor * values[j])
    return returns


@st.composite
def sequences(draw):
    T, B = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    numbers = st.floats(-3, 3, width=32)
    rewards, values = (draw(hnp.arrays(np.float32, (T, B), elements=numbers)) for _ in range(2))
    discounts = draw(hnp.arrays(np.float32, (T, B), elements=st.floats(0, 1, width=32)))
    step_types = draw(hnp.arrays(np.int32, (T, B), elements=st.sampled_from([FIRST, MID, MID, LAST])))
    terminates = draw(hnp.arrays(bool, (T, B)))
    discounts[(step_types == LAST) & terminates] = 0
    return rewards, discounts, step_types, values, draw(st.integers(1, 14))


@settings(max_examples=150, deadline=None)
@given(sequences())
def test_equals_following_each_row_forward(sequence):
    *arrays, n = sequence
    result = n_step_returns(*map(torch.as_tensor, arrays), n)
    expected = np.stack([naive(*(a[:, b].astype(np.float64) for a in arrays), n) for b in range(arrays[0].shape[1])], 1)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


@pytest.mark.parametrize("discount, after_last_action", [(0.0, 4.0), (0.5, 4.0 + 0.5 * 30.0)])
def test_termination_ends_the_return_and_a_time_limit_bootstraps(discount, after_last_action):
    # rows: 0 MID, 1 MID, 2 LAST, 3 FIRST of the next episode, 4 MID; rewards of the actions that led there
    returns = n_step_returns(
        column(9, 2, 4, 0, 8), column(1, 0.5, discount, 1, 0.5), column(MID, MID, LAST, FIRST, MID).int(),
        column(10, 20, 30, 40, 50), n=3)
    expected = [2 + 0.5 * after_last_action, after_last_action, 30, 8 + 0.5 * 50, 50]
    assert returns.squeeze(1).tolist() == expected


def test_refuses_wrong_shapes_and_lengths():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"expected all to be \[T, B\], got .*'values': \(2, 2\)"):
        n_step_returns(x, x, x.int(), x[1:], 1)
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        n_step_returns(x, x, x.int(), x, 0)
