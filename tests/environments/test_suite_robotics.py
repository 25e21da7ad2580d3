"""Fetch tasks and their wrappers; tests that run the robots need gymnasium-robotics."""

import functools
import importlib.util
import logging
import types

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments._registry as registry
import alf.environments.suite_robotics as suite_robotics
from alf.algorithms.data_transformer import l2_dist_close_reward_fn
from alf.data_structures import StepType
from alf.environments.utils import create_environment
from alf.metrics.metrics import AverageEnvInfoMetric

needs_robotics = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None, reason="gymnasium-robotics is not installed"
)


class Line(gymnasium.Env):
    """A point on a line that is at its goal while it is at or beyond 2; every step goes one further."""

    observation_space = gymnasium.spaces.Dict(
        {name: gymnasium.spaces.Box(-np.inf, np.inf, (1,)) for name in ("observation", "achieved_goal", "desired_goal")}
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        self._x = 0
        return self._observation(), {}

    def _observation(self):
        return dict(
            observation=np.array([100.0 * self._x], np.float32),
            achieved_goal=np.array([self._x], np.float32),
            desired_goal=np.array([-900.0], np.float32),
        )

    def step(self, action):
        self._x += 1
        is_there = self._x >= 2
        return self._observation(), -float(not is_there), False, False, dict(is_success=np.float32(is_there))


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(suite_robotics, "is_available", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'alf-rl\[robotics\]'"):
        suite_robotics.load("FetchReach-v4")


def test_success_counts_late_in_the_episode_only():
    env = suite_robotics.SuccessWrapper(Line(), since_episode_steps=4)
    for _ in range(2):
        env.reset()
        assert [env.step(None)[4]["is_success"] for _ in range(5)] == [0, 0, 0, 1, 1]


def test_sparse_reward_is_zero_or_one():
    env = suite_robotics.SparseReward(Line())
    env.reset()
    assert [env.step(None)[1] for _ in range(3)] == [0.0, 1.0, 1.0]


def test_every_part_of_the_observation_is_clipped():
    env = suite_robotics.ObservationClipWrapper(Line(), max_v=150.0)
    observation, _ = env.reset()
    assert observation["desired_goal"].tolist() == [-200.0]
    assert [env.step(None)[0]["observation"].tolist() for _ in range(2)] == [[100.0], [150.0]]


def test_observation_and_goal_side_by_side():
    env = suite_robotics._ConcatDesiredGoal(Line())
    assert env.observation_space.shape == (2,) and env.reset()[0].tolist() == [0.0, -900.0]


@needs_robotics
@pytest.mark.parametrize("name", ["FetchReach-v1", "FetchPushDense-v3"])
def test_older_versions_resolve_to_v4_with_one_warning(name, caplog, monkeypatch):
    monkeypatch.setattr(registry, "_warned", set())
    with caplog.at_level(logging.WARNING, logger=registry.__name__):
        for _ in range(2):
            env = suite_robotics.load(name)
            assert env.gym.unwrapped.spec.id == name[:-1] + "4"
            env.close()
    assert [record.message for record in caplog.records].count(
        f"{name} is retired: using its successor {name[:-1]}4."
    ) == 1


@needs_robotics
def test_fetch_reach_ends_at_its_time_limit_with_discount():
    env = suite_robotics.load("FetchReach-v4", concat_desired_goal=False)
    assert {name: tuple(spec.shape) for name, spec in env.observation_spec().items()} == dict(
        achieved_goal=(3,), desired_goal=(3,), observation=(10,)
    )
    assert env.action_spec().shape == (4,) and list(env.env_info_spec()) == ["is_success"]
    env.seed(0)
    step = env.reset()
    achieved, goals, rewards = [], [], []
    while not step.is_last():
        # the hand is moved by 5 cm for an action of 1
        towards = np.clip(10 * (step.observation["desired_goal"] - step.observation["achieved_goal"]), -1, 1)
        step = env.step(np.append(towards, 0.0).astype(np.float32))
        achieved.append(torch.as_tensor(step.observation["achieved_goal"]))
        goals.append(torch.as_tensor(step.observation["desired_goal"]))
        rewards.append(float(step.reward))
    assert len(rewards) == 50 and step.discount == 1
    assert rewards[0] == -1 and rewards[-1] == 0 and step.env_info["is_success"] == 1
    # the reward of hindsight is that of the environment
    expected = l2_dist_close_reward_fn(torch.stack(achieved), torch.stack(goals))
    assert expected.tolist() == rewards
    env.close()


@needs_robotics
def test_rate_of_success_is_a_metric():
    load = functools.partial(suite_robotics.load, concat_desired_goal=True, max_episode_steps=4)
    env = create_environment("FetchReach-v4", load, num_parallel_environments=2, nonparallel=False)
    step = env.reset()
    assert step.observation.shape == (2, 13)
    metric = AverageEnvInfoMetric(example_time_step=step)
    for _ in range(10):
        metric(step)
        step = env.step(torch.zeros(2, 4))
    assert float(metric.result()["is_success"]) in (0.0, 0.25, 0.5, 0.75, 1.0)
    env.close()


@needs_robotics
def test_a_process_of_its_own():
    env = suite_robotics.load("FetchReach-v4", wrap_with_process=True, max_episode_steps=2)
    try:
        assert env.observation_spec().shape == (13,)
        env.reset()
        env.step(np.zeros(4, np.float32))
        step = env.step(np.zeros(4, np.float32))
        assert step.step_type == StepType.LAST and step.discount == 1
    finally:
        env.close()


@needs_robotics
def test_tasks_without_goals_are_told():
    with pytest.raises(ValueError, match="expected a task with goals.*AdroitHandDoor"):
        suite_robotics.load("AdroitHandDoor-v1")


@needs_robotics
def test_joint_types_are_repaired_only_where_the_comparison_fails(monkeypatch):
    import mujoco
    from gymnasium_robotics.utils import mujoco_utils

    from alf.environments._mujoco_compat import let_joint_types_be_compared

    plain = types.SimpleNamespace(mjtJoint=types.SimpleNamespace(mjJNT_HINGE=3, mjJNT_SLIDE=2))
    monkeypatch.setattr(mujoco_utils, "mujoco", plain)
    let_joint_types_be_compared()
    assert mujoco_utils.mujoco is plain
    monkeypatch.setattr(mujoco_utils, "mujoco", mujoco)
    let_joint_types_be_compared()
    joint_types = mujoco_utils.mujoco.mjtJoint
    assert np.int32(3) in (joint_types.mjJNT_HINGE, joint_types.mjJNT_SLIDE)
    assert mujoco_utils.mujoco.mj_name2id is mujoco.mj_name2id
