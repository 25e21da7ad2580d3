"""What a checkpoint can hold, and that it comes back as it was."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alf.utils._checkpoint_codec import Encoder, decode


def round_trip(state, tmp_path):
    """Encode, go through JSON text and a safetensors file, decode."""
    from safetensors.torch import load_file, save_file

    encoder = Encoder()
    text = json.dumps(encoder.encode(state, "s"), allow_nan=False)
    save_file(encoder.tensors, str(tmp_path / "x.safetensors"))
    return decode(json.loads(text), load_file(str(tmp_path / "x.safetensors")))


def bits(tensor):
    return tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(a, b):
    assert type(a) is type(b), (a, b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert bits(a) == bits(b)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b or a != a and b != b


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.tensor([2**62, -1]),
        torch.tensor([1.5, float("nan"), -0.0]).bfloat16(),
        torch.arange(3, dtype=torch.uint8),
        torch.arange(6.0).reshape(2, 3).t(),
        torch.arange(10.0)[2:9:3],
        torch.tensor([1 + 2j, 3 - 1j]),
        torch.tensor([1 + 2j]).conj(),
        torch.randn(3, dtype=torch.float64),
        torch.ones(2, dtype=torch.float16),
        torch.nn.Parameter(torch.ones(2)).detach(),
        torch.zeros(1).expand(4),
        torch.tensor(2**31, dtype=torch.uint32),
    ],
    ids=lambda t: f"{t.dtype}{tuple(t.shape)}{t.stride()}",
)
def test_every_kind_of_tensor_comes_back(tensor, tmp_path):
    assert_same({"t": tensor}, round_trip({"t": tensor}, tmp_path))


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5),
        np.int64(-3),
        np.bool_(True),
        np.float64("nan"),
        np.array(7),
        np.zeros((0, 2)),
        np.arange(6)[::-1],
        np.arange(4, dtype=np.uint16),
        np.array([True]),
        np.array([1j]),
        np.str_("x"),
    ],
    ids=repr,
)
def test_every_kind_of_numpy_value_comes_back(array, tmp_path):
    assert_same([array], round_trip([array, torch.zeros(1)], tmp_path)[:1])


def test_big_endian_array_comes_back_with_the_same_values(tmp_path):
    array, _ = round_trip([np.arange(3, dtype=">i4"), torch.zeros(1)], tmp_path)
    np.testing.assert_array_equal(array, [0, 1, 2])


def test_random_states_come_back_and_go_on_alike(tmp_path):
    generators = (
        random.Random(1),
        np.random.default_rng(2),
        np.random.RandomState(3),
        torch.Generator().manual_seed(4),
    )
    states = [
        generators[0].getstate(),
        generators[1].bit_generator.state,
        generators[2].get_state(),
        generators[3].get_state(),
    ]
    loaded = round_trip(states, tmp_path)
    twins = random.Random(), np.random.default_rng(), np.random.RandomState(), torch.Generator()
    twins[0].setstate(loaded[0])
    twins[1].bit_generator.state = loaded[1]
    twins[2].set_state(loaded[2])
    twins[3].set_state(loaded[3])
    assert generators[0].random() == twins[0].random()
    assert generators[1].random() == twins[1].random()
    assert generators[2].rand() == twins[2].rand()
    assert torch.equal(torch.rand(3, generator=generators[3]), torch.rand(3, generator=twins[3]))


def test_optimizer_state_comes_back(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    weight.sum().backward()
    optimizer.step()
    assert_same(optimizer.state_dict(), round_trip(optimizer.state_dict(), tmp_path))


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.floats(width=32), max_size=4).map(lambda x: torch.tensor(x)),
    st.lists(st.integers(-100, 100), max_size=4).map(lambda x: np.array(x, np.int64)),
)
keys = st.one_of(
    st.text(),
    st.integers(),
    st.sampled_from(["!tensor", "!tuple", "a.b", "a", "__metadata__"]),
    st.tuples(st.integers()),
)
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(states)
def test_any_nested_state_comes_back(state):
    encoder = Encoder()
    text = json.dumps(encoder.encode(state, "s"), allow_nan=False)
    assert_same(state, decode(json.loads(text), encoder.tensors))


def test_tied_tensors_are_stored_once_and_views_apart(tmp_path):
    base = torch.arange(4.0)
    encoder = Encoder()
    data = encoder.encode({"a": base, "b": base, "part": base[:2], "rest": base[2:]}, "s")
    assert data["a"] == data["b"] and len(encoder.tensors) == 3
    storages = {tensor.untyped_storage().data_ptr() for tensor in encoder.tensors.values()}
    assert len(storages) == 3
    assert_same({"a": base, "b": base, "part": base[:2], "rest": base[2:]}, decode(data, encoder.tensors))


def test_tensors_with_storage_of_their_own_are_not_copied():
    big = torch.zeros(1000)
    encoder = Encoder()
    encoder.encode({"big": big}, "s")
    assert encoder.tensors["s.big"].data_ptr() == big.data_ptr()


def test_names_that_collide_are_kept_apart():
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}}
    encoder = Encoder()
    assert_same(state, decode(encoder.encode(state, "s"), encoder.tensors))


class Thing:
    pass


@pytest.mark.parametrize(
    "value, words",
    [
        (Thing(), r"s.x.1: a .*Thing cannot be stored"),
        (lambda: 0, r"s.x.1: a builtins.function cannot be stored"),
        ({1, 2}, r"s.x.1: a builtins.set cannot be stored"),
        (np.array([Thing()]), r"s.x.1: an array of object cannot be stored"),
        (torch.eye(2).to_sparse(), r"s.x.1: a tensor of layout torch.sparse_coo"),
        (__import__("collections").namedtuple("Point", "x y")(1, 2), r"s.x.1: a Point cannot be stored"),
    ],
)
def test_what_cannot_be_stored_is_told_with_its_path(value, words):
    with pytest.raises(TypeError, match=words):
        Encoder().encode({"x": [0, value]}, "s")


def test_unknown_tag_is_told():
    with pytest.raises(ValueError, match="unknown kind of value '!future'"):
        decode({"a": {"!future": 1}}, {})
