"""One configurable callable: its addresses, and the plan of what to fill in for each way of calling it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from alf._config._errors import ConfigError, conf_place, is_own_frame, place_of, user_frame
from alf._config._registry import registry
from alf._config._store import INHERITED, LOCK, Use, store

if TYPE_CHECKING:
    from alf._config._params import Param, Params

_MAX_PLANS = 256
"""A callable called in more ways than this (keywords made up at run time) starts its cache anew."""


class Plans(dict):
    """Plans by the way of calling: the number of positional arguments, with the keywords if there are any."""

    __slots__ = ("__weakref__",)


class Entry:
    """A configurable callable.

    A *plan* says what to add to a call with so many positional arguments and such keywords: a dict of keyword
    arguments, empty if nothing is configured (for callables with positional-only arguments: a pair of a tuple
    and a dict). It is made at the first call of its kind, when the consumed addresses are also marked as
    used, and stays in `plans` until one of the addresses is set.
    """

    def __init__(
        self,
        path: str,
        module: str,
        qualname: str,
        whitelist: Iterable[str] = (),
        blacklist: Iterable[str] = (),
    ):
        self.path = path
        self.module = module
        self.qualname = qualname
        self.whitelist = tuple(whitelist)
        self.blacklist = tuple(blacklist)
        self.fn: object = None
        self.wrapper: object = None
        self.passes_through = False  # True for a class without a constructor of its own
        self.plans = Plans()
        self._retired: list[weakref.ref[Plans]] = []  # of functions this one has taken the path of
        self._read_params: Callable[[], Params] | None = None
        self._params: Params | None = None
        self._args: dict[str, Param] | None = None

    def attach(self, fn: Callable, read_params: Callable[[], Params]) -> None:
        """Say which callable this is, and how to read its arguments when they are first needed."""
        self.fn = fn
        self._read_params = read_params

    @property
    def params(self) -> Params:
        """All arguments of the callable."""
        if self._params is None:
            self._params = self._read_params()
        return self._params

    @property
    def args(self) -> dict[str, Param]:
        """The arguments that are addresses, by name."""
        if self._args is None:
            by_name = self.params.by_name
            for name in (*self.whitelist, *self.blacklist):
                if name not in by_name:
                    raise ConfigError(
                        f"{self.path} has no argument {name!r}, which its whitelist or blacklist names. "
                        f"Its arguments: {', '.join(by_name) or 'none'}."
                    )
            keep = self.whitelist or [name for name in by_name if name not in self.blacklist]
            self._args = {name: by_name[name] for name in by_name if name in keep}
        return self._args

    def succeed(self, other: Entry) -> None:
        """Replace `other`, an older entry of the same path, which may still be called: clear its plans with ours."""
        self._retired = [ref for ref in (*other._retired, weakref.ref(other.plans)) if ref() is not None]

    def clear_plans(self) -> None:
        """Forget what was planned, because one of the addresses has another value now."""
        self.plans.clear()
        for ref in self._retired:
            plans = ref()
            if plans is not None:
                plans.clear()

    def make_plan(self, num_args: int, kwargs: dict) -> dict | tuple[tuple, dict]:
        """Return the plan for a call with `num_args` positional arguments and the keywords of `kwargs`."""
        params = self.params
        given = {*params.positional[:num_args], *kwargs}
        with LOCK:
            fill: dict[str, object] = {}
            used: dict[str, object] = {}
            for name, param in self.args.items():
                if name in given:
                    continue
                setting = store.settings.get(f"{self.path}.{name}")
                if setting is not None:
                    fill[name] = used[name] = setting.value
                elif param.inherited:
                    used[name] = INHERITED
                elif param.has_default:
                    used[name] = param.default
            missing = self._missing(given, fill)
            plan = self._by_position(fill, num_args) if params.positional_only else fill
            if missing:
                return plan  # the call is about to fail: nothing is used, nothing to remember
            self._mark_used(used)
            if len(self.plans) >= _MAX_PLANS:
                self.plans.clear()
            self.plans[(num_args, *kwargs) if kwargs else num_args] = plan
            return plan

    def has_value(self, arg: str) -> bool:
        """Return True if the address `arg` is configured or has a default."""
        return f"{self.path}.{arg}" in store.settings or self.args[arg].has_default

    def use_value(self, arg: str) -> object:
        """Return the configured value of the address `arg`, else its default, and mark it as used."""
        setting = store.settings.get(f"{self.path}.{arg}")
        value = self.args[arg].default if setting is None else setting.value
        self._mark_used({arg: value})
        return value

    def _missing(self, given: Iterable[str], fill: Iterable[str]) -> list[str]:
        """Return the required arguments that have no value (a configurable base may still have one)."""
        return [
            name
            for name, param in self.params.by_name.items()
            if not (param.has_default or param.inherited or name in given or name in fill)
        ]

    def _by_position(self, fill: dict, num_args: int) -> tuple[tuple, dict]:
        """Split `fill` into a tuple of the positional-only arguments and a dict of the others.

        Positional arguments before the last configured one are filled with their defaults.
        """
        params = self.params
        rest = [name for name in params.positional_only if name not in params.positional[:num_args]]
        last = max((i for i, name in enumerate(rest) if name in fill), default=-1)
        values = []
        for name in rest[: last + 1]:
            param = params.by_name[name]
            if name not in fill and not param.has_default:
                break
            values.append(fill.get(name, param.default))
        return tuple(values), {name: value for name, value in fill.items() if name not in rest}

    def _mark_used(self, used: dict) -> None:
        uses = store.uses
        place = via = None
        for name, value in used.items():
            address = f"{self.path}.{name}"
            old = uses.get(address)
            if old is None:
                if place is None:
                    frame = user_frame()
                    place, via = place_of(frame), conf_place(frame)
                uses[address] = Use(value, place, via)
            elif old.value is not value:
                uses[address] = Use(value, old.place, old.conf_place)

    def explain(self, error: TypeError, num_args: int, kwargs: dict) -> None:
        """Add to `error` how to set the arguments this call lacked, if it failed because of that."""
        trace = error.__traceback__
        while trace is not None:
            if not is_own_frame(trace.tb_frame):
                return  # raised inside the callable
            trace = trace.tb_next
        fill = [n for n in self.args if f"{self.path}.{n}" in store.settings]
        missing = self._missing({*self.params.positional[:num_args], *kwargs}, fill)
        settable = [name for name in missing if name in self.args]
        if settable and not any("alf.config(" in note for note in getattr(error, "__notes__", ())):
            values = ", ".join(f"{name}=..." for name in settable)
            addresses = ", ".join(f"{self.path}.{name}" for name in settable)
            short = registry.shortest_name(self.path)
            error.add_note(
                f"No value for {addresses}: pass it in the call, or set alf.config({short!r}, {values})."
            )
