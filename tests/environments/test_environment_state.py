"""The state of an environment: set in another one like it, both go on alike."""

import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.wrappers import ClipAction, OrderEnforcing

import alf.nest as nest
from alf.environments import suite_gym
from alf.environments.alf_environment import ForeignStateError
from alf.environments.alf_wrappers import TensorWrapper, TimeLimit
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.gym_wrappers import DMAtariPreprocessing, FrameSkip, FrameStack
from alf.utils._checkpoint_codec import Encoder, decode

limit = functools.partial(gymnasium.wrappers.TimeLimit, max_episode_steps=200)
NAMES = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]
MUJOCO = ["HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Reacher-v5"]


def through_a_checkpoint(state):
    """Return what a checkpoint makes of a state."""
    encoder = Encoder()
    return decode(encoder.encode(state, "state"), encoder.tensors)


def load(name, **kwargs):
    if name in MUJOCO:
        pytest.importorskip("mujoco")
    return suite_gym.load(name, **kwargs)


def assert_equal(left, right):
    for a, b in zip(nest.flatten(left), nest.flatten(right), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", NAMES + MUJOCO)
def test_an_environment_goes_on_from_the_state_of_another(name):
    one, other = load(name), load(name)
    rng = np.random.default_rng(0)
    spec = one.action_spec()

    def action():
        if spec.is_discrete:
            return np.asarray(rng.integers(spec.minimum, spec.maximum + 1), spec.dtype_str)
        return rng.uniform(-1, 1, spec.shape).astype(np.float32)

    one.seed(1)
    other.seed(2)
    one.reset()
    other.reset()
    for _ in range(90):
        one.step(action())
    other.set_state(through_a_checkpoint(one.get_state()))
    for _ in range(400):  # over several episodes: the random numbers of resets belong to the state
        a = action()
        assert_equal(one.step(a), other.step(a))


@pytest.mark.parametrize("wrappers", [
    [DMAtariPreprocessing, functools.partial(FrameStack, stack_size=3)],
    [functools.partial(gymnasium.wrappers.AtariPreprocessing, grayscale_newaxis=True)],
], ids=["ours", "gymnasium"])
def test_an_atari_game_goes_on_from_the_state_of_another(wrappers):
    gymnasium.register_envs(pytest.importorskip("ale_py"))
    # Actions stick with a probability: the random numbers of the emulator belong to the state as well.
    one, other = (suite_gym.wrap_env(gymnasium.make("ALE/Breakout-v5", frameskip=1), gym_env_wrappers=wrappers)
                  for _ in range(2))
    rng = np.random.default_rng(0)
    one.seed(1)
    other.seed(2)
    one.reset()
    other.reset()
    for _ in range(90):
        one.step(rng.integers(4))
    other.set_state(through_a_checkpoint(one.get_state()))
    step_types = []
    for _ in range(250):
        action = rng.integers(4)
        expected = one.step(action)
        assert_equal(expected, other.step(action))
        step_types.append(int(expected.step_type))
    assert 2 in step_types  # a game was lost on the way, and another begun


def test_a_state_right_after_an_episode_ended_is_followed_by_a_new_episode():
    one, other = (load("CartPole-v1", max_episode_steps=7) for _ in range(2))
    one.seed(1)
    one.reset()
    while not one.step(np.int64(0)).step_type == 2:
        pass
    other.set_state(one.get_state())
    expected, found = one.step(np.int64(0)), other.step(np.int64(0))
    assert expected.step_type == 0
    assert_equal(expected, found)


def test_wrappers_that_are_known_belong_to_the_state():
    make = functools.partial(load, "MountainCar-v0", gym_env_wrappers=[functools.partial(FrameSkip, skip=3)],
                             alf_env_wrappers=[functools.partial(TimeLimit, duration=9)])
    one, other = make(), make()
    one.seed(1)
    one.reset()
    for _ in range(5):
        one.step(np.int64(2))
    other.set_state(one.get_state())
    for _ in range(30):
        assert_equal(one.step(np.int64(2)), other.step(np.int64(2)))


def test_a_wrapper_that_is_not_known_leaves_no_state():

    class Counting(gymnasium.Wrapper):
        """Keeps something that nobody else knows of."""

    assert load("CartPole-v1", gym_env_wrappers=[Counting]).get_state() is None


def test_a_subclass_of_a_known_environment_is_not_known():
    from gymnasium.envs.classic_control import CartPoleEnv

    class Windy(CartPoleEnv):
        """May keep more than its parent."""

    assert suite_gym.wrap_env(Windy()).get_state() is None


def test_the_state_of_another_environment_is_refused():
    with pytest.raises(ValueError, match="expected an environment of class .*PendulumEnv, got .*MountainCarEnv"):
        load("MountainCar-v0").set_state(load_started("Pendulum-v1").get_state())


def chain(*wrappers):
    """Return a Pendulum in Gymnasium's wrappers, the innermost first."""
    env = PendulumEnv()
    for wrapper in (OrderEnforcing, *wrappers):
        env = wrapper(env)
    return suite_gym.wrap_env(env, clip_action=False, normalize_action=False)


@pytest.mark.parametrize("wrappers", [(limit, ClipAction), (ClipAction, limit), (), (limit, limit)],
                         ids=["one added outside", "one added inside", "one removed", "one twice"])
def test_the_state_of_other_wrappers_is_refused_with_both_chains(wrappers):
    one, other = chain(limit), chain(*wrappers)
    one.reset()
    state = through_a_checkpoint(one.get_state())
    with pytest.raises(ForeignStateError) as raised:
        other.set_state(state)
    saved, found = str(raised.value).split(", got ")
    for layers, env in ((saved, one), (found, other)):
        assert layers.endswith(" > ".join(env.layers()[1:])), layers


def test_states_without_the_names_of_wrappers_are_still_accepted():
    one, other = chain(limit), chain(limit)
    one.seed(1)
    one.reset()
    state = one.get_state()
    del state["gym"]["layers"]
    other.set_state(through_a_checkpoint(state))
    action = np.zeros(1, np.float32)
    assert_equal(one.step(action), other.step(action))
    with pytest.raises(ForeignStateError, match="expected the attributes .*_elapsed_steps"):
        chain().set_state(through_a_checkpoint(state))


def test_a_state_sets_only_what_belongs_to_the_environment():
    env = chain(limit)
    env.reset()
    state = env.get_state()
    gravity = env.gym.unwrapped.g
    for layer in (state["gym"]["attributes"], state["gym"]["wrappers"][0]):
        wrong = dict(layer)
        layer.update(g=1e9, step="no method")
        with pytest.raises(ForeignStateError, match="expected the attributes .*'g'"):
            env.set_state(through_a_checkpoint(state))
        layer.clear()
        layer.update(wrong)
    assert env.gym.unwrapped.g == gravity and callable(env.gym.unwrapped.step)
    env.set_state(through_a_checkpoint(state))


def test_a_state_sets_only_what_belongs_to_wrappers_of_ours():
    env = TimeLimit(load("CartPole-v1"), duration=5)
    env.reset()
    state = env.get_state()
    state["own"]["_env"] = "nothing"
    with pytest.raises(ForeignStateError, match="TimeLimit: expected the attributes .*'_env'"):
        env.set_state(through_a_checkpoint(state))
    with pytest.raises(ForeignStateError, match="expected an environment of class .*TimeLimit > .*AlfGymWrapper"):
        TensorWrapper(TimeLimit(load("CartPole-v1"), duration=5)).set_state(env.get_state())


def test_a_state_with_values_of_other_kinds_is_told_as_damaged():
    env = chain(limit)
    env.reset()
    for damage in ({"random": "x"}, {"random": {}}, {"wrappers": 5}, {"attributes": {"state": {"generator": {}},
                                                                                  "last_u": None}}):
        state = env.get_state()
        state["gym"].update(damage)
        with pytest.raises(ForeignStateError):
            env.set_state(state)


def load_started(name):
    env = load(name)
    env.reset()
    return env


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_goes_on_from_the_state_of_another(num_workers):
    make = functools.partial(suite_gym.load, "CartPole-v1")
    with FastParallelEnvironment([make] * 3, num_workers=num_workers) as one, \
            FastParallelEnvironment([make] * 3, num_workers=0) as other:
        one.seed(1)
        one.reset()
        other.reset()
        actions = torch.randint(2, (200, 3))
        for action in actions[:50]:
            one.step(action)
        other.set_state(through_a_checkpoint(one.get_state()))
        for action in actions[50:]:
            a, b = one.step(action), other.step(action)
            assert torch.equal(a.observation, b.observation) and torch.equal(a.step_type, b.step_type)


def test_a_batch_of_another_size_is_refused():
    make = functools.partial(suite_gym.load, "CartPole-v1")
    with FastParallelEnvironment([make] * 2, num_workers=0) as env:
        env.reset()
        state = env.get_state()
        with pytest.raises(ValueError, match="expected the states of 2 environments, got 1"):
            env.set_state(state[:1])
