"""ProcessEnvironment, ParallelAlfEnvironment and ThreadEnvironment."""

import functools
import os
import random
import threading
import time

import gymnasium
import numpy as np
import pytest
import torch

import alf.environments.suite_gym as suite_gym
from alf.data_structures import StepType
from alf.environments._pool._errors import WorkerDiedError
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.parallel_environment import ParallelAlfEnvironment
from alf.environments.process_environment import ProcessEnvironment
from alf.environments.random_alf_environment import RandomAlfEnvironment
from alf.environments.thread_environment import ThreadEnvironment
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


class Dice(gymnasium.Env):
    """Shows what the global generators draw."""

    observation_space = gymnasium.spaces.Box(0, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.step(0)[0], {}

    def step(self, action):
        drawn = np.array([np.random.rand(), random.random(), torch.rand(1).item()], np.float32)
        return drawn, 0.0, False, False, {}


@pytest.mark.parametrize("make", [
    ParallelAlfEnvironment, functools.partial(FastParallelEnvironment, num_workers=3, main_steps=False)])
def test_global_generators_of_processes_are_not_the_same(make):
    drawn = []
    for _ in range(2):
        np.random.seed(1)
        env = make([lambda env_id: suite_gym.wrap_env(Dice(), env_id=env_id)] * 3)
        drawn.append(env.reset().observation.clone())
        env.close()
    assert all(len(set(column)) == 3 for column in drawn[0].T.tolist())
    assert torch.equal(*drawn)  # they follow from the seed of this process


@pytest.mark.parametrize("backend", ["native", "python"])
def test_more_rows_than_commands_can_name_are_not_used(backend):
    if backend == "native":
        pytest.importorskip("alf._parallel_env")
    env = FastParallelEnvironment([functools.partial(suite_gym.load, "CartPole-v1")] * 2, num_workers=1,
                                  main_steps=False, num_ring_rows=70_000, backend=backend)
    env.reserve_rows(80_000)
    env.seed(1)
    env.reset()
    env._counts[:] = [2**16 - 3] * len(env._counts)
    for i in range(6):
        env.step(torch.full((2,), i % 2))
    assert env.num_valid_steps == 2**16 - 1
    env.close()


@pytest.mark.parametrize("flatten", [False, True])
def test_process_environment_gives_the_time_steps_of_its_environment(toys, flatten):
    constructor = toys(1, nested_action=True)[0]
    reference = constructor(env_id=2)
    env = ProcessEnvironment(constructor, env_id=2, flatten=flatten)
    env.start()
    action = {"go": torch.tensor([0.5, 0.25]).numpy(), "kind": 3}
    try:
        assert env.observation_spec() == reference.observation_spec()
        assert env.time_step_spec() == reference.time_step_spec()
        assert env.reset().observation["noise"].tolist() == reference.reset().observation["noise"].tolist()
        promise = env.step(action, blocking=False)
        name = env.call("whoami", prefix="I am ")
        assert name() == "I am 2"
        got, expected = promise(), reference.step(action)
        assert got.reward == expected.reward == 23.75
        assert got.observation["noise"].tolist() == expected.observation["noise"].tolist()
        assert env.call("pid")() != os.getpid()
        assert env.render("rgb_array").shape == (2, 2, 3)
    finally:
        env.close()
        env.close()


def test_process_environment_passes_exceptions_on_and_lives(toys):
    env = ProcessEnvironment(toys(1, fault="raise", fault_step=1)[0], env_id=1)
    env.start()
    env.reset()
    with pytest.raises(ValueError, match="the wheel came off") as caught:
        env.step(0)
    assert "_misbehave" in str(caught.value.__cause__)
    assert env.reset().step_type == StepType.FIRST
    env.close()


def test_process_environment_tells_how_its_process_ended(toys):
    env = ProcessEnvironment(toys(1, fault="exit", fault_step=1)[0], env_id=1)
    env.start()
    env.reset()
    with pytest.raises(WorkerDiedError, match="environment 1 exited with code 7"):
        env.step(0)
    with pytest.raises(RuntimeError, match="not running"):
        env.reset()


def is_gone(process_id):
    """Return whether a process has ended and has been waited for."""
    return not os.path.exists(f"/proc/{process_id}")


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_process_environment_that_hangs_in_a_step_is_killed_and_its_stack_told(toys, start_method):
    env = ProcessEnvironment(toys(1, fault="hang", fault_step=2)[0], env_id=1, start_method=start_method,
                             step_timeout_seconds=0.4)
    env.start()
    process_id = env.call("pid")()
    env.reset()
    env.step(0)
    began = time.monotonic()
    with pytest.raises(WorkerDiedError, match=r"environment 1 did not answer for \d seconds at step") as caught:
        env.step(0)
    assert time.monotonic() - began < 60  # a toy that hangs does so for ever
    message = str(caught.value)
    assert "in _misbehave" in message and "raise step_timeout_seconds" in message
    assert "test_process_and_thread" not in message  # the stack is that of the environment alone
    assert is_gone(process_id)
    with pytest.raises(RuntimeError, match="not running"):
        env.reset()


@pytest.fixture
def sleeps(toys):
    """Return a function that makes the constructor of a ToyEnv that dawdles in a phase."""

    class Sleeps(toys(1)[0].func):
        def __init__(self, phase, env_id=0):
            super().__init__(env_id=env_id)
            self._phase = phase
            self._sleep("construct")

        def _sleep(self, phase):
            if phase == self._phase:
                time.sleep(0.6)

        def _reset(self):
            self._sleep("reset")
            return super()._reset()

        def whoami(self):
            self._sleep("call whoami")
            return super().whoami()

    return lambda phase: functools.partial(Sleeps, phase)


@pytest.mark.parametrize("phase", ["construct", "reset", "call whoami"])
def test_process_environment_has_a_limit_for_everything_else(sleeps, phase):
    def run(**limits):
        env = ProcessEnvironment(sleeps(phase), env_id=1, **limits)
        try:
            env.start()
            env.reset()
            return env.call("whoami")()
        finally:
            env.close()

    with pytest.raises(WorkerDiedError, match=f"at {phase} and was killed. .* raise reset_timeout_seconds"):
        run(reset_timeout_seconds=0.2)
    assert run(step_timeout_seconds=0.1) == "env1"  # the limit of steps is not theirs


def test_process_environment_may_take_the_time_of_a_reset_in_a_step_that_resets(sleeps):
    env = ProcessEnvironment(sleeps("reset"), env_id=0, step_timeout_seconds=0.2)
    env.start()
    time_steps = [env.reset()] + [env.step(0) for _ in range(8)]
    assert [int(t.step_type) for t in time_steps].count(int(StepType.FIRST)) >= 2
    env.close()


def test_pipe_version_ends_a_process_that_hangs(toys):
    env = ParallelAlfEnvironment(toys(2, fault="hang", fault_step=1), step_timeout_seconds=0.3)
    env.reset()
    with pytest.raises(WorkerDiedError, match="environment 1 of 2 did not answer"):
        env.step(torch.zeros(2, dtype=torch.int64))
    env.close()


def test_process_environment_passes_a_failing_constructor_on(toys):
    env = ProcessEnvironment(toys(1, fault="construct")[0], env_id=1)
    with pytest.raises(KeyError, match="no such level"):
        env.start()
    env.close()


def test_pipe_version_reports_failures_and_closes(toys):
    env = ParallelAlfEnvironment(toys(2, fault="raise", fault_step=1))
    env.reset()
    with pytest.raises(ValueError, match="the wheel came off"):
        env.step(torch.zeros(2, dtype=torch.int64))
    env.close()
    with pytest.raises(ValueError, match=r"environment 1: its specs differ"):
        ParallelAlfEnvironment(toys(1) + toys(1, obs_size=3))


def test_pipe_version_can_step_one_after_another(toys):
    env = ParallelAlfEnvironment(toys(2), blocking=True, start_serially=False)
    env.reset()
    assert env.step(torch.tensor([1, 2])).reward.tolist() == [1.0, 12.0]
    assert env.call_envs_with_same_args("whoami") == ["env0", "env1"]
    env.close()


def test_thread_environment_makes_batches_of_one(toys):
    threads = []

    def constructor():
        threads.append(threading.current_thread())
        return suite_gym.load("CartPole-v1")

    env = ThreadEnvironment(constructor)
    env.seed(3)
    reference = suite_gym.load("CartPole-v1")
    reference.seed(3)
    assert env.batched and env.batch_size == 1 and env.is_tensor_based
    step = env.reset()
    assert (
        step.observation.shape == (1, 4)
        and step.observation[0].tolist() == reference.reset().observation.tolist()
    )
    for t in range(40):
        step = env.step(torch.tensor([t % 2]))
        expected = reference.step(t % 2)
        assert step.observation[0].tolist() == expected.observation.tolist()
        assert step.step_type.tolist() == [int(expected.step_type)]
        assert step.prev_action.shape == (1,)
    assert threads[0] is not threading.current_thread() and threads[0].name.startswith("environment")
    env.close()
    env.close()


def test_thread_environment_keeps_a_batch_as_it_is(toys):
    from alf.environments.fast_parallel_environment import FastParallelEnvironment

    env = ThreadEnvironment(functools.partial(FastParallelEnvironment, toys(3), num_workers=0))
    assert env.batch_size == 3
    env.reset()
    assert env.step(torch.tensor([1, 2, 3])).reward.tolist() == [1.0, 12.0, 23.0]
    env.close()


def test_thread_environment_passes_exceptions_on(toys):
    with pytest.raises(KeyError, match="no such level"):
        ThreadEnvironment(functools.partial(toys(1, fault="construct")[0], env_id=1))


def test_process_environment_makes_tensors_on_the_cpu_whatever_the_default_device_is(toys):
    env = ProcessEnvironment(toys(1)[0], env_id=0)
    torch.set_default_device("meta")  # stands for a GPU, which cannot be used after a fork
    try:
        env.start()
    finally:
        torch.set_default_device(None)
    assert env.call("device_of_new_tensors")() == "cpu"
    env.close()


def test_batch_in_a_process():
    spec, action_spec = TensorSpec((2,)), BoundedTensorSpec((), torch.int64, 0, 1)
    env = ProcessEnvironment(lambda: RandomAlfEnvironment(spec, action_spec, batch_size=3, max_duration=1))
    env.start()
    types = [env.reset().step_type, *(env.step(np.zeros(3, np.int64)).step_type for _ in range(2))]
    env.close()
    assert [each.tolist() for each in types] == [[int(t)] * 3 for t in (StepType.FIRST, StepType.LAST, StepType.FIRST)]


def test_metadata_are_those_of_gymnasium():
    make = functools.partial(suite_gym.load, "CartPole-v1")
    for env in (ThreadEnvironment(make), FastParallelEnvironment([make] * 2, num_workers=1)):
        assert env.metadata["render_fps"] == 50
        env.close()
