"""Environment ids: retired ones and their successors, plug-in packages, making a bare environment."""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import logging
import re
from typing import Any

import gymnasium

from alf._install import how_to_install
from alf.environments._mujoco_compat import let_joint_types_be_compared

logger = logging.getLogger(__name__)

#: Ids that Gymnasium no longer has, with the successor whose task is the same.
RETIRED = {
    "Pendulum-v0": "Pendulum-v1",
    "BipedalWalker-v2": "BipedalWalker-v3",
    "BipedalWalkerHardcore-v2": "BipedalWalkerHardcore-v3",
    "LunarLander-v2": "LunarLander-v3",
    "LunarLanderContinuous-v2": "LunarLanderContinuous-v3",
    "CarRacing-v0": "CarRacing-v3",
    "CarRacing-v1": "CarRacing-v3",
    "CarRacing-v2": "CarRacing-v3",
    "Blackjack-v0": "Blackjack-v1",
    "CliffWalking-v0": "CliffWalking-v1",
    "FrozenLake-v0": "FrozenLake-v1",
    "FrozenLake8x8-v0": "FrozenLake8x8-v1",
    "Taxi-v2": "Taxi-v4",
    "Taxi-v3": "Taxi-v4",
}
# v2 and v3 need the retired mujoco-py; v5 observes more in Ant, Humanoid and HumanoidStandup than v2 and v3
# did.
_MUJOCO = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
RETIRED.update({f"{name}-v{version}": f"{name}-v5" for name in _MUJOCO for version in (1, 2, 3)})
RETIRED.update(
    {
        f"Fetch{task}{reward}-v{version}": f"Fetch{task}{reward}-v4"
        for task in ("Reach", "Push", "Slide", "PickAndPlace")
        for reward in ("", "Dense")
        for version in (0, 1, 2, 3)
    }
)

#: (pattern of ids, module whose import registers them, how to install it)
_PLUGINS = (
    (r"ALE/.+|.+NoFrameskip-v\d|.+Deterministic-v\d", "ale_py", how_to_install("atari")),
    (r"(MiniGrid|BabyAI)-.+", "minigrid", "pip install minigrid"),
    (r"(Fetch|Hand|AntMaze|PointMaze|AdroitHand|FrankaKitchen).+", "gymnasium_robotics", how_to_install("robotics")),
    (r"dm_control/.+", "shimmy", "pip install 'shimmy[dm-control]'"),
    (r"(highway|merge|roundabout|parking|intersection|racetrack)-.+", "highway_env", "pip install highway-env"),
)

#: Module of an entry point -> extra with the packages that it imports.
_EXTRAS = (
    ("gymnasium.envs.box2d", "box2d"),
    ("gymnasium.envs.mujoco", "mujoco"),
    ("ale_py", "atari"),
    ("gymnasium.envs.", "classic-control"),
)

_warned: set[str] = set()


def _warn_once(env_id: str, text: str) -> None:
    if env_id not in _warned:
        _warned.add(env_id)
        logger.warning(text)


def successor(env_id: str) -> tuple[str, dict[str, Any]]:
    """Return the id that replaces ``env_id`` and its extra arguments; warns once if that is another id."""
    if env_id in RETIRED:
        _warn_once(env_id, f"{env_id} is retired: using its successor {RETIRED[env_id]}.")
        return RETIRED[env_id], {}
    match = re.fullmatch(r"([A-Za-z]+?)(NoFrameskip|Deterministic)?-v([04])", env_id)
    if match and match[2]:
        new_id = f"ALE/{match[1]}-v5"
        frameskip = 1 if match[2] == "NoFrameskip" else 3 if match[1] == "SpaceInvaders" else 4
        kwargs = dict(frameskip=frameskip, repeat_action_probability=0.25 if match[3] == "0" else 0.0)
        _warn_once(
            env_id,
            f"{env_id} is retired: using its successor {new_id} with frameskip={frameskip} and "
            f"repeat_action_probability={kwargs['repeat_action_probability']}.",
        )
        return new_id, kwargs
    return env_id, {}


def _import_plugin(env_id: str) -> None:
    """Import the package that registers ``env_id``, if one is known for it.

    Raises:
        ImportError: if that package is missing; it says what to install.
    """
    for pattern, module, how in _PLUGINS:
        if re.fullmatch(pattern, env_id):
            if importlib.util.find_spec(module) is None:
                raise ImportError(
                    f"{env_id!r} needs the package {module}, which is not installed: {how}."
                )
            gymnasium.register_envs(importlib.import_module(module))
            return


def find_spec(environment_name: str) -> gymnasium.envs.registration.EnvSpec:
    """Return a copy of the registered spec of ``environment_name``, retired ids replaced.

    Args:
        environment_name: a Gymnasium id, or ``"module:id"`` where importing the module registers the id.
    Raises:
        ValueError: if there is no such id; it names the nearest.
        ImportError: if the module or the package of the environment is missing.
    """
    module, _, env_id = environment_name.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise  # it exists, and something that it imports does not
            raise ImportError(
                f"environment_name: {environment_name!r} is registered by the package {module!r}, which is not "
                "installed. Install it, or correct the name before the colon."
            ) from None
    kwargs: dict[str, Any] = {}
    if env_id not in gymnasium.registry or env_id in RETIRED:
        env_id, kwargs = successor(env_id)
        if env_id not in gymnasium.registry:
            _import_plugin(env_id)
    if env_id not in gymnasium.registry:
        near = difflib.get_close_matches(env_id, gymnasium.registry, n=3, cutoff=0.5)
        raise ValueError(
            f"environment_name: expected a registered environment, got {environment_name!r}. "
            f"{'Did you mean ' + ' or '.join(map(repr, near)) + '? ' if near else ''}"
            "If another package registers it, name that: 'package:EnvId-v0'."
        )
    spec = copy.deepcopy(gymnasium.registry[env_id])
    spec.kwargs.update(kwargs)
    return spec


def make(spec: gymnasium.envs.registration.EnvSpec) -> gymnasium.Env:
    """Return the bare environment of ``spec``: without checker, order enforcing and time limit.

    AlfGymWrapper and alf_wrappers.TimeLimit do their work at a fraction of their cost. Environments of
    Gymnasium and ale-py are made without a render mode, which AlfGymWrapper.render sets when it is needed:
    LunarLander, for one, is three times slower with it. Others may need it from the start and get
    ``"rgb_array"`` if they know it.

    Raises:
        ImportError: if a package that the environment needs is missing; it names the extra to install.
    """
    spec = copy.deepcopy(spec)
    spec.order_enforce = False
    spec.disable_env_checker = True
    spec.max_episode_steps = None
    try:
        creator = spec.entry_point
        if isinstance(creator, str):
            creator = gymnasium.envs.registration.load_env_creator(creator)
        metadata = getattr(creator, "metadata", None)
        switches_mode = str(spec.entry_point).startswith(("gymnasium.envs.", "ale_py"))
        if not switches_mode and isinstance(metadata, dict) and "rgb_array" in metadata.get("render_modes", ()):
            spec.kwargs.setdefault("render_mode", "rgb_array")
        if str(spec.entry_point).startswith("gymnasium_robotics"):
            let_joint_types_be_compared()
        return gymnasium.make(spec)
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        entry_point = str(spec.entry_point)
        extra = next((extra for prefix, extra in _EXTRAS if entry_point.startswith(prefix)), None)
        if extra is None:
            raise
        raise ImportError(
            f"{spec.id!r} needs packages that are not installed ({error}): {how_to_install(extra)}."
        ) from error
