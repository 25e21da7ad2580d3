"""Small helpers shared by optimizers."""

from typing import Any

import torch


def get_opt_arg(p: torch.Tensor, argname: str, default: Any = None) -> Any:
    """Return an optimizer argument that was set for one parameter only.

    Layers attach such arguments as a dict ``opt_args`` to a parameter, for instance
    ``layer.weight.opt_args = dict(weight_decay=0.)``.

    Args:
        p: the parameter.
        argname: name of the argument.
        default: returned if the parameter has no such argument.
    """
    opt_args = getattr(p, "opt_args", None)
    return default if opt_args is None else opt_args.get(argname, default)
