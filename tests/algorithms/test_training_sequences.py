"""Cutting experience into sequences and mini batches, and stepping through them."""

import pytest
import torch
from torch import nn

from alf.algorithms._training.sequences import (
    cut_sequences,
    mini_batches,
    stack_steps,
    step_at_once,
    step_through_time,
)
from alf.algorithms._training.update import masked_mean, told_mean, total_loss, update_parameters
from alf.data_structures import AlgStep, LossInfo, TimeStep
from alf.utils.dist_utils import Categorical

T, B = 6, 5


def identities():
    """Return ``100 t + b`` for each entry ``[T, B]``."""
    return 100 * torch.arange(T).unsqueeze(1) + torch.arange(B)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_each_step_is_in_one_sequence_and_sequences_are_contiguous(length):
    sequences = cut_sequences({"a": identities()}, length)["a"]
    assert sequences.shape == (length, T * B // length)
    assert sorted(sequences.flatten().tolist()) == sorted(identities().flatten().tolist())
    for i in range(1, length):
        assert (sequences[i] == sequences[0] + 100 * i).all()
    assert (sequences[0] // 100 % length == 0).all()


def test_cut_keeps_further_dimensions():
    tensor = torch.arange(T * B * 4).reshape(T, B, 2, 2)
    sequences = cut_sequences(tensor, 3)
    assert sequences.shape == (3, 2 * B, 2, 2)
    assert torch.equal(sequences[1, B + 2], tensor[4, 2])


def test_overlapping_sequences_share_the_step_to_bootstrap_from():
    rows = 100 * torch.arange(T + 1).unsqueeze(1) + torch.arange(B)
    sequences = cut_sequences(rows, 2, overlap=1)
    assert sequences.shape == (3, T // 2 * B)
    # Without the shared last row, each step occurs once.
    assert sorted(sequences[:-1].flatten().tolist()) == sorted(identities().flatten().tolist())
    assert (sequences[2] == sequences[0] + 200).all()


def test_length_must_divide_the_unroll():
    with pytest.raises(ValueError, match=r"mini_batch_length: expected a divisor of the 6 steps .* got 4"):
        cut_sequences(identities(), 4)


@pytest.mark.parametrize("batch_size,sizes", [(5, [5] * 6), (4, [4] * 6 + [3] * 2), (29, [15, 15]), (30, [30]),
                                              (1000, [30])])
def test_mini_batches_take_each_sequence_once_an_epoch(batch_size, sizes):
    sequences = cut_sequences(dict(x=identities(), y=-identities()), 1)
    batches = list(mini_batches(sequences, batch_size, num_epochs=3))
    assert [batch["x"].shape[1] for batch in batches] == sizes * 3
    per_epoch = len(sizes)
    for epoch in range(3):
        seen = torch.cat([b["x"] for b in batches[epoch * per_epoch:(epoch + 1) * per_epoch]], dim=1)
        assert sorted(seen.flatten().tolist()) == sorted(identities().flatten().tolist())
    assert all(torch.equal(batch["x"], -batch["y"]) for batch in batches)


def test_epochs_are_shuffled_differently():
    sequences = cut_sequences(identities(), 1)
    first, second = (torch.cat(list(mini_batches(sequences, 10, 1)), dim=1) for _ in range(2))
    assert not torch.equal(first, second)


def test_leaves_of_other_lengths_are_shuffled_alike():
    sequences = {"x": cut_sequences(identities(), 3), "state": cut_sequences(identities(), 3)[:1]}
    for batch in mini_batches(sequences, 4, 1):
        assert batch["state"].shape[0] == 1
        assert torch.equal(batch["state"][0], batch["x"][0])


def _inputs():
    return TimeStep(step_type=torch.ones(T, B, dtype=torch.int32), observation=torch.randn(T, B, 3))


def test_stepping_at_once_equals_stepping_through_time_without_state():
    net = nn.Linear(3, 2)

    def train_step(inputs, state, rollout_info):
        return AlgStep(info={"dist": Categorical(logits=net(inputs.observation)), "info": rollout_info + 1})

    inputs, rollout_info = _inputs(), torch.randn(T, B)
    at_once = step_at_once(train_step, inputs, rollout_info, ())
    through = step_through_time(train_step, inputs, rollout_info, (), ())
    torch.testing.assert_close(at_once["dist"].logits, through["dist"].logits)
    torch.testing.assert_close(at_once["info"], through["info"])
    assert at_once["dist"].batch_shape == (T, B)


def _count_steps(inputs, state, rollout_info):
    return AlgStep(state=state + 1, info=state)


def test_state_is_carried_along_and_reset_where_an_episode_begins():
    step_type = torch.tensor([[1, 0], [1, 1], [2, 1], [0, 1]], dtype=torch.int32)
    inputs = TimeStep(step_type=step_type)
    seen = step_through_time(_count_steps, inputs, (), torch.tensor([5.0, 5.0]), torch.zeros(2))
    assert seen.tolist() == [[5.0, 0.0], [6.0, 1.0], [7.0, 2.0], [0.0, 3.0]]


def test_stack_steps_refuses_steps_of_different_numbers_of_leaves():
    with pytest.raises(ValueError):
        stack_steps([{"a": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)}])


# ---- the update ----------------------------------------------------------------------------------------------------


def test_masked_mean_by_hand():
    loss = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert masked_mean(loss, torch.tensor([[True, False], [True, False]])) == 2.0
    assert masked_mean(loss, None) == 2.5
    assert masked_mean(loss, torch.zeros(2, 2, dtype=torch.bool)) == 0.0


def test_total_loss_adds_scalar_loss_and_weighs_sequences():
    loss = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    info = LossInfo(loss=loss, scalar_loss=torch.tensor(10.0))
    assert total_loss(info) == 12.5
    assert total_loss(info, importance_weights=torch.tensor([1.0, 0.0])) == 11.0
    mask = torch.tensor([[True, True], [False, True]])
    assert float(total_loss(info, mask)) == pytest.approx(10 + 7 / 3)
    assert total_loss(LossInfo(scalar_loss=torch.tensor(3.0))) == 3.0


def test_loss_info_without_loss_or_with_a_wrong_scalar_is_refused():
    with pytest.raises(ValueError, match="expected a loss or a scalar_loss, got neither"):
        total_loss(LossInfo())
    with pytest.raises(ValueError, match=r"scalar_loss: expected a scalar, got shape \(2,\)"):
        total_loss(LossInfo(scalar_loss=torch.zeros(2)))


def test_parts_of_the_loss_of_other_shapes_are_told_by_their_mean():
    mask = torch.tensor([[True, False]])
    assert told_mean(torch.tensor([[1.0, 3.0]]), mask) == 1.0
    assert told_mean(torch.tensor([1, 3]), mask) == 2.0
    assert told_mean(torch.tensor(5.0), mask) == 5.0


def test_update_makes_one_step_of_each_optimizer_on_fresh_gradients():
    x, y = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
    optimizers = [torch.optim.SGD([x], lr=0.5), torch.optim.SGD([y], lr=0.25)]
    seen = []
    for _ in range(2):
        update_parameters(2 * x + 4 * y, optimizers, before_step=lambda: seen.append((x.grad.item(), y.grad.item())))
    assert (x.item(), y.item()) == (-1.0, -1.0)
    assert seen == [(2.0, 4.0)] * 2


