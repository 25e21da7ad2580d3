"""NativeBatchEnvironment: a batch of one classic-control environment that is stepped by a single call of C++."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch

from alf.data_structures import TimeStep
from alf.device_ctx import get_default_device
from alf.environments.alf_environment import AlfEnvironment, ForeignStateError
from alf.nest.utils import convert_device
from alf.tensor_specs import BoundedTensorSpec

try:
    import alf._envs as _native
except ImportError:  # not built, or a torch that is too old for it
    _native = None

#: Fields of a TimeStep that change from step to step.
_FIELDS = ("step_type", "reward", "discount", "observation", "prev_action")


def is_built() -> bool:
    """Return whether the extension ``alf._envs`` is there."""
    return _native is not None


class NativeBatchEnvironment(AlfEnvironment):
    """A batch of CartPole, MountainCar, MountainCarContinuous, Pendulum or Acrobot in C++.

    Time steps are bit for bit those of the Gymnasium environments in :func:`suite_gym.load`, for the same seeds
    and actions: continuous actions are clipped to [-1, 1] and mapped to the bounds of the environment, and time
    limits end episodes with the discount kept.

    The tensors of a returned TimeStep alias rows of a ring. They stay as they are for ``num_valid_steps`` further
    steps: clone what is kept longer, or ask for more with :meth:`reserve_rows`.

    Args:
        name: ``"CartPole"``, ``"MountainCar"``, ``"MountainCarContinuous"``, ``"Pendulum"`` or ``"Acrobot"``.
        observation_spec: spec of one observation, as the original has it.
        action_spec: spec of one action, as the original has it.
        batch_size: number of environments.
        discount: discount of every step that is not a termination.
        max_episode_steps: time limit; 0 is none.
        first_env_id: ``env_id`` of row 0.
        num_ring_rows: number of time steps kept, at least 2.
    Raises:
        ImportError: if the extension is missing.
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        name: str,
        observation_spec: BoundedTensorSpec,
        action_spec: BoundedTensorSpec,
        batch_size: int,
        discount: float = 1.0,
        max_episode_steps: int = 0,
        first_env_id: int = 0,
        num_ring_rows: int = 4,
    ):
        if _native is None:
            raise ImportError(
                "NativeBatchEnvironment needs the extension alf._envs: install a C++17 compiler and torch >= 2.10, and "
                "reinstall alf; or use suite_gym.load."
            )
        if not 0 <= discount <= 1:
            raise ValueError(f"NativeBatchEnvironment.discount: expected 0 <= discount <= 1, got {discount}.")
        if max_episode_steps < 0:
            raise ValueError(f"NativeBatchEnvironment.max_episode_steps: expected >= 0, got {max_episode_steps}.")
        if batch_size < 1:
            raise ValueError(f"NativeBatchEnvironment.batch_size: expected >= 1, got {batch_size}.")
        self._name = name
        self._observation_spec = observation_spec
        self._action_spec = action_spec
        self._action_dtype = getattr(torch, action_spec.dtype_str)
        self._batch_size = batch_size
        self._env_ids = torch.arange(first_env_id, first_env_id + batch_size, dtype=torch.int32, device="cpu")
        self._num_ring_rows = max(2, num_ring_rows)
        self._device = get_default_device()
        self._batch = _native.Batch(name, batch_size, discount, max_episode_steps)
        self._native_step = self._batch.step
        self._ring: list[TimeStep] = []  # its rows, as time steps; laid out when the first is needed
        self.seed([np.random.SeedSequence().entropy for _ in range(batch_size)])

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
        """Number of environments."""
        return self._batch_size

    @property
    def num_valid_steps(self) -> int | None:
        """For how many further steps the tensors of a returned TimeStep stay untouched; None: for ever."""
        return self._num_ring_rows - 1 if self._device == "cpu" else None

    def reserve_rows(self, num_time_steps: int) -> None:
        """Let at least ``num_time_steps`` successive time steps be valid together.

        Raises:
            RuntimeError: if the environment has been reset already with fewer.
        """
        if num_time_steps <= self._num_ring_rows:
            return
        if self._ring:
            raise RuntimeError(
                f"NativeBatchEnvironment.reserve_rows: {num_time_steps} time steps cannot be reserved after the first "
                f"reset, which laid out {self._num_ring_rows}. Reserve before, or set num_ring_rows."
            )
        self._num_ring_rows = num_time_steps

    def env_info_spec(self) -> dict:
        """Return ``{}``: these environments report nothing."""
        return {}

    def observation_spec(self) -> BoundedTensorSpec:
        """Return the spec of the observation."""
        return self._observation_spec

    def action_spec(self) -> BoundedTensorSpec:
        """Return the spec of the action."""
        return self._action_spec

    def seed(self, seeds: Sequence[int] | int) -> None:
        """Seed the environments, from their next reset on.

        Args:
            seeds: one seed for each environment, or one number to which each adds its index.
        """
        if np.ndim(seeds) == 0:
            seeds = [int(seeds) + index for index in range(self._batch_size)]
        if len(seeds) != self._batch_size:
            raise ValueError(
                f"NativeBatchEnvironment.seed.seeds: expected {self._batch_size} seeds, one for each environment, got "
                f"{len(seeds)}."
            )
        self._batch.seed(np.array([_random_words(int(seed)) for seed in seeds], np.uint64))

    def reset(self) -> TimeStep:
        """Start new episodes in all environments and return their FIRST time step ``[B, ...]``."""
        if not self._ring:
            self._lay_out_ring()
        self._reset_due = False
        return self._take(self._batch.reset())

    def step(self, action: Any) -> TimeStep:
        """Step all environments and return the time step ``[B, ...]`` that follows; before a reset, reset.

        Args:
            action: ``[B, ...]`` like ``action_spec()``. Rows whose time step was LAST ignore their action and return
                FIRST.
        Raises:
            ValueError: if an action is out of range, or not of the right shape.
        """
        if self._reset_due:
            return self.reset()
        row = self._native_step(action)
        if row < 0:
            row = self._native_step(self._converted(action))
        if self._device != "cpu":
            return self._take(row)
        self._current_time_step = time_step = self._ring[row]
        return time_step

    def _reset(self) -> TimeStep:
        return self.reset()

    def _step(self, action: Any) -> TimeStep:
        return self.step(action)

    def _take(self, row: int) -> TimeStep:
        time_step = self._ring[row]
        if self._device != "cpu":
            time_step = convert_device(time_step, self._device)
        self._current_time_step = time_step
        return time_step

    def _converted(self, action: Any) -> torch.Tensor:
        """Return an action as the native code takes it."""
        tensor = torch.as_tensor(action).detach()
        shape = (self._batch_size, *self._action_spec.shape)
        # A float is no index, but any number may become a float.
        if tuple(tensor.shape) != shape or (tensor.is_floating_point() and self._action_spec.is_discrete):
            raise ValueError(
                f"NativeBatchEnvironment.step: action: expected shape {shape} and dtype {self._action_dtype}, got "
                f"{tuple(tensor.shape)} and {tensor.dtype}."
            )
        return tensor.to("cpu", self._action_dtype).contiguous()

    def _lay_out_ring(self) -> None:
        outer = (self._num_ring_rows, self._batch_size)
        blocks = dict(
            step_type=np.zeros(outer, np.int32),
            reward=np.zeros(outer, np.float32),
            discount=np.zeros(outer, np.float32),
            observation=np.zeros(outer + tuple(self._observation_spec.shape), np.float32),
            prev_action=np.zeros(outer + tuple(self._action_spec.shape), self._action_spec.dtype_str),
        )
        self._batch.attach(**blocks)
        tensors = {field: torch.from_numpy(block) for field, block in blocks.items()}
        self._ring = [
            TimeStep(
                **{field: tensor[row] for field, tensor in tensors.items()},
                env_id=self._env_ids,
                untransformed=(),
                env_info={},
            )
            for row in range(self._num_ring_rows)
        ]

    def render(self, mode: str = "rgb_array") -> np.ndarray:
        """Raise: there are only numbers here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "NativeBatchEnvironment cannot render. Make the environment by Gymnasium: create_environment.native=False."
        )

    def get_state(self) -> dict:
        """Return the state of all episodes and random numbers, and the current time step.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._current_time_step is None:
            raise RuntimeError("NativeBatchEnvironment.get_state: expected reset() before.")
        time_step = {field: getattr(self._current_time_step, field).cpu().numpy().copy() for field in _FIELDS}
        return {"name": self._name, "episodes": self._batch.get_state(), "time_step": time_step}

    def set_state(self, state: dict) -> None:
        """Go on from where an environment like this one was when :meth:`get_state` returned ``state``.

        The numbers may have become lists meanwhile, as JSON makes them.

        Raises:
            ForeignStateError: if it is the state of another environment, or damaged.
        """
        name = state.get("name") if isinstance(state, dict) else None
        if name != self._name:
            raise ForeignStateError(
                f"NativeBatchEnvironment.set_state: expected the state of a native batch of {self._name}, got "
                f"{f'that of {name}' if name else _told_kind(state)}. If environments were made by Gymnasium when "
                "it was saved, set create_environment.native=False."
            )
        if not self._ring:
            self._lay_out_ring()
        try:
            self._batch.set_state(state["episodes"])
            row = self._batch.advance()
            for field in _FIELDS:
                getattr(self._ring[row], field).copy_(torch.as_tensor(state["time_step"][field]))
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ForeignStateError(f"NativeBatchEnvironment.set_state: {error}") from error
        self._reset_due = False
        self._take(row)


def _told_kind(state: Any) -> str:
    return f"those of {len(state)} environments" if isinstance(state, list) else type(state).__name__


def _random_words(seed: int) -> list[int]:
    """Return the state of ``numpy.random.Generator(PCG64(SeedSequence(seed)))`` as four numbers of 64 bits."""
    state = np.random.PCG64(np.random.SeedSequence(seed)).state["state"]
    low = 2**64 - 1
    return [state["state"] >> 64, state["state"] & low, state["inc"] >> 64, state["inc"] & low]
