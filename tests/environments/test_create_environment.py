"""create_environment and its relatives."""

import functools

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.alf_wrappers as alf_wrappers
import alf.environments.suite_gym as suite_gym
import alf.environments.suite_native as suite_native
import alf.environments.suite_unittest as suite_unittest
import alf.environments.utils as utils
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.parallel_environment import ParallelAlfEnvironment
from alf.environments.thread_environment import ThreadEnvironment
from alf.environments.utils import UnwrappedEnvChecker, create_environment, load_with_random_max_episode_steps


@pytest.fixture
def create():
    """Return create_environment; what it makes is closed after the test."""
    made = []

    def make(*args, **kwargs):
        made.append(create_environment(*args, **kwargs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def test_default_is_thirty_cart_poles_in_worker_processes():
    parameters = __import__("inspect").signature(create_environment).parameters
    assert parameters["env_name"].default == "CartPole-v0"
    assert parameters["num_parallel_environments"].default == 30
    assert parameters["parallel_environment_ctor"].default is FastParallelEnvironment


def test_parallel_environments_are_a_tensor_batch(create):
    env = create(num_parallel_environments=3, num_workers=1)
    assert isinstance(env, FastParallelEnvironment) and env.is_tensor_based and env.batch_size == 3
    step = env.reset()
    assert step.env_id.tolist() == [0, 1, 2] and step.observation.shape == (3, 4)


def test_seed_makes_runs_equal_and_rows_different(create):
    observations = [create(num_parallel_environments=2, num_workers=1, seed=s).reset().observation for s in (5, 5, 6)]
    assert torch.equal(observations[0], observations[1])
    assert torch.equal(observations[0][1], observations[2][0])
    assert not torch.equal(observations[0][0], observations[0][1])


def test_nonparallel_is_one_environment_in_a_thread(create):
    env = create(nonparallel=True)
    assert isinstance(env, ThreadEnvironment) and env.batch_size == 1 and env.is_tensor_based


def load_without_thread(name, env_id=None):
    return suite_gym.load(name, env_id)


load_without_thread.no_thread_env = True


def test_load_function_may_refuse_threads(create):
    env = create(env_load_fn=load_without_thread, nonparallel=True)
    assert isinstance(env, alf_wrappers.BatchedTensorWrapper)


def test_evaluation_uses_its_own_load_function_and_batch_size(create):
    eval_load = functools.partial(suite_gym.load, max_episode_steps=17)
    env = create(num_parallel_environments=5, eval_env_load_fn=eval_load, for_evaluation=True)
    assert env.batch_size == 1
    env.reset()
    env = create(
        num_parallel_environments=5,
        eval_env_load_fn=eval_load,
        for_evaluation=True,
        eval_batch_size_per_env=2,
    )
    assert env.batch_size == 2


def load_batch(name, env_id=None, batch_size=1):
    return suite_unittest.PolicyUnittestEnv(batch_size, episode_length=4)


load_batch.batched = True


@pytest.mark.parametrize("load_fn", [load_batch, functools.partial(load_batch)])
def test_native_batch_is_made_whole(create, load_fn):
    env = create(env_load_fn=load_fn, num_parallel_environments=4)
    assert type(env) is suite_unittest.PolicyUnittestEnv and env.batch_size == 4
    assert create(env_load_fn=load_fn, for_evaluation=True).batch_size == 1


def test_native_batches_in_processes(create):
    env = create(env_load_fn=load_batch, num_parallel_environments=4, batch_size_per_env=2)
    assert isinstance(env, FastParallelEnvironment) and env.batch_size == 4
    env.reset()
    assert env.step(torch.zeros(4, dtype=torch.int64)).reward.shape == (4,)


def test_parts_are_those_of_a_pool_and_not_of_evaluation(create):
    env = create(num_parallel_environments=4, num_parts=2)
    assert isinstance(env, FastParallelEnvironment) and env.num_parts == 2 and env.steps_in_background is False
    assert create(num_parallel_environments=4, num_parts=2, for_evaluation=True).num_parts == 1


@pytest.mark.parametrize("asked", [dict(nonparallel=True), dict(native=True), dict(env_load_fn=load_batch)])
def test_parts_of_an_environment_that_has_none_are_refused(create, asked):
    with pytest.raises(ValueError, match="num_parts"):
        create(num_parallel_environments=4, num_parts=2, **asked)


def test_list_of_names_makes_a_multitask_environment(create):
    env = create(env_name=["CartPole-v0", "CartPole-v1"], num_parallel_environments=2, num_workers=1)
    assert env.num_tasks == 2 and env.task_names == ["CartPole-v0", "CartPole-v1"]
    with pytest.raises(ValueError, match="expected one name"):
        create(env_name=["a", "b"], env_load_fn=load_batch)


def test_batched_wrappers_come_last(create):
    env = create(env_name="Pendulum-v1", nonparallel=True, batched_wrappers=[alf_wrappers.NormalizedActionWrapper])
    assert isinstance(env, alf_wrappers.NormalizedActionWrapper) and env.batched


@pytest.mark.parametrize("argument", ["num_parallel_environments", "batch_size_per_env", "eval_batch_size_per_env"])
@pytest.mark.parametrize("count", [0, -1])
def test_counts_below_one_are_errors(argument, count):
    with pytest.raises(ValueError, match=f"create_environment.{argument}: must be >= 1, got {count}"):
        create_environment(**{argument: count})


def test_batch_size_per_env_must_divide():
    with pytest.raises(ValueError, match="expected a divisor of num_parallel_environments=4, got 3"):
        create_environment(num_parallel_environments=4, batch_size_per_env=3)


@pytest.mark.parametrize("num_environments, num_workers, warns", [
    (8, 9, True), (8, 8, False), (513, None, True), (512, None, False)])
def test_far_more_environments_than_cores_are_warned_of(monkeypatch, caplog, num_environments, num_workers, warns):
    monkeypatch.setattr(utils.os, "cpu_count", lambda: 1)
    utils._warn_about_cores(num_environments, num_workers)
    assert ("on 1 cores will wait for each other" in caplog.text) == warns


def test_constructor_without_workers_refuses_them():
    with pytest.raises(ValueError, match="ParallelAlfEnvironment has one process for each environment"):
        create_environment(
            num_parallel_environments=4,
            batch_size_per_env=2,
            parallel_environment_ctor=ParallelAlfEnvironment,
        )


def test_random_episode_length_is_drawn_from_the_range():
    durations = {
        load_with_random_max_episode_steps("CartPole-v0", min_steps=3, max_steps=6, env_id=i).duration
        for i in range(60)
    }
    assert durations == {3, 4, 5, 6}
    with pytest.raises(ValueError, match="1 <= min_steps <= max_steps, got 9 and 6"):
        load_with_random_max_episode_steps("CartPole-v0", min_steps=9, max_steps=6)


def test_unwrapped_env_checker_allows_one():
    checker = UnwrappedEnvChecker()
    checker.check_and_update(wrap_with_process=True)
    checker.check_and_update(wrap_with_process=False)
    with pytest.raises(RuntimeError, match="only one"):
        checker.check_and_update(wrap_with_process=False)


class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(2 if self.t < 3 else 5, np.float32), 0.0, False, False, {}


def test_wrong_observation_is_reported_through_the_whole_stack(create):
    env = create(env_load_fn=lambda name, env_id=None: suite_gym.wrap_env(Broken(), env_id), nonparallel=True)
    env.reset()
    with pytest.raises(Exception, match=r"observation: expected shape \(2,\)"):
        for _ in range(3):
            env.step(torch.zeros(1, dtype=torch.int64))


def test_native_batches_in_processes_have_seeds_of_their_own(create):
    env = create(env_load_fn=suite_native.load, num_parallel_environments=6, batch_size_per_env=2, seed=5)
    alone = create(env_load_fn=suite_native.load, num_parallel_environments=6, seed=5)
    assert torch.equal(env.reset().observation, alone.reset().observation)
    assert len(env.current_time_step().observation.unique(dim=0)) == 6


def test_nonparallel_is_one_native_batch_whatever_is_asked_of_processes(create):
    env = create(env_load_fn=load_batch, num_parallel_environments=4, batch_size_per_env=2, nonparallel=True)
    assert env.batch_size == 1
