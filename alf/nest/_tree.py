"""How nests are walked: optree in a namespace of ours, with fields and dictionary keys in alphabetical order.

optree visits namedtuples in the order of declaration, but a class registered in a namespace is visited as registered.
Classes made by `alf.data_structures.namedtuple` are registered when they are created; a plain namedtuple at first
sight.
"""

import operator
import threading
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Tuple

import optree
import torch
from optree import _C

NAMESPACE = "alf"

# Tree structures seen before, and whether they hold an OrderedDict. A structure is hashed in 0.2 us, a Python walk over
# a small nest takes 5 us, and a program has few structures.
_SEEN: Dict[Any, bool] = {}
_SEEN_LIMIT = 4096
_REGISTERED = set()
_LOCK = threading.Lock()


def is_namedtuple(value: Any) -> bool:
    """Return whether ``value`` is an instance of a namedtuple class."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def register_namedtuple(cls: type) -> None:
    """Make nests visit the fields of the namedtuple class ``cls`` in alphabetical order."""
    with _LOCK:
        if cls in _REGISTERED:
            return
        names = tuple(sorted(cls._fields))
        in_order = names == tuple(cls._fields)
        positions = [names.index(name) for name in cls._fields]
        make = tuple.__new__  # not cls._make: a subclass may give __new__ other arguments

        if not names:
            get = lambda value: ()  # noqa: E731
        elif in_order:
            get = tuple
        elif len(names) == 1:
            get = operator.itemgetter(0)
        else:
            get = operator.itemgetter(*[cls._fields.index(name) for name in names])

        def flatten_fields(value):
            return get(value), None, names

        if in_order:
            def build(_, children):
                return make(cls, children)
        else:
            reorder = operator.itemgetter(*positions)

            def build(_, children):
                return make(cls, reorder(children))

        import warnings
        with warnings.catch_warnings():
            # optree warns that the class was known as a namedtuple in its global namespace: that is the purpose.
            warnings.simplefilter("ignore")
            optree.register_pytree_node(cls, flatten_fields, build, namespace=NAMESPACE)
        _REGISTERED.add(cls)


def make_size(children: Iterable[Any]) -> tuple:
    """Return what replaces a ``torch.Size`` whose numbers become ``children``: a plain tuple if they are none."""
    children = tuple(children)
    return torch.Size(children) if all(type(child) is int for child in children) else children


optree.register_pytree_node(torch.Size, lambda size: (tuple(size), None, None), lambda _, children: make_size(children),
                            namespace=NAMESPACE)


def _children(value: Any) -> List[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []


def _register_new(nest: Any) -> Tuple[bool, bool]:
    """Register the plain namedtuple classes in ``nest``; return whether there were any, and whether an OrderedDict."""
    registered = False
    ordered = isinstance(nest, OrderedDict)
    if is_namedtuple(nest) and type(nest) not in _REGISTERED:
        register_namedtuple(type(nest))
        registered = True
    for child in _children(nest):
        child_registered, child_ordered = _register_new(child)
        registered |= child_registered
        ordered |= child_ordered
    return registered, ordered


def _sort_ordered_dicts(nest: Any) -> Any:
    if isinstance(nest, dict):
        pairs = [(key, _sort_ordered_dicts(nest[key])) for key in sorted(nest)]
        return type(nest)(pairs) if type(nest) in (dict, OrderedDict) else OrderedDict(pairs)
    if is_namedtuple(nest):
        return tuple.__new__(type(nest), [_sort_ordered_dicts(child) for child in nest])
    if type(nest) in (list, tuple):
        return type(nest)(_sort_ordered_dicts(child) for child in nest)
    return nest


def flatten_with_structure(nest: Any) -> Tuple[List[Any], Any]:
    """Return the leaves of ``nest`` and its tree structure, whose ``unflatten(leaves)`` makes a nest again."""
    leaves, structure = _C.flatten(nest, None, True, NAMESPACE)
    has_ordered_dict = _SEEN.get(structure)
    if has_ordered_dict is None:
        registered, has_ordered_dict = _register_new(nest)
        if registered:
            leaves, structure = _C.flatten(nest, None, True, NAMESPACE)
        if len(_SEEN) >= _SEEN_LIMIT:
            _SEEN.clear()
        _SEEN[structure] = has_ordered_dict
    if has_ordered_dict:
        leaves, structure = _C.flatten(_sort_ordered_dicts(nest), None, True, NAMESPACE)
    return leaves, structure
