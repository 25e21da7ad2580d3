"""Tests of schedulers at hand-computed points."""

import pickle

import pytest

from alf import progress
from alf.utils import schedulers
from alf.utils.schedulers import (
    ConstantScheduler,
    CyclicalScheduler,
    ExponentialScheduler,
    LinearScheduler,
    StepScheduler,
    as_scheduler,
    disallow_scheduler,
    get_all_progresses,
    get_progress,
    read_scheduler,
    scheduler_reader,
    update_all_progresses,
    update_progress,
)


@pytest.fixture(autouse=True)
def fresh_progress():
    progress.reset_progress()
    yield
    progress.reset_progress()


def values_at(scheduler, progress_type, points):
    values = []
    for point in points:
        update_progress(progress_type, point)
        values.append(scheduler())
    return values


def test_step_scheduler():
    scheduler = StepScheduler("percent", [(0.2, 1.0), (0.6, 0.5), (1.0, 0.1)])
    assert values_at(scheduler, "percent", [0, 0.199, 0.2, 0.59, 0.6, 1.0]) == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]
    assert scheduler.final_value() == 0.1


def test_step_scheduler_warms_up():
    scheduler = StepScheduler("iterations", [(100, 2.0), (200, 1.0)], warm_up_period=10, start=20)
    assert values_at(scheduler, "iterations", [0, 20, 25, 30, 99, 150]) == [0.0, 0.0, 1.0, 2.0, 2.0, 1.0]


def test_linear_scheduler_interpolates_and_clamps():
    scheduler = LinearScheduler("iterations", [(10, 1.0), (20, 3.0), (40, 2.0)])
    assert values_at(scheduler, "iterations", [0, 10, 15, 20, 30, 40, 99]) == [
        1.0,
        1.0,
        2.0,
        3.0,
        2.5,
        2.0,
        2.0,
    ]
    assert scheduler.final_value() == 2.0


def test_exponential_scheduler():
    scheduler = ExponentialScheduler("env_steps", 8.0, 0.5, 100)
    assert values_at(scheduler, "env_steps", [0, 100, 300]) == [8.0, 4.0, 1.0]
    assert scheduler.final_value() == 0.0
    assert ExponentialScheduler("percent", 8.0, 0.5, 0.5).final_value() == 2.0
    assert ExponentialScheduler("env_steps", 8.0, 1.0, 0.5).final_value() == 8.0


def test_cyclical_scheduler():
    points = [0, 9, 10, 19, 20, 30]
    step = CyclicalScheduler("global_counter", 1.0, 3.0, 10)
    assert values_at(step, "global_counter", points) == [1.0, 1.0, 3.0, 3.0, 1.0, 3.0]
    linear = CyclicalScheduler("global_counter", 1.0, 3.0, 10, switch_mode="linear")
    assert values_at(linear, "global_counter", [0, 5, 10, 15, 20, 25]) == [1.0, 2.0, 3.0, 2.0, 1.0, 2.0]
    assert linear.final_value() == 3.0


def test_schedules_are_exact_at_a_billion_steps():
    linear = LinearScheduler("env_steps", [(0, 0.0), (2_000_000_000, 2_000_000_000)])
    got = values_at(linear, "env_steps", [999_999_999, 1_000_000_001])
    assert got == pytest.approx([999_999_999, 1_000_000_001], rel=1e-15)
    step = StepScheduler("env_steps", [(1_000_000_001, 1.0), (2_000_000_000, 2.0)])
    assert values_at(step, "env_steps", [1_000_000_000, 1_000_000_001]) == [1.0, 2.0]
    assert values_at(linear, "env_steps", [2**31 + 1]) == [2_000_000_000]


def test_constants_and_callables_become_schedulers():
    scheduler = as_scheduler(0.5)
    assert isinstance(scheduler, ConstantScheduler)
    assert scheduler() == scheduler.final_value() == 0.5
    assert as_scheduler(scheduler) is scheduler
    assert as_scheduler(lambda: 3)() == 3


def test_progress_is_shipped_whole():
    update_progress("iterations", 7)
    shipped = pickle.loads(pickle.dumps(get_all_progresses()))
    progress.reset_progress()
    update_all_progresses(shipped)
    assert get_progress("iterations") == 7.0 and get_progress("percent") == 0.0
    shipped["percent"] = 0.9
    assert get_progress("percent") == 0.0


def test_unknown_progress_type_suggests_the_nearest():
    for call in (
        lambda: update_progress("iteration", 1),
        lambda: get_progress("iteration"),
        lambda: LinearScheduler("iteration", [(0, 1)]),
        lambda: update_all_progresses(dict(iteration=1)),
    ):
        with pytest.raises(ValueError, match="Unknown progress type 'iteration'.*Did you mean 'iterations'"):
            call()


def test_bad_schedules_are_told():
    with pytest.raises(ValueError, match="StepScheduler.schedule: progresses must increase strictly"):
        StepScheduler("percent", [(0.5, 1), (0.5, 2)])
    with pytest.raises(
        ValueError, match=r"LinearScheduler.schedule: expected a list of \(progress, value\) pairs"
    ):
        LinearScheduler("percent", [0.5, 1.0])
    with pytest.raises(ValueError, match="at least one"):
        LinearScheduler("percent", [])
    with pytest.raises(ValueError, match="expected 'step' or 'linear', got 'triangle'"):
        CyclicalScheduler("percent", 0, 1, 0.1, "triangle")
    with pytest.raises(ValueError, match="decay_time must be positive"):
        ExponentialScheduler("percent", 1, 0.5, 0)


def test_disallowed_scheduler_says_what_to_do():
    scheduler = LinearScheduler("percent", [(0, 1.0), (1, 0.0)])
    with disallow_scheduler():
        with pytest.raises(RuntimeError, match="sync_progress_to_envs"):
            scheduler()
        assert as_scheduler(2.0)() == 2.0
    assert scheduler() == 1.0
    disallow_scheduler()
    try:
        with pytest.raises(RuntimeError, match="does not know the training progress"):
            scheduler()
    finally:
        schedulers._scheduler_allowed = True


def test_repr_names_the_schedule():
    assert (
        repr(LinearScheduler("percent", [(0, 1), (1, 0)]))
        == "LinearScheduler('percent', [(0.0, 1.0), (1.0, 0.0)])"
    )


def test_a_reader_takes_the_place_of_values_that_can_change():
    scheduler, constant = LinearScheduler("percent", [(0, 1), (1, 0)]), as_scheduler(2.0)
    assert read_scheduler(scheduler) == 1.0
    with scheduler_reader(lambda read: ("instead of", read)):
        assert read_scheduler(scheduler) == ("instead of", scheduler)
        assert read_scheduler(constant) == 2.0
    assert read_scheduler(scheduler) == 1.0


def test_progress_that_must_not_be_read_says_why():
    with progress.unreadable("not now"), pytest.raises(RuntimeError, match="not now"):
        LinearScheduler("percent", [(0, 1), (1, 0)])()
    assert progress.get_progress("percent") == 0.0
