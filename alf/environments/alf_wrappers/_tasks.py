"""Several tasks in one environment, and a curriculum over them."""

from __future__ import annotations

import math
from typing import Any, Callable, List

import numpy as np
import torch

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.environments._rows import LAST
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


class MultitaskWrapper(AlfEnvironment):
    """One environment for each task; the action says which task the next episode is about.

    The action is ``dict(task_id=..., action=...)``. ``task_id`` counts where an episode starts, that is in
    the step after LAST (whose ``action`` is ignored); within an episode it is ignored. The first episode is
    of task 0.

    Args:
        envs: unbatched environments with equal specs, one for each task.
        task_names: their names.
        env_id: index of this environment in a batch.
    """

    def __init__(self, envs: List[AlfEnvironment], task_names: List[str], env_id: int | None = None):
        if not envs or len(envs) != len(task_names):
            raise ValueError(
                f"MultitaskWrapper: expected one name for each of at least one environment, got "
                f"{len(envs)} environments and names {list(task_names)}."
            )
        for name, env in zip(task_names, envs, strict=True):
            for spec_name in ("observation_spec", "action_spec", "reward_spec", "env_info_spec"):
                first, other = getattr(envs[0], spec_name)(), getattr(env, spec_name)()
                if first != other:
                    raise ValueError(
                        f"MultitaskWrapper: {spec_name} of task {name!r}: expected that of task "
                        f"{task_names[0]!r}, {first}, got {other}."
                    )
        self._envs = list(envs)
        self._task_names = list(task_names)
        self._env_id = np.asarray(0 if env_id is None else env_id, np.int32)
        self._task_id = 0
        self._action_spec = dict(
            task_id=BoundedTensorSpec((), torch.int64, 0, len(envs) - 1), action=envs[0].action_spec()
        )

    @classmethod
    def load(
        cls, load_fn: Callable, environment_name: List[str], env_id: int | None = None, **kwargs: Any
    ) -> "MultitaskWrapper":
        """Return the multitask environment of ``load_fn(name, env_id=env_id, **kwargs)`` for each name."""
        names = [environment_name] if isinstance(environment_name, str) else list(environment_name)
        return cls([load_fn(name, env_id=env_id, **kwargs) for name in names], names, env_id)

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self._envs)

    @property
    def task_names(self) -> List[str]:
        """Name of each task."""
        return self._task_names

    def get_num_tasks(self) -> int:
        """Return the number of tasks (a method, for calls into other processes)."""
        return len(self._envs)

    def observation_spec(self) -> Any:
        """Return the spec of every task."""
        return self._envs[0].observation_spec()

    def action_spec(self) -> dict:
        """Return the specs of ``task_id`` and ``action``."""
        return self._action_spec

    def reward_spec(self) -> TensorSpec:
        """Return the spec of every task."""
        return self._envs[0].reward_spec()

    def env_info_spec(self) -> Any:
        """Return the spec of every task."""
        return self._envs[0].env_info_spec()

    def get_info(self) -> Any:
        """Return the info of the current task's environment."""
        return self._envs[self._task_id].get_info()

    def step(self, action: dict) -> TimeStep:
        """Apply ``action["action"]``; after LAST start an episode of task ``action["task_id"]``."""
        if self._reset_due and self._current_time_step is not None:
            self._task_id = int(action["task_id"])
        return super().step(action)

    def _reset(self) -> TimeStep:
        zeros = nest.map_structure(lambda spec: spec.numpy_zeros(), self._action_spec)
        return self._envs[self._task_id].reset()._replace(prev_action=zeros, env_id=self._env_id)

    def _step(self, action: dict) -> TimeStep:
        prev_action = nest.map_structure(lambda spec, part: np.array(part, spec.dtype_str), self._action_spec, action)
        return self._envs[self._task_id].step(action["action"])._replace(prev_action=prev_action, env_id=self._env_id)

    def seed(self, seed: int) -> None:
        """Seed the environment of every task."""
        for i, env in enumerate(self._envs):
            env.seed(seed + 7919 * i)

    def close(self) -> None:
        """Close the environment of every task."""
        for env in self._envs:
            env.close()

    def render(self, mode: str = "rgb_array") -> Any:
        """Render the current task."""
        return self._envs[self._task_id].render(mode)


@configurable
class CurriculumWrapper(AlfEnvironmentBaseWrapper):
    """Chooses the task of every episode, preferring tasks on which the agent makes progress.

    Each task has two running averages of its episode returns, a quick and a slow one; their difference is its
    progress. After the warm-up a task is sampled with probability proportional to
    ``progress_favor ** (progress / largest progress)``, so the best is ``progress_favor`` times as likely as
    one without progress.

    Args:
        env: a batched, tensor based environment of several tasks, e.g. parallel :class:`MultitaskWrapper`.
        progress_favor: see above.
        current_score_update_rate: rate of the quick average.
        past_score_update_rate: rate of the slow average.
        warmup_period: average number of episodes a task has before progress counts; until then all are equal.
    """

    def __init__(
        self,
        env: AlfEnvironment,
        progress_favor: float = 10.0,
        current_score_update_rate: float = 0.001,
        past_score_update_rate: float = 0.0005,
        warmup_period: int = 100,
    ):
        super().__init__(env)
        if env.num_tasks < 2 or not env.batched or not env.is_tensor_based:
            raise ValueError(
                "CurriculumWrapper.env: expected a batched, tensor based environment of several tasks, "
                f"got {type(env).__name__} with {env.num_tasks} task(s). Give create_environment a list "
                "of environment names."
            )
        if past_score_update_rate >= current_score_update_rate:
            raise ValueError(
                "CurriculumWrapper: expected past_score_update_rate < current_score_update_rate, got "
                f"{past_score_update_rate} and {current_score_update_rate}."
            )
        self._progress_favor = progress_favor
        self._current_rate = current_score_update_rate
        self._past_rate = past_score_update_rate
        self._warmup_episodes = warmup_period * env.num_tasks
        self._generator = torch.Generator()
        num_tasks = env.num_tasks
        self._counts = torch.zeros(num_tasks, dtype=torch.int64)
        self._current_scores = torch.zeros(num_tasks, dtype=torch.float64)
        self._past_scores = torch.zeros(num_tasks, dtype=torch.float64)
        self._returns = torch.zeros(env.batch_size, dtype=torch.float64)
        self._task_ids = torch.zeros(env.batch_size, dtype=torch.int64)
        self._played_ids = self._task_ids  # of the episodes in the latest time step
        self._probs = torch.full((num_tasks,), 1.0 / num_tasks)
        per_task = {name: TensorSpec(()) for name in env.task_names}
        self._env_info_spec = dict(
            env_info=env.env_info_spec(),
            curriculum=dict(task_count=per_task, task_score=per_task, task_prob=per_task),
        )

    def action_spec(self) -> Any:
        """Return the spec of the action without the task."""
        return self._env.action_spec()["action"]

    def env_info_spec(self) -> dict:
        """Return the specs of the environment's ``env_info`` and of the statistics of the ``curriculum``."""
        return self._env_info_spec

    @property
    def task_probabilities(self) -> torch.Tensor:
        """Probability of each task, ``[num_tasks]``."""
        return self._probs

    def seed(self, seed: Any) -> None:
        """Seed the choice of tasks and the environments."""
        self._generator.manual_seed(int(np.ravel(seed)[0]))
        self._env.seed(seed)

    def _reset(self) -> TimeStep:
        self._returns.zero_()
        self._task_ids = self._played_ids  # a reset chooses none
        return self._outside(self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        time_step = self._env.step(dict(task_id=self._task_ids, action=action))
        self._played_ids = self._task_ids
        self._returns += time_step.reward.reshape(time_step.reward.shape[0], -1).sum(dim=1).cpu()
        ended = torch.nonzero(time_step.step_type.cpu() == LAST).flatten()
        if len(ended):
            for row in ended.tolist():
                self._add_episode(int(self._task_ids[row]), float(self._returns[row]))
            self._update_probabilities()
            self._returns[ended] = 0.0
            self._task_ids = self._task_ids.clone()
            self._task_ids[ended] = torch.multinomial(
                self._probs, len(ended), replacement=True, generator=self._generator
            )
        return self._outside(time_step)

    def _add_episode(self, task: int, episode_return: float) -> None:
        self._counts[task] += 1
        # The first episodes are averaged plainly, so that scores do not start from an arbitrary 0.
        for scores, rate in (
            (self._current_scores, self._current_rate),
            (self._past_scores, self._past_rate),
        ):
            rate = max(rate, 1.0 / float(self._counts[task]))
            scores[task] += rate * (episode_return - scores[task])

    def _update_probabilities(self) -> None:
        if self._counts.sum() < self._warmup_episodes:
            return
        progress = (self._current_scores - self._past_scores).clamp(min=0)
        relative = progress / progress.max().clamp(min=1e-12)
        self._probs = torch.softmax(math.log(self._progress_favor) * relative, dim=0).float()

    def _outside(self, time_step: TimeStep) -> TimeStep:
        batch_size = self.batch_size

        def columns(values: torch.Tensor) -> dict:
            return {name: value.float().expand(batch_size) for name, value in zip(self.task_names, values, strict=True)}

        info = dict(
            task_count=columns(self._counts),
            task_score=columns(self._current_scores),
            task_prob=columns(self._probs),
        )
        return time_step._replace(
            prev_action=time_step.prev_action["action"],
            env_info=dict(env_info=time_step.env_info, curriculum=info),
        )
