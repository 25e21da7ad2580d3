"""What each function of nests returns, and what its errors say."""

from collections import OrderedDict, namedtuple

import pytest
import torch

import alf.data_structures as ds
import alf.nest as nest

Zam = namedtuple("Zam", ["z", "a", "m"])
Point = ds.namedtuple("Point", ["y", "x"], default_value=())


# ---- structures that differ


@pytest.mark.parametrize("check", [
    nest.assert_same_structure, nest.py_assert_same_structure,
    lambda a, b: nest.map_structure(lambda x, y: x, a, b),
    lambda a, b: nest.py_map_structure(lambda x, y: x, a, b)
])
@pytest.mark.parametrize("nest1, nest2, words", [
    ((1, 2), [1, 2], "Different types! tuple <-> list"),
    ({"x": 1, "y": 2}, Point(y=2, x=1), "Different types! dict <-> Point"),
    (Zam(1, 2, 3), (1, 2, 3), "Different types! Zam <-> tuple"),
    ({"a": 1}, {"b": 1}, "Keys are different!"),
    ({"a": 1}, {"a": 1, "b": 1}, "Keys are different!"),
    ([1, 2], [1], "Different lengths! 2 <-> 1"),
    ([1], 1, "Different types! list <-> leaf 1"),
    (1, [1], "Different types! leaf 1 <-> list"),
    (Point(x=1, y=1), Point(x=1), "Different types! leaf 1 <-> tuple at 'y'"),
    ({"a": {"b": [1]}}, {"a": {"b": (1, )}}, "at 'a.b'"),
])
def test_difference_is_named_with_its_place(check, nest1, nest2, words):
    with pytest.raises(RuntimeError) as caught:
        check(nest1, nest2)
    assert words in str(caught.value)


@pytest.mark.parametrize("nest1, nest2", [
    ({"b": 1, "a": 2}, {"a": 3, "b": 4}),
    ({"b": 1, "a": 2}, OrderedDict(a=3, b=4)),
    (Zam(1, [2], ()), Zam(4, [5], ())),
    (None, 3),
    ((), ()),
])
def test_same_structure_is_accepted(nest1, nest2):
    nest.assert_same_structure(nest1, nest2)
    nest.py_assert_same_structure(nest1, nest2)


# ---- packing


@pytest.mark.parametrize("pack", [nest.pack_sequence_as, nest.py_pack_sequence_as])
def test_pack_is_the_inverse_of_flatten(pack):
    assert pack(Zam(z=0, a={"d": 0, "c": 0}, m=()), [1, 2, 3]) == Zam(z=3, a={"c": 1, "d": 2}, m=())
    with pytest.raises(RuntimeError, match="Different lengths!"):
        pack([0, 0], [1])


# ---- up to a shallow structure


def test_flatten_up_to_stops_at_the_leaves_of_the_shallow_nest():
    assert nest.flatten_up_to({"a": 0, "b": 0}, {"a": [1, 2], "b": (3, )}) == [[1, 2], (3, )]
    assert nest.flatten_up_to(0, {"a": 1}) == [{"a": 1}]


def test_map_structure_up_to():
    parts, factors = Zam([1, 2], [1], ()), Zam(1, 10, 100)
    assert nest.map_structure_up_to(Zam(0, 0, 0), lambda part, n: len(part) * n, parts, factors) == Zam(2, 10, 0)


def test_shallow_structure_must_match():
    with pytest.raises(RuntimeError, match="Different types! tuple <-> list"):
        nest.assert_same_structure_up_to((0, 0), [1, 2])
    nest.assert_same_structure_up_to([0, 0], [{"a": 1}, ()])


# ---- pruning


def test_prune_drops_what_the_slim_nest_lacks():
    assert nest.prune_nest_like({"a": 1, "b": 2}, {"a": 0}) == {"a": 1}
    assert nest.prune_nest_like({"a": 1, "b": 2}, {"a": ()}, value_to_match=()) == {"a": ()}
    assert nest.prune_nest_like({"a": [1, {"b": 2, "c": 3}]}, {"a": [0, {"c": 0}]}) == {"a": [1, {"c": 3}]}
    assert nest.prune_nest_like(Point(x=1, y=2), Point(x=0), value_to_match=()) == Point(x=1)


def test_prune_refuses_what_the_nest_lacks():
    with pytest.raises(RuntimeError, match=r"expected 'c', got \['a', 'b'\]"):
        nest.prune_nest_like({"a": 1, "b": 2}, {"c": 0})


# ---- paths and fields


def test_paths_are_dotted_and_positions_are_numbers():
    nested = {"a": [5, {"b": 6}], "c": Point(x=7, y=())}
    assert nest.py_map_structure_with_path(lambda path, leaf: path, nested) == {
        "a": ["a.0", {"b": "a.1.b"}], "c": Point(x="c.x", y=())}
    assert nest.py_map_structure_with_path(lambda path, leaf: path, 1) == ""


def test_get_field():
    nested = {"x": Point(y=1, x={"k": [2, 3]})}
    assert nest.get_field(nested, "x.y") == 1
    assert nest.get_field(nested, "x.x.k.1") == 3
    assert nest.get_field(nested, "") is nested


@pytest.mark.parametrize("field, words", [
    ("x.q", "'q'.*'x.q'.*'x', 'y'"), ("x.y.z", "'z'.*a leaf"), ("x.x.k.2", "'2'")
])
def test_field_that_does_not_exist_is_named(field, words):
    with pytest.raises(LookupError, match=words):
        nest.get_field({"x": Point(y=1, x={"k": [2, 3]})}, field)


def test_set_field_returns_a_new_nest():
    old = Zam(z={"k": 1, "l": 2}, a=0, m=[1, 2])
    assert nest.set_field(old, "z.k", 9) == Zam(z={"k": 9, "l": 2}, a=0, m=[1, 2])
    assert nest.set_field(old, "m.1", 9).m == [1, 9]
    assert old == Zam(z={"k": 1, "l": 2}, a=0, m=[1, 2])


def test_transform_nests_joins_the_parts():
    assert nest.transform_nest({"a": {"b": 1}, "c": 2}, "a.b", lambda part: part + 1) == {"a": {"b": 2}, "c": 2}
    result = nest.transform_nests([{"a": 1, "b": 0}, {"a": 10}], "a", lambda *parts: sum(parts))
    assert result == {"a": 11, "b": 0}


def test_find_field_returns_all_of_that_name():
    nested = {"y": 1, "x": [Point(y=2, x=()), {"y": {"y": 3}}]}
    assert sorted(map(str, nest.find_field(nested, "y"))) == ["1", "2", "{'y': 3}"]
    assert nest.find_field(Point(x=1), "y") == []
    assert nest.find_field(Point(x=1), "y", ignore_empty=False) == [()]


def test_extract_fields_in_alphabetical_order():
    assert nest.extract_fields_from_nest(Zam(1, 2, 3)) == [("a", 2), ("m", 3), ("z", 1)]
    with pytest.raises(ValueError, match="expected a dictionary or namedtuple, got list"):
        nest.extract_fields_from_nest([1])


# ---- the rest


def test_transpose_exchanges_outer_and_inner():
    assert nest.transpose([(1, 2), (3, 4)]) == ([1, 3], [2, 4])
    assert nest.transpose({"a": Point(y=1, x=2), "b": Point(y=3, x=4)}) == Point(y={"a": 1, "b": 3}, x={"a": 2, "b": 4})


def test_nest_top_level():
    assert nest.flatten_up_to(nest.nest_top_level([(1, 2), {"a": 3}]), [(1, 2), {"a": 3}]) == [(1, 2), {"a": 3}]


def test_sum_nest():
    assert nest.sum_nest({"a": [1, 2], "b": Point(x=3)}) == 6
    with pytest.raises(ValueError, match="empty nest"):
        nest.sum_nest(())


def test_any_leaf():
    assert nest.extract_any_leaf_from_nest({"b": 1, "a": [2]}) == 2
    assert nest.extract_any_leaf_from_nest([(), {}]) is None


def test_batch_dimension_is_added_and_removed():
    batched = nest.batch_nested_tensor({"a": torch.zeros(2), "b": torch.zeros(())})
    assert nest.get_nest_shape(batched) == {"a": (1, 2), "b": (1, )}
    assert nest.get_nest_shape(nest.unbatch_nested_tensor(batched)) == {"a": (2, ), "b": ()}
    with pytest.raises(RuntimeError, match=r"expected batch size 1, got shape \(2, 3\)"):
        nest.unbatch_nested_tensor([torch.zeros(2, 3)])


def test_common_size():
    tensors = [torch.zeros(4, 2), torch.zeros(4, 3)]
    assert nest.get_nest_batch_size(tensors) == 4
    with pytest.raises(RuntimeError, match=r"dimension 1.*\[2, 3\]"):
        nest.get_nest_size(tensors, 1)


def test_a_size_is_a_nest_of_numbers():
    sizes = {"a": torch.Size([2, 3]), "b": torch.Size([])}
    assert nest.is_nested(sizes["a"])
    assert nest.flatten(sizes) == nest.py_flatten(sizes) == [2, 3]
    for map_structure in (nest.map_structure, nest.py_map_structure):
        added = map_structure(lambda x: x + 1, sizes)
        assert added == {"a": torch.Size([3, 4]), "b": torch.Size([])} and type(added["a"]) is torch.Size
        assert map_structure(float, sizes) == {"a": (2.0, 3.0), "b": ()}
    assert nest.map_structure_up_to(sizes, lambda x: x + 1, sizes) == {"a": torch.Size([3, 4]), "b": torch.Size([])}
    assert nest.pack_sequence_as(sizes, [5, 6])["a"] == torch.Size([5, 6])
