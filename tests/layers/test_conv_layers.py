import pytest
import torch

from alf.layers import BottleneckBlock, Conv2D, ConvTranspose2D, ResidueBlock, SimpleAttention


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_conv_equals_a_hand_computed_one():
    conv = Conv2D(
        1, 1, 2, activation=torch.relu_, kernel_initializer=lambda w: w.fill_(1.0), bias_init_value=-5.0
    )
    image = torch.tensor([[[[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]]])
    assert conv(image).tolist() == [[[[3.0, 7.0], [15.0, 19.0]]]]


def test_conv_casts_uint8_images():
    conv = Conv2D(3, 4, 3, strides=2, padding=1)
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(conv(image), conv(image.float()))


def test_bias_is_left_out_with_batch_norm_unless_asked_for():
    assert Conv2D(1, 1, 1, use_bn=True).bias is None
    assert Conv2D(1, 1, 1, use_bn=True, use_bias=True).bias is not None
    assert Conv2D(1, 1, 1).bias is not None


def test_layer_norm_normalizes_over_channels_and_pixels():
    conv = Conv2D(2, 3, 1, activation=lambda x: x, use_ln=True)
    y = conv(torch.randn(4, 2, 5, 5))
    torch.testing.assert_close(y.mean(dim=(1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(dim=(1, 2, 3), unbiased=False), torch.ones(4), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2D(2, 4, 3, strides=2, padding=1),
        lambda: Conv2D(2, 4, (3, 1), use_bias=False, use_ln=True),
        lambda: Conv2D(2, 4, 3, use_bn=True),
        lambda: ConvTranspose2D(2, 4, 3, strides=2, padding=1, output_padding=1),
        lambda: ConvTranspose2D(2, 4, 2, use_bn=True),
    ],
)
def test_parallel_convolutions_equal_their_single_layers(make):
    n = 3
    singles = [make() for _ in range(n)]
    for s in singles:
        for p in s.parameters():
            torch.nn.init.normal_(p)
    parallel = singles[0].make_parallel(n)
    with torch.no_grad():
        for name, p in parallel.named_parameters():
            p.copy_(torch.stack([dict(s.named_parameters())[name] for s in singles]).view(p.shape))
    shared = torch.randn(5, 2, 6, 6)
    for x in (torch.randn(5, n, 2, 6, 6), shared, shared.unsqueeze(1).expand(-1, n, -1, -1, -1)):
        expected = torch.stack([s(x[:, i] if x.ndim == 5 else x) for i, s in enumerate(singles)], dim=1)
        torch.testing.assert_close(parallel(x), expected, rtol=1e-4, atol=1e-4)


def test_parallel_convolution_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"shape \[B, 2, 3, H, W\] or \[B, 3, H, W\], got \[4, 5, 3, 8, 8\]"):
        Conv2D(3, 4, 3).make_parallel(2)(torch.zeros(4, 5, 3, 8, 8))


def test_transposed_convolution_gain_uses_the_input_channels():
    layer = ConvTranspose2D(100, 10, 3, activation=torch.relu_)
    assert layer.weight.std().item() == pytest.approx((2 / 900) ** 0.5, rel=0.05)


@pytest.mark.parametrize("transpose, size", [(False, 4), (True, 14)])
def test_residue_block_shapes(transpose, size):
    block = ResidueBlock(3, 8, 3, 2, transpose=transpose)
    assert block(torch.randn(2, 3, 7, 7)).shape == (2, 8, size, size)


def test_residue_block_with_zero_kernels_is_the_activation_of_its_input():
    block = ResidueBlock(3, 3, 3, 1, with_batch_normalization=False)
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(block(x), torch.relu(x))


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("v1_5", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_bottleneck_block_shape_is_what_it_says(transpose, v1_5, stride):
    block = BottleneckBlock(3, 3, (4, 5, 6), stride, transpose=transpose, v1_5=v1_5)
    assert block(torch.randn(2, 3, 8, 7)).shape == (2, *block.calc_output_shape((3, 8, 7)))


def test_blocks_refuse_even_kernels():
    with pytest.raises(ValueError, match="ResidueBlock.kernel_size: expected odd sizes, got 2"):
        ResidueBlock(3, 3, 2, 1)


def test_attention_to_one_dominant_key_returns_its_value():
    query = torch.tensor([[[10.0, 0.0]]])
    key = torch.tensor([[[10.0, 0.0], [-10.0, 0.0]]])
    value = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    attended, weights = SimpleAttention()(query, key, value)
    torch.testing.assert_close(attended, value[:, :1])
    torch.testing.assert_close(weights, torch.tensor([[[1.0, 0.0]]]))


def test_channels_side_by_side_give_the_same_output_and_gradients():
    layer, img = Conv2D(3, 4, 3, strides=2), torch.randn(5, 3, 9, 9)
    plain = layer(img)
    plain.square().sum().backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    layer.train_channels_last()
    y = layer(img)
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    torch.testing.assert_close(y, plain)
    y.square().sum().backward()
    for parameter, gradient in zip(layer.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert layer(img).is_contiguous()
