"""Does a value fit the annotation of its argument? Only clear mistakes are reported, and nothing is imported.

Checked are numbers, `bool`, `str`, `None`, `Literal`, `Optional` and unions, lists, tuples, dicts (with their
elements) and callables. Whatever else an annotation says, or cannot be understood, fits every value.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import enum
import math
import os
import types
import typing

from alf._config._params import MISSING, Param

_CONTAINERS = (list, tuple, dict, set, frozenset)
_TEXT = (str, bytes, bytearray)
_SEQUENCES = (
    list, tuple, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable,
    collections.abc.Collection,
)  # fmt: skip
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))


def expected_instead(value: object, param: Param) -> str | None:
    """Return what `param` expects if `value` clearly is not that, else None.

    None always fits an argument whose default is None.
    """
    if param.annotation is MISSING or (value is None and param.default is None):
        return None
    annotation = _understand(param.annotation, param.scope)
    if annotation is typing.Any or _fits(value, annotation, param.scope):
        return None
    return _text(annotation)


def _text(annotation: object) -> str:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _fits(value: object, annotation: object, scope: dict | None) -> bool:
    annotation = _understand(annotation, scope)
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin in _UNIONS:
        return any(_fits(value, arg, scope) for arg in args)
    if origin is typing.Literal:
        return any(value == arg and isinstance(value, bool) == isinstance(arg, bool) for arg in args)
    kind = origin or annotation
    if kind is None or kind is type(None):
        return value is None
    if kind is bool:
        return value is not None and not isinstance(value, (*_TEXT, *_CONTAINERS))
    if kind is int:
        return _is_number(value) and not (isinstance(value, float) and math.isfinite(value) and value % 1)
    if kind is float:
        return _is_number(value)
    if kind is str:
        return isinstance(value, (str, os.PathLike, enum.Enum)) or not (
            value is None or _is_number(value) or callable(value) or isinstance(value, (bytes, *_CONTAINERS))
        )
    if kind is collections.abc.Callable:
        # None switches many a callable off, annotated or not.
        return callable(value) or value is None
    if kind in _MAPPINGS:
        return _fits_mapping(value, args, scope)
    if kind in _SEQUENCES:
        return _fits_sequence(value, kind, args, scope)
    return True


def _is_number(value: object) -> bool:
    """Return True for numbers, also NumPy's and tensors."""
    return hasattr(type(value), "__float__") or hasattr(type(value), "__index__")


def _is_single(value: object) -> bool:
    """Return True for what certainly holds no elements: numbers, text, None, functions and classes."""
    return (
        value is None
        or isinstance(value, (int, float, complex, *_TEXT, type))
        or isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType))
    )


def _fits_mapping(value: object, args: tuple, scope: dict | None) -> bool:
    if not isinstance(value, dict) or len(args) != 2:
        return not (_is_single(value) or isinstance(value, (list, tuple, set, frozenset)))
    return all(_fits(k, args[0], scope) and _fits(v, args[1], scope) for k, v in value.items())


def _fits_sequence(value: object, kind: type, args: tuple, scope: dict | None) -> bool:
    if isinstance(value, str) and kind not in (list, tuple):
        return True  # text is a sequence of text
    if not isinstance(value, (list, tuple)):
        # A mapping is no list, but iterable.
        return not (_is_single(value) or (isinstance(value, dict) and kind in (list, tuple)))
    if kind is tuple and len(args) > 1 and args[-1] is not Ellipsis:
        return len(value) == len(args) and all(
            _fits(v, arg, scope) for v, arg in zip(value, args, strict=True)
        )
    # `Tuple[int]` is widely written for tuples of any length.
    return not args or args[0] == () or all(_fits(v, args[0], scope) for v in value)


def _understand(annotation: object, scope: dict | None) -> object:
    """Return `annotation` with text resolved; `Any` for what cannot be resolved without importing."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    try:
        return _evaluate(ast.parse(annotation, mode="eval").body, scope or {})
    except (_Unknown, SyntaxError, TypeError, ValueError):
        return typing.Any


class _Unknown(Exception):
    pass


def _evaluate(node: ast.expr, scope: dict) -> object:
    """Return the value of an annotation, looking names up only: no call, no attribute that may import."""
    if isinstance(node, ast.Constant):
        return _understand(node.value, scope) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.Name):
        if node.id in scope:
            return scope[node.id]
        if hasattr(builtins, node.id):
            return getattr(builtins, node.id)
    elif isinstance(node, ast.Attribute):
        owner = _evaluate(node.value, scope)
        if isinstance(owner, (types.ModuleType, type)) and node.attr in vars(owner):
            return vars(owner)[node.attr]
    elif isinstance(node, ast.Subscript):
        return _subscript(_evaluate(node.value, scope), node.slice, scope)
    elif isinstance(node, ast.Tuple):
        return tuple(_or_any(item, scope) for item in node.elts)
    elif isinstance(node, ast.List):
        return [_or_any(item, scope) for item in node.elts]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_or_any(node.left, scope), _or_any(node.right, scope)]
    raise _Unknown


def _subscript(generic: object, index: ast.expr, scope: dict) -> object:
    if generic is typing.Literal:
        return typing.Literal[ast.literal_eval(index)]
    return generic[_or_any(index, scope)]


def _or_any(node: ast.expr, scope: dict) -> object:
    """Return the value of a part of an annotation, `Any` if it is not understood."""
    try:
        return _evaluate(node, scope)
    except _Unknown:
        return typing.Any
