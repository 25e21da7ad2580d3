"""What processes that train together exchange: numbers, copies of tensors, and the mean of their gradients.

Each function is to be called by all processes, in the same order; a process waits there for the others.
"""

import contextlib
import functools
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import nn

from alf.config_util import configurable
from alf.utils.per_process_context import PerProcessContext

__all__ = [
    "GradientAverager", "LostProcessError", "broadcast", "data_distributed", "data_distributed_when",
    "first_difference", "make_ddp_performer", "total"
]


class LostProcessError(RuntimeError):
    """Another of the processes that train together has ended, or did not answer in time."""


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of the engine, whose classes differ
        context = PerProcessContext()
        raise LostProcessError(
            f"process {context.ddp_rank} of {context.num_processes}: another process of this training has ended, or "
            f"did not answer in time ({str(error).splitlines()[0]}). The last checkpoint is kept; the same command "
            "goes on from it.") from error


def total(numbers: Sequence[float]) -> List[float]:
    """Return the sum of each of the numbers over all processes.

    Raises:
        LostProcessError: as all functions here, if another process is gone.
    """
    summed = torch.tensor(numbers, dtype=torch.float64, device="cpu")
    with _exchange():
        dist.all_reduce(summed)
    return summed.tolist()


@torch.no_grad()
def broadcast(tensors: Sequence[torch.Tensor]) -> None:
    """Give all processes the values that the tensors have in process 0; those on one device travel together.

    Args:
        tensors: of the same shapes and types in all processes; they are overwritten.
    """
    by_device: Dict[torch.device, List[torch.Tensor]] = {}
    for tensor in sorted(tensors, key=torch.Tensor.element_size, reverse=True):  # so each begins where its type may
        by_device.setdefault(tensor.device, []).append(tensor)
    for together in by_device.values():
        packed = torch.cat([tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in together])
        with _exchange():
            dist.broadcast(packed, src=0)
        if PerProcessContext().ddp_rank == 0:
            continue
        parts = packed.split([tensor.numel() * tensor.element_size() for tensor in together])
        for tensor, part in zip(together, parts, strict=True):
            tensor.copy_(part.view(tensor.dtype).view(tensor.shape))


def first_difference(named_tensors: Sequence[Tuple[str, torch.Tensor]]) -> Optional[str]:
    """Return the name of the first tensor that is not the same in all processes; None if all are.

    Args:
        named_tensors: of the same names, shapes and types in all processes.
    """
    of_first = [tensor.detach().clone() for _, tensor in named_tensors]
    broadcast(of_first)
    differs = [not torch.equal(tensor, other) for (_, tensor), other in zip(named_tensors, of_first, strict=True)]
    found = [count > 0 for count in total(differs)]
    return named_tensors[found.index(True)][0] if True in found else None


class GradientAverager:
    """Replaces gradients by their mean over all processes.

    Args:
        parameters: whose gradients they are; in the same order in all processes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self._parameters = list(parameters)

    @torch.no_grad()
    def average(self, loss: torch.Tensor) -> torch.Tensor:
        """Replace the gradients, and return the mean of the losses that they are of.

        A parameter that has a gradient in some processes counts as 0 in the others; without one in any, it keeps none.

        Args:
            loss: a scalar.
        """
        num_with_gradient = total([p.grad is not None for p in self._parameters])
        loss = loss.detach().clone()
        by_type: Dict[tuple, List[torch.Tensor]] = {(loss.device, loss.dtype): [loss]}
        for parameter, count in zip(self._parameters, num_with_gradient, strict=True):
            if count == 0:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            by_type.setdefault((parameter.device, parameter.dtype), []).append(parameter.grad)
        for tensors in by_type.values():
            _average(tensors)
        return loss


def _average(tensors: List[torch.Tensor]) -> None:
    packed = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _exchange():
        dist.all_reduce(packed)
    packed.div_(PerProcessContext().num_processes)
    parts = packed.split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [part.view(tensor.shape) for tensor, part in zip(tensors, parts, strict=True)])


@configurable
def make_ddp_performer(module: nn.Module, method: Callable, ddp_rank: int, find_unused_parameters: bool = False,
                       bucket_cap_mb: int = 25) -> Callable:
    """Return ``method`` bound to ``module``.

    A published name. Gradients are averaged after the backward pass, whichever method built the graph, so nothing has
    to be wrapped, and there is nothing to choose.

    Args:
        module: the first argument of ``method``.
        method: what is to be performed.
        ddp_rank: not needed.
        find_unused_parameters: not needed: parameters without gradients are always found.
        bucket_cap_mb: not needed: all gradients travel together.
    """
    return functools.partial(method, module)


def data_distributed(method: Callable) -> Callable:
    """Return ``method``: a published mark of methods whose results are differentiated in several processes."""
    return method


def data_distributed_when(cond: Optional[Callable[[nn.Module], bool]] = None) -> Callable[[Callable], Callable]:
    """Return :func:`data_distributed`.

    Args:
        cond: published; not needed.
    """
    return data_distributed
