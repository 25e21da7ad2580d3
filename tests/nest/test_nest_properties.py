"""For any nest, the functions on optree agree with those in plain Python."""

from collections import OrderedDict, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import alf.data_structures as ds
import alf.nest as nest

# The strategy spelled out is pages long, which hypothesis warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

# declared in orders that are not alphabetical; one plain, one of ours, one a subclass of ours
Plain = namedtuple("Plain", ["z", "a", "m"])
Ours = ds.namedtuple("Ours", ["second", "first"], default_value=())


class Sub(ds.namedtuple("SubBase", ["q", "p", "o"], default_value=())):
    __slots__ = ()


KEYS = ["b", "a", "c", "aa"]
leaves = st.one_of(st.integers(), st.none(), st.text(max_size=2))


def containers(children):
    pairs = st.lists(st.tuples(st.sampled_from(KEYS), children), max_size=4, unique_by=lambda pair: pair[0])
    return st.one_of(
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        pairs.map(dict),
        pairs.map(OrderedDict),
        st.builds(Plain, children, children, children),
        st.builds(Ours, children, children),
        st.builds(Sub, children, children, st.just(())),
    )


nests = st.recursive(leaves, containers, max_leaves=12)
thoroughly = settings(max_examples=200, deadline=None)


def numbered(structure):
    """Return a nest like `structure` whose leaves are 0, 1, 2, ... in visiting order, made in plain Python."""
    counter = iter(range(10**6))
    return nest.py_map_structure(lambda leaf: next(counter), structure)


@thoroughly
@given(nests)
def test_flatten_agrees(structure):
    assert nest.flatten(structure) == nest.py_flatten(structure)


@thoroughly
@given(nests)
def test_map_structure_agrees(structure):
    def tag(leaf):
        return f"mapped {leaf!r}"

    result = nest.map_structure(tag, structure)
    assert result == nest.py_map_structure(tag, structure)
    assert type(result) is (type(structure) if nest.is_nested(structure) else str)
    assert nest.py_flatten(result) == [tag(leaf) for leaf in nest.py_flatten(structure)]


@thoroughly
@given(nests)
def test_pack_agrees_and_undoes_flatten(structure):
    flat = nest.flatten(structure)
    packed = nest.pack_sequence_as(structure, flat)
    # Not `==`, which for OrderedDict asks for the same insertion order; a result has its keys sorted.
    nest.py_assert_same_structure(packed, structure)
    assert nest.py_flatten(packed) == flat
    values = list(range(len(flat)))
    packed = nest.pack_sequence_as(structure, values)
    assert packed == nest.py_pack_sequence_as(structure, values) == numbered(structure)


@thoroughly
@given(nests)
def test_map_over_two_nests_pairs_equal_places(structure):
    numbers = numbered(structure)
    result = nest.map_structure(lambda a, b: (a, b) == (b, a), numbers, numbers)
    assert all(nest.flatten(result))
    zeros = nest.map_structure_without_check(lambda a, b: a - b, numbers, numbers)
    assert zeros == nest.map_structure(lambda a: 0, numbers)


@thoroughly
@given(nests, nests)
def test_same_structure_agrees(structure1, structure2):
    def told(check):
        try:
            check(structure1, structure2)
        except RuntimeError as error:
            return str(error)
        return None

    assert told(nest.assert_same_structure) == told(nest.py_assert_same_structure)


@thoroughly
@given(nests)
def test_every_path_leads_to_its_leaf(structure):
    numbers = numbered(structure)
    pairs = []
    nest.py_map_structure_with_path(lambda path, leaf: pairs.append((path, leaf)), numbers)
    assert [leaf for _, leaf in pairs] == nest.flatten(numbers)
    assert all(nest.get_field(numbers, path) == leaf for path, leaf in pairs)


@thoroughly
@given(nests)
def test_top_level_is_flattened_up_to_once(structure):
    parts = nest.flatten_up_to(nest.nest_top_level(structure), structure)
    assert [leaf for part in parts for leaf in nest.flatten(part)] == nest.flatten(structure)
