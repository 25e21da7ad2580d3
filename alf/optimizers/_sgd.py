"""Stochastic gradient descent with momentum, with parameters given at construction or later."""

from typing import Any, Callable, Optional, Union

import torch

from alf.optimizers._block import Update
from alf.optimizers._flat_optimizer import FlatOptimizer, check_lr


class SGDRule(FlatOptimizer):
    """SGD with PyTorch's momentum, dampening, Nesterov's variant and L2 penalty (see ``torch.optim.SGD``)."""

    def __init__(
        self,
        params: Any,
        lr: Union[float, Callable[[], float]],
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        **kwargs,
    ):
        name = kwargs.get("name") or type(self).__name__
        check_lr(name, lr)
        if momentum < 0 or weight_decay < 0:
            raise ValueError(
                f"{name}: momentum and weight_decay must not be negative, got {momentum} and {weight_decay}."
            )
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"{name}.nesterov=True needs momentum > 0 and dampening 0, "
                f"got momentum={momentum}, dampening={dampening}."
            )
        if momentum > 0:
            self.STATE_NAMES = ("momentum_buffer",)
        defaults = dict(
            lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov
        )
        super().__init__(params, defaults, **kwargs)

    def _apply(self, update: Update, grad_scale: Optional[torch.Tensor]) -> None:
        group = update.block.group
        torch._fused_sgd_(
            update.params,
            update.grads,
            update.states[0] if update.states else [],
            weight_decay=self._weight_decay(update.block),
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=False,
            is_first_step=update.step == 1,
            grad_scale=grad_scale,
            found_inf=self.found_inf,
        )
