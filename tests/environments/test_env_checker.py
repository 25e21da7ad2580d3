"""What the checker of environments finds, in environments that are each wrong in one way."""

import gymnasium
import numpy as np
import pytest

from alf.data_structures import StepType
from alf.environments import suite_gym
from alf.environments.env_checker import check_environment, check_gym_environment
from alf.environments.random_alf_environment import RandomAlfEnvironment
from alf.environments.suite_unittest import ActionType, ValueUnittestEnv
from alf.tensor_specs import BoundedTensorSpec

Box, Discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete


class Walk(gymnasium.Env):
    """A random walk in [-1, 1]^4 that ends at a bound. What a test wants to be wrong, it overrides."""

    metadata = {"render_modes": []}

    def __init__(self, action_space=None):
        self.observation_space = Box(-1.0, 1.0, (4, ), np.float32)
        self.action_space = action_space or Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.num_steps = 0
        self.position = self.np_random.uniform(-0.1, 0.1, 4).astype(np.float32)
        return self.observation(), {}

    def step(self, action):
        self.num_steps += 1
        self.position = np.clip(self.position + self.np_random.normal(0, 0.1, 4), -1, 1).astype(np.float32)
        return self.result(self.observation(), 1.0, bool(abs(self.position).max() == 1), False, {})

    def observation(self):
        return self.position.copy()

    def result(self, *values):
        return values


def found(env, severity="error", **kwargs):
    """Return the findings of a severity as texts; those of the other one are not wanted."""
    findings = check_gym_environment(env, **kwargs)
    assert {finding.severity for finding in findings} <= {severity}, list(map(str, findings))
    return list(map(str, findings))


def with_observation(change):
    return type("Bad", (Walk, ), {"observation": lambda self: change(self.position)})()


def with_result(change):
    return type("Bad", (Walk, ), {"result": lambda self, *values: change(*values)})()


def test_nothing_is_wrong_with_a_right_environment():
    assert found(Walk()) == []
    assert found(Walk(Box(-2.0, 2.0, (3, ), np.float32))) == []


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Acrobot-v1"])
def test_nothing_is_wrong_with_environments_of_gymnasium(env_id):
    assert check_environment(lambda: suite_gym.load(env_id)) == []


@pytest.mark.parametrize("env, words", [
    (with_observation(lambda x: np.full(4, 1e9)), ["observation: expected dtype float32, got dtype float64",
                                                   "astype(np.float32)"]),
    (with_observation(lambda x: np.zeros(5, np.float32)), ["observation: expected shape (4,), got shape (5,)"]),
    (with_observation(lambda x: np.zeros(1, np.float32)), ["observation: expected shape (4,), got shape (1,)"]),
    (with_observation(lambda x: x + 2), ["step 0: observation: expected numbers within the bounds", "at index [0]"]),
    (with_observation(lambda x: x.tolist()), ["observation: expected a NumPy array of shape (4,)", "got list"]),
    (with_observation(lambda x: x * np.nan), ["observation: expected finite numbers, got nan at index [0]"]),
    (with_result(lambda o, r, *rest: (o, np.zeros(2), *rest)), ["step 1: reward: expected a number, got an array of",
                                                                "declare a reward_space"]),
    (with_result(lambda o, r, *rest: (o, None, *rest)), ["reward: expected a number, got NoneType None"]),
    (with_result(lambda o, r, *rest: (o, float("nan"), *rest)), ["reward: expected a finite number, got float nan"]),
    (with_result(lambda o, r, t, *rest: (o, r, "False", *rest)), ["terminated: expected a bool, got str 'False'"]),
    (with_result(lambda o, r, t, u, i: (o, r, t, i)), ["step(): expected (observation, reward, terminated, truncated, "
                                                       "info), got 4 values", "old gym package"]),
    (with_result(lambda o, r, t, u, i: (o, r, t, 0, i)), ["truncated: expected a bool, got int 0"]),
    (with_result(lambda o, r, t, u, i: (o, r, t, u, None)), ["info: expected a dictionary, got NoneType"]),
])
def test_bad_data_is_an_error(env, words):
    texts = found(env)
    for word in words:
        assert any(word in text for text in texts), texts


def test_a_bad_step_late_in_the_run_is_told_with_its_number():
    class Late(Walk):
        def result(self, observation, reward, terminated, truncated, info):
            return observation, None if self.num_steps == 30 else reward, False, False, info

    # Episodes that are played to compare them are shorter.
    assert [finding.step for finding in check_gym_environment(Late(), time_limit=50)] == [30]


def test_the_same_finding_is_told_once():
    assert len(found(with_observation(lambda x: x.tolist()))) == 1


def test_missing_part_of_a_dictionary_is_named():
    env = with_observation(lambda x: {"a": x})
    env.observation_space = gymnasium.spaces.Dict(a=Box(-1, 1, (4, ), np.float32), b=Discrete(3))
    assert "observation.b: expected Discrete(3), got no such part" in found(env)[0]


def test_integer_beyond_its_space_is_an_error():
    env = with_observation(lambda x: 3)
    env.observation_space = Discrete(3)
    assert "at index [], where the bounds are 0 and 2" in found(env)[0]


def test_old_reset_and_reset_without_seed_are_errors():
    class OldReset(Walk):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0]

    class NoSeed(Walk):
        def reset(self):
            return super().reset()

    assert "reset(): expected (observation, info)" in found(OldReset())[0]
    assert "reset(self, *, seed=None, options=None)" in found(NoSeed())[0]


def test_exception_is_told_with_its_place():
    def fail(*values):
        raise ZeroDivisionError("no wheel")

    text = found(with_result(fail))[0]
    assert "step 1: step(): expected no exception, got ZeroDivisionError: no wheel" in text
    assert "test_env_checker.py:" in text and "in fail" in text


def test_action_beyond_the_middle_of_its_range_is_tried():
    class Narrow(Walk):
        def step(self, action):
            assert action < 1, "too large"
            return super().step(action)

    assert "AssertionError: too large" in found(Narrow(Box(0.0, 1.0, (), np.float32)))[0]


def test_random_numbers_that_the_seed_does_not_reach_are_a_warning():
    rng = np.random.default_rng()
    texts = found(with_observation(lambda x: rng.uniform(-1, 1, 4).astype(np.float32)), "warning")
    assert "warning: step 0: reset(seed): expected the same" in texts[0]


def test_chance_in_step_that_the_seed_does_not_reach_is_a_warning():
    rng = np.random.default_rng()
    texts = found(with_result(lambda o, r, *rest: (o, rng.uniform(), *rest)), "warning")
    assert "warning: step 1: step(): expected the same" in texts[0]


def test_seeds_that_make_no_difference_are_a_warning():
    class Still(Walk):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=0)

    assert "other episodes for other seeds" in found(Still(), "warning")[0]


def test_observation_that_is_written_again_is_a_warning():
    class Aliased(Walk):
        buffer = np.zeros(4, np.float32)

        def observation(self):
            self.buffer[:] = self.position
            return self.buffer

    assert "a returned observation to stay as it is" in found(Aliased(), "warning")[0]


def test_action_that_is_written_to_is_a_warning():
    class Writes(Walk):
        def step(self, action):
            action *= 0.5
            return super().step(action)

    assert "step() to leave its action as it is" in found(Writes(Box(-1.0, 1.0, (2, ), np.float32)), "warning")[0]


def test_episodes_that_never_end_are_a_warning_unless_there_is_a_time_limit():
    env = with_result(lambda o, r, t, u, i: (o, r, False, False, i))
    assert "or a time limit" in found(env, "warning")[0]
    assert found(env, time_limit=50) == []


def test_unbounded_actions_are_a_warning():
    assert "action: expected finite bounds" in found(Walk(Box(-np.inf, np.inf, (2, ), np.float32)), "warning")[0]


def test_picture_of_another_shape_is_a_warning():
    env = Walk()
    env.metadata, env.render_mode = {"render_modes": ["rgb_array"]}, "rgb_array"
    env.render = lambda: np.zeros((3, 8, 8), np.uint8)
    assert "a uint8 array [height, width, 3]" in found(env, "warning")[0]


def test_environment_is_wrapped_as_in_training_and_its_time_limit_counts():
    endless = with_result(lambda o, r, t, u, i: (o, r, False, False, i))
    assert check_environment(lambda: suite_gym.wrap_env(endless, max_episode_steps=20)) == []


def test_environments_that_are_not_of_gymnasium_are_checked_as_well():
    observation = BoundedTensorSpec((3, ), "float32", -1.0, 1.0)
    action = BoundedTensorSpec((2, ), "float32", -1.0, 1.0)
    assert check_environment(lambda: RandomAlfEnvironment(observation, action)) == []
    assert check_environment(lambda: ValueUnittestEnv(2, 5, action_type=ActionType.Discrete)) == []


def broken_random_environment(**changes):
    class Broken(RandomAlfEnvironment):
        def _step(self, action):
            return super()._step(action)._replace(**changes)

    return Broken(BoundedTensorSpec((3, ), "float32", -1.0, 1.0), BoundedTensorSpec((), "int64", 0, 1))


@pytest.mark.parametrize("changes, words", [
    ({"observation": np.zeros(3)}, "observation: expected shape (3,) and dtype float32 of its spec"),
    ({"observation": np.full(3, 7, np.float32)}, "observation: expected numbers within"),
    ({"reward": np.float32(np.inf)}, "reward: expected finite numbers"),
    ({"step_type": np.int32(StepType.FIRST)}, "step_type: expected FIRST after LAST"),
    ({"step_type": np.int32(StepType.MID), "discount": np.float32(0)}, "discount: expected numbers from 0 to 1"),
    ({"observation": ()}, "observation: expected the structure of its spec"),
])
def test_wrong_time_steps_are_errors(changes, words):
    findings = check_environment(lambda: broken_random_environment(**changes))
    assert any(words in str(finding) and finding.severity == "error" for finding in findings), findings


def test_state_from_which_an_environment_goes_on_otherwise_is_an_error():
    class Forgets(RandomAlfEnvironment):
        def get_state(self):
            return {}

        def set_state(self, state):
            pass

    specs = BoundedTensorSpec((3, ), "float32", -1.0, 1.0), BoundedTensorSpec((), "int64", 0, 1)
    findings = check_environment(lambda: Forgets(*specs))
    assert [finding.path for finding in findings] == ["get_state()"]


def test_environment_that_cannot_be_made_is_an_error():
    findings = check_environment(lambda: suite_gym.load("CartPoll-v1"))
    assert findings[0].severity == "error" and "CartPole-v1" in str(findings[0])
