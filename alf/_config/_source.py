"""A configuration value as Python source."""

from __future__ import annotations

import functools
import math
import sys

_NOT_IMPORTABLE = ("__main__", "<run_path>")


class NotWritable(Exception):
    """The value has no source that would make it again."""


def to_source(value: object, modules: set[str]) -> str:
    """Return an expression that makes `value`, adding the modules it needs to `modules`.

    Numbers, text, None, containers of such, `functools.partial`, and everything that a module holds under its
    own name (functions, classes, torch dtypes).

    Raises:
        NotWritable: for anything else.
    """
    if value is None or value is Ellipsis or type(value) in (bool, int, str, bytes, complex):
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
    if type(value) in (list, tuple, set, frozenset):
        return _container(value, [to_source(item, modules) for item in value])
    if type(value) is dict:
        items = (f"{to_source(k, modules)}: {to_source(v, modules)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if type(value) is functools.partial:
        modules.add("functools")
        parts = [to_source(part, modules) for part in (value.func, *value.args)]
        parts += [f"{name}={to_source(item, modules)}" for name, item in value.keywords.items()]
        return f"functools.partial({', '.join(parts)})"
    return _by_name(value, modules)


def _container(value: object, items: list[str]) -> str:
    inner = ", ".join(items)
    if type(value) is list:
        return f"[{inner}]"
    if type(value) is tuple:
        return f"({inner},)" if len(items) == 1 else f"({inner})"
    return f"{type(value).__name__}([{inner}])"


def _by_name(value: object, modules: set[str]) -> str:
    """Return `module.name` if that is where `value` is to be found."""
    module, name = _home(value)
    if module is None:
        raise NotWritable(f"{value!r} is no number, text, container or thing a module holds under its name")
    if module == "builtins":
        return name
    modules.add(module)
    return f"{module}.{name}"


def _home(value: object) -> tuple[str | None, str]:
    """Return the module and the name `value` can be imported by, (None, "") if there is none."""
    said, _, name = repr(value).rpartition(".")  # a torch dtype says its own name
    places = [(getattr(value, "__module__", None), getattr(value, "__qualname__", "")), (said, name)]
    for module, name in places:
        if module in sys.modules and module not in _NOT_IMPORTABLE and name.replace(".", "").isidentifier():
            found = sys.modules[module]
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is value:
                return module, name
    # Functions built in C may not know their module: torch.tanh, numpy.tanh.
    name = getattr(value, "__name__", "")
    homes = [
        module
        for module, held in list(sys.modules.items())
        if name
        and module not in _NOT_IMPORTABLE
        and not any(segment.startswith("_") for segment in module.split("."))
        and getattr(held, "__dict__", {}).get(name) is value
    ]
    return (min(homes, key=len), name) if homes else (None, "")
