"""Checks of a Gymnasium environment: what it returns, against what it declares."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np

import alf.nest as nest
from alf.environments._env_findings import Findings, told, told_error
from alf.environments._plain_step import NUMBERS
from alf.environments._spaces import Leaf, observation_leaves

spaces = gymnasium.spaces
_NUM_COMPARED = 20  # steps of an episode that is played twice
_OLD_API = (
    "This is the API of the old gym package: port it, or wrap it with alf.environments.alf_gym_wrapper.LegacyGymAdapter"
)


class _CannotGoOn(Exception):
    """What was found leaves nothing to step."""


class GymChecks:
    """Plays random episodes in a Gymnasium environment and notes what is wrong.

    Args:
        env: the environment, wrapped as it is trained in.
        findings: where to note it.
        has_reward_space: the reward may have several dimensions; its shape is left to the caller.
        time_limit: steps after which the caller ends an episode; 0: it does not.
    """

    def __init__(self, env: gymnasium.Env, findings: Findings, has_reward_space: bool, time_limit: int):
        self._env = env
        self._findings = findings
        self._has_reward_space = has_reward_space
        self._time_limit = time_limit
        self._leaves = observation_leaves(env.observation_space)

    def run(self, num_steps: int, seed: int) -> None:
        """Make all checks.

        Args:
            num_steps: random steps to play.
            seed: of environment and actions.
        """
        self._env.action_space.seed(seed)
        self._check_action_space()
        try:
            self._check_seeds(seed)
            self._check_episodes(num_steps, seed)
            self._check_action_bounds(seed)
            self._check_render()
        except _CannotGoOn:
            pass
        self._findings.step = None

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _reset(self, seed: int | None = None) -> Any:
        """Return the observation, and note what is wrong with it."""
        try:
            result = self._env.reset() if seed is None else self._env.reset(seed=seed)
        except Exception as error:
            fix = "Correct reset()"
            if seed is not None and isinstance(error, TypeError):
                fix = "Declare it as reset(self, *, seed=None, options=None), and call super().reset(seed=seed)"
            self._findings.error("reset()", "(observation, info)", told_error(error), fix)
            raise _CannotGoOn from error
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            self._findings.error("reset()", "(observation, info) with a dictionary as info", told(result), _OLD_API)
            raise _CannotGoOn
        self._check_observation(result[0])
        return result[0]

    def _step(self, action: Any) -> tuple:
        """Return what the environment returned, a tuple of five, and note what is wrong with it."""
        try:
            result = self._env.step(action)
        except Exception as error:
            self._findings.error("step()", "no exception", told_error(error), f"It was given the action {action!r:.80}")
            raise _CannotGoOn from error
        if not isinstance(result, tuple) or len(result) != 5:
            is_tuple = isinstance(result, tuple)
            self._findings.error("step()", "(observation, reward, terminated, truncated, info)",
                                 f"{len(result)} values" if is_tuple else told(result),
                                 _OLD_API if is_tuple and len(result) == 4 else "Return these five")
            raise _CannotGoOn
        observation, reward, terminated, truncated, info = result
        self._check_observation(observation)
        self._check_reward(reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, (bool, np.bool_)):
                self._findings.error(name, "a bool", told(flag), f"Return bool({name})")
        if not isinstance(info, dict):
            self._findings.error("info", "a dictionary", told(info), "Return {} if there is nothing to tell")
        return result

    # ---- what is returned --------------------------------------------------------------------------------------------

    def _check_observation(self, observation: Any) -> None:
        for leaf in self._leaves:
            value = observation
            try:
                for key in leaf.keys:
                    value = value[key]
            except (KeyError, IndexError, TypeError):
                self._findings.error(leaf.path, str(leaf.space), f"no such part in {told(value)}",
                                     "Return every part that observation_space declares")
                continue
            self._check_leaf(leaf, value)

    def _check_leaf(self, leaf: Leaf, value: Any) -> None:
        space, error = leaf.space, self._findings.error
        correct = "Convert what reset() and step() return, or correct observation_space"
        is_typed = isinstance(value, (np.ndarray, np.generic))
        if not is_typed and (space.shape != () or not isinstance(value, (int, float))):
            return error(leaf.path, f"a NumPy array of shape {space.shape} and dtype {space.dtype}", told(value),
                         "Return np.asarray(observation, dtype=observation_space.dtype)")
        value = np.asarray(value)
        if value.shape != space.shape:
            return error(leaf.path, f"shape {space.shape}", f"shape {value.shape}", correct)
        kinds = "iu" if isinstance(space, spaces.Discrete) else "iub"
        if isinstance(space, spaces.Box) and is_typed and value.dtype != space.dtype:
            error(leaf.path, f"dtype {space.dtype}", f"dtype {value.dtype}",
                  f"Return observation.astype(np.{space.dtype.name}), or correct observation_space")
        elif not isinstance(space, spaces.Box) and value.dtype.kind not in kinds:
            return error(leaf.path, "an integer dtype", f"dtype {value.dtype}", correct)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            bad = np.argwhere(~np.isfinite(value))[0].tolist()
            return error(leaf.path, "finite numbers", f"{value[tuple(bad)]} at index {bad}",
                         "Look for a division by 0 or a state that grows without limit")
        low, high = _bounds(space)
        outside = np.argwhere((value < low) | (value > high))
        if len(outside):
            index = tuple(outside[0])
            told_low, told_high = (np.broadcast_to(bound, value.shape)[index] for bound in (low, high))
            error(leaf.path, f"numbers within the bounds of {_name(space)}",
                  f"{value[index]} at index {list(map(int, index))}, where the bounds are {told_low} and {told_high}",
                  "Correct the bounds of observation_space (np.inf where there is none), or clip")

    def _check_reward(self, reward: Any) -> None:
        is_number = reward.__class__ in NUMBERS or (
            isinstance(reward, (np.number, np.ndarray)) and reward.shape == () and reward.dtype.kind in "fiu")
        if not is_number and not (self._has_reward_space and np.asarray(reward).dtype.kind in "fiu"):
            return self._findings.error("reward", "a number", told(reward),
                                        "Return float(reward), or declare a reward_space")
        if not np.isfinite(np.asarray(reward)).all():
            self._findings.error("reward", "a finite number", told(reward), "Look for a division by 0 or a log of 0")

    # ---- what happens over time --------------------------------------------------------------------------------------

    def _check_seeds(self, seed: int) -> None:
        first, again = self._record(seed), self._record(seed)
        step = next((i for i, (x, y) in enumerate(zip(first, again)) if not _same(x, y)), None)
        if step is None and len(first) != len(again):
            step = min(len(first), len(again))
        if step is not None:
            self._findings.step = step
            self._findings.warning(
                "reset(seed)" if step == 0 else "step()", "the same after a reset with the same seed and the same "
                "actions", "something else", "Draw all random numbers from self.np_random, and set all state in "
                "reset(); otherwise runs cannot be repeated")
        if self._findings.has_errors:
            return  # what is wrong may well be the same for all seeds
        others = [self._record(seed + i) for i in (1, 2)]
        if all(len(other) == len(first) and all(map(_same, first, other)) for other in others):
            self._findings.step = None
            self._findings.warning("reset(seed)", "other episodes for other seeds", "the same for three seeds",
                                   "This is right for an environment without chance; else draw from self.np_random")

    def _record(self, seed: int) -> list:
        """Return copies of what a short episode with given seed returns."""
        self._findings.step = 0
        rng = np.random.default_rng(0)
        record = [copy.deepcopy(self._leaf_values(self._reset(seed)))]
        for step in range(1, _NUM_COMPARED + 1):
            self._findings.step = step
            observation, reward, terminated, truncated, _ = self._step(_sample(self._env.action_space, rng))
            record.append(copy.deepcopy([*self._leaf_values(observation), reward, terminated, truncated]))
            if terminated or truncated:
                break
        return record

    def _leaf_values(self, observation: Any) -> list:
        values = []
        for leaf in self._leaves:
            value = observation
            try:
                for key in leaf.keys:
                    value = value[key]
            except (KeyError, IndexError, TypeError):
                value = None
            values.append(value)
        return values

    def _check_episodes(self, num_steps: int, seed: int) -> None:
        findings, rng = self._findings, np.random.default_rng(seed)
        findings.step = 0
        kept = self._leaf_values(self._reset(seed))
        lengths, length = [], 0
        for step in range(1, num_steps + 1):
            findings.step = step
            copies = copy.deepcopy(kept)
            action = _sample(self._env.action_space, rng)
            given = copy.deepcopy(action)
            observation, _, terminated, truncated, _ = self._step(action)
            for leaf, value, copied in zip(self._leaves, kept, copies, strict=True):
                if not _same(value, copied):
                    findings.warning(leaf.path, "a returned observation to stay as it is",
                                     "an array that step() writes again",
                                     "Return a copy; alf copies it, but wrappers that keep observations do not")
            if not _same(nest.flatten(action), nest.flatten(given)):
                findings.warning("action", "step() to leave its action as it is", "an action that it writes to",
                                 "Copy it before changing it")
            kept, length = self._leaf_values(observation), length + 1
            if terminated or truncated or length == self._time_limit:
                lengths.append(length)
                kept, length = self._leaf_values(self._reset()), 0
        findings.step = None
        if findings.has_errors:
            return
        if not lengths and not self._time_limit:
            findings.warning("episodes", f"one to end within {num_steps} random steps, or a time limit", "none",
                             "Set max_episode_steps in gymnasium.register, unless long episodes are meant")
        if lengths and max(lengths) == 1 and len(lengths) > 1:
            findings.warning("episodes", "episodes of several steps", f"{len(lengths)} of one step each",
                             "This is right for a bandit; else look at terminated and truncated")

    # ---- actions and pictures ----------------------------------------------------------------------------------------

    def _check_action_space(self) -> None:
        for leaf in observation_leaves(self._env.action_space, path="action"):
            if isinstance(leaf.space, spaces.Box) and not (np.isfinite(leaf.space.low).all()
                                                           and np.isfinite(leaf.space.high).all()):
                self._findings.warning(leaf.path, "finite bounds", f"{leaf.space}", "Algorithms that squash or "
                                       "normalize actions need bounds; give the Box those that make sense")

    def _check_action_bounds(self, seed: int) -> None:
        """Make a step with the smallest action, and one with the largest."""
        for bound in (0, 1):
            self._findings.step = 0
            self._reset(seed)
            self._findings.step = 1
            action = _map_space(lambda space, bound=bound: _action_at(space, bound), self._env.action_space)
            self._step(action)

    def _check_render(self) -> None:
        env, findings = self._env, self._findings
        findings.step = None
        modes = (env.metadata or {}).get("render_modes", [])
        if env.render_mode is not None and env.render_mode not in modes:
            findings.warning("render_mode", f"one of metadata['render_modes'], {modes}", repr(env.render_mode),
                             "Add it to metadata['render_modes']")
        if env.render_mode != "rgb_array":
            return
        fix = "alf.bin.play and videos need pictures; training does not"
        try:
            frame = env.render()
        except Exception as error:
            return findings.warning("render()", "a picture", told_error(error), fix)
        if not (isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3):
            findings.warning("render()", "a uint8 array [height, width, 3]", told(frame), fix)


def _bounds(space: Any) -> tuple[Any, Any]:
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 1


def _name(space: Any) -> str:
    return f"its {type(space).__name__}"


def _map_space(function: Any, space: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _map_space(function, child) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_map_space(function, child) for child in space.spaces)
    return function(space)


def _action_at(space: Any, bound: int) -> Any:
    """Return the smallest (0) or largest (1) action of a space, 0 where there is no such bound."""
    value = np.nan_to_num(np.asarray(_bounds(space)[bound]), posinf=0.0, neginf=0.0)
    value = np.broadcast_to(value, space.shape).astype(space.dtype)
    return space.dtype.type(value) if isinstance(space, spaces.Discrete) else value


def _sample(space: Any, rng: np.random.Generator) -> Any:
    """Return a random action; the same for the same generator, whatever the environment does with its space."""

    def draw(space):
        low, high = (np.broadcast_to(bound, space.shape) for bound in _bounds(space))
        if isinstance(space, spaces.Box) and space.dtype.kind == "f":
            low, high = np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)
            return np.clip(rng.uniform(low, high), low, high).astype(space.dtype)
        value = rng.integers(low, high, endpoint=True)
        return space.dtype.type(value) if isinstance(space, spaces.Discrete) else np.asarray(value, space.dtype)

    return _map_space(draw, space)


def _same(value1: Any, value2: Any) -> bool:
    """Return whether two nests of lists, arrays and numbers are equal; NaN equals NaN."""
    if isinstance(value1, list):
        return len(value1) == len(value2) and all(map(_same, value1, value2))
    if not all(isinstance(value, (np.ndarray, np.generic, int, float)) for value in (value1, value2)):
        return repr(value1) == repr(value2)
    array1, array2 = np.asarray(value1), np.asarray(value2)
    return array1.shape == array2.shape and bool(
        ((array1 == array2) | ((array1 != array1) & (array2 != array2))).all())
