"""What happens when environments or their processes fail."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import torch

from alf.data_structures import StepType
from alf.environments._pool._errors import NonFiniteStepError, WorkerDiedError, WorkerError
from alf.environments.fast_parallel_environment import FastParallelEnvironment

FIRST, MID, LAST = (int(t) for t in (StepType.FIRST, StepType.MID, StepType.LAST))


def step_until_error(env, limit=40):
    env.seed(0)
    env.reset()
    for _ in range(limit):
        env.step(torch.full((env.batch_size,), 2))


def notes_of(error):
    return "\n".join(error.__notes__)


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize(
    "options", [{"num_workers": 0}, {"num_workers": 2}, {"num_workers": 1, "main_steps": True}]
)
def test_exception_keeps_its_class_and_names_the_environment(toys, options, backend):
    env = FastParallelEnvironment(toys(4, fault="raise", faulty=(3,)), backend=backend, **options)
    try:
        with pytest.raises(ValueError, match="the wheel came off") as caught:
            step_until_error(env)
        assert "raised by environment 3 in" in notes_of(caught.value)
        if options["num_workers"]:
            assert "_misbehave" in str(caught.value.__cause__) and "conftest.py" in str(
                caught.value.__cause__
            )
        with pytest.raises(RuntimeError, match=r"expected reset\(\)"):
            env.step(torch.zeros(4, dtype=torch.int64))
        assert env.reset().step_type.tolist() == [FIRST] * 4
        assert env.step(torch.zeros(4, dtype=torch.int64)).step_type.max() <= LAST
    finally:
        env.close()


def test_exception_that_cannot_be_rebuilt_comes_as_text(toys):
    env = FastParallelEnvironment(toys(2, fault="odd exception"), num_workers=1)
    try:
        with pytest.raises(WorkerError, match="Odd: this and that"):
            step_until_error(env)
    finally:
        env.close()


def test_system_exit_of_an_environment_does_not_end_the_main_process(toys):
    env = FastParallelEnvironment(toys(2, fault="system exit"), num_workers=1)
    try:
        with pytest.raises(WorkerError, match="SystemExit: 3"):
            step_until_error(env)
    finally:
        env.close()


@pytest.mark.parametrize("start_serially", [True, False])
def test_failing_constructor_names_the_environment_and_leaves_no_process(toys, start_serially):
    with pytest.raises(KeyError, match="no such level") as caught:
        FastParallelEnvironment(
            toys(4, fault="construct", faulty=(2,)), num_workers=2, start_serially=start_serially
        )
    assert "environment 2" in notes_of(caught.value) and "construct" in notes_of(caught.value)
    assert not [p for p in psutil.Process().children() if p.name().startswith("alf-envs")]


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize(
    "fault, words", [("kill", "SIGKILL"), ("exit", "exited with code 7"), ("segfault", "SIGSEGV")]
)
def test_dead_worker_is_noticed_within_two_seconds(toys, fault, words, backend):
    env = FastParallelEnvironment(toys(4, fault=fault, faulty=(2,)), num_workers=2, backend=backend)
    began = time.monotonic()
    with pytest.raises(WorkerDiedError, match=words) as caught:
        step_until_error(env)
    assert time.monotonic() - began < (60.0 if "ALF_SANITIZED" in os.environ else 2.0)
    assert "environments 2-3" in str(caught.value)
    assert "in environment 2, whose last action was [2] and whose seed was 2" in str(caught.value)
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()


def test_worker_killed_between_steps_is_noticed(toys):
    env = FastParallelEnvironment(toys(4), num_workers=2)
    env.reset()
    os.kill(env.worker_process_ids[1], signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="environments 2-3"):
        env.step(torch.zeros(4, dtype=torch.int64))


def test_hanging_step_is_ended_and_its_stack_shown(toys):
    env = FastParallelEnvironment(
        toys(2, fault="hang"), num_workers=2, step_timeout_seconds=0.4, reset_timeout_seconds=0.6
    )
    with pytest.raises(WorkerDiedError, match="did not answer") as caught:
        step_until_error(env)
    assert "in _misbehave" in str(caught.value) and "in environment 1" in str(caught.value)


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_non_finite_values_name_environment_field_and_step(toys, num_workers, backend):
    options = {"num_workers": num_workers, "backend": backend}
    for fault, words in (
        ("nan reward", r"environment 1: reward: expected a finite number, got nan in step \d+"),
        (
            "inf observation",
            r"environment 1: observation\.count\[0\]: expected a finite number, "
            r"got inf in step \d+",
        ),
    ):
        env = FastParallelEnvironment(toys(3, fault=fault), **options)
        try:
            with pytest.raises(NonFiniteStepError, match=words):
                step_until_error(env)
        finally:
            env.close()
    env = FastParallelEnvironment(toys(2, nested_action=True), **options)
    try:
        env.reset()
        go = torch.zeros(2, 2)
        go[1, 1] = float("nan")
        with pytest.raises(
            NonFiniteStepError, match=r"environment 1: action\.go\[1\]: expected a finite number, got nan"
        ):
            env.step({"go": go, "kind": torch.zeros(2, dtype=torch.int64)})
    finally:
        env.close()


def test_environments_with_other_specs_are_refused(toys):
    constructors = toys(2) + toys(1, obs_size=5)
    for options in ({"num_workers": 0}, {"num_workers": 2}):
        with pytest.raises(
            ValueError, match=r"environment 2: its specs differ.*observation: .*\(2,\).*against.*\(5,\)"
        ):
            FastParallelEnvironment(constructors, **options)


def test_closing_is_quick_and_may_be_repeated(toys):
    env = FastParallelEnvironment(toys(4), num_workers=2)
    env.reset()
    children = [psutil.Process(pid) for pid in env.worker_process_ids]
    began = time.monotonic()
    env.close()
    env.close()
    assert time.monotonic() - began < 5
    assert not any(child.is_running() for child in children)


def test_closing_with_a_hanging_worker_is_bounded(toys):
    env = FastParallelEnvironment(toys(2, fault="hang", fault_step=1), num_workers=1)
    env.reset()
    env.step_async(torch.zeros(2, dtype=torch.int64))
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < 5


def test_collected_environment_ends_its_workers(toys):
    env = FastParallelEnvironment(toys(2), num_workers=2)
    children = [psutil.Process(pid) for pid in env.worker_process_ids]
    del env
    assert not any(child.is_running() for child in children)


def is_running(process):
    """Return whether a process runs; one that has ended may wait for a busy system to take notice."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


PROGRAM = """
    import functools, sys, time
    import torch
    import alf.environments.suite_gym as suite_gym
    from alf.environments.fast_parallel_environment import FastParallelEnvironment
    env = FastParallelEnvironment([functools.partial(suite_gym.load, "CartPole-v1")] * 4, num_workers=2)
    env.reset()
    print(*env.worker_process_ids, flush=True)
    {end}
"""


@pytest.mark.parametrize(
    "end", ["time.sleep(60)", "env.step_async(torch.zeros(4, dtype=torch.int64)); time.sleep(60)"]
)
def test_nothing_survives_a_killed_main_process(end):
    names = set(os.listdir("/dev/shm"))
    main = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(end=end))],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    workers = [psutil.Process(int(pid)) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    main.kill()
    main.wait()
    main.stdout.close()
    end = time.monotonic() + 2
    while any(map(is_running, workers)):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert set(os.listdir("/dev/shm")) <= names


def test_program_that_ends_without_closing_ends(tmp_path):
    for end in ("raise SystemExit(3)", "env.step_async(torch.zeros(4, dtype=torch.int64))"):
        program = textwrap.dedent(PROGRAM.format(end=end))
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, text=True)
        assert result.returncode == (3 if "Exit" in end else 0), result.stderr
        assert not any(psutil.pid_exists(int(pid)) for pid in result.stdout.split())
