"""The state of a Gymnasium environment: all that decides how its episode goes on, for those known to give it.

Every wrapper and the environment inside must be known, else there is no state at all: a state that leaves something
out would look exact and not be it.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import acrobot, cartpole, continuous_mountain_car, mountain_car, pendulum

from alf.environments.alf_environment import ForeignStateError, check_layers, class_name

#: Wrapper class -> names of the attributes that change while an episode runs. Other classes may say theirs themselves,
#: in a class attribute `state_attributes`.
_WRAPPERS: dict[type, tuple[str, ...]] = {
    gymnasium.wrappers.TimeLimit: ("_elapsed_steps",),
    gymnasium.wrappers.OrderEnforcing: ("_has_reset",),
    gymnasium.wrappers.PassiveEnvChecker: ("checked_reset", "checked_step", "checked_render"),
    gymnasium.wrappers.FlattenObservation: (),
    gymnasium.wrappers.RescaleAction: (),
    gymnasium.wrappers.ClipAction: (),
    gymnasium.wrappers.AtariPreprocessing: ("obs_buffer", "lives", "game_over"),
}

#: Environment class -> names of the attributes that change while an episode runs.
_ENVIRONMENTS: dict[type, tuple[str, ...]] = {
    cartpole.CartPoleEnv: ("state", "steps_beyond_terminated"),
    mountain_car.MountainCarEnv: ("state",),
    continuous_mountain_car.Continuous_MountainCarEnv: ("state",),
    acrobot.AcrobotEnv: ("state",),
    pendulum.PendulumEnv: ("state", "last_u"),
}


class _Simulator(NamedTuple):
    """How the state of a simulator is read and set."""

    get: Callable[[gymnasium.Env], dict]
    set: Callable[[gymnasium.Env, dict], None]


def get_gym_state(env: gymnasium.Env) -> Optional[dict]:
    """Return the state of an environment and its wrappers, of arrays, numbers and strings; None if it is not known."""
    layers = _layers(env)
    if any(names is None for _, names in layers):
        return None
    *wrappers, own = [{name: _plain(getattr(layer, name)) for name in names} for layer, names in layers]
    env = env.unwrapped
    simulator = _simulator(env)
    return {
        "class": class_name(env),
        "layers": gym_layers(layers[0][0]),
        "wrappers": wrappers,
        "attributes": own,
        "simulator": {} if simulator is None else simulator.get(env),
        "random": env.np_random.bit_generator.state,
    }


def set_gym_state(env: gymnasium.Env, state: dict) -> None:
    """Bring an environment, which must have been reset once, into a state that :func:`get_gym_state` returned.

    Only those attributes are set that would be in the state of this environment.

    Raises:
        ForeignStateError: if it is the state of other wrappers or of another environment, or damaged. Some of it may
            have been set.
    """
    try:
        _check_fits(env, state)
        for (layer, names), values in zip(_layers(env), [*state["wrappers"], state["attributes"]], strict=True):
            for name in names:
                setattr(layer, name, _as_kept(values[name], getattr(layer, name, None)))
        env = env.unwrapped
        simulator = _simulator(env)
        if simulator is not None:
            simulator.set(env, state["simulator"])
        env.np_random.bit_generator.state = state["random"]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, ForeignStateError):
            raise
        raise ForeignStateError(f"the state of {class_name(env.unwrapped)} is damaged: {error!r}") from error


def _check_fits(env: gymnasium.Env, state: dict) -> None:
    """Raise if a state has other layers than an environment, or other attributes."""
    if "layers" in state:
        check_layers(state["layers"], gym_layers(env))
    else:  # as versions wrote it that did not name the wrappers
        check_layers([state["class"]], [class_name(env.unwrapped)])
    layers, saved = _layers(env), [*state["wrappers"], state["attributes"]]
    for layer, names in layers:
        if names is None:
            raise ForeignStateError(f"the state of {class_name(layer)} is not known, so that none can be set")
    expected, got = [sorted(names) for _, names in layers], [sorted(values) for values in saved]
    if expected != got:
        raise ForeignStateError(
            f"the state does not fit {' > '.join(gym_layers(env))}: expected the attributes {expected}, got {got}"
        )


def gym_layers(env: gymnasium.Env) -> list[str]:
    """Return the full names of the classes of wrappers and environment, the outermost first."""
    return [class_name(layer) for layer, _ in _layers(env)]


def _layers(env: gymnasium.Env) -> list[tuple[gymnasium.Env, Optional[tuple[str, ...]]]]:
    """Return the wrappers and the environment with the names of what changes in them; None where it is not known."""
    layers = []
    while isinstance(env, gymnasium.Wrapper):
        layers.append((env, _state_attributes(type(env), _WRAPPERS)))
        env = env.env
    names = () if _simulator(env) is not None else _state_attributes(type(env), _ENVIRONMENTS)
    return [*layers, (env, names)]


def _state_attributes(cls: type, table: dict) -> Optional[tuple[str, ...]]:
    # Of the class itself: a subclass may keep more than its parent.
    return cls.__dict__.get("state_attributes", table.get(cls))


def _plain(value: Any) -> Any:
    """Return a copy of an attribute as an array or a number; other kinds as a dictionary that tells which."""
    if isinstance(value, tuple):
        return {"tuple": [float(part) for part in value]}
    if isinstance(value, dict):
        return {"arrays": {key: array.copy() for key, array in value.items()}}
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, (np.ndarray, list)):
        return np.array(value)
    return value.item() if isinstance(value, np.generic) else value


def _as_kept(value: Any, present: Any) -> Any:
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(value["tuple"])
        if "arrays" in value:
            return {key: np.array(array) for key, array in value["arrays"].items()}
        present.bit_generator.state = value["generator"]
        return present
    return np.array(value) if isinstance(value, np.ndarray) else value


def _simulator(env: gymnasium.Env) -> Optional[_Simulator]:
    if type(env).__module__.startswith("gymnasium.envs.mujoco.") and hasattr(env, "data"):
        return _Simulator(_get_mujoco, _set_mujoco)
    if class_name(env) == "ale_py.env.AtariEnv":
        return _Simulator(_get_ale, _set_ale)
    return None


def _mujoco_arrays(env: gymnasium.Env) -> dict[str, np.ndarray]:
    """Return the arrays of the simulation: some are of one substep earlier than positions, and are observed.

    Those that each substep makes anew (constraints, contacts, islands) are left out: they are empty at first.
    """
    untouched = type(env.data)(env.model)
    names = [name for name in dir(untouched) if not name.startswith("_") and _is_filled_array(untouched, name)]
    return {name: getattr(env.data, name) for name in names}


def _is_filled_array(data: Any, name: str) -> bool:
    value = getattr(data, name, None)
    return isinstance(value, np.ndarray) and value.flags.writeable and value.size > 0


def _get_mujoco(env: gymnasium.Env) -> dict:
    return {"time": float(env.data.time), **{name: array.copy() for name, array in _mujoco_arrays(env).items()}}


def _set_mujoco(env: gymnasium.Env, state: dict) -> None:
    env.data.time = state["time"]
    for name, array in _mujoco_arrays(env).items():
        array[...] = state[name]


def _get_ale(env: gymnasium.Env) -> dict:
    # With the emulator's own random numbers, which sticky actions use.
    state = env.ale.cloneState(include_rng=True)
    return {"emulator": np.frombuffer(state.serialize(), np.uint8)}


def _set_ale(env: gymnasium.Env, state: dict) -> None:
    from ale_py import ALEState

    env.ale.restoreState(ALEState(np.asarray(state["emulator"], np.uint8).tobytes()))
