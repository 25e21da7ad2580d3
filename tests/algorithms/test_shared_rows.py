"""Rows and queues in shared memory: what is written is read, in order, and a full queue makes its writer wait."""

import threading
import types

import pytest
import torch

from alf.algorithms._training.shared_rows import SharedParameters, SharedRows, StepQueue
from alf.algorithms.async_unroller import AsyncUnroller, _Started
from alf.data_structures import Experience


def step(t):
    """Leaves of all kinds of sizes: their rows need padding."""
    return {
        "flag": torch.tensor([t % 2 == 0, True, False]),
        "image": torch.full((3, 5, 7), t % 256, dtype=torch.uint8),
        "pair": (torch.full((3, ), float(t)), torch.tensor(t)),
        "nothing": (),
    }


def test_rows_are_read_as_they_were_written_and_wrap_around():
    rows = SharedRows(step(0), num_rows=4)
    for t in range(4):
        rows.write(t, step(t))
    read = rows.read(3, 3)
    assert read["pair"][1].tolist() == [3, 0, 1] and read["pair"][1].dtype == torch.int64
    assert read["pair"][0].tolist() == [[3.0] * 3, [0.0] * 3, [1.0] * 3]
    assert read["image"].shape == (3, 3, 5, 7) and int(read["image"][0].max()) == 3
    assert read["flag"].tolist() == [[False, True, False], [True, True, False], [False, True, False]]
    assert read["nothing"] == ()


def test_what_was_read_is_a_copy():
    rows = SharedRows(step(0), num_rows=1)
    read = rows.read(0, 1)
    rows.write(0, step(9))
    assert int(read["pair"][1]) == 0


class Pipe:
    """Hands the memory over within this process."""

    def __init__(self, queue):
        self._queue = queue

    def send(self, rows):
        self._queue.attach(rows)


@pytest.fixture
def queues():
    """Both ends of a queue of 3 steps."""
    writer = StepQueue(3)
    reader = StepQueue(3)
    reader._freed, reader._filled = writer._freed, writer._filled
    return writer, reader, Pipe(reader)


def test_steps_come_in_order_and_the_writer_waits_while_the_queue_is_full(queues):
    writer, reader, pipe = queues
    put, taken = [], []

    def write():
        for t in range(20):
            while not writer.put(step(t), pipe, 0.05):
                pass
            put.append(t)

    thread = threading.Thread(target=write)
    thread.start()
    for num_steps in (1, 2, 3, 1, 3, 3, 2, 1, 2, 2):
        assert reader.wait(num_steps, 5.0)
        assert len(put) <= len(taken) + 3 + 1
        taken += reader.take(num_steps)["pair"][1].tolist()
    thread.join()
    assert taken == list(range(20))


def test_a_full_queue_refuses_and_keeps_what_it_has(queues):
    writer, reader, pipe = queues
    assert [writer.put(step(t), pipe, 0.01) for t in range(4)] == [True, True, True, False]
    assert reader.size() == 3
    assert reader.take(3)["pair"][1].tolist() == [0, 1, 2]


def test_steps_that_were_looked_ahead_at_come_again(queues):
    writer, reader, pipe = queues
    for t in range(3):
        writer.put(step(t), pipe, 0.01)
    assert reader.wait(3, 1.0)
    assert reader.take(2, num_look_ahead=1)["pair"][1].tolist() == [0, 1, 2]
    assert reader.size() == 1
    writer.put(step(3), pipe, 0.01)
    assert reader.wait(2, 1.0)
    assert reader.take(2)["pair"][1].tolist() == [2, 3]


def test_waiting_for_more_than_will_come_ends(queues):
    writer, reader, pipe = queues
    writer.put(step(0), pipe, 0.01)
    assert not reader.wait(2, 0.05)
    assert reader.wait(1, 0.05)


def test_parameters_are_taken_over_once_each_time_they_are_published():
    source, target = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    with torch.no_grad():
        source.weight.fill_(2.0)
        source.num_batches_tracked.fill_(7)
    shared = SharedParameters(source)
    assert shared.refresh(target) == 1
    assert target.weight.tolist() == [2.0] * 3 and int(target.num_batches_tracked) == 7
    with torch.no_grad():
        target.weight.fill_(5.0)
    assert shared.refresh(target) == 1 and target.weight.tolist() == [5.0] * 3
    shared.publish(source)
    assert shared.version == 2 and shared.refresh(target) == 2
    assert target.weight.tolist() == [2.0] * 3


def test_rows_are_read_on_the_cpu_whatever_the_default_device_is():
    rows = SharedRows(step(0), num_rows=2)
    rows.write(1, step(3))
    with torch.device("meta"):
        read = rows.read(1, 1)
    assert read["pair"][1].device.type == "cpu" and read["pair"][1].tolist() == [3]


def test_experience_of_the_other_process_arrives_on_the_default_device(queues):
    writer, reader, pipe = queues
    for t in range(2):
        experience = Experience(time_step=step(t))
        assert writer.put((experience, step(t), torch.tensor(t)), pipe, timeout_seconds=1)
    unroller = AsyncUnroller.__new__(AsyncUnroller)
    unroller._algorithm = types.SimpleNamespace(_data_transformer=None)
    unroller._queue, unroller._started = reader, _Started(None, (), is_transformed=True)
    with torch.device("meta"):
        result, = unroller.gather_unroll_results(2, 2)
    for steps in (result.experience.time_step, result.inputs):
        assert steps["image"].device.type == "meta" and steps["image"].shape == (2, 3, 5, 7)
