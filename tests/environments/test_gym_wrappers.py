"""Wrappers of Gymnasium environments."""

import gymnasium
import numpy as np
import pytest

import alf.environments.gym_wrappers as gym_wrappers

spaces = gymnasium.spaces
IMAGE = spaces.Box(0, 255, (4, 6, 3), np.uint8)


class Images(gymnasium.Env):
    """Shows image number t: pixel (y, x, c) = 20 * t + y * 6 + x, the same in every channel."""

    action_space = spaces.Discrete(2)

    def __init__(self, nested=False, length=100):
        self.nested, self.length = nested, length
        self.observation_space = spaces.Dict(cam=spaces.Tuple([IMAGE]), pos=spaces.Box(0, 1, (1,))) if nested else IMAGE

    def image(self):
        grid = 20 * self.t + np.arange(24).reshape(4, 6, 1)
        image = np.repeat(grid, 3, axis=2).astype(np.uint8)
        return {"cam": (image,), "pos": np.zeros(1, np.float32)} if self.nested else image

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.image(), {}

    def step(self, action):
        self.t += 1
        return self.image(), 1.5, self.t == self.length, False, {}


def test_channels_first_moves_the_last_axis():
    env = gym_wrappers.ImageChannelFirst(Images())
    observation, _ = env.reset()
    assert env.observation_space == spaces.Box(0, 255, (3, 4, 6), np.uint8)
    np.testing.assert_array_equal(observation[1], np.arange(24).reshape(4, 6))


@pytest.mark.parametrize("fields", [None, ["cam.0"]])
def test_channels_first_finds_images_in_a_nested_observation(fields):
    env = gym_wrappers.ImageChannelFirst(Images(nested=True), fields)
    observation, _ = env.reset()
    assert observation["cam"][0].shape == (3, 4, 6) == env.observation_space["cam"][0].shape
    assert observation["pos"].shape == (1,)
    assert env.observation_space.contains(observation)


def test_wrong_field_is_an_error():
    with pytest.raises(ValueError, match="expected a path into .* got 'cam.1'"):
        gym_wrappers.FrameGrayScale(Images(nested=True), fields=["cam.1"])


@pytest.mark.parametrize("order, axis", [("channels_last", 2), ("channels_first", 0)])
def test_frame_stack_holds_the_last_frames_in_order(order, axis):
    inner = Images()
    env = gym_wrappers.FrameStack(inner if axis == 2 else gym_wrappers.ImageChannelFirst(inner), 3, order)
    pixel = (lambda o: o[0, 0].tolist()) if axis == 2 else (lambda o: o[:, 0, 0].tolist())
    first, _ = env.reset()
    assert pixel(first) == [0] * 9
    assert first.shape == env.observation_space.shape
    second = env.step(0)[0]
    third = env.step(0)[0]
    assert pixel(second) == [0] * 6 + [20] * 3
    assert pixel(third) == [0] * 3 + [20] * 3 + [40] * 3
    assert pixel(second) == [0] * 6 + [20] * 3
    assert pixel(env.reset()[0]) == [0] * 9


def test_frame_stack_of_a_vector_and_of_a_field():
    env = gym_wrappers.FrameStack(gymnasium.make("CartPole-v1"), 2)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (8,) and np.array_equal(observation[:4], observation[4:])
    env = gym_wrappers.FrameStack(Images(nested=True), 2, fields=["pos", "cam.0"])
    observation, _ = env.reset()
    assert observation["pos"].shape == (2,) and observation["cam"][0].shape == (4, 6, 6)
    assert env.observation_space.contains(observation)


def test_frame_skip_sums_rewards_and_stops_at_the_end():
    env = gym_wrappers.FrameSkip(Images(length=5), 3)
    env.reset()
    assert env.step(0)[1:3] == (4.5, False)
    observation, reward, terminated, _, _ = env.step(0)
    assert (reward, terminated) == (3.0, True) and observation[0, 0, 0] == 100


def test_resize_averages_areas():
    env = gym_wrappers.FrameResize(Images(), width=3, height=2)
    observation, _ = env.reset()
    assert env.observation_space == spaces.Box(0, 255, (2, 3, 3), np.uint8)
    # The mean of pixels 0, 1, 6, 7 is 3.5.
    assert observation[0, 0, 0] in (3, 4) and env.observation_space.contains(observation)


def test_grey_keeps_a_channel():
    env = gym_wrappers.FrameGrayScale(Images())
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation[:, :, 0], np.arange(24).reshape(4, 6))
    assert env.observation_space.contains(observation)
    resized = gym_wrappers.FrameResize(env, width=3, height=2)
    assert resized.reset()[0].shape == (2, 3, 1)


@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
def test_crop_cuts_the_window(order):
    inner = Images() if order == "channels_last" else gym_wrappers.ImageChannelFirst(Images())
    env = gym_wrappers.FrameCrop(inner, sx=1, sy=2, width=3, height=2, channel_order=order)
    observation, _ = env.reset()
    window = observation[:, :, 0] if order == "channels_last" else observation[0]
    assert window.tolist() == [[13, 14, 15], [19, 20, 21]]
    assert env.observation_space.contains(observation)


def test_crop_outside_the_image_is_an_error():
    with pytest.raises(ValueError, match="expected a window inside 4 x 6 pixels"):
        gym_wrappers.FrameCrop(Images(), sx=5, width=3, height=2)


def test_random_crop_stays_for_an_episode_and_is_seeded():
    env = gym_wrappers.EpisodicRandomFrameCrop(Images(), cropping_fraction=0.5)
    assert env.observation_space.shape == (2, 3, 3)
    corners = set()
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        corner = int(observation[0, 0, 0])
        np.testing.assert_array_equal(observation[:, :, 0] - corner, [[0, 1, 2], [6, 7, 8]])
        assert env.step(0)[0][0, 0, 0] - 20 == corner
        assert env.reset(seed=seed)[0][0, 0, 0] == corner
        corners.add(corner)
    assert corners == {y * 6 + x for y in range(3) for x in range(4)}


@pytest.mark.parametrize("up_down, left_right, corner", [(1.0, 0.0, 18), (0.0, 1.0, 5), (1.0, 1.0, 23), (0.0, 0.0, 0)])
@pytest.mark.parametrize("order", ["channels_last", "channels_first"])
def test_flip_turns_the_image(up_down, left_right, corner, order):
    inner = Images() if order == "channels_last" else gym_wrappers.ImageChannelFirst(Images())
    env = gym_wrappers.FrameFlip(inner, up_down, left_right, order)
    observation, _ = env.reset()
    assert observation[0, 0, 0] == corner


class Continuous(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (1,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.action = action
        return np.zeros(1, np.float32), 0.0, True, True, {}


def test_clip_keeps_actions_inside():
    env = gym_wrappers.ContinuousActionClip(Continuous(spaces.Box(-2, 2, (3,))), max_v=1.0)
    env.step(np.array([-5, 0.5, 5], np.float32))
    assert env.unwrapped.action.tolist() == [-2, 0.5, 1]
    assert env.action_space == spaces.Box(-2, 1, (3,))


def test_normalized_action_reaches_the_bounds_also_when_nested():
    space = spaces.Dict(
        a=spaces.Box(np.array([0.0, 10.0], np.float32), np.array([4.0, 30.0], np.float32)),
        b=spaces.Tuple([spaces.Discrete(3)]),
    )
    env = gym_wrappers.NormalizedAction(Continuous(space))
    assert env.action_space["a"] == spaces.Box(-1, 1, (2,)) and env.action_space["b"] == space["b"]
    for outside, inside in ((-1, [0, 10]), (0, [2, 20]), (1, [4, 30])):
        env.step({"a": np.full(2, outside, np.float32), "b": (1,)})
        assert env.unwrapped.action["a"].tolist() == inside and env.unwrapped.action["b"] == (1,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_rounding_leads_out_of_the_bounds(dtype):
    rng = np.random.default_rng(0)
    low = np.round(rng.uniform(-20, 20, 2000), 2).astype(dtype)
    high = low + np.round(rng.uniform(0, 10, 2000), 2).astype(dtype)
    for outer in (-1.0, 1.0), (0.0, 10.0):
        env = gym_wrappers.ContinuousActionMapping(Continuous(spaces.Box(low, high, dtype=dtype)), *outer)
        for action in (*outer, *rng.uniform(*outer, 20)):
            inside = env.action(np.full(2000, action, dtype))
            assert ((low <= inside) & (inside <= high)).all()
        ends = np.stack([env.action(np.full(2000, end, dtype)) for end in outer])
        assert (np.abs(ends - [low, high]) <= 4 * np.spacing(np.maximum(np.abs(low), np.abs(high)))).all()


def test_clip_makes_no_bounds_of_its_own_where_there_are_none():
    space = spaces.Box(np.array([-np.inf, 0.0], np.float32), np.array([np.inf, np.inf], np.float32))
    env = gym_wrappers.ContinuousActionClip(Continuous(space))
    assert env.action_space == space
    env.step(np.array([-1e20, -1e20], np.float32))
    assert env.unwrapped.action.tolist() == [-1e9, 0]
    env = gym_wrappers.ContinuousActionClip(Continuous(space), min_v=-5.0, max_v=5.0)
    assert env.action_space == spaces.Box(np.array([-5.0, 0.0], np.float32), np.float32(5.0), (2,))


def test_mapping_from_other_bounds():
    env = gym_wrappers.ContinuousActionMapping(Continuous(spaces.Box(-1, 1, (1,))), low=0, high=10)
    env.step(np.array([7.5], np.float32))
    assert env.unwrapped.action == pytest.approx([0.5])


def test_normalizing_an_unbounded_action_is_an_error():
    with pytest.raises(ValueError, match="expected finite action bounds.*normalize_action=False"):
        gym_wrappers.NormalizedAction(Continuous(spaces.Box(-np.inf, np.inf, (1,))))


def test_non_episodic_env_never_ends():
    env = gym_wrappers.NonEpisodicEnv(Continuous(spaces.Box(-1, 1, (1,))))
    assert env.step(np.zeros(1, np.float32))[2:4] == (False, False)


@pytest.fixture(scope="module")
def ale():
    pytest.importorskip("cv2")
    return pytest.importorskip("ale_py")


def make_atari(game, **kwargs):
    return gymnasium.make(
        f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0, disable_env_checker=True, **kwargs
    ).unwrapped


def test_atari_observation_is_the_small_maximum_of_two_frames(ale):
    import cv2

    gymnasium.register_envs(ale)
    env = gym_wrappers.DMAtariPreprocessing(make_atari("Pong"), noop_max=0)
    env.reset(seed=1)
    twin = make_atari("Pong", obs_type="grayscale")
    twin.reset(seed=1)
    twin.step(1)  # FIRE
    for action in (2, 2, 3, 0, 5, 4):
        observation, reward, terminated, truncated, info = env.step(action)
        frames, rewards = zip(*[twin.step(action)[:2] for _ in range(4)], strict=True)
        expected = cv2.resize(np.maximum(frames[2], frames[3]), (84, 84), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(observation[:, :, 0], expected)
        assert reward == sum(rewards) and info == {"lives": 0}
    assert env.observation_space.contains(observation)


def test_atari_through_a_wrapper_equals_the_bare_game(ale):
    gymnasium.register_envs(ale)
    bare = gym_wrappers.DMAtariPreprocessing(make_atari("Breakout"))
    wrapped = gym_wrappers.DMAtariPreprocessing(gymnasium.Wrapper(make_atari("Breakout")))
    observations = [env.reset(seed=3)[0] for env in (bare, wrapped)]
    np.testing.assert_array_equal(*observations)
    for t in range(60):
        one, other = bare.step(t % 4), wrapped.step(t % 4)
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def test_atari_with_a_frame_skip_of_its_own_is_an_error(ale):
    gymnasium.register_envs(ale)
    with pytest.raises(ValueError, match="got frameskip=4"):
        gym_wrappers.DMAtariPreprocessing(gymnasium.make("ALE/Pong-v5"))


def test_atari_preprocessing_of_another_environment_is_an_error():
    with pytest.raises(ValueError, match="expected an Atari environment"):
        gym_wrappers.DMAtariPreprocessing(gymnasium.make("CartPole-v1"))
