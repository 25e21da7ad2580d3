"""RingBuffer and DataBuffer: order, space, waiting, errors."""

import threading
import time

import pytest
import torch

from alf.tensor_specs import TensorSpec
from alf.utils import native_replay
from alf.utils.data_buffer import DataBuffer, RingBuffer, atomic

SPEC = {"x": TensorSpec((2, )), "n": TensorSpec((), torch.int64)}


@pytest.fixture(params=["native", "python"], autouse=True)
def implementation(request, monkeypatch):
    """Run each test with the extension and with its twin."""
    if request.param == "python":
        monkeypatch.setattr(native_replay, "_native", None)
    elif native_replay._native is None:
        pytest.skip("alf._replay is not built")


def items(*numbers):
    return {"x": torch.tensor([[number, -number] for number in numbers]).float(), "n": torch.tensor(numbers)}


def test_steps_leave_in_the_order_in_which_they_came():
    buffer = RingBuffer(SPEC, 3, max_length=4)
    for step in range(4):
        assert buffer.enqueue(items(step, 10 + step, 20 + step))
    assert not buffer.enqueue(items(4, 14, 24))  # full
    assert buffer.dequeue(n=3)["n"].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    assert buffer.enqueue(items(24, 4), env_ids=torch.tensor([2, 0]))
    assert buffer.current_size.tolist() == [2, 1, 2]
    assert buffer.dequeue(torch.tensor([2]), n=2)["x"].tolist() == [[[23, -23], [24, -24]]]
    assert buffer.get_current_position().tolist() == [5, 4, 5]
    assert buffer.get_earliest_position().tolist() == [3, 3, 5]
    assert buffer.circular(buffer.get_current_position()).tolist() == [1, 0, 1]


def test_removing_and_clearing_keep_positions():
    buffer = RingBuffer(SPEC, 2, max_length=4)
    for step in range(3):
        buffer.enqueue(items(step, 10 + step))
    buffer.remove_up_to(2)
    assert buffer.has_data(n=1) and not buffer.has_data(n=2)
    buffer.remove_up_to(5, torch.tensor([1]))
    assert buffer.current_size.tolist() == [1, 0]
    assert buffer.dequeue(torch.tensor([0]))["n"].tolist() == [[2]]
    buffer.enqueue(items(3, 13))
    buffer.clear()
    assert buffer.current_size.tolist() == [0, 0]
    assert buffer.get_earliest_position().tolist() == buffer.get_current_position().tolist() == [4, 4]


def test_one_thread_waits_for_another():
    buffer, received = RingBuffer(SPEC, 1, max_length=3), []

    def receive():
        while (batch := buffer.dequeue(n=2, blocking=True)) is not None:
            received.extend(batch["n"][0].tolist())

    thread = threading.Thread(target=receive)
    thread.start()
    for step in range(50):
        assert buffer.enqueue(items(step), blocking=True)
    end = time.monotonic() + 20
    while len(received) < 50 and time.monotonic() < end:
        time.sleep(0.001)
    buffer.stop()
    thread.join(20)
    assert received == list(range(50))
    assert not buffer.enqueue(items(0), blocking=True)  # stopped
    buffer.revive()
    assert buffer.enqueue(items(0), blocking=True)


def test_queue_errors_tell_what_was_expected():
    buffer = RingBuffer(SPEC, 2, max_length=3, name="queue")
    buffer.enqueue(items(1), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"queue.dequeue: expected at least n=1 steps in each .*, got \[0, 1\]"):
        buffer.dequeue()
    with pytest.raises(ValueError, match="n: expected 1 to max_length=3, got 4"):
        buffer.dequeue(n=4, blocking=True)
    with pytest.raises(ValueError, match="env_ids: expected 0 to 1, got -1"):
        buffer.has_space(torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"expected one dimension, got shape \[1, 1\]"):
        buffer.clear(torch.tensor([[0]]))
    with pytest.raises(ValueError, match="num_environments: expected at least 1, got 0"):
        RingBuffer(SPEC, 0)


def test_newest_items_are_kept():
    buffer = DataBuffer(SPEC, capacity=5)
    buffer.add_batch(items(0, 1, 2))
    assert not buffer.is_full()
    buffer.add_batch(items(3, 4, 5))
    assert buffer.is_full() and buffer.current_size == 5 and buffer.current_pos == 6
    assert buffer.get_all()["n"].tolist() == [1, 2, 3, 4, 5]
    buffer.add_batch(items(*range(6, 20)))
    assert buffer.get_all()["x"].tolist() == [[n, -n] for n in range(15, 20)]
    assert buffer.get_batch_by_indices(torch.tensor([[0, 4], [2, 2]]))["n"].tolist() == [[15, 19], [17, 17]]
    drawn = buffer.get_batch(2000)["n"]
    assert drawn.unique().tolist() == list(range(15, 20))
    assert (torch.bincount(drawn - 15) / 2000).tolist() == pytest.approx([0.2] * 5, abs=0.05)
    buffer.clear()
    with pytest.raises(ValueError, match="expected at least one item, got none"):
        buffer.get_batch(1)
    with pytest.raises(IndexError, match="indices: expected 0 to -1, got 0 to 0"):
        buffer.get_batch_by_indices(torch.tensor([0]))


def test_atomic_methods_exclude_one_another():
    class Counting(RingBuffer):
        count = 0

        @atomic
        def increase(self):
            """Return the count after this call."""
            before = self.count
            time.sleep(0.0005)
            self.count = before + 1
            return self.count

    buffer = Counting(SPEC, 1)
    threads = [threading.Thread(target=lambda: [buffer.increase() for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert buffer.count == 80
    assert buffer.increase.__doc__ == "Return the count after this call."
