"""Tracing a function of tensors into a flat graph of PyTorch operations, whatever Python it is written in."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from alf import progress
from alf.utils.recording import recording
from alf.utils.schedulers import scheduler_reader

_FILLERS = {
    torch.ops.aten.randn.default: torch.Tensor.normal_,
    torch.ops.aten.randn_like.default: torch.Tensor.normal_,
    torch.ops.aten.rand.default: torch.Tensor.uniform_,
    torch.ops.aten.rand_like.default: torch.Tensor.uniform_,
}

_PROGRESS_IS_READ = ("it reads the progress of training as a number, which a trace would keep as it is now. Read the "
                     "scheduler with alf.utils.schedulers.read_scheduler")


_MASKS = (torch.bool, torch.uint8)
_LEAVES_PYTORCH = (torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist)


class TracingError(RuntimeError):
    """Something in an update cannot be traced."""


class _InsidePyTorch(TorchFunctionMode):
    """Mode in which taking numbers out of tensors is an error: a trace would not see what becomes of them."""

    def __torch_function__(self, function: Callable, types: Sequence[type], args: tuple = (),
                           kwargs: Any = None) -> Any:
        if function in _LEAVES_PYTORCH:
            raise TracingError(f"it calls {function.__name__}() of a tensor, and a trace would keep these "
                               "numbers. Compute with tensors where alf.utils.recording.is_recording()")
        return function(*args, **(kwargs or {}))


class StateTensors:
    """The parameters and buffers of a module, each once, found again where they are replaced.

    Args:
        module: the root.
    """

    def __init__(self, module: nn.Module):
        self._places: List[Tuple[Dict[str, torch.Tensor], str]] = []
        self.names: List[str] = []
        seen = set()
        for prefix, child in module.named_modules():
            for holder in (child._parameters, child._buffers):
                for name, tensor in holder.items():
                    if tensor is not None and id(tensor) not in seen:
                        seen.add(id(tensor))
                        self._places.append((holder, name))
                        self.names.append(f"{prefix}.{name}".lstrip("."))

    def __len__(self) -> int:
        return len(self._places)

    def present(self) -> List[torch.Tensor]:
        """Return the tensors as they are now."""
        return [holder[name] for holder, name in self._places]

    def getters(self) -> List[Tuple[Dict[str, torch.Tensor], str]]:
        """Return for each tensor the dictionary that holds it, and its key."""
        return self._places

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Context after which the tensors, and the random numbers to come, are what they were before it."""
        tensors = self.present()
        with torch.no_grad():
            before = [tensor.clone() for tensor in tensors]
        devices = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
        with torch.random.fork_rng(devices):
            yield
        with torch.no_grad():
            for (holder, name), tensor, value in zip(self._places, tensors, before, strict=True):
                if not torch.equal(tensor, value):
                    tensor.copy_(value)
                holder[name] = tensor


class Trace:
    """A function of tensors as a graph, and how its inputs are found at each call.

    Attributes:
        graph: a ``GraphModule`` of the inputs that ``used`` names, then ``constants``, then ``noise``.
        used: indices of the inputs that the graph reads.
        constants: tensors that are neither inputs nor made in the function.
        noise: if it is hoisted, tensors to be filled with random numbers before each call, each with what fills it.
    """

    def __init__(self, function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor],
                 known: Sequence[torch.Tensor], hoists_noise: bool):
        """
        Args:
            function: called with ``inputs``; returns tensors.
            inputs: its inputs. Where the function finds these very tensors elsewhere, they are inputs as well.
            known: tensors that may change from call to call, of which no copy may be kept in the graph.
            hoists_noise: random numbers are inputs of the graph, for who runs it in another order. (One that is run as
                it is draws them where the function does.)
        Raises:
            TracingError: if the function's Python, or the shape of a tensor, depends on numbers in tensors.
        """
        try:
            with recording(), _InsidePyTorch():
                self.graph = make_fx(lambda *args: tuple(function(*args)), tracing_mode="real")(*inputs)
        except RuntimeError as error:
            if str(error) == _PROGRESS_IS_READ:
                raise TracingError(str(error)) from error
            if "tracing tensor" not in str(error) and "data-dependent" not in str(error).lower():
                raise
            raise TracingError(f"its Python depends on numbers in tensors: {error}") from error
        placeholders = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        self._last_placeholder = placeholders[-1]
        self._check_shapes()
        self.constants: List[torch.Tensor] = []
        self.noise: List[Tuple[torch.Tensor, Callable]] = []
        self._hoist_constants(known)
        if hoists_noise:
            self._hoist_noise()
        self.used = [index for index, node in enumerate(placeholders) if node.users]
        for node in placeholders:
            if not node.users:
                self.graph.graph.erase_node(node)
        self.graph.graph.set_codegen(torch.fx.graph.CodeGen())
        self.graph.recompile()

    @property
    def num_operations(self) -> int:
        """Number of operations of the graph."""
        return sum(node.op == "call_function" for node in self.graph.graph.nodes)

    def _check_shapes(self) -> None:
        """Raise TracingError if an operation tells from numbers how many it returns: the graph would keep how many."""
        for node in self.graph.graph.nodes:
            if torch.Tag.dynamic_output_shape not in getattr(node.target, "tags", ()):
                continue
            if node.target is torch.ops.aten.index.Tensor and not any(
                    index is not None and self._dtype(index) in _MASKS for index in node.args[1]):
                continue
            raise TracingError(f"how many numbers {node.target} returns depends on numbers in tensors. Keep all of "
                               "them, and use torch.where or a product with the mask")

    def _dtype(self, node: torch.fx.Node) -> torch.dtype:
        return getattr(self.graph, node.target).dtype if node.op == "get_attr" else node.meta["tensor_meta"].dtype

    def _to_input(self, node: torch.fx.Node) -> None:
        """Replace a node of the graph by a new placeholder, appended to the inputs."""
        with self.graph.graph.inserting_after(self._last_placeholder):
            placeholder = self.graph.graph.placeholder(f"input_{node.name}")
        placeholder.meta = dict(node.meta)
        node.replace_all_uses_with(placeholder)
        self.graph.graph.erase_node(node)
        self._last_placeholder = placeholder

    def _hoist_constants(self, known: Sequence[torch.Tensor]) -> None:
        """Turn tensors that the function found elsewhere into inputs: they are looked at anew in each call.

        Raises:
            TracingError: if one shares its memory with a tensor that may be replaced.
        """
        storages = {tensor.untyped_storage().data_ptr() for tensor in known if tensor.numel()}
        for node in [node for node in self.graph.graph.nodes if node.op == "get_attr"]:
            constant = getattr(self.graph, node.target)
            if constant.untyped_storage().data_ptr() in storages:
                raise TracingError(f"it has a reference of its own, of shape {tuple(constant.shape)}, to a tensor that "
                                   "changes from update to update. Take parameters and buffers from their modules")
            self.constants.append(constant)
            self._to_input(node)

    def _hoist_noise(self) -> None:
        """Turn plain random numbers into inputs, which are drawn in the order of the function."""
        for node in [node for node in self.graph.graph.nodes if node.target in _FILLERS]:
            meta = node.meta["tensor_meta"]
            tensor = torch.empty_strided(meta.shape, meta.stride, dtype=meta.dtype, device=node.meta["val"].device)
            self.noise.append((tensor, _FILLERS[node.target]))
            self._to_input(node)


def python_numbers(module: nn.Module) -> Dict[Tuple[str, str], Any]:
    """Return the numbers and strings that modules under ``module`` keep, by name of the module and of the attribute."""
    return {(name, key): value for name, child in module.named_modules() for key, value in vars(child).items()
            if isinstance(value, (bool, int, float, str))}


class ReadSchedulers:
    """The schedulers that a function reads, and the tensors that take the place of their values.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._schedulers: List[Callable[[], float]] = []
        self.tensors: List[torch.Tensor] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Context in which the schedulers that are read are noted."""

        def read(scheduler: Callable[[], float]) -> float:
            if not any(known is scheduler for known in self._schedulers):
                self._schedulers.append(scheduler)
                self.tensors.append(torch.zeros((), device=self._device))
            return scheduler()

        with scheduler_reader(read):
            yield
        self.refresh()

    @contextlib.contextmanager
    def replaced(self) -> Iterator[None]:
        """Context in which the tensors are read. To read progress in another way is an error."""

        def read(scheduler: Callable[[], float]) -> torch.Tensor:
            for known, tensor in zip(self._schedulers, self.tensors, strict=True):
                if known is scheduler:
                    return tensor
            raise TracingError(f"it reads {scheduler!r}, and did not when it ran before")

        with scheduler_reader(read), progress.unreadable(_PROGRESS_IS_READ):
            yield

    def refresh(self) -> None:
        """Write the present values into the tensors."""
        for scheduler, tensor in zip(self._schedulers, self.tensors, strict=True):
            tensor.fill_(scheduler())
