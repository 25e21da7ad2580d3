"""Calls parts of networks without the way through `nn.Module.__call__`, which costs as much as a small layer."""

from typing import Any

from torch import nn
from torch.nn.modules import module as _hooks


def call(module: nn.Module, *args: Any) -> Any:
    """Return `module(*args)`: by its `forward` at once, unless hooks or `compile()` make the call more than that.

    Args:
        module: a part of a network.
        args: what it is called with.
    """
    # What nn.Module looks at, in two calls of functions that pass everything on: ten parts of an actor and a critic
    # spend a seventh of a policy step there.
    if (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
            or module._compiled_call_impl is not None or _hooks._has_any_global_hook()):
        return module(*args)
    return module.forward(*args)
