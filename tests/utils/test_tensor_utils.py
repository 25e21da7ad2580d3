"""Shapes, norms and gradients of tensors against naive computations."""

import numpy as np
import pytest
import torch

from alf.utils import tensor_utils


def test_batch_squash_round_trips():
    x = torch.arange(24.0).view(2, 3, 4)
    squash = tensor_utils.BatchSquash(2)
    flat = squash.flatten(x)
    assert flat.shape == (6, 4)
    assert torch.equal(squash.unflatten(flat), x)
    assert squash.unflatten(flat[:, 0]).shape == (2, 3)


def test_batch_squash_refuses_too_few_dimensions():
    with pytest.raises(ValueError, match=r"at least 2 dimensions, got shape \(3,\)"):
        tensor_utils.BatchSquash(2).flatten(torch.zeros(3))


def test_tensor_extend_new_dim_repeats_without_copy():
    x = torch.tensor([[1.0, 2.0]])
    y = tensor_utils.tensor_extend_new_dim(x, dim=1, n=3)
    assert y.shape == (1, 3, 2)
    assert y.data_ptr() == x.data_ptr()
    assert tensor_utils.tensor_extend_new_dim(x, dim=2, n=3).shape == (1, 2, 3)


def test_reverse_cumulative_operations():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert tensor_utils.reverse_cumsum(x, 1).tolist() == [[6, 5, 3], [15, 11, 6]]
    assert tensor_utils.reverse_cumsum(x, 0).tolist() == [[5, 7, 9], [4, 5, 6]]
    assert tensor_utils.reverse_cumprod(x, 1).tolist() == [[6, 6, 3], [120, 30, 6]]


def test_extend_and_prepend():
    x = torch.tensor([[1, 2], [3, 4]])
    y = torch.tensor([9, 9])
    assert tensor_utils.tensor_extend(x, y).tolist() == [[1, 2], [3, 4], [9, 9]]
    assert tensor_utils.tensor_prepend(x, y).tolist() == [[9, 9], [1, 2], [3, 4]]
    assert tensor_utils.tensor_extend_zero(x).tolist() == [[1, 2], [3, 4], [0, 0]]
    assert tensor_utils.tensor_extend_zero(x, dim=1).tolist() == [[1, 2, 0], [3, 4, 0]]
    assert tensor_utils.tensor_prepend_zero(x).tolist() == [[0, 0], [1, 2], [3, 4]]


def test_explained_variance_of_perfect_constant_and_bad_predictions():
    y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert tensor_utils.explained_variance(y + 5, y).item() == pytest.approx(1)
    assert tensor_utils.explained_variance(torch.zeros(4), y).item() == pytest.approx(0)
    assert tensor_utils.explained_variance(-y, y).item() == pytest.approx(-3)
    assert tensor_utils.explained_variance(y, torch.ones(4)).item() == 0


def test_explained_variance_with_mask_equals_that_of_the_selected():
    torch.manual_seed(0)
    y, pred = torch.randn(20), torch.randn(20)
    mask = torch.rand(20) < 0.5
    expected = 1 - np.var((y - pred)[mask].numpy()) / np.var(y[mask].numpy())
    assert tensor_utils.explained_variance(pred, y, mask).item() == pytest.approx(expected, rel=1e-5)


def test_explained_variance_along_a_dimension():
    y = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert tensor_utils.explained_variance(y, y, dim=0).tolist() == [1.0, 0.0]


def test_explained_variance_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"ypred \(2,\) and y \(2, 1\)"):
        tensor_utils.explained_variance(torch.zeros(2), torch.zeros(2, 1))


def test_to_tensor_converts_sequences_and_arrays():
    assert tensor_utils.to_tensor([1.0, 2.0]).dtype == torch.float32
    assert tensor_utils.to_tensor(np.array([1, 2]), dtype=torch.int32).dtype == torch.int32
    x = torch.zeros(2)
    assert tensor_utils.to_tensor(x) is x


def test_global_norm_of_a_nest():
    tensors = {"a": torch.tensor([3.0]), "b": [torch.tensor([[4.0]]), None, torch.tensor([12.0])]}
    assert tensor_utils.global_norm(tensors).item() == pytest.approx(13)
    assert tensor_utils.global_norm(torch.tensor([3.0, 4.0])).item() == 5
    assert tensor_utils.global_norm(t for t in [torch.tensor([3.0]), torch.tensor([4.0])]).item() == 5


def test_clip_by_global_norm_scales_only_what_is_too_long():
    tensors = (torch.tensor([3.0]), torch.tensor([4.0]))
    clipped, norm = tensor_utils.clip_by_global_norm(tensors, 1.0)
    assert norm.item() == 5
    assert [t.item() for t in clipped] == pytest.approx([0.6, 0.8])
    unchanged, _ = tensor_utils.clip_by_global_norm(tensors, 10.0)
    assert [t.item() for t in unchanged] == [3.0, 4.0]
    assert [t.item() for t in tensors] == [3.0, 4.0]


def test_clip_by_global_norm_in_place_with_known_norm():
    tensors = [torch.tensor([3.0]), torch.tensor([4.0])]
    clipped, norm = tensor_utils.clip_by_global_norm(tensors, 1.0, use_norm=torch.tensor(10.0), in_place=True)
    assert clipped is tensors and norm.item() == 10
    assert [t.item() for t in tensors] == pytest.approx([0.3, 0.4])


def test_clip_by_global_norm_of_zero_gradients_stays_zero():
    clipped, norm = tensor_utils.clip_by_global_norm([torch.zeros(3)], 1.0)
    assert norm.item() == 0 and clipped[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("in_place", [False, True])
def test_clip_by_norms_clips_each_alone(in_place):
    tensors = [torch.tensor([3.0, 4.0]), None, torch.tensor([0.1])]
    clipped = tensor_utils.clip_by_norms(tensors, 1.0, in_place=in_place)
    assert clipped[0].tolist() == pytest.approx([0.6, 0.8])
    assert clipped[1] is None
    assert clipped[2].item() == pytest.approx(0.1)
    assert (tensors[0] is clipped[0]) == in_place


def test_cov_equals_numpy():
    data = torch.randn(7, 3, dtype=torch.float64)
    assert np.allclose(tensor_utils.cov(data).numpy(), np.cov(data.numpy(), rowvar=False))
    assert np.allclose(tensor_utils.cov(data, rowvar=True).numpy(), np.cov(data.numpy()))


def test_scale_gradient_affects_only_the_result():
    x = torch.tensor([2.0], requires_grad=True)
    (tensor_utils.scale_gradient(x, 0.25) * 4 + x).backward()
    assert x.grad.item() == pytest.approx(4 * 0.25 + 1)


def test_scale_gradient_without_clone_affects_every_use():
    x = torch.tensor([2.0], requires_grad=True) * 1
    leaf = x.grad_fn.next_functions[0][0].variable
    (tensor_utils.scale_gradient(x, 0.25, clone_input=False) * 4 + x).backward()
    assert leaf.grad.item() == pytest.approx(5 * 0.25)


def test_append_coordinate_adds_x_and_y():
    im = torch.zeros(2, 1, 3, 5)
    out = tensor_utils.append_coordinate(im)
    assert out.shape == (2, 3, 3, 5)
    assert out[1, 1, 2].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert out[0, 2, :, 3].tolist() == [-1, 0, 1]


def test_spatial_broadcast_repeats_vectors_at_every_pixel():
    z = torch.tensor([[1.0, 2.0]])
    out = tensor_utils.spatial_broadcast(z, (2, 3))
    assert out.shape == (1, 4, 2, 3)
    assert (out[0, 1] == 2).all()
    with pytest.raises(ValueError, match="expected vectors"):
        tensor_utils.spatial_broadcast(torch.zeros(2), (2, 3))
