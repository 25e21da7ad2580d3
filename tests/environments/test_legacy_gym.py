"""Environments of the old gym API, without the gym package."""

import gymnasium
import numpy as np
import pytest

import alf.environments.suite_gym as suite_gym
from alf.environments._legacy_gym import LegacyGymAdapter, convert_space, is_legacy_env
from alf.environments._rows import FIRST, LAST, MID
from alf.environments.alf_gym_wrapper import AlfGymWrapper


class Box:
    """Stands for gym.spaces.Box."""

    def __init__(self, low, high, shape, dtype=np.float32):
        self.low, self.high = np.full(shape, low, dtype), np.full(shape, high, dtype)
        self.shape, self.dtype = shape, np.dtype(dtype)


class Discrete:
    def __init__(self, n):
        self.n = n


class Dict:
    def __init__(self, spaces):
        self.spaces = spaces


class Tuple:
    def __init__(self, spaces):
        self.spaces = spaces


class OldEnv:
    """The API of gym before 0.26."""

    observation_space = Box(0, 100, (1,))
    action_space = Discrete(2)
    metadata = {"render.modes": ["rgb_array"]}

    def __init__(self, length=2, truncated=False):
        self.length, self.truncated = length, truncated

    def seed(self, seed=None):
        self.seeded = seed

    def reset(self):
        self.t = 0
        return [0.0]

    def step(self, action):
        self.t += 1
        done = self.t == self.length
        info = {"TimeLimit.truncated": True} if done and self.truncated else {}
        return np.full(1, self.t, np.float64), np.array([2.0]), np.bool_(done), info

    def render(self, mode="human"):
        return np.zeros((2, 2, 3), np.uint8) if mode == "rgb_array" else None


class NewerEnv(OldEnv):
    """The API of gym 0.26."""

    def reset(self, seed=None, options=None):
        self.seeded = seed
        return np.array(super().reset(), np.float32), {"x": 1.0}

    def step(self, action):
        observation, reward, done, _ = super().step(action)
        return (
            observation,
            reward,
            bool(done) and not self.truncated,
            bool(done) and self.truncated,
            {"x": 2.0},
        )


@pytest.mark.parametrize("env_class", [OldEnv, NewerEnv])
@pytest.mark.parametrize("truncated", [False, True])
def test_old_environment_makes_the_same_time_steps(env_class, truncated):
    env = AlfGymWrapper(env_class(truncated=truncated))
    steps = [env.reset()] + [env.step(np.asarray(1)) for _ in range(3)]
    assert [int(s.step_type) for s in steps] == [FIRST, MID, LAST, FIRST]
    assert [float(s.discount) for s in steps] == [1, 1, float(truncated), 1]
    assert [float(s.reward) for s in steps] == [0, 2, 2, 0]
    assert [float(s.observation[0]) for s in steps] == [0, 1, 2, 0]
    assert steps[0].observation.dtype == np.float32


@pytest.mark.parametrize("env_class", [OldEnv, NewerEnv])
def test_seed_reaches_the_old_environment(env_class):
    old = env_class()
    env = suite_gym.wrap_env(old)
    env.seed(7)
    env.reset()
    assert old.seeded == 7


def test_old_environment_renders():
    assert AlfGymWrapper(OldEnv()).render().shape == (2, 2, 3)


def test_old_spaces_are_converted():
    old = Dict({"a": Tuple([Discrete(3), Box(-1, 1, (2,), np.float64)])})
    spaces = gymnasium.spaces
    assert convert_space(old) == spaces.Dict(a=spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float64)]))


def test_unknown_old_space_is_an_error():
    with pytest.raises(TypeError, match="expected an old gym Box"):
        convert_space(object())


def test_checker_that_needs_an_old_numpy_is_removed():

    class PassiveEnvChecker:
        def __init__(self, env):
            self.env = env
            self.observation_space, self.action_space = env.observation_space, env.action_space

        def reset(self):
            return self.env.reset()

        def step(self, action):
            raise AttributeError("module 'numpy' has no attribute 'bool8'")

    class Wrapper(OldEnv):
        def __init__(self, env):
            self.env = env

        def reset(self):
            return self.env.reset()

        def step(self, action):
            return self.env.step(action)

    inner = OldEnv()
    for env in (PassiveEnvChecker(inner), Wrapper(PassiveEnvChecker(inner))):
        adapter = LegacyGymAdapter(env)
        adapter.reset()
        assert adapter.step(0)[0][0] == 1


def test_gymnasium_environment_is_not_legacy():
    assert is_legacy_env(OldEnv())
    assert not is_legacy_env(gymnasium.make("CartPole-v1"))
    assert not is_legacy_env(3)
