"""Optimizers that are made without parameters: ``Adam(lr=1e-3)`` in a conf, parameters come from the
algorithm."""

from typing import Callable, Optional, Tuple, Union

from alf.config_util import configurable
from alf.optimizers import adam_tf, adamw
from alf.optimizers._adam import AdamRule
from alf.optimizers._not_offered import check_not_offered
from alf.optimizers._sgd import SGDRule
from alf.optimizers._wrap import wrap_optimizer

__all__ = ["Adam", "AdamTF", "AdamW", "SGD", "wrap_optimizer"]

LearningRate = Union[float, Callable[[], float]]

_NO_PARAMS = [{"params": []}]


@configurable("alf.optimizers.Adam")
class Adam(AdamRule):
    """Adam, https://arxiv.org/abs/1412.6980, with the numbers of ``torch.optim.Adam``."""

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        gradient_clipping: Optional[float] = None,
        clip_by_global_norm: bool = False,
        flat: Optional[bool] = None,
        name: Optional[str] = None,
        **not_offered,
    ):
        """
        Args:
            lr: learning rate, a number or a scheduler.
            betas: decay rates of the averages of the gradient and of its square.
            eps: added to the denominator.
            weight_decay: L2 penalty, added to the gradient.
            amsgrad: divide by the largest average so far, https://openreview.net/forum?id=ryQu7f-RZ.
            gradient_clipping: if not None, the largest norm of the gradient.
            clip_by_global_norm: if True, the norm is that of all gradients together, else that of each
                parameter's.
            flat: pack parameters into one buffer: True = all, False = none, None = where it is faster.
            name: of this optimizer; by default that of the class.
            not_offered: other arguments of the published API, with their defaults: the rest is refused.
        """
        check_not_offered(type(self).__name__, not_offered)
        super().__init__(
            _NO_PARAMS,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            gradient_clipping=gradient_clipping,
            clip_by_global_norm=clip_by_global_norm,
            flat=flat,
            name=name,
        )


@configurable("alf.optimizers.AdamW")
class AdamW(adamw.AdamW):
    """AdamW, https://arxiv.org/abs/1711.05101, with the numbers of ``torch.optim.AdamW``."""

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        gradient_clipping: Optional[float] = None,
        clip_by_global_norm: bool = False,
        flat: Optional[bool] = None,
        name: Optional[str] = None,
        **not_offered,
    ):
        """
        Args:
            lr: learning rate, a number or a scheduler.
            betas: decay rates of the averages of the gradient and of its square.
            eps: added to the denominator.
            weight_decay: each step multiplies parameters by ``1 - lr * weight_decay``.
            amsgrad: see :class:`Adam`.
            gradient_clipping: see :class:`Adam`.
            clip_by_global_norm: see :class:`Adam`.
            flat: see :class:`Adam`.
            name: see :class:`Adam`.
            not_offered: see :class:`Adam`.
        """
        check_not_offered(type(self).__name__, not_offered)
        super().__init__(
            _NO_PARAMS,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            gradient_clipping=gradient_clipping,
            clip_by_global_norm=clip_by_global_norm,
            flat=flat,
            name=name,
        )


@configurable("alf.optimizers.AdamTF")
class AdamTF(adam_tf.AdamTF):
    """Adam as TensorFlow computes it, see :class:`alf.optimizers.adam_tf.AdamTF`."""

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        gradient_clipping: Optional[float] = None,
        clip_by_global_norm: bool = False,
        flat: Optional[bool] = None,
        name: Optional[str] = None,
        **not_offered,
    ):
        """
        Args:
            lr: learning rate, a number or a scheduler.
            betas: decay rates of the averages of the gradient and of its square.
            eps: added to the square root of the average of the squares.
            weight_decay: L2 penalty, added to the gradient.
            amsgrad: see :class:`Adam`.
            gradient_clipping: see :class:`Adam`.
            clip_by_global_norm: see :class:`Adam`.
            flat: see :class:`Adam`.
            name: see :class:`Adam`.
            not_offered: see :class:`Adam`.
        """
        check_not_offered(type(self).__name__, not_offered)
        super().__init__(
            _NO_PARAMS,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            gradient_clipping=gradient_clipping,
            clip_by_global_norm=clip_by_global_norm,
            flat=flat,
            name=name,
        )


@configurable("alf.optimizers.SGD")
class SGD(SGDRule):
    """Stochastic gradient descent with the numbers of ``torch.optim.SGD``."""

    def __init__(
        self,
        lr: LearningRate = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        gradient_clipping: Optional[float] = None,
        clip_by_global_norm: bool = False,
        flat: Optional[bool] = None,
        name: Optional[str] = None,
        **not_offered,
    ):
        """
        Args:
            lr: learning rate, a number or a scheduler.
            momentum: fraction of the last step's direction that is kept.
            dampening: fraction of the gradient that is left out of the direction.
            weight_decay: L2 penalty, added to the gradient.
            nesterov: look ahead along the direction; needs momentum and no dampening.
            gradient_clipping: see :class:`Adam`.
            clip_by_global_norm: see :class:`Adam`.
            flat: see :class:`Adam`.
            name: see :class:`Adam`.
            not_offered: see :class:`Adam`.
        """
        check_not_offered(type(self).__name__, not_offered)
        super().__init__(
            _NO_PARAMS,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            gradient_clipping=gradient_clipping,
            clip_by_global_norm=clip_by_global_norm,
            flat=flat,
            name=name,
        )
