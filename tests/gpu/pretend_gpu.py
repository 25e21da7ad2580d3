"""A pretend GPU: what a GPU would refuse is refused and what would wait for it is counted, on a machine without one.

A tensor there wraps one in main memory, on which everything is computed, with the numbers that the CPU gives. Tensors
of both devices do not mix, and NumPy and pointers do not reach it. What only a real one shows stays untested: its
kernels, its streams, its speed.

    import pretend_gpu
    pretend_gpu.plug_in()  # from now on, in this thread
    alf.set_default_device("cuda")

Into the file that the variable ALF_TEST_GPU_REPORT names, the process writes when it ends, as JSON, what waited for the
GPU, and how often, ``"waits": {"what < where < called by": times}``, and how many operations, or graphs of them, it was
given in updates and elsewhere: ``"launches": {"update": number, "elsewhere": number}``. With ALF_TEST_GPU_BYTES, memory
runs out for tensors that are larger.
"""

import atexit
import collections
import contextlib
import copy
import json
import multiprocessing
import os
import pathlib
import sys
from typing import Iterator
from unittest import mock

import torch
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

_aten = torch.ops.aten
_CPU, _CUDA = torch.device("cpu"), torch.device("cuda", 0)
# What PyTorch is told: a build without CUDA refuses that name, and takes this one for a device without memory.
_STAND_IN = torch.device("meta")

# They take a CPU tensor beside one of the GPU: as what is copied, or as indices.
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}
# The size of what they return, or the number, is known when the GPU has computed it.
_WAITS = {_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default, _aten.equal.default,
          _aten._unique2.default, _aten.unique_dim.default, _aten.unique_consecutive.default, _aten.is_nonzero.default}

_SET_DATA = torch.Tensor.data.__set__
_MAX_BYTES_COPIED_AT_ONCE = 1 << 16
_MEMORY = int(os.environ.get("ALF_TEST_GPU_BYTES", 1 << 40))
_ALF = str(pathlib.Path(__file__).parents[2] / "alf") + os.sep

_UPDATE = (str(pathlib.Path(_ALF, "algorithms", "_training", "learner.py")), "learn")
# Nothing is computed.
_TAKES_MEMORY = {_aten.empty.memory_format, _aten.empty_strided.default, _aten.empty_like.default,
                 _aten.new_empty.default, _aten.new_empty_strided.default}

_waited = collections.Counter()
_launched = collections.Counter()
_until_the_end = contextlib.ExitStack()
_graph = None  # the CUDAGraph that is recorded


class GpuTensor(torch.Tensor):
    """A tensor on the pretend GPU.

    Args:
        inner: the tensor in main memory that has its numbers.
    """

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=_STAND_IN)

    def __init__(self, inner):
        if inner.nbytes > _MEMORY:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {inner.nbytes} bytes.")
        self.inner = inner

    device = property(lambda self: _CUDA)
    is_cuda = property(lambda self: True)
    is_meta = is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})

    def __deepcopy__(self, memo):
        made = GpuTensor(copy.deepcopy(self.inner.detach(), memo))
        made.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()
                              if name != "inner"})
        return made.requires_grad_(self.requires_grad)

    def __repr__(self):
        return f"GpuTensor({self.inner})"

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, **kwargs):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                        "memory first.")

    def __array__(self, *args, **kwargs):
        return self.numpy()

    def data_ptr(self):
        return self.inner.data_ptr() + (1 << 62)  # tells memory apart, and whoever reads there crashes

    def untyped_storage(self):
        return self.inner.untyped_storage()


class CUDAGraph:
    """In place of ``torch.cuda.CUDAGraph``: operations that run again on the same memory.

    While they are recorded nothing is computed: memory that was there keeps its numbers, and what is made has none yet.
    """

    def __init__(self):
        self._operations = []
        self._kept = {}  # by address: memory that was there before, and its numbers
        self._made = {}  # by address

    def __enter__(self):
        global _graph
        assert _graph is None
        self._random_numbers = torch.random.get_rng_state()
        _graph = self

    def __exit__(self, error_type, *_):
        global _graph
        _graph = None
        torch.random.set_rng_state(self._random_numbers)
        for storage, numbers in self._kept.values():
            storage.copy_(numbers)
        for storage in self._made.values():
            storage.fill_(0xff)
        if error_type is not None:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def run(self, func, args, kwargs):
        """Record an operation, and return what it returns."""
        given = _addresses((args, kwargs))
        for address, storage in given.items():
            if address not in self._made and address not in self._kept:
                self._kept[address] = storage, storage.clone()
        result = func(*args, **kwargs)
        made = _without(given, result)
        self._made.update(_addresses(made))
        self._operations.append((func, args, kwargs, given, made))
        return result

    def replay(self):
        _count_launch()
        for func, args, kwargs, given, made in self._operations:
            for tensor, numbers in zip(made, _without(given, func(*args, **kwargs)), strict=True):
                tensor.copy_(numbers)


def _addresses(nest) -> dict:
    """Return the memory of all tensors, by address."""
    storages = [leaf.untyped_storage() for leaf in tree_flatten(nest)[0] if isinstance(leaf, torch.Tensor)]
    return {storage.data_ptr(): storage for storage in storages}


def _without(given, result) -> list:
    """Return the tensors of a result that are not views of what was given."""
    return [leaf for leaf in tree_flatten(result)[0] if isinstance(leaf, torch.Tensor)
            and leaf.untyped_storage().data_ptr() not in given]


class _Stream:
    """In place of ``torch.cuda.Stream``, ``stream`` and ``device``: there is one queue, and it is always empty."""

    def __init__(self, *_):
        pass

    def wait_stream(self, stream):
        pass

    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def _is_gpu(device) -> bool:
    return device is not None and torch.device(device).type in (_CUDA.type, _STAND_IN.type)


def _wait(what: str) -> None:
    """Count that this process waits for the GPU, with the lines of alf that made it."""
    if _graph is not None:
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what}")
    places, frame = [], sys._getframe(1)
    while frame is not None and len(places) < 3:
        path = frame.f_code.co_filename
        if path.startswith(_ALF):
            places.append(f"{path.removeprefix(_ALF)}:{frame.f_code.co_name}")
        frame = frame.f_back
    _waited[" < ".join([what, *places])] += 1


def _count_launch() -> None:
    if not os.environ.get("ALF_TEST_GPU_REPORT"):
        return
    frame = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != _UPDATE:
        frame = frame.f_back
    _launched["elsewhere" if frame is None else "update"] += 1


def _dispatch(func, args, kwargs):
    """Run an operation of PyTorch."""
    leaves, structure = tree_flatten((args, kwargs))
    gpu_tensors = [leaf for leaf in leaves if isinstance(leaf, GpuTensor)]
    is_made_there = _is_gpu(kwargs.get("device"))
    if not gpu_tensors and not is_made_there:
        return func(*args, **kwargs)
    _check_devices(func, args, leaves)
    if _graph is None and not func.is_view and func not in _TAKES_MEMORY:
        _count_launch()
    is_made_here = kwargs.get("device") is not None and not is_made_there
    copies_back = is_made_here if func is _aten._to_copy.default else (
        func is _aten.copy_.default and not isinstance(args[0], GpuTensor))
    if copies_back and (kwargs.get("non_blocking") or args[2:] == (True, )):
        raise RuntimeError(f"{func}: with non_blocking=True it returns before the numbers are on the CPU")
    if copies_back or func in _WAITS or _has_mask(func, args) or _waits_to_copy(func, args, leaves):
        _wait(str(func))
    inner = [leaf.inner if isinstance(leaf, GpuTensor) else leaf for leaf in leaves]
    if _graph is not None:  # numbers on the CPU become part of the graph
        inner = [leaf.clone() if isinstance(leaf, torch.Tensor) and leaf is outer else leaf
                 for leaf, outer in zip(inner, leaves, strict=True)]
    inner_args, inner_kwargs = tree_unflatten(inner, structure)
    if is_made_there:
        inner_kwargs["device"] = _CPU
    result = func(*inner_args, **inner_kwargs) if _graph is None else _graph.run(func, inner_args, inner_kwargs)
    if is_made_here or copies_back:
        return result
    known = {id(plain): leaf for plain, leaf in zip(inner, leaves, strict=True) if isinstance(leaf, GpuTensor)}
    result = tree_map(lambda made: made if not isinstance(made, torch.Tensor) else
                      known[id(made)] if id(made) in known else GpuTensor(made), result)
    if func in _COPIES or func in _INDEXING or not gpu_tensors:
        return result
    return return_and_correct_aliasing(func, args, kwargs, result)


def _check_devices(func, args, leaves) -> None:
    """Refuse what a GPU refuses: numbers of both devices, but for single ones, in one operation."""
    if func in _COPIES:
        return
    if func in _INDEXING:
        if not isinstance(args[0], GpuTensor):
            raise RuntimeError(f"{func}: indices should be either on cpu or on the same device as the indexed tensor")
        return
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor) and not isinstance(leaf, GpuTensor) and leaf.dim() > 0:
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 "
                               f"and cpu! {func}: {leaf.dtype} {tuple(leaf.shape)} is on the CPU")


def _has_mask(func, args) -> bool:
    return func in _INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])


def _waits_to_copy(func, args, leaves) -> bool:
    """Whether CUDA waits for what the GPU computes before it begins a copy: one from memory that is not pinned, unless
    it is small."""
    source = args[1] if func is _aten.copy_.default else leaves[0] if func is _aten._to_copy.default else None
    if _graph is not None and isinstance(source, torch.Tensor) and not isinstance(source, GpuTensor):
        return True
    return isinstance(source, torch.Tensor) and not isinstance(source, GpuTensor) and (
        source.nbytes > _MAX_BYTES_COPIED_AT_ONCE and not getattr(source, "is_pinned_for_test", False))


class _DispatchMode(TorchDispatchMode):
    """Sees what makes tensors on the GPU of none that are there."""

    def __init__(self):
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # with it PyTorch does not look for a GPU
        self.shape_env = None  # as what traces looks for there

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _dispatch(func, args, kwargs or {})


class _FunctionMode(TorchFunctionMode):
    """Puts the stand-in where PyTorch would look for CUDA, and does what it would do below all modes."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        args = tuple(map(_without_cuda, args))
        kwargs = {name: _without_cuda(value) for name, value in kwargs.items()}
        if func is torch.Tensor.pin_memory or kwargs.pop("pin_memory", False):
            pinned = args[0].clone() if func is torch.Tensor.pin_memory else func(*args, **kwargs)
            pinned.is_pinned_for_test = True
            return pinned
        if func in (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor):
            return self._make(func, args, kwargs)
        result = func(*args, **kwargs)
        if func == _SET_DATA and isinstance(args[1], GpuTensor):
            args[0].inner = args[1].inner
        return result

    @staticmethod
    def _make(func, args, kwargs):
        device = kwargs.pop("device", None) or (
            args[0].device if func is torch.Tensor.new_tensor else torch.get_default_device())
        if func is torch.Tensor.new_tensor:
            func, kwargs, args = torch.tensor, {"dtype": args[0].dtype, **kwargs}, args[1:]
        requires_grad = kwargs.pop("requires_grad", False)
        if isinstance(args[0], GpuTensor):
            made = args[0].to(device, kwargs.get("dtype"), copy=func is torch.tensor)
        else:
            made = func(*args, **kwargs, device=_CPU).to(_without_cuda(device))
        return made.requires_grad_() if requires_grad else made


def _without_cuda(argument):
    is_device = isinstance(argument, torch.device) or isinstance(argument, str) and argument in ("cuda", "cuda:0")
    return _STAND_IN if is_device and torch.device(argument).type == _CUDA.type else argument


@contextlib.contextmanager
def plugged_in() -> Iterator[None]:
    """Context in which PyTorch finds the pretend GPU, in this thread; where there is a real one it finds that."""
    if torch.cuda.device_count():
        yield
        return
    get_default, set_default, rng_state = torch.get_default_device, torch.set_default_device, torch.zeros(16).byte()
    with contextlib.ExitStack() as stack:
        for module, name, stand_in in (
            (torch, "set_default_device", lambda device: set_default(_without_cuda(device))),
            (torch, "get_default_device", lambda: _CUDA if get_default().type == _STAND_IN.type else get_default()),
            (torch.cuda, "is_available", lambda: True),
            (torch.cuda, "device_count", lambda: 1),
            (torch.cuda, "current_device", lambda: 0),
            (torch.cuda, "synchronize", lambda *_: _wait("synchronize")),
            (torch.cuda, "get_rng_state", lambda *_: rng_state),
            (torch.cuda, "get_rng_state_all", lambda: [rng_state]),
            (torch.cuda, "set_rng_state", lambda *_: None),
            (torch.cuda, "mem_get_info", lambda *_: (8 << 30, 16 << 30)),
            (torch.cuda, "memory_allocated", lambda *_: 0),
            (torch.cuda, "empty_cache", lambda: None),
            (torch.cuda, "CUDAGraph", CUDAGraph),
            (torch.cuda, "graph", lambda graph, **_: graph),
            (torch.cuda, "Stream", _Stream),
            (torch.cuda, "current_stream", _Stream),
            (torch.cuda, "stream", _Stream),
            (torch.cuda, "device", _Stream),
            (proxy_tensor, "HANDLED_TYPES", (*proxy_tensor.HANDLED_TYPES, GpuTensor)),  # may be a constant of a trace
        ):
            stack.enter_context(mock.patch.object(module, name, stand_in))
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes it here first, and the modes see it go there
        stack.enter_context(_DispatchMode())
        stack.enter_context(_FunctionMode())
        yield


@contextlib.contextmanager
def default_device() -> Iterator[None]:
    """Context in which new tensors are on the GPU."""
    with plugged_in():
        torch.set_default_device("cuda")
        try:
            yield
        finally:
            torch.set_default_device(None)


def plug_in() -> None:
    """Let PyTorch find the pretend GPU until the process ends."""
    if torch.cuda.device_count():
        return
    _until_the_end.enter_context(plugged_in())
    report = os.environ.get("ALF_TEST_GPU_REPORT")
    if report and multiprocessing.parent_process() is None:
        atexit.register(lambda: pathlib.Path(report).write_text(
            json.dumps({"waits": _waited, "launches": _launched})))
