"""Atari games through the native batch of ale-py: emulation and preprocessing on C++ threads."""

from __future__ import annotations

import difflib
import re
from typing import Any, Callable, Sequence

import numpy as np
import torch

from alf._install import how_to_install
from alf.config_util import configurable
from alf.data_structures import TimeStep, time_step_spec
from alf.device_ctx import get_default_device
from alf.environments._rows import FIRST, LAST, MID
from alf.environments._time_step_ring import Row, TimeStepRing, action_array, any_true
from alf.environments.alf_environment import AlfEnvironment
from alf.nest.utils import convert_device
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


class AleEnvironment(AlfEnvironment):
    """A batch of one Atari game as an AlfEnvironment.

    The tensors of a returned TimeStep, but for the observation, alias rows of a ring. They stay as they are for
    ``num_valid_steps`` further steps: clone what is kept longer, or ask for more with :meth:`reserve_rows`.

    Observations are uint8 ``[B, stack, height, width]`` (grey) or ``[B, stack * 3, height, width]``.
    ``env_info`` has ``lives`` and ``frame_number`` (of the episode).

    Args:
        vector_env: an ``ale_py.vector_env.AtariVectorEnv`` with ``autoreset_mode`` NextStep.
        discount: discount of every step that is not a termination.
        first_env_id: ``env_id`` of row 0.
    """

    def __init__(self, vector_env: Any, discount: float = 1.0, first_env_id: int = 0):
        if not 0 <= discount <= 1:
            raise ValueError(f"AleEnvironment.discount: expected 0 <= discount <= 1, got {discount}.")
        self._vector_env = vector_env
        self._batch_size = vector_env.num_envs
        self._discount = discount
        self._device = get_default_device()
        self._seed: int | None = None
        self._closed = False
        self._info: dict = {}
        space = vector_env.single_observation_space
        shape = space.shape
        self._channels_last = len(shape) == 4  # [stack, height, width, 3]
        if self._channels_last:
            shape = (shape[0] * 3,) + shape[1:3]
        self._observation_spec = BoundedTensorSpec(shape, torch.uint8, 0, 255)
        self._action_spec = BoundedTensorSpec((), torch.int64, 0, int(vector_env.single_action_space.n) - 1)
        self._env_ids = torch.arange(first_env_id, first_env_id + self._batch_size, dtype=torch.int32, device="cpu")
        row_spec = time_step_spec((), self._action_spec, self.reward_spec())
        row_spec = row_spec._replace(env_info=self.env_info_spec(), env_id=())
        self._ring = TimeStepRing(row_spec, self._batch_size, self._env_ids)
        self._ended: np.ndarray | None = None  # where episodes ended in the latest step; None: nowhere

    @property
    def is_tensor_based(self) -> bool:
        """True."""
        return True

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of games."""
        return self._batch_size

    @property
    def num_valid_steps(self) -> int | None:
        """For how many further steps the tensors of a returned TimeStep stay untouched; None: for ever."""
        return self._ring.num_rows - 1 if self._device == "cpu" else None

    def reserve_rows(self, num_time_steps: int) -> None:
        """Let at least ``num_time_steps`` successive time steps be valid together.

        Raises:
            RuntimeError: if the environment has been reset already with fewer.
        """
        self._ring.reserve(num_time_steps)

    def env_info_spec(self) -> dict:
        """Return the specs of ``lives`` and ``frame_number``."""
        return dict(frame_number=TensorSpec((), torch.int32), lives=TensorSpec((), torch.int32))

    def observation_spec(self) -> BoundedTensorSpec:
        """Return the spec of the stacked frames."""
        return self._observation_spec

    def action_spec(self) -> BoundedTensorSpec:
        """Return the spec of the joystick positions."""
        return self._action_spec

    def seed(self, seed: Any) -> None:
        """Seed all games from the next reset on: ``seed + i`` for row ``i``, or ``seed[i]``."""
        self._seed = int(seed) if np.ndim(seed) == 0 else np.asarray(seed, np.int64)

    def get_info(self) -> dict:
        """Return the info of ale-py, arrays ``[B]``."""
        return self._info

    def close(self) -> None:
        """Stop the emulator threads."""
        if not self._closed:
            self._closed = True
            self._vector_env.close()

    def render(self, mode: str = "rgb_array") -> np.ndarray:
        """Return the newest frame of game 0 as the agent sees it, uint8 ``[height, width, 3]``."""
        if mode != "rgb_array":
            raise ValueError(f"AleEnvironment.render: expected mode 'rgb_array', got {mode!r}.")
        frames = self.current_time_step().observation[0].cpu().numpy()
        if self._channels_last:
            return np.ascontiguousarray(np.moveaxis(frames[-3:], 0, -1))
        return np.repeat(frames[-1][:, :, None], 3, axis=2)

    def _reset(self) -> TimeStep:
        seed, self._seed = self._seed, None
        observation, self._info = self._vector_env.reset(seed=seed)
        self._ended = None
        row = self._ring.next()
        row.arrays.step_type.fill(FIRST)
        row.arrays.discount.fill(1.0)
        row.arrays.reward.fill(0.0)
        row.arrays.prev_action.fill(0)
        return self._time_step(row, observation)

    def _step(self, action: torch.Tensor) -> TimeStep:
        numbers = action_array(action)
        self._vector_env.send(numbers)
        row = self._ring.next()  # while the emulators run
        arrays = row.arrays
        arrays.step_type.fill(MID)
        arrays.discount.fill(self._discount)
        arrays.prev_action[:] = numbers
        observation, arrays.reward[:], terminated, truncated, self._info = self._vector_env.recv()
        first, self._ended = self._ended, None
        if any_true(terminated) or any_true(truncated):
            self._ended = terminated | truncated
            arrays.step_type[self._ended] = LAST
            arrays.discount[terminated] = 0.0
        if first is not None:
            arrays.step_type[first] = FIRST
            arrays.discount[first] = 1.0
            arrays.reward[first] = 0.0
            arrays.prev_action[first] = 0
        return self._time_step(row, observation)

    def _time_step(self, row: Row, observation: np.ndarray) -> TimeStep:
        """Return the time step of a row that is filled but for what ale-py reports, with the observation."""
        row.arrays.env_info["frame_number"][:] = self._info["episode_frame_number"]
        row.arrays.env_info["lives"][:] = self._info["lives"]
        frames = torch.from_numpy(observation)
        if self._channels_last:
            frames = frames.movedim(-1, 2).flatten(1, 2)
        time_step = row.time_step._replace(observation=frames)
        if self._device != "cpu":
            time_step = convert_device(time_step, self._device)
        return time_step


def rom_name(environment_name: str) -> str:
    """Return the name of the ROM of a game: ``"space_invaders"`` for any id of Space Invaders."""
    match = re.fullmatch(r"(?:ALE/)?([A-Za-z_0-9]+?)(?:NoFrameskip|Deterministic)?(?:-v\d+)?", environment_name)
    if match is None:
        raise ValueError(
            f"suite_ale.load.environment_name: expected a game such as 'pong' or 'ALE/Pong-v5', got "
            f"{environment_name!r}."
        )
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", match[1]).lower()


@configurable
def load(
    environment_name: str,
    env_id: int | None = None,
    batch_size: int = 1,
    discount: float = 1.0,
    frame_skip: int = 4,
    stack_size: int = 4,
    screen_size: int = 84,
    gray_scale: bool = True,
    noop_max: int = 30,
    fire_reset: bool = True,
    terminal_on_life_loss: bool = False,
    reward_clipping: bool = False,
    repeat_action_probability: float = 0.0,
    full_action_space: bool = False,
    max_frames_per_episode: int = 108000,
    num_threads: int = 0,
    alf_env_wrappers: Sequence[Callable] = (),
) -> AlfEnvironment:
    """Return a native batch of an Atari game, preprocessed as DQN did.

    To be used as ``create_environment(env_load_fn=suite_ale.load, env_name="pong")``.

    Args:
        environment_name: ``"pong"``, ``"ALE/Pong-v5"`` or ``"PongNoFrameskip-v4"``; all mean the arguments
            below.
        env_id: index of the batch where there are several.
        batch_size: number of games.
        discount: discount of every step that is not a termination.
        frame_skip: number of emulator frames for each action; the last two are merged by maximum.
        stack_size: number of stacked observations.
        screen_size: height and width.
        gray_scale: whether images are grey.
        noop_max: an episode starts with up to this many no-ops.
        fire_reset: press FIRE at the start of games that wait for it.
        terminal_on_life_loss: end an episode when a life is lost.
        reward_clipping: clip rewards to [-1, 1].
        repeat_action_probability: probability that the emulator repeats the action before.
        full_action_space: all 18 joystick positions.
        max_frames_per_episode: a time limit in emulator frames.
        num_threads: threads of the batch; 0 is one for each core.
        alf_env_wrappers: called with the batched environment.
    Raises:
        ImportError: if ale-py is missing; it names the extra to install.
        ValueError: if there is no such game.
    """
    try:
        import ale_py.roms
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise ImportError(f"suite_ale needs the package ale-py: {how_to_install('atari')}.") from error
    rom, roms = rom_name(environment_name), ale_py.roms.get_all_rom_ids()
    if rom not in roms:
        near = difflib.get_close_matches(rom, roms, n=3)
        raise ValueError(
            f"suite_ale.load.environment_name: expected the name of an Atari game, got "
            f"{environment_name!r}.{' Did you mean ' + ' or '.join(near) + '?' if near else ''}"
        )
    vector_env = AtariVectorEnv(
        rom,
        num_envs=batch_size,
        num_threads=num_threads,
        max_num_frames_per_episode=max_frames_per_episode,
        repeat_action_probability=repeat_action_probability,
        full_action_space=full_action_space,
        autoreset_mode="NextStep",
        img_height=screen_size,
        img_width=screen_size,
        grayscale=gray_scale,
        stack_num=stack_size,
        frameskip=frame_skip,
        noop_max=noop_max,
        episodic_life=terminal_on_life_loss,
        reward_clipping=reward_clipping,
        use_fire_reset=fire_reset,
    )
    env: AlfEnvironment = AleEnvironment(vector_env, discount, (env_id or 0) * batch_size)
    for wrapper in alf_env_wrappers:
        env = wrapper(env)
    return env


#: Tells create_environment that one call makes a whole batch.
load.batched = True
