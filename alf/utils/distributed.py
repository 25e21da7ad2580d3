"""What processes that train together exchange: numbers, copies of tensors, and the mean of their gradients.

Each function is to be called by all processes, in the same order; a process waits there for the others. What is on a
CPU goes through memory that they share, where processes of one machine have been given it (:func:`use_shared_memory`);
everything else through :mod:`torch.distributed`.
"""

import contextlib
import functools
import os
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torch.distributed as dist
from torch import nn

from alf.config_util import configurable
from alf.utils.per_process_context import PerProcessContext

__all__ = [
    "GradientAverager", "LostProcessError", "broadcast", "data_distributed", "data_distributed_when",
    "first_difference", "make_ddp_performer", "shared_memory_bytes", "total", "use_shared_memory"
]

_PIECE_BYTES = 1 << 20  # exchanged at a time
_SPIN_SECONDS = 1e-4  # before a process that waits goes to sleep; waking it takes about as long

_member = None  # of the shared memory: alf._exchange.Member


class LostProcessError(RuntimeError):
    """Another of the processes that train together has ended, or did not answer in time."""


def shared_memory_bytes(num_processes: int) -> Optional[int]:
    """Return how much memory processes of one machine have to share; None where the extension is not built."""
    try:
        import alf._exchange as _exchange
    except ImportError:
        return None
    return _exchange.num_bytes(num_processes, _PIECE_BYTES)


def use_shared_memory(descriptor: int, timeout_seconds: float) -> None:
    """Exchange through memory that the processes share from now on.

    Args:
        descriptor: of its file, as long as :func:`shared_memory_bytes` says, and of zeros.
        timeout_seconds: how long one may let the others wait.
    """
    global _member
    import alf._exchange as _exchange
    context = PerProcessContext()
    # Who spins must not keep a core from the one that is waited for.
    has_core_each = len(os.sched_getaffinity(0)) >= context.num_processes
    _member = _exchange.Member(descriptor, context.ddp_rank, context.num_processes, _PIECE_BYTES,
                               _SPIN_SECONDS if has_core_each else 0.0, timeout_seconds)


def _sum_over_processes(tensor: torch.Tensor) -> None:
    """Replace a contiguous tensor by its sum over all processes, the same bits in all."""
    with _told_if_lost():
        if _member is None or tensor.device.type != "cpu" or tensor.dtype not in (torch.float32, torch.float64):
            dist.all_reduce(tensor)
        else:
            _member.sum(tensor.numpy())


def _copy_from_first(packed: torch.Tensor) -> None:
    """Replace contiguous bytes by those of process 0."""
    with _told_if_lost():
        if _member is None or packed.device.type != "cpu":
            dist.broadcast(packed, src=0)
        else:
            _member.copy_from(0, packed.numpy())


@contextlib.contextmanager
def _told_if_lost() -> Iterator[None]:
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
    _sum_over_processes(summed)
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
        _copy_from_first(packed)
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
        loss = loss.detach()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        # On the host: who steps needs to know there which parameters have gradients.
        shares = torch.tensor([p.grad is not None for p in self._parameters], dtype=torch.float32, device="cpu")
        loss, shares, *means = _means([loss, shares, *gradients])
        present = [i for i, share in enumerate(shares.tolist()) if share]
        for i in present:
            if self._parameters[i].grad is None:
                self._parameters[i].grad = torch.empty_like(self._parameters[i])
        if present:  # into the gradients that there are, whose numbers may lie in another order
            torch._foreach_copy_([self._parameters[i].grad for i in present], [means[i] for i in present])
        return loss


def _means(tensors: List[torch.Tensor]) -> List[torch.Tensor]:
    """Return the means of tensors over all processes; those of one type and device travel together."""
    by_type: Dict[tuple, List[int]] = {}
    for i, tensor in enumerate(tensors):
        by_type.setdefault((tensor.device, tensor.dtype), []).append(i)
    means: List[Optional[torch.Tensor]] = [None] * len(tensors)
    for indices in by_type.values():
        packed = torch.cat([tensors[i].reshape(-1) for i in indices])
        _sum_over_processes(packed)
        packed.div_(PerProcessContext().num_processes)
        for i, part in zip(indices, packed.split([tensors[i].numel() for i in indices]), strict=True):
            means[i] = part.view(tensors[i].shape)
    return means


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
