"""When two configuration values are the same, tensors, arrays, partials and functions among them."""

from __future__ import annotations

import functools
from types import FunctionType


def same_value(a: object, b: object, _compared: frozenset = frozenset()) -> bool:
    """Return True if `a` and `b` configure the same thing.

    Containers and `functools.partial` are compared by their parts, tensors and arrays by dtype, shape and
    elements, functions by code, defaults and closure (a conf that runs twice makes its lambdas twice), NaN
    equals NaN, everything else by `==`. Values that cannot be compared are different.
    """
    same = functools.partial(same_value, _compared=_compared)
    if a is b:
        return True
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return same(a.func, b.func) and same(a.args, b.args) and same(a.keywords, b.keywords)
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        # A function that calls itself is in its own closure: what is being compared already counts as the same.
        return (id(a), id(b)) in _compared or _same_function(a, b, _compared | {(id(a), id(b))})
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    return _equal(a, b)


def _same_function(a: FunctionType, b: FunctionType, compared: frozenset) -> bool:
    same = functools.partial(same_value, _compared=compared)
    return (
        a.__module__ == b.__module__
        and a.__code__ == b.__code__
        and a.__code__.co_filename == b.__code__.co_filename
        and same(a.__defaults__, b.__defaults__)
        and same(a.__kwdefaults__, b.__kwdefaults__)
        and same(_cells(a), _cells(b))
    )


def _cells(fn: FunctionType) -> tuple:
    try:
        return tuple(cell.cell_contents for cell in fn.__closure__ or ())
    except ValueError:  # a cell that is still empty
        return (object(),)


def _equal(a: object, b: object) -> bool:
    """Return `a == b` as a bool; element-wise results count when dtype and shape agree and all are true."""
    try:
        if hasattr(a, "dtype") and hasattr(b, "dtype") and hasattr(a, "shape") and hasattr(b, "shape"):
            return a.dtype == b.dtype and tuple(a.shape) == tuple(b.shape) and bool((a == b).all())
        return bool(a == b)
    except Exception:  # `==` of a user's object (or of an array against something else) may do anything
        return False
