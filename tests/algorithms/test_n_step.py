"""n-step returns as pairs of rows, against naive loops."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alf.algorithms import data_transformer as dt
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.data_structures import BatchInfo, Experience, TimeStep
from alf.tensor_specs import TensorSpec

FIRST, MID, LAST = 0, 1, 2


def random_experience(seed, B, T, reward_dim=(), state_rows=None):
    """Sequences that cross the ends of episodes; the observation of each row is a number of its own."""
    rng = np.random.default_rng(seed)
    step_types = np.full((B, T), MID, np.int32)
    discounts = np.ones((B, T), np.float32)
    for b in range(B):
        t = int(rng.integers(0, 4)) - 3  # where an episode begins
        while t < T:
            length = int(rng.integers(2, 6))
            if t >= 0:
                step_types[b, t] = FIRST
            if 0 <= t + length - 1 < T:
                step_types[b, t + length - 1] = LAST
                discounts[b, t + length - 1] = rng.choice([0.0, 1.0])
            t += length
    discounts = np.where(step_types == MID, rng.uniform(0.5, 1.0, (B, T)), discounts).astype(np.float32)
    rewards = rng.normal(size=(B, T, *reward_dim)).astype(np.float32)
    rewards[step_types == FIRST] = 0
    row_number = torch.arange(B * T).view(B, T)
    time_step = TimeStep(
        step_type=torch.from_numpy(step_types),
        reward=torch.from_numpy(rewards),
        discount=torch.from_numpy(discounts),
        observation=dict(place=row_number.unsqueeze(-1).float(), image=row_number.view(B, T, 1, 1).expand(B, T, 2, 2)),
        prev_action=row_number + 1000,
        env_id=row_number,
    )
    state = () if state_rows is None else row_number[:, :state_rows].unsqueeze(-1).float()
    return Experience(
        time_step=time_step, action=row_number + 2000, rollout_info=dict(action=row_number + 2000), state=state
    )


def naive_pair(step_types, rewards, discounts, n, gamma):
    """Return n', the sum of rewards and the discount of one sequence."""
    if step_types[0] == LAST:
        return 1, rewards[1], discounts[1]
    last_row = n
    for k in range(1, n + 1):
        if step_types[k] == LAST:
            last_row = k
            break
    total, so_far = 0.0, 1.0
    for k in range(1, last_row + 1):
        total = total + gamma ** (k - 1) * so_far * rewards[k].astype(np.float64)
        so_far *= float(discounts[k])
    return last_row, total, gamma ** (last_row - 1) * so_far


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 6),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    reward_dim=st.sampled_from([(), (3,)]),
)
def test_pairs_equal_naive_loops(seed, n, gamma, reward_dim):
    B = 8
    experience = random_experience(seed, B, n + 1, reward_dim)
    transformer = dt.NStepReturn(TensorSpec((1,)), n_step=n, gamma=gamma)
    pairs = transformer.transform_experience(experience)
    assert pairs.step_type.shape == (B, 2) and pairs.reward.shape == (B, 2, *reward_dim)
    for b in range(B):
        row, reward, discount = naive_pair(
            experience.step_type[b].numpy(),
            experience.reward[b].numpy(),
            experience.discount[b].numpy(),
            n,
            gamma,
        )
        np.testing.assert_allclose(pairs.reward[b, 1], reward, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(pairs.discount[b, 1], discount, rtol=1e-5, atol=1e-6)
        assert torch.equal(pairs.reward[b, 0], experience.reward[b, 0])
        assert pairs.discount[b, 0] == experience.discount[b, 0]
        for got, had in (
            (pairs.step_type, experience.step_type),
            (pairs.observation["place"], experience.observation["place"]),
            (pairs.observation["image"], experience.observation["image"]),
            (pairs.prev_action, experience.prev_action),
            (pairs.action, experience.action),
            (pairs.rollout_info["action"], experience.rollout_info["action"]),
        ):
            assert torch.equal(got[b], had[b, [0, row]])


@pytest.mark.parametrize("n", [1, 3, 5])
def test_one_step_target_of_the_pair_is_the_n_step_target(n):
    gamma, B = 0.9, 64
    experience = random_experience(3, B, n + 1)
    values = torch.randn(B * (n + 1), generator=torch.Generator().manual_seed(0))
    pairs = dt.NStepReturn(TensorSpec((1,)), n_step=n, gamma=gamma).transform_experience(experience)
    value = values[pairs.env_id[:, 1]]
    target = pairs.reward[:, 1] + gamma * pairs.discount[:, 1] * value
    is_compared = 0
    for b in range(B):
        if experience.step_type[b, 0] == LAST:
            continue
        # backwards from the row that is bootstrapped from
        row = next((k for k in range(1, n + 1) if experience.step_type[b, k] == LAST), n)
        expected = float(values[experience.env_id[b, row]])
        for k in range(row, 0, -1):
            expected = float(experience.reward[b, k]) + gamma * float(experience.discount[b, k]) * expected
        np.testing.assert_allclose(target[b], expected, rtol=1e-4, atol=1e-5)
        is_compared += 1
    assert is_compared > 30


def test_values_that_can_be_checked_by_hand():
    time_step = TimeStep(
        step_type=torch.tensor([[MID, MID, MID, MID], [MID, LAST, FIRST, MID], [MID, MID, LAST, FIRST]]),
        reward=torch.tensor([[9.0, 1.0, 2.0, 4.0], [9.0, 1.0, 0.0, 4.0], [9.0, 1.0, 2.0, 0.0]]),
        discount=torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]),
        observation=torch.arange(4.0).repeat(3, 1).unsqueeze(-1),
    )
    pairs = dt.NStepReturn(TensorSpec((1,)), n_step=3, gamma=0.5).transform_experience(Experience(time_step=time_step))
    assert pairs.reward.tolist() == [[9.0, 1 + 0.5 * 2 + 0.25 * 4], [9.0, 1.0], [9.0, 1 + 0.5 * 2]]
    assert pairs.discount.tolist() == [[1.0, 0.25], [1.0, 0.0], [1.0, 0.5]]  # went on, terminated, time limit
    assert pairs.observation[:, 1, 0].tolist() == [3.0, 1.0, 2.0]
    assert pairs.step_type.tolist() == [[MID, MID], [MID, LAST], [MID, LAST]]


def test_state_of_the_first_row_alone_stays():
    transformer = dt.NStepReturn(TensorSpec((1,)), n_step=2)
    assert transformer.transform_experience(random_experience(0, 4, 3, state_rows=1)).state.shape == (4, 1, 1)
    assert transformer.transform_experience(random_experience(0, 4, 3, state_rows=3)).state.shape == (4, 2, 1)


def test_returns_of_the_episode_follow_the_rows():
    experience = random_experience(5, 6, 4)
    returns = experience.env_id.float()
    experience = experience._replace(batch_info=BatchInfo(env_ids=torch.arange(6), discounted_return=returns))
    pairs = dt.NStepReturn(TensorSpec((1,)), n_step=3).transform_experience(experience)
    assert torch.equal(pairs.batch_info.discounted_return, pairs.env_id.float())
    assert torch.equal(pairs.batch_info.env_ids, torch.arange(6))


def test_unroll_is_left_as_it_is():
    transformer = dt.NStepReturn(TensorSpec((1,)))
    step = TimeStep(observation=torch.zeros(2, 1))
    assert transformer.transform_timestep(step, ()) == (step, ())


def test_wrong_length_names_what_to_set():
    with pytest.raises(ValueError, match=r"needs sequences of 4 steps, got 2.*mini_batch_length=4"):
        dt.NStepReturn(TensorSpec((1,)), n_step=3).transform_experience(random_experience(0, 3, 2))


@pytest.mark.parametrize("argument, value", [("n_step", 0), ("gamma", 1.5)])
def test_wrong_arguments_are_told(argument, value):
    with pytest.raises(ValueError, match=f"NStepReturn.{argument}: expected"):
        dt.NStepReturn(TensorSpec((1,)), **{argument: value})


@pytest.mark.parametrize(
    "later",
    [
        dt.RewardClipping,
        dt.ObservationNormalizer,
        dt.UntransformedTimeStep,
        dt.FrameStacker,
        partial(dt.NStepReturn, n_step=2),
    ],
)
def test_it_must_come_last(later):
    name = getattr(later, "func", later).__name__
    with pytest.raises(ValueError, match=f"(?s)(NStepReturn.*{name}|{name}.*NStepReturn)"):
        dt.create_data_transformer([dt.NStepReturn, later], TensorSpec((1,)))


def test_rewards_are_transformed_before_they_are_summed():
    ctors = [partial(dt.RewardScaling, scale=2.0), partial(dt.NStepReturn, n_step=2, gamma=0.5)]
    both = dt.create_data_transformer(ctors, TensorSpec((1,)))
    experience = random_experience(1, 16, 3)
    alone = dt.NStepReturn(TensorSpec((1,)), n_step=2, gamma=0.5).transform_experience(experience)
    np.testing.assert_allclose(both.transform_experience(experience).reward, 2 * alone.reward, rtol=1e-6)


# ---- what it cannot be used with -------------------------------------------------------------------------------------


class Learner(torch.nn.Module):
    """What check_training() asks an algorithm."""

    name = "Learner"

    def __init__(self, gamma=0.9, train_state_spec=(), on_policy=False):
        super().__init__()
        self.loss = OneStepTDLoss(gamma=gamma)
        self.train_state_spec = train_state_spec
        self.on_policy = on_policy


def check(algorithm, whole_replay_buffer_training=False, n_step=3):
    ctors = [dt.RewardClipping, partial(dt.NStepReturn, n_step=n_step, gamma=0.9)]
    config = SimpleNamespace(whole_replay_buffer_training=whole_replay_buffer_training)
    dt.create_data_transformer(ctors, TensorSpec((1,))).check_training(algorithm, config)


def test_recurrent_networks_are_refused_with_what_to_use_instead():
    with pytest.raises(ValueError, match=r"NStepReturn.*Learner has recurrent.*TDLoss.td_lambda=1.*R2d2Algorithm"):
        check(Learner(train_state_spec=dict(lstm=TensorSpec((8,)))))


@pytest.mark.parametrize("gamma", [0.99, [0.9, 0.99]])
def test_gamma_of_the_loss_must_be_the_same(gamma):
    with pytest.raises(ValueError, match=r"NStepReturn.gamma: .* OneStepTDLoss.gamma=.*0.99.*, got 0.9\. "):
        check(Learner(gamma))
    check(Learner(0.9))
    check(Learner([0.9, 0.9]))
    check(Learner(gamma), n_step=1)  # one reward is not discounted


@pytest.mark.parametrize(
    "algorithm, whole, told",
    [
        (Learner(), True, "whole_replay_buffer_training=False, clear_replay_buffer=False, mini_batch_length=..., mini"),
        (Learner(on_policy=True), True, "Learner is on-policy"),
    ],
)
def test_training_without_samples_is_refused(algorithm, whole, told):
    with pytest.raises(ValueError, match=f"NStepReturn needs sampled sequences.*{told}"):
        check(algorithm, whole)
