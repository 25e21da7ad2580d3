import pytest
import torch

from alf.layers import FC
from alf.networks import AMPWrapper, Delay, GRUCell, LSTMCell, NoisyFC, Residue, TemporalPool
from alf.tensor_specs import TensorSpec
from alf.utils import common


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_lstm_cell_follows_its_equations():
    net = LSTMCell(3, 2)
    x, h, c = torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 2)
    cell = net.cell
    i, f, g, o = (x @ cell.weight_ih.t() + cell.bias_ih + h @ cell.weight_hh.t() + cell.bias_hh).chunk(
        4, dim=1
    )
    new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    new_h = torch.sigmoid(o) * torch.tanh(new_c)
    y, state = net(x, (h, c))
    torch.testing.assert_close((y, *state), (new_h, new_h, new_c))


def test_gru_output_is_its_state():
    y, state = GRUCell(3, 2)(torch.randn(4, 3), torch.zeros(4, 2))
    assert y is state


def test_residue_adds_the_input():
    block = FC(3, 3)
    x = torch.randn(4, 3)
    torch.testing.assert_close(Residue(block)(x)[0], torch.relu(x + block(x)))
    torch.testing.assert_close(Residue(block, activation=torch.tanh)(x)[0], torch.tanh(x + block(x)))


def _run(net, inputs):
    state = tuple(spec.zeros((1,)) for spec in net.state_spec)
    outputs = []
    for x in inputs:
        y, state = net(torch.tensor([x]), state)
        outputs.append(tuple(y[0].tolist()))
    return outputs


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("skip", [(0, 1), (0, 1), (1, 3), (1, 3), (3, 5), (3, 5)]),
        ("avg", [(0, 0), (0, 1.5), (0, 1.5), (1.5, 3.5), (1.5, 3.5), (3.5, 5.5)]),
        ("max", [(0, 0), (0, 2), (0, 2), (2, 4), (2, 4), (4, 6)]),
    ],
)
def test_temporal_pool(mode, expected):
    net = TemporalPool((), stack_size=2, pooling_size=2, mode=mode)
    assert _run(net, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == expected


def test_temporal_pool_of_negative_values_and_of_uint8():
    assert _run(TemporalPool((), 1, 2, mode="max"), [-3.0, -2.0]) == [(0,), (-2,)]
    pooled = TemporalPool((), 1, 2, dtype=torch.uint8, mode="avg")
    state = tuple(spec.zeros((1,)) for spec in pooled.state_spec)
    for x in (200, 220):
        y, state = pooled(torch.tensor([x], dtype=torch.uint8), state)
    assert y.dtype == torch.uint8 and y.tolist() == [[210]]
    net = TemporalPool(2, 2, dtype=torch.uint8)
    assert net.output_spec == TensorSpec((2, 2), torch.uint8)
    with pytest.raises(ValueError, match="mode: expected 'skip', 'avg' or 'max', got 'min'"):
        TemporalPool(2, 2, mode="min")


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_delay_returns_inputs_of_so_many_steps_before(delay):
    net = Delay(TensorSpec(()), delay)
    state = (torch.zeros(1),) * delay
    outputs = []
    for x in (1.0, 2.0, 3.0, 4.0):
        y, state = net(torch.tensor([x]), state)
        outputs.append(y.item())
    assert outputs == ([0.0] * delay + [1.0, 2.0, 3.0, 4.0])[:4]


def _noise_state(batch_size):
    return torch.zeros(batch_size, 4), torch.zeros(batch_size, 3)


def test_noisy_fc_uses_a_noisy_weight_for_each_sample():
    net = NoisyFC(4, 3)
    x = torch.randn(5, 4)
    y, (noise_in, noise_out) = net(x, _noise_state(5))
    std_w, std_b = net._weight_std, net._bias_std
    for b in range(5):
        weight = net.weight + std_w * torch.outer(noise_out[b], noise_in[b])
        torch.testing.assert_close(y[b], weight @ x[b] + net.bias + std_b * noise_out[b])


def test_noisy_fc_draws_at_the_start_and_then_keeps_its_noise():
    never, always = NoisyFC(4, 3, new_noise_prob=0.0), NoisyFC(4, 3, new_noise_prob=1.0)
    x = torch.randn(5, 4)
    _, first = never(x, _noise_state(5))
    assert (first[0] != 0).all() and not first[0][0].equal(first[0][1])
    _, second = never(x, first)
    assert second[0].equal(first[0]) and second[1].equal(first[1])
    _, third = always(x, first)
    assert (third[0] != first[0]).all()


def test_noisy_fc_noise_has_the_variance_of_the_paper():
    net = NoisyFC(4, 3, std_init=0.5)
    _, (noise, _) = net(torch.zeros(20000, 4), (torch.zeros(20000, 4), torch.zeros(20000, 3)))
    # f(e) = sign(e) sqrt|e|, so that E[f(e)^2] = E|e| = sqrt(2 / pi).
    assert (noise**2).mean().item() == pytest.approx((2 / torch.pi) ** 0.5, rel=0.02)
    assert net._weight_std.unique().tolist() == [0.25]


def test_noisy_fc_is_its_mean_in_evaluation_mode():
    net = NoisyFC(4, 3, activation=torch.tanh, use_ln=True).eval()
    x = torch.randn(5, 4)
    expected = torch.tanh(torch.nn.functional.layer_norm(x @ net.weight.t() + net.bias, (3,)))
    torch.testing.assert_close(net(x, _noise_state(5))[0], expected)
    with common.rollout_context():  # which explores by it, in evaluation mode too
        assert not torch.allclose(net(x, _noise_state(5))[0], expected)


def test_amp_wrapper_keeps_state_and_output_in_float32():
    net = AMPWrapper(True, LSTMCell(3, 2))
    y, state = net(torch.randn(4, 3), (torch.zeros(4, 2), torch.zeros(4, 2)))
    assert {t.dtype for t in (y, *state)} == {torch.float32}
