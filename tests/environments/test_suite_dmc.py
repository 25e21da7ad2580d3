"""The DeepMind control suite; tests that run it need dm_control."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

import alf.environments.suite_dmc as suite_dmc
from alf.data_structures import StepType
from alf.tensor_specs import BoundedTensorSpec

needs_dmc = pytest.mark.skipif(importlib.util.find_spec("dm_control") is None, reason="dm_control is not installed")


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    for name in [name for name in sys.modules if name.startswith("dm_control.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'alf-rl\[dmc\]'"):
        suite_dmc.load("cartpole:balance", from_pixels=False)


def test_name_without_task_is_told():
    with pytest.raises(ValueError, match="expected 'domain:task'.*got 'cheetah'"):
        suite_dmc.load("cheetah")


@needs_dmc
def test_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="no task 'cartpole:swing_up'.*'cartpole:swingup'"):
        suite_dmc.load("cartpole:swing_up")


@needs_dmc
def test_state_is_all_that_the_task_observes():
    from dm_control import suite

    env = suite_dmc.load("cartpole:swingup", from_pixels=False)
    env.seed(5)
    step = env.reset()
    original = suite.load("cartpole", "swingup", task_kwargs=dict(random=5))
    expected = original.reset()
    assert env.observation_spec().shape == (5,) and env.observation_spec().dtype == torch.float32
    assert env.action_spec() == BoundedTensorSpec((1,), torch.float32, -1, 1)
    for action in (0.5, -1.0, 0.25):
        np.testing.assert_allclose(step.observation, np.concatenate(list(expected.observation.values())), rtol=1e-5)
        step, expected = env.step(np.array([action], np.float32)), original.step(np.array([action]))
        np.testing.assert_allclose(step.reward, expected.reward, rtol=1e-5)
    env.close()


@needs_dmc
@pytest.mark.parametrize("arguments, length", [(dict(max_episode_steps=7), 7), (dict(control_timestep=0.5), 20)])
def test_time_limit_keeps_the_discount(arguments, length):
    env = suite_dmc.load("cartpole:balance", from_pixels=False, **arguments)
    env.reset()
    steps = [env.step(np.zeros(1, np.float32)) for _ in range(length)]
    assert [int(step.step_type) for step in steps] == [1] * (length - 1) + [int(StepType.LAST)]
    assert steps[-1].discount == 1
    assert env.step(np.zeros(1, np.float32)).step_type == StepType.FIRST
    env.close()


@needs_dmc
def test_termination_has_discount_zero():
    env = suite_dmc.load("lqr:lqr_2_1", from_pixels=False)
    physics = env.gym.unwrapped._env.physics
    env.reset()
    with physics.reset_context():
        physics.data.qpos[:] = physics.data.qvel[:] = 0  # there the task is solved
    step = env.step(np.zeros(1, np.float32))
    assert step.step_type == StepType.LAST and step.discount == 0
    env.close()


@needs_dmc
def test_actions_are_mapped_to_the_bounds_of_the_task():
    env = suite_dmc.load("finger:spin", from_pixels=False)
    spec = env.action_spec()
    assert (spec.minimum == -1).all() and (spec.maximum == 1).all()
    env.close()


@needs_dmc
def test_images_have_channels_first():
    try:
        env = suite_dmc.load("cartpole:balance", image_size=24, max_episode_steps=3)
        step = env.reset()
    except Exception as error:  # each OpenGL has errors of its own
        if isinstance(error, (ValueError, TypeError)):
            raise
        pytest.skip(f"nothing can be drawn on this machine: {error}")
    assert env.observation_spec() == BoundedTensorSpec((3, 24, 24), torch.uint8, 0, 255)
    assert step.observation.shape == (3, 24, 24) and step.observation.std() > 0
    assert env.render().shape == (24, 24, 3)
    np.testing.assert_array_equal(env.render(), np.moveaxis(step.observation, 0, -1))
    env.close()
