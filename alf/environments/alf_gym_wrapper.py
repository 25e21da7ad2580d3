"""AlfGymWrapper: a Gymnasium environment as an AlfEnvironment."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._env_info import EnvInfo
from alf.environments._gym_state import get_gym_state, gym_layers, set_gym_state
from alf.environments._legacy_gym import LegacyGymAdapter, is_legacy_env
from alf.environments._plain_step import NUMBERS, PlainStep
from alf.environments._pool._errors import NonFiniteStepError
from alf.environments._rows import FIRST, LAST, MID, Rows
from alf.environments._spaces import (
    UnsupportedSpaceError,
    action_writer,
    observation_leaves,
    read_leaf,
    tensor_spec_from_gym_space,
)
from alf.environments.alf_environment import AlfEnvironment, ForeignStateError, class_name
from alf.environments.gym_wrappers._actions import ContinuousActionClip
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

__all__ = ["AlfGymWrapper", "LegacyGymAdapter", "UnsupportedSpaceError", "tensor_spec_from_gym_space"]

_BOOLS = frozenset({bool, np.bool_})
_MAX_LISTED_ACTIONS = 1024  # more are converted one by one, in Python
_OLD_API_HINT = (
    "This is the API of the old gym package: wrap the environment with "
    "alf.environments.alf_gym_wrapper.LegacyGymAdapter or port it to gymnasium.Env"
)


def _reward_spec(gym_env: gymnasium.Env) -> TensorSpec:
    if gym_env.has_wrapper_attr("reward_space"):
        return tensor_spec_from_gym_space(gym_env.get_wrapper_attr("reward_space"), path="reward")
    if gym_env.has_wrapper_attr("reward_spec"):
        spec = gym_env.get_wrapper_attr("reward_spec")
        return spec() if callable(spec) else spec
    return TensorSpec(())


def _harmless_action(spec: BoundedTensorSpec) -> np.ndarray:
    return np.clip(spec.numpy_zeros(), spec.minimum, spec.maximum)


class AlfGymWrapper(AlfEnvironment):
    """An unbatched AlfEnvironment around a Gymnasium environment, or around one of the old gym API.

    ``terminated`` becomes LAST with discount 0, ``truncated`` LAST with the discount kept. A reward of
    several dimensions is declared by a ``reward_space`` or ``reward_spec`` attribute of the environment.

    The numbers in ``info`` become ``env_info``. Which there are is learned from one extra reset and step,
    made once before the first episode (or when ``env_info_spec`` is asked); values missing later are 0.

    What the environment returns is checked at every step: types, dtypes and shapes here, NaN and infinity
    here in ``reset``/``step`` and by the caller over the whole batch where rows are used.

    Args:
        gym_env: the environment.
        env_id: its index in a batch, 0 by default; it appears in ``TimeStep.env_id`` and in errors.
        discount: discount of every step that is not a termination.
        auto_reset: start a new episode on the step after LAST.
        simplify_box_bounds: write bounds of Box spaces that are equal everywhere as one number.
    Raises:
        UnsupportedSpaceError: for spaces without fixed shape and dtype.
        TypeError: if ``gym_env`` is no environment.
    """

    def __init__(
        self,
        gym_env: gymnasium.Env,
        env_id: int | None = None,
        discount: float = 1.0,
        auto_reset: bool = True,
        simplify_box_bounds: bool = True,
    ):
        if not isinstance(gym_env, gymnasium.Env):
            if not is_legacy_env(gym_env):
                raise TypeError(
                    f"AlfGymWrapper.gym_env: expected a gymnasium.Env (or an old gym.Env), got "
                    f"{type(gym_env).__name__}."
                )
            gym_env = LegacyGymAdapter(gym_env)
        if not 0 <= discount <= 1:
            raise ValueError(f"AlfGymWrapper.discount: expected 0 <= discount <= 1, got {discount}.")
        self._gym_env = gym_env
        self._gym_step = gym_env.step
        self._env_id = 0 if env_id is None else int(env_id)
        spec = getattr(gym_env, "spec", None)
        self._name = f"{spec.id if spec else type(gym_env.unwrapped).__name__} (env_id {self._env_id})"
        self._discount = float(discount)
        self.auto_reset = auto_reset
        self._done = False
        self._info: dict = {}
        self._made_result: tuple = ()  # the result of a step that native code has made, for step_into
        self._env_info: EnvInfo | None = None
        self._has_env_info = False
        self._pending_seed: int | None = None
        self._closed = False

        space = gym_env.observation_space
        self._observation_spec = tensor_spec_from_gym_space(space, simplify_box_bounds, path="observation")
        self._action_spec = tensor_spec_from_gym_space(gym_env.action_space, simplify_box_bounds, path="action")
        self._reward_spec = _reward_spec(gym_env)
        self._scalar_reward = self._reward_spec.shape == ()
        self._leaves = observation_leaves(space)
        self._float_leaves = [index for index, leaf in enumerate(self._leaves) if leaf.dtype.kind == "f"]
        # The layout of nearly all environments, one Box, has a way of its own through step_into.
        one_box = len(self._leaves) == 1 and isinstance(self._leaves[0].space, gymnasium.spaces.Box)
        self._box_dtype = self._leaves[0].space.dtype if one_box and not self._leaves[0].keys else None
        self._box_shape = self._leaves[0].space.shape
        self._to_gym_action = action_writer(gym_env.action_space)
        self._zero_action = nest.map_structure(lambda spec: spec.numpy_zeros(), self._action_spec)

    #: Each time step that ``step`` and ``reset`` return.
    checks_finite = True

    @property
    def gym(self) -> gymnasium.Env:
        """The Gymnasium environment, with its Gymnasium wrappers."""
        return self._gym_env

    @property
    def metadata(self) -> dict:
        """The metadata of the Gymnasium environment."""
        return self._gym_env.metadata

    @property
    def is_tensor_based(self) -> bool:
        """False: this environment speaks NumPy."""
        return False

    @property
    def done(self) -> bool:
        """Whether the episode has ended."""
        return self._done

    def get_info(self) -> dict:
        """Return the info dictionary of the latest step, with everything the environment put there."""
        return self._info

    def env_info_spec(self) -> dict:
        """Return the specs of the numbers in ``info``; the first call may reset and step the environment."""
        return self._learn_env_info().spec

    def observation_spec(self) -> Any:
        """Return the nest of BoundedTensorSpec of the observation."""
        return self._observation_spec

    def action_spec(self) -> Any:
        """Return the nest of BoundedTensorSpec of the action."""
        return self._action_spec

    def reward_spec(self) -> TensorSpec:
        """Return the spec of the reward."""
        return self._reward_spec

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of specs."""
        return super().time_step_spec()

    def seed(self, seed: int) -> None:
        """Seed the environment at its next reset, and its action space now."""
        self._pending_seed = int(seed)
        self._gym_env.action_space.seed(int(seed))

    def close(self) -> None:
        """Close the Gymnasium environment."""
        if not self._closed:
            self._closed = True
            self._gym_env.close()

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame, or show one with ``mode="human"``.

        Gymnasium fixes the mode when an environment is made; where this one can do another, it is switched.

        Raises:
            ValueError: if the environment has no such mode.
        """
        env = self._gym_env
        if mode != env.render_mode:
            modes = env.metadata.get("render_modes", [])
            if mode not in modes:
                if not modes:
                    raise ValueError(f"{self._name}: cannot draw: its metadata['render_modes'] is empty. Do without "
                                     "pictures (alf.bin.play --norender, alf.bin.evaluate), or give it render().")
                raise ValueError(f"{self._name}: expected a render mode of {modes}, got {mode!r}.")
            env.unwrapped.render_mode = mode
        return env.render()

    def get_state(self) -> dict | None:
        """Return the state of the Gymnasium environment and its wrappers, None if one of them is not known."""
        state = get_gym_state(self._gym_env)
        if state is None:
            return None
        return {"gym": state, "reset_due": self._reset_due, "done": self._done, "pending_seed": self._pending_seed}

    def set_state(self, state: dict) -> None:
        """Go on from the point of ``state``.

        Raises:
            ForeignStateError: if it is the state of other wrappers or of another environment, or damaged.
        """
        if not isinstance(state, dict) or not {"gym", "reset_due", "done", "pending_seed"} <= state.keys():
            raise ForeignStateError(f"the state is not that of an {type(self).__name__}")
        self._gym_reset()  # some are only built by it
        set_gym_state(self._gym_env, state["gym"])
        self._reset_due, self._done = bool(state["reset_due"]), bool(state["done"])
        self._pending_seed = state["pending_seed"]

    def layers(self) -> list[str]:
        """Return the full names of the classes of this wrapper, of those of Gymnasium, and of the environment."""
        return [class_name(self), *gym_layers(self._gym_env)]

    def _learn_env_info(self) -> EnvInfo:
        if self._env_info is None:
            self._read_reset(self._gym_env.reset())
            action = nest.map_structure(_harmless_action, self._action_spec)
            info = self._read_step(self._gym_step(self._to_gym_action(action)))[4]
            self._env_info = EnvInfo(info, self._name)
            self._has_env_info = bool(self._env_info)
            self._reset_due = True
        return self._env_info

    def _gym_reset(self) -> Any:
        """Reset the environment and return its observation."""
        if self._env_info is None:
            self._learn_env_info()
        seed, self._pending_seed = self._pending_seed, None
        observation, self._info = self._read_reset(
            self._gym_env.reset() if seed is None else self._gym_env.reset(seed=seed)
        )
        self._done = self._reset_due = False
        self._made_result = ()
        return observation

    def _read_reset(self, result: Any) -> tuple[Any, dict]:
        if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
            raise ValueError(
                f"{self._name}: reset(): expected (observation, info) with a dictionary as info, got "
                f"{result!r:.80}. {_OLD_API_HINT}."
            )
        return result

    def _read_step(self, result: Any) -> tuple[Any, Any, bool, bool, dict]:
        """Return what ``step`` returned, or say what is wrong with it."""
        if not isinstance(result, tuple) or len(result) != 5:
            got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
            hint = f" {_OLD_API_HINT}." if isinstance(result, tuple) and len(result) == 4 else ""
            raise ValueError(
                f"{self._name}: step(): expected (observation, reward, terminated, truncated, info), got {got}.{hint}"
            )
        _, reward, terminated, truncated, info = result
        if self._scalar_reward and reward.__class__ not in NUMBERS:
            if not (isinstance(reward, (np.number, np.ndarray)) and reward.shape == () and reward.dtype.kind in "fiu"):
                raise ValueError(
                    f"{self._name}: reward: expected a number, got {type(reward).__name__} "
                    f"{reward!r:.80}. Return float(reward), or declare a reward_space."
                )
        elif not self._scalar_reward:
            if np.shape(reward) != self._reward_spec.shape or np.asarray(reward).dtype.kind not in "fiu":
                raise ValueError(
                    f"{self._name}: reward: expected shape {self._reward_spec.shape} as the reward spec "
                    f"says, got {type(reward).__name__} {reward!r:.80}."
                )
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if flag.__class__ not in _BOOLS:
                raise ValueError(
                    f"{self._name}: {name}: expected a bool, got {type(flag).__name__} {flag!r:.80}. "
                    f"Return bool({name})."
                )
        if not isinstance(info, dict):
            raise ValueError(f"{self._name}: info: expected a dictionary, got {type(info).__name__} {info!r:.80}.")
        return result

    def _read_observation(self, observation: Any) -> list[Any]:
        """Return the leaves of an observation, checked, in flatten order."""
        try:
            return [read_leaf(leaf, observation) for leaf in self._leaves]
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from None

    def _reset(self) -> TimeStep:
        return self._time_step(FIRST, self._reward_spec.numpy_zeros(), 1.0, self._gym_reset(), self._zero_action)

    def _step(self, action: Any) -> TimeStep:
        result = self._read_step(self._gym_step(self._to_gym_action(action)))
        observation, reward, terminated, truncated, self._info = result
        self._done = bool(terminated or truncated)
        if self._done:
            self._env_info.check_late_keys(self._info)
        prev_action = nest.map_structure(lambda spec, a: np.array(a, spec.dtype_str), self._action_spec, action)
        return self._time_step(
            LAST if self._done else MID,
            reward,
            0.0 if terminated else self._discount,
            observation,
            prev_action,
        )

    def _time_step(self, step_type: int, reward: Any, discount: float, observation: Any, prev_action: Any) -> TimeStep:
        # Copies: a returned time step stays as it is, whatever the environment does with its buffers.
        values = [
            np.array(value, leaf.dtype)
            for leaf, value in zip(self._leaves, self._read_observation(observation), strict=True)
        ]
        reward = np.array(reward, np.float32)
        self._check_finite(values, reward)
        return TimeStep(
            step_type=np.asarray(step_type, np.int32),
            reward=reward,
            discount=np.asarray(discount, np.float32),
            observation=nest.pack_sequence_as(self._observation_spec, values),
            prev_action=prev_action,
            env_id=np.asarray(self._env_id, np.int32),
            env_info=self._env_info.arrays(self._info),
        )

    def _check_finite(self, values: list[np.ndarray], reward: np.ndarray) -> None:
        # A sum of squares is the quickest pass; it may be infinite by itself, and is then looked into.
        for index in self._float_leaves:
            value = values[index]
            squares = value.dot(value) if value.ndim == 1 else np.vdot(value, value)
            if not math.isfinite(squares) and not np.isfinite(value).all():
                path = self._leaves[index].path
                raise NonFiniteStepError(f"{self._name}: {path}: expected finite numbers, got {value!r:.200}.")
        if not math.isfinite(reward if self._scalar_reward else reward.sum()) and not np.isfinite(reward).all():
            raise NonFiniteStepError(f"{self._name}: reward: expected a finite number, got {reward}.")

    def reset_into(self, rows: Rows, index: int) -> int:
        """Start a new episode and write FIRST into row ``index``."""
        observation = self._gym_reset()
        for block, value in zip(rows.observation, self._read_observation(observation), strict=True):
            block[index] = value
        rows.step_type[index] = FIRST
        rows.reward[index] = 0.0
        rows.discount[index] = 1.0
        if self._has_env_info:
            self._env_info.write(rows.env_info, index, self._info)
        return FIRST

    def step_into(self, rows: Rows, index: int, action: Any) -> int:
        """Apply ``action`` and write the time step that follows into row ``index``."""
        if self._reset_due:
            return self.reset_into(rows, index)
        if self._made_result:
            (result,), self._made_result = self._made_result, ()
        else:
            result = self._gym_step(self._to_gym_action(action))
        try:
            observation, reward, terminated, truncated, info = result
            plain = (
                self._scalar_reward
                and reward.__class__ in NUMBERS
                and terminated.__class__ in _BOOLS
                and truncated.__class__ in _BOOLS
                and info.__class__ is dict
            )
        except (TypeError, ValueError):
            plain = False
        if not plain:  # either unusual (a reward of several dimensions) or wrong, in which case this raises
            observation, reward, terminated, truncated, info = self._read_step(result)
        dtype = self._box_dtype
        if (
            dtype is not None
            and observation.__class__ is np.ndarray
            and (observation.dtype is dtype or observation.dtype == dtype)
            and observation.shape == self._box_shape
        ):
            rows.observation[0][index] = observation
        else:
            for block, value in zip(rows.observation, self._read_observation(observation), strict=True):
                block[index] = value
        rows.reward[index] = reward
        self._info = info
        if self._has_env_info:
            self._env_info.write(rows.env_info, index, info)
        if terminated or truncated:
            self._done = True
            self._reset_due = self.auto_reset
            self._env_info.check_late_keys(info)
            rows.discount[index] = 0.0 if terminated else self._discount
            rows.step_type[index] = LAST
            return LAST
        rows.discount[index] = self._discount
        rows.step_type[index] = MID
        return MID

    def _plain_step(self) -> PlainStep | None:
        """Return how native code can make plain steps; None for unusual spaces, and for subclasses."""
        leaf, action_space = self._leaves[0], self._gym_env.action_space
        narrows = self._box_dtype == np.float64 and leaf.dtype == np.float32
        if type(self) is not AlfGymWrapper or self._box_dtype is None or not (self._box_dtype == leaf.dtype or narrows):
            return None
        if not self._scalar_reward or self._env_info is None:
            return None
        gym_step, gym_actions, bounds = self._gym_step, None, None
        if isinstance(action_space, gymnasium.spaces.Discrete) and action_space.n <= _MAX_LISTED_ACTIONS:
            gym_actions = [self._to_gym_action(action) for action in range(int(action_space.n))]
        elif isinstance(action_space, gymnasium.spaces.Box) and action_space.dtype == self._zero_action.dtype:
            if type(self._gym_env) is ContinuousActionClip and _has_plain_bounds(action_space):
                gym_step, bounds = self._gym_env.env.step, action_space
        else:
            return None
        return PlainStep(
            env=self,
            gym_step=gym_step,
            gym_actions=gym_actions,
            action_bounds=bounds,
            observation_dtype=self._box_dtype,
            observation_shape=self._box_shape,
            discount=self._discount,
            write_env_info=self._env_info.write,
            env_info_keys=self._env_info.plain_keys(),
            counters=(),
        )


def _has_plain_bounds(space: gymnasium.spaces.Box) -> bool:
    # At a bound of 0 it would matter for the sign of a zero how exactly one clips.
    return space.dtype == np.float32 and bool(space.low.all() and space.high.all())
