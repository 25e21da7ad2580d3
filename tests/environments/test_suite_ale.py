"""Atari games through ale-py's native batch."""

import numpy as np
import pytest
import torch

pytest.importorskip("ale_py.vector_env")

import alf.environments.suite_ale as suite_ale  # noqa: E402
import alf.nest as nest  # noqa: E402
from alf.environments._rows import FIRST, LAST, MID  # noqa: E402
from alf.environments.utils import create_environment  # noqa: E402
from alf.tensor_specs import BoundedTensorSpec  # noqa: E402


@pytest.mark.parametrize(
    "name, rom",
    [
        ("pong", "pong"),
        ("Pong", "pong"),
        ("ALE/SpaceInvaders-v5", "space_invaders"),
        ("MsPacmanNoFrameskip-v4", "ms_pacman"),
        ("BreakoutDeterministic-v4", "breakout"),
        ("Qbert-v0", "qbert"),
        ("space_invaders", "space_invaders"),
    ],
)
def test_every_name_of_a_game_leads_to_its_rom(name, rom):
    assert suite_ale.rom_name(name) == rom


@pytest.fixture
def load():
    made = []

    def make(*args, **kwargs):
        made.append(suite_ale.load(*args, num_threads=1, **kwargs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def test_specs_follow_screen_size_gray_scale_and_action_space(load):
    env = load("pong", batch_size=2)
    assert env.observation_spec() == BoundedTensorSpec((4, 84, 84), torch.uint8, 0, 255)
    assert env.action_spec() == BoundedTensorSpec((), torch.int64, 0, 5)
    assert load("pong", full_action_space=True).action_spec().maximum == 17
    assert load("pong", gray_scale=False, screen_size=40).observation_spec().shape == (12, 40, 40)


def test_time_limit_of_the_emulator_keeps_the_discount(load):
    env = load("breakout", batch_size=2, env_id=3, discount=0.9, max_frames_per_episode=60, noop_max=1)
    env.seed(0)
    step, types = env.reset(), []
    assert step.env_id.tolist() == [6, 7]
    for _ in range(40):
        types.append(step.step_type.tolist())
        last, first = step.is_last(), step.is_first()
        assert torch.equal(step.discount, torch.where(first, 1.0, 0.9))
        assert not step.prev_action[first].any() and (step.prev_action[~first] == 2).all()
        step = env.step(torch.full((2,), 2))
        assert torch.equal(step.is_first(), last)
    assert {t for row in types for t in row} == {FIRST, MID, LAST}


def test_life_loss_terminates_if_asked(load):
    env = load("breakout", batch_size=1, terminal_on_life_loss=True)
    env.seed(0)
    step = env.reset()
    for _ in range(400):
        if step.is_last():
            break
        step = env.step(torch.tensor([1]))
    assert step.is_last() and step.discount == 0 and step.env_info["lives"].tolist() == [4]


def test_seed_decides_the_game(load):
    frames = []
    for seed in (1, 1, 2):
        env = load("breakout", batch_size=1)
        env.seed(seed)
        env.reset()
        frames.append(torch.stack([env.step(torch.tensor([t % 4])).observation for t in range(30)]))
    assert torch.equal(frames[0], frames[1]) and not torch.equal(frames[0], frames[2])


def test_time_steps_stay_valid(load):
    env = load("pong", batch_size=1)
    env.reserve_rows(10)
    env.reset()
    kept = env.step(torch.tensor([2]))
    copy = nest.map_structure(torch.clone, kept)
    for _ in range(env.num_valid_steps):
        env.step(torch.tensor([3]))
    assert env.num_valid_steps == 9
    nest.map_structure(lambda leaf, before: torch.testing.assert_close(leaf, before, rtol=0, atol=0), kept, copy)
    env.step(torch.tensor([3]))
    assert torch.equal(kept.observation, copy.observation) and kept.prev_action.tolist() == [3]


def test_colour_frames_are_stacked_channels(load):
    env = load("pong", batch_size=1, gray_scale=False)
    observation = env.reset().observation[0]
    image = env.render()
    assert image.shape == (84, 84, 3)
    np.testing.assert_array_equal(image, observation[-3:].permute(1, 2, 0).numpy())


def test_create_environment_makes_one_native_batch():
    env = create_environment("ALE/Pong-v5", suite_ale.load, num_parallel_environments=3)
    assert isinstance(env, suite_ale.AleEnvironment) and env.batch_size == 3
    env.close()
    env.close()


def test_unknown_game_suggests_the_nearest():
    with pytest.raises(ValueError, match="got 'Pongg'. Did you mean pong"):
        suite_ale.load("Pongg")


def test_time_steps_are_on_the_default_device(load):
    assert load("pong").num_valid_steps == 3
    with torch.device("meta"):  # stands for a GPU
        env = load("pong", batch_size=2)
        step = env.reset()
    assert {leaf.device.type for leaf in nest.flatten(step)} == {"meta"}
    assert step.observation.shape == (2, 4, 84, 84) and env.num_valid_steps is None
