"""Adam with parameters given at construction or later: the rule shared by Adam, AdamW and AdamTF."""

from typing import Any, Callable, Optional, Tuple, Union

import torch

from alf.optimizers._block import Update
from alf.optimizers._flat_optimizer import FlatOptimizer, check_betas, check_lr


class AdamRule(FlatOptimizer):
    """Adam, Algorithm 1 of https://arxiv.org/abs/1412.6980, with PyTorch's L2 penalty and AMSGrad."""

    STATE_NAMES = ("exp_avg", "exp_avg_sq")
    _KERNEL = staticmethod(torch._fused_adam_)

    def __init__(
        self,
        params: Any,
        lr: Union[float, Callable[[], float]],
        betas: Tuple[float, float],
        eps: float,
        weight_decay: float,
        amsgrad: bool,
        **kwargs,
    ):
        name = kwargs.get("name") or type(self).__name__
        check_lr(name, lr)
        if eps < 0 or weight_decay < 0:
            raise ValueError(
                f"{name}: eps and weight_decay must not be negative, got {eps} and {weight_decay}."
            )
        if amsgrad:
            self.STATE_NAMES = self.STATE_NAMES + ("max_exp_avg_sq",)
        defaults = dict(
            lr=lr, betas=check_betas(name, betas), eps=eps, weight_decay=weight_decay, amsgrad=bool(amsgrad)
        )
        super().__init__(params, defaults, **kwargs)

    def _eps(self, update: Update) -> float:
        """Return what is added to ``sqrt(v_t / (1 - beta2^t))``."""
        return update.block.group["eps"]

    def _apply(self, update: Update, grad_scale: Optional[torch.Tensor]) -> None:
        group = update.block.group
        beta1, beta2 = group["betas"]
        states = update.states
        self._KERNEL(
            update.params,
            update.grads,
            states[0],
            states[1],
            states[2] if len(states) > 2 else [],
            update.block.step_tensors(update),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=self._weight_decay(update.block),
            eps=self._eps(update),
            amsgrad=len(states) > 2,
            maximize=False,
            grad_scale=grad_scale,
            found_inf=self.found_inf,
        )
