"""AdamW with parameters; :class:`alf.optimizers.AdamW` is the one made without them."""

from typing import Callable, Tuple, Union

import torch

from alf.optimizers._adam import AdamRule


class AdamW(AdamRule):
    """Adam with decoupled weight decay, Algorithm 2 of https://arxiv.org/abs/1711.05101."""

    _KERNEL = staticmethod(torch._fused_adamw_)

    def __init__(
        self,
        params,
        lr: Union[float, Callable[[], float]] = 1e-3,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        **kwargs,
    ):
        """
        Args:
            params: parameters or param groups.
            lr: learning rate, a number or a scheduler.
            betas: decay rates of the averages of the gradient and of its square.
            eps: added to the denominator.
            weight_decay: each step multiplies parameters by ``1 - lr * weight_decay``.
            amsgrad: divide by the largest average so far, https://openreview.net/forum?id=ryQu7f-RZ.
            kwargs: see :class:`~alf.optimizers._flat_optimizer.FlatOptimizer`.
        """
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **kwargs)
