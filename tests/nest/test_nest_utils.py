"""Nests of tensors to tensors: combiners, stacking, ranks, gradients, modules."""

import pytest
import torch
from torch import nn

import alf.nest as nest
from alf.data_structures import namedtuple
from alf.nest import utils
from alf.tensor_specs import TensorSpec

Pair = namedtuple("Pair", ["y", "x"], default_value=())
A, B = torch.tensor([[1., 2.]]), torch.tensor([[3., 4.]])


def test_concat_joins_in_visiting_order():
    assert utils.NestConcat()(Pair(y=A, x=B)).tolist() == [[3, 4, 1, 2]]
    assert utils.NestConcat(nest_mask=Pair(y=True, x=False))(Pair(y=A, x=B)).tolist() == [[1, 2]]


def test_concat_dimension_does_not_count_the_batch():
    images = {"a": torch.zeros(5, 1, 4, 4), "b": torch.zeros(5, 2, 4, 4)}
    assert utils.NestConcat(dim=0)(images).shape == (5, 3, 4, 4)


def test_concat_refuses_a_mask_that_takes_nothing():
    with pytest.raises(ValueError, match="nest_mask: expected at least one True"):
        utils.NestConcat(nest_mask={"a": False})({"a": A})


def test_sum_average_and_product():
    assert utils.NestSum()([A, B]).tolist() == [[4, 6]]
    assert utils.NestSum(average=True)([A, B]).tolist() == [[2, 3]]
    assert utils.NestSum(activation=torch.neg)([A, B]).tolist() == [[-4, -6]]
    assert utils.NestMultiply()([A, B]).tolist() == [[3, 8]]


def test_outer_product():
    assert utils.NestOuterProduct()([A, B]).tolist() == [[3, 4, 6, 8]]
    # with padding: (1, 2, 1) x (3, 4, 1)
    assert utils.NestOuterProduct(padding=True)([A, B]).tolist() == [[3, 4, 1, 6, 8, 2, 3, 4, 1]]


@pytest.mark.parametrize("make, inner", [(utils.NestConcat, (4, )), (utils.NestSum, (2, )), (utils.NestMultiply, (2, )),
                                         (utils.NestOuterProduct, (4, ))])
def test_combiner_of_specs_gives_the_spec_of_its_output(make, inner):
    specs = [TensorSpec((2, )), TensorSpec((2, ))]
    assert make()(specs) == TensorSpec(inner)


@pytest.mark.parametrize("make", [utils.NestConcat, utils.NestSum, utils.NestMultiply, utils.NestOuterProduct])
def test_parallel_combiner_combines_each_of_n(make):
    tensors = [torch.randn(3, 5, 2), torch.randn(3, 5, 2)]
    expected = torch.stack([make()([t[:, i] for t in tensors]) for i in range(5)], dim=1)
    torch.testing.assert_close(make().make_parallel(5)(tensors), expected)


@pytest.mark.parametrize("dim", [-1, 0])
def test_parallel_concat_of_one_input_for_all_is_made_once(dim):
    single = [torch.randn(3, 2), torch.randn(3, 2)]
    combined = utils.NestConcat(dim=dim).make_parallel(5)([x.unsqueeze(1).expand(-1, 5, -1) for x in single])
    torch.testing.assert_close(combined, torch.cat(single, -1).unsqueeze(1).expand(-1, 5, -1))
    assert combined.untyped_storage().nbytes() == 3 * 4 * 4


@pytest.mark.parametrize("make", [utils.NestSum, utils.NestMultiply, utils.NestOuterProduct])
def test_activation_in_place_leaves_the_inputs_alone(make):
    negative = torch.tensor([[-1.0, 2.0]])
    assert make(activation=torch.relu_)([negative]).tolist() == [[0, 2]]
    assert negative.tolist() == [[-1, 2]]


def test_combiner_refuses_an_empty_nest():
    with pytest.raises(ValueError, match="at least one leaf"):
        utils.NestSum()({})


def test_stack_nests():
    stacked = utils.stack_nests([Pair(x=A), Pair(x=B)])
    assert stacked.y == () and stacked.x.tolist() == [[[1, 2]], [[3, 4]]]
    assert utils.stack_nests([[A], [B]], dim=1)[0].shape == (1, 2, 2)
    with pytest.raises(RuntimeError, match="Different types!"):
        utils.stack_nests([Pair(x=A), Pair(x=A, y=A)])


def test_outer_rank():
    specs = {"a": TensorSpec((2, )), "b": TensorSpec(())}
    assert utils.get_outer_rank({"a": torch.zeros(3, 4, 2), "b": torch.zeros(3, 4)}, specs) == 2
    with pytest.raises(ValueError, match=r"one number of batch dimensions, got \[1, 2\]"):
        utils.get_outer_rank({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)}, specs)
    with pytest.raises(ValueError, match=r"ends with \(2,\), got \(3, 5\)"):
        utils.get_outer_rank({"a": torch.zeros(3, 5), "b": torch.zeros(3)}, specs)


def test_convert_device_leaves_tensors_that_are_there():
    nested = {"a": A, "b": [1, None]}
    converted = utils.convert_device(nested, "cpu")
    assert converted["a"] is A and converted["b"] == [1, None]
    assert utils.convert_device(nested, "meta")["a"].device.type == "meta"


def test_convert_device_moves_tensors_of_all_kinds():
    nested = {"flag": torch.tensor(True), "image": torch.zeros(2, 300, 300, dtype=torch.uint8), "none": None,
              "empty": torch.zeros(0, 3), "pair": (torch.zeros(3, 5).t(), torch.zeros(2, requires_grad=True)),
              "long": torch.arange(3)}
    moved = utils.convert_device(nested, "meta")
    assert moved["none"] is None and moved["pair"][1].requires_grad
    for before, after in zip(nest.flatten(nested), nest.flatten(moved), strict=True):
        assert before is None or (after.is_meta and after.shape == before.shape and after.dtype == before.dtype)


def test_tensors_that_are_moved_together_keep_their_numbers_and_do_not_share_them():
    tensors = [torch.tensor([True, False, True]), torch.tensor(2.5, dtype=torch.float64), torch.zeros(0, 3),
               torch.arange(6.0).view(2, 3).t(), torch.tensor([7, -7], dtype=torch.int16), torch.arange(3),
               torch.arange(6)[::2]]
    moved = utils._moved_together(tensors, torch.device("cpu"))
    for before, after in zip(tensors, moved, strict=True):
        assert after.dtype == before.dtype and torch.equal(after, before)
    moved[3].mul_(2)
    assert torch.equal(moved[5], tensors[5]) and torch.equal(tensors[3], torch.arange(6.0).view(2, 3).t())
    # What is done to one in place does not spoil what was saved of another for the gradient.
    parameter = torch.ones(3, 2, requires_grad=True)
    product = (parameter * moved[3]).sum()
    moved[1].zero_()
    product.backward()
    assert torch.equal(parameter.grad, moved[3])


def test_grad_has_the_structure_of_the_nest():
    nested = Pair(y=torch.tensor([1., 2.], requires_grad=True), x=torch.tensor(3., requires_grad=True))
    gradients = utils.grad(nested, (nested.y**2).sum() + 5 * nested.x)
    assert gradients.y.tolist() == [2, 4] and gradients.x.item() == 5


def test_zeros_like_keeps_shapes_and_dtypes():
    zeros = utils.zeros_like({"a": torch.ones(2, dtype=torch.int64), "b": ()})
    assert zeros["b"] == () and zeros["a"].dtype == torch.int64 and zeros["a"].tolist() == [0, 0]


def test_nested_module_finds_all_parameters():
    module = utils.make_nested_module({"a": nn.Linear(1, 1), "b": [nn.Linear(1, 1), torch.tanh], "c": ()})
    assert len(list(module.parameters())) == 4
    assert utils.make_nested_module(None) is None
    with pytest.raises(ValueError, match="expected modules, got int"):
        utils.make_nested_module([3], ignore_non_module_element=False)


def test_nested_field_replaces_paths_by_parts():
    assert utils.get_nested_field({"a": {"b": 1}, "c": 2}, [{"x": "a.b"}, "c"]) == [{"x": 1}, 2]


def test_combiners_are_reached_through_the_package():
    assert nest.NestConcat is utils.NestConcat and nest.utils is utils
    with pytest.raises(AttributeError, match="no_such_function"):
        nest.no_such_function  # noqa: B018
