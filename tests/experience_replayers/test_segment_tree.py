"""Segment trees against plain arrays, and the extension against its twin to the last bit."""

import copy

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from alf.experience_replayers import _twin
from alf.experience_replayers.segment_tree import MaxSegmentTree, MinSegmentTree, SegmentTree, SumSegmentTree
from alf.utils import native_replay

TREES = {SumSegmentTree: (np.sum, 0.0), MinSegmentTree: (np.min, np.inf), MaxSegmentTree: (np.max, -np.inf)}


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("capacity", [1, 15, 16, 17, 300, 5000])
def test_summary_is_that_of_an_array(implementation, kind, capacity):
    reduce, empty = TREES[kind]
    tree, values = kind(capacity, dtype=torch.float64), np.full(capacity, empty)
    generator = np.random.default_rng(0)
    for _ in range(5):
        assert float(tree.summary()) == pytest.approx(reduce(values))
        indices = generator.integers(0, capacity, size=7)
        new = generator.uniform(0.1, 2, size=7)
        tree[torch.from_numpy(indices)] = torch.from_numpy(new)
        for index, value in zip(indices, new):
            values[index] = value
    assert tree[torch.arange(capacity)].tolist() == values.tolist()


@hypothesis.settings(max_examples=60, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(values=st.lists(st.integers(0, 3), min_size=1, max_size=600))
def test_search_finds_where_the_running_sum_exceeds(implementation, values):
    tree = SumSegmentTree(len(values))
    tree[torch.arange(len(values))] = torch.tensor(values)
    bounds = torch.arange(2 * sum(values)) / 2
    expected = [int(np.argmax(np.cumsum(values) > bound)) for bound in bounds.tolist()]
    assert tree.find_sum_bound(bounds).tolist() == expected
    assert tree.nnz == np.count_nonzero(values)


def test_search_never_lands_on_a_zero_though_sums_are_rounded(implementation):
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 1, 3000) * (generator.uniform(size=3000) < 0.3)
    values[-50:] = 0
    tree = SumSegmentTree(3000, dtype=torch.float64)
    tree[torch.arange(3000)] = torch.from_numpy(values)
    below_total = np.nextafter(float(tree.summary()), 0)
    found = tree.find_sum_bound(torch.linspace(0, 1, 5000, dtype=torch.float64) * below_total)
    assert (values[found.numpy()] > 0).all()


@pytest.mark.parametrize("name", ["SumTree", "MinTree", "MaxTree"])
def test_extension_and_twin_are_equal_to_the_last_bit(name):
    extension = native_replay.extension()
    if extension is None:
        pytest.skip("alf._replay is not built")
    native, twin = getattr(extension, name)(5000), getattr(_twin, name)(5000)
    for _ in range(20):
        indices, values = torch.randint(5000, (300, )), torch.rand(300, dtype=torch.float64)**8
        native.set(indices, values)
        twin.set(indices, values)
        assert native.summary() == twin.summary()
    assert torch.equal(native.get(torch.arange(5000)), twin.get(torch.arange(5000)))
    if name == "SumTree":
        bounds = torch.rand(4000, dtype=torch.float64) * native.summary()
        assert torch.equal(native.find(bounds), twin.find(bounds))


def test_a_copy_is_independent(implementation):
    tree = SumSegmentTree(20)
    tree[3] = 2.0
    other = copy.deepcopy(tree)
    other[4] = 1.0
    assert (float(tree.summary()), float(other.summary())) == (2.0, 3.0)


def test_errors_tell_what_was_expected(implementation):
    tree = SumSegmentTree(10)
    tree[torch.arange(3)] = 1.0
    with pytest.raises(IndexError, match="expected 0 to 9, got 3 to 10"):
        tree[torch.tensor([3, 10])] = 1.0
    with pytest.raises(ValueError, match=r"expected numbers in \[0, 3.0\)"):
        tree.find_sum_bound(torch.tensor([3.0]))
    with pytest.raises(ValueError, match="expected torch.add, torch.min or torch.max"):
        SegmentTree(10, torch.mul)
    with pytest.raises(ValueError, match="capacity: expected at least 1, got 0"):
        MaxSegmentTree(0)
