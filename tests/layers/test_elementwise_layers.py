import pytest
import torch

import alf.layers as layers
from alf.summary import summary_ops
from alf.tensor_specs import TensorSpec


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_dimensions_are_counted_without_the_batch():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layers.Transpose()(x), x.transpose(1, 2))
    torch.testing.assert_close(layers.Transpose(0, -1)(x), x.transpose(1, 3))
    torch.testing.assert_close(layers.Permute(2, 0, 1)(x), x.permute(0, 3, 1, 2))
    torch.testing.assert_close(layers.Permute(-1, 0, 1)(x), x.permute(0, 3, 1, 2))
    torch.testing.assert_close(layers.Sum(0)(x), x.sum(1))
    torch.testing.assert_close(layers.Sum((0, -1))(x), x.sum((1, 3)))
    assert layers.Reshape(-1)(x).shape == (2, 60)
    assert layers.Reshape((6, 10))(x).shape == (2, 6, 10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Transpose(0, 1),
        lambda: layers.Transpose(-1, 0),
        lambda: layers.Permute(2, 0, 1),
        lambda: layers.Permute(1, 2, -3),
        lambda: layers.Sum(0),
        lambda: layers.Sum((-1, 0)),
        lambda: layers.Reshape(-1),
        lambda: layers.Reshape(6, -1),
        lambda: layers.Identity(),
        lambda: layers.Cast(torch.float64),
        lambda: layers.Scale(3.0),
        lambda: layers.Detach(),
    ],
)
def test_parallel_layer_does_the_same_to_each_part(make):
    x = torch.randn(2, 4, 3, 5, 6)
    expected = torch.stack([make()(x[:, i]) for i in range(4)], dim=1)
    torch.testing.assert_close(make().make_parallel(4)(x), expected)


def test_permute_refuses_what_is_no_order():
    with pytest.raises(
        ValueError, match=r"Permute: expected an order of the dimensions 0..2, got \(0, 0, 1\)"
    ):
        layers.Permute(0, 0, 1)


def test_one_hot():
    y = layers.OneHot(3)(torch.tensor([2, 0], dtype=torch.int32))
    assert y.dtype == torch.float32 and y.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_get_fields_picks_paths():
    data = dict(a=1, b=dict(c=2, d=3))
    assert layers.GetFields("b.c")(data) == 2
    assert layers.GetFields(("a", ["b.d"]))(data) == (1, [3])
    assert layers.GetFields(x="a", y="b")(data) == dict(x=1, y=dict(c=2, d=3))
    with pytest.raises(ValueError, match="either field_nest or keyword fields"):
        layers.GetFields("a", x="b")


def test_add_n_and_lambda():
    x = torch.ones(2)
    assert layers.AddN()([x, 2 * x, 3 * x]).tolist() == [6, 6]
    assert layers.Lambda(torch.neg)(x).tolist() == [-1, -1]


def test_scale_gradient_scales_only_the_gradient():
    x = torch.tensor([2.0], requires_grad=True)
    y = layers.ScaleGradient(0.25)(x)
    assert y.item() == 2.0
    (y**2).sum().backward()
    assert x.grad.item() == 0.25 * 4.0


def test_summarize_gradient_records_the_mean_norm_of_its_own_gradient(monkeypatch):
    recorded = {}
    monkeypatch.setattr(summary_ops, "should_record_summaries", lambda: True)
    monkeypatch.setattr(summary_ops, "scalar", lambda name, data: recorded.update({name: float(data)}))
    x = torch.zeros(2, 2, requires_grad=True)
    y = layers.SummarizeGradient("x")(x)
    (y * torch.tensor([[3.0, 4.0], [0.0, 1.0]])).sum().backward(retain_graph=True)
    (100 * x).sum().backward()  # another user of x
    assert recorded == {"SummarizeGradient/x": 3.0}


def test_detach_stops_gradients_of_a_nest():
    x = torch.ones(2, requires_grad=True)
    out = layers.Detach()(dict(a=x * 2))
    assert not out["a"].requires_grad


def test_replication_pad_equals_torch_and_works_for_uint8():
    x = torch.rand(2, 3, 4, 5)
    for padding in (2, (1, 2, 3, 0)):
        expected = torch.nn.ReplicationPad2d(padding)(x)
        torch.testing.assert_close(layers.ReplicationPad2d(padding)(x), expected)
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 2, 2)
    assert layers.ReplicationPad2d(1)(image).tolist() == [[[[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2]]


def test_random_crops_are_windows_of_their_image_and_differ():
    image = torch.arange(100.0).view(1, 1, 10, 10).repeat(50, 2, 1, 1) + 1000 * torch.arange(50.0).view(
        -1, 1, 1, 1
    )
    crops = layers.RandomCrop((4, 6))(image)
    assert crops.shape == (50, 2, 4, 6)
    corners = crops[:, 0, 0, 0] - 1000 * torch.arange(50.0)
    window = torch.arange(4).view(-1, 1) * 10 + torch.arange(6)
    torch.testing.assert_close(crops, crops[:, :, :1, :1] + window)
    assert corners.unique().numel() > 10
    assert (corners % 10).max() <= 4 and (corners // 10).max() <= 6


def test_random_crop_pads_with_zeros_and_refuses_small_images():
    assert layers.RandomCrop(4, padding=1)(torch.ones(1, 1, 2, 2)).sum() == 4
    with pytest.raises(ValueError, match=r"cannot crop \(4, 4\) from images of \(2, 2\)"):
        layers.RandomCrop(4)(torch.ones(1, 1, 2, 2))


def test_normalize_along_batch_dims():
    x = torch.randn(4, 5, 2, 3)
    mean, variance = torch.randn(2, 3), torch.rand(2, 3)
    expected = (x[3, 1] - mean) / torch.sqrt(variance + 0.1)
    torch.testing.assert_close(layers.normalize_along_batch_dims(x, mean, variance, 0.1)[3, 1], expected)
    with pytest.raises(ValueError, match="trailing dimensions of x"):
        layers.normalize_along_batch_dims(x, mean.t(), variance.t(), 0.1)


def test_parallel_input_and_spec():
    x = layers.make_parallel_input(dict(a=torch.arange(3.0)), 2)["a"]
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]] and x.stride(1) == 0
    assert layers.make_parallel_spec([TensorSpec((3,))], 2) == [TensorSpec((2, 3))]
