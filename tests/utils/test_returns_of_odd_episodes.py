"""Advantages and TD targets of episodes of one step, endless ones, and ends of both kinds at once, against definitions.

The episodes are played by a Gymnasium environment through the wrapper that training uses, so that what counts is what
Gymnasium says about an end; the oracle sums over each episode, and knows no step types and no discounts.
"""

import gymnasium
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alf.environments.suite_gym import wrap_env
from alf.utils import value_ops

GAMMA = 0.9
ENDS = {"terminated": (True, False), "truncated": (False, True), "both": (True, True)}
episodes_of_all_kinds = st.lists(
    st.tuples(st.sampled_from([1, 1, 2, 3, 5, 10**6]), st.sampled_from(["terminated", "truncated", "both"])),
    min_size=1, max_size=8)


class Scripted(gymnasium.Env):
    """Episodes of given lengths and ends, the last one again and again; observes the number of its call."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (1, ), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, episodes):
        self._episodes = episodes
        self.begin()

    def begin(self):
        self._episode, self._step, self._calls = -1, 0, -1

    def _observation(self):
        self._calls += 1
        return np.array([self._calls], np.float32)

    def reset(self, *, seed=None, options=None):
        self._episode, self._step = min(self._episode + 1, len(self._episodes) - 1), 0
        return self._observation(), {}

    def step(self, action):
        self._step += 1
        length, end = self._episodes[self._episode]
        flags = ENDS[end] if self._step == length else (False, False)
        observation = self._observation()
        return observation, reward_of(observation[0]), *flags, {}


def reward_of(row):
    return float(np.sin(3.0 * row))


def value_of(row):
    return np.cos(5.0 * row)


def unroll(episodes, num_rows):
    """Return rewards, values, step types and discounts ``[num_rows, 1]``, discounts with GAMMA."""
    scripted = Scripted(episodes)
    env = wrap_env(scripted, clip_action=False)
    env.reset()
    scripted.begin()  # the wrapper has made a step, once, to learn what info holds
    time_steps = [env.reset()]
    while len(time_steps) < num_rows:
        time_steps.append(env.step(np.int64(0)))
    env.close()
    rows = np.array([float(time_step.observation[0]) for time_step in time_steps])
    assert rows.tolist() == list(range(num_rows))  # every observation is seen once, the last ones of episodes too
    columns = (np.array([float(time_step.reward) for time_step in time_steps]), value_of(rows),
               np.array([int(time_step.step_type) for time_step in time_steps]),
               GAMMA * np.array([float(time_step.discount) for time_step in time_steps]))
    return [torch.tensor(column).unsqueeze(1) for column in columns]


def oracle(episodes, num_rows, lam):
    """Return ``(advantages, one-step targets, is_transition)`` of the rows before the last, from the definitions.

    Eq. (16) of https://arxiv.org/abs/1506.02438 with the sum ended by the episode or by the unroll.
    """
    advantages, targets, is_transition = (np.zeros(num_rows - 1) for _ in range(3))
    begin, number = 0, 0
    while begin < num_rows - 1:
        length, end = episodes[min(number, len(episodes) - 1)]
        last = begin + length  # row of the last observation
        for t in range(begin, min(last, num_rows - 1)):
            is_transition[t] = True
            for k in range(t, min(last, num_rows - 1)):
                is_terminal = k + 1 == last and end != "truncated"
                target = reward_of(k + 1) + (0.0 if is_terminal else GAMMA * value_of(k + 1))
                if k == t:
                    targets[t] = target
                advantages[t] += (GAMMA * lam)**(k - t) * (target - value_of(k))
        begin, number = last + 1, number + 1
    return advantages, targets, is_transition.astype(bool)


@settings(max_examples=60, deadline=None)
@given(episodes_of_all_kinds, st.integers(2, 30), st.sampled_from([0.0, 0.7, 1.0]))
def test_advantages_and_targets_are_those_of_the_definitions(episodes, num_rows, lam):
    columns = unroll(episodes, num_rows)
    advantages, targets, is_transition = oracle(episodes, num_rows, lam)
    got = value_ops.generalized_advantage_estimation(*columns, td_lambda=lam).squeeze(1).numpy()
    np.testing.assert_allclose(got, np.where(is_transition, advantages, 0.0), atol=1e-6)
    got = value_ops.one_step_discounted_return(*columns).squeeze(1).numpy()
    np.testing.assert_allclose(got[is_transition], targets[is_transition], atol=1e-6)


def test_an_episode_of_one_step_by_hand():
    # rows: 0 FIRST, 1 LAST (terminated), 2 FIRST, 3 LAST (truncated), 4 FIRST
    columns = unroll([(1, "terminated"), (1, "truncated")], 5)
    assert columns[2].flatten().tolist() == [0, 2, 0, 2, 0]
    got = value_ops.one_step_discounted_return(*columns).flatten().tolist()
    np.testing.assert_allclose(got[0], np.sin(3.0), atol=1e-6)
    np.testing.assert_allclose(got[2], np.sin(9.0) + 0.9 * np.cos(15.0), atol=1e-6)
