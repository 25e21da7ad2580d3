"""Environments that cannot be solved without memory."""

import numpy as np
import pytest

import alf.environments.suite_memory as suite_memory
from alf.environments._rows import FIRST, LAST, MID


def play(env, policy):
    """Return the observations and rewards of an episode; ``policy`` maps the observations so far to an action."""
    step = env.reset()
    observations, rewards = [step.observation], []
    assert step.step_type == FIRST
    while step.step_type != LAST:
        step = env.step(np.asarray(policy(observations)))
        observations.append(step.observation)
        rewards.append(float(step.reward))
        assert step.step_type in (MID, LAST)
    assert step.discount == 0
    return np.stack(observations), rewards


def test_sign_is_seen_at_the_beginning_and_the_junction_at_the_end_of_the_corridor():
    env = suite_memory.load("TMaze", env_args=dict(corridor_length=3))
    observations, rewards = play(env, lambda seen: 0)
    assert abs(observations[0, 0]) == 1
    assert observations[1:, 0].tolist() == [0, 0, 0, 0]
    assert observations[:, 1].tolist() == [0, 0, 0, 1, 0]
    assert rewards[:3] == [0, 0, 0] and abs(rewards[3]) == 1


@pytest.mark.parametrize("corridor_length", [1, 2, 7])
def test_memory_earns_one_and_its_contrary_minus_one(corridor_length):
    env = suite_memory.load(env_args=dict(corridor_length=corridor_length))
    env.seed(0)
    remember, contradict = (lambda seen: int(seen[0][0] > 0)), (lambda seen: int(seen[0][0] < 0))
    for policy, expected in ((remember, 1), (contradict, -1)):
        for _ in range(20):
            _, rewards = play(env, policy)
            assert len(rewards) == corridor_length + 1 and sum(rewards) == expected


@pytest.mark.parametrize("side", [0, 1])
def test_policy_without_memory_earns_nothing_on_average(side):
    env = suite_memory.load(env_args=dict(corridor_length=2))
    env.seed(0)
    returns = [sum(play(env, lambda seen: side)[1]) for _ in range(1000)]
    # The standard deviation of the mean is 0.03.
    assert abs(np.mean(returns)) < 0.12


def test_what_is_seen_at_the_junction_does_not_tell_the_side():
    env = suite_memory.load(env_args=dict(corridor_length=1))
    env.seed(0)
    seen = {(float(observations[0, 0]), tuple(observations[1]))
            for observations, _ in (play(env, lambda seen: 0) for _ in range(20))}
    assert seen == {(-1.0, (0.0, 1.0)), (1.0, (0.0, 1.0))}


def test_maze_is_drawn_as_text():
    maze = suite_memory.TMaze(corridor_length=3)
    maze.reset(seed=0)
    maze.step(0)
    assert maze.render()[0] in "LR" and maze.render()[2:] == ".x.T"


def test_refuses_an_unknown_game_and_an_empty_corridor():
    with pytest.raises(ValueError, match="got 'TMase'. Did you mean 'TMaze'"):
        suite_memory.load("TMase")
    with pytest.raises(ValueError, match="corridor_length: expected at least 1, got 0"):
        suite_memory.load(env_args=dict(corridor_length=0))
