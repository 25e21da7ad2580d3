"""When create_environment picks a native batch, and what it says."""

import functools
import logging
import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import cartpole

import alf
from alf.data_structures import StepType
from alf.environments import native_batch, suite_gym, suite_native
from alf.environments.alf_wrappers import NonEpisodicAgent, TimeLimit
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.native_batch import NativeBatchEnvironment
from alf.environments.thread_environment import ThreadEnvironment
from alf.environments.utils import create_environment

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)
NAMES = ["CartPole-v0", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"]

needs_native = pytest.mark.skipif(not native_batch.is_built(), reason="the extension was not built")


def steps_of(env, num_steps):
    """Return the fields of FIRST and of the time steps that follow, with random actions."""
    rng = np.random.default_rng(2)
    found = []
    for t in range(num_steps + 1):
        action = env.action_spec().numpy_sample((env.batch_size,), rng)
        step = env.step(torch.as_tensor(action)) if t else env.reset()
        fields = (step.step_type, step.reward, step.discount, step.observation, step.prev_action, step.env_id)
        found.append([field.clone() for field in fields])
    return found


def step_types(env, num_steps):
    """Return the step types of row 0 from FIRST on."""
    return [fields[0][0].item() for fields in steps_of(env, num_steps)]


@pytest.fixture
def create():
    """Return create_environment for three environments; what it makes is closed after the test."""
    made = []

    def make(name="CartPole-v1", **kwargs):
        made.append(create_environment(name, **{"num_parallel_environments": 3, **kwargs}))
        return made[-1]

    yield make
    for env in made:
        env.close()


@pytest.fixture
def told(caplog, monkeypatch):
    """Return the log of a process that has told nothing yet."""
    monkeypatch.setattr(suite_native, "_told", set())
    caplog.set_level(logging.INFO)
    return caplog


@needs_native
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [11, None])
def test_results_are_those_without_it(create, name, seed):
    runs = []
    for native in ("auto", False):
        random.seed(4)
        env = create(name, native=native, seed=seed)
        assert type(env) is (NativeBatchEnvironment if native else FastParallelEnvironment)
        runs.append(steps_of(env, 300))
    for left, right in zip(*runs, strict=True):
        assert all(map(torch.equal, left, right))


@needs_native
def test_it_is_picked_and_told(create, told):
    assert type(create()) is NativeBatchEnvironment
    assert type(create(num_parallel_environments=1)) is NativeBatchEnvironment
    assert "CartPole-v1: native batch, equal to Gymnasium step for step" in told.text


@needs_native
@pytest.mark.parametrize("options, reason", [
    (dict(num_workers=0), "num_workers is set"),
    (dict(num_spare_envs=1), "num_spare_envs is set"),
    (dict(batch_size_per_env=3), "batch_size_per_env is set"),
    (dict(parallel_environment_ctor=functools.partial(FastParallelEnvironment, num_workers=0)),
     "parallel_environment_ctor is set"),
    (dict(env_load_fn=functools.partial(suite_gym.load, alf_env_wrappers=[NonEpisodicAgent])),
     "cannot do what the wrapper NonEpisodicAgent does. To get one, leave that out of alf_env_wrappers"),
    (dict(env_load_fn=functools.partial(suite_gym.load, gym_env_wrappers=[
        functools.partial(gymnasium.wrappers.ClipReward, max_reward=0.5)])),
     r"cannot do what the wrappers \['ClipReward'\] do.* To get one, leave the others out of gym_env_wrappers"),
    (dict(env_load_fn=lambda name, env_id: suite_gym.load(name, env_id)), "env_load_fn is not suite_gym.load"),
])
def test_what_it_cannot_do_is_left_to_gymnasium(create, told, options, reason):
    assert type(create(**options)) is FastParallelEnvironment
    assert "CartPole-v1 is stepped by Gymnasium and not by a native batch" in told.text
    with pytest.raises(ValueError, match=f"native=True: there can be no native batch of 'CartPole-v1': .*{reason}"):
        create(native=True, **options)


@needs_native
def test_what_is_configured_counts(create):
    alf.config("suite_gym.load", max_episode_steps=2)
    alf.config("wrap_env", clip_action=False)
    env = create()  # it has nothing to clip
    assert type(env) is NativeBatchEnvironment and step_types(env, 3) == [FIRST, MID, LAST, FIRST]
    assert type(create("Pendulum-v1")) is FastParallelEnvironment


@needs_native
def test_settings_of_the_pool_ask_for_the_pool(create, told):
    alf.config("FastParallelEnvironment", num_ring_rows=9)
    assert type(create()) is FastParallelEnvironment
    assert "FastParallelEnvironment.num_ring_rows is set" in told.text


@needs_native
def test_a_pool_with_defaults_was_not_asked_for(create):
    assert type(create(native=False)) is FastParallelEnvironment
    assert type(create()) is NativeBatchEnvironment


def test_evaluation_and_single_environments_can_render(create):
    assert type(create(for_evaluation=True)) is ThreadEnvironment
    assert type(create(for_evaluation=True, native=True)) is ThreadEnvironment
    assert type(create(nonparallel=True)) is ThreadEnvironment


@needs_native
def test_changed_constants_are_noticed(create, told, monkeypatch):
    spec = gymnasium.registry["Pendulum-v1"]
    monkeypatch.setitem(spec.kwargs, "g", 9.81)
    assert type(create("Pendulum-v1")) is FastParallelEnvironment
    assert "the constants of PendulumEnv are not the usual ones" in told.text


@needs_native
def test_another_gymnasium_is_noticed(create, told, monkeypatch):
    reset = cartpole.CartPoleEnv.reset

    def reset_otherwise(self, **kwargs):
        reset(self, **kwargs)
        self.state = np.nextafter(self.state, 1)
        return np.array(self.state + 1e-6, np.float32), {}

    monkeypatch.setattr(cartpole.CartPoleEnv, "reset", reset_otherwise)
    assert type(create()) is FastParallelEnvironment
    (record,) = [record for record in told.records if "its observation is not that of the installed" in record.message]
    assert record.levelno == logging.WARNING


def test_without_the_extension_gymnasium_is_used_with_one_notice(create, told, monkeypatch):
    monkeypatch.setattr(native_batch, "_native", None)
    for _ in range(2):
        env = create()
        assert type(env) is FastParallelEnvironment and env.reset().observation.shape == (3, 4)
    notices = [record for record in told.records if "extension alf._envs is missing" in record.message]
    assert len(notices) == 1 and notices[0].levelno == logging.WARNING
    with pytest.raises(ValueError, match="native=True.*the extension alf._envs is missing"):
        create(native=True)
    with pytest.raises(ValueError, match="suite_native.load.environment_name: 'CartPole-v1': the extension"):
        suite_native.load("CartPole-v1")


@needs_native
def test_other_environments_are_not_mentioned(create, told):
    assert type(create("LunarLander-v3")) is FastParallelEnvironment
    assert "native" not in told.text
    with pytest.raises(ValueError, match="native: expected 'auto', True or False, got 'yes'"):
        create(native="yes")


@needs_native
def test_a_time_limit_of_our_own_is_followed(create):
    limit = functools.partial(TimeLimit, duration=2)
    env = create(env_load_fn=functools.partial(suite_gym.load, max_episode_steps=0, alf_env_wrappers=[limit]))
    assert type(env) is NativeBatchEnvironment and step_types(env, 3) == [FIRST, MID, LAST, FIRST]
