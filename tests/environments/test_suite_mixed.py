"""The point that chooses a mode and an amount."""

import numpy as np
import pytest
import torch

import alf.environments.suite_mixed as suite_mixed
from alf.data_structures import StepType
from alf.environments.suite_mixed import ModePoint
from alf.tensor_specs import BoundedTensorSpec

LAST, MID = StepType.LAST, StepType.MID


def act(mode, amount=0.0):
    return dict(amount=np.array([amount], np.float32), mode=np.asarray(mode, np.int64))


@pytest.fixture
def env():
    env = suite_mixed.load()
    env.seed(0)
    env.reset()
    return env


def test_action_has_a_continuous_amount_and_a_discrete_mode(env):
    assert env.action_spec() == dict(
        amount=BoundedTensorSpec((1,), torch.float32, -1, 1), mode=BoundedTensorSpec((), torch.int64, 0, 2)
    )
    assert env.observation_spec() == BoundedTensorSpec((4,), torch.float32, -1, 1)
    assert list(env.env_info_spec()) == ["is_success"]


@pytest.mark.parametrize("mode", [ModePoint.MOVE_X, ModePoint.MOVE_Y])
def test_a_mode_moves_along_its_axis_by_the_amount(env, mode):
    before = env.current_time_step().observation
    towards = 1.0 if before[2 + mode] > before[mode] else -1.0
    step = env.step(act(mode, 0.1 * towards))
    moved = step.observation - before
    np.testing.assert_allclose(moved[mode], 0.1 * towards * ModePoint.MAX_STEP, atol=1e-6)
    assert (np.delete(moved, mode) == 0).all() and step.step_type == MID
    np.testing.assert_allclose(step.reward, 0.1 * ModePoint.MAX_STEP, atol=1e-6)
    np.testing.assert_allclose(env.step(act(mode, -0.1 * towards)).reward, -0.1 * ModePoint.MAX_STEP, atol=1e-6)


def test_stopping_in_the_wrong_place_costs_and_terminates(env):
    assert np.abs(np.subtract(*np.split(env.current_time_step().observation, 2))).max() > ModePoint.RADIUS
    step = env.step(act(ModePoint.STOP, 0.7))
    assert step.step_type == LAST and step.discount == 0 and step.reward == -1
    assert step.env_info["is_success"] == 0


def test_the_best_policy_earns_the_distance_and_the_bonus(env):
    returns, distances = [], []
    step = env.current_time_step()
    for _ in range(300):
        difference = step.observation[2:] - step.observation[:2]
        distances.append(np.abs(difference).sum())
        total = 0.0
        while not step.is_last():
            difference = step.observation[2:] - step.observation[:2]
            mode = int(np.abs(difference).argmax())
            is_there = np.abs(difference).max() < 1e-6
            amount = np.clip(difference[mode] / ModePoint.MAX_STEP, -1, 1)
            step = env.step(act(ModePoint.STOP if is_there else mode, amount))
            total += float(step.reward)
        assert step.discount == 0 and step.env_info["is_success"] == 1
        returns.append(total)
        step = env.step(act(0))
    np.testing.assert_allclose(returns, np.array(distances) + 1, atol=1e-4)
    assert 2.2 < np.mean(returns) < 2.5


def test_a_point_that_never_stops_meets_the_time_limit(env):
    steps = [env.step(act(ModePoint.MOVE_X, 1.0)) for _ in range(20)]
    assert steps[-1].step_type == LAST and steps[-1].discount == 1
    assert max(float(step.observation[0]) for step in steps) == 1.0  # walls


def test_unknown_name_is_told():
    with pytest.raises(ValueError, match="expected 'ModePoint', got 'ModPoint'"):
        suite_mixed.load("ModPoint")
