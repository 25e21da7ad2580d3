"""Specs: shapes, dtypes and bounds, and what is made from them."""

import pickle

import numpy as np
import pytest
import torch

from alf.tensor_specs import BoundedTensorSpec, TensorSpec, torch_dtype_to_str


def test_shape_does_not_include_the_batch():
    spec = TensorSpec((2, 3))
    assert (spec.shape, spec.ndim, spec.numel, spec.dtype) == ((2, 3), 2, 6, torch.float32)
    assert spec.zeros((4, )).shape == (4, 2, 3)
    assert TensorSpec(()).numel == 1 and TensorSpec((0, 5)).numel == 0


@pytest.mark.parametrize("dtype", [torch.int64, np.int64, "int64", np.dtype("int64")])
def test_numpy_dtypes_are_converted(dtype):
    assert TensorSpec((), dtype).dtype == torch.int64


def test_unsigned_numpy_dtypes_become_what_holds_them():
    assert TensorSpec((), np.uint16).dtype == torch.int32
    assert TensorSpec((), np.uint32).dtype == torch.int64


def test_unknown_dtype_is_named():
    with pytest.raises(ValueError, match="TensorSpec.dtype: expected a torch or NumPy dtype.*'words'"):
        TensorSpec((), "words")
    with pytest.raises(ValueError, match="got torch.complex64"):
        torch_dtype_to_str(torch.complex64)


def test_discrete_and_continuous():
    assert TensorSpec((), torch.int32).is_discrete and not TensorSpec((), torch.int32).is_continuous
    assert TensorSpec((), torch.bool).is_discrete
    assert TensorSpec(()).is_continuous and TensorSpec(()).dtype_str == "float32"


def test_constants_have_shape_and_dtype_of_the_spec():
    spec = TensorSpec((2, ), torch.int32)
    assert spec.constant(7, (3, )).tolist() == [[7, 7]] * 3
    assert spec.constant([1, 2], (2, )).tolist() == [[1, 2]] * 2
    assert spec.ones().tolist() == [1, 1]
    assert spec.numpy_constant(7, (1, )).tolist() == [[7, 7]] and spec.numpy_constant(7).dtype == np.int32
    assert spec.numpy_zeros((2, )).tolist() == [[0, 0]] * 2


def test_constant_from_an_array_can_be_written_to():
    tensor = TensorSpec((2, )).constant([1, 2], (2, ))
    tensor[0, 0] = 5
    assert tensor.tolist() == [[5, 2], [1, 2]]


def test_noise_needs_a_floating_point_dtype():
    assert TensorSpec((2, )).randn((1000, )).std().item() == pytest.approx(1, abs=0.1)
    uniform = TensorSpec((2, )).rand((1000, ))
    assert uniform.min() >= 0 and uniform.max() < 1
    with pytest.raises(ValueError, match="TensorSpec.randn: expected a floating point dtype, got torch.int64"):
        TensorSpec((), torch.int64).randn()


def test_specs_of_tensors_and_arrays():
    assert TensorSpec.from_tensor(torch.zeros(5, 2, dtype=torch.uint8), from_dim=1) == TensorSpec((2, ), torch.uint8)
    assert TensorSpec.from_array(np.zeros((5, 2)), from_dim=2) == TensorSpec((), torch.float64)
    assert TensorSpec.from_spec(BoundedTensorSpec((2, ))) == TensorSpec((2, ))


def test_replace():
    assert TensorSpec((2, )).replace(dtype=torch.int32) == TensorSpec((2, ), torch.int32)
    replaced = BoundedTensorSpec((2, ), minimum=-1, maximum=1).replace(shape=(3, ), maximum=2)
    assert replaced == BoundedTensorSpec((3, ), minimum=-1, maximum=2)


def test_bounded_and_unbounded_are_never_equal():
    assert TensorSpec((2, )) != BoundedTensorSpec((2, )) and BoundedTensorSpec((2, )) != TensorSpec((2, ))
    assert not TensorSpec(()).is_bounded() and BoundedTensorSpec(()).is_bounded()


def test_bounds_are_compared_after_broadcasting():
    assert BoundedTensorSpec((2, ), minimum=0) == BoundedTensorSpec((2, ), minimum=[0, 0])
    assert BoundedTensorSpec((2, ), minimum=0) != BoundedTensorSpec((2, ), minimum=[0, -1])


def test_specs_are_not_hashable():
    with pytest.raises(TypeError):
        hash(TensorSpec(()))
    with pytest.raises(TypeError):
        hash(BoundedTensorSpec(()))


def test_repr():
    assert repr(TensorSpec((2, ))) == "TensorSpec(shape=(2,), dtype=torch.float32)"
    assert repr(BoundedTensorSpec((2, ), minimum=-1, maximum=1)) == (
        "BoundedTensorSpec(shape=(2,), dtype=torch.float32, minimum=array(-1., dtype=float32), "
        "maximum=array(1., dtype=float32))")


@pytest.mark.parametrize("spec", [TensorSpec((2, 3), torch.int64), BoundedTensorSpec((2, ), minimum=[0, 1], maximum=5)])
def test_pickle_keeps_a_spec(spec):
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_bounds_must_fit():
    with pytest.raises(ValueError, match=r"minimum: expected a shape that broadcasts to \(2,\), got \(3,\)"):
        BoundedTensorSpec((2, ), minimum=[0, 0, 0])
    with pytest.raises(ValueError, match="minimum <= maximum"):
        BoundedTensorSpec((2, ), minimum=2)


def test_bounds_cannot_be_changed_behind_the_spec():
    spec = BoundedTensorSpec((2, ), minimum=[0, 0])
    with pytest.raises(ValueError):
        spec.minimum[0] = 1


def test_integer_bounds_are_inclusive():
    values = BoundedTensorSpec((), torch.int64, 0, 2).sample((300, ))
    assert values.dtype == torch.int64 and sorted(set(values.tolist())) == [0, 1, 2]
    values = BoundedTensorSpec((), torch.int64, 0, 2).numpy_sample((300, ))
    assert values.dtype == np.int64 and sorted(set(values.tolist())) == [0, 1, 2]


def test_widest_integer_bounds_are_sampled():
    spec = BoundedTensorSpec.from_spec(TensorSpec((), torch.int64))
    values = spec.sample((100, ))
    assert (values < 0).any() and (values > 0).any()
    assert spec.numpy_sample((100, )).min() < 0


def test_uniform_samples_keep_each_bound():
    spec = BoundedTensorSpec((2, ), minimum=[-1, 10], maximum=[0, 20])
    for values in (spec.sample((500, )), torch.from_numpy(spec.numpy_sample((500, ), np.random.default_rng(0)))):
        assert values.shape == (500, 2) and values.dtype == torch.float32
        assert values[:, 0].min() >= -1 and values[:, 0].max() <= 0
        assert values[:, 1].mean().item() == pytest.approx(15, abs=0.5)


def test_unbounded_sides_give_finite_samples():
    values = BoundedTensorSpec((3, ), minimum=-np.inf, maximum=np.inf).sample((100, ))
    assert torch.isfinite(values).all()


def test_samples_follow_the_seed():
    spec = BoundedTensorSpec((4, ))
    torch.manual_seed(1)
    first = spec.sample()
    torch.manual_seed(1)
    assert torch.equal(first, spec.sample())
    np.testing.assert_array_equal(
        spec.numpy_sample(rng=np.random.RandomState(1)), spec.numpy_sample(rng=np.random.RandomState(1)))
