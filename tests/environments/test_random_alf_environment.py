"""RandomAlfEnvironment."""

import numpy as np
import pytest
import torch

from alf.environments._rows import FIRST, LAST
from alf.environments.random_alf_environment import RandomAlfEnvironment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

OBSERVATION = dict(a=BoundedTensorSpec((2,), torch.float32, 5, 6), b=BoundedTensorSpec((), torch.int64, 0, 3))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)


def lengths(env, num_steps):
    """Return the number of steps of the finished episodes of an unbatched environment."""
    result, n = [], 0
    env.reset()
    for _ in range(num_steps):
        step = env.step(np.zeros(2, np.float32))
        n = 0 if step.step_type == FIRST else n + 1
        if step.step_type == LAST:
            result.append((n, float(step.discount)))
    return result


def test_episodes_end_with_the_given_probability():
    ends = lengths(RandomAlfEnvironment(OBSERVATION, ACTION, episode_end_probability=0.25), 4000)
    assert np.mean([n for n, _ in ends]) == pytest.approx(4, rel=0.1)
    assert {discount for _, discount in ends} == {0.0}


def test_durations_are_kept():
    ends = lengths(RandomAlfEnvironment(OBSERVATION, ACTION, discount=0.9, min_duration=3, max_duration=6), 1000)
    assert {n for n, _ in ends} == {4, 5, 6}
    assert all(discount == (np.float32(0.9) if n == 6 else 0) for n, discount in ends)


def test_rows_of_a_batch_have_their_own_episodes():
    env = RandomAlfEnvironment(
        OBSERVATION, ACTION, batch_size=4, episode_end_probability=0.5, use_tensor_time_step=True
    )
    assert env.batched and env.batch_size == 4 and env.is_tensor_based
    env.reset()
    mixed = False
    for _ in range(20):
        before = env.current_time_step().step_type
        step = env.step(torch.full((4, 2), 0.5))
        assert torch.equal(step.step_type == FIRST, before == LAST)
        assert (step.prev_action[step.step_type == FIRST] == 0).all()
        assert (step.reward[step.step_type == FIRST] == 0).all()
        mixed |= len(set(step.step_type.tolist())) > 1
    assert mixed and step.observation["a"].shape == (4, 2)


def test_reward_fn_decides_the_reward():
    env = RandomAlfEnvironment(OBSERVATION, ACTION, reward_fn=lambda step_type, action, observation: action.sum())
    env.reset()
    assert env.step(np.array([0.5, 0.25], np.float32)).reward == 0.75


def test_seed_decides_everything():
    one, other = (RandomAlfEnvironment(OBSERVATION, ACTION, seed=3) for _ in range(2))
    assert np.array_equal(one.reset().observation["a"], other.reset().observation["a"])


@pytest.mark.parametrize(
    "action, words",
    [(np.zeros(3, np.float32), r"shape \(2,\), got \(3,\)"), (np.full(2, 2, np.float32), "an action inside")],
)
def test_wrong_action_is_an_error(action, words):
    env = RandomAlfEnvironment(TensorSpec((1,)), ACTION)
    env.reset()
    with pytest.raises(ValueError, match=words):
        env.step(action)


def test_render_has_the_size_asked_for():
    assert RandomAlfEnvironment(OBSERVATION, ACTION, render_size=(4, 5, 3)).render().shape == (4, 5, 3)
