"""Native batches of classic-control environments: bit for bit what Gymnasium does."""

import json

import gymnasium
import numpy as np
import pytest
import torch

from alf.data_structures import StepType
from alf.environments import native_batch, suite_gym, suite_native
from alf.environments.utils import create_environment
from alf.utils._checkpoint_codec import Encoder, decode

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)
FIELDS = ("step_type", "reward", "discount", "observation", "prev_action")
NAMES = ["CartPole-v0", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Acrobot-v1"]

needs_native = pytest.mark.skipif(not native_batch.is_built(), reason="the extension was not built")


def act(name, observation, rng):
    """Return actions ``[B]`` or ``[B, 1]`` that bring episodes to all their ends: often good ones, and random ones."""
    size, columns = len(observation), np.asarray(observation, np.float64).T
    is_random = rng.random(size) < 0.1
    if name.startswith("CartPole"):
        is_random |= np.arange(size) % 2 == 1  # good ones reach the time limit, random ones do not
        good, chance = columns[2] + 0.5 * columns[3] + 0.1 * columns[1] > 0, rng.integers(0, 2, size)
        return np.where(is_random, chance, good).astype(np.int64)
    if name == "Pendulum-v1":
        return rng.uniform(-1.5, 1.5, (size, 1)).astype(np.float32)
    forward = columns[5 if name == "Acrobot-v1" else 1] >= 0
    # The last row does not try, so that its episodes are ended by the time limit.
    forward[-1] = rng.random() < 0.5
    if name == "MountainCarContinuous-v0":
        strength = rng.uniform(0.4, 1.3, size)
        return np.where(forward, strength, -strength)[:, None].astype(np.float32)
    return np.where(is_random, rng.integers(0, 3, size), np.where(forward, 2, 0)).astype(np.int64)


def copies(time_step):
    return {field: getattr(time_step, field).clone() for field in FIELDS}


def assert_equal(left, right):
    for field in FIELDS:
        assert torch.equal(left[field], right[field]), field


def steps_of(env, name, num_steps, rng):
    """Return the time steps that follow, with the actions that ``rng`` gives."""
    found = []
    for _ in range(num_steps):
        found.append(copies(env.step(torch.from_numpy(act(name, env.current_time_step().observation, rng)))))
    return found


class Original:
    """One environment of Gymnasium itself, stepped as the contract of time steps says."""

    def __init__(self, name, seed):
        self.env = gymnasium.make(name)  # with the time limit of Gymnasium
        self.seed = seed
        self.ended = True

    def step(self, action):
        """Return step type, reward, discount and observation."""
        if self.ended:
            observation, _ = self.env.reset(seed=self.seed)
            self.seed, self.ended = None, False
            return FIRST, 0.0, 1.0, observation
        if isinstance(self.env.action_space, gymnasium.spaces.Box):
            action = np.clip(action, -1, 1) * self.env.action_space.high
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self.ended = terminated or truncated
        return LAST if self.ended else MID, reward, 0.0 if terminated else 1.0, observation


def load(name, batch_size=3, seed=7, **kwargs):
    env = suite_native.load(name, batch_size=batch_size, **kwargs)
    env.seed(seed)
    return env


@needs_native
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 12345, 2**40])
def test_every_bit_is_that_of_gymnasium(name, seed):
    batch_size = 4
    env = load(name, batch_size, seed)
    originals = [Original(name, seed + i) for i in range(batch_size)]
    rng = np.random.default_rng(seed)
    action = act(name, np.zeros((batch_size, 6)), rng)
    ends = set()
    for t in range(1200):
        step = env.reset() if t == 0 else env.step(torch.from_numpy(action))
        for i, original in enumerate(originals):
            step_type, reward, discount, observation = original.step(action[i])
            assert (step_type, np.float32(reward), discount) == (
                int(step.step_type[i]), step.reward[i].item(), step.discount[i].item()), (t, i)
            np.testing.assert_array_equal(step.observation[i].numpy(), observation.astype(np.float32))
            np.testing.assert_array_equal(step.prev_action[i].numpy(), action[i] * (step_type != FIRST))
            ends |= {discount} if step_type == LAST else set()
        action = act(name, step.observation, rng)
    # 1.0: a time limit has ended an episode, 0.0: the task has.
    assert ends == ({1.0} if name == "Pendulum-v1" else {0.0, 1.0})


@needs_native
@pytest.mark.parametrize("name", NAMES)
def test_it_is_what_suite_gym_loads(name):
    env, original = load(name), suite_gym.load(name)
    for spec in ("observation_spec", "action_spec", "reward_spec", "env_info_spec", "time_step_spec"):
        assert getattr(env, spec)() == getattr(original, spec)()
    step = env.reset()
    assert step.env_id.tolist() == [0, 1, 2] and step.env_info == {} and step.untransformed == ()


@needs_native
def test_discount_and_time_limit_can_be_chosen():
    env = load("CartPole-v1", discount=0.9, max_episode_steps=5, env_id=2)
    assert env.reset().env_id.tolist() == [6, 7, 8]
    rng = np.random.default_rng(0)
    found = steps_of(env, "CartPole-v1", 6, rng)
    assert [step["step_type"][0].item() for step in found] == [MID] * 4 + [LAST, FIRST]
    assert [round(step["discount"][0].item(), 6) for step in found] == [0.9] * 5 + [1.0]
    endless = load("Pendulum-v1", max_episode_steps=0)
    endless.reset()
    assert all((step["step_type"] == MID).all() for step in steps_of(endless, "Pendulum-v1", 250, rng))


@needs_native
def test_one_seed_counts_up_and_a_list_seeds_each():
    env, other = load("CartPole-v1", seed=5), load("CartPole-v1", seed=[7, 6, 5])
    assert torch.equal(env.reset().observation, other.reset().observation.flip(0))
    assert not torch.equal(env.reset().observation, other.reset().observation)
    with pytest.raises(ValueError, match="seeds: expected 3 seeds, one for each environment, got 2"):
        env.seed([1, 2])


@needs_native
def test_rows_that_are_not_seeded_differ():
    env = suite_native.load("CartPole-v1", batch_size=3)
    assert len(set(env.reset().observation[:, 0].tolist())) == 3


@needs_native
def test_a_new_seed_waits_for_the_next_reset():
    env, other = load("Pendulum-v1", seed=1), load("Pendulum-v1", seed=1)
    env.reset()
    other.reset()
    env.seed(9)
    ours, theirs = (steps_of(each, "Pendulum-v1", 202, np.random.default_rng(0)) for each in (env, other))
    assert_equal(ours[199], theirs[199])
    assert not torch.equal(ours[200]["observation"], theirs[200]["observation"])
    assert torch.equal(ours[200]["observation"], load("Pendulum-v1", seed=9).reset().observation)


def through_a_checkpoint(state):
    encoder = Encoder()
    return decode(encoder.encode(state, "state"), encoder.tensors)


def through_json(state):
    return json.loads(json.dumps(state, default=lambda array: array.tolist()))


@needs_native
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("through", [through_a_checkpoint, through_json, lambda state: state])
def test_a_batch_goes_on_from_the_state_of_another(name, through):
    one, other = load(name, seed=1), load(name, seed=50)
    rng = np.random.default_rng(0)
    one.reset()
    steps_of(one, name, 90, rng)
    one.seed(3)  # not used yet
    state = through(one.get_state())
    now = copies(one.current_time_step())
    expected = steps_of(one, name, 400, np.random.default_rng(1))
    other.set_state(state)
    assert_equal(copies(other.current_time_step()), now)
    for left, right in zip(expected, steps_of(other, name, 400, np.random.default_rng(1)), strict=True):
        assert_equal(left, right)
    one.set_state(state)  # back in time
    assert_equal(steps_of(one, name, 1, np.random.default_rng(1))[0], expected[0])


@needs_native
def test_the_state_of_something_else_is_refused():
    env = load("CartPole-v1")
    with pytest.raises(RuntimeError, match=r"expected reset\(\) before"):
        env.get_state()
    with create_environment("CartPole-v1", num_parallel_environments=3, native=False) as pool:
        pool.reset()
        with pytest.raises(ValueError, match="native batch of CartPole, got those of 3 environments.*native=False"):
            env.set_state(pool.get_state())
    other = load("Pendulum-v1")
    other.reset()
    with pytest.raises(ValueError, match="native batch of CartPole, got that of Pendulum"):
        env.set_state(other.get_state())
    smaller = load("CartPole-v1", batch_size=2)
    smaller.reset()
    with pytest.raises(ValueError, match="state: expected 12 numbers"):
        env.set_state(smaller.get_state())


@needs_native
def test_time_steps_stay_valid_as_long_as_promised():
    env = load("CartPole-v1")
    env.reserve_rows(7)
    assert env.num_valid_steps == 6
    kept = [env.reset()]
    rng = np.random.default_rng(0)
    expected = [copies(kept[0])]
    for _ in range(6):
        kept.append(env.step(torch.from_numpy(act("CartPole-v1", kept[-1].observation, rng))))
        expected.append(copies(kept[-1]))
    for step, copy in zip(kept, expected, strict=True):
        assert_equal(copies(step), copy)
    with pytest.raises(RuntimeError, match="8 time steps cannot be reserved after the first reset"):
        env.reserve_rows(8)


@needs_native
def test_actions_of_other_types_mean_the_same():
    env, other = load("Pendulum-v1"), load("Pendulum-v1")
    env.reset()
    other.reset()
    action = torch.tensor([[0.5], [-0.25], [0.125]])
    expected = copies(env.step(action))
    with_gradient = action.clone().requires_grad_()
    strided = torch.stack([action, action], 1)[:, 0]
    for variant in (with_gradient, action.double(), action.numpy(), action.tolist(), strided):
        state = other.get_state()
        assert_equal(copies(other.step(variant)), expected)
        other.set_state(state)
    env, other = load("CartPole-v1"), load("CartPole-v1")
    env.reset()
    other.reset()
    assert_equal(copies(env.step(torch.tensor([0, 1, 1]))), copies(other.step(np.array([0, 1, 1], np.int32))))


@needs_native
@pytest.mark.parametrize("name, action, words", [
    ("CartPole-v1", [0, 2, 1], "action of environment 1: expected 0 to 1, got 2"),
    ("CartPole-v1", [0, 1, -1], "action of environment 2: expected 0 to 1, got -1"),
    ("CartPole-v1", [0, 1], r"action: expected shape \(3,\) and dtype torch.int64, got \(2,\)"),
    ("CartPole-v1", [0.0, 1.0, 0.0], "dtype torch.int64, got .* and torch.float32"),
    ("Pendulum-v1", [[0.0], [float("nan")], [0.0]], "action of environment 1: expected a finite number, got nan"),
    ("Pendulum-v1", [0.0, 0.0, 0.0], r"expected shape \(3, 1\)"),
])
def test_a_wrong_action_is_refused_and_steps_nothing(name, action, words):
    env, other = load(name), load(name)
    env.reset()
    other.reset()
    with pytest.raises(ValueError, match=words):
        env.step(torch.tensor(action))
    right = torch.from_numpy(act(name, other.current_time_step().observation, np.random.default_rng(0)))
    assert_equal(copies(env.step(right)), copies(other.step(right)))


@needs_native
def test_arguments_out_of_range_are_errors():
    for kwargs, words in (
        (dict(discount=1.5), "0 <= discount <= 1, got 1.5"),
        (dict(max_episode_steps=-1), "max_episode_steps: expected >= 0, got -1"),
        (dict(batch_size=0), "batch_size: expected >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            suite_native.load("CartPole-v1", **kwargs)
    with pytest.raises(ValueError, match="'LunarLander-v3': there is none for 'LunarLander-v3', only for Acrobot-v1"):
        suite_native.load("LunarLander-v3")


@needs_native
def test_it_cannot_render_and_says_what_can():
    with pytest.raises(NotImplementedError, match="create_environment.native=False"):
        load("CartPole-v1").render()
