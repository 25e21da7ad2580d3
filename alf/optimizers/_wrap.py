"""Any PyTorch optimizer class turned into one that is made without parameters."""

import inspect
from typing import Any, Callable, Dict, Optional, Type

import torch

from alf.optimizers._flat_optimizer import check_lr, check_positive
from alf.optimizers._not_offered import NOT_OFFERED, check_not_offered
from alf.optimizers.utils import get_opt_arg


def wrap_optimizer(cls: Optional[Type[torch.optim.Optimizer]] = None, /) -> Callable:
    """Return a subclass of a PyTorch optimizer that takes no parameters, or (without argument) a decorator
    doing so.

    ``RMSprop = wrap_optimizer(torch.optim.RMSprop)`` makes a class whose constructor takes the keyword
    arguments of ``torch.optim.RMSprop`` except ``params``, and ``gradient_clipping``,
    ``clip_by_global_norm``, ``name`` and a scheduler as ``lr``, as :class:`alf.optimizers.Adam` does. The
    step itself is PyTorch's; parameters are not packed.

    Args:
        cls: the optimizer class.
    """
    if cls is None:
        return wrap_optimizer
    wanted = [
        p for p in inspect.signature(cls.__init__).parameters.values() if p.name not in ("self", "params")
    ]

    class Wrapped(cls):
        __doc__ = f"``{cls.__module__}.{cls.__name__}`` without parameters; with clipping and scheduled lr."

        def __init__(
            self,
            *,
            gradient_clipping: Optional[float] = None,
            clip_by_global_norm: bool = False,
            name: Optional[str] = None,
            **kwargs,
        ):
            check_not_offered(cls.__name__, {n: kwargs.pop(n) for n in list(kwargs) if n in NOT_OFFERED})
            unknown = set(kwargs) - {p.name for p in wanted}
            if unknown:
                raise TypeError(
                    f"{cls.__name__}: unknown argument {sorted(unknown)}; expected some of "
                    f"{[p.name for p in wanted]}."
                )
            self.name = name or cls.__name__
            check_positive(self.name, "gradient_clipping", gradient_clipping)
            self.gradient_clipping = gradient_clipping
            self.clip_by_global_norm = clip_by_global_norm
            self._scheduler = None
            if "lr" in kwargs:
                check_lr(self.name, kwargs["lr"])
                if callable(kwargs["lr"]):
                    self._scheduler = kwargs["lr"]
                    kwargs["lr"] = float(self._scheduler())
            super().__init__([{"params": []}], **kwargs)
            self.param_groups.clear()

        def add_param_group(self, param_group: Dict[str, Any]) -> None:
            """Add parameters.

            Raises:
                ValueError: also if a parameter has options of its own, see ``get_opt_arg``, which PyTorch's step
                    would not look at.
            """
            super().add_param_group(param_group)
            weight_decay = self.param_groups[-1].get("weight_decay", 0)
            for p in self.param_groups[-1]["params"]:
                own_decay = get_opt_arg(p, "weight_decay", weight_decay)
                if own_decay != weight_decay or get_opt_arg(p, "fixed_norm", False):
                    raise ValueError(
                        f"Optimizer '{self.name}': a parameter of shape {tuple(p.shape)} has the options {p.opt_args}, "
                        "which optimizers made by wrap_optimizer cannot heed. Use Adam, AdamW, AdamTF or SGD of "
                        "alf.optimizers, or leave out the opt_args of its layer."
                    )

        @property
        def lr(self) -> float:
            """The current learning rate."""
            if self._scheduler is not None:
                return float(self._scheduler())
            return float((self.param_groups[0] if self.param_groups else self.defaults)["lr"])

        def get_lr(self) -> float:
            """Return :attr:`lr`."""
            return self.lr

        def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
            """Clip the gradients, take the current learning rate and make PyTorch's step."""
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if self._scheduler is not None:
                for group in self.param_groups:
                    group["lr"] = float(self._scheduler())
            self._clip()
            super().step()
            return loss

        def _clip(self) -> None:
            if self.gradient_clipping is None:
                return
            params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
            if not params:
                return
            if self.clip_by_global_norm:
                torch.nn.utils.clip_grad_norm_(params, self.gradient_clipping)
                return
            for p in params:
                torch.nn.utils.clip_grad_norm_(p, self.gradient_clipping)

        def __getstate__(self) -> Dict[str, Any]:
            # PyTorch's own leaves out whatever a subclass has added.
            return dict(self.__dict__)

    Wrapped.__name__ = Wrapped.__qualname__ = cls.__name__
    return Wrapped
