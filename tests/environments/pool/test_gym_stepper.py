"""Plain steps made by native code: the same time steps, errors and state as those made in Python."""

import collections
import functools
import gc
import re
import sys
import traceback
import warnings

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.suite_gym as suite_gym
import alf.nest as nest
from alf.environments._pool import _backend
from alf.environments._pool._latency import LatencySampler
from alf.environments._pool._segment import Layout, Segment, Specs
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from alf.environments.alf_wrappers import NonEpisodicAgent, RandomFirstEpisodeLength, TimeLimit
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.gym_wrappers import ContinuousActionClip

pytest.importorskip("alf._parallel_env")
spaces = gymnasium.spaces


@pytest.fixture(autouse=True)
def no_samples_of_latency(monkeypatch):
    """Measured steps are made in Python; here it is told from the steps made in Python which were refused."""
    monkeypatch.setattr(LatencySampler, "is_due", lambda self: False)


class Scripted(gymnasium.Env):
    """Observation = number of steps; step ``at`` returns something else, all others plain results."""

    def __init__(self, change=None, at=4, length=7, info=None, observation_dtype=np.float32, action_space=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), observation_dtype)
        self.action_space = action_space or spaces.Discrete(3)
        self._change, self._at, self._length = change, at, length
        self._first_info = info or {}
        self._num_steps = 0
        self.actions = []

    def reset(self, *, seed=None, options=None):
        self._t = 0
        return np.zeros(2, self.observation_space.dtype), dict(self._first_info)

    def step(self, action):
        self._t += 1
        self._num_steps += 1
        self.actions.append(action)
        observation = np.array([self._t, -0.5], self.observation_space.dtype)
        result = [observation, 0.1 * self._t, self._t == self._length, False, dict(self._first_info)]
        if self._change is not None and self._num_steps == self._at:
            result = self._change(result)
        return tuple(result) if type(result) is list and len(result) == 5 else result


def outcomes(make, backend, num_steps=12, batch_size=3, actions=None, num_workers=0):
    """Return each time step of a pool as bytes, or its error as text with notes, and the environments."""
    env = FastParallelEnvironment([make] * batch_size, backend=backend, num_workers=num_workers)
    env.seed(list(range(batch_size)))
    env.reset()
    generator = np.random.default_rng(1)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # overflow in a cast
        for t in range(num_steps):
            batch = sample(env.action_spec(), batch_size, generator) if actions is None else actions[t]
            try:
                time_step = env.step(torch.as_tensor(batch))
            except Exception as error:
                found.append((type(error), str(error), tuple(error.__notes__)))
                env.reset()
            else:
                leaves = nest.flatten(time_step._replace(untransformed=()))
                found.append([(leaf.dtype, leaf.numpy().tobytes()) for leaf in leaves])
    envs = env.envs if num_workers == 0 else []
    env.close()
    return found, envs


def sample(spec, batch_size, generator):
    if spec.is_discrete:
        return generator.integers(0, int(spec.maximum) + 1, batch_size)
    return generator.uniform(-1.5, 1.5, (batch_size, *spec.shape)).astype(np.float32)


def assert_equal_outcomes(make, **kwargs):
    native, native_envs = outcomes(make, "native", **kwargs)
    python, python_envs = outcomes(make, "python", **kwargs)
    assert len(native) == len(python)
    for t, (got, expected) in enumerate(zip(native, python)):
        assert got == expected, t
    return native, native_envs, python_envs


@pytest.fixture
def python_steps(monkeypatch):
    """Return the list to which every call of ``AlfGymWrapper.step_into`` appends the step type it returned."""
    calls, step_into = [], AlfGymWrapper.step_into

    def counted(self, rows, index, action):
        calls.append(step_into(self, rows, index, action))
        return calls[-1]

    monkeypatch.setattr(AlfGymWrapper, "step_into", counted)
    return calls


@pytest.mark.parametrize(
    "name, num_steps, module",
    [
        ("CartPole-v1", 3000, "gymnasium"),
        ("MountainCarContinuous-v0", 1200, "gymnasium"),
        ("LunarLander-v3", 1000, "Box2D"),
        ("HalfCheetah-v5", 1100, "mujoco"),
    ],
)
def test_time_steps_of_known_environments_are_those_of_python(name, num_steps, module, python_steps):
    pytest.importorskip(module)
    make = functools.partial(suite_gym.load, name)
    native, _ = outcomes(make, "native", num_steps, batch_size=2)
    mids_in_python, lasts = python_steps.count(1), python_steps.count(2)
    # A limit is counted in Python: its last step is MID there before it is marked as LAST.
    assert len(python_steps) < num_steps / 10 and mids_in_python <= 2 and lasts + mids_in_python >= 2
    assert native == outcomes(make, "python", num_steps, batch_size=2)[0]


def test_workers_make_the_same_time_steps():
    make = functools.partial(suite_gym.load, "CartPole-v1")
    expected, _ = outcomes(make, "python", 200, batch_size=4)
    assert outcomes(make, "native", 200, batch_size=4, num_workers=2)[0] == expected


def replace(index, value):
    """Return a change of a Scripted step that puts ``value`` in place ``index`` of its result."""

    def change(result):
        return (*result[:index], value, *result[index + 1 :])

    return change


REWARDS = [
    *(0.1, -0.0, 5e-324, 1e-42, 3.4028234e38, 3.4028236e38, 1e39, 2**24 + 1, 2**53 + 1, 2**62 + 2**38 + 1, 10**400),
    *(float("nan"), float("inf"), -float("inf"), True, np.True_, None, "1", 1j),
    *(np.float64(0.1), np.float32(0.1), np.float16(0.1), np.longdouble("0.1"), np.float64(1e300)),
    *(np.int8(-3), np.int32(7), np.int64(2**62 + 2**38 + 1), np.uint64(2**63), np.int64(-1)),
    *(np.array(0.25), np.array(1e300), np.array([0.25]), np.array(["a"])),
    type("MyFloat", (float,), {})(0.75),
]


@pytest.mark.parametrize("reward", REWARDS, ids=lambda value: f"{type(value).__name__} {value}"[:40])
def test_rewards_of_all_kinds_are_read_as_in_python(reward):
    assert_equal_outcomes(functools.partial(wrapped, replace(1, reward)))


def wrapped(change=None, env_id=0, discount=0.9, limit=0, faulty=1, **kwargs):
    """Return a Scripted environment as an AlfEnvironment; the change happens in environment ``faulty`` only."""
    env = AlfGymWrapper(Scripted(change if env_id == faulty else None, **kwargs), env_id=env_id, discount=discount)
    return TimeLimit(env, limit) if limit else env


OBSERVATIONS = {
    "wrong dtype": np.zeros(2, np.float16),
    "integers": np.zeros(2, np.int64),
    "other byte order": np.array([1, 2], np.float64).astype(">f8"),
    "wrong shape": np.zeros(3, np.float32),
    "one more axis": np.zeros((1, 2), np.float32),
    "not contiguous": np.arange(8, dtype=np.float32)[::4],
    "reversed": np.arange(2, dtype=np.float32)[::-1],
    "float64, not contiguous": np.arange(8, dtype=np.float64)[::4],
    "subclass": np.zeros(2, np.float32).view(np.matrix).view(type("Mine", (np.ndarray,), {})),
    "NaN": np.array([1, np.nan], np.float32),
    "infinity": np.array([np.inf, 1], np.float32),
    "float64": np.array([0.1, 1e-42]),
    "float64 NaN": np.array([np.nan, 0.1]),
    "float64 beyond float32": np.array([0.1, -1e300]),
    "read only": np.frombuffer(np.arange(2, dtype=np.float32).tobytes(), np.float32),
    "unaligned": np.frombuffer(b"x" + np.arange(2, dtype=np.float64).tobytes(), np.float64, 2, 1),
    "list": [0.0, 1.0],
    "none": None,
}


@pytest.mark.parametrize("declared", [np.float32, np.float64])
@pytest.mark.parametrize("observation", OBSERVATIONS.values(), ids=OBSERVATIONS.keys())
def test_observations_of_all_kinds_are_read_as_in_python(observation, declared):
    assert_equal_outcomes(functools.partial(wrapped, replace(0, observation), observation_dtype=declared))


@pytest.mark.parametrize("index", [2, 3])
@pytest.mark.parametrize("flag", [True, np.True_, np.False_, 1, 0, None, "False", np.array(False)], ids=repr)
def test_flags_of_all_kinds_are_read_as_in_python(flag, index):
    assert_equal_outcomes(functools.partial(wrapped, replace(index, flag)))


Five = collections.namedtuple("Five", "observation reward terminated truncated info")
ListOfFive = type("ListOfFive", (list,), {})
RESULTS = {
    "four values": lambda result: tuple(result[:2] + result[3:]),
    "six values": lambda result: (*result, 1),
    "a list": lambda result: ListOfFive(result),
    "a named tuple": lambda result: Five(*result),
    "a number": lambda result: 3,
    "raises": lambda result: [].pop(),
}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())
def test_results_of_all_kinds_are_read_as_in_python(result):
    found, _, _ = assert_equal_outcomes(functools.partial(wrapped, result))
    is_error = any(isinstance(each, tuple) for each in found)
    assert is_error != (result in (RESULTS["a list"], RESULTS["a named tuple"]))


def test_a_step_that_returns_none_is_made_once():
    make = functools.partial(wrapped, lambda result: None)
    found, envs, _ = assert_equal_outcomes(make, num_steps=4)
    assert "expected (observation, reward, terminated, truncated, info), got NoneType" in found[2][1]
    assert envs[1].gym._num_steps == 5  # one to learn env_info, four that were asked for


INFO = {"speed": 0.5, "count": 3, "won": False}
INFOS = {
    "as before": INFO,
    "other types": {"speed": np.float32(0.1), "count": np.int64(2**40), "won": np.True_},
    "integers as numbers": {"speed": 7, "count": True, "won": 1},
    "key missing": {"speed": 1.0, "won": True},
    "none": {"speed": None, "count": 1, "won": True},
    "late key": {**INFO, "late": 1.0},
    "NaN": {**INFO, "speed": float("nan")},
    "beyond float32": {**INFO, "speed": 1e300},
    "beyond int64": {**INFO, "count": 2**70},
    "float as integer": {**INFO, "count": 2.5},
    "text": {**INFO, "speed": "fast"},
    "array": {**INFO, "speed": np.array([1.0, 2.0])},
    "array of one number": {**INFO, "speed": np.array(2.5)},
    "ordered dictionary": collections.OrderedDict(INFO),
    "no dictionary": [1],
}


@pytest.mark.parametrize("info", INFOS.values(), ids=INFOS.keys())
def test_infos_of_all_kinds_are_written_as_in_python(info):
    assert_equal_outcomes(functools.partial(wrapped, replace(4, info), info=INFO))


NOT_SCALARS = [{"deep": {"x": 1.0}}, {"pair": np.array([1.0, 2.0])}, {"byte": np.uint8(7)}, {"text": "b"}]


@pytest.mark.parametrize("info", NOT_SCALARS, ids=str)
def test_infos_that_are_not_scalars_are_written_by_python(info):
    assert_equal_outcomes(functools.partial(wrapped, info=info))


def test_an_exception_keeps_its_traceback_and_names_its_environment():
    env = FastParallelEnvironment([functools.partial(wrapped, RESULTS["raises"], faulty=2)] * 3, num_workers=0)
    env.reset()
    with pytest.raises(IndexError, match="pop from empty list") as caught:
        for _ in range(4):
            env.step(torch.zeros(3, dtype=torch.int64))
    assert "raised by environment 2 in the main process, at step" in caught.value.__notes__[0]
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["step", "<lambda>"]
    assert env.reset().step_type.tolist() == [0, 0, 0]
    env.close()


@pytest.mark.parametrize("num_episodes", [0, 3])
@pytest.mark.parametrize("limit", [1, 2, 5, 7, 20])
def test_episode_lengths_are_counted_as_in_python(limit, num_episodes):

    def make(env_id):
        env = wrapped(env_id=env_id, limit=limit)
        env = RandomFirstEpisodeLength(env, 6, num_episodes)
        env.seed(env_id)
        return env

    _, native, python = assert_equal_outcomes(make, num_steps=60)
    for index in range(len(native)):
        for get in (lambda env: env, lambda env: env._env):
            assert get(native[index])._num_steps == get(python[index])._num_steps
            assert get(native[index])._reset_due == get(python[index])._reset_due


def test_other_wrappers_get_their_steps_in_python(python_steps):
    make = lambda env_id: NonEpisodicAgent(wrapped(env_id=env_id), discount=0.5)  # noqa: E731
    outcomes(make, "native", num_steps=10)
    assert len(python_steps) == 30


def test_subclasses_get_their_steps_in_python():

    class Doubles(AlfGymWrapper):
        def step_into(self, rows, index, action):
            step_type = super().step_into(rows, index, action)
            rows.reward[index] *= 2
            return step_type

    env = FastParallelEnvironment([lambda env_id: Doubles(Scripted())], num_workers=0)
    env.reset()
    assert env.step(torch.zeros(1, dtype=torch.int64)).reward.tolist() == pytest.approx([0.2])
    env.close()


def test_state_of_the_environment_follows_native_steps():

    change = replace(4, {"token": "of step 4"})
    env = FastParallelEnvironment([functools.partial(wrapped, change, faulty=0, length=5)], num_workers=0)
    env.reset()
    alf_env = env.envs[0]
    action = torch.zeros(1, dtype=torch.int64)
    for t in range(1, 6):
        env.step(action)
        # Step 4 of all, of which one was made to learn env_info.
        assert alf_env.get_info() == ({"token": "of step 4"} if t == 3 else {})
        assert alf_env.done == (t == 5)
    assert env.step(action).step_type.tolist() == [0] and not alf_env.done
    env.close()


SMALL_INTEGERS = spaces.Discrete(3)
SMALL_INTEGERS.dtype = np.dtype(np.int32)
ACTION_SPACES = [
    spaces.Discrete(3),
    SMALL_INTEGERS,
    spaces.Discrete(3, start=5),
    spaces.Discrete(5000),
    spaces.Box(-1, 1, (2,)),
    spaces.Box(-1, 1, ()),
    spaces.Box(-1, 1, (2,), np.float64),
    spaces.Box(0, 255, (3,), np.uint8),
    spaces.MultiDiscrete([3, 4]),
]


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_environments_are_given_the_same_actions(space):
    batches = [np.stack([np.asarray(space.sample()) for _ in range(2)]) for _ in range(8)]
    if isinstance(space, spaces.Discrete):
        batches = [batch - space.start for batch in batches]

    def make(env_id):
        return AlfGymWrapper(Scripted(action_space=space))

    _, native, python = assert_equal_outcomes(make, num_steps=8, batch_size=2, actions=batches)
    for index in range(len(native)):
        ours, theirs = native[index].gym.actions, python[index].gym.actions
        assert len(ours) == len(theirs) > 6
        for a, b in zip(ours, theirs):
            assert type(a) is type(b) and np.asarray(a).dtype == np.asarray(b).dtype
            assert np.shape(a) == np.shape(b) and np.array_equal(a, b)
            assert space.contains(a)


@pytest.mark.parametrize("low, high", [(-1, 1), (0, 1), ([-2, -0.5], [0.25, np.inf])])
def test_clipped_actions_are_those_of_the_wrapper(low, high, python_steps):
    space = spaces.Box(np.broadcast_to(np.float32(low), (2,)), np.broadcast_to(np.float32(high), (2,)))

    def make(env_id):
        return AlfGymWrapper(ContinuousActionClip(Scripted(action_space=space, length=100)))

    _, native, python = assert_equal_outcomes(make, num_steps=20)
    python_steps.clear()
    outcomes(make, "native", num_steps=20)
    assert not python_steps
    for index in range(len(native)):
        pairs = zip(native[index].gym.env.actions, python[index].gym.env.actions, strict=True)
        assert all(a.tobytes() == b.tobytes() and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("action", [-1, 3, 2**40])
def test_an_action_beyond_the_space_reaches_the_environment(action):

    def make(env_id):
        return wrapped(env_id=env_id)

    _, native, python = assert_equal_outcomes(make, num_steps=3, actions=[np.full(3, action)] * 3)
    assert native[0].gym.actions[1:] == python[0].gym.actions[1:] == [action] * 3


def test_an_environment_may_keep_its_actions_and_results():

    def make(env_id):
        return AlfGymWrapper(Scripted(action_space=spaces.Box(-1, 1, (2,)), length=100))

    env = FastParallelEnvironment([make], num_workers=0)
    env.reset()
    for value in (0.25, 0.5):
        env.step(torch.full((1, 2), value))
    kept = env.envs[0].gym.actions
    assert kept[1].tolist() == [0.25, 0.25] and kept[2].tolist() == [0.5, 0.5]
    env.close()


@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.Box(-1, 1, (2,))], ids=str)
def test_no_reference_is_lost_or_kept(space):
    observation, info, number = np.zeros(2, np.float32), {"x": 1.25, "n": 12345678}, 0.123

    class Same(Scripted):
        def reset(self, *, seed=None, options=None):
            return observation, info

        def step(self, action):
            return observation, number, False, False, info

    objects = (observation, info, number, info["x"], info["n"], False, None, np.False_)
    env = FastParallelEnvironment([lambda env_id: TimeLimit(AlfGymWrapper(Same(action_space=space)), 10**6)] * 3)
    env.reset()
    action = torch.zeros((3, *space.shape), dtype=torch.int64 if space.shape == () else torch.float32)
    env.step(action)
    gc.collect()
    before = [sys.getrefcount(each) for each in objects], len(gc.get_objects())
    for _ in range(1000):
        env.step(action)
    gc.collect()
    after = [sys.getrefcount(each) for each in objects], len(gc.get_objects())
    assert all(abs(a - b) < 50 for a, b in zip(before[0], after[0])), (before, after)
    assert after[1] - before[1] < 50
    env.close()
    del env, action
    gc.collect()
    assert sys.getrefcount(observation) < 10


def make_stepper(batch_size=4, start=0, ring_rows=2, **changes):
    env = wrapped()
    specs = Specs.of(env)
    layout = Layout(specs, batch_size, ring_rows)
    views = layout.views(Segment().allocate(layout.num_bytes))
    rows = [views.rows(ring_row) for ring_row in range(ring_rows)]
    return _backend.make_gym_stepper("native", views._replace(**changes), rows, start, [env, env])


@pytest.mark.parametrize("start", [-1, 3, 4])
def test_rows_outside_the_shared_blocks_are_refused(start):
    assert make_stepper(start=2) is not None
    with pytest.raises(IndexError, match="rows outside"):
        make_stepper(start=start)


@pytest.mark.parametrize("ring_row", [-1, 2])
def test_ring_rows_outside_the_shared_blocks_are_refused(ring_row):
    with pytest.raises(IndexError, match="ring row outside"):
        make_stepper()(ring_row)


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(observation=[np.zeros((2, 4, 3), np.float32)]), "does not fit its column"),
        (dict(observation=[np.zeros((2, 4, 2), np.int32)]), "does not fit its column"),
        (dict(actions=[np.zeros(4, np.int32)]), "int64"),
        (dict(actions=[np.zeros(3, np.int64)]), "rows outside the actions"),
        (dict(discount=np.zeros((2, 4), np.float64)), "4 bytes a row"),
        (dict(reward=np.zeros((1, 4), np.float32)), "rows outside"),
        (dict(step_type=np.zeros((2, 8), np.int32)[:, ::2]), "contiguous"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, words):
    with pytest.raises((ValueError, IndexError), match=re.escape(words)):
        make_stepper(start=2, **changes)
