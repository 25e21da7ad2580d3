"""How containers of layers and of networks read their arguments: elements, their names and their inputs."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch.nn as nn

import alf.nest as nest
from alf.layers._elementwise import Lambda


def as_module(module: Callable) -> nn.Module:
    """Return ``module``, a function wrapped as a :class:`Lambda` layer.

    Raises:
        TypeError: if it is not callable.
    """
    if isinstance(module, nn.Module):
        return module
    if not callable(module):
        raise TypeError(f"expected a module or a function, got {module!r} of type {type(module).__name__}.")
    return Lambda(module)


class Route:
    """Picks the input of an element of a ``Sequential`` from the results so far.

    Args:
        paths: nest of dotted paths. The first word of a path is ``input`` (what the whole got) or the name of
            an earlier element; the rest are fields of that result. The empty path is the result of the
            previous element.
        known: names a path may begin with.
        user: told in the error.
    Raises:
        ValueError: for an unknown first word.
    """

    def __init__(self, paths: Any, known: List[str], user: str):
        self._paths = paths
        self._split_paths = []
        for path in nest.flatten(paths):
            root, _, fields = path.partition(".")
            if root and root not in known:
                raise ValueError(f"{user}: the path {path!r} begins with {root!r}, which is no earlier "
                                 f"result. Known are {known}; elements that come later cannot be used.")
            self._split_paths.append((root, fields))

    def __call__(self, results: Dict[str, Any], previous: Any) -> Any:
        """Return the nest of what the paths point at."""
        picked = []
        for root, fields in self._split_paths:
            value = results[root] if root else previous
            picked.append(nest.get_field(value, fields) if fields else value)
        return picked[0] if isinstance(self._paths, str) else nest.pack_sequence_as(self._paths, picked)


class Element(NamedTuple):
    """One element of a ``Sequential``."""
    name: str  # under which its result is known, or ''
    paths: Any  # nest of dotted paths of its input; '' is the previous result
    module: Callable


def _is_paths(value: Any) -> bool:
    leaves = nest.flatten(value)
    return bool(leaves) and all(isinstance(leaf, str) for leaf in leaves)


def parse_elements(modules: Tuple, named_modules: Dict[str, Any], user: str) -> List[Element]:
    """Return the elements of a ``Sequential`` in the order in which they run.

    Args:
        modules: callables or ``(paths, callable)``.
        named_modules: name -> the same.
        user: told in errors.
    Raises:
        ValueError: for something else, or for the name ``input``, which is taken.
    """
    elements = []
    for name, value in [("", m) for m in modules] + list(named_modules.items()):
        if name == "input":
            raise ValueError(f"{user}: an element cannot be called 'input': that is the input of the whole.")
        if isinstance(value, tuple) and len(value) == 2 and callable(value[1]) and _is_paths(value[0]):
            elements.append(Element(name, value[0], value[1]))
        elif callable(value):
            elements.append(Element(name, "", value))
        else:
            raise ValueError(f"{user}: element {name or len(elements)!r}: expected a callable or a pair "
                             f"(nest of paths, callable), got {value!r}.")
    if not elements:
        raise ValueError(f"{user}: expected at least one element, got none.")
    return elements


def make_routes(elements: List[Element], output: Any,
                user: str) -> Tuple[List[Optional[Route]], Optional[Route]]:
    """Return the route of each element and that of the output; ``None`` stands for the previous result."""
    known, routes = ["input"], []
    for element in elements:
        routes.append(None if element.paths == "" else Route(element.paths, known, user))
        if element.name:
            known.append(element.name)
    return routes, None if output == "" else Route(output, known, f"{user}.output")


def parse_branches(modules: Tuple, named_modules: Dict[str, Any], user: str) -> Tuple[Any, List[Callable]]:
    """Return the structure of a nest of modules (numbers at its leaves) and its leaves.

    Raises:
        ValueError: unless there are either positional or named modules.
    """
    if bool(modules) == bool(named_modules):
        raise ValueError(f"{user}: expected either positional or named modules, got {len(modules)} "
                         f"positional and {len(named_modules)} named ones.")
    branches = named_modules or (modules[0] if len(modules) == 1 else tuple(modules))
    leaves = nest.flatten(branches)
    return nest.pack_sequence_as(branches, list(range(len(leaves)))), leaves
