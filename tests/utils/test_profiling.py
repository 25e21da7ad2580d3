"""Scopes and the profiler: exclusive times, sums, threads, the Chrome trace."""

import threading
import time

import pytest

from alf.utils import profiling
from alf.utils.profiling import Profiler, profiled, scope
from alf.utils.summary_utils import record_time


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1_000

    def __call__(self):
        return self.now

    def pass_by(self, nanoseconds):
        self.now += nanoseconds


@pytest.fixture
def clock():
    return Clock()


def nanoseconds(profiler):
    return {name: phase.nanoseconds for name, phase in profiler.phases.items()}


def test_time_inside_an_inner_scope_is_not_that_of_the_outer_one(clock):
    with profiled(Profiler(clock)) as profiler:
        clock.pass_by(1)
        with scope("unroll"):
            clock.pass_by(10)
            with scope("policy"):
                clock.pass_by(100)
            clock.pass_by(1000)
        clock.pass_by(10_000)
    assert nanoseconds(profiler) == {"other": 10_001, "unroll": 1010, "policy": 100}
    assert profiler.seconds == pytest.approx(11_111e-9)


def test_phases_add_up_to_the_time_on_the_wall():
    began = time.perf_counter()
    with profiled(Profiler()) as profiler:
        for _ in range(20):
            with record_time("time/train"):
                time.sleep(0.001)
                with record_time("time/replay"), scope("mine"):
                    time.sleep(0.001)
    elapsed = time.perf_counter() - began
    total = sum(phase.nanoseconds for phase in profiler.phases.values())
    assert total == profiler.ended - profiler.began
    assert total * 1e-9 == pytest.approx(elapsed, rel=0.1, abs=0.005)
    assert profiler.phases["update"].seconds >= 0.02 and profiler.phases["mine"].seconds >= 0.02


def test_recorded_times_belong_to_phases(clock):
    with profiled(Profiler(clock)) as profiler:
        for tag in ("time/train_iter", "unroll_env_step", "time/replay", "time/preprocess_experience", "time/my_own"):
            with record_time(tag):
                clock.pass_by(5)
    assert nanoseconds(profiler) == {"other": 5, "environment": 5, "sampling": 10, "my_own": 5}


def test_calls_are_counted_where_a_phase_is_entered_from_another(clock):
    with profiled(Profiler(clock)) as profiler:
        for _ in range(3):
            with scope("update"), scope("backward"), scope("sampling"):
                pass
    assert profiler.phases["update"].calls == 3  # backward is a part of it
    assert profiler.phases["sampling"].calls == 3


def test_a_scope_that_raises_is_closed(clock):
    with profiled(Profiler(clock)) as profiler:
        with pytest.raises(KeyError), scope("update"):
            clock.pass_by(7)
            raise KeyError
        clock.pass_by(1)
    assert nanoseconds(profiler) == {"update": 7, "other": 1}


def test_start_forgets_what_was_before(clock):
    profiler = Profiler(clock)
    profiler.start()
    profiler.enter("update")
    clock.pass_by(5)
    profiler.exit()
    profiler.start()
    clock.pass_by(3)
    profiler.stop()
    assert nanoseconds(profiler) == {"other": 3}
    assert profiler.events == []


def test_other_threads_run_beside_and_are_not_added_up(clock):
    def other():
        with scope("sampling"):
            clock.pass_by(50)

    with profiled(Profiler(clock)) as profiler, scope("update"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert nanoseconds(profiler) == {"update": 50, "other": 0}
    assert profiler.beside() == {"sampling": pytest.approx(50e-9)}
    rows = {event["name"]: event["tid"] for event in profiler.chrome_trace()["traceEvents"] if event["ph"] == "X"}
    assert rows == {"update": 0, "sampling": 1}


def test_a_device_is_waited_for_before_the_clock_is_read():
    calls = []

    def clock():
        calls.append("clock")
        return 0

    with profiled(Profiler(clock, synchronize=lambda: calls.append("wait"))), scope("update"):
        pass
    assert calls == ["wait", "clock"] * 4  # begin, enter, leave, end


def test_chrome_trace_has_microseconds_from_the_beginning_and_outer_scopes_first(clock):
    with profiled(Profiler(clock)) as profiler:
        clock.pass_by(2000)
        with scope("update"):
            with scope("sampling"):
                clock.pass_by(500)
            clock.pass_by(100)
    events = [event for event in profiler.chrome_trace()["traceEvents"] if event["ph"] == "X"]
    assert [(e["name"], e["cat"], e["ts"], e["dur"]) for e in events] == [
        ("update", "update", 2.0, 0.6), ("sampling", "sampling", 2.0, 0.5)]


def test_events_beyond_the_limit_are_counted_as_lost_and_their_time_is_not(clock):
    with profiled(Profiler(clock, max_events=2)) as profiler:
        for _ in range(5):
            with scope("policy"):
                clock.pass_by(1)
    assert (len(profiler.events), profiler.num_lost_events) == (2, 3)
    assert profiler.phases["policy"].nanoseconds == 5


def test_scopes_cost_nothing_worth_while_nobody_profiles():
    assert profiling.active() is None
    assert scope("policy") is scope("update")  # nothing is made
