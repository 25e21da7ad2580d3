"""CUDA graphs, on a GPU or on the pretended one: they give what the function gives that was recorded."""

import pretend_gpu
import pytest
import torch

from alf.algorithms._training.cuda_graph import CudaGraph


@pytest.fixture(autouse=True)
def _on_gpu():
    with pretend_gpu.default_device():
        yield


class Scaling:
    """A function with a weight, a count that it changes, and noise."""

    def __init__(self):
        self.weight, self.count = torch.ones(3), torch.zeros(())

    def __call__(self, weight, count, x, y):
        count.add_(1)
        return weight * x + y + torch.rand(3), count.clone()

    def recorded(self):
        return CudaGraph(self, self.weight.device, (2, 3), ("weight", "count"))


def assert_same_as_without(scaling, graph, i, y_device="cuda"):
    x, y = torch.full((3, ), float(i)), torch.full((), 0.5 * i, device=y_device)
    torch.manual_seed(i)
    found, count = graph(scaling.weight, scaling.count, x, y)
    torch.manual_seed(i)
    assert torch.equal(found.cpu(), (scaling.weight * x + y + torch.rand(3)).cpu())
    return count.item()


@pytest.mark.parametrize("y_device", ["cuda", "cpu"])
def test_it_gives_what_the_function_gives_and_changes_what_it_changes(y_device):
    scaling = Scaling()
    graph = scaling.recorded()
    for i in range(5):
        assert assert_same_as_without(scaling, graph, i, y_device) == scaling.count.item() == i + 1
        scaling.weight.mul_(2)


def test_the_function_runs_no_more_once_it_is_recorded():
    calls = []

    def function(x):
        calls.append(x)
        return (x + 1, )

    graph = CudaGraph(function, torch.zeros(1).device, (0, ))
    outputs = [graph(torch.full((2, ), float(i)))[0] for i in range(3)]
    num_calls = len(calls)
    assert graph(torch.full((2, ), 7.0))[0].tolist() == [8.0, 8.0]
    assert len(calls) == num_calls
    assert outputs[0] is outputs[2]  # the same memory each time


@pytest.mark.parametrize("make", [
    lambda i: torch.full((1, 3), float(i)).expand(2, 3), lambda i: torch.full((), float(i)).expand(2, 3),
    lambda i: torch.arange(i, i + 6.0).view(3, 2).t(), lambda i: torch.arange(i, i + 12.0)[::2].view(2, 3),
    lambda i: torch.empty(0, 3), lambda i: torch.arange(i, i + 6).view(2, 3) % 2 == 0],
    ids=["rows repeated", "number repeated", "transposed", "with gaps", "empty", "bool"])
def test_inputs_of_each_layout_are_copied(make):
    graph = CudaGraph(lambda x: (x + 1, ), torch.zeros(1).device, (0, ))
    for i in range(4):
        assert torch.equal(graph(make(i))[0].cpu(), (make(i) + 1).cpu())


def test_what_lies_elsewhere_now_is_recorded_anew():
    scaling = Scaling()
    graph = scaling.recorded()
    for i in range(12):
        assert_same_as_without(scaling, graph, i)
        if i % 3 == 1:
            scaling.weight.data = scaling.weight * 2
    assert scaling.count.item() == 12


def test_what_moves_each_time_is_refused():
    scaling = Scaling()
    graph = scaling.recorded()
    with pytest.raises(RuntimeError, match=r"^weight: expected to stay where it is in memory.*at each of 5 updates"):
        for i in range(20):
            assert_same_as_without(scaling, graph, i)
            scaling.weight = scaling.weight.clone()
    assert i == 5


def test_a_function_that_waits_is_refused():
    graph = CudaGraph(lambda x: (x * x.sum().item(), ), torch.zeros(1).device, (0, ))
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        graph(torch.ones(2))
