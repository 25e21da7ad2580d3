"""ParallelAlfEnvironment: a batch of environments with one process and one pipe for each."""

from __future__ import annotations

import collections
from typing import Any, Callable, Sequence

import numpy as np
import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.environments._rows import LAST
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.process_environment import ProcessEnvironment


@configurable
class ParallelAlfEnvironment(AlfEnvironment):
    """A batch of unbatched environments that step at the same time, each in its own process.

    It is simple and slow: time steps are pickled and stacked. Use it for environments whose steps take
    milliseconds and whose processes must be apart; ``FastParallelEnvironment`` gives the same time steps much
    faster.

    An environment is reset as soon as its episode has ended, while the next actions are computed. With
    spares, another one that is ready takes its place, so that nobody waits for a long reset.

    Args:
        env_constructors: callables ``constructor(env_id=i)`` (or without arguments) that return unbatched
            AlfEnvironments of equal specs; the last ``num_spare_envs_for_reload`` of them make spares.
        start_serially: whether each environment is made before the next process is started.
        blocking: step one environment after another instead of all at the same time.
        flatten: send flat lists through the pipes, which pickles faster.
        num_spare_envs_for_reload: number of spares.
        torch_num_threads_per_env: number of torch threads of each process.
        step_timeout_seconds: see :class:`ProcessEnvironment`.
        reset_timeout_seconds: see there, too.
    Raises:
        ValueError: if the specs of the environments differ.
    """

    def __init__(
        self,
        env_constructors: Sequence[Callable],
        start_serially: bool = True,
        blocking: bool = False,
        flatten: bool = True,
        num_spare_envs_for_reload: int = 0,
        torch_num_threads_per_env: int = 1,
        *,
        step_timeout_seconds: float = 60.0,
        reset_timeout_seconds: float = 300.0,
    ):
        num_envs = len(env_constructors) - num_spare_envs_for_reload
        if num_envs < 1 or num_spare_envs_for_reload < 0:
            raise ValueError(
                f"ParallelAlfEnvironment.env_constructors: expected at least one environment beside "
                f"{num_spare_envs_for_reload} spares, got {len(env_constructors)} constructors."
            )
        self._num_envs = num_envs
        self._start_serially = start_serially
        self._blocking = blocking
        self._num_spares = num_spare_envs_for_reload
        self._all_envs = [
            ProcessEnvironment(
                constructor,
                env_id=i,
                flatten=flatten,
                num_envs=num_envs,
                torch_num_threads_per_env=torch_num_threads_per_env,
                step_timeout_seconds=step_timeout_seconds,
                reset_timeout_seconds=reset_timeout_seconds,
            )
            for i, constructor in enumerate(env_constructors)
        ]
        self._is_started = False
        self.start()

    def start(self) -> None:
        """Start the processes; done by the constructor, repeated calls do nothing."""
        if self._is_started:
            return
        self._is_started = True
        try:
            for env in self._all_envs:
                env.start(wait_to_start=self._start_serially)
            for env in self._all_envs:
                env.wait_start()
            self._check_specs()
        except BaseException:
            self.close()
            raise
        self._envs = self._all_envs[: self._num_envs]
        first = self._envs[0]
        self._num_tasks, self._task_names = first.call("num_tasks")(), first.call("task_names")()
        if self._num_tasks > 1 and self._num_spares:
            self.close()
            raise ValueError(
                "ParallelAlfEnvironment.num_spare_envs_for_reload: spares are reset before it is known which task "
                f"comes next, and these environments have {self._num_tasks}. Set it to 0."
            )
        # Ended environments being reset and spares, with the promise of their FIRST time step.
        self._spares = collections.deque(
            (env, env.reset(blocking=False)) for env in self._all_envs[self._num_envs :]
        )
        self._resets: list[Any] = [None] * self._num_envs  # promises of FIRST, where an episode has ended

    def _check_specs(self) -> None:
        first = self._all_envs[0]._known_specs()
        if first.batched:
            raise ValueError(
                "ParallelAlfEnvironment.env_constructors: expected unbatched environments; "
                "FastParallelEnvironment takes batched ones."
            )
        for i, env in enumerate(self._all_envs):
            differences = first.differences(env._known_specs())
            if differences:
                raise ValueError(
                    f"environment {i}: its specs differ from those of environment 0 (first, this one): "
                    f"{'; '.join(differences)}."
                )

    def _reset(self) -> TimeStep:
        for promise in filter(None, self._resets):
            promise()
        self._resets = [None] * self._num_envs
        return self._collect([self._ask(env.reset) for env in self._envs])

    def _step(self, action: Any) -> TimeStep:
        leaves = [np.asarray(leaf) for leaf in nest.flatten(nest.map_structure(_to_numpy, action))]
        if any(len(leaf) != self._num_envs for leaf in leaves):
            raise ValueError(
                f"ParallelAlfEnvironment.step: action: expected leaves [{self._num_envs}, ...], got shapes "
                f"{[leaf.shape for leaf in leaves]}."
            )
        promises = []
        for i, env in enumerate(self._envs):
            if self._resets[i] is not None:
                promises.append(self._take_first(i))
                continue
            action_i = nest.pack_sequence_as(self.action_spec(), [leaf[i, ...] for leaf in leaves])
            promises.append(self._ask(env.step, action_i))
        return self._collect(promises)

    def _take_first(self, i: int) -> Callable:
        promise, self._resets[i] = self._resets[i], None
        if self._spares:
            self._spares.append((self._envs[i], promise))
            self._envs[i], promise = self._spares.popleft()
        return promise

    def _ask(self, request: Callable, *args: Any) -> Callable:
        if not self._blocking:
            return request(*args, blocking=False)
        answer = request(*args)
        return lambda: answer

    def _collect(self, promises: list[Callable]) -> TimeStep:
        time_steps = []
        for i, promise in enumerate(promises):
            time_step = promise()
            time_steps.append(time_step)
            # Of several tasks the action of the next step chooses one.
            if time_step.step_type == LAST and self._num_tasks == 1:
                self._resets[i] = self._envs[i].reset(blocking=False)
        batch = nest.map_structure(lambda *leaves: torch.from_numpy(np.stack(leaves)), *time_steps)
        return batch._replace(env_id=torch.arange(self._num_envs, dtype=torch.int32))

    # --- what the environments are ---

    @property
    def envs(self) -> list[ProcessEnvironment]:
        """The environments that serve the rows of the batch at present."""
        return self._envs

    @property
    def is_tensor_based(self) -> bool:
        """True: time steps are torch tensors."""
        return True

    @property
    def batched(self) -> bool:
        """True."""
        return True

    @property
    def batch_size(self) -> int:
        """Number of environments of the batch."""
        return self._num_envs

    @property
    def num_tasks(self) -> int:
        """Number of tasks of each environment."""
        return self._num_tasks

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks of each environment."""
        return self._task_names

    @property
    def num_spare_envs_for_reload(self) -> int:
        """Number of spares."""
        return self._num_spares

    def env_info_spec(self) -> Any:
        """Return the nest of specs of ``env_info``."""
        return self._all_envs[0].env_info_spec()

    def observation_spec(self) -> Any:
        """Return the nest of specs of the observation."""
        return self._all_envs[0].observation_spec()

    def action_spec(self) -> Any:
        """Return the nest of specs of the action."""
        return self._all_envs[0].action_spec()

    def reward_spec(self) -> Any:
        """Return the spec of the reward."""
        return self._all_envs[0].reward_spec()

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return self._all_envs[0].time_step_spec()

    # --- calls ---

    @property
    def metadata(self) -> dict:
        """The metadata of environment 0."""
        return self._envs[0].call("metadata")()

    def call_envs_with_same_args(self, func_name: str, *args: Any, **kwargs: Any) -> list:
        """Return what ``env.func_name(*args, **kwargs)`` returns, for every environment of the batch."""
        promises = [env.call(func_name, *args, **kwargs) for env in self._envs]
        return [promise() for promise in promises]

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame of environment 0, or show one."""
        return self._envs[0].render(mode)

    def seed(self, seeds: Sequence[int] | int) -> None:
        """Seed the environments, from their next reset on.

        Args:
            seeds: one seed for each environment, or one number to which each adds its index.
        """
        if np.ndim(seeds) == 0:
            seeds = [int(seeds) + i for i in range(self._num_envs)]
        if len(seeds) != self._num_envs:
            raise ValueError(
                f"ParallelAlfEnvironment.seed.seeds: expected {self._num_envs} seeds, one for each "
                f"environment, got {len(seeds)}."
            )
        promises = [env.call("seed", int(seed)) for env, seed in zip(self._envs, seeds)]
        for promise in promises:
            promise()
        spare_seeds = np.random.SeedSequence([int(seed) for seed in seeds]).generate_state(self._num_spares)
        for seed in spare_seeds:
            env, first = self._spares.popleft()
            first()
            env.call("seed", int(seed >> 1))()
            self._spares.append((env, env.reset(blocking=False)))

    def sync_progress(self) -> None:
        """Pass the progress of this process on to all environments."""
        for env in self._all_envs:
            env.sync_progress()

    def close(self) -> None:
        """Close the environments and end their processes; may be called more than once."""
        for env in self._all_envs:
            env.close()


def _to_numpy(leaf: Any) -> np.ndarray:
    return leaf.detach().cpu().numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf)
