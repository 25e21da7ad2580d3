"""Environments that hang, dawdle, print, write where they must not, or cannot be started, and what the pool does."""

import functools
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch

from alf.environments._pool import _output
from alf.environments._pool._errors import WorkerDiedError
from alf.environments._pool._latency import NUM_SAMPLES, LatencyWatch
from alf.environments.fast_parallel_environment import FastParallelEnvironment


def steps(env, number, action=2):
    for _ in range(number):
        env.step(torch.full((env.batch_size,), action))


# --- time ---


def test_time_in_which_everything_is_stopped_does_not_count(tmp_path):
    program = """
        import functools, os, sys, time
        import torch
        sys.path.insert(0, sys.argv[1])
        from conftest import ToyEnv
        from alf.environments.fast_parallel_environment import FastParallelEnvironment

        class Slow(ToyEnv):
            def _step(self, action):
                time.sleep(0.3)
                return super()._step(action)

        env = FastParallelEnvironment([Slow] * 2, num_workers=2, step_timeout_seconds=1.5, reset_timeout_seconds=1.5)
        env.reset()
        print("begins", flush=True)
        for _ in range(6):
            env.step(torch.zeros(2, dtype=torch.int64))
        print("done", flush=True)
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), os.path.dirname(__file__)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == "begins\n"
    time.sleep(0.4)
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.killpg(run.pid, signal.SIGCONT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0 and out == "done\n", err


def test_stopped_worker_counts_as_hanging(toys):
    env = FastParallelEnvironment(toys(2), num_workers=2, step_timeout_seconds=0.5, reset_timeout_seconds=0.5)
    env.reset()
    os.kill(env.worker_process_ids[1], signal.SIGSTOP)
    with pytest.raises(WorkerDiedError, match=r"did not answer[\s\S]*hangs outside Python, or is stopped"):
        steps(env, 1)


def test_stack_of_native_crash_is_told(toys):
    env = FastParallelEnvironment(toys(2, fault="segfault"), num_workers=2)
    env.reset()
    with pytest.raises(WorkerDiedError, match="SIGSEGV") as caught:
        steps(env, 20)
    assert "in _misbehave" in str(caught.value)


def test_slow_environment_is_named_with_its_times(toys, caplog, monkeypatch):
    monkeypatch.setattr("alf.environments._pool._latency._SAMPLE_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("alf.environments.fast_parallel_environment._LOOK_INTERVAL_SECONDS", 0.0)
    for options in ({"num_workers": 0}, {"num_workers": 2}):
        caplog.clear()
        env = FastParallelEnvironment(toys(4, fault="slow", faulty=(2,)), **options)
        try:
            env.reset()
            steps(env, 40)
        finally:
            env.close()
        told = [record.getMessage() for record in caplog.records if "slow" in record.getMessage()]
        assert len(told) == 1 and "environments [2] are slow" in told[0]
        p50, p90, longest = map(float, re.search(r"environment 2: p50 (\S+) ms, p90 (\S+) ms, longest (\S+) ms",
                                                 told[0]).groups())
        assert 20 <= p50 <= p90 <= longest


def test_environments_that_all_become_slow_are_told_once():
    seconds = np.full((NUM_SAMPLES, 3), 2e-3, np.float32)
    watch = LatencyWatch(seconds)
    assert watch.warning() is None
    seconds[:] = 30e-3
    assert "took 2 ms at first and takes 30 ms now" in watch.warning()
    assert watch.warning() is None


def test_quick_steps_are_never_called_slow():
    seconds = np.full((NUM_SAMPLES, 3), 1e-6, np.float32)
    watch = LatencyWatch(seconds)
    seconds[:, 1] = 900e-6
    assert watch.warning() is None
    seconds[:] = 0  # nothing measured yet
    assert LatencyWatch(seconds).warning() is None


# --- what environments do to their process ---


def test_what_workers_print_is_passed_on_up_to_a_limit(toys, capfd):
    env = FastParallelEnvironment(toys(2, fault="prints"), num_workers=2)
    env.reset()
    steps(env, 6)
    env.close()
    out, err = capfd.readouterr()
    assert out.startswith("x" * 100) and "a word on the standard error" in err
    assert _output.MAX_BYTES <= len(out) < _output.MAX_BYTES + 1000
    assert "the rest is left out" in out
    assert float(re.search(r"left out: (\S+) MB that environments printed", out).group(1)) > 15


def test_main_process_is_not_changed_by_its_environments(toys):
    before = os.getcwd(), torch.get_num_threads(), signal.getsignal(signal.SIGUSR1), np.random.get_state()[1].copy()
    env = FastParallelEnvironment(toys(2, fault="disturbs"), num_workers=2)
    try:
        env.reset()
        steps(env, 8)
    finally:
        env.close()
    after = os.getcwd(), torch.get_num_threads(), signal.getsignal(signal.SIGUSR1), np.random.get_state()[1]
    assert before[:3] == after[:3] and (before[3] == after[3]).all()


def test_environments_that_change_their_process_are_kept_out_of_the_main_one(toys, caplog):
    before = os.getcwd(), signal.getsignal(signal.SIGUSR1)
    env = FastParallelEnvironment(toys(2, fault="disturbs when made", faulty=(0,)))
    try:
        assert (os.getcwd(), signal.getsignal(signal.SIGUSR1)) == before
        assert env.placement.num_workers >= 1 and not env.placement.main_steps
        assert "has changed the working directory (to /) and the handlers of SIGUSR1" in caplog.text
    finally:
        env.close()


# --- what cannot be started ---


def test_constructor_that_cannot_be_sent_is_named(toys):
    lock = threading.Lock()

    def locked(env_id=0):
        with lock:
            return toys(1)[0](env_id=env_id)

    with pytest.raises(TypeError, match=r"constructor of environment 1: it cannot be sent.*cannot pickle.*lock"):
        FastParallelEnvironment(toys(1) + [locked], num_workers=1, start_method="spawn")


def test_128_environments_need_few_descriptors_or_it_is_told_how_many(toys):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with pytest.raises(OSError, match=r"128 workers need 272 file descriptors, and \d+ of the 256"):
            FastParallelEnvironment(toys(128), num_workers=128)
        env = FastParallelEnvironment(toys(128), num_workers=2)
        try:
            env.reset()
            steps(env, 2)
        finally:
            env.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_shared_memory_has_no_name_and_no_place_in_dev_shm(toys):
    free = os.statvfs("/dev/shm").f_bavail
    names = set(os.listdir("/dev/shm"))
    env = FastParallelEnvironment(toys(2, obs_size=4_000_000), num_workers=1, num_ring_rows=2)
    try:
        env.reset()  # 128 MB of observations
        assert set(os.listdir("/dev/shm")) <= names
        assert (free - os.statvfs("/dev/shm").f_bavail) * os.statvfs("/dev/shm").f_frsize < 64e6
    finally:
        env.close()


# --- memory that is overwritten ---

_TOLD_DAMAGE = "writes into the memory|which there is not|too many commands|did not answer"


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("word, value", [(0, 77), (1, 77), (1, 2**32 - 9), (4, 2**31), (8, 0xFFFFFFFF), (8, 0x0901)])
def test_overwritten_control_words_end_in_an_error(toys, backend, word, value):
    env = FastParallelEnvironment(toys(2), num_workers=2, backend=backend, step_timeout_seconds=1,
                                  reset_timeout_seconds=1)
    env.reset()
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=_TOLD_DAMAGE):
        words = env._pool._words
        env.step_async(torch.zeros(2, dtype=torch.int64))
        if word < 8:
            words[1, word] += np.uint32(value)
        else:
            env.step_wait()
            os.kill(env.worker_process_ids[1], signal.SIGSTOP)  # so that it reads what is written now
            env.step_async(torch.zeros(2, dtype=torch.int64))
            words[1, 8:] = value
            os.kill(env.worker_process_ids[1], signal.SIGCONT)
        env.step_wait()
    env.close()
    assert time.monotonic() - began < 20


def test_message_of_a_size_that_there_is_not_is_an_error(toys):
    env = FastParallelEnvironment(toys(2, fault="scribbles"), num_workers=1)
    env.reset()
    with pytest.raises(WorkerDiedError, match="failure report"):
        steps(env, 8)


# --- the end ---


def test_long_step_does_not_outlive_the_main_process(tmp_path):
    program = """
        import sys, time
        import torch
        sys.path.insert(0, sys.argv[1])
        from conftest import ToyEnv
        import functools
        from alf.environments.fast_parallel_environment import FastParallelEnvironment
        make = functools.partial(ToyEnv, fault="hang", fault_step=1)
        env = FastParallelEnvironment([make] * 2, num_workers=2)
        env.reset()
        env.step_async(torch.zeros(2, dtype=torch.int64))
        print(*env.worker_process_ids, flush=True)
        time.sleep(60)
    """
    main = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), os.path.dirname(__file__)],
                            stdout=subprocess.PIPE, text=True, start_new_session=True)
    workers = [int(pid) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    main.kill()
    main.wait()
    main.stdout.close()
    end = time.monotonic() + 2
    while any(map(is_running, workers)):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(process_id):
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("fault", ["close raises", "close hangs"])
def test_closing_ends_whatever_environments_do_then(toys, fault):
    env = FastParallelEnvironment(toys(3, fault=fault), num_workers=1)
    env.reset()
    workers = env.worker_process_ids
    began = time.monotonic()
    env.close()
    assert time.monotonic() - began < 5 and not any(map(is_running, workers))


def test_making_and_closing_leaves_no_descriptor_and_no_thread(toys):
    def open_now():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    make = functools.partial(FastParallelEnvironment, toys(2), num_workers=2, backend="python")

    def make_and_close():
        env = make()
        env.reset()
        env.close()

    make_and_close()
    before = open_now()
    for _ in range(3):
        make_and_close()
    assert open_now() == before
