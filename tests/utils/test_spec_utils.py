"""Scaling, zeros and comparison with specs; selection of rows."""

import numpy as np
import pytest
import torch

from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import conditional_ops, dist_utils, spec_utils

_spec = BoundedTensorSpec((2,), minimum=[-1.0, 0.0], maximum=[3.0, 10.0])


def test_means_and_magnitudes_of_bounds():
    means, magnitudes = spec_utils.spec_means_and_magnitudes(_spec)
    assert means.tolist() == [1, 5] and magnitudes.tolist() == [2, 5]


def test_means_and_magnitudes_broadcast_scalar_bounds_and_do_not_overflow():
    big = float(np.finfo(np.float32).max)
    means, magnitudes = spec_utils.spec_means_and_magnitudes(BoundedTensorSpec((3,), minimum=-big, maximum=big))
    assert means.tolist() == [0, 0, 0]
    assert torch.isfinite(magnitudes).all()


def test_means_and_magnitudes_need_finite_bounds():
    with pytest.raises(ValueError, match=r"expected a BoundedTensorSpec, got TensorSpec\(shape=\(2,\)"):
        spec_utils.spec_means_and_magnitudes(TensorSpec((2,)))
    with pytest.raises(ValueError, match="expected finite bounds"):
        spec_utils.spec_means_and_magnitudes(BoundedTensorSpec((2,), minimum=-np.inf, maximum=1.0))


def test_scale_to_spec_maps_the_unit_box_to_the_bounds():
    scaled = spec_utils.scale_to_spec(torch.tensor([[-1.0, 1.0], [0.0, 0.0]]), _spec)
    assert scaled.tolist() == [[-1, 10], [1, 5]]


def test_clip_to_spec_clips_each_component():
    assert spec_utils.clip_to_spec(torch.tensor([[-5.0, 20.0], [0.5, 0.5]]), _spec).tolist() == [[-1, 10], [0.5, 0.5]]
    discrete = BoundedTensorSpec((), torch.int64, 0, 3)
    assert spec_utils.clip_to_spec(torch.tensor([-1, 2, 9]), discrete).tolist() == [0, 2, 3]


def test_zeros_from_spec_makes_tensors_and_distributions():
    dist_spec = dist_utils.extract_spec(dist_utils.Categorical(logits=torch.randn(5, 3)))
    zeros = spec_utils.zeros_from_spec({"a": TensorSpec((2,), torch.int32), "b": (dist_spec, ())}, 4)
    assert zeros["a"].shape == (4, 2) and zeros["a"].dtype == torch.int32
    assert torch.allclose(zeros["b"][0].probs, torch.full((4, 3), 1 / 3))
    assert zeros["b"][1] == ()


def test_is_same_spec_compares_structure_and_specs():
    a = [TensorSpec((2,)), {"x": TensorSpec(())}]
    assert spec_utils.is_same_spec(a, [TensorSpec((2,)), {"x": TensorSpec(())}])
    assert not spec_utils.is_same_spec(a, [TensorSpec((3,)), {"x": TensorSpec(())}])
    assert not spec_utils.is_same_spec(a, [TensorSpec((2,)), {"y": TensorSpec(())}])
    assert not spec_utils.is_same_spec(a, [TensorSpec((2,)), TensorSpec(())])


def test_consistent_with_spec_leaves_out_batch_dimensions():
    spec = {"a": BoundedTensorSpec((2,)), "b": TensorSpec((), torch.int64)}
    batch = {"a": torch.zeros(5, 2), "b": torch.zeros(5, dtype=torch.int64)}
    assert spec_utils.consistent_with_spec(batch, spec, from_dim=1)
    assert not spec_utils.consistent_with_spec(batch, spec)
    assert not spec_utils.consistent_with_spec({"a": batch["a"], "b": torch.zeros(5)}, spec, from_dim=1)


def test_select_from_mask_takes_rows_of_a_nest():
    data = {"a": torch.arange(4), "b": torch.arange(8).view(4, 2)}
    selected = conditional_ops.select_from_mask(data, torch.tensor([True, False, True, False]))
    assert selected["a"].tolist() == [0, 2]
    assert selected["b"].tolist() == [[0, 1], [4, 5]]


def test_conditional_update_computes_only_the_selected_rows():
    seen = []

    def _func(x, y):
        seen.append(x.shape[0])
        return x + y

    target, x, y = torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0])
    some = conditional_ops.conditional_update(target, torch.tensor([True, False, True]), _func, x, y=y)
    assert some.tolist() == [11, 0, 33] and target.tolist() == [0, 0, 0]
    everything = conditional_ops.conditional_update(target, torch.ones(3, dtype=torch.bool), _func, x, y)
    assert everything.tolist() == [11, 22, 33]
    nothing = conditional_ops.conditional_update(target, torch.zeros(3, dtype=torch.bool), _func, x, y)
    assert nothing is target
    assert seen == [2, 3]
