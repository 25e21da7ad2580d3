"""What processes wait for each other with, between threads, and between processes that end while they have it."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from alf.utils.process_sync import ProcessCounter, ProcessLock


def run(start_method, function, *args):
    """Run a function in another process, and return its exit code."""
    process = multiprocessing.get_context(start_method).Process(target=function, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def die_with(lock):
    lock.__enter__()
    os.kill(os.getpid(), signal.SIGKILL)


def count_up(lock, file, times):
    """Read a number and write the next one, as often as told."""
    for _ in range(times):
        with lock:
            number = int(file.read_text())
            file.write_text(str(number + 1))


def add(counter, numbers):
    for number in numbers:
        counter.add(number)


def test_a_counter_gives_what_was_added_since():
    counter = ProcessCounter()
    assert counter.take() == 0
    counter.add(2)
    counter.add(3)
    assert counter.take() == 5
    assert counter.take() == 0


def test_a_counter_waits_no_longer_than_told():
    began = time.monotonic()
    assert ProcessCounter().take(0.05) == 0
    assert 0.04 < time.monotonic() - began < 5


def test_a_counter_wakes_who_waits():
    counter = ProcessCounter()
    timer = threading.Timer(0.05, counter.add, [4])
    timer.start()
    began = time.monotonic()
    assert counter.take(30.0) == 4
    assert time.monotonic() - began < 20
    timer.join()


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_another_process_adds_to_the_same_counter(start_method):
    counter = ProcessCounter()
    assert run(start_method, add, counter, [1, 2]) == 0
    assert counter.take() == 3


def test_a_lock_may_be_taken_again_by_the_thread_that_has_it():
    lock = ProcessLock()
    taken = []
    thread = threading.Thread(target=lambda: taken.append(lock.__enter__()) or lock.__exit__())
    with lock:
        with lock:
            pass
        thread.start()
        time.sleep(0.05)
        assert taken == []  # the inner `with` has not given it back
    thread.join(10)
    assert taken == [lock]


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_one_process_has_the_lock_at_a_time(start_method, tmp_path):
    lock, file = ProcessLock(), tmp_path / "number"
    file.write_text("0")
    context = multiprocessing.get_context(start_method)
    processes = [context.Process(target=count_up, args=(lock, file, 300)) for _ in range(2)]
    for process in processes:
        process.start()
    count_up(lock, file, 300)
    for process in processes:
        process.join(60)
    assert file.read_text() == "900"


def test_a_lock_is_free_when_the_process_that_had_it_was_killed():
    lock = ProcessLock()
    assert run("spawn", die_with, lock) == -signal.SIGKILL
    taken = threading.Event()
    thread = threading.Thread(target=lambda: lock.__enter__() and taken.set(), daemon=True)
    thread.start()
    assert taken.wait(10)


def test_descriptors_go_with_the_objects():
    before = len(os.listdir("/proc/self/fd"))
    counter, lock = ProcessCounter(), ProcessLock()
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del counter, lock
    assert len(os.listdir("/proc/self/fd")) == before
