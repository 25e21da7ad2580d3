"""Where the configurable callables of alf are that have not been imported yet.

`import alf` imports its modules only when they are asked for, but a conf may set `"SacAlgorithm.gamma"`
first. So when a name is unknown, the sources of the package are searched once for `@configurable`, by text,
which takes some milliseconds; the module that defines the name is then imported.
"""

from __future__ import annotations

import importlib
import os
import re
from functools import cache

from alf._config._registry import ends_with, module_path

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NOT_SEARCHED = ("_config", "bin", "examples")
"""Programs and confs are never imported just because a name was written."""

_DECORATOR = re.compile(r"""^(\s*)@(?:\w+\.)*configurable\b(?:\(\s*["']([\w.]+)["'])?""")
_DEFINITION = re.compile(r"^(\s*)(?:async\s+)?(class|def)\s+(\w+)")


def find_in_source(text: str, module: str) -> list[str]:
    """Return the config paths of the callables that the source `text` of `module` makes configurable."""
    found = []
    current_class, decorated = None, None
    for line in text.splitlines():
        decorator = _DECORATOR.match(line)
        if decorator:
            decorated = decorator
            continue
        definition = _DEFINITION.match(line)
        if not definition:
            continue
        indent, kind, name = definition.groups()
        if decorated and decorated[1] == indent:
            explicit = decorated[2]
            if explicit and "." in explicit:
                found.append(explicit)
            else:
                outer = f"{current_class}." if indent and current_class else ""
                found.append(f"{module_path(module)}.{explicit or outer + name}")
        decorated = None
        if not indent:
            current_class = name if kind == "class" else None
    return found


@cache
def configurables_in_package() -> dict[str, str]:
    """Return config path -> module of every callable that alf's sources make configurable."""
    where = {}
    for folder, subfolders, files in os.walk(_PACKAGE):
        if folder == _PACKAGE:
            subfolders[:] = [name for name in subfolders if name not in _NOT_SEARCHED]
        for file in files:
            if not file.endswith(".py"):
                continue
            with open(os.path.join(folder, file), encoding="utf-8") as source:
                text = source.read()
            if "configurable" in text:
                relative = os.path.relpath(os.path.join(folder, file), os.path.dirname(_PACKAGE))[:-3]
                module = relative.replace(os.sep, ".").removesuffix(".__init__")
                where.update(dict.fromkeys(find_in_source(text, module), module))
    return where


def import_definitions_of(callable_suffix: str) -> bool:
    """Import the modules of alf that define a configurable of this dotted suffix; return if there are any.

    Raises:
        ImportError: if the only such module cannot be imported, e.g. because it needs a package that is
            missing. If several define the name, those that cannot be imported are left out.
    """
    where = configurables_in_package()
    modules = sorted({module for path, module in where.items() if ends_with(path, callable_suffix)})
    errors = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            errors.append(error)
    if errors and len(errors) == len(modules):
        raise errors[0]
    return bool(modules)
