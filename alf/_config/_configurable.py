"""`configurable`: makes every argument of a function, a class or a method a configuration address."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from alf._config._entry import Entry
from alf._config._errors import ConfigError
from alf._config._registry import module_path
from alf._config._setting import register


def configurable(
    fn_or_name: Callable | str | None = None, whitelist: Iterable[str] = [], blacklist: Iterable[str] = []
):
    """Return the callable with each argument that a call leaves out taken from the configuration.

    The address of an argument is the module path (private segments left out), the qualified name and the
    argument: `alf.layers.FC.activation`. Any unambiguous end of it will do: `alf.config("FC",
    activation=...)`.

    A class stays the same class: its constructor is wrapped in place. One without a constructor of its own,
    or whose constructor takes `**kwargs`, also has the arguments of its base as addresses of its own; a value
    set for it wins over one set for the base. A function is returned wrapped, also one that is registered by
    call: `relu = alf.configurable(torch.nn.functional.relu)`.

    Args:
        fn_or_name: the callable, or a name for it. A name with dots replaces module path and qualified name,
            one without dots replaces the qualified name.
        whitelist: the arguments that are addresses; all if empty.
        blacklist: the arguments that are not.

    Returns:
        The configurable callable, or a decorator if `fn_or_name` is not a callable.

    Raises:
        ConfigError: if both lists are given, or the name is taken by another callable.
    """
    if whitelist and blacklist:
        raise ConfigError(
            f"configurable: give whitelist or blacklist, not both "
            f"(got {list(whitelist)} and {list(blacklist)})."
        )
    if callable(fn_or_name) or isinstance(fn_or_name, (staticmethod, classmethod)):
        return _make_configurable(fn_or_name, None, whitelist, blacklist)
    if fn_or_name is not None and not isinstance(fn_or_name, str):
        raise ConfigError(f"configurable: expected a callable or a name, got {fn_or_name!r}.")
    return lambda fn: _make_configurable(fn, fn_or_name, whitelist, blacklist)


def _make_configurable(fn, name: str | None, whitelist: Iterable[str], blacklist: Iterable[str]):
    if isinstance(fn, (staticmethod, classmethod)):
        return type(fn)(_make_configurable(fn.__func__, name, whitelist, blacklist))
    if not callable(fn):
        raise ConfigError(f"configurable: expected a function or a class, got {fn!r}.")
    module, qualname = _names_of(fn)
    path = name if name and "." in name else f"{module_path(module)}.{name or qualname}".lstrip(".")
    if getattr(_wrapper_of(fn), "path", None) == path:
        return fn
    entry = Entry(path, module, qualname, whitelist, blacklist)
    return _configure_class(fn, entry) if isinstance(fn, type) else _configure_function(fn, entry)


def _names_of(fn) -> tuple[str, str]:
    """Return module and qualified name; of the function inside for a partial, of the class for an object."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if not hasattr(fn, "__qualname__"):
        fn = type(fn)
    return fn.__module__ or "", fn.__qualname__


def _wrapper_of(fn) -> Entry | None:
    """Return the entry `fn` itself was made configurable by (other decorators copy the attribute)."""
    if isinstance(fn, type):
        for method in (fn.__dict__.get("__init__"), fn.__dict__.get("__new__")):
            entry = getattr(method, "alf_config_entry", None)
            if entry is not None and entry.fn is fn:
                return entry
        return None
    entry = getattr(fn, "alf_config_entry", None)
    return entry if entry is not None and entry.wrapper is fn else None


def _configure_function(fn: Callable, entry: Entry) -> Callable:
    """Return `fn` wrapped so that the arguments a call leaves out come from the configuration."""
    method = _is_method(fn)

    def read_params():
        from alf._config._params import function_params

        return function_params(fn, method)

    entry.attach(fn, read_params)
    register(entry)
    get, make_plan, explain = entry.plans.get, entry.make_plan, entry.explain

    @functools.wraps(fn)
    def configured(*args, **kwargs):
        plan = get((len(args), *kwargs) if kwargs else len(args))
        if plan is None:
            plan = make_plan(len(args), kwargs)
        try:
            if not plan:
                return fn(*args, **kwargs)
            if type(plan) is dict:
                return fn(*args, **plan, **kwargs)
            return fn(*args, *plan[0], **plan[1], **kwargs)
        except TypeError as error:
            explain(error, len(args), kwargs)
            raise

    return _finish(configured, entry)


def _is_method(fn: Callable) -> bool:
    """Return True for a function of a class body whose first argument is the object or the class."""
    code = getattr(fn, "__code__", None)
    if code is None or not code.co_argcount or code.co_varnames[0] not in ("self", "cls"):
        # A decorated method hides its arguments; what it wraps shows them.
        inner = getattr(fn, "__wrapped__", None)
        return inner is not None and _is_method(inner)
    outer = fn.__qualname__.rpartition(".")[0]
    return bool(outer) and not outer.endswith("<locals>")


def _configure_class(cls: type, entry: Entry) -> type:
    """Return `cls` with its constructor wrapped in place."""
    method_name = _constructor_name(cls)
    own = method_name is not None and method_name in cls.__dict__

    def read_params():
        from alf._config._params import Params, constructor_params

        return constructor_params(cls, method_name) if method_name else Params()

    entry.attach(cls, read_params)
    entry.passes_through = not own
    if method_name is not None:
        constructor = getattr(cls, method_name)
        make = {
            ("__init__", True): _own_init,
            ("__init__", False): _inherited_init,
            ("__new__", True): _own_new,
            ("__new__", False): _inherited_new,
        }[method_name, own]
    register(entry)
    if method_name is not None:
        wrapped = _finish(functools.wraps(constructor)(make(constructor if own else cls, entry)), entry)
        try:
            setattr(cls, method_name, staticmethod(wrapped) if method_name == "__new__" else wrapped)
        except TypeError as error:
            raise ConfigError(
                f"{cls.__module__}.{cls.__qualname__} cannot be made configurable: it is built in. "
                "Register a Python function that makes it."
            ) from error
    return cls


def _constructor_name(cls: type) -> str | None:
    """Return which method takes the arguments of `cls(...)`, None if it takes none."""
    if cls.__init__ is not object.__init__:
        return "__init__"
    return "__new__" if cls.__new__ is not object.__new__ else None


def _finish(wrapper: Callable, entry: Entry) -> Callable:
    wrapper.alf_config_entry = entry
    entry.wrapper = wrapper
    return wrapper


# The four constructor wrappers differ in one expression each. They are written out because a shared inner
# function would cost every construction another Python call.


def _own_init(init: Callable, entry: Entry) -> Callable:
    get, make_plan, explain = entry.plans.get, entry.make_plan, entry.explain

    def __init__(self, /, *args, **kwargs):
        plan = get((len(args), *kwargs) if kwargs else len(args))
        if plan is None:
            plan = make_plan(len(args), kwargs)
        try:
            if type(plan) is dict:
                init(self, *args, **plan, **kwargs)
            else:
                init(self, *args, *plan[0], **plan[1], **kwargs)
        except TypeError as error:
            explain(error, len(args), kwargs)
            raise

    return __init__


def _inherited_init(cls: type, entry: Entry) -> Callable:
    get, make_plan, explain = entry.plans.get, entry.make_plan, entry.explain

    def __init__(self, /, *args, **kwargs):
        plan = get((len(args), *kwargs) if kwargs else len(args))
        if plan is None:
            plan = make_plan(len(args), kwargs)
        try:
            # The next constructor for this very object: with several bases it need not be the one `cls` sees.
            if type(plan) is dict:
                super(cls, self).__init__(*args, **plan, **kwargs)
            else:
                super(cls, self).__init__(*args, *plan[0], **plan[1], **kwargs)
        except TypeError as error:
            explain(error, len(args), kwargs)
            raise

    return __init__


def _own_new(new: Callable, entry: Entry) -> Callable:
    get, make_plan, explain = entry.plans.get, entry.make_plan, entry.explain

    def __new__(klass, /, *args, **kwargs):
        plan = get((len(args), *kwargs) if kwargs else len(args))
        if plan is None:
            plan = make_plan(len(args), kwargs)
        try:
            if type(plan) is dict:
                return new(klass, *args, **plan, **kwargs)
            return new(klass, *args, *plan[0], **plan[1], **kwargs)
        except TypeError as error:
            explain(error, len(args), kwargs)
            raise

    return __new__


def _inherited_new(cls: type, entry: Entry) -> Callable:
    get, make_plan, explain = entry.plans.get, entry.make_plan, entry.explain

    def __new__(klass, /, *args, **kwargs):
        plan = get((len(args), *kwargs) if kwargs else len(args))
        if plan is None:
            plan = make_plan(len(args), kwargs)
        try:
            if type(plan) is dict:
                return super(cls, klass).__new__(klass, *args, **plan, **kwargs)
            return super(cls, klass).__new__(klass, *args, *plan[0], **plan[1], **kwargs)
        except TypeError as error:
            explain(error, len(args), kwargs)
            raise

    return __new__
