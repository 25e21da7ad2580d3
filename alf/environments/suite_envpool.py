"""EnvPool's environments: batches that EnvPool steps on its own C++ threads."""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any, Callable, Mapping, Sequence

import gymnasium
import numpy as np
import torch

import alf.nest as nest
from alf._install import how_to_install
from alf.config_util import configurable
from alf.data_structures import TimeStep, time_step_spec
from alf.device_ctx import get_default_device
from alf.environments._rows import FIRST
from alf.environments._spaces import observation_leaves, tensor_spec_from_gym_space
from alf.environments._time_step_ring import TimeStepRing, action_array, any_true
from alf.environments.alf_environment import AlfEnvironment
from alf.nest.utils import convert_device
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

_SEED_LIMIT = 2**31  # EnvPool takes no larger seeds
#: Options of EnvPool that decide how a batch is laid out, with what to use in their place.
_TAKEN = {
    "num_envs": "create_environment.num_parallel_environments",
    "batch_size": "create_environment.num_parallel_environments",
    "num_threads": "suite_envpool.load.num_threads",
    "max_episode_steps": "suite_envpool.load.max_episode_steps",
    "seed": "create_environment.seed",
    "env_seed": "create_environment.seed",
    "max_num_players": "an environment with one player",
    "gym_reset_return_info": "nothing",
}
#: Images of so many bytes are not copied.
_LARGE_BYTES = 2**14
#: Options that envpool.make takes beside those of the environment.
_DRAWING = ("render_mode", "render_env_id", "render_width", "render_height", "render_camera_id", "from_pixels")


class EnvPoolEnvironment(AlfEnvironment):
    """A batch of EnvPool as an AlfEnvironment.

    The tensors of a returned TimeStep alias rows of a ring. They stay as they are for ``num_valid_steps`` further
    steps: clone what is kept longer, or ask for more with :meth:`reserve_rows`. Images stay for ever.

    EnvPool starts the next episode in the step after the last of an episode, as we do, and tells the true last
    observation. What differs is translated: its discount is 0 at a time limit, too, where ours is not, and
    continuous actions with other bounds are mapped from [-1, 1]. An episode that fails in the step of its time
    limit counts as ended by the limit, because EnvPool tells no more.

    Threads and environments are made at the first reset, and again at the first reset after :meth:`seed`:
    EnvPool takes seeds only then. ``env_info`` has the numbers that EnvPool reports for each environment, such
    as ``lives`` and ``reward`` (before clipping) of Atari games.

    Args:
        make_pool: called with a list of seeds, one for each environment; returns a pool of ``envpool.make`` with
            ``env_type="gymnasium"`` that steps all environments together.
        spec: what ``envpool.make_spec`` returned for such a pool.
        batch_size: number of environments.
        discount: factor on the discount of every step but the first of an episode.
        first_env_id: ``env_id`` of row 0.
    Raises:
        ValueError: for arguments out of range.
        TypeError: if observations or actions have no fixed shape and dtype, or there is more than one player.
    """

    def __init__(
        self,
        make_pool: Callable[[list[int]], Any],
        spec: Any,
        batch_size: int,
        discount: float = 1.0,
        first_env_id: int = 0,
    ):
        if not 0 <= discount <= 1:
            raise ValueError(f"EnvPoolEnvironment.discount: expected 0 <= discount <= 1, got {discount}.")
        if batch_size < 1:
            raise ValueError(f"EnvPoolEnvironment.batch_size: expected >= 1, got {batch_size}.")
        self._make_pool = make_pool
        self._pool: Any = None
        self._is_pool_due = True
        self._batch_size = batch_size
        self._discount = discount
        self._device = get_default_device()
        self._rows = np.arange(batch_size, dtype=np.int32)
        self._env_ids = torch.arange(first_env_id, first_env_id + batch_size, dtype=torch.int32, device="cpu")
        self._is_after_end = False  # whether episodes begin in the time step that follows
        self._state: list[np.ndarray] = []  # of the latest step, in the order of the keys
        self._keys = list(spec._state_keys)
        index = self._keys.index
        self._done, self._truncated = index("done"), index("trunc")
        self._read_action_spec(spec)
        self._read_observation_spec(spec)
        self._read_info_spec(spec)
        self._lay_out(spec)
        self.seed([int(seed) for seed in np.random.SeedSequence().generate_state(batch_size)])

    def _read_action_spec(self, spec: Any) -> None:
        keys, space = list(spec._action_keys), _unbounded(spec.gymnasium_action_space)
        if len(keys) != 3 or int(getattr(spec.config, "max_num_players", 1)) != 1:
            raise TypeError(
                "EnvPoolEnvironment: expected one player with one action, got "
                f"{', '.join(keys)} of up to {getattr(spec.config, 'max_num_players', 1)} players."
            )
        self._action_dtype = np.dtype(spec._action_spec[-1][0])
        self._action_start = int(getattr(space, "start", 0))
        self._action_low = self._action_high = self._action_scale = self._action_offset = None
        if isinstance(space, gymnasium.spaces.Box):
            low, high = space.low, space.high
            self._action_low, self._action_high = low.astype(self._action_dtype), high.astype(self._action_dtype)
            if np.isfinite(low).all() and np.isfinite(high).all() and ((low != -1) | (high != 1)).any():
                self._action_scale = ((high - low) / 2).astype(self._action_dtype)
                self._action_offset = (low + self._action_scale).astype(self._action_dtype)
                space = gymnasium.spaces.Box(-1.0, 1.0, space.shape, space.dtype)
        self._action_spec = tensor_spec_from_gym_space(space, path="action")

    def _read_observation_spec(self, spec: Any) -> None:
        space = _unbounded(spec.gymnasium_observation_space)
        self._observation_spec = tensor_spec_from_gym_space(space, path="observation")
        parts = [tuple(re.split(r"[:.]", key)) for key in self._keys]
        places = {path[1:]: place for place, path in enumerate(parts) if path[0] == "obs"}
        if not isinstance(space, gymnasium.spaces.Dict):
            places = {(): list(places.values())[0]}  # its name does not count
        self._observations = [(places[leaf.keys], leaf.start) for leaf in observation_leaves(space)]

    def _read_info_spec(self, spec: Any) -> None:
        self._infos: dict[str, int] = {}
        self._info_spec: dict[str, TensorSpec] = {}
        for place, (key, array) in enumerate(zip(self._keys, spec._state_spec)):
            dtype, name = np.dtype(array[0]), key.removeprefix("info:")
            is_number = dtype.kind in "fiub" and not [size for size in array[1] if size != -1]  # -1: of players
            if key.startswith("info:") and is_number and name not in ("env_id", "players.env_id"):
                self._infos[name] = place
                self._info_spec[name] = TensorSpec((), np.dtype(np.float32) if dtype.kind == "f" else dtype)

    def _lay_out(self, spec: Any) -> None:
        """Decide which place of EnvPool's state goes where in a time step."""
        observation, observation_spec = [place for place, _ in self._observations], self._observation_spec
        self._image: int | None = None  # place of an observation that is not copied
        if isinstance(observation_spec, TensorSpec):
            place, start = self._observations[0]
            num_bytes = self._batch_size * observation_spec.numel * np.dtype(observation_spec.dtype_str).itemsize
            is_right = np.dtype(spec._state_spec[place][0]) == observation_spec.dtype_str and not np.any(start)
            if is_right and num_bytes >= _LARGE_BYTES:
                self._image, observation_spec, observation = place, (), []
        index = self._keys.index
        places = TimeStep(
            step_type=index("step_type"),
            reward=index("reward"),
            discount=index("discount"),
            observation=nest.pack_sequence_as(observation_spec, observation),
            prev_action=-1,  # the actions are put behind the state
            env_info=self._infos,
        )
        self._places = nest.flatten(places)
        # Leaves that are not counted from 0, and from what.
        self._starts = [(self._places.index(place), start) for place, start in self._observations if np.any(start)]
        row_spec = time_step_spec(observation_spec, self._action_spec, self.reward_spec())
        row_spec = row_spec._replace(env_info=self._info_spec, env_id=())
        self._ring = TimeStepRing(row_spec, self._batch_size, self._env_ids)

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
        return self._ring.num_rows - 1 if self._device == "cpu" else None

    def reserve_rows(self, num_time_steps: int) -> None:
        """Let at least ``num_time_steps`` successive time steps be valid together.

        Raises:
            RuntimeError: if the environment has been reset already with fewer.
        """
        self._ring.reserve(num_time_steps)

    def env_info_spec(self) -> dict:
        """Return the specs of the numbers that EnvPool reports for each environment."""
        return self._info_spec

    def observation_spec(self) -> Any:
        """Return the spec of the observation, a dictionary where EnvPool has one."""
        return self._observation_spec

    def action_spec(self) -> BoundedTensorSpec:
        """Return the spec of the action."""
        return self._action_spec

    def seed(self, seed: Sequence[int] | int) -> None:
        """Seed the environments, which are made anew by the next reset.

        Args:
            seed: one seed for each environment, or one number to which each adds its index. Taken modulo 2**31.
        Raises:
            ValueError: if the number of seeds is not that of environments.
        """
        seeds = [seed + row for row in range(self._batch_size)] if np.ndim(seed) == 0 else list(seed)
        if len(seeds) != self._batch_size:
            raise ValueError(
                f"EnvPoolEnvironment.seed: expected {self._batch_size} seeds, one for each environment, got "
                f"{len(seeds)}."
            )
        self._seeds = [int(value) % _SEED_LIMIT for value in seeds]
        self._is_pool_due = True

    def get_info(self) -> dict:
        """Return all arrays ``[B, ...]`` of EnvPool's latest step by its names for them, such as ``info:ram``."""
        return dict(zip(self._keys, self._state))

    def close(self) -> None:
        """Stop the threads of EnvPool. A reset starts new ones."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None  # its destructor ends the threads
        self._is_pool_due = True

    def render(self, mode: str = "rgb_array") -> np.ndarray | None:
        """Return a frame of environment 0, uint8 ``[height, width, 3]``, or show it (``"human"``).

        Raises:
            NotImplementedError: unless the pool was made with this ``render_mode``.
        """
        found = getattr(self._pool, "render_mode", None)
        if found != mode:
            raise NotImplementedError(
                f"EnvPoolEnvironment.render: EnvPool was made with render_mode={found!r}, and is asked for {mode!r}. "
                f"Set suite_envpool.load.options={{'render_mode': {mode!r}}} and reset; or evaluate and play with "
                "Gymnasium: create_environment.eval_env_load_fn=suite_gym.load."
            )
        frames = self._pool.render()
        return None if frames is None else frames[0]

    def _reset(self) -> TimeStep:
        if self._is_pool_due:
            self.close()
            self._pool = self._make_pool(self._seeds)
            self._is_pool_due = False
        self._pool._reset(self._rows)
        self._is_after_end = True
        return self._receive(np.zeros((self._batch_size, *self._action_spec.shape), self._action_spec.dtype_str))

    def _step(self, action: torch.Tensor) -> TimeStep:
        numbers = action_array(action)
        # What `step` of EnvPool does, without its dictionaries: they take longer than eight CartPoles.
        self._pool._send([self._rows, self._rows, self._for_pool(numbers)])
        return self._receive(numbers)

    def _for_pool(self, action: np.ndarray) -> np.ndarray:
        """Return actions as EnvPool takes them: of its dtype, contiguous, within its bounds."""
        if action.shape != (self._batch_size, *self._action_spec.shape):
            raise ValueError(
                f"EnvPoolEnvironment.step: action: expected shape {(self._batch_size, *self._action_spec.shape)}, "
                f"got {action.shape}."
            )
        converted = action.astype(self._action_dtype, "C")
        if self._action_scale is not None:
            converted *= self._action_scale
            converted += self._action_offset
        if self._action_low is not None:
            return converted.clip(self._action_low, self._action_high, out=converted)
        if self._action_start:
            converted += self._action_dtype.type(self._action_start)
        return converted

    def _receive(self, action: np.ndarray) -> TimeStep:
        """Return the time step that EnvPool has ready.

        Args:
            action: ``[B, ...]``, which led to it.
        """
        self._state = state = self._pool._recv()
        state.append(action)
        time_step, arrays, leaves = self._ring.next()
        for place, leaf in zip(self._places, leaves):
            leaf[...] = state[place]
        for index, start in self._starts:
            leaves[index] -= start
        is_end = any_true(state[self._done])
        if is_end:
            arrays.discount[state[self._truncated]] = 1.0
        if self._discount != 1:
            arrays.discount[arrays.step_type != FIRST] *= self._discount
        if self._is_after_end:
            first = arrays.step_type == FIRST
            arrays.reward[first] = 0  # some of EnvPool's environments reward their first observation
            arrays.prev_action[first] = 0
        self._is_after_end = is_end
        if self._image is not None:
            time_step = time_step._replace(observation=torch.from_numpy(state[self._image]))  # EnvPool gives it away
        if self._device != "cpu":
            time_step = convert_device(time_step, self._device)
        return time_step


def _unbounded(space: gymnasium.Space) -> gymnasium.Space:
    """Return a space with infinite bounds where EnvPool has C++'s ``numeric_limits``, whose min is a tiny number."""
    if isinstance(space, gymnasium.spaces.Dict):
        return gymnasium.spaces.Dict({name: _unbounded(child) for name, child in space.spaces.items()})
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype.kind != "f":
        return space
    low, high = space.low.copy(), space.high.copy()
    for limits in (np.finfo(np.float32), np.finfo(np.float64)):
        low[(low == limits.tiny) | (low == -limits.max)] = -np.inf
        high[high == limits.max] = np.inf
    return gymnasium.spaces.Box(low, high, space.shape, space.dtype)


def pool_name(environment_name: str, known: Sequence[str]) -> str:
    """Return EnvPool's name of an environment: ``"Pong-v5"`` for any id of Pong, else the id itself.

    Args:
        environment_name: a name of EnvPool, or an id of an Atari game such as ``"ALE/Pong-v5"``.
        known: the names that EnvPool has.
    Raises:
        ValueError: if it has none; it names the nearest.
    """
    name = re.sub(r"^(?:ALE/)?(\w+?)(?:NoFrameskip-v\d|Deterministic-v\d|-v5)$", r"\1-v5", environment_name)
    if environment_name in known:
        return environment_name
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=3)
    raise ValueError(
        f"suite_envpool.load.environment_name: expected an environment of EnvPool, got {environment_name!r}."
        f"{' Did you mean ' + ' or '.join(map(repr, near)) + '?' if near else ''} envpool.list_all_envs() tells all."
    )


def _check_options(options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise unless each option is one that EnvPool has for the environment and that is not taken by an argument."""
    for name in options:
        if name in _TAKEN:
            raise ValueError(f"suite_envpool.load.options[{name!r}]: cannot be set here. Use {_TAKEN[name]}.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise ValueError(
                f"suite_envpool.load.options: expected options that EnvPool has for this environment, got {name!r}. "
                f"{'Did you mean ' + ' or '.join(map(repr, near)) + '? ' if near else ''}"
                f"It has {', '.join(sorted(set(known) - set(_TAKEN)))}."
            )


@configurable
def load(
    environment_name: str,
    env_id: int | None = None,
    batch_size: int = 1,
    discount: float = 1.0,
    max_episode_steps: int | None = None,
    num_threads: int = 0,
    options: Mapping[str, Any] = {},  # noqa: B006 (never written)
    alf_env_wrappers: Sequence[Callable] = (),
) -> AlfEnvironment:
    """Return a batch of environments that EnvPool steps.

    To be used as ``create_environment(env_load_fn=suite_envpool.load, env_name="HalfCheetah-v5")``. These are
    EnvPool's own versions of the environments: equal to Gymnasium's as far as EnvPool says, and not bit for bit.
    Atari games are preprocessed as DQN did, with uint8 observations ``[stack, height, width]`` (grey) or ``[stack *
    3, height, width]``.

    Args:
        environment_name: a name of ``envpool.list_all_envs()``; also ``"ALE/Pong-v5"`` and
            ``"PongNoFrameskip-v4"``, which mean EnvPool's ``"Pong-v5"`` with the options below.
        env_id: index of the batch where there are several.
        batch_size: number of environments.
        discount: factor on the discount of every step but the first of an episode.
        max_episode_steps: time limit in steps; None takes that of EnvPool.
        num_threads: threads of EnvPool; 0 lets it choose.
        options: further options of EnvPool by its own names, for example ``{"stack_num": 1, "gray_scale": False,
            "episodic_life": True, "reward_clip": True}`` for Atari, or ``{"render_mode": "rgb_array"}``.
        alf_env_wrappers: called with the batched environment.
    Raises:
        ImportError: if EnvPool is missing; it names the extra to install.
        ValueError: if there is no such environment or option; it names the nearest.
        TypeError: if the environment has several players, or parts without fixed shape.
    """
    try:
        import envpool
    except ImportError as error:
        raise ImportError(f"suite_envpool needs the package envpool: {how_to_install('envpool')}.") from error
    name = pool_name(environment_name, envpool.list_all_envs())
    _check_options(options, [*type(envpool.make_spec(name)).gen_config._fields, *_DRAWING])
    arguments = dict(options, num_envs=batch_size, num_threads=num_threads)
    if max_episode_steps is not None:
        arguments["max_episode_steps"] = max_episode_steps
    env: AlfEnvironment = EnvPoolEnvironment(
        functools.partial(_make_pool, name, arguments),
        envpool.make_spec(name, **arguments),
        batch_size,
        discount,
        (env_id or 0) * batch_size,
    )
    for wrapper in alf_env_wrappers:
        env = wrapper(env)
    return env


def _make_pool(name: str, arguments: dict[str, Any], seeds: list[int]) -> Any:
    import envpool

    return envpool.make(name, env_type="gymnasium", seed=seeds, **arguments)


#: Tells create_environment that one call makes a whole batch.
load.batched = True
