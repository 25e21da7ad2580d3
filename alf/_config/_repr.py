"""`repr_wrapper`: a `repr` that shows how an object was made."""

from __future__ import annotations

import functools

from alf._config._values import same_value

_TEXT = "_repr_of_arguments"


def repr_wrapper(cls: type) -> type:
    """Return `cls` with a `__repr__` that shows the arguments its objects were made with.

    Arguments given by keyword that have their default value are left out: `Point(3, 5, color='red')`. The
    text is made at construction, so it keeps no argument alive and says what was passed, not what it became.
    """
    init = cls.__dict__.get("__init__")

    @functools.wraps(cls.__init__)
    def __init__(self, /, *args, **kwargs):
        if _TEXT not in self.__dict__:  # else: the constructor of a derived class has written it
            # Past __setattr__, which a torch module has before its constructor ran but refuses to obey.
            object.__setattr__(self, _TEXT, _describe(defaults(), args, kwargs))
        if init is not None:
            init(self, *args, **kwargs)
        else:
            super(cls, self).__init__(*args, **kwargs)

    @functools.cache
    def defaults() -> dict[str, object]:
        from alf._config._params import constructor_params

        return {name: param.default for name, param in constructor_params(cls, "__init__").by_name.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__.get(_TEXT, '...')})"

    cls.__init__ = __init__
    cls.__repr__ = __repr__
    return cls


def _describe(defaults: dict[str, object], args: tuple, kwargs: dict) -> str:
    parts = [repr(value) for value in args]
    parts += [
        f"{name}={value!r}"
        for name, value in kwargs.items()
        if name not in defaults or not same_value(value, defaults[name])
    ]
    return ", ".join(parts)
