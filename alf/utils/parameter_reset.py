"""Drawing the parameters of modules anew."""

from typing import Any, Callable, Iterator

from torch import nn


def resets(module: Any) -> Iterator[Callable[[], None]]:
    """Return the functions that together draw new parameters for ``module`` and everything in it.

    Args:
        module: see :func:`reset_parameters`.
    Raises:
        ValueError: if a module has parameters of its own and no method that draws them.
    """
    if not isinstance(module, nn.Module):
        return
    if hasattr(module, "reset_parameters"):
        yield module.reset_parameters
        return
    for child in module.children():
        yield from resets(child)
    if hasattr(module, "_reset_parameters"):
        # Of the parameters of its own. Some layers of torch (attention, transformers) have it, too.
        yield module._reset_parameters
        return
    own = [name for name, parameter in module.named_parameters(recurse=False) if parameter is not None]
    if own:
        raise ValueError(f"reset_parameters: {type(module).__name__} has the parameters {own} and no method "
                         f"reset_parameters(). Define one.")


def reset_parameters(module: Any) -> None:
    """Draw new parameters for ``module`` and everything in it.

    A module with a method ``reset_parameters`` does it itself; otherwise its children are visited. Callables
    that are no modules have nothing to reset.

    Raises:
        ValueError: if a module has parameters of its own and no such method.
    """
    for reset in resets(module):
        reset()
