"""The arguments of a callable. Read only when first needed, never at import."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

MISSING = inspect.Parameter.empty
"""Stands for 'no default' and 'no annotation'."""


class Param:
    """One argument: its name, default, annotation and the names its annotation is written in."""

    __slots__ = ("annotation", "default", "inherited", "name", "scope")

    def __init__(self, name: str, default=MISSING, annotation=MISSING, scope=None, inherited=False):
        self.name = name
        self.default = default
        self.annotation = annotation
        self.scope = scope
        # True for an argument that a configurable base (or function inside) fills in itself if left out.
        self.inherited = inherited

    @property
    def has_default(self) -> bool:
        """True if a call may leave it out."""
        return self.default is not MISSING


class Params:
    """The arguments of one callable: by name, which may be given by position, which can only be."""

    __slots__ = ("by_name", "positional", "positional_only", "var_positional")

    def __init__(self) -> None:
        self.by_name: dict[str, Param] = {}
        self.positional: list[str] = []
        self.positional_only: list[str] = []
        self.var_positional = False

    def add(
        self, fn: Callable, inherited: bool = False, handed_on: bool = False, method: bool = True
    ) -> bool:
        """Append the arguments of `fn` that are not there yet; return True if it also takes `**kwargs`.

        Args:
            fn: the callable to read.
            inherited: it is the constructor of a configurable base.
            handed_on: its arguments arrive through `*args, **kwargs` of what was added before.
            method: its first argument is the object or the class.
        """
        scope = getattr(inspect.unwrap(fn), "__globals__", None)
        parameters = list(inspect.signature(fn).parameters.values())
        by_position = self.var_positional if handed_on else True
        self.var_positional = takes_kwargs = False
        for parameter in parameters[1 if method else 0 :]:
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.var_positional = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                takes_kwargs = True
            elif parameter.name in self.by_name or (
                handed_on and parameter.kind is parameter.POSITIONAL_ONLY
            ):
                continue
            else:
                self._add_one(parameter, scope, inherited, by_position)
        return takes_kwargs

    def _add_one(self, parameter: inspect.Parameter, scope, inherited: bool, by_position: bool) -> None:
        name = parameter.name
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self.positional_only.append(name)
        if parameter.kind is not parameter.KEYWORD_ONLY and by_position:
            self.positional.append(name)
        self.by_name[name] = Param(name, parameter.default, parameter.annotation, scope, inherited)


def function_params(fn: Callable, method: bool) -> Params:
    """Return the arguments of a function; `self` of a method counts as a position but is no address."""
    params = Params()
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    entry = getattr(inner, "alf_config_entry", None)
    inherited = entry is not None and entry.wrapper is inner
    try:
        params.add(fn, inherited=inherited, method=method)
    except ValueError:
        return params  # built in C and silent about its arguments: it has no addresses
    if method:
        params.positional.insert(0, "self")
    return params


def constructor_params(cls: type, method_name: str) -> Params:
    """Return the arguments of `cls(...)`, without `self`.

    A class without a constructor of its own has its base's arguments; one whose constructor takes `**kwargs`
    has its own and those of the next constructor in the MRO, to which it hands them on.

    Args:
        cls: the class.
        method_name: "__init__" or "__new__", whichever takes the arguments.
    """
    params = Params()
    handed_on = False
    for klass in cls.__mro__:
        constructor = klass.__dict__.get(method_name)
        if constructor is None or klass is object:
            continue
        constructor = getattr(constructor, "__func__", constructor)  # __new__ is a staticmethod
        entry = getattr(constructor, "alf_config_entry", None)
        configurable = entry is not None and entry.wrapper is constructor
        if configurable and entry.passes_through:
            continue
        try:
            inherited = configurable and klass is not cls
            takes_kwargs = params.add(constructor, inherited=inherited, handed_on=handed_on)
        except ValueError:
            break
        if not takes_kwargs:
            break
        handed_on = True
    return params
