"""SelectObservation keeps or names elements of a vector observation."""

import gymnasium
import numpy as np
import pytest

from alf.environments.gym_wrappers import SelectObservation


def test_elements_are_kept_in_the_order_given():
    env = SelectObservation(gymnasium.make("CartPole-v1"), elements=[2, 0])
    observation, _ = env.reset(seed=3)
    full, _ = gymnasium.make("CartPole-v1").reset(seed=3)
    np.testing.assert_array_equal(observation, [full[2], full[0]])
    assert env.observation_space.shape == (2, ) and env.observation_space.contains(observation)


def test_groups_make_a_dictionary():
    env = SelectObservation(gymnasium.make("CartPole-v1"), elements={"position": [0, 2], "velocity": [1, 3]})
    observation, _ = env.reset(seed=3)
    full, _ = gymnasium.make("CartPole-v1").reset(seed=3)
    np.testing.assert_array_equal(observation["position"], full[[0, 2]])
    np.testing.assert_array_equal(observation["velocity"], full[[1, 3]])
    assert env.observation_space.contains(observation)


def test_missing_element_is_told():
    with pytest.raises(ValueError, match=r"expected indices of the 4 elements, got \[0, 4\]"):
        SelectObservation(gymnasium.make("CartPole-v1"), elements=[0, 4])


def test_observation_that_is_no_vector_is_told():
    with pytest.raises(ValueError, match="expected a vector"):
        SelectObservation(gymnasium.make("FrozenLake-v1"), elements=[0])
