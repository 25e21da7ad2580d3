"""What processes exchange, among three that do it; an odd number, whose means are no halves."""

import datetime
import functools
import multiprocessing
import os
import time
import traceback

import pytest
import torch
import torch.distributed as dist
from torch import nn

from alf.algorithms.algorithm import Algorithm
from alf.data_structures import LossInfo
from alf.optimizers import SGD, Adam
from alf.utils import distributed
from alf.utils.per_process_context import PerProcessContext

NUM_PROCESSES = 3


def check_totals(rank):
    assert distributed.total([rank, 1, 2**53]) == [3, 3, 3 * 2**53]


def tensors_of(rank):
    return [
        torch.tensor([True, rank == 0, False]),
        torch.full((2, 3), float(rank)),
        torch.tensor(7 + rank),
        torch.arange(4, dtype=torch.float16).reshape(2, 2).t() + rank,
        torch.full((1, ), 1.5 + rank, dtype=torch.float64),
        torch.zeros(0),
    ]


def check_large_tensors(rank):
    """They travel in pieces."""
    for dtype in (torch.float32, torch.float64):
        numbers = torch.arange(700_000, dtype=dtype) * (rank + 1)
        distributed._sum_over_processes(numbers)
        assert torch.equal(numbers, torch.arange(700_000, dtype=dtype) * 6)
    pattern = torch.arange(3_000_001) % 251
    copied = pattern.to(torch.uint8) if rank == 0 else torch.zeros(3_000_001, dtype=torch.uint8)
    distributed.broadcast([copied])
    assert torch.equal(copied, pattern.to(torch.uint8))


def check_many_exchanges(rank):
    """Short ones, of sums and copies in turn, leave nothing of one in the next."""
    for i in range(2000):
        assert distributed.total([i, rank]) == [3 * i, 3]
        number = torch.tensor([float(i * (rank == 0))])
        distributed.broadcast([number])
        assert number.item() == i


def check_rounding_is_the_same_in_all(rank):
    torch.manual_seed(rank)
    numbers = torch.randn(1000)
    distributed._sum_over_processes(numbers)
    assert distributed.first_difference([("numbers", numbers)]) is None


def check_broadcast(rank):
    tensors = tensors_of(rank)
    distributed.broadcast(tensors)
    for tensor, of_first in zip(tensors, tensors_of(0), strict=True):
        assert torch.equal(tensor, of_first), (tensor, of_first)


def check_first_difference(rank):
    same, other = torch.ones(3), torch.full((3, ), float(rank == 2))
    assert distributed.first_difference([("same", same)]) is None
    assert distributed.first_difference([("same", same), ("other", other), ("another", other)]) == "other"
    assert other.tolist() == [float(rank == 2)] * 3  # it only looked


def check_gradients(rank):
    everywhere, in_one, nowhere = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    in_doubles = nn.Parameter(torch.zeros((), dtype=torch.float64))
    everywhere.grad = torch.tensor([3.0 * rank, 1.0])
    in_doubles.grad = torch.tensor(6.0 * rank, dtype=torch.float64)
    if rank == 1:
        in_one.grad = torch.tensor([6.0, -3.0])
    averager = distributed.GradientAverager([everywhere, in_one, nowhere, in_doubles])
    loss = torch.tensor(float(rank), requires_grad=True)
    assert averager.average(loss).item() == 1.0
    assert everywhere.grad.tolist() == [3.0, 1.0]
    assert in_one.grad.tolist() == [2.0, -1.0]
    assert nowhere.grad is None
    assert in_doubles.grad.item() == 6.0
    assert loss.item() == rank  # the loss of this process is as it was


class Line(Algorithm):
    """Learns a line."""

    def __init__(self, optimizer):
        super().__init__(optimizer=optimizer)
        self.line = nn.Linear(2, 1)

    def loss(self, inputs, targets):
        return LossInfo(loss=(self.line(inputs).squeeze(-1) - targets)**2)


def line_after(make_optimizer, batches):
    """Return the parameters of a line that has learned from batches ``[T, B, 2]``, ``[T, B]``."""
    torch.manual_seed(0)
    line = Line(make_optimizer())
    for inputs, targets in batches:
        line.update_with_gradient(line.loss(inputs, targets))
    return torch.cat([p.detach().reshape(-1) for p in line.parameters()])


def check_update(rank):
    torch.manual_seed(5)
    batches = [(torch.randn(4, 6, 2), torch.randn(4, 6)) for _ in range(3)]
    shares = [(inputs[:, rank::3], targets[:, rank::3]) for inputs, targets in batches]
    for make_optimizer in (functools.partial(SGD, lr=0.1), functools.partial(Adam, lr=0.1, gradient_clipping=0.5)):
        together = line_after(make_optimizer, shares)
        everything = [together.clone() for _ in range(NUM_PROCESSES)]
        dist.all_gather(everything, together)
        assert all(torch.equal(together, other) for other in everything)
        PerProcessContext()._reset()
        alone = line_after(make_optimizer, batches)
        PerProcessContext().set_distributed(rank, NUM_PROCESSES)
        torch.testing.assert_close(together, alone)
        PerProcessContext()._reset()
        assert not torch.allclose(line_after(make_optimizer, shares), alone)  # it would show if nothing were exchanged
        PerProcessContext().set_distributed(rank, NUM_PROCESSES)


def check_lost_process(rank):
    if rank == 2:
        os._exit(0)
    with pytest.raises(distributed.LostProcessError, match=f"process {rank} of 3: another process of this training has "
                       "ended, or did not answer in time"):
        while True:
            distributed.total([1])


CHECKS = [check_totals, check_broadcast, check_large_tensors, check_many_exchanges, check_rounding_is_the_same_in_all,
          check_first_difference, check_gradients, check_update, check_lost_process]


@pytest.fixture(scope="module", params=["gloo", "shared memory"])
def results(tmp_path_factory, request):
    """Return {(name of the check, rank): traceback or ""} of the checks that were run, by either way."""
    memory = None
    if request.param == "shared memory":
        pytest.importorskip("alf._exchange")
        descriptor = os.memfd_create("alf-test")
        os.ftruncate(descriptor, distributed.shared_memory_bytes(NUM_PROCESSES))
        memory = f"/proc/{os.getpid()}/fd/{descriptor}"
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    folder = tmp_path_factory.mktemp("results")
    processes = [context.Process(target=run_and_write, args=(rank, store.port, memory, str(folder)))
                 for rank in range(NUM_PROCESSES)]
    for process in processes:
        process.start()
    end = time.monotonic() + 100
    while any([process.is_alive() for process in processes]) and time.monotonic() < end:  # each is reaped as it ends
        time.sleep(0.05)
    for process in processes:
        process.kill()
    if memory is not None:
        os.close(descriptor)
    return {(path.name.split("-")[0], int(path.name.split("-")[1])): path.read_text() for path in folder.iterdir()}


def run_and_write(rank, port, memory, folder):
    """Run the checks up to the first that fails; write what it says to a file for each."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=NUM_PROCESSES,
                            timeout=datetime.timedelta(seconds=60))
    PerProcessContext().set_distributed(rank, NUM_PROCESSES)
    if memory is not None:
        distributed.use_shared_memory(os.open(memory, os.O_RDWR), timeout_seconds=60)
    for check in CHECKS:
        told = ""
        try:
            check(rank)
        except BaseException:
            told = traceback.format_exc()
        with open(os.path.join(folder, f"{check.__name__}-{rank}"), "w") as file:
            file.write(told)
        if told:
            break
    os._exit(0)  # one of them is gone, so there is no parting in peace


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_processes_exchange(results, check):
    ranks = [0, 1] if check is check_lost_process else [0, 1, 2]
    for rank in ranks:
        assert (check.__name__, rank) in results, results
        assert results[check.__name__, rank] == ""


def test_published_marks_leave_methods_as_they_are():

    class Marked:

        @distributed.data_distributed
        def twice(self, number):
            return 2 * number

        @distributed.data_distributed_when(lambda self: True)
        def thrice(self, number):
            return 3 * number

    assert (Marked().twice(2), Marked().thrice(2)) == (4, 6)
    module = nn.Linear(1, 1)
    perform = distributed.make_ddp_performer(module, lambda self, number: (self, number), ddp_rank=0)
    assert perform(5) == (module, 5)
