"""What every AlfEnvironment must do, checked over all of them."""

import functools

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.alf_wrappers as alf_wrappers
import alf.environments.gym_wrappers as gym_wrappers
import alf.environments.native_batch as native_batch
import alf.environments.suite_envpool as suite_envpool
import alf.environments.suite_gym as suite_gym
import alf.environments.suite_mixed as suite_mixed
import alf.environments.suite_native as suite_native
import alf.environments.suite_simple as suite_simple
import alf.environments.suite_unittest as suite_unittest
import alf.nest as nest
from alf.data_structures import StepType
from alf.environments._rows import Rows
from alf.environments.random_alf_environment import RandomAlfEnvironment
from alf.environments.utils import create_environment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


def check_leaves(values, specs, env, name):
    """Check that ``values`` has the structure, shapes and dtypes of ``specs``, within bounds if they are
    actions.
    """
    outer = (env.batch_size,) if env.batched else ()
    kind = torch.Tensor if env.is_tensor_based else (np.ndarray, np.generic)
    nest.assert_same_structure(values, specs)
    for value, spec in zip(nest.flatten(values), nest.flatten(specs), strict=True):
        assert isinstance(value, kind), (name, type(value))
        assert tuple(value.shape) == outer + tuple(spec.shape), (name, value.shape, spec)
        assert str(value.dtype).removeprefix("torch.") == spec.dtype_str, (name, value.dtype, spec)


def check_time_step(step, env):
    """Check one time step against the specs, and its FIRST rows."""
    check_leaves(step.observation, env.observation_spec(), env, "observation")
    check_leaves(step.prev_action, env.action_spec(), env, "prev_action")
    check_leaves(step.reward, env.reward_spec(), env, "reward")
    check_leaves(step.env_info, env.env_info_spec(), env, "env_info")
    for value, dtype in (
        (step.step_type, torch.int32),
        (step.discount, torch.float32),
        (step.env_id, torch.int32),
    ):
        check_leaves(value, TensorSpec((), dtype), env, "step_type, discount or env_id")
    types = np.atleast_1d(np.asarray(step.step_type))
    first = types == FIRST
    assert set(types.tolist()) <= {FIRST, MID, LAST}
    rows = lambda leaf: np.asarray(leaf).reshape((len(types), -1))  # noqa: E731
    assert (rows(step.reward)[first] == 0).all(), "the reward of FIRST is 0"
    assert (rows(step.discount)[first] == 1).all(), "the discount of FIRST is 1"
    for leaf in nest.flatten(step.prev_action):
        assert (rows(leaf)[first] == 0).all(), "prev_action of FIRST is 0"
    assert ((rows(step.discount) >= 0) & (rows(step.discount) <= 1)).all()


def sample_action(env, rng):
    """Return a random action as the environment takes it."""
    outer = (env.batch_size,) if env.batched else ()
    action = nest.map_structure(lambda spec: spec.numpy_sample(outer, rng), env.action_spec())
    return nest.map_structure(torch.as_tensor, action) if env.is_tensor_based else action


def copy_nest(values):
    return nest.map_structure(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else np.array(leaf), values)


def check_environment(make_env, num_steps=60):
    """Check what every environment must do; ``make_env`` takes nothing and returns a fresh environment."""
    env = make_env()
    try:
        assert env.batch_size >= 1 and env.num_tasks == len(env.task_names)
        for spec in nest.flatten([env.observation_spec(), env.action_spec(), env.reward_spec(), env.env_info_spec()]):
            assert isinstance(spec, TensorSpec)
        nest.assert_same_structure(env.time_step_spec().observation, env.observation_spec())
        rng = np.random.default_rng(0)
        step = env.current_time_step()
        assert (np.asarray(step.step_type) == FIRST).all(), "a new environment starts with FIRST"
        kept = []
        for _ in range(num_steps):
            check_time_step(step, env)
            before = np.asarray(step.step_type).copy()
            if env.num_valid_steps is None:
                kept.append((step, copy_nest(step)))
            action = sample_action(env, rng)
            given = copy_nest(action)
            step = env.step(action)
            nest.map_structure(np.testing.assert_array_equal, action, given)  # actions are not written to
            after = np.asarray(step.step_type)
            assert ((after == FIRST) == (before == LAST)).all(), "FIRST follows LAST, and only LAST"
            for had, got in zip(nest.flatten(action), nest.flatten(step.prev_action), strict=True):
                stays = np.atleast_1d(after != FIRST)
                np.testing.assert_array_equal(
                    np.asarray(got).reshape(len(stays), -1)[stays],
                    np.asarray(had).reshape(len(stays), -1)[stays],
                )
            nest.map_structure(np.testing.assert_array_equal, env.current_time_step(), step)
        for old, copy in kept:
            nest.map_structure(np.testing.assert_array_equal, old, copy)  # returned time steps stay as they were
        step = env.reset()
        assert (np.asarray(step.step_type) == FIRST).all(), "reset in the middle of an episode gives FIRST"
        check_time_step(step, env)
    finally:
        env.close()
        env.close()


def check_seed(make_env, num_steps=25):
    """Check that equal seeds give equal time steps."""

    def run():
        env = make_env()
        try:
            env.seed([3 + i for i in range(env.batch_size)] if hasattr(env, "envs") and env.batched else 3)
            rng = np.random.default_rng(1)
            return [copy_nest(env.reset())] + [copy_nest(env.step(sample_action(env, rng))) for _ in range(num_steps)]
        finally:
            env.close()

    for one, other in zip(run(), run(), strict=True):
        nest.map_structure(np.testing.assert_array_equal, one, other)


def check_rows(make_env, num_steps=40):
    """Check that an unbatched environment writes into rows what its ``step`` returns."""
    by_step, by_rows = make_env(), make_env()
    by_step.seed(5)
    by_rows.seed(5)
    rows = Rows.allocate(by_rows, 2)
    rng = np.random.default_rng(2)
    expected = by_step.reset()
    returned = by_rows.reset_into(rows, 1)
    for _ in range(num_steps):
        assert returned == rows.step_type[1] == expected.step_type
        np.testing.assert_array_equal(rows.reward[1], expected.reward)
        assert rows.discount[1] == expected.discount
        for block, leaf in zip(rows.observation, nest.flatten(expected.observation), strict=True):
            np.testing.assert_array_equal(block[1], leaf)
        for block, leaf in zip(rows.env_info, nest.flatten(expected.env_info), strict=True):
            np.testing.assert_array_equal(block[1], leaf)
        action = sample_action(by_step, rng)
        expected = by_step.step(action)
        scalar = not nest.is_nested(action) and action.shape == () and by_step.action_spec().is_discrete
        returned = by_rows.step_into(rows, 1, int(action) if scalar else action)
    assert not any(np.any(block[0]) for block in rows.observation)  # the neighbour's row is untouched
    by_step.close()
    by_rows.close()


def wrapped(wrapper, name="CartPole-v1", **kwargs):
    return lambda: wrapper(suite_gym.load(name), **kwargs)


class EverySpace(gymnasium.Env):
    """All supported spaces, a nested action, a vector reward and an info."""

    action_space = gymnasium.spaces.Dict(
        a=gymnasium.spaces.Box(-3, 5, (2,)),
        b=gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(3, start=-1)]),
    )
    reward_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self):
        self.observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8),
            rest=gymnasium.spaces.Tuple(
                [
                    gymnasium.spaces.Discrete(4, start=1),
                    gymnasium.spaces.MultiDiscrete([2, 3]),
                    gymnasium.spaces.MultiBinary(3),
                    gymnasium.spaces.Box(-1, 1, (2,), np.float64),
                ]
            ),
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        info = {"speed": self.np_random.random(), "contact": {"left": True}}
        end = bool(self.np_random.random() < 0.2)
        return self.observation_space.sample(), self.np_random.random(2), end, False, info


def every_space():
    return suite_gym.wrap_env(EverySpace())


def multitask():
    return alf_wrappers.MultitaskWrapper.load(suite_gym.load, ["CartPole-v0", "CartPole-v1"])


UNBATCHED = {
    "cartpole": functools.partial(suite_gym.load, "CartPole-v1"),
    "pendulum": functools.partial(suite_gym.load, "Pendulum-v1", max_episode_steps=7),
    "lunar_lander": functools.partial(suite_gym.load, "LunarLander-v3", max_episode_steps=9),
    "frozen_lake": functools.partial(suite_gym.load, "FrozenLake-v1"),
    "blackjack": functools.partial(suite_gym.load, "Blackjack-v1"),
    "half_cheetah": functools.partial(suite_gym.load, "HalfCheetah-v5", max_episode_steps=9),
    "noisy_array": functools.partial(suite_simple.load, "NoisyArray", env_args=dict(K=3, M=2), frame_stack=2),
    "mode_point": functools.partial(suite_mixed.load, max_episode_steps=4),
    "risky_branch": functools.partial(suite_simple.load, "StochasticWithRiskyBranch"),
    "every_space": every_space,
    "random": functools.partial(
        RandomAlfEnvironment, dict(x=TensorSpec((2,))), BoundedTensorSpec((), torch.int64, 0, 3)
    ),
    "multitask": multitask,
    "atari": functools.partial(
        suite_gym.load,
        "PongNoFrameskip-v4",
        max_episode_steps=9,
        gym_env_wrappers=[gym_wrappers.DMAtariPreprocessing, gym_wrappers.FrameStack],
    ),
    "TimeLimit": wrapped(alf_wrappers.TimeLimit, duration=5),
    "RandomFirstEpisodeLength": wrapped(alf_wrappers.RandomFirstEpisodeLength, random_length_range=5),
    "NonEpisodicAgent": wrapped(alf_wrappers.NonEpisodicAgent),
    "ActionObservationWrapper": wrapped(alf_wrappers.ActionObservationWrapper),
    "DiscreteActionWrapper": wrapped(alf_wrappers.DiscreteActionWrapper, "Pendulum-v1", actions_num=5),
    "NormalizedActionWrapper": wrapped(alf_wrappers.NormalizedActionWrapper, "Pendulum-v1"),
    "TemporallyCorrelatedNoiseWrapper": wrapped(alf_wrappers.TemporallyCorrelatedNoiseWrapper, "Pendulum-v1"),
    "PerformanceProfiler": wrapped(
        alf_wrappers.PerformanceProfiler, process_profile_fn=lambda profile: None, process_steps=100
    ),
    "ScalarRewardWrapper": lambda: alf_wrappers.ScalarRewardWrapper(every_space()),
    "AtariTerminalOnLifeLossWrapper": lambda: alf_wrappers.AtariTerminalOnLifeLossWrapper(
        suite_gym.load("BreakoutNoFrameskip-v4", gym_env_wrappers=[gym_wrappers.DMAtariPreprocessing])
    ),
}


def batch_of(name, n=3):
    return alf_wrappers.BatchEnvironmentWrapper([UNBATCHED[name]() for _ in range(n)])


def ale():
    suite_ale = pytest.importorskip("alf.environments.suite_ale")
    return suite_ale.load("breakout", batch_size=2, num_threads=1, max_frames_per_episode=80)


def envpool(name, **kwargs):
    pytest.importorskip("envpool", reason="needs EnvPool: pip install 'alf-rl[envpool]'")
    return suite_envpool.load(name, batch_size=3, num_threads=1, max_episode_steps=9, **kwargs)


def parallel(**kwargs):
    return create_environment("CartPole-v1", num_parallel_environments=4, **kwargs)


def native(name):
    if not native_batch.is_built():
        pytest.skip("alf._envs was not built")
    return suite_native.load(name, batch_size=3, max_episode_steps=9)


BATCHED = {
    "BatchEnvironmentWrapper": functools.partial(batch_of, "cartpole"),
    "BatchEnvironmentWrapper of every space": functools.partial(batch_of, "every_space"),
    "BatchedTensorWrapper": wrapped(alf_wrappers.BatchedTensorWrapper),
    "random": functools.partial(
        RandomAlfEnvironment,
        TensorSpec((2,)),
        BoundedTensorSpec((2,)),
        batch_size=3,
        use_tensor_time_step=True,
    ),
    "ValueUnittestEnv": functools.partial(suite_unittest.ValueUnittestEnv, 3, 5),
    "PolicyUnittestEnv": functools.partial(
        suite_unittest.PolicyUnittestEnv, 3, 5, nested_observation=True, reward_dim=2
    ),
    "MixedPolicyUnittestEnv": functools.partial(suite_unittest.MixedPolicyUnittestEnv, 3, 5),
    "RNNPolicyUnittestEnv": functools.partial(
        suite_unittest.RNNPolicyUnittestEnv, 3, 6, action_type=suite_unittest.ActionType.Continuous
    ),
    "ale": ale,
    "envpool": functools.partial(envpool, "CartPole-v1"),
    "envpool, continuous": functools.partial(envpool, "Pendulum-v1", discount=0.9),
    "envpool, dictionary": functools.partial(envpool, "CheetahRun-v1"),
    "envpool, images": functools.partial(envpool, "Breakout-v5", options={"episodic_life": True}),
    "native": functools.partial(native, "CartPole-v1"),
    "native, continuous": functools.partial(native, "Pendulum-v1"),
    "thread": functools.partial(create_environment, "CartPole-v1", nonparallel=True),
    "parallel in process": functools.partial(parallel, num_workers=0),
    "parallel": functools.partial(parallel, num_workers=2),
    "curriculum": functools.partial(
        create_environment,
        ["CartPole-v0", "CartPole-v1"],
        num_parallel_environments=2,
        num_workers=1,
        batched_wrappers=[functools.partial(alf_wrappers.CurriculumWrapper, warmup_period=2)],
    ),
}


@pytest.mark.parametrize("name", UNBATCHED)
def test_unbatched_environment_keeps_the_contract(name):
    check_environment(UNBATCHED[name])


@pytest.mark.parametrize("name", UNBATCHED)
def test_rows_equal_steps(name):
    check_rows(UNBATCHED[name])


@pytest.mark.parametrize("name", BATCHED)
def test_batched_environment_keeps_the_contract(name):
    check_environment(BATCHED[name])


@pytest.mark.parametrize("name", ["cartpole", "lunar_lander", "atari", "risky_branch", "random"])
def test_seeded_environment_repeats_itself(name):
    check_seed(UNBATCHED[name])


@pytest.mark.parametrize("name", ["PolicyUnittestEnv", "ale", "envpool", "native", "thread", "parallel", "random"])
def test_seeded_batch_repeats_itself(name):
    check_seed(BATCHED[name])
