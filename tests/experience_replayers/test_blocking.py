"""Producers that wait for space."""

import threading

import torch

from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec


def test_no_step_is_replaced_when_two_producers_wait():
    buffer = ReplayBuffer(TensorSpec((), torch.int64), 1, 1)
    wait, both = buffer._wait, threading.Barrier(2)

    def wait_for_each_other(is_ready):
        found = wait(is_ready)
        try:
            both.wait(0.05)
        except threading.BrokenBarrierError:
            both.reset()
        return found

    buffer._wait = wait_for_each_other
    number, taken = 15, []

    def produce(first):
        for i in range(first, first + number):
            buffer.add_batch(torch.tensor([i]), blocking=True)

    producers = [threading.Thread(target=produce, args=(first, ), daemon=True) for first in (0, number)]
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers) or buffer.total_size:
        if buffer.total_size:
            taken.append(int(buffer.dequeue()))
    buffer.stop()
    assert sorted(taken) == list(range(2 * number))
