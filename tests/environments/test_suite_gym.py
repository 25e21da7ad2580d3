"""Gymnasium environments by id."""

import logging
import sys
import types

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments._registry as registry
import alf.environments.alf_wrappers as alf_wrappers
import alf.environments.gym_wrappers as gym_wrappers
import alf.environments.suite_gym as suite_gym
from alf.environments._rows import LAST
from alf.tensor_specs import BoundedTensorSpec


@pytest.fixture(autouse=True)
def _forget_warnings(monkeypatch):
    monkeypatch.setattr(registry, "_warned", set())


def bare(env):
    """Return the classes of the Gymnasium wrappers, from the outside in."""
    names, env = [], env.gym
    while isinstance(env, gymnasium.Wrapper):
        names.append(type(env).__name__)
        env = env.env
    return names


def test_time_limit_is_ours_and_nothing_else_is_wrapped_around():
    env = suite_gym.load("CartPole-v1", env_id=3)
    assert isinstance(env, alf_wrappers.TimeLimit) and env.duration == 500
    assert bare(env) == []
    assert env.reset().env_id == 3


@pytest.mark.parametrize("steps, duration", [(None, 200), (7, 7)])
def test_max_episode_steps(steps, duration):
    assert suite_gym.load("CartPole-v0", max_episode_steps=steps).duration == duration


def test_zero_max_episode_steps_is_no_limit():
    assert not isinstance(suite_gym.load("CartPole-v0", max_episode_steps=0), alf_wrappers.TimeLimit)
    with pytest.raises(ValueError, match="max_episode_steps: expected >= 0, got -1"):
        suite_gym.load("CartPole-v0", max_episode_steps=-1)


def test_time_limit_of_mountain_car_bootstraps():
    env = suite_gym.load("MountainCar-v0", max_episode_steps=3)
    env.reset()
    step = [env.step(np.asarray(1)) for _ in range(3)][-1]
    assert step.step_type == LAST and step.discount == 1


def test_steps_equal_those_of_gymnasium():
    env = suite_gym.load("Pendulum-v1")
    env.env_info_spec()
    env.seed(11)
    step = env.reset()
    twin = gymnasium.make("Pendulum-v1")
    observation, _ = twin.reset(seed=11)
    rng = np.random.default_rng(0)
    for _ in range(200):
        np.testing.assert_allclose(step.observation, observation, rtol=1e-6)
        action = rng.uniform(-1.2, 1.2, 1).astype(np.float32)
        step = env.step(action)
        observation, reward, terminated, truncated, _ = twin.step(2 * np.clip(action, -1, 1))
        assert step.reward == pytest.approx(reward, rel=1e-5)
        assert (step.step_type == LAST) == (terminated or truncated)
    assert truncated and step.discount == 1


def test_continuous_actions_are_normalized_and_clipped_by_default():
    env = suite_gym.load("Pendulum-v1")
    assert env.action_spec() == BoundedTensorSpec((1,), torch.float32, -1, 1)
    assert bare(env) == ["ContinuousActionClip", "NormalizedAction"]
    plain = suite_gym.wrap_env(gymnasium.make("Pendulum-v1").unwrapped, normalize_action=False, clip_action=False)
    assert plain.action_spec() == BoundedTensorSpec((1,), torch.float32, -2, 2) and bare(plain) == []


def test_normalization_is_left_out_where_it_does_nothing():
    assert bare(suite_gym.load("MountainCarContinuous-v0")) == ["ContinuousActionClip"]


class Picture(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((4, 5, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((4, 5, 3), np.uint8), 0.0, False, False, {}


def test_images_have_channels_first_by_default():
    assert suite_gym.wrap_env(Picture()).observation_spec().shape == (3, 4, 5)
    assert suite_gym.wrap_env(Picture(), image_channel_first=False).observation_spec().shape == (4, 5, 3)
    assert suite_gym.wrap_env(Picture()).reset().observation.shape == (3, 4, 5)


def test_wrappers_are_applied_from_the_inside_out():
    env = suite_gym.wrap_env(
        Picture(),
        max_episode_steps=5,
        gym_env_wrappers=[gym_wrappers.FrameGrayScale, gym_wrappers.FrameStack],
        alf_env_wrappers=[alf_wrappers.ActionObservationWrapper],
    )
    assert isinstance(env, alf_wrappers.ActionObservationWrapper)
    assert isinstance(env.wrapped_env(), alf_wrappers.TimeLimit)
    assert env.observation_spec()["observation"].shape == (4, 4, 5)


def test_render_needs_no_mode_in_advance():
    env = suite_gym.load("CartPole-v1")
    env.reset()
    assert env.gym.render_mode is None
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3


@pytest.mark.parametrize(
    "old, new",
    [
        ("Pendulum-v0", "Pendulum-v1"),
        ("BipedalWalker-v2", "BipedalWalker-v3"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("LunarLanderContinuous-v2", "LunarLanderContinuous-v3"),
        ("HalfCheetah-v2", "HalfCheetah-v5"),
        ("Walker2d-v3", "Walker2d-v5"),
        ("Taxi-v3", "Taxi-v4"),
        ("FetchReach-v1", "FetchReach-v4"),
        ("FetchPickAndPlaceDense-v1", "FetchPickAndPlaceDense-v4"),
    ],
)
def test_retired_id_has_a_successor_with_one_warning(old, new, caplog):
    with caplog.at_level(logging.WARNING):
        assert registry.successor(old) == (new, {})
        registry.successor(old)
    assert [record.message for record in caplog.records] == [f"{old} is retired: using its successor {new}."]


@pytest.mark.parametrize("env_id", ["CartPole-v0", "CartPole-v1", "HalfCheetah-v4", "HalfCheetah-v5", "ALE/Pong-v5"])
def test_living_id_stays_without_warning(env_id, caplog):
    assert registry.successor(env_id) == (env_id, {})
    assert not caplog.records


def test_successors_exist_in_gymnasium():
    missing = {new for new in registry.RETIRED.values() if new not in gymnasium.registry}
    assert all(new.startswith("Fetch") for new in missing), missing


@pytest.mark.parametrize(
    "old",
    [
        "PongNoFrameskip-v4",
        "SpaceInvadersNoFrameskip-v0",
        "BreakoutDeterministic-v4",
        "SpaceInvadersDeterministic-v4",
    ],
)
def test_retired_atari_id_keeps_its_settings(old):
    pytest.importorskip("ale_py")
    from ale_py import registration

    gymnasium.register_envs(registration)
    new, kwargs = registry.successor(old)
    got = {**gymnasium.spec(new).kwargs, **kwargs}
    old_name = old.replace("Deterministic", "NoFrameskip")
    expected = dict(gymnasium.spec(old_name).kwargs)
    if "Deterministic" in old:
        expected["frameskip"] = 3 if "SpaceInvaders" in old else 4
    assert got == expected


def test_unknown_id_suggests_the_nearest():
    with pytest.raises(ValueError, match="got 'CartPoll-v1'. Did you mean 'CartPole-v1'"):
        suite_gym.load("CartPoll-v1")


def test_id_of_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs the package minigrid.*: pip install minigrid\."):
        suite_gym.load("MiniGrid-Empty-5x5-v0")


def test_environment_of_a_missing_package_names_the_extra(monkeypatch):

    def fail(spec):
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(registry.gymnasium, "make", fail)
    spec = gymnasium.spec("LunarLander-v3")
    with pytest.raises(ImportError, match=r"'LunarLander-v3' needs packages .*pip install 'alf-rl\[box2d\]', or in a "
                                          r"checkout: pip install -e '\.\[box2d\]'\."):
        registry.make(spec)


def test_module_and_id_imports_the_module(tmp_path, monkeypatch):
    (tmp_path / "my_envs_for_test.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyCartPole-v0', 'gymnasium.envs.classic_control.cartpole:CartPoleEnv',"
        " max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert suite_gym.load("my_envs_for_test:MyCartPole-v0").duration == 9
    gymnasium.registry.pop("MyCartPole-v0")


def test_id_known_to_the_old_gym_package_only(monkeypatch):

    class Space:
        n = 2

    Space.__name__ = "Discrete"

    class Env:
        observation_space = action_space = Space()
        metadata = {}
        spec = None

        def reset(self):
            return 0

        def step(self, action):
            return 1, 1.0, False, {}

    gym = types.ModuleType("gym")
    gym.error = types.SimpleNamespace(Error=KeyError)
    gym.spec = lambda name: {"Ancient-v0": types.SimpleNamespace(id="Ancient-v0", max_episode_steps=4)}[name]
    gym.make = lambda name: Env()
    monkeypatch.setitem(sys.modules, "gym", gym)
    monkeypatch.setattr(suite_gym.importlib.util, "find_spec", lambda name: True)
    env = suite_gym.load("Ancient-v0")
    assert env.duration == 4 and env.reset().observation == 0 and env.step(np.asarray(1)).observation == 1
    with pytest.raises(ValueError, match="expected a registered environment, got 'Unheard-v0'"):
        suite_gym.load("Unheard-v0")


def test_missing_module_before_the_colon_is_told():
    with pytest.raises(ImportError, match=r"registered by the package 'nosuchpackage', which is not installed"):
        suite_gym.load("nosuchpackage:Id-v0")


def test_unknown_atari_game_names_the_nearest_without_noise(caplog, recwarn):
    pytest.importorskip("ale_py")
    with pytest.raises(ValueError, match="Did you mean.*ALE/Pong-v5"):
        suite_gym.load("ALE/Ponk-v5")
    assert not [warning for warning in recwarn if "Overriding" in str(warning.message)]
