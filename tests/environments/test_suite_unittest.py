"""The environments with known optimal policies."""

import pytest
import torch

from alf.environments._rows import FIRST, LAST, MID
from alf.environments.suite_unittest import (
    ActionType,
    MixedPolicyUnittestEnv,
    PolicyUnittestEnv,
    RNNPolicyUnittestEnv,
    ValueUnittestEnv,
)
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


def returns(env, policy, num_steps):
    """Return the mean reward per transition of ``policy(time_step)``."""
    step, total, count = env.reset(), 0.0, 0
    for _ in range(num_steps):
        step = env.step(policy(step))
        if step.step_type[0] != FIRST:
            total, count = total + float(step.reward.mean()), count + 1
    return total / count


def test_episode_has_as_many_time_steps_as_said():
    env = ValueUnittestEnv(batch_size=2, episode_length=3)
    action = torch.zeros(2, dtype=torch.int64)
    steps = [env.reset()] + [env.step(action) for _ in range(3)]
    assert [s.step_type.tolist() for s in steps] == [[FIRST] * 2, [MID] * 2, [LAST] * 2, [FIRST] * 2]
    assert [s.discount.tolist() for s in steps] == [[1, 1], [1, 1], [0, 0], [1, 1]]
    assert [s.reward.tolist() for s in steps] == [[0, 0], [1, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("action_type", list(ActionType))
def test_repeating_the_bit_is_optimal(action_type):

    def repeat(step):
        if action_type == ActionType.Discrete:
            return step.observation[:, 0].long()
        return step.observation[:, :1]

    env = PolicyUnittestEnv(10, 5, action_type=action_type)
    assert returns(env, repeat, 50) == 1
    assert returns(env, lambda step: 1 - repeat(step), 50) == 0


def test_mixed_action_needs_both_parts():
    env = MixedPolicyUnittestEnv(10, 5)
    bit = lambda step: step.observation[:, :1]  # noqa: E731
    assert returns(env, lambda step: [bit(step)[:, 0].long(), bit(step)], 20) == 1
    assert returns(env, lambda step: [bit(step)[:, 0].long(), 1 - bit(step)], 20) == 0.5


@pytest.mark.parametrize("action_type", list(ActionType))
def test_remembering_the_bit_is_optimal(action_type):
    env = RNNPolicyUnittestEnv(batch_size=50, episode_length=6, gap=2, action_type=action_type)
    step = env.reset()
    bit = (step.observation[:, :1] + 1) / 2
    assert set(bit.flatten().tolist()) == {0.0, 1.0}
    action = bit[:, 0].long() if action_type == ActionType.Discrete else bit
    rewards = []
    for _ in range(5):
        step = env.step(action)
        assert not step.observation.any()
        rewards.append(step.reward)
    # Actions at positions 0 and 1 are within the gap.
    assert [float(r.mean()) for r in rewards] == [0, 0, 1, 1, 1]
    assert step.is_last().all()


def test_seed_decides_the_observations():
    observations = []
    for seed in (1, 1, 2):
        env = PolicyUnittestEnv(64, 5)
        env.seed(seed)
        observations.append(env.reset().observation)
    assert torch.equal(observations[0], observations[1]) and not torch.equal(observations[0], observations[2])


def test_nested_observation_and_vector_reward():
    env = PolicyUnittestEnv(3, 5, obs_dim=2, nested_observation=True, reward_dim=4)
    assert env.observation_spec() == dict(obs0=TensorSpec((2,)), obs1=TensorSpec((2,)))
    assert env.reward_spec() == TensorSpec((4,))
    assert env.action_spec() == BoundedTensorSpec((), torch.int64, 0, 1)
    env.reset()
    assert env.step(torch.zeros(3, dtype=torch.int64)).reward.shape == (3, 4)


def test_too_short_episodes_are_errors():
    with pytest.raises(ValueError, match="episode_length >= 2"):
        PolicyUnittestEnv(1, 1)
    with pytest.raises(ValueError, match=r"expected more than gap \+ 1 = 4, got 4"):
        RNNPolicyUnittestEnv(1, 4, gap=3)
