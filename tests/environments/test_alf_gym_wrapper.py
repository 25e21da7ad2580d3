"""AlfGymWrapper: time steps from Gymnasium environments."""

import logging

import gymnasium
import numpy as np
import pytest
import torch

from alf.environments._rows import FIRST, LAST, MID, Rows
from alf.environments.alf_gym_wrapper import AlfGymWrapper
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

spaces = gymnasium.spaces


class Counter(gymnasium.Env):
    """Observation = number of steps; ends at ``length`` steps in the way of ``ending``."""

    observation_space = spaces.Box(0, 100, (1,))
    action_space = spaces.Discrete(3)

    def __init__(self, length=3, ending="terminated", info=None, **results):
        self.length, self.ending, self.info, self.results = length, ending, info or (lambda t: {}), results
        self.actions, self.seeds = [], []

    def observe(self):
        return np.full(1, self.t, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.seeds.append(seed)
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        end = self.t == self.length
        result = dict(
            observation=self.observe(),
            reward=float(10 * self.t),
            terminated=end and self.ending != "truncated",
            truncated=end and self.ending != "terminated",
            info=self.info(self.t),
        )
        result.update(self.results)
        return tuple(result.values())


def drive(env, actions):
    return [env.reset()] + [env.step(np.asarray(a)) for a in actions]


def test_episode_has_first_mid_last_and_starts_again():
    steps = drive(AlfGymWrapper(Counter(), env_id=4), [1, 2, 1, 2, 1])
    assert [int(s.step_type) for s in steps] == [FIRST, MID, MID, LAST, FIRST, MID]
    assert [float(s.reward) for s in steps] == [0, 10, 20, 30, 0, 10]
    assert [float(s.discount) for s in steps] == [1, 1, 1, 0, 1, 1]
    assert [float(s.observation[0]) for s in steps] == [0, 1, 2, 3, 0, 1]
    assert [int(s.prev_action) for s in steps] == [0, 1, 2, 1, 0, 1]
    assert {int(s.env_id) for s in steps} == {4}


@pytest.mark.parametrize("ending, discount", [("terminated", 0.0), ("truncated", 0.5), ("both", 0.0)])
def test_termination_has_discount_zero_and_truncation_keeps_it(ending, discount):
    steps = drive(AlfGymWrapper(Counter(ending=ending), discount=0.5), [0, 0, 0])
    assert [float(s.discount) for s in steps] == [1, 0.5, 0.5, discount]
    assert int(steps[-1].step_type) == LAST


def test_leaves_are_numpy_of_the_dtype_of_the_spec():
    env = AlfGymWrapper(Counter())
    step = drive(env, [1])[-1]
    assert (step.step_type.dtype, step.reward.dtype, step.discount.dtype) == (
        np.int32,
        np.float32,
        np.float32,
    )
    assert (step.observation.dtype, step.prev_action.dtype, step.env_id.dtype) == (
        np.float32,
        np.int64,
        np.int32,
    )
    assert not env.batched and not env.is_tensor_based and env.batch_size == 1


def test_without_auto_reset_the_environment_is_stepped_on():
    steps = drive(AlfGymWrapper(Counter(), auto_reset=False), [0] * 4)
    assert float(steps[-1].observation[0]) == 4


def test_done_is_true_from_last_to_the_next_first():
    env = AlfGymWrapper(Counter(length=1))
    env.reset()
    assert not env.done
    env.step(np.asarray(0))
    assert env.done
    env.step(np.asarray(0))
    assert not env.done


def test_rows_hold_what_step_returns():
    info = lambda t: {"speed": 0.5 * t, "flags": np.array([t, -t])}  # noqa: E731
    by_step = AlfGymWrapper(Counter(info=info), discount=0.9)
    by_rows = AlfGymWrapper(Counter(info=info), discount=0.9)
    rows = Rows.allocate(by_rows, 3)
    expected = by_step.reset()
    step_types = [by_rows.reset_into(rows, 1)]
    for action in [0, 1, 2, 0, 1, 2, 0, 1, 2]:
        assert rows.step_type[1] == expected.step_type == step_types[-1]
        assert rows.reward[1] == expected.reward
        assert rows.discount[1] == expected.discount
        np.testing.assert_array_equal(rows.observation[0][1], expected.observation)
        np.testing.assert_array_equal(rows.env_info[0][1], expected.env_info["flags"])
        np.testing.assert_array_equal(rows.env_info[1][1], expected.env_info["speed"])
        expected = by_step.step(np.asarray(action))
        step_types.append(by_rows.step_into(rows, 1, action))
    assert rows.step_type[0] == rows.step_type[2] == 0 and not rows.observation[0][[0, 2]].any()


def test_seed_is_given_to_the_first_reset_only():
    counter = Counter(length=1)
    env = AlfGymWrapper(counter)
    env.env_info_spec()
    counter.seeds.clear()
    env.seed(5)
    drive(env, [0, 0])
    assert counter.seeds == [5, None]


def test_env_info_is_learned_from_the_first_step_and_zero_where_missing():
    env = AlfGymWrapper(Counter(info=lambda t: {"speed": 2.0, "deep": {"n": 3}} if t < 3 else {}))
    assert env.env_info_spec() == {"speed": TensorSpec(()), "deep": {"n": TensorSpec((), torch.int64)}}
    steps = drive(env, [0, 0, 0])
    assert [float(s.env_info["speed"]) for s in steps] == [0, 2, 2, 0]
    assert [int(s.env_info["deep"]["n"]) for s in steps] == [0, 3, 3, 0]


def test_info_that_is_not_numeric_is_left_out_with_one_warning(caplog):
    env = AlfGymWrapper(Counter(info=lambda t: {"text": "x", "speed": 1.0, "none": None}))
    with caplog.at_level(logging.WARNING):
        drive(env, [0] * 8)
    assert list(env.env_info_spec()) == ["speed"]
    assert len(caplog.records) == 1 and "none, text" in caplog.text


def test_info_that_appears_late_is_reported_once(caplog):
    env = AlfGymWrapper(Counter(info=lambda t: {"success": 1.0} if t == 3 else {}))
    with caplog.at_level(logging.WARNING):
        drive(env, [0] * 12)
    assert len(caplog.records) == 1 and "success" in caplog.text


def test_info_of_another_shape_is_an_error():
    env = AlfGymWrapper(Counter(info=lambda t: {"n": np.zeros(1 if t < 2 else 2)}))
    env.reset()
    env.step(np.asarray(0))
    with pytest.raises(ValueError, match=r"info\['n'\]: expected shape \(1,\).*got \(2,\)"):
        env.step(np.asarray(0))


def test_get_info_returns_everything():
    env = AlfGymWrapper(Counter(info=lambda t: {"text": "x"}))
    drive(env, [0])
    assert env.get_info() == {"text": "x"}


@pytest.mark.parametrize("as_space", [True, False])
def test_reward_of_several_dimensions(as_space):
    counter = Counter(reward=np.array([1.0, 2.0]))
    if as_space:
        counter.reward_space = spaces.Box(-1, 5, (2,))
        expected = BoundedTensorSpec((2,), torch.float32, -1, 5)
    else:
        counter.reward_spec = expected = TensorSpec((2,))
    env = AlfGymWrapper(counter)
    assert env.reward_spec() == expected
    first, step = drive(env, [0])
    assert first.reward.tolist() == [0, 0] and step.reward.tolist() == [1, 2]
    rows = Rows.allocate(env, 1)
    env.step_into(rows, 0, 1)
    assert rows.reward.tolist() == [[1, 2]]


BAD_RESULTS = [
    (dict(observation=np.zeros(1)), "observation: expected dtype float32"),
    (dict(observation=np.zeros(5, np.float32)), r"observation: expected shape \(1,\)"),
    (dict(observation=[0.0]), "observation: expected a NumPy array .*list"),
    (dict(reward=np.zeros(2)), "reward: expected a number, got ndarray"),
    (dict(reward=None), "reward: expected a number, got NoneType"),
    (dict(reward="1"), "reward: expected a number, got str"),
    (dict(terminated="False"), r"terminated: expected a bool, got str 'False'.*bool\(terminated\)"),
    (dict(truncated=None), "truncated: expected a bool, got NoneType"),
    (dict(info=None), "info: expected a dictionary"),
]


class BadLater(Counter):
    """Returns something wrong from its third step of all on (the first is the one that learns env_info)."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.num_steps = bad, 0

    def step(self, action):
        self.num_steps += 1
        self.results = self.bad if self.num_steps >= 3 else {}
        return super().step(action)


@pytest.mark.parametrize("through_rows", [False, True])
@pytest.mark.parametrize("bad, words", BAD_RESULTS)
def test_wrong_step_result_is_an_error_with_the_environment(bad, words, through_rows):
    env = AlfGymWrapper(BadLater(bad), env_id=7)
    rows = Rows.allocate(env, 1)
    act = (lambda: env.step_into(rows, 0, 1)) if through_rows else (lambda: env.step(np.asarray(1)))
    act()
    act()
    with pytest.raises(ValueError, match=r"BadLater \(env_id 7\): " + words):
        act()


@pytest.mark.parametrize("through_rows", [False, True])
def test_four_values_hint_at_the_old_api(through_rows):

    class Old(Counter):
        broken = False

        def step(self, action):
            result = super().step(action)
            return result[:2] + result[3:] if self.broken else result

    env = AlfGymWrapper(Old())
    rows = Rows.allocate(env, 1)
    env.reset()
    env.gym.broken = True
    with pytest.raises(ValueError, match="got 4 values.*old gym"):
        env.step_into(rows, 0, 1) if through_rows else env.step(np.asarray(1))


def test_reset_without_info_hints_at_the_old_api():

    class Old(Counter):
        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32)

    with pytest.raises(ValueError, match=r"reset\(\): expected \(observation, info\).*old gym"):
        AlfGymWrapper(Old()).reset()


@pytest.mark.parametrize(
    "bad, words",
    [
        (dict(reward=float("nan")), "reward: expected a finite number"),
        (dict(observation=np.full(1, np.inf, np.float32)), "observation: expected finite numbers"),
    ],
)
def test_nan_and_infinity_are_errors(bad, words):
    env = AlfGymWrapper(Counter(**bad))
    env.reset()
    with pytest.raises(ValueError, match=words):
        env.step(np.asarray(0))


def test_returned_observation_is_a_copy():

    class Reuses(Counter):
        buffer = np.zeros(1, np.float32)

        def observe(self):
            self.buffer[0] = self.t
            return self.buffer

    steps = drive(AlfGymWrapper(Reuses()), [0, 0])
    assert [float(s.observation[0]) for s in steps] == [0, 1, 2]


def test_nested_observation_and_action():

    class Nested(gymnasium.Env):
        observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (2, 2, 1), np.uint8),
            pair=spaces.Tuple([spaces.Discrete(3, start=5), spaces.MultiBinary(2)]),
        )
        action_space = spaces.Dict(move=spaces.Discrete(2, start=1), force=spaces.Box(-1, 1, (2,)))

        def reset(self, *, seed=None, options=None):
            return {"pair": (6, np.array([1, 0], np.int8)), "image": np.full((2, 2, 1), 9, np.uint8)}, {}

        def step(self, action):
            self.action = action
            return self.reset()[0], 1, False, False, {}

    env = AlfGymWrapper(Nested())
    env.reset()
    action = {"move": np.asarray(1), "force": np.array([0.5, -0.5], np.float32)}
    step = env.step(action)
    assert env.gym.action["move"] == 2 and env.gym.action_space.contains(env.gym.action)
    assert step.observation["image"].dtype == np.uint8 and step.observation["image"].shape == (2, 2, 1)
    assert step.observation["pair"][0] == 1 and step.observation["pair"][1].tolist() == [1, 0]
    assert step.prev_action["move"] == 1
    rows = Rows.allocate(env, 2)
    env.step_into(rows, 1, action)
    assert rows.observation[0][1, 0, 0, 0] == 9
    assert rows.observation[1].tolist() == [0, 1] and rows.observation[2].tolist() == [[0, 0], [1, 0]]


def test_no_environment_is_an_error():
    with pytest.raises(TypeError, match="expected a gymnasium.Env .* got int"):
        AlfGymWrapper(3)


@pytest.mark.parametrize("discount", [-0.1, 1.5])
def test_discount_outside_the_unit_interval_is_an_error(discount):
    with pytest.raises(ValueError, match="0 <= discount <= 1"):
        AlfGymWrapper(Counter(), discount=discount)


def test_render_with_an_unknown_mode_names_the_known_ones():
    env = AlfGymWrapper(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match="expected a render mode of .*rgb_array.* got 'ascii'"):
        env.render("ascii")


def test_close_can_be_called_twice():
    closed = []

    class Closes(Counter):
        def close(self):
            closed.append(1)

    env = AlfGymWrapper(Closes())
    env.close()
    env.close()
    assert closed == [1]


def test_reward_that_is_written_again_stays_as_it_was():
    reward = np.ones(2, np.float32)
    counter = Counter(reward=reward)
    counter.reward_space = spaces.Box(-1, 5, (2,))
    _, step = drive(AlfGymWrapper(counter), [0])
    reward[:] = 3
    assert step.reward.tolist() == [1, 1]
