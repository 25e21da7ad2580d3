"""Wrappers that turn arrays into tensors and single environments into batches."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._non_finite import FiniteCheck
from alf.environments._rows import FIRST, Rows, action_splitter, to_numpy
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper
from alf.tensor_specs import TensorSpec


class TensorWrapper(AlfEnvironmentBaseWrapper):
    """Takes and returns torch tensors instead of NumPy arrays.

    Args:
        env: an environment that speaks NumPy.
    """

    state_attributes = ()

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        if env.is_tensor_based:
            raise ValueError(
                f"{type(self).__name__}.env: expected a NumPy based environment, got "
                f"{type(env).__name__}, which is tensor based already."
            )

    @property
    def is_tensor_based(self) -> bool:
        """True."""
        return True

    def _reset(self) -> TimeStep:
        return nest.map_structure(torch.as_tensor, self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        return nest.map_structure(torch.as_tensor, self._env.step(nest.map_structure(_cpu_array, action)))


class BatchedTensorWrapper(TensorWrapper):
    """Makes a batch of one, of torch tensors, of an unbatched environment that speaks NumPy.

    Args:
        env: the unbatched environment.
    """

    state_attributes = ()

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        self._require_unbatched()
        name = f"the environment ({type(env).__name__})"
        self._check_finite = None if env.checks_finite else FiniteCheck(env.observation_spec(), name)

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """1."""
        return 1

    def _batch(self, time_step: TimeStep) -> TimeStep:
        if self._check_finite is not None:
            self._check_finite(time_step)
        return nest.map_structure(lambda leaf: torch.as_tensor(leaf).unsqueeze(0), time_step)

    def _reset(self) -> TimeStep:
        return self._batch(self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        return self._batch(self._env.step(nest.map_structure(lambda a: _cpu_array(a)[0], action)))


def _cpu_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy() if isinstance(tensor, torch.Tensor) else to_numpy(tensor)


class BatchEnvironmentWrapper(AlfEnvironment):
    """Steps several unbatched environments one after another, in this process, as one batch of NumPy arrays.

    Args:
        envs: environments with equal specs.
    Raises:
        ValueError: if there is none, one is batched, or their specs differ.
    """

    def __init__(self, envs: List[AlfEnvironment]):
        if not envs:
            raise ValueError("BatchEnvironmentWrapper.envs: expected at least one environment, got none.")
        self._envs = list(envs)
        for i, env in enumerate(self._envs):
            if env.batched:
                raise ValueError(
                    f"BatchEnvironmentWrapper.envs[{i}]: expected an unbatched environment, got a batch "
                    f"of {env.batch_size}."
                )
            for name in ("observation_spec", "action_spec", "reward_spec"):
                first, other = getattr(envs[0], name)(), getattr(env, name)()
                if first != other:
                    raise ValueError(
                        f"BatchEnvironmentWrapper.envs[{i}].{name}: expected that of environment 0, "
                        f"{first}, got {other}."
                    )
        self._split_actions = action_splitter(envs[0].action_spec())
        self._env_ids = np.arange(len(envs), dtype=np.int32)
        self._ended = False
        self._paths = _leaf_paths(envs[0].observation_spec())

    @property
    def envs(self) -> List[AlfEnvironment]:
        """The single environments."""
        return self._envs

    @property
    def metadata(self) -> Any:
        """Metadata of the first environment."""
        return getattr(self._envs[0], "metadata", {})

    @property
    def is_tensor_based(self) -> bool:
        """False: arrays in, arrays out."""
        return False

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of environments."""
        return len(self._envs)

    @property
    def num_tasks(self) -> int:
        """Number of tasks of each environment."""
        return self._envs[0].num_tasks

    @property
    def task_names(self) -> List[str]:
        """Task names of each environment."""
        return self._envs[0].task_names

    def env_info_spec(self) -> Any:
        """Return the spec of one environment."""
        return self._envs[0].env_info_spec()

    def observation_spec(self) -> Any:
        """Return the spec of one environment."""
        return self._envs[0].observation_spec()

    def action_spec(self) -> Any:
        """Return the spec of one environment."""
        return self._envs[0].action_spec()

    def reward_spec(self) -> TensorSpec:
        """Return the spec of one environment."""
        return self._envs[0].reward_spec()

    def time_step_spec(self) -> TimeStep:
        """Return the spec of one environment."""
        return self._envs[0].time_step_spec()

    def get_info(self) -> list:
        """Return the info of each environment."""
        return [env.get_info() for env in self._envs]

    def _reset(self) -> TimeStep:
        rows = Rows.allocate(self._envs[0], len(self._envs))
        for i, env in enumerate(self._envs):
            env.reset_into(rows, i)
        zeros = nest.map_structure(lambda spec: spec.numpy_zeros((len(self._envs),)), self.action_spec())
        return self._time_step(rows, zeros)

    def _step(self, action: Any) -> TimeStep:
        rows = Rows.allocate(self._envs[0], len(self._envs))
        for i, (env, one) in enumerate(zip(self._envs, self._split_actions(action), strict=True)):
            env.step_into(rows, i, one)
        keep = rows.step_type != FIRST

        def previous(spec, leaf):
            return np.where(keep.reshape((-1,) + (1,) * spec.ndim), to_numpy(leaf), 0).astype(spec.dtype_str)

        return self._time_step(rows, nest.map_structure(previous, self.action_spec(), action))

    def _time_step(self, rows: Rows, prev_action: Any) -> TimeStep:
        for path, block in zip(["reward"] + self._paths, [rows.reward] + rows.observation, strict=True):
            if block.dtype.kind == "f" and not np.isfinite(block).all():
                bad = np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(axis=1))
                raise ValueError(
                    f"{path} of environment {bad[0]}: expected finite numbers, got {block[bad[0]]!r:.200}."
                )
        return TimeStep(
            step_type=rows.step_type,
            reward=rows.reward,
            discount=rows.discount,
            observation=nest.pack_sequence_as(self.observation_spec(), rows.observation),
            prev_action=prev_action,
            env_id=self._env_ids.copy(),
            env_info=nest.pack_sequence_as(self.env_info_spec(), rows.env_info) if rows.env_info else {},
        )

    def sync_progress(self) -> None:
        """Pass on to every environment."""
        for env in self._envs:
            env.sync_progress()

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()

    def render(self, mode: str = "rgb_array") -> Any:
        """Render the first environment."""
        return self._envs[0].render(mode)

    def seed(self, seed: Any) -> None:
        """Seed environment ``i`` with ``seed + i``, or with ``seed[i]``."""
        seeds = range(seed, seed + len(self._envs)) if isinstance(seed, (int, np.integer)) else seed
        for env, one in zip(self._envs, seeds, strict=True):
            env.seed(int(one))


def _leaf_paths(spec: Any) -> List[str]:
    named = nest.py_map_structure_with_path(lambda path, _: f"observation.{path}" if path else "observation", spec)
    return nest.flatten(named)
