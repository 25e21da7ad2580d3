"""check_environment: what is wrong with an environment, found before a long run rather than in it."""

from __future__ import annotations

from typing import Any, Callable

import gymnasium
import numpy as np
import torch

import alf.nest as nest
from alf.data_structures import TimeStep
from alf.environments._env_findings import Finding, Findings, told_error
from alf.environments._gym_checks import GymChecks
from alf.environments._rows import FIRST, LAST, MID
from alf.environments.alf_environment import AlfEnvironment
from alf.tensor_specs import BoundedTensorSpec

__all__ = ["Finding", "check_environment", "check_gym_environment"]


def check_gym_environment(
    env: gymnasium.Env, num_steps: int = 300, seed: int = 0, time_limit: int = 0
) -> list[Finding]:
    """Play random episodes in a Gymnasium environment and return what is wrong with it, errors first.

    Looked at are spaces against observations (parts, shape, dtype, bounds, NaN), types of reward, flags and info,
    whether a reset with a seed repeats an episode and other seeds give others, whether returned arrays are written
    again, whether episodes end, the bounds of actions and pictures.

    Args:
        env: the environment.
        num_steps: random steps to play.
        seed: of environment and actions.
        time_limit: steps after which a wrapper of the caller's ends an episode; 0: none does.
    """
    findings = Findings()
    has_reward_space = env.has_wrapper_attr("reward_space") or env.has_wrapper_attr("reward_spec")
    GymChecks(env, findings, has_reward_space, time_limit).run(num_steps, seed)
    return findings.as_list()


def check_environment(load: Callable[[], AlfEnvironment], num_steps: int = 300, seed: int = 0) -> list[Finding]:
    """Return what is wrong with an environment, errors first.

    Where there is a Gymnasium environment inside, it is checked first (:func:`check_gym_environment`). If it is free of
    errors, so are the time steps that algorithms get: their specs, order and discounts, and whether an environment that
    gives its state goes on from it exactly.

    Args:
        load: returns a new environment.
        num_steps: random steps to play.
        seed: of environment and actions.
    """
    findings = Findings()
    try:
        env = load()
        gym_env = getattr(env, "gym", None)
    except Exception as error:
        findings.error("environment", "to be made", told_error(error), "Correct what is named")
        return findings.as_list()
    found = []
    try:
        if isinstance(gym_env, gymnasium.Env):
            found = check_gym_environment(gym_env, num_steps, seed, time_limit=getattr(env, "duration", 0))
        if not any(finding.severity == "error" for finding in found):
            env.seed([seed] * env.batch_size if env.batched else seed)
            _check_time_steps(env, findings, num_steps, np.random.default_rng(seed))
            if not findings.has_errors:
                _check_state(env, findings, np.random.default_rng(seed))
    except Exception as error:
        findings.error("environment", "no exception", told_error(error), "Correct what is named")
    finally:
        env.close()
    return sorted([*found, *findings.as_list()], key=lambda finding: finding.severity != "error")


def _check_time_steps(env: AlfEnvironment, findings: Findings, num_steps: int, rng: np.random.Generator) -> None:
    spec = env.time_step_spec()
    specs = {"observation": spec.observation, "reward": spec.reward, "prev_action": spec.prev_action,
             "discount": spec.discount, "step_type": spec.step_type, "env_info": env.env_info_spec()}
    findings.step, before = 0, np.full(env.batch_size, LAST)
    time_step = env.reset()
    for step in range(num_steps + 1):
        findings.step = step
        for name, part in specs.items():
            _check_leaves(findings, name, part, getattr(time_step, name), env.batched)
        if findings.has_errors:
            return
        before = _check_order(findings, before, time_step)
        time_step = env.step(_random_action(env, rng))
    findings.step = None


def _check_leaves(findings: Findings, name: str, spec: Any, value: Any, batched: bool) -> None:
    try:
        nest.assert_same_structure(spec, value)
    except (RuntimeError, ValueError) as error:
        return findings.error(name, "the structure of its spec", f"another: {error}", "Correct the spec or the value")
    paths = nest.flatten(nest.py_map_structure_with_path(lambda path, _: f"{name}.{path}" if path else name, spec))
    for path, leaf_spec, leaf in zip(paths, nest.flatten(spec), nest.flatten(value), strict=True):
        array = _array(leaf)
        shape = array.shape[1:] if batched else array.shape
        if shape != leaf_spec.shape or array.dtype != leaf_spec.dtype_str:
            findings.error(path, f"shape {leaf_spec.shape} and dtype {leaf_spec.dtype_str} of its spec",
                           f"shape {shape} and dtype {array.dtype}", "Correct the spec or the value")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            findings.error(path, "finite numbers", f"{array!r:.80}", "Look for a division by 0")
        elif name == "observation" and leaf_spec.is_bounded() and (
                (array < leaf_spec.minimum).any() or (array > leaf_spec.maximum).any()):
            findings.error(path, f"numbers within {leaf_spec}", f"{array.min()} to {array.max()}",
                           "Correct the bounds of its spec, or clip")


def _check_order(findings: Findings, before: np.ndarray, time_step: TimeStep) -> np.ndarray:
    """Return the step types ``[B]`` of a time step, and note those that cannot follow those before."""
    step_type = np.atleast_1d(_array(time_step.step_type))
    discount = np.atleast_1d(_array(time_step.discount))
    if ((before == LAST) != (step_type == FIRST)).any() or not np.isin(step_type, (FIRST, MID, LAST)).all():
        findings.error("step_type", "FIRST after LAST and at the start, and nowhere else",
                       f"{step_type.tolist()} after {before.tolist()}", "Return FIRST from the step after LAST")
    if ((discount < 0) | (discount > 1)).any() or ((discount == 0) & (step_type != LAST)).any():
        findings.error("discount", "numbers from 0 to 1, 0 only at LAST", f"{discount.tolist()}",
                       "Give discount 0 where the task has ended, and the usual one elsewhere")
    return step_type


def _check_state(env: AlfEnvironment, findings: Findings, rng: np.random.Generator) -> None:
    """Check that an environment goes on from its own state as it did before."""
    state = env.get_state()
    if state is None:
        return
    actions = [_random_action(env, rng) for _ in range(10)]
    first = [_copied(env.step(action)) for action in actions]
    env.set_state(state)
    for step, (action, expected) in enumerate(zip(actions, first)):
        findings.step = step + 1
        if not all(np.array_equal(x, y) for x, y in zip(expected, _copied(env.step(action)), strict=True)):
            return findings.error("get_state()", "all that decides how the environment goes on",
                                  "another time step after set_state() with the same actions",
                                  "Add what is missing to the state, or return None")


def _copied(time_step: TimeStep) -> list[np.ndarray]:
    return [_array(leaf).copy() for leaf in nest.flatten(time_step)]


def _array(leaf: Any) -> np.ndarray:
    return leaf.detach().cpu().numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf)


def _random_action(env: AlfEnvironment, rng: np.random.Generator) -> Any:
    outer = (env.batch_size, ) if env.batched else None

    def draw(spec: BoundedTensorSpec) -> Any:
        low, high = (np.nan_to_num(bound, posinf=1.0, neginf=-1.0) for bound in (spec.minimum, spec.maximum))
        action = BoundedTensorSpec(spec.shape, spec.dtype, low, high).numpy_sample(outer, rng=rng)
        return torch.as_tensor(action) if env.is_tensor_based else action

    return nest.map_structure(draw, env.action_spec())
