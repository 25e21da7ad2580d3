import pytest
import torch

from alf.norm_layers import (
    BatchNorm1d,
    BatchNorm2d,
    prepare_rnn_batch_norm,
    set_batch_norm_current_step,
    set_batch_norm_max_steps,
)


@pytest.mark.parametrize(
    "ours, torchs, shape",
    [
        (BatchNorm1d, torch.nn.BatchNorm1d, (6, 3)),
        (BatchNorm1d, torch.nn.BatchNorm1d, (6, 3, 4)),
        (BatchNorm2d, torch.nn.BatchNorm2d, (6, 3, 4, 5)),
    ],
)
def test_with_one_step_equals_torch_batch_norm(ours, torchs, shape):
    torch.manual_seed(0)
    a, b = ours(3), torchs(3)
    for _ in range(3):
        x = torch.randn(shape) * 2 + 1
        torch.testing.assert_close(a(x), b(x))
    a.eval(), b.eval()
    torch.testing.assert_close(a(x), b(x))


def test_momentum_none_averages_all_batches():
    a, b = BatchNorm1d(2, momentum=None), torch.nn.BatchNorm1d(2, momentum=None)
    for i in range(4):
        x = torch.randn(5, 2) + i
        a(x), b(x)
    a.eval(), b.eval()
    torch.testing.assert_close(a(x), b(x))


def test_each_step_has_its_own_running_statistics():
    net = torch.nn.Sequential(BatchNorm1d(1, momentum=1.0))
    set_batch_norm_max_steps(net, 3)
    for step, mean in enumerate([0.0, 10.0, 20.0]):
        set_batch_norm_current_step(net, step)
        net(torch.tensor([[mean - 1], [mean + 1]]))
    net.eval()
    for step, mean in enumerate([0.0, 10.0, 20.0, 20.0]):  # steps beyond the last use the last
        set_batch_norm_current_step(net, step)
        assert net(torch.tensor([[mean]])).item() == pytest.approx(0.0, abs=1e-6)


def test_samples_may_be_at_different_steps():
    net = BatchNorm1d(1, momentum=1.0)
    net.set_max_steps(2)
    net.set_current_step(torch.tensor([0, 1, 0, 1]))
    y = net(torch.tensor([[0.0], [10.0], [2.0], [14.0]]))
    torch.testing.assert_close(y, torch.tensor([[-1.0], [-1.0], [1.0], [1.0]]), rtol=1e-4, atol=1e-4)
    net.eval()
    y = net(torch.tensor([[1.0], [12.0], [1.0], [12.0]]))  # running means of the steps are 1 and 12
    torch.testing.assert_close(y, torch.zeros(4, 1))
    with pytest.raises(ValueError, match="one current step for each of the 2 samples, got 4"):
        net(torch.zeros(2, 1))


def test_prepare_finds_our_layers_and_refuses_those_of_torch():
    assert prepare_rnn_batch_norm(torch.nn.Sequential(BatchNorm2d(3)))
    assert not prepare_rnn_batch_norm(torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match="1: BatchNorm1d of torch .* bn_ctor=alf.norm_layers.BatchNorm1d"):
        prepare_rnn_batch_norm(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)))


def test_wrong_input_is_told():
    with pytest.raises(ValueError, match="4 dimensions with 3 channels .* got shape \\(2, 3\\)"):
        BatchNorm2d(3)(torch.zeros(2, 3))
