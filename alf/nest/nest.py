"""Flatten, map, pack, prune, compare and address nests.

A nest is a leaf or a list, tuple, namedtuple or dictionary of nests. Namedtuple fields and dictionary keys are visited
in alphabetical order. ``()`` (like ``[]`` and ``{}``) is a nest without leaves; ``None`` is a leaf.
"""

from typing import Any, Callable, List, Tuple

import torch

from alf.nest._tree import flatten_with_structure, is_namedtuple, make_size, register_namedtuple

__all__ = [
    "Nest", "NestedTensor",
    "assert_same_length", "assert_same_structure", "assert_same_structure_up_to", "assert_same_type",
    "batch_nested_tensor", "extract_any_leaf_from_nest", "extract_fields_from_nest", "fast_map_structure",
    "fast_map_structure_flatten", "find_field", "flatten", "flatten_up_to", "flatten_with_structure", "get_field",
    "get_nest_batch_size", "get_nest_shape", "get_nest_size", "is_namedtuple", "is_nested", "is_unnamedtuple",
    "map_structure", "map_structure_up_to", "map_structure_without_check", "nest_top_level", "pack_sequence_as",
    "prune_nest_like", "py_assert_same_structure", "py_flatten", "py_flatten_up_to", "py_map_structure",
    "py_map_structure_up_to", "py_map_structure_with_path", "py_pack_sequence_as", "py_prune_nest_like",
    "register_namedtuple", "set_field", "sum_nest", "transform_nest", "transform_nests", "transpose",
    "unbatch_nested_tensor"
]

Nest = Any
NestedTensor = Any


def is_unnamedtuple(value: Any) -> bool:
    """Return whether ``value`` is a tuple without field names."""
    return isinstance(value, tuple) and not is_namedtuple(value)


def is_nested(value: Any) -> bool:
    """Return whether ``value`` is a list, tuple, namedtuple or dictionary, empty ones included."""
    return isinstance(value, (list, tuple, dict))


def extract_fields_from_nest(nest: Nest) -> List[Tuple[str, Nest]]:
    """Return ``(name, child)`` of a dictionary or namedtuple, in alphabetical order.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(nest, dict):
        return [(key, nest[key]) for key in sorted(nest)]
    if is_namedtuple(nest):
        return [(name, getattr(nest, name)) for name in sorted(nest._fields)]
    raise ValueError(f"extract_fields_from_nest: expected a dictionary or namedtuple, got {type(nest).__name__}.")


def level_items(nest: Nest) -> List[Tuple[str, Nest]]:
    """Return ``(path element, child)`` of one level of ``nest`` in visiting order."""
    if isinstance(nest, (list, tuple)) and not is_namedtuple(nest):
        return [(str(i), child) for i, child in enumerate(nest)]
    return extract_fields_from_nest(nest)


def _rebuild(nest: Nest, children: List[Nest]) -> Nest:
    """Return one level like ``nest`` with ``children`` in visiting order."""
    if isinstance(nest, dict):
        return type(nest)(zip(sorted(nest), children))
    if is_namedtuple(nest):
        by_name = dict(zip(sorted(nest._fields), children))
        return tuple.__new__(type(nest), [by_name[name] for name in nest._fields])
    return make_size(children) if type(nest) is torch.Size else type(nest)(children)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)


def _told(value: Any) -> str:
    text = repr(value) if not isinstance(value, torch.Tensor) else f"tensor of shape {tuple(value.shape)}"
    return text if len(text) <= 80 else text[:77] + "..."


def assert_same_type(value1: Any, value2: Any) -> None:
    """Raise a RuntimeError unless both have the same type; all dictionary classes count as one."""
    if isinstance(value1, dict) and isinstance(value2, dict):
        return
    if type(value1) is not type(value2):
        raise RuntimeError(f"Different types! {type(value1).__name__} <-> {type(value2).__name__}: {_told(value1)} <-> "
                           f"{_told(value2)}.")


def assert_same_length(seq1: Any, seq2: Any) -> None:
    """Raise a RuntimeError unless both sequences are equally long."""
    if len(seq1) != len(seq2):
        raise RuntimeError(f"Different lengths! {len(seq1)} <-> {len(seq2)}.")


def _check_level(nest1: Nest, nest2: Nest, path: str) -> None:
    """Raise unless one level of two nests has the same type and the same keys."""
    where = f" at {path!r}" if path else ""
    if not is_nested(nest2):
        raise RuntimeError(f"Different types! {type(nest1).__name__} <-> leaf {_told(nest2)}{where}.")
    try:
        assert_same_type(nest1, nest2)
        if not isinstance(nest1, dict):
            assert_same_length(nest1, nest2)
    except RuntimeError as error:
        raise RuntimeError(f"{str(error).rstrip('.')}{where}.") from None
    if isinstance(nest1, dict) and sorted(nest1) != sorted(nest2):
        raise RuntimeError(f"Keys are different! {sorted(nest1)} <-> {sorted(nest2)}{where}.")


def _assert_same(nest1: Nest, nest2: Nest, path: str = "") -> None:
    if not is_nested(nest1):
        if is_nested(nest2):
            where = f" at {path!r}" if path else ""
            raise RuntimeError(f"Different types! leaf {_told(nest1)} <-> {type(nest2).__name__}{where}.")
        return
    _check_level(nest1, nest2, path)
    for (name, child1), (_, child2) in zip(level_items(nest1), level_items(nest2)):
        _assert_same(child1, child2, _join(path, name))


def assert_same_structure(nest1: Nest, nest2: Nest) -> None:
    """Raise a RuntimeError that names the first difference unless both nests have the same structure."""
    if flatten_with_structure(nest1)[1] != flatten_with_structure(nest2)[1]:
        _assert_same(nest1, nest2)


def flatten(nest: Nest) -> List[Any]:
    """Return the leaves of ``nest`` in visiting order."""
    return flatten_with_structure(nest)[0]


def map_structure(func: Callable, *nests: Nest) -> Nest:
    """Return the nest of ``func(leaf of nests[0], leaf of nests[1], ...)``.

    Raises:
        RuntimeError: if the structures differ, with the first place where they do.
    """
    leaves, structure = flatten_with_structure(nests[0])
    if len(nests) == 1:
        return structure.unflatten(map(func, leaves))
    columns = [leaves]
    for nest in nests[1:]:
        other_leaves, other_structure = flatten_with_structure(nest)
        if other_structure != structure:
            _assert_same(nests[0], nest)
        columns.append(other_leaves)
    return structure.unflatten(map(func, *columns))


def map_structure_without_check(func: Callable, *nests: Nest) -> Nest:
    """Like :func:`map_structure`, for nests known to have the same structure."""
    columns = [flatten_with_structure(nest)[0] for nest in nests[1:]]
    leaves, structure = flatten_with_structure(nests[0])
    return structure.unflatten(map(func, leaves, *columns))


def fast_map_structure_flatten(func: Callable, structure: Nest, *flat_structure: List[Any]) -> Nest:
    """Return a nest like ``structure`` of ``func`` applied to leaves that are flattened already."""
    return flatten_with_structure(structure)[1].unflatten(map(func, *flat_structure))


def fast_map_structure(func: Callable, *structure: Nest) -> Nest:
    """The published name of :func:`map_structure_without_check`."""
    return map_structure_without_check(func, *structure)


def pack_sequence_as(nest: Nest, flat_seq: List[Any]) -> Nest:
    """Return the leaves ``flat_seq`` packed in the structure of ``nest``.

    Raises:
        RuntimeError: if the number of leaves is wrong.
    """
    structure = flatten_with_structure(nest)[1]
    if structure.num_leaves != len(flat_seq):
        raise RuntimeError(f"Different lengths! the nest has {structure.num_leaves} leaves <-> {len(flat_seq)} values.")
    return structure.unflatten(flat_seq)


def _flatten_up_to(shallow_nest: Nest, nest: Nest, path: str, flat: List[Nest]) -> None:
    if not is_nested(shallow_nest):
        flat.append(nest)
        return
    _check_level(shallow_nest, nest, path)
    for (name, shallow_child), (_, child) in zip(level_items(shallow_nest), level_items(nest)):
        _flatten_up_to(shallow_child, child, _join(path, name), flat)


def flatten_up_to(shallow_nest: Nest, nest: Nest) -> List[Nest]:
    """Return the parts of ``nest`` that stand where ``shallow_nest`` has its leaves."""
    flat = []
    _flatten_up_to(shallow_nest, nest, "", flat)
    return flat


def assert_same_structure_up_to(shallow_nest: Nest, deep_nest: Nest) -> None:
    """Raise a RuntimeError unless ``deep_nest`` has the structure of ``shallow_nest`` down to its leaves."""
    flatten_up_to(shallow_nest, deep_nest)


def map_structure_up_to(shallow_nest: Nest, func: Callable, *nests: Nest) -> Nest:
    """Return a nest like ``shallow_nest`` of ``func`` applied to the parts of ``nests`` at its leaves."""
    columns = [flatten_up_to(shallow_nest, nest) for nest in nests]
    return flatten_with_structure(shallow_nest)[1].unflatten(map(func, *columns))


def py_map_structure_with_path(func: Callable, *nests: Nest) -> Nest:
    """Return the nest of ``func(path, *leaves)``; a path is dotted, positions are numbers: ``"a.1.b"``."""
    for nest in nests[1:]:
        _assert_same(nests[0], nest)

    def walk(path, *parts):
        if not is_nested(parts[0]):
            return func(path, *parts)
        names = [name for name, _ in level_items(parts[0])]
        columns = [[child for _, child in level_items(part)] for part in parts]
        return _rebuild(parts[0], [walk(_join(path, name), *children) for name, *children in zip(names, *columns)])

    return walk("", *nests)


def py_flatten(nest: Nest) -> List[Any]:
    """Return the leaves of ``nest``: :func:`flatten` in plain Python, the oracle of its tests."""
    if not is_nested(nest):
        return [nest]
    return [leaf for _, child in level_items(nest) for leaf in py_flatten(child)]


def py_assert_same_structure(nest1: Nest, nest2: Nest) -> None:
    """:func:`assert_same_structure` in plain Python, the oracle of its tests."""
    _assert_same(nest1, nest2)


def py_map_structure(func: Callable, *nests: Nest) -> Nest:
    """:func:`map_structure` in plain Python, the oracle of its tests."""
    return py_map_structure_with_path(lambda path, *leaves: func(*leaves), *nests)


def py_pack_sequence_as(nest: Nest, flat_seq: List[Any]) -> Nest:
    """:func:`pack_sequence_as` in plain Python, the oracle of its tests."""
    assert_same_length(py_flatten(nest), flat_seq)
    values = iter(flat_seq)
    return py_map_structure(lambda _: next(values), nest)


py_flatten_up_to = flatten_up_to
py_map_structure_up_to = map_structure_up_to


def prune_nest_like(nest: Nest, slim_nest: Nest, value_to_match: Any = None) -> Nest:
    """Return ``nest`` without the parts that ``slim_nest`` does not have.

    Keys and fields that ``slim_nest`` lacks are dropped; where ``slim_nest`` has ``value_to_match``, the result has it
    too. A namedtuple of ``nest`` keeps its class and gets ``()`` in the fields that ``slim_nest`` leaves empty.

    Raises:
        RuntimeError: if ``slim_nest`` has what ``nest`` does not.
    """

    def walk(part, slim, path):
        if type(slim) is type(value_to_match) and slim == value_to_match:
            return value_to_match
        if not is_nested(slim):
            return part
        where = f" at {path!r}" if path else ""
        if isinstance(slim, (list, tuple)) and not is_namedtuple(slim):
            _check_level(slim, part, path)
            return _rebuild(slim, [walk(p, s, _join(path, str(i))) for i, (p, s) in enumerate(zip(part, slim))])
        if not isinstance(part, dict) and not is_namedtuple(part):
            raise RuntimeError(f"Different types! {type(part).__name__} <-> {type(slim).__name__}{where}.")
        parts = dict(extract_fields_from_nest(part))
        children = []
        for name, child in extract_fields_from_nest(slim):
            if name not in parts:
                raise RuntimeError(f"Keys are different! expected {name!r}{where}, got {sorted(parts)}.")
            children.append(walk(parts[name], child, _join(path, name)))
        return _rebuild(slim, children)

    return walk(nest, slim_nest, "")


py_prune_nest_like = prune_nest_like


def extract_any_leaf_from_nest(nest: Nest) -> Any:
    """Return the first leaf of ``nest``, or None if it has no leaves."""
    leaves = flatten(nest)
    return leaves[0] if leaves else None


def batch_nested_tensor(nested_tensor: NestedTensor) -> NestedTensor:
    """Return tensors with a batch dimension of one added in front."""
    return map_structure(lambda tensor: tensor.unsqueeze(0), nested_tensor)


def unbatch_nested_tensor(nested_tensor: NestedTensor) -> NestedTensor:
    """Return tensors with the batch dimension of one taken away.

    Raises:
        RuntimeError: if a batch dimension is not one.
    """

    def unbatch(tensor):
        if tensor.shape[0] != 1:
            raise RuntimeError(f"unbatch_nested_tensor: expected batch size 1, got shape {tuple(tensor.shape)}.")
        return tensor.squeeze(0)

    return map_structure(unbatch, nested_tensor)


def get_nest_shape(nest: NestedTensor) -> Nest:
    """Return the nest of the shapes of the tensors."""
    return map_structure(lambda tensor: tensor.shape, nest)


def get_nest_size(nest: NestedTensor, dim: int) -> int:
    """Return the size of dimension ``dim``, common to all tensors of ``nest``.

    Raises:
        RuntimeError: if the tensors differ.
    """
    sizes = [leaf.shape[dim] for leaf in flatten(nest)]
    if len(set(sizes)) != 1:
        raise RuntimeError(f"get_nest_size: expected one size of dimension {dim} for all tensors, got {sizes}.")
    return sizes[0]


def get_nest_batch_size(nest: NestedTensor) -> int:
    """Return the size of the first dimension, common to all tensors of ``nest``."""
    return get_nest_size(nest, 0)


def find_field(nest: Nest, name: str, ignore_empty: bool = True) -> List[Nest]:
    """Return every part of ``nest``, at any depth, that is called ``name``.

    Args:
        nest: the nest.
        name: name of a dictionary key or namedtuple field.
        ignore_empty: leave out parts that are ``()``.
    """
    found = []
    if is_nested(nest):
        named = isinstance(nest, dict) or is_namedtuple(nest)
        for child_name, child in level_items(nest):
            if named and child_name == name:
                if not (ignore_empty and is_unnamedtuple(child) and len(child) == 0):
                    found.append(child)
            else:
                found.extend(find_field(child, name, ignore_empty))
    return found


def _child(nest: Nest, name: str, field: str) -> Nest:
    if isinstance(nest, dict) and name in nest:
        return nest[name]
    if is_namedtuple(nest) and name in nest._fields:
        return getattr(nest, name)
    if is_nested(nest) and not isinstance(nest, dict) and not is_namedtuple(nest) and name.isdigit():
        if int(name) < len(nest):
            return nest[int(name)]
    has = [child_name for child_name, _ in level_items(nest)] if is_nested(nest) else "a leaf"
    raise LookupError(f"{name!r} of field {field!r} does not exist; expected one of {has}.")


def get_field(nested: Nest, field: str) -> Nest:
    """Return the part of ``nested`` at the dotted path ``field``; an empty path is ``nested`` itself.

    Raises:
        LookupError: if there is no such part, naming what there is.
    """
    for name in field.split(".") if field else ():
        nested = _child(nested, name, field)
    return nested


def transform_nest(nested: Nest, field: str, func: Callable) -> Nest:
    """Return ``nested`` with the part at the dotted path ``field`` replaced by ``func(part)``."""
    return transform_nests([nested], field, lambda part: func(part))


def transform_nests(nests: List[Nest], field: str, func: Callable) -> Nest:
    """Return ``nests[0]`` with the part at ``field`` replaced by ``func(part of nests[0], part of nests[1], ...)``."""

    def walk(parts, names):
        if not names:
            return func(*parts)
        replaced = walk([_child(part, names[0], field) for part in parts], names[1:])
        first = parts[0]
        if isinstance(first, dict):
            return type(first)({**first, names[0]: replaced})
        if is_namedtuple(first):
            return first._replace(**{names[0]: replaced})
        return type(first)([replaced if i == int(names[0]) else child for i, child in enumerate(first)])

    return walk(list(nests), field.split(".") if field else [])


def set_field(nested: Nest, field: str, new_value: Nest) -> Nest:
    """Return ``nested`` with the part at the dotted path ``field`` replaced by ``new_value``."""
    return transform_nest(nested, field, lambda _: new_value)


def nest_top_level(nested: Nest) -> Nest:
    """Return the top level of ``nested`` with leaves in place of its parts, for the functions with ``shallow_nest``."""
    if not is_nested(nested):
        return nested
    return _rebuild(nested, [i for i, _ in enumerate(level_items(nested))])


def transpose(nested: Nest, shallow_nest: Nest = None, new_shallow_nest: Nest = None) -> Nest:
    """Return ``nested`` with its outer and inner structure exchanged: ``[(1, 2), (3, 4)]`` gives ``([1, 3], [2, 4])``.

    Args:
        nested: the nest; every part at the leaves of ``shallow_nest`` has the same structure.
        shallow_nest: outer structure of ``nested``; its top level by default.
        new_shallow_nest: outer structure of the result; the top level of the parts by default.
    """
    shallow_nest = nest_top_level(nested) if shallow_nest is None else shallow_nest
    parts = flatten_up_to(shallow_nest, nested)
    new_shallow_nest = nest_top_level(parts[0]) if new_shallow_nest is None else new_shallow_nest
    columns = zip(*[flatten_up_to(new_shallow_nest, part) for part in parts])
    return pack_sequence_as(new_shallow_nest, [pack_sequence_as(shallow_nest, list(column)) for column in columns])


def sum_nest(nested: Nest) -> Any:
    """Return the sum of all leaves.

    Raises:
        ValueError: if there are none.
    """
    leaves = flatten(nested)
    if not leaves:
        raise ValueError("sum_nest: expected at least one leaf, got an empty nest.")
    total = leaves[0]
    for leaf in leaves[1:]:
        total = total + leaf
    return total
