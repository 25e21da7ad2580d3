"""create_environment: the batched environment that training and evaluation run on."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import random
from typing import Any, Callable, Sequence

import numpy as np

import alf.environments.alf_wrappers as alf_wrappers
import alf.environments.fast_parallel_environment as fast_parallel_environment
import alf.environments.suite_gym as suite_gym
import alf.environments.suite_native as suite_native
import alf.environments.thread_environment as thread_environment
from alf.config_util import configurable, get_inoperative_configs, get_operative_configs
from alf.environments._non_finite import NonFinitePolicy
from alf.environments.alf_environment import AlfEnvironment

logger = logging.getLogger(__name__)

_RESET_WINDOW_SECONDS = 600.0  # for environments outside of a pool, which has its own


class UnwrappedEnvChecker:
    """Remembers whether this process holds an environment of which there may be only one in a process."""

    def __init__(self):
        self._has_unwrapped_env = False

    def check(self) -> None:
        """Raise if this process already holds such an environment.

        Raises:
            RuntimeError: in that case.
        """
        if self._has_unwrapped_env:
            raise RuntimeError(
                "This process already holds an environment of which there may be only one. Create the "
                "others in processes of their own (wrap_with_process=True), and before it."
            )

    def update(self, wrap_with_process: bool) -> None:
        """Note that an environment was created, in a process of its own if ``wrap_with_process``."""
        self._has_unwrapped_env |= not wrap_with_process

    def check_and_update(self, wrap_with_process: bool) -> None:
        """Check, then note the new environment."""
        self.check()
        self.update(wrap_with_process)


@configurable
def create_environment(
    env_name: Any = "CartPole-v0",
    env_load_fn: Callable = suite_gym.load,
    eval_env_load_fn: Callable | None = None,
    for_evaluation: bool = False,
    num_parallel_environments: int = 30,
    batch_size_per_env: int | None = None,
    eval_batch_size_per_env: int | None = None,
    nonparallel: bool = False,
    flatten: bool = True,
    start_serially: bool = True,
    num_spare_envs: int = 0,
    torch_num_threads_per_env: int = 1,
    parallel_environment_ctor: Callable = fast_parallel_environment.FastParallelEnvironment,
    seed: int | None = None,
    batched_wrappers: Sequence[Callable] = (),
    *,
    num_workers: int | None = None,
    num_parts: int | None = None,
    native: bool | str = "auto",
    on_non_finite: str = "raise",
    max_non_finite_resets: int = 10,
) -> AlfEnvironment:
    """Return a batched, tensor based environment.

    ``env_load_fn`` is called as ``env_load_fn(env_name, env_id=i)`` once for each environment. If it has an
    attribute ``batched`` that is true, it makes whole batches natively: ``env_load_fn(env_name,
    batch_size=n)``. If it has a true attribute ``no_thread_env``, its environments must stay in the thread
    that made them.

    Args:
        env_name: name of the environment; a list or tuple of names makes a multitask environment of them.
        env_load_fn: see above.
        eval_env_load_fn: the same for evaluation; None uses ``env_load_fn``.
        for_evaluation: make an environment for evaluation: not parallel, ``eval_batch_size_per_env``
            environments (1 by default).
        num_parallel_environments: number of environments, which is the batch size.
        batch_size_per_env: number of environments in each process, or in each native batch; None leaves that
            to ``parallel_environment_ctor``. Must divide ``num_parallel_environments``.
        eval_batch_size_per_env: number of environments for evaluation.
        nonparallel: make one environment, in a thread of this process (batch size 1).
        flatten: passed to ``parallel_environment_ctor``.
        start_serially: passed to ``parallel_environment_ctor``.
        num_spare_envs: passed to ``parallel_environment_ctor``: environments kept reset in advance.
        torch_num_threads_per_env: passed to ``parallel_environment_ctor``.
        parallel_environment_ctor: class of parallel environments.
        seed: environment ``i`` is seeded with ``seed + i``; None draws a seed for each.
        batched_wrappers: called with the batched environment, one after another.
        num_workers: number of worker processes, for constructors that take it.
        num_parts: number of equal parts of the batch that can be stepped by themselves, for constructors that take it;
            None: as the constructor says. Not for evaluation.
        native: whether one native batch takes the place of Gymnasium's classic-control environments, with equal
            results (see ``suite_native``). ``"auto"``: where there is one that can do all that is configured; True:
            always, else an error; False: never. Evaluation and play always use Gymnasium, which can render.
        on_non_finite: what is done where a reward or an observation is NaN or infinite: ``"raise"`` or ``"reset"``. A
            reset environment's episode ends at the time step before, and nothing is learned from the bad one. What
            makes a batch by itself (``env_load_fn.batched``) is reset as a whole.
        max_non_finite_resets: number of such resets within ten minutes after which it raises all the same.
    Raises:
        ValueError: if a count is smaller than 1, ``batch_size_per_env`` does not divide the batch, or ``native`` is
            True and there is no such batch.
    """
    _check_counts(num_parallel_environments, batch_size_per_env, eval_batch_size_per_env, num_spare_envs)
    if for_evaluation:
        env_load_fn = eval_env_load_fn or env_load_fn
        num_environments = eval_batch_size_per_env or 1
        batch_size_per_env, num_spare_envs = num_environments, 0
    else:
        num_environments = 1 if nonparallel else num_parallel_environments
        batch_size_per_env = None if nonparallel else batch_size_per_env

    batched = _flag(env_load_fn, "batched")
    no_thread_env = _flag(env_load_fn, "no_thread_env")
    if isinstance(env_name, (list, tuple)):
        if batched:
            raise ValueError(
                f"create_environment.env_name: expected one name, got {env_name}: a load function that "
                "makes native batches has one task."
            )
        env_load_fn = functools.partial(alf_wrappers.MultitaskWrapper.load, env_load_fn)

    policy = NonFinitePolicy(on_non_finite, max_non_finite_resets, _RESET_WINDOW_SECONDS, "create_environment")
    # Only where it is asked for: else what FastParallelEnvironment is configured with holds.
    resets = dict(on_non_finite="reset", max_non_finite_resets=max_non_finite_resets) if policy.resets else {}

    plan = None
    if not for_evaluation and (native is True or not nonparallel):
        pooled = _asked_of_pool(
            parallel_environment_ctor,
            batch_size_per_env=batch_size_per_env,
            num_spare_envs=num_spare_envs or None,
            num_workers=num_workers,
            num_parts=num_parts,
        )
        plan = suite_native.pick(env_name, env_load_fn, native, pooled)

    if plan is not None:
        env = plan.make(num_environments)
        seeds = _seeds(seed, num_environments)
    elif batched:
        env = _native_batch(
            env_load_fn,
            env_name,
            num_environments,
            batch_size_per_env,
            parallel_environment_ctor,
            policy,
            start_serially=start_serially,
            torch_num_threads_per_env=torch_num_threads_per_env,
            **resets,
        )
        seeds = seed if seed is not None else random.randint(0, 2**31 - 1)
    elif num_environments == 1 and (nonparallel or for_evaluation):
        constructor = functools.partial(env_load_fn, env_name)
        if no_thread_env:
            env = alf_wrappers.BatchedTensorWrapper(constructor())
        else:
            env = thread_environment.ThreadEnvironment(constructor)
        env = _with_resets(env, policy)
        seeds = seed if seed is not None else random.randint(0, 2**31 - 1)
    else:
        extra = {}
        if batch_size_per_env and not for_evaluation and num_workers is None:
            num_workers = num_environments // batch_size_per_env
        if "num_workers" in inspect.signature(parallel_environment_ctor).parameters:
            extra["num_workers"] = num_workers
        elif num_workers is not None:
            raise ValueError(
                f"create_environment: {parallel_environment_ctor.__name__} has one process for each "
                "environment: leave out batch_size_per_env and num_workers, or use "
                "FastParallelEnvironment."
            )
        if num_parts is not None and not for_evaluation:
            if "num_parts" in inspect.signature(parallel_environment_ctor).parameters:
                extra["num_parts"] = num_parts
        if resets and "on_non_finite" not in inspect.signature(parallel_environment_ctor).parameters:
            raise ValueError(
                f"create_environment.on_non_finite='reset': {parallel_environment_ctor.__name__} cannot reset a single "
                "environment. Use FastParallelEnvironment, or leave on_non_finite out."
            )
        _warn_about_cores(num_environments, num_workers)
        env = parallel_environment_ctor(
            [functools.partial(env_load_fn, env_name)] * (num_environments + num_spare_envs),
            start_serially=start_serially,
            flatten=flatten,
            num_spare_envs_for_reload=num_spare_envs,
            torch_num_threads_per_env=torch_num_threads_per_env,
            **resets,
            **extra,
        )
        seeds = _seeds(seed, num_environments)
    if num_parts is not None and not for_evaluation and env.num_parts != num_parts:
        env.close()
        raise ValueError(
            f"create_environment.num_parts={num_parts}: {type(env).__name__} cannot be stepped in parts. Use "
            "FastParallelEnvironment, without nonparallel and native=True, or leave num_parts out."
        )
    env.seed(seeds)
    for wrapper in batched_wrappers:
        env = wrapper(env)
    return env


def _seeds(seed: int | None, num_environments: int) -> list[int]:
    if seed is None:
        return [random.randint(0, 2**31 - 1) for _ in range(num_environments)]
    return [seed + i for i in range(num_environments)]


def _asked_of_pool(parallel_environment_ctor: Callable, **asked: int | None) -> str:
    """Return, in words, which settings need a pool of environments; an empty string if none does."""
    if parallel_environment_ctor is not fast_parallel_environment.FastParallelEnvironment:
        return "parallel_environment_ctor is set"
    names = [name for name, value in asked.items() if value is not None]
    names += [
        name
        for name, _, place in get_operative_configs(places=True) + get_inoperative_configs(places=True)
        if ".FastParallelEnvironment." in name and place != "default"
    ]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} set" if names else ""


def _flag(env_load_fn: Callable, name: str) -> bool:
    """Return whether ``env_load_fn``, or the function it is a partial of, has a true attribute ``name``."""
    while not hasattr(env_load_fn, name) and isinstance(env_load_fn, functools.partial):
        env_load_fn = env_load_fn.func
    return bool(getattr(env_load_fn, name, False))


def _check_counts(
    num_parallel_environments: int,
    batch_size_per_env: int | None,
    eval_batch_size_per_env: int | None,
    num_spare_envs: int,
) -> None:
    counts = dict(
        num_parallel_environments=num_parallel_environments,
        batch_size_per_env=batch_size_per_env,
        eval_batch_size_per_env=eval_batch_size_per_env,
    )
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"create_environment.{name}: must be >= 1, got {count}.")
    if num_spare_envs < 0:
        raise ValueError(f"create_environment.num_spare_envs: must be >= 0, got {num_spare_envs}.")
    if batch_size_per_env is not None and num_parallel_environments % batch_size_per_env:
        raise ValueError(
            f"create_environment.batch_size_per_env: expected a divisor of num_parallel_environments="
            f"{num_parallel_environments}, got {batch_size_per_env}."
        )


def _warn_about_cores(num_environments: int, num_workers: int | None) -> None:
    cores = os.cpu_count() or 1
    if (num_workers or 0) > cores * 8 or (num_workers is None and num_environments > cores * 512):
        logger.warning(
            "create_environment: %d environments in %s processes on %d cores will wait for each other.",
            num_environments,
            num_workers or "few",
            cores,
        )


def _with_resets(env: AlfEnvironment, policy: NonFinitePolicy) -> AlfEnvironment:
    return alf_wrappers.NonFiniteReset(env, policy) if policy.resets else env


def _native_batch(
    env_load_fn: Callable,
    env_name: str,
    num_environments: int,
    batch_size_per_env: int | None,
    parallel_environment_ctor: Callable,
    policy: NonFinitePolicy,
    **pool_options: Any,
) -> AlfEnvironment:
    """Return one native batch, or several in processes of their own."""
    if batch_size_per_env is None or batch_size_per_env == num_environments:
        return _with_resets(env_load_fn(env_name, batch_size=num_environments), policy)
    constructor = functools.partial(env_load_fn, env_name, batch_size=batch_size_per_env)
    return parallel_environment_ctor(
        [constructor] * (num_environments // batch_size_per_env), **pool_options
    )


@configurable
def load_with_random_max_episode_steps(
    env_name: str,
    env_load_fn: Callable = suite_gym.load,
    min_steps: int = 200,
    max_steps: int = 250,
    *,
    env_id: int | None = None,
) -> AlfEnvironment:
    """Return an environment whose time limit is drawn once, uniformly from ``[min_steps, max_steps]``.

    Environments that run in parallel then end their episodes at different times.

    Args:
        env_name: name of the environment.
        env_load_fn: called as ``env_load_fn(env_name, env_id=env_id, max_episode_steps=...)``.
        min_steps: shortest time limit.
        max_steps: longest time limit.
        env_id: index of the environment in a batch.
    Raises:
        ValueError: unless ``1 <= min_steps <= max_steps``.
    """
    if not 1 <= min_steps <= max_steps:
        raise ValueError(
            "load_with_random_max_episode_steps: expected 1 <= min_steps <= max_steps, got "
            f"{min_steps} and {max_steps}."
        )
    # Forked workers share the state of `random`; the index keeps their limits apart.
    rng = np.random.default_rng([random.getrandbits(32), env_id or 0])
    return env_load_fn(env_name, env_id=env_id, max_episode_steps=int(rng.integers(min_steps, max_steps + 1)))
