"""CompiledUpdate: loss and gradients of an update as one compiled graph of PyTorch operations.

The Python of an algorithm, its nests, distributions and networks, runs once for each signature of an update: it is
traced into a flat graph from parameters, buffers and batch to loss, gradients and priorities. Only that graph is
compiled, and only that graph runs in the updates that follow. On a GPU its kernels can be recorded as a CUDA graph.
"""

import gc
import time
from typing import Callable, Dict, Hashable, List, Optional, Sequence, Tuple

import torch
from absl import logging
from torch import nn

from alf import summary
from alf.algorithms._training.cuda_graph import CudaGraph
from alf.algorithms._training.mixed_precision import MixedPrecision
from alf.algorithms._training.parameters import is_algorithm
from alf.algorithms._training.tracing import ReadSchedulers, StateTensors, Trace, TracingError, python_numbers
from alf.data_structures import Experience
from alf.nest import Nest, flatten_with_structure

# Largest difference of the gradients, relative to their norm, that a compiled update may show when it is first made:
# so many roundings to the type that networks compute with, but at least that of float32.
_ROUNDINGS = 8
_TOLERANCE = 1e-3
_CUDA_GRAPH_MODES = ("cuda-graph", "reduce-overhead", "max-autotune")
_PLAIN_MODES = ("cuda-graph", "trace")  # they run PyTorch's kernels, and generate no code


class CompileError(RuntimeError):
    """An update cannot be compiled."""


class CompiledUpdate:
    """Makes the losses and gradients of an algorithm's updates by compiled code.

    Args:
        algorithm: the root algorithm.
        losses: returns the scalar to minimise and the priorities of sequences; called as this object is.
        mode: ``TrainerConfig.compile``.
        parameters: what optimizers train.
        precision: of the networks; None: float32.
    Raises:
        CompileError: if the updates of an algorithm in the tree cannot be compiled, or there is no compiler, or no GPU
            where the mode is for nothing else.
    """

    def __init__(self, algorithm: nn.Module, losses: Callable[..., Tuple[torch.Tensor, Nest]], mode: str,
                 parameters: Sequence[nn.Parameter], precision: Optional[MixedPrecision] = None):
        self._algorithm = algorithm
        self._losses = losses
        self._mode = mode
        self._precision = precision
        self._parameters = list(parameters)
        self._members = compilable_members(algorithm)
        if _are_on_cpu(self._parameters):
            _check_mode_on_cpu(mode)
        self._state = StateTensors(algorithm)
        self._plans: Dict[Hashable, "_Plan"] = {}
        # the last batch and all that was found out about it: epochs of one batch ask again
        self._last: Optional[tuple] = None

    def __call__(self, batch: Experience, info_spec: Nest, last_row_counts: bool,
                 weights: Optional[torch.Tensor]) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """Set the gradients of the parameters, and return the loss and the priorities of the sequences, if there are.

        Args:
            batch: sequences ``[L, B, ...]``.
            info_spec: spec from which the distributions in ``batch.rollout_info`` are rebuilt.
            last_row_counts: whether the last row is more than what is bootstrapped from.
            weights: ``[B]``: importance weights of the sequences.
        Raises:
            CompileError: if the update cannot be compiled.
        """
        kinds = [member.update_kind() for member in self._members]
        if self._last is not None and self._last[0] is batch and self._last[1] == kinds and weights is None:
            return self._last[2].run(self._last[3])
        leaves, structure = flatten_with_structure(batch)
        if weights is not None:
            leaves.append(weights)
        key = (*kinds, last_row_counts, weights is None, structure,
               *[(leaf.shape, leaf.stride(), leaf.dtype) for leaf in leaves])
        plan = self._plans.get(key)
        if plan is not None:
            self._last = (batch, kinds, plan, leaves)
            return plan.run(leaves)

        def losses(leaves: List[torch.Tensor]) -> Tuple[torch.Tensor, Nest]:
            weights_now = None
            if weights is not None:
                *leaves, weights_now = leaves
            return self._losses(structure.unflatten(leaves), info_spec, last_row_counts, weights_now)

        self._plans[key] = plan = _Plan(self._algorithm, self._mode, self._state, self._parameters, losses,
                                        self._precision)
        try:
            return plan.first_run(leaves)
        except TracingError as error:
            raise CompileError(_refusal(self._algorithm, str(error))) from error


class _Plan:
    """The compiled graph of updates of one signature."""

    def __init__(self, algorithm: nn.Module, mode: str, state: StateTensors, parameters: List[nn.Parameter],
                 losses: Callable[[List[torch.Tensor]], Tuple[torch.Tensor, Nest]],
                 precision: Optional[MixedPrecision] = None):
        self._algorithm = algorithm
        self._loss_scaler = None if precision is None else precision.loss_scaler
        self._tolerance = _TOLERANCE
        if precision is not None:
            self._tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(precision.dtype).eps)
        self._mode = mode
        self._state = state
        self._parameters = parameters
        self._losses = losses
        self._replays_cuda_graph = mode in _CUDA_GRAPH_MODES and not _are_on_cpu(parameters)

    def first_run(self, leaves: List[torch.Tensor]) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """Compile, do what :meth:`run` does, and compare that with what it would be without."""
        began = time.monotonic()
        algorithm, state = self._algorithm, self._state
        # Whether a parameter has a gradient is found out in the first of three runs of the same update.
        self._trained = self._parameters
        schedulers = self._schedulers = ReadSchedulers(self._parameters[0].device)
        with summary.record_if(_never):
            numbers = python_numbers(algorithm)
            with state.unchanged(), schedulers.noted():
                expected = self._outputs(leaves)
            changed = [key for key, value in python_numbers(algorithm).items() if numbers.get(key, value) != value]
            if changed:
                raise TracingError("each update changes the attribute " + ", ".join(
                    f"{attribute} of {name or 'the root'}" for name, attribute in changed))
            known = state.present()
            inputs = [*known, *leaves, *schedulers.tensors]
            with state.unchanged(), schedulers.replaced():
                trace = Trace(lambda *args: self._outputs(args[len(known):len(known) + len(leaves)]), inputs,
                              known + leaves, hoists_noise=self._mode not in _PLAIN_MODES)
        self._plan_inputs(trace.used, len(leaves), trace.constants)
        self._noise = trace.noise
        try:
            self._compiled = self._compile(trace.graph, leaves)
            if self._replays_cuda_graph:
                self._compiled = self._recorded(self._compiled, leaves)
            outputs = self._compute(leaves)
        except (torch.OutOfMemoryError, CompileError):
            raise
        except Exception as error:
            raise CompileError(f"TrainerConfig.compile={self._mode!r}: the update of {algorithm.name} was traced, and "
                               f"could not be compiled or recorded: {error}\nSet alf.config(\"TrainerConfig\", "
                               "compile=None).") from error
        self._check(outputs, expected)
        gc.collect()  # what the compiler leaves: else it is looked through in an update soon after
        logging.info("compiled the update of %s (%s): %d operations of %d inputs, in %.1f s. %s", algorithm.name,
                     self._mode, trace.num_operations, len(trace.used), time.monotonic() - began, _cache(self._mode))
        return self._take(outputs)

    def _outputs(self, leaves: Sequence[torch.Tensor]) -> List[torch.Tensor]:
        """Return the loss, the gradients of the parameters that have one, and priorities, by plain PyTorch.

        The loss scaler, if there is one, has scaled these gradients.
        """
        with torch.enable_grad():
            loss, priority = self._losses(list(leaves))
            scaled = loss if self._loss_scaler is None else self._loss_scaler.scale(loss)
            gradients = torch.autograd.grad(scaled, self._trained, allow_unused=True)
        given = [gradient for gradient in gradients if gradient is not None]
        if len(given) < len(gradients):
            self._trained = [p for p, gradient in zip(self._trained, gradients, strict=True) if gradient is not None]
        self._untrained = [p for p in self._parameters if not any(p is trained for trained in self._trained)]
        self._has_priority = isinstance(priority, torch.Tensor)
        outputs = [loss.detach(), *_separate(given)]
        return outputs + [priority.detach()] if self._has_priority else outputs

    def _plan_inputs(self, used: List[int], num_leaves: int, constants: List[torch.Tensor]) -> None:
        num_states = len(self._state)
        places = self._state.getters()
        self._state_inputs = [places[index] for index in used if index < num_states]
        self._state_names = [self._state.names[index] for index in used if index < num_states]
        self._leaf_inputs = [index - num_states for index in used if num_states <= index < num_states + num_leaves]
        self._scheduler_inputs = [self._schedulers.tensors[index - num_states - num_leaves] for index in used
                                  if index >= num_states + num_leaves]
        self._constants = constants

    def _inputs(self, leaves: List[torch.Tensor]) -> List[torch.Tensor]:
        inputs = [holder[name] for holder, name in self._state_inputs]
        inputs += [leaves[index] for index in self._leaf_inputs]
        inputs += self._scheduler_inputs
        inputs += self._constants
        inputs += [noise for noise, _ in self._noise]
        return inputs

    @torch.no_grad()
    def _compile(self, graph: torch.fx.GraphModule, leaves: List[torch.Tensor]) -> Callable:
        if self._mode in _PLAIN_MODES:
            return graph
        # torch.compile would do the same, and check in each call that the inputs are of this kind. That takes a third
        # of the time of an update, and the key of this plan says it already.
        options = {**torch._inductor.list_mode_options(self._mode), "fallback_random": True,
                   "triton.cudagraphs": False}  # it would copy parameters, and record nothing that changes a buffer
        if _are_on_cpu(self._parameters):
            from alf.algorithms._training import linear_lowering  # noqa: F401
            # Calls of kernels from C++ take a tenth less of a small update, and are built faster. That needs inputs
            # without the marks of tracing.
            options["cpp_wrapper"] = True
            for node in graph.graph.nodes:
                if node.op == "placeholder":
                    node.meta.pop("val", None)
        inputs = [x.detach() for x in self._inputs(leaves)]
        if self._replays_cuda_graph:
            inputs = [x.to(self._parameters[0].device) for x in inputs]
        return torch._inductor.compile(graph, inputs, options)

    def _recorded(self, compiled: Callable, leaves: List[torch.Tensor]) -> CudaGraph:
        """Return what replays the kernels of ``compiled``."""
        device, inputs, names = self._parameters[0].device, self._inputs(leaves), self._state_names
        for name, value in zip(names, inputs):
            if value.device != device:
                raise CompileError(_refusal(self._algorithm, f"CUDA graphs are of one device, {device}, and {name}, of "
                                            f"shape {tuple(value.shape)}, is on {value.device}"))
        first_leaf, end = len(names), len(names) + len(self._leaf_inputs)
        copied = [index for index, value in enumerate(inputs)
                  if first_leaf <= index < end or value.device != device]
        return CudaGraph(compiled, device, copied, names)

    @torch.no_grad()
    def _compute(self, leaves: List[torch.Tensor]) -> Sequence[torch.Tensor]:
        if self._scheduler_inputs:
            self._schedulers.refresh()
        for noise, fill in self._noise:
            fill(noise)
        return self._compiled(*self._inputs(leaves))

    def _take(self, outputs: Sequence[torch.Tensor]) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """Set the gradients; return loss and priorities."""
        for parameter in self._untrained:
            parameter.grad = None
        for parameter, gradient in zip(self._trained, outputs[1:]):
            parameter.grad = gradient
        return outputs[0], outputs[-1] if self._has_priority else None

    def run(self, leaves: List[torch.Tensor]) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """Set the gradients of the parameters, and return the loss and priorities.

        Args:
            leaves: the tensors of the batch.
        """
        return self._take(self._compute(leaves))

    def _check(self, outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
        """Raise CompileError unless the gradients are those of plain PyTorch, up to rounding."""
        last = len(self._trained) + 1
        norm = sum(float(gradient.double().square().sum()) for gradient in expected[1:last])**0.5
        difference = sum(float((one.double() - other.double()).square().sum())
                         for one, other in zip(outputs[1:last], expected[1:last], strict=True))**0.5
        if difference > self._tolerance * norm + 1e-6:
            raise CompileError(
                f"TrainerConfig.compile={self._mode!r}: the first compiled update of {self._algorithm.name} is not "
                f"that of plain PyTorch: its gradients differ by {difference:.3g}, and their norm is {norm:.3g}. Set "
                'alf.config("TrainerConfig", compile=None), or "trace" to see whether generated code is the cause.')


def compilable_members(algorithm: nn.Module) -> List[nn.Module]:
    """Return the algorithms of a tree, the root with them.

    Raises:
        CompileError: if the updates of one of them cannot be compiled.
    """
    if algorithm.on_policy:
        raise CompileError(_refusal(algorithm, "it learns from the graph of its unroll, which plain PyTorch makes"))
    members = [module for module in algorithm.modules() if is_algorithm(module)]
    for member in members:
        _check(member)
    return members


def _separate(gradients: List[torch.Tensor]) -> List[torch.Tensor]:
    """Return contiguous gradients, no two of which are the same tensor: an optimizer may change them in place."""
    seen, separate = set(), []
    for gradient in gradients:
        gradient = gradient.clone() if id(gradient) in seen else gradient.contiguous()
        seen.add(id(gradient))
        separate.append(gradient)
    return separate


def _are_on_cpu(parameters: Sequence[nn.Parameter]) -> bool:
    return all(p.is_cpu for p in parameters)


def _check(member: nn.Module) -> None:
    if "update_kind" not in vars(type(member)):
        raise CompileError(_refusal(member, "its class does not say that its updates can be. If train step and loss "
                                    "are nothing but tensor operations, define update_kind() in the class, as the "
                                    "docstring of Algorithm.update_kind says"))
    try:
        member.update_kind()
    except NotImplementedError as error:
        raise CompileError(_refusal(member, str(error))) from error


def _refusal(member: nn.Module, why: str) -> str:
    return (f"TrainerConfig.compile: the updates of {member.name} ({type(member).__name__}) cannot be compiled: {why}. "
            'Set alf.config("TrainerConfig", compile=None).')


def _check_mode_on_cpu(mode: str) -> None:
    """Raise CompileError unless the mode is for CPUs, too, and what it takes is there."""
    if mode == "trace":
        return
    if mode == "cuda-graph":
        raise CompileError('TrainerConfig.compile="cuda-graph" needs a GPU, and the parameters are on the CPU. Call '
                           'alf.set_default_device("cuda") at the top of the conf, or set alf.config("TrainerConfig", '
                           'compile=None).')
    from torch._inductor import config, cpp_builder  # not before it is needed: a second to import
    try:
        cpp_builder.get_cpp_compiler()
    except Exception as error:
        raise CompileError(
            f"TrainerConfig.compile={mode!r} needs a C++ compiler, and none of {config.cpp.cxx} was found. Install one "
            "(apt-get install g++), or name yours in the environment variable CXX, or set "
            'alf.config("TrainerConfig", compile=None).') from error


def _cache(mode: str) -> str:
    if mode in _PLAIN_MODES:
        return "No code was generated."
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    return f"The next start takes the code from {cache_dir()} (TORCHINDUCTOR_CACHE_DIR)."


def _never() -> bool:
    return False
