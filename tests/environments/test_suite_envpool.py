"""EnvPool through its adapter: the translation with a stand-in, and real environments where EnvPool is installed."""

import importlib.util
import types

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.suite_envpool as suite_envpool
from alf.environments._rows import FIRST, LAST, MID
from alf.environments.suite_envpool import EnvPoolEnvironment
from alf.environments.utils import create_environment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

needs_envpool = pytest.mark.skipif(
    importlib.util.find_spec("envpool") is None, reason="needs EnvPool: pip install 'alf-rl[envpool]'")

Box, Dict, Discrete = gymnasium.spaces.Box, gymnasium.spaces.Dict, gymnasium.spaces.Discrete


# ---- a stand-in ----------------------------------------------------------------------------------------------------

STATE = {"info:env_id": (np.int32, []), "info:players.env_id": (np.int32, [-1]), "elapsed_step": (np.int32, []),
         "done": (np.bool_, []), "reward": (np.float32, [-1]), "discount": (np.float32, [-1]),
         "step_type": (np.int32, []), "trunc": (np.bool_, [])}
SCALAR = {"obs": (np.float64, [1]), "info:lives": (np.int32, [-1]), "info:speed": (np.float64, [-1]),
          "info:ram": (np.uint8, [128])}
TINY, MAX = np.finfo(np.float64).tiny, np.finfo(np.float64).max


def make_spec(observation=None, action=None, observations=None, players=1, action_dtype=np.int32):
    """Return what `envpool.make_spec` would return."""
    state = {**STATE, **(observations or SCALAR)}
    return types.SimpleNamespace(
        _state_keys=list(state), _state_spec=[(np.dtype(dtype), shape) for dtype, shape in state.values()],
        _action_keys=["env_id", "players.env_id", "action"],
        _action_spec=[(np.dtype(np.int32), []), (np.dtype(np.int32), [-1]), (np.dtype(action_dtype), [-1])],
        gymnasium_observation_space=observation or Box(TINY, MAX, (1, ), np.float64),
        gymnasium_action_space=action or Discrete(3),
        config=types.SimpleNamespace(max_num_players=players))


class FakePool:
    """Counts steps: row i terminates after i + 2 steps, and every row has a time limit of 3, as EnvPool tells it."""

    def __init__(self, seeds, num_envs, spec):
        self.seeds, self.sent, self.closed = seeds, [], False
        self._keys, self._num_envs, self._spec = spec._state_keys, num_envs, spec
        self._steps, self._ended = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)

    def close(self):
        self.closed = True

    def _reset(self, rows):
        self._steps[rows] = 0
        self._ended[rows] = False

    def _send(self, parts):
        rows, players, action = parts
        assert rows.dtype == np.int32 and (rows == np.arange(self._num_envs)).all() and (players == rows).all()
        self.sent.append(action)
        self._steps = np.where(self._ended, 0, self._steps + 1)
        terminated = self._steps == np.arange(self._num_envs) + 2
        self._ended = terminated | (self._steps == 3)

    def _recv(self):
        rows = np.arange(self._num_envs, dtype=np.int32)
        state = {
            "info:env_id": rows, "info:players.env_id": rows, "elapsed_step": self._steps.astype(np.int32),
            "done": self._ended.copy(), "reward": np.full(self._num_envs, 7.0, np.float32),
            "discount": (~self._ended).astype(np.float32),
            "step_type": np.where(self._ended, LAST, np.where(self._steps == 0, FIRST, MID)).astype(np.int32),
            "trunc": self._steps == 3}
        for (key, (dtype, shape)) in zip(self._keys, self._spec._state_spec):
            if key not in state:
                inner = [size for size in shape if size != -1]
                column = self._steps.reshape(-1, *[1] * len(inner))
                state[key] = np.broadcast_to(column, (self._num_envs, *inner)).astype(dtype)
        return [state[key] for key in self._keys]


def make_env(num_envs=3, spec=None, discount=1.0, first_env_id=0):
    """Return an adapted stand-in, and the list of pools that it has made."""
    spec, pools = spec or make_spec(), []

    def make_pool(seeds):
        pools.append(FakePool(seeds, num_envs, spec))
        return pools[-1]

    return EnvPoolEnvironment(make_pool, spec, num_envs, discount, first_env_id), pools


def test_episode_ends_with_its_last_observation_and_the_next_step_is_first():
    env, _ = make_env()
    env.reserve_rows(6)
    steps = [env.reset()] + [env.step(torch.tensor([1, 2, 2])) for _ in range(5)]
    assert [step.step_type.tolist() for step in steps] == [
        [FIRST, FIRST, FIRST], [MID, MID, MID], [LAST, MID, MID], [FIRST, LAST, LAST], [MID, FIRST, FIRST],
        [LAST, MID, MID]]
    assert [step.observation.flatten().tolist() for step in steps] == [
        [0, 0, 0], [1, 1, 1], [2, 2, 2], [0, 3, 3], [1, 0, 0], [2, 1, 1]]
    assert [step.prev_action.tolist() for step in steps] == [
        [0, 0, 0], [1, 2, 2], [1, 2, 2], [0, 2, 2], [1, 0, 0], [1, 2, 2]]
    assert [step.reward.tolist() for step in steps[:4]] == [[0, 0, 0], [7, 7, 7], [7, 7, 7], [0, 7, 7]]


def test_discount_is_zero_only_where_the_task_ended():
    env, _ = make_env(discount=0.5)
    discounts = [env.reset().discount.tolist()] + [env.step(torch.zeros(3, dtype=torch.int64)).discount.tolist()
                                                   for _ in range(4)]
    # Row 0 fails in step 2; rows 1 and 2 reach the limit of 3 steps, though EnvPool's own discount is 0 there.
    assert discounts == [[1, 1, 1], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [1, 0.5, 0.5], [0.5, 1, 1]]


def test_reset_in_the_middle_of_an_episode_starts_a_new_one():
    env, pools = make_env()
    env.reset()
    env.step(torch.tensor([1, 1, 1]))
    step = env.reset()
    assert step.is_first().all() and not step.prev_action.any() and len(pools) == 1


def test_time_steps_stay_as_they_are_for_as_many_steps_as_are_reserved():
    env, _ = make_env()
    assert env.num_valid_steps == 3
    env.reserve_rows(5)
    env.reserve_rows(2)
    assert env.num_valid_steps == 4
    kept = env.reset()
    for step in range(1, 5):
        env.step(torch.tensor([1, 2, 2]))
        assert kept.is_first().all() and not kept.observation.any() and not kept.prev_action.any(), step
    env.step(torch.tensor([1, 2, 2]))
    assert not kept.is_first().any()
    with pytest.raises(RuntimeError, match="6 time steps cannot be reserved after the first reset, which laid out 5"):
        env.reserve_rows(6)


def test_numbers_that_are_reported_are_info_and_arrays_are_not():
    env, _ = make_env()
    assert env.env_info_spec() == {"lives": TensorSpec((), torch.int32), "speed": TensorSpec(())}
    env.reset()
    info = env.step(torch.tensor([1, 1, 1])).env_info
    assert info["lives"].tolist() == [1, 1, 1] and info["speed"].dtype == torch.float32
    assert env.get_info()["info:ram"].shape == (3, 128)


def test_limits_of_numbers_mean_no_bounds():
    env, _ = make_env()
    assert env.observation_spec() == BoundedTensorSpec((1, ), torch.float32, -np.inf, np.inf)


def test_dictionary_of_observations_keeps_its_names():
    space = Dict(velocity=Box(-1, 1, (2, ), np.float64), inner=Dict(cell=Discrete(9, start=4)))
    env, _ = make_env(spec=make_spec(space, observations={
        "obs:velocity": (np.float64, [2]), "obs:inner.cell": (np.int32, [])}))
    env.reset()
    observation = env.step(torch.tensor([1, 1, 1])).observation
    assert observation["velocity"].dtype == torch.float32 and observation["velocity"].shape == (3, 2)
    assert observation["inner"]["cell"].tolist() == [-3, -3, -3]  # counted from 0, as specs are: 1 - 4
    assert env.env_info_spec() == {}


def test_actions_are_mapped_and_clipped_to_the_bounds_of_the_environment():
    spec = make_spec(action=Box(-2.0, 4.0, (2, ), np.float64), action_dtype=np.float64)
    env, pools = make_env(1, spec)
    assert env.action_spec() == BoundedTensorSpec((2, ), torch.float32, -1, 1)
    env.reset()
    step = env.step(torch.tensor([[0.5, -3.0]]))
    np.testing.assert_array_equal(pools[0].sent[0], [[2.5, -2.0]])
    assert pools[0].sent[0].dtype == np.float64 and step.prev_action.tolist() == [[0.5, -3.0]]


def test_actions_with_the_usual_bounds_are_clipped_only():
    env, pools = make_env(1, make_spec(action=Box(-1, 1, (1, ), np.float64), action_dtype=np.float64))
    env.reset()
    env.step(torch.tensor([[0.1]]))
    assert pools[0].sent[0].tolist() == [[np.float64(np.float32(0.1))]]


def test_discrete_actions_count_from_where_the_environment_counts():
    env, pools = make_env(2, make_spec(action=Discrete(3, start=5)))
    env.reset()
    env.step(torch.tensor([0, 2]))
    assert pools[0].sent[0].tolist() == [5, 7] and pools[0].sent[0].dtype == np.int32


def test_action_of_a_wrong_shape_is_told():
    env, _ = make_env()
    env.reset()
    with pytest.raises(ValueError, match=r"action: expected shape \(3,\), got \(3, 1\)"):
        env.step(torch.zeros((3, 1), dtype=torch.int64))


def test_seed_makes_the_pool_anew_at_the_next_reset():
    env, pools = make_env()
    env.seed(7)
    env.reset()
    env.seed([3, 2**31 + 1, 5])
    env.step(torch.tensor([1, 1, 1]))
    assert len(pools) == 1 and not pools[0].closed
    env.reset()
    assert [pool.seeds for pool in pools] == [[7, 8, 9], [3, 1, 5]] and pools[0].closed
    with pytest.raises(ValueError, match="expected 3 seeds, one for each environment, got 2"):
        env.seed([1, 2])


def test_rows_are_numbered_from_the_first_of_the_batch():
    assert make_env(first_env_id=6)[0].reset().env_id.tolist() == [6, 7, 8]


def test_close_may_come_early_and_twice():
    env, pools = make_env()
    env.close()
    env.reset()
    env.close()
    env.close()
    assert len(pools) == 1 and pools[0].closed


def test_several_players_are_refused():
    with pytest.raises(TypeError, match="expected one player with one action.*up to 4 players"):
        make_env(spec=make_spec(players=4))


def test_render_says_what_to_set():
    with pytest.raises(NotImplementedError, match="render_mode=None, and is asked for 'rgb_array'.*load.options="):
        make_env()[0].render()


@pytest.mark.parametrize("given, name", [
    ("Pong-v5", "Pong-v5"), ("ALE/Pong-v5", "Pong-v5"), ("PongNoFrameskip-v4", "Pong-v5"),
    ("PongDeterministic-v0", "Pong-v5"), ("CartPole-v1", "CartPole-v1")])
def test_every_id_of_a_game_leads_to_its_name(given, name):
    assert suite_envpool.pool_name(given, ["CartPole-v1", "Pong-v5"]) == name


def test_unknown_environment_suggests_the_nearest():
    with pytest.raises(ValueError, match="got 'CartPole-v7'. Did you mean 'CartPole-v1'"):
        suite_envpool.pool_name("CartPole-v7", ["CartPole-v1", "Pong-v5"])


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "envpool", None)
    with pytest.raises(ImportError, match=r"pip install 'alf-rl\[envpool\]'"):
        suite_envpool.load("CartPole-v1")


# ---- EnvPool -------------------------------------------------------------------------------------------------------


@needs_envpool
@pytest.mark.parametrize("name, options, limit", [
    ("CartPole-v1", {}, 20), ("Pendulum-v1", {}, 7), ("HalfCheetah-v5", {}, 9), ("Hopper-v5", {}, None),
    ("Breakout-v5", {"episodic_life": True, "stack_num": 2}, 60)])
def test_time_steps_are_the_outputs_of_envpool(name, options, limit):
    import envpool

    limits = {} if limit is None else {"max_episode_steps": limit}
    env = suite_envpool.load(name, batch_size=3, num_threads=1, options=options, **limits)
    env.seed(5)
    pool = envpool.make(name, env_type="gymnasium", num_envs=3, seed=[5, 6, 7], num_threads=1, **options, **limits)
    step, (observation, _) = env.reset(), pool.reset()
    rng, space, spec = np.random.default_rng(0), pool.action_space, env.action_spec()
    np.testing.assert_array_equal(step.observation, observation.astype(step.observation.numpy().dtype))
    seen = set()
    ended = np.zeros(3, bool)
    for _ in range(100):
        action = spec.numpy_sample((3, ), rng)
        theirs = action if spec.is_discrete else (action.astype(np.float64) * space.high).astype(space.dtype)
        step = env.step(torch.as_tensor(action))
        observation, reward, terminated, truncated, info = pool.step(theirs)
        np.testing.assert_array_equal(step.observation, observation.astype(step.observation.numpy().dtype))
        np.testing.assert_array_equal(step.reward, reward)
        np.testing.assert_array_equal(step.discount, np.where(terminated, 0, 1))
        expected = np.where(ended, FIRST, np.where(terminated | truncated, LAST, MID))
        np.testing.assert_array_equal(step.step_type, expected)
        np.testing.assert_array_equal(info["env_id"], [0, 1, 2])
        for key, value in step.env_info.items():
            np.testing.assert_array_equal(value, info[key].astype(value.numpy().dtype))
        ended = terminated | truncated
        seen |= set(expected.tolist())
    assert seen == {FIRST, MID, LAST}
    env.close()


@needs_envpool
def test_images_are_channels_first_and_time_steps_stay_valid():
    env = suite_envpool.load("ALE/Pong-v5", batch_size=2, num_threads=1)
    assert env.observation_spec() == BoundedTensorSpec((4, 84, 84), torch.uint8, 0, 255)
    assert set(env.env_info_spec()) == {"lives", "reward", "terminated"}
    env.reset()
    kept = env.step(torch.tensor([2, 3]))
    copy = kept.observation.clone()
    step = kept
    for _ in range(10):
        before, step = step, env.step(torch.tensor([2, 3]))
        assert torch.equal(step.observation[:, :-1], before.observation[:, 1:])
    assert torch.equal(kept.observation, copy)
    env.close()


@needs_envpool
def test_images_are_not_copied():
    env = suite_envpool.load("ALE/Pong-v5", batch_size=2, num_threads=1)
    assert env.reset().observation.data_ptr() == env.get_info()["obs"].ctypes.data
    env.close()


@needs_envpool
def test_rewards_of_games_are_clipped_if_asked():
    env = suite_envpool.load("SpaceInvaders-v5", batch_size=2, num_threads=1, options={"reward_clip": True})
    env.seed(0)
    env.reset()
    steps = [env.step(torch.tensor([1, 1])) for _ in range(150)]
    rewards, unclipped = (torch.stack(rows) for rows in zip(*[(step.reward, step.env_info["reward"])
                                                              for step in steps]))
    assert unclipped.max() > 1 and torch.equal(rewards, unclipped.sign())
    env.close()


@needs_envpool
def test_create_environment_makes_one_batch_and_seeds_it():
    observations = []
    for seed in (1, 1, 2):
        env = create_environment("CartPole-v1", suite_envpool.load, num_parallel_environments=4, seed=seed)
        assert isinstance(env, EnvPoolEnvironment) and env.batch_size == 4
        observations.append(env.reset().observation)
        env.close()
    assert torch.equal(observations[0], observations[1]) and not torch.equal(observations[0], observations[2])


@needs_envpool
def test_unknown_option_suggests_the_nearest_and_those_of_the_batch_are_refused():
    with pytest.raises(ValueError, match="got 'reward_clipping'. Did you mean 'reward_clip'"):
        suite_envpool.load("Pong-v5", options={"reward_clipping": True})
    with pytest.raises(ValueError, match="num_envs.*Use create_environment.num_parallel_environments"):
        suite_envpool.load("Pong-v5", options={"num_envs": 3})
