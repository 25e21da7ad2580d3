"""CudaGraph: a function of tensors on a GPU, all kernels of which are started by one call."""

from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch

# Before kernels are recorded, libraries must have chosen theirs and taken their workspace. PyTorch's notes on CUDA
# graphs advise three.
_WARM_UP_RUNS = 3
_MAX_RECORDINGS_IN_A_ROW = 5


class CudaGraph:
    """Records the kernels of a function when it is first called, and starts them again in the calls that follow,
    without the Python and the launches that they took.

    Kernels read and write the same memory each time. Inputs that are new at each call are copied to where they were
    recorded; the others are read, and changed, where they lie. If one of those lies elsewhere, as after an optimizer
    has packed parameters, the function is recorded anew.

    Args:
        function: returns tensors; does nothing but PyTorch's operations on its inputs, the same ones each time, and
            waits for none of them. It may change them, and random numbers are drawn anew at each call.
        device: the GPU.
        copied: indices of the inputs that are copied at each call, from the CPU or the GPU.
        names: of the first inputs, for errors.
    """

    def __init__(self, function: Callable[..., Sequence[torch.Tensor]], device: torch.device, copied: Sequence[int],
                 names: Sequence[str] = ()):
        self._function = function
        self._device = device
        self._copied = copied
        self._names = names
        self._graph: Optional[torch.cuda.CUDAGraph] = None
        self._num_recordings_in_a_row = 0

    def __call__(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """Return what the function returns: the same tensors each time, which the next call writes again.

        Args:
            inputs: of the same shapes, strides and types each time.
        Raises:
            RuntimeError: if the function does what cannot be recorded, or the memory of an input that is not copied
                has been another one at each of several calls.
        """
        moved = self._moved(inputs)
        if self._graph is None or moved:
            self._num_recordings_in_a_row += 1
            if self._num_recordings_in_a_row > _MAX_RECORDINGS_IN_A_ROW:
                raise RuntimeError(
                    f"{', '.join(moved)}: expected to stay where it is in memory, got other memory at each of "
                    f"{_MAX_RECORDINGS_IN_A_ROW} updates, so that CUDA graphs would be recorded at each. Write into "
                    "the tensor (copy_) instead of replacing it.")
            self._record(inputs)
        else:
            self._num_recordings_in_a_row = 0
        self._copy(inputs)
        self._graph.replay()
        return self._outputs

    def _moved(self, inputs: Sequence[torch.Tensor]) -> List[str]:
        """Return which inputs are read where they lie, and lie elsewhere than when they were recorded."""
        if self._graph is None:
            return []
        return [self._names[index] if index < len(self._names) else f"input {index}"
                for index, pointer in self._pointers if inputs[index].data_ptr() != pointer]

    def _lay_out(self, inputs: Sequence[torch.Tensor]) -> None:
        """Set what is read and changed by the kernels, and what is copied to there at each call."""
        self._inputs = list(inputs)
        groups: Dict[tuple, Tuple[List[torch.Tensor], List[int]]] = {}
        for index in self._copied:
            value = inputs[index]
            self._inputs[index] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype,
                                                      device=self._device)
            targets, indices = groups.setdefault((value.dtype, value.device), ([], []))
            targets.append(_once(self._inputs[index]))
            indices.append(index)
        self._copies = list(groups.values())  # what one kernel can copy
        self._pointers = [(index, value.data_ptr()) for index, value in enumerate(inputs) if index not in self._copied]

    def _record(self, inputs: Sequence[torch.Tensor]) -> None:
        self._graph = None  # gives its memory back
        self._lay_out(inputs)
        self._copy(inputs)
        # The function is run, but what it changes must not be changed yet.
        in_place = [inputs[index] for index, _ in self._pointers]
        before = [value.clone() for value in in_place]
        graph = torch.cuda.CUDAGraph()
        with torch.random.fork_rng([self._device.index]), torch.cuda.device(self._device):
            stream, present = torch.cuda.Stream(), torch.cuda.current_stream()
            stream.wait_stream(present)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_RUNS):
                    self._function(*self._inputs)
            present.wait_stream(stream)
            cause = None
            try:
                # Other threads may go on using the GPU.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    try:
                        self._outputs = self._function(*self._inputs)
                    except RuntimeError as error:
                        cause = error
                        raise
            except RuntimeError as error:
                raise cause or error from None  # the graph only says that there was an error before
        for value, number in zip(in_place, before, strict=True):
            value.copy_(number)
        self._graph = graph

    def _copy(self, inputs: Sequence[torch.Tensor]) -> None:
        for targets, indices in self._copies:
            torch._foreach_copy_(targets, [_once(inputs[index]) for index in indices], non_blocking=True)


def _once(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without the repetitions of an expanded one: each number in memory once."""
    if 0 in tensor.stride():
        for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride())):
            if stride == 0 and size > 1:
                tensor = tensor.narrow(dim, 0, 1)
    return tensor
