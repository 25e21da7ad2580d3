"""Modules that act now and then: target updates, resets."""

import math
from typing import Callable, List

import torch
from torch import nn

from alf.config_util import configurable
from alf.utils.common._small import as_list
from alf.utils.parameter_reset import reset_parameters, resets
from alf.utils.schedulers import as_scheduler


class _CountsCalls(nn.Module):
    """Counts how often it was called since it last acted.

    In checkpoints the count is a buffer. In between it is an int: to add to a tensor and read it takes as long as the
    rest of what is done when nothing is due.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("_counter", torch.zeros((), dtype=torch.int64))
        self._count = 0

    def _is_due(self, period: float) -> bool:
        """Count one call, and return whether it is the ``period``-th one; then the next one is the first again."""
        self._count += 1
        if self._count < period:
            return False
        self._count = 0
        return True

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        self._counter.fill_(self._count)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args):
        super()._load_from_state_dict(*args)
        self._count = int(self._counter)


class Periodically(_CountsCalls):
    """Calls ``body`` every ``period``-th time it is called itself.

    Args:
        body: called without arguments.
        period: an int, or a scheduler of it.
        name: for the repr.
    """

    def __init__(self, body: Callable, period, name: str = "periodically"):
        super().__init__()
        self._body = body
        self._period = as_scheduler(period)
        self._name = name

    def forward(self) -> None:
        """Count one call, and act if it is due."""
        if self._is_due(self._period()):
            self._body()


@configurable
class TargetUpdater(_CountsCalls):
    """Moves the parameters of target modules towards those of modules: ``target += tau * (source - target)``.

    Args:
        models: a module or a list of modules.
        target_models: the same number of modules of the same kind.
        tau: how far; 1 copies. A number or a scheduler.
        period: act every so many calls. An int or a scheduler.
        init_copy: copy once at construction.
        delayed_update: move towards the parameters as they were at the last update, not as they are now.
    """

    def __init__(self, models, target_models, tau=1.0, period=1, init_copy: bool = True, delayed_update: bool = False):
        super().__init__()
        # In a plain list: this object must not own the parameters a second time.
        self._pairs = list(zip(as_list(models), as_list(target_models), strict=True))
        for model, target in self._pairs:
            _check_same_parameters(model, target)
        # Listed once: to walk through modules takes longer than to move small targets.
        self._sources = [p for model, _ in self._pairs for p in model.parameters()]
        self._targets = [p for _, target in self._pairs for p in target.parameters()]
        self._has_buffers = any(True for model, _ in self._pairs for _ in model.buffers())
        self._tau = as_scheduler(tau)
        self._period = as_scheduler(period)
        # What the targets move towards next, if that is not what the modules are by then.
        self._num_delayed = 0
        if init_copy:
            with torch.no_grad():
                torch._foreach_copy_(self._targets, self._sources)
            self._copy_buffers()
        if delayed_update:
            for source in self._sources:
                self.register_buffer(f"_delayed{self._num_delayed}", source.detach().clone())
                self._num_delayed += 1

    def forward(self) -> None:
        """Count one call, and move the targets if it is due."""
        if self._is_due(self._period()):
            self._move()

    @torch.no_grad()
    def _move(self) -> None:
        delayed = [getattr(self, f"_delayed{i}") for i in range(self._num_delayed)]
        towards = delayed or self._sources
        tau = self._tau()
        if tau == 1.0:
            torch._foreach_copy_(self._targets, towards)
        else:
            torch._foreach_lerp_(self._targets, towards, tau)
        if self._has_buffers:
            self._copy_buffers()
        if delayed:
            torch._foreach_copy_(delayed, self._sources)

    def _copy_buffers(self) -> None:
        for model, target in self._pairs:
            for source, copy in zip(model.buffers(), target.buffers(), strict=True):
                copy.copy_(source)


def _check_same_parameters(model: nn.Module, target: nn.Module) -> None:
    shapes = [[tuple(p.shape) for p in module.parameters()] for module in (model, target)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"TargetUpdater: expected target_models with the parameters of models, got shapes {shapes[1]} "
                         f"for {shapes[0]}.")


@configurable
class PeriodicReset(_CountsCalls):
    """Gives modules new random parameters every ``period``-th call.

    Args:
        models: a module or a list of modules, see :func:`~alf.layers.reset_parameters`.
        period: an int or a scheduler; a negative one means never.
        reset_buffers: also give their buffers the numbers that they have now.
        post_processings: called without arguments after a reset.
    Raises:
        ValueError: if there is a period, and a module has parameters of its own and no method that draws them.
    """

    def __init__(self, models, period=1, reset_buffers: bool = True, post_processings: List[Callable] = ()):
        super().__init__()
        self._models = as_list(models)
        self._period = as_scheduler(period)
        self._first_buffers: List[List[torch.Tensor]] = []  # of each model
        self._post_processings = list(post_processings)
        if isinstance(period, (int, float)) and period < 0:
            return
        for model in self._models:
            list(resets(model))  # raises an error now rather than in the middle of training
        if reset_buffers:
            self._first_buffers = [[buffer.clone() for buffer in model.buffers()] for model in self._models]

    def forward(self) -> None:
        """Count one call, and reset if it is due."""
        period = self._period()
        if self._is_due(period if period > 0 else math.inf):
            self._reset()

    @torch.no_grad()
    def _reset(self) -> None:
        for model in self._models:
            reset_parameters(model)
        for model, first_buffers in zip(self._models, self._first_buffers):
            for buffer, first in zip(model.buffers(), first_buffers, strict=True):
                buffer.copy_(first)
        for post_processing in self._post_processings:
            post_processing()
