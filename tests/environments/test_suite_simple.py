"""The small environments of this project."""

import numpy as np
import pytest

import alf.environments.suite_simple as suite_simple
from alf.environments._rows import LAST


def test_noisy_array_pays_at_the_right_end():
    env = suite_simple.load("NoisyArray", env_args=dict(K=4, M=5))
    step = env.reset()
    assert step.observation.tolist() == [1, 0, 0, 0] + [0] * 5
    step = env.step(np.asarray(0))
    assert step.observation[0] == 1
    rewards = [float(env.step(np.asarray(1)).reward) for _ in range(3)]
    assert rewards == [0, 0, 1]
    last = env.current_time_step()
    assert last.step_type == LAST and last.discount == 0 and last.observation[3] == 1


@pytest.mark.parametrize("auto_noise, action, is_noisy", [(False, 2, True), (False, 0, False), (True, 0, True)])
def test_noisy_array_shows_symbols(auto_noise, action, is_noisy):
    env = suite_simple.load("NoisyArray", env_args=dict(K=4, M=5, auto_noise=auto_noise))
    env.seed(0)
    env.reset()
    symbols = {tuple(env.step(np.asarray(action)).observation[4:]) for _ in range(100)}
    assert len(symbols) == (5 if is_noisy else 1)
    assert all(sum(symbol) == is_noisy for symbol in symbols)


def test_risky_branch_has_the_higher_mean_and_the_higher_variance():
    env = suite_simple.load("StochasticWithRiskyBranch", env_args=dict(seed=0))
    rewards = {0: [], 1: []}
    for branch in rewards:
        for _ in range(2000):
            env.reset()
            assert env.step(np.asarray(branch)).reward == 0
            last = env.step(np.asarray(0))
            assert last.step_type == LAST
            rewards[branch].append(float(last.reward))
    assert set(rewards[0]) == {1.0} and set(rewards[1]) == {10.0, -1.0}
    assert np.mean(rewards[1]) == pytest.approx(1.2, abs=0.35)


def test_skip_stack_and_time_limit():
    env = suite_simple.load("NoisyArray", env_args=dict(K=9, M=1), frame_skip=2, frame_stack=3, max_episode_steps=2)
    env.reset()
    step = env.step(np.asarray(1))
    assert step.observation.shape == (30,) and step.observation[20:].tolist().index(1) == 2
    step = env.step(np.asarray(1))
    assert step.step_type == LAST and step.discount == 1


def test_unknown_game_suggests_the_nearest():
    with pytest.raises(ValueError, match="got 'NoisyArra'. Did you mean 'NoisyArray'"):
        suite_simple.load("NoisyArra")
