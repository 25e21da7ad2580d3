"""Tests of data transformers at episode borders, in unroll and in replay."""

from functools import partial

import numpy as np
import pytest
import torch

import alf.nest as nest
from alf.algorithms import data_transformer as dt
from alf.data_structures import BatchInfo, Experience, TimeStep, add_batch_info
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common
from alf.utils.normalizers import ScalarEMNormalizer

FIRST, MID, LAST = 0, 1, 2


def make_timestep(observation=(), step_type=None, reward=None):
    B = nest.get_nest_batch_size(observation) if observation != () else len(reward)
    step_type = torch.tensor(step_type if step_type is not None else [MID] * B, dtype=torch.int32)
    reward = torch.zeros(B) if reward is None else reward
    return TimeStep(
        step_type=step_type,
        reward=reward,
        discount=torch.ones(B),
        observation=observation,
        env_id=torch.arange(B, dtype=torch.int32),
    )


def zeros_state(spec, B):
    return nest.map_structure(lambda s: s.zeros(outer_dims=(B,)), spec)


def naive_stacks(frames, step_types, stack_size, axis):
    """frames [T, B, ...] -> for each t the last frames of the episode along axis, the first one repeated."""
    T, B = step_types.shape
    rows = []
    for t in range(T):
        row = []
        for b in range(B):
            begin = max([s for s in range(t + 1) if step_types[s, b] == FIRST], default=0)
            row.append(
                np.concatenate(
                    [frames[max(begin, t - k), b] for k in range(stack_size - 1, -1, -1)], axis=axis
                )
            )
        rows.append(np.stack(row))
    return np.stack(rows)


def episodes(T, B, seed=0):
    rng = np.random.default_rng(seed)
    step_types = np.full((T, B), MID, np.int32)
    for b in range(B):
        t = 0
        while t < T:
            step_types[t, b] = FIRST
            t += int(rng.integers(2, 7))
            if t - 1 < T:
                step_types[t - 1, b] = LAST
    return step_types


@pytest.mark.parametrize("stack_size", [2, 4])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_frame_stacker_repeats_the_first_frame_of_each_episode(stack_size, axis):
    T, B = 15, 3
    spec = BoundedTensorSpec((2, 3, 5), torch.uint8, 0, 255)
    frames = np.random.default_rng(0).integers(0, 256, size=(T, B, 2, 3, 5)).astype(np.uint8)
    step_types = episodes(T, B)
    stacker = dt.FrameStacker(spec, stack_size, axis)
    expected = naive_stacks(frames, step_types, stack_size, axis)
    assert (
        stacker.transformed_observation_spec.shape == expected.shape[2:] and stacker.stack_size == stack_size
    )
    state = zeros_state(stacker.state_spec, B)
    for t in range(T):
        step, state = stacker.transform_timestep(
            make_timestep(torch.from_numpy(frames[t]), step_types[t]), state
        )
        np.testing.assert_array_equal(step.observation, expected[t])
        nest.map_structure(
            lambda s, x: s.shape == x.shape[1:] or pytest.fail(f"{s} {x.shape}"), stacker.state_spec, state
        )


def test_frame_stacker_starts_from_a_zero_state_in_the_middle():
    stacker = dt.FrameStacker(TensorSpec((1,)), 3)
    state = zeros_state(stacker.state_spec, 1)
    got = []
    for value in (5.0, 6.0, 7.0, 8.0):
        step, state = stacker.transform_timestep(make_timestep(torch.tensor([[value]])), state)
        got.append(step.observation.tolist()[0])
    assert got == [[5.0, 5.0, 5.0], [5.0, 5.0, 6.0], [5.0, 6.0, 7.0], [6.0, 7.0, 8.0]]


def test_frame_stacker_of_fields_leaves_the_others():
    spec = dict(image=TensorSpec((1, 2, 2)), pose=dict(arm=TensorSpec((3,)), leg=TensorSpec((2,))))
    stacker = dt.FrameStacker(spec, 2, fields=["image", "pose.arm"])
    assert stacker.transformed_observation_spec == dict(
        image=TensorSpec((2, 2, 2)), pose=dict(arm=TensorSpec((6,)), leg=TensorSpec((2,)))
    )
    observation = nest.map_structure(lambda s: s.rand(outer_dims=(4,)), spec)
    step, _ = stacker.transform_timestep(make_timestep(observation), zeros_state(stacker.state_spec, 4))
    assert torch.equal(step.observation["pose"]["leg"], observation["pose"]["leg"])
    assert torch.equal(step.observation["pose"]["arm"], observation["pose"]["arm"].repeat(1, 2))


def test_bounds_are_stacked():
    spec = BoundedTensorSpec(
        (2,), minimum=np.array([0.0, 1.0], np.float32), maximum=np.array([2.0, 3.0], np.float32)
    )
    stacked = dt.FrameStacker(spec, 2).transformed_observation_spec
    assert stacked.minimum.tolist() == [0.0, 1.0, 0.0, 1.0] and stacked.maximum.tolist() == [
        2.0,
        3.0,
        2.0,
        3.0,
    ]


class StoredEpisodes:
    """A replay buffer of time steps [B, T], with the calls that transformers make."""

    def __init__(self, frames, step_types):
        self.frames, self.step_types = torch.from_numpy(frames), step_types

    def get_episode_begin_position(self, pos, env_ids):
        return torch.tensor(
            [
                max([p for p in range(int(t) + 1) if self.step_types[p, int(b)] == FIRST])
                for t, b in zip(pos, env_ids)
            ]
        )

    def get_field(self, field_name, env_ids, positions):
        assert field_name == "time_step.observation.image" and env_ids.shape == positions.shape
        return self.frames[positions, env_ids]


@pytest.mark.parametrize("stack_size", [2, 4])
def test_replayed_stacks_equal_those_of_the_unroll(stack_size):
    T, B = 20, 3
    frames = np.random.default_rng(1).normal(size=(T, B, 2, 3)).astype(np.float32)
    step_types = episodes(T, B, seed=1)
    stacker = dt.FrameStacker(dict(image=TensorSpec((2, 3))), stack_size, stack_axis=1, fields=["image"])
    expected = naive_stacks(frames, step_types, stack_size, 1)
    env_ids, positions, length = torch.tensor([0, 2, 1, 1]), torch.tensor([0, 3, 9, 14]), 5
    rows = positions[:, None] + torch.arange(length)
    columns = env_ids[:, None].expand(-1, length)
    experience = Experience(
        time_step=TimeStep(
            step_type=torch.from_numpy(step_types)[rows, columns],
            observation=dict(image=torch.from_numpy(frames)[rows, columns]),
        )
    )
    experience = add_batch_info(
        experience, BatchInfo(env_ids=env_ids, positions=positions), StoredEpisodes(frames, step_types)
    )
    got = stacker.transform_experience(experience)
    np.testing.assert_array_equal(got.observation["image"], expected[rows, columns])
    with pytest.raises(ValueError, match="no batch_info or no replay_buffer"):
        stacker.transform_experience(experience._replace(batch_info=()))


def test_image_scale_transformer():
    spec = dict(a=BoundedTensorSpec((1, 2), torch.uint8, 0, 255), b=TensorSpec((2,)))
    scaler = dt.ImageScaleTransformer(spec, min=0.0, max=1.0, fields=["a"])
    assert scaler.transformed_observation_spec["a"] == BoundedTensorSpec((1, 2), torch.float32, 0.0, 1.0)
    observation = dict(a=torch.tensor([[[0, 255]]], dtype=torch.uint8), b=torch.ones(1, 2))
    step, state = scaler.transform_timestep(make_timestep(observation), ())
    torch.testing.assert_close(step.observation["a"], torch.tensor([[[0.0, 1.0]]]))
    assert state == () and observation["a"].dtype == torch.uint8
    experience = Experience(time_step=make_timestep(observation))
    assert torch.equal(scaler.transform_experience(experience).observation["a"], step.observation["a"])
    assert dt.ImageScaleTransformer(spec["a"]).transformed_observation_spec.minimum == -1.0


def test_fields_that_do_not_fit_are_told():
    spec = dict(a=TensorSpec((2,)), b=dict(c=TensorSpec(())))
    with pytest.raises(
        ValueError, match="ImageScaleTransformer.fields: the observation is a nest: name its tensors"
    ):
        dt.ImageScaleTransformer(spec)
    with pytest.raises(ValueError, match="FrameStacker.fields: there is no 'x'"):
        dt.FrameStacker(spec, fields=["x"])
    with pytest.raises(ValueError, match="FrameStacker.fields: 'b' is a nest"):
        dt.FrameStacker(spec, fields=["b"])
    with pytest.raises(ValueError, match="stack_axis: 1 is no dimension of 'a'"):
        dt.FrameStacker(spec, stack_axis=1, fields=["a"])
    with pytest.raises(ValueError, match="'a' must be uint8, got torch.float32"):
        dt.ImageScaleTransformer(spec, fields=["a"])
    with pytest.raises(ValueError, match="update_mode: expected 'replay' or 'rollout', got 'train'"):
        dt.ObservationNormalizer(spec, update_mode="train")
    with pytest.raises(ValueError, match=r"mode: expected one of \['adaptive', 'em', 'window'\], got 'ema'"):
        dt.ObservationNormalizer(spec, mode="ema")


@pytest.mark.parametrize("mode", ["adaptive", "em", "window"])
@pytest.mark.parametrize("fields", [None, ["a"]])
def test_observation_normalizer(mode, fields):
    spec = dict(a=TensorSpec((2,)), b=TensorSpec(()))
    normalizer = dt.ObservationNormalizer(
        spec, fields=fields, mode=mode, clipping=1.2, window_size=5, update_mode="rollout"
    )
    observation = dict(a=torch.tensor([[0.0, 4.0], [2.0, 8.0], [1.0, 6.0]]), b=torch.tensor([1.0, 2.0, 9.0]))
    step = make_timestep(observation)
    same, _ = normalizer.transform_timestep(step, ())
    torch.testing.assert_close(same.observation["a"], observation["a"].clamp(-1.2, 1.2))
    with common.rollout_context():
        got, _ = normalizer.transform_timestep(step, ())
    deviation = (2 / 3) ** 0.5
    torch.testing.assert_close(
        got.observation["a"],
        (torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]) / deviation).clamp(-1.2, 1.2),
        atol=1e-4,
        rtol=1e-4,
    )
    assert torch.equal(got.observation["b"], observation["b"]) == (fields is not None)
    with common.replay_context():
        again = normalizer.transform_experience(Experience(time_step=step))
    torch.testing.assert_close(again.observation, got.observation)


def test_statistics_are_updated_in_replay_by_default():
    normalizer = dt.ObservationNormalizer(TensorSpec((1,)))
    step = make_timestep(torch.tensor([[3.0], [5.0]]))
    with common.rollout_context():
        assert torch.equal(normalizer.transform_timestep(step, ())[0].observation, step.observation)
    with common.replay_context():
        got = normalizer.transform_experience(Experience(time_step=step))
    torch.testing.assert_close(got.observation, torch.tensor([[-1.0], [1.0]]))


REWARD = torch.tensor([-3.0, 0.5, 2.0])


@pytest.mark.parametrize(
    "ctor,expected",
    [
        (dt.RewardClipping, [-1.0, 0.5, 1.0]),
        (partial(dt.RewardClipping, minmax=(-2, 3)), [-2.0, 0.5, 2.0]),
        (partial(dt.RewardScaling, 2.0), [-6.0, 1.0, 4.0]),
        (partial(dt.RewardShifting, 1.0), [-2.0, 1.5, 3.0]),
        (partial(dt.FunctionalRewardTransformer, lambda r: r.abs()), [3.0, 0.5, 2.0]),
    ],
)
def test_reward_transformers(ctor, expected):
    transformer = dt.create_data_transformer(ctor, TensorSpec((2,)))
    step = make_timestep(torch.zeros(3, 2), reward=REWARD)
    assert transformer.transform_timestep(step, ())[0].reward.tolist() == expected
    experience = transformer.transform_experience(Experience(time_step=step))
    assert experience.reward.tolist() == expected and step.reward is REWARD
    assert transformer.transformed_observation_spec == TensorSpec((2,))


def test_vector_rewards_are_scaled_by_dimension():
    assert dt.RewardScaling([1.0, 10.0])(torch.ones(2, 2)).tolist() == [[1.0, 10.0], [1.0, 10.0]]


def test_reward_normalizer_stops_updating():
    transformer = dt.RewardNormalizer(update_max_calls=2, update_mode="rollout", clip_value=1.5)
    with common.rollout_context():
        first = transformer(torch.tensor([0.0, 2.0]))
        transformer(torch.tensor([0.0, 2.0]))
        third = transformer(torch.tensor([100.0, 101.0]))
    assert first.tolist() == [-1.0, 1.0] and third.tolist() == [1.5, 1.5]
    assert transformer.clip_value == 1.5
    mine = ScalarEMNormalizer()
    assert dt.RewardNormalizer(normalizer=mine).normalizer is mine


def test_untransformed_time_step_is_kept():
    transformer = dt.create_data_transformer(
        [dt.UntransformedTimeStep, partial(dt.RewardScaling, 2.0)], TensorSpec((2,))
    )
    step = make_timestep(torch.zeros(3, 2), reward=REWARD)
    got, _ = transformer.transform_timestep(step, ())
    assert torch.equal(got.untransformed.reward, REWARD) and torch.equal(got.reward, REWARD * 2)
    assert got.untransformed.untransformed == ()
    some, _ = dt.UntransformedTimeStep(fields_to_keep=["reward"]).transform_timestep(step, ())
    assert torch.equal(some.untransformed.reward, REWARD) and some.untransformed.observation == ()
    with pytest.raises(ValueError, match=r"\['rewards'\] are no fields of a time step"):
        dt.UntransformedTimeStep(fields_to_keep=["rewards"])


def test_sequence_chains_specs_and_states():
    spec = BoundedTensorSpec((1, 2, 2), torch.uint8, 0, 255)
    transformer = dt.create_data_transformer(
        [
            dt.UntransformedTimeStep,
            partial(dt.FrameStacker, stack_size=3),
            dt.ImageScaleTransformer,
            dt.RewardClipping,
        ],
        spec,
        device="cpu",
    )
    assert transformer.transformed_observation_spec == BoundedTensorSpec((3, 2, 2), torch.float32, -1.0, 1.0)
    assert transformer.stack_size == 3 and len(transformer.members()) == 4
    state = zeros_state(transformer.state_spec, 2)
    step = make_timestep(
        torch.full((2, 1, 2, 2), 255, dtype=torch.uint8), [FIRST, MID], torch.tensor([5.0, 0.0])
    )
    for _ in range(2):
        got, state = transformer.transform_timestep(step, state)
    assert torch.equal(got.observation, torch.ones(2, 3, 2, 2)) and got.reward.tolist() == [1.0, 0.0]


def test_wrong_order_is_told():
    spec = BoundedTensorSpec((1, 2, 2), torch.uint8, 0, 255)
    with pytest.raises(
        ValueError,
        match="FrameStacker reads raw data from the replay buffer, but comes after "
        "ImageScaleTransformer.*Put FrameStacker before ImageScaleTransformer",
    ):
        dt.create_data_transformer([dt.ImageScaleTransformer, dt.FrameStacker], spec)
    with pytest.raises(ValueError, match="Put it first in data_transformer_ctor"):
        dt.create_data_transformer([dt.ImageScaleTransformer, dt.UntransformedTimeStep], spec)
    with pytest.raises(TypeError, match="expected constructors of data transformers"):
        dt.create_data_transformer([3], spec)


def test_nothing_asked_for_changes_nothing():
    spec = TensorSpec((2,))
    for ctor in (None, []):
        transformer = dt.create_data_transformer(ctor, spec)
        step = make_timestep(torch.zeros(3, 2))
        assert transformer.transform_timestep(step, ())[0] is step and transformer.stack_size == 1


def test_l2_dist_close_reward():
    got = dt.l2_dist_close_reward_fn(
        torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.04], [0.0, 0.0]])
    )
    assert got.tolist() == [0.0, -1.0]
