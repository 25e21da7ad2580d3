"""Gymnasium spaces as specs."""

import gymnasium
import numpy as np
import pytest
import torch

import alf.nest as nest
from alf.environments._spaces import action_writer, observation_leaves, read_leaf
from alf.environments.alf_gym_wrapper import UnsupportedSpaceError, tensor_spec_from_gym_space
from alf.tensor_specs import BoundedTensorSpec

spaces = gymnasium.spaces


@pytest.mark.parametrize(
    "space, spec",
    [
        (spaces.Box(-1, 2, (3,)), BoundedTensorSpec((3,), torch.float32, -1, 2)),
        (spaces.Box(-1, 2, (3,), np.float64), BoundedTensorSpec((3,), torch.float32, -1, 2)),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), BoundedTensorSpec((8, 8, 3), torch.uint8, 0, 255)),
        (spaces.Box(-5, 5, (), np.int64), BoundedTensorSpec((), torch.int64, -5, 5)),
        (spaces.Box(0, 60000, (2,), np.uint16), BoundedTensorSpec((2,), torch.int32, 0, 60000)),
        (spaces.Discrete(5), BoundedTensorSpec((), torch.int64, 0, 4)),
        (spaces.Discrete(5, start=-2), BoundedTensorSpec((), torch.int64, 0, 4)),
        (spaces.Discrete(2**40), BoundedTensorSpec((), torch.int64, 0, 2**40 - 1)),
        (spaces.MultiDiscrete([3, 3]), BoundedTensorSpec((2,), torch.int64, 0, 2)),
        (spaces.MultiDiscrete([3, 5]), BoundedTensorSpec((2,), torch.int64, [0, 0], [2, 4])),
        (spaces.MultiBinary(4), BoundedTensorSpec((4,), torch.int8, 0, 1)),
    ],
)
def test_space_becomes_bounded_spec(space, spec):
    assert tensor_spec_from_gym_space(space) == spec


def test_nested_spaces_become_dicts_and_tuples():
    space = spaces.Dict(a=spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2,))]), b=spaces.MultiBinary(1))
    spec = tensor_spec_from_gym_space(space)
    assert spec == {
        "a": (BoundedTensorSpec((), torch.int64, 0, 1), BoundedTensorSpec((2,), torch.float32, 0, 1)),
        "b": BoundedTensorSpec((1,), torch.int8, 0, 1),
    }


def test_equal_bounds_are_one_number_only_if_asked():
    space = spaces.Box(np.array([-1, -1], np.float32), np.array([1, 2], np.float32))
    assert tensor_spec_from_gym_space(space).minimum.shape == ()
    assert tensor_spec_from_gym_space(space).maximum.tolist() == [1, 2]
    assert tensor_spec_from_gym_space(space, simplify_box_bounds=False).minimum.shape == (2,)


def test_float_dtype_can_be_chosen():
    spec = tensor_spec_from_gym_space(spaces.Box(-1, 1, (1,)), float_dtype=np.float64)
    assert spec.dtype == torch.float64


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(0, 1, (1,)), None),
        spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
        spaces.Box(0, 1, (2,), np.uint64),
        spaces.Dict(),
        spaces.Tuple([]),
    ],
)
def test_unsupported_space_is_named_with_its_path(space):
    outer = spaces.Dict(ok=spaces.Discrete(2), deep=spaces.Tuple([spaces.Discrete(2), space]))
    with pytest.raises(UnsupportedSpaceError, match=r"observation\.deep\.1: the space .* cannot become"):
        tensor_spec_from_gym_space(outer, path="observation")


def test_leaves_come_in_the_order_of_nest():
    space = spaces.Dict(z=spaces.Discrete(2), a=spaces.Dict(y=spaces.Discrete(3), b=spaces.Discrete(4)))
    specs = nest.flatten(tensor_spec_from_gym_space(space))
    leaves = observation_leaves(space)
    assert [leaf.space.n for leaf in leaves] == [int(spec.maximum) + 1 for spec in specs] == [4, 3, 2]
    assert [leaf.path for leaf in leaves] == ["observation.a.b", "observation.a.y", "observation.z"]


def test_start_is_added_to_actions_and_taken_from_observations():
    space = spaces.Discrete(3, start=10)
    assert action_writer(space)(2) == 12
    assert read_leaf(observation_leaves(space)[0], np.int64(11)) == 1
    multi = spaces.MultiDiscrete([3, 3], start=[1, 5])
    assert action_writer(multi)(np.array([2, 0])).tolist() == [3, 5]
    assert read_leaf(observation_leaves(multi)[0], np.array([1, 7])).tolist() == [0, 2]


def test_action_is_a_copy_with_the_dtype_of_the_space():
    action = np.array([0.5], np.float32)
    written = action_writer(spaces.Box(-1, 1, (1,), np.float64))(action)
    assert written.dtype == np.float64
    action[0] = 0
    assert written[0] == 0.5


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("action", [2, np.int64(2), np.asarray(2), np.int32(2)], ids=lambda a: type(a).__name__)
def test_discrete_action_is_an_integer_of_the_dtype_of_the_space(action, start):
    space = spaces.Discrete(3, start=start)
    written = action_writer(space)(action)
    assert type(written) is type(space.sample()) and written == 2 + start and space.contains(written)


def test_nested_action_keeps_the_structure_of_the_space():
    space = spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple([spaces.Box(-1, 1, (1,)), spaces.MultiBinary(2)]))
    written = action_writer(space)({"a": np.asarray(1), "b": (np.zeros(1, np.float32), np.array([1, 0], np.int8))})
    assert space.contains(written)


@pytest.mark.parametrize(
    "space, value, words",
    [
        (spaces.Box(0, 1, (2,)), [0.0, 0.0], "expected a NumPy array .* got list"),
        (spaces.Box(0, 1, (2,)), np.zeros(1, np.float32), r"expected shape \(2,\).* shape \(1,\)"),
        (spaces.Box(0, 1, (2,)), np.zeros(2), r"expected dtype float32 .* float64.*astype\(np.float32\)"),
        (spaces.Discrete(3), 1.0, "expected an integer .* got float"),
        (spaces.MultiBinary(2), np.zeros(2), "expected an integer dtype"),
        (spaces.Dict(x=spaces.Discrete(2)), {"y": 1}, r"observation\.x is missing.*\['y'\]"),
        (spaces.Tuple([spaces.Discrete(2)]), (), r"observation\.0 is missing"),
    ],
)
def test_wrong_observation_says_what_was_expected(space, value, words):
    with pytest.raises(ValueError, match=words):
        read_leaf(observation_leaves(space)[0], value)


def test_observation_beyond_bounds_passes():
    value = np.array([7.0, -7.0], np.float32)
    assert read_leaf(observation_leaves(spaces.Box(0, 1, (2,)))[0], value) is value
