"""The order in which nests are visited, and what counts as a nest: values written down by hand."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

import alf.data_structures as ds
import alf.nest as nest
from alf.tensor_specs import TensorSpec

Zam = namedtuple("Zam", ["z", "a", "m"])
Pair = ds.namedtuple("Pair", ["y", "x"], default_value=())


def test_namedtuple_is_visited_alphabetically():
    assert nest.flatten(Zam(z=1, a=2, m=3)) == [2, 3, 1]


def test_dictionary_is_visited_by_sorted_key():
    assert nest.flatten({"b": 1, "a": 2}) == [2, 1]
    assert nest.flatten(OrderedDict([("b", 1), ("a", 2)])) == [2, 1]


def test_list_and_tuple_are_visited_in_order():
    assert nest.flatten([3, (1, [2])]) == [3, 1, 2]


@pytest.mark.parametrize("empty", [(), [], {}, OrderedDict()])
def test_empty_container_is_a_nest_without_leaves(empty):
    assert nest.is_nested(empty)
    assert nest.flatten(empty) == []
    assert nest.map_structure(lambda leaf: leaf, empty) == empty


def test_none_is_a_leaf():
    assert nest.flatten(None) == [None]
    assert nest.flatten({"a": None, "b": 1}) == [None, 1]
    assert nest.map_structure(lambda leaf: leaf is None, [None, 1]) == [True, False]


def test_what_is_nested():
    assert all(map(nest.is_nested, [[1], (1, ), {"a": 1}, Zam(1, 2, 3), torch.Size([2])]))
    assert not any(map(nest.is_nested, [1, None, "ab", torch.zeros(2), np.zeros(2), TensorSpec(())]))


def test_kinds_of_tuples():
    assert nest.is_namedtuple(Zam(1, 2, 3)) and not nest.is_namedtuple((1, ))
    assert nest.is_unnamedtuple((1, )) and not nest.is_unnamedtuple(Zam(1, 2, 3)) and not nest.is_unnamedtuple([1])


def test_map_structure_keeps_classes_and_fields():
    result = nest.map_structure(lambda a, b: a + b, Zam(1, 2, 3), Zam(10, 20, 30))
    assert type(result) is Zam and result == Zam(z=11, a=22, m=33)
    result = nest.map_structure(lambda a: -a, {"b": (1, [2]), "a": OrderedDict(d=3, c=4)})
    assert result == {"a": OrderedDict(c=-4, d=-3), "b": (-1, [-2])}
    assert type(result["a"]) is OrderedDict


def test_map_structure_keeps_absent_fields():
    assert nest.map_structure(lambda leaf: leaf + 1, Pair(x=1)) == Pair(y=(), x=2)


def test_subclass_of_a_namedtuple_stays_one():
    class Sub(ds.namedtuple("Sub", ["b", "a"])):
        __slots__ = ()

    result = nest.map_structure(lambda leaf: leaf * 2, Sub(b=1, a=2))
    assert type(result) is Sub and (result.b, result.a) == (2, 4)


def test_time_step_flattens_by_field_name():
    fields = ds.TimeStep._fields
    step = ds.TimeStep(**{name: name for name in fields})
    assert nest.flatten(step) == sorted(fields)


def test_map_structure_calls_in_visiting_order():
    seen = []
    nest.map_structure(seen.append, Zam(z=[1], a={"d": 2, "c": 3}, m=()))
    assert seen == [3, 2, 1]


def test_tensors_stay_the_same_objects():
    tensor = torch.zeros(3)
    assert nest.flatten({"a": [tensor]})[0] is tensor
    assert nest.pack_sequence_as([0], [tensor])[0] is tensor
