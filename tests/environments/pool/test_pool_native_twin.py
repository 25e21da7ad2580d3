"""The native signals and row bookkeeping against their Python twins."""

import multiprocessing
import threading
import time

import numpy as np
import pytest
import torch

from alf.environments._pool import _backend, _twin
from alf.environments._pool._segment import Layout, Place, Segment, Specs
from alf.tensor_specs import TensorSpec

native = pytest.importorskip("alf._parallel_env")


def make_signals(backend, num_workers):
    segment = Segment().allocate(64 * num_workers)
    lines = segment.array(Place.contiguous(0, (num_workers, 64), np.uint8))
    events = _backend.make_events(backend, num_workers)
    return [_backend.make_signals(backend, lines, events, spin=spin) for spin in (True, False)], lines


@pytest.mark.parametrize("backend", ["native", "python"])
def test_commands_arrive_in_order_and_tickets_tell_when_they_are_done(backend):
    (main, worker), lines = make_signals(backend, 2)
    tickets = [main.post(1, code) for code in (11, 12, 13)]
    assert not main.wait(1, tickets[0], 0.0)
    assert [worker.next(1, 1.0)] == [11]
    worker.finish(1, False)
    assert main.wait(1, tickets[0], 1.0) and not main.wait(1, tickets[1], 0.01)
    for code in (12, 13):
        assert worker.next(1, 1.0) == code
        worker.finish(1, code == 13)
    assert worker.next(1, 0.01) == -1
    assert main.wait_all([main.post(0, 5), tickets[2]], 0.01) == 0
    worker.next(0, 1.0)
    worker.finish(0, False)
    assert main.wait_all([1, 3], 1.0) == _twin.FAILED
    lines.view(np.uint32)[:, 4] = 0
    assert main.wait_all([1, 3], 1.0) == _twin.DONE


@pytest.mark.parametrize("backend", ["native", "python"])
def test_counters_wrap_around(backend):
    (main, worker), lines = make_signals(backend, 1)
    lines.view(np.uint32)[0, :2] = 2**32 - 3
    for code in range(8):
        ticket = main.post(0, code)
        assert not main.wait(0, ticket, 0.0)
        assert worker.next(0, 1.0) == code
        worker.finish(0, False)
        assert main.wait(0, ticket, 0.0)


@pytest.mark.parametrize("backend", ["native", "python"])
def test_too_many_commands_are_refused(backend):
    (main, _), _ = make_signals(backend, 1)
    for code in range(8):
        main.post(0, code)
    with pytest.raises(RuntimeError, match="too many commands"):
        main.post(0, 8)


def _echo(backend, lines, events, count):
    signals = _backend.make_signals(backend, lines, events, spin=False)
    for _ in range(count):
        signals.next(0, 10.0)
        signals.finish(0, False)


@pytest.mark.parametrize("backend", ["native", "python"])
def test_no_wake_up_is_lost_between_processes(backend):
    segment = Segment().allocate(64)
    lines = segment.array(Place.contiguous(0, (1, 64), np.uint8))
    events = _backend.make_events(backend, 1)
    main = _backend.make_signals(backend, lines, events, spin=False)
    child = multiprocessing.get_context("fork").Process(target=_echo, args=(backend, lines, events, 2000))
    child.start()
    for i in range(2000):
        ticket = main.post(0, i)
        while not main.wait(0, ticket, 2.0):
            assert child.is_alive()
    child.join()


@pytest.mark.parametrize("backend", ["native", "python"])
def test_a_waiting_thread_lets_others_run(backend):
    (main, worker), _ = make_signals(backend, 1)
    ticket = main.post(0, 1)
    threading.Timer(0.05, lambda: (worker.next(0, 1.0), worker.finish(0, False))).start()
    began = time.monotonic()
    while not main.wait(0, ticket, 60.0):
        assert time.monotonic() - began < 50
    assert time.monotonic() - began < 50


def make_keepers(dtype):
    specs = Specs(
        [TensorSpec((3,), dtype), TensorSpec((), torch.uint8)],
        {"a": TensorSpec((2,)), "b": TensorSpec((), torch.int64)},
        TensorSpec(()),
        (),
        1,
        False,
    )
    layout = Layout(specs, batch_size=6, num_ring_rows=3)
    both = []
    for keeper in ("native", "python"):
        segment = Segment().allocate(layout.num_bytes)
        views = layout.views(segment)
        both.append((_backend.make_row_keeper(keeper, views), views))
    return both


def fill(views, seed):
    generator = np.random.default_rng(seed)
    views.step_type[:] = generator.integers(0, 3, views.step_type.shape)
    for block in (views.reward, *views.observation, *views.actions, *views.prev_action):
        block[...] = generator.normal(size=block.shape) * 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_row_bookkeeping_equals_its_twin(dtype):
    (native_keeper, native_views), (twin_keeper, twin_views) = make_keepers(dtype)
    generator = np.random.default_rng(0)
    for trial in range(200):
        start, stop = sorted(generator.integers(0, 7, 2))
        row = int(generator.integers(3))
        for views in (native_views, twin_views):
            fill(views, trial)
        if trial % 2:
            bad_row, bad_value = int(generator.integers(6)), [np.nan, np.inf, -np.inf][trial % 3]
            where = trial // 2 % 3
            for views in (native_views, twin_views):
                target = [views.reward[row], views.observation[0][row, :, 2], views.actions[0][:, 1]][where]
                target[bad_row] = bad_value
        results = []
        for keeper in (native_keeper, twin_keeper):
            results.append((keeper.begin(row, start, stop),))
        native_views.step_type[row, start:stop] = twin_views.step_type[row, start:stop] = trial % 3
        for i, keeper in enumerate((native_keeper, twin_keeper)):
            results[i] += (keeper.finish(row, start, stop),)
        assert results[0] == results[1]
        for a, b in zip(native_views.prev_action, twin_views.prev_action):
            assert np.array_equal(a, b, equal_nan=True)
        assert np.array_equal(native_views.step_type, twin_views.step_type)


def test_large_finite_numbers_are_finite():
    (keeper, views), _ = make_keepers(torch.float32)
    fill(views, 0)
    views.observation[0][...] = np.finfo(np.float32).max
    views.reward[...] = np.finfo(np.float32).tiny / 2
    keeper.begin(0, 0, 6)
    assert keeper.finish(0, 0, 6) is None


def test_native_parts_refuse_rows_outside_their_blocks():
    (keeper, _), _ = make_keepers(torch.float32)
    for arguments in ((3, 0, 1), (0, -1, 2), (0, 0, 7), (0, 3, 2)):
        with pytest.raises(IndexError):
            keeper.begin(*arguments)
    with pytest.raises(ValueError, match="64 bytes"):
        native.Signals(np.zeros((2, 32), np.uint8), 0.0)
