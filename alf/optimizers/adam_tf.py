"""Adam as TensorFlow computes it, with parameters; :class:`alf.optimizers.AdamTF` is the one made without
them."""

import math
from typing import Callable, Tuple, Union

from alf.optimizers._adam import AdamRule
from alf.optimizers._block import Update


class AdamTF(AdamRule):
    """Adam in the form "epsilon hat" of https://arxiv.org/abs/1412.6980 (before Section 2.1), as in
    TensorFlow.

    ``lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m_t / (sqrt(v_t) + eps)``: here ``eps`` is not divided by the
    square root of the bias correction. It matters in the first steps and wherever gradients are tiny.
    """

    def __init__(
        self,
        params=[{"params": []}],  # noqa: B006 (never written)
        lr: Union[float, Callable[[], float]] = 1e-3,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0,
        amsgrad: bool = False,
        **kwargs,
    ):
        """
        Args:
            params: parameters or param groups.
            lr: learning rate, a number or a scheduler.
            betas: decay rates of the averages of the gradient and of its square.
            eps: added to the square root of the average of the squares.
            weight_decay: L2 penalty, added to the gradient.
            amsgrad: divide by the largest average so far, https://openreview.net/forum?id=ryQu7f-RZ.
            kwargs: see :class:`~alf.optimizers._flat_optimizer.FlatOptimizer`.
        """
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **kwargs)

    def _eps(self, update: Update) -> float:
        # The kernel adds eps after dividing sqrt(v_t) by sqrt(1 - beta2^t), so the same is done to eps.
        group = update.block.group
        return group["eps"] / math.sqrt(1 - group["betas"][1] ** update.step)
