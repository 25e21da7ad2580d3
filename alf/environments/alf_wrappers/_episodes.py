"""Wrappers that change where episodes end, or what their end means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable

import numpy as np

import alf.nest as nest
from alf.config_util import configurable
from alf.data_structures import StepType, TimeStep
from alf.environments._plain_step import PlainStep
from alf.environments._rows import FIRST, LAST, Rows
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper

if TYPE_CHECKING:
    import cProfile


class _EpisodeLengthWrapper(AlfEnvironmentBaseWrapper):
    """Ends an episode with LAST, discount kept, once it has had ``self._limit`` steps (None: never)."""

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        self._require_unbatched()
        self._inner_step_into = env.step_into
        self._num_steps = 0
        self._limit: int | None = None

    def _start_episode(self) -> None:
        self._num_steps = 0

    def _reset(self) -> TimeStep:
        self._start_episode()
        return self._env.reset()

    def _step(self, action: Any) -> TimeStep:
        time_step = self._env.step(action)
        self._num_steps += 1
        if self._num_steps == self._limit:
            time_step = time_step._replace(step_type=StepType.LAST.copy())
        return time_step

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start a new episode and write FIRST into row ``index``."""
        self._start_episode()
        self._reset_due = False
        return self._env.reset_into(rows, index)

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step, and mark row ``index`` LAST where the limit is reached."""
        if self._reset_due:
            return self.reset_into(rows, index)
        step_type = self._inner_step_into(rows, index, action)
        self._num_steps += 1
        if self._num_steps == self._limit:
            rows.step_type[index] = step_type = LAST
        if step_type == LAST:
            self._reset_due = self.auto_reset
        return step_type

    def _plain_step(self) -> PlainStep | None:
        """Return that of the wrapped environment, with the steps counted here."""
        plain = self._env._plain_step() if type(self) in (TimeLimit, RandomFirstEpisodeLength) else None
        return plain and plain._replace(counters=(*plain.counters, self))


@configurable
class TimeLimit(_EpisodeLengthWrapper):
    """Ends episodes after ``duration`` steps: LAST, with the discount kept, so that values bootstrap.

    Args:
        env: an unbatched environment.
        duration: number of actions in an episode.
    """

    state_attributes = ("_num_steps", "_limit")

    def __init__(self, env: AlfEnvironment, duration: int):
        if duration < 1:
            raise ValueError(f"TimeLimit.duration: expected >= 1, got {duration}.")
        super().__init__(env)
        self._limit = int(duration)

    @property
    def duration(self) -> int:
        """Number of actions in an episode."""
        return self._limit


@configurable
class RandomFirstEpisodeLength(_EpisodeLengthWrapper):
    """Ends the first episodes after a random number of steps, so that parallel environments get out of step.

    Args:
        env: an unbatched environment.
        random_length_range: lengths are uniform in ``[1, random_length_range]``.
        num_episodes: how many episodes are shortened.
    """

    def __init__(self, env: AlfEnvironment, random_length_range: int, num_episodes: int = 1):
        if random_length_range < 1:
            raise ValueError(f"RandomFirstEpisodeLength.random_length_range: expected >= 1, got {random_length_range}.")
        super().__init__(env)
        self._random_length_range = int(random_length_range)
        self._num_episodes_left = int(num_episodes)
        self._rng = np.random.default_rng()

    def _start_episode(self) -> None:
        self._num_steps = 0
        self._limit = None
        if self._num_episodes_left > 0:
            self._num_episodes_left -= 1
            self._limit = int(self._rng.integers(1, self._random_length_range + 1))

    def seed(self, seed: int) -> None:
        """Seed the lengths and the environment."""
        self._rng = np.random.default_rng(seed)
        self._env.seed(seed)


@configurable
class NonEpisodicAgent(AlfEnvironmentBaseWrapper):
    """Lets an agent value what would follow the end of an episode: LAST keeps a discount instead of 0.

    Args:
        env: an unbatched environment.
        discount: discount of the LAST step.
    """

    def __init__(self, env: AlfEnvironment, discount: float = 1.0):
        super().__init__(env)
        self._require_unbatched()
        self._discount = float(discount)

    def _step(self, action: Any) -> TimeStep:
        time_step = self._env.step(action)
        if time_step.step_type == LAST:
            time_step = time_step._replace(discount=np.asarray(self._discount, np.float32))
        return time_step

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start a new episode and write FIRST into row ``index``."""
        return self._env.reset_into(rows, index)

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step, and replace the discount of LAST."""
        step_type = self._env.step_into(rows, index, action)
        if step_type == LAST:
            rows.discount[index] = self._discount
        return step_type


@configurable
class AtariTerminalOnLifeLossWrapper(AlfEnvironmentBaseWrapper):
    """Ends an episode (discount 0) when a life is lost; the game itself goes on in the next episode.

    FIRST of that next episode is what a no-op leads to. The lives come from ``info["lives"]`` (of ALE).

    Args:
        env: an unbatched Atari environment whose action 0 does nothing.
    """

    def __init__(self, env: AlfEnvironment):
        super().__init__(env)
        self._require_unbatched()
        self._lives = 0
        self._game_goes_on = False
        self._noop = nest.map_structure(lambda spec: spec.numpy_zeros(), env.action_spec())

    def _read_lives(self) -> int:
        info = self._env.get_info()
        for key in ("lives", "ale.lives"):
            if key in info:
                return int(info[key])
        raise ValueError(
            "AtariTerminalOnLifeLossWrapper: expected 'lives' in the info of the environment, got "
            f"{sorted(info)}. This wrapper is for ALE games."
        )

    def _life_was_lost(self, step_type: int) -> bool:
        lives = self._read_lives()
        lost = 0 < lives < self._lives
        self._lives = lives
        self._game_goes_on = lost and step_type != LAST
        return self._game_goes_on

    def _reset(self) -> TimeStep:
        if self._game_goes_on:
            time_step = self._env.step(self._noop)
            if time_step.step_type == LAST:
                time_step = self._env.reset()
        else:
            time_step = self._env.reset()
        self._game_goes_on = False
        self._lives = self._read_lives()
        return time_step._replace(
            step_type=StepType.FIRST.copy(),
            reward=np.zeros_like(time_step.reward),
            discount=np.ones_like(time_step.discount),
            prev_action=self._noop,
        )

    def _step(self, action: Any) -> TimeStep:
        time_step = self._env.step(action)
        if self._life_was_lost(int(time_step.step_type)):
            time_step = time_step._replace(step_type=StepType.LAST.copy(), discount=np.zeros_like(time_step.discount))
        return time_step

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start the next episode, in the same game if that goes on, and write FIRST into row ``index``."""
        noop = 0 if isinstance(self._noop, np.ndarray) and self._noop.shape == () else self._noop
        if not self._game_goes_on or self._env.step_into(rows, index, noop) == LAST:
            self._env.reset_into(rows, index)
        self._game_goes_on = self._reset_due = False
        self._lives = self._read_lives()
        rows.step_type[index] = FIRST
        rows.reward[index] = 0.0
        rows.discount[index] = 1.0
        return FIRST

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Step, and mark row ``index`` as a termination where a life was lost."""
        if self._reset_due:
            return self.reset_into(rows, index)
        step_type = self._env.step_into(rows, index, action)
        if self._life_was_lost(step_type):
            rows.step_type[index] = step_type = LAST
            rows.discount[index] = 0.0
        if step_type == LAST:
            self._reset_due = self.auto_reset
        return step_type


@configurable
class PerformanceProfiler(AlfEnvironmentBaseWrapper):
    """Profiles ``step`` with cProfile and hands each profile to a function.

    Args:
        env: the environment.
        process_profile_fn: called with a ``cProfile.Profile``, e.g. ``lambda p: p.print_stats("cumtime")``.
        process_steps: number of steps in a profile.
    """

    def __init__(self, env: AlfEnvironment, process_profile_fn: Callable[[cProfile.Profile], Any], process_steps: int):
        if process_steps < 1:
            raise ValueError(f"PerformanceProfiler.process_steps: expected >= 1, got {process_steps}.")
        super().__init__(env)
        self._process_profile_fn = process_profile_fn
        self._process_steps = process_steps
        from cProfile import Profile

        self._profile = Profile()
        self._num_steps = 0
        self._duration_seconds = 0.0

    @property
    def duration(self) -> float:
        """Seconds spent in profiled steps so far."""
        return self._duration_seconds

    def _step(self, action: Any) -> TimeStep:
        start = time.perf_counter()
        time_step = self._profile.runcall(self._env.step, action)
        self._duration_seconds += time.perf_counter() - start
        self._num_steps += 1
        if self._num_steps == self._process_steps:
            self._process_profile_fn(self._profile)
            self._profile = type(self._profile)()
            self._num_steps = 0
        return time_step
