"""What pools of environments do when one of them fails: faults_pools.py POOL, which is alf, gymnasium or sb3.

Four environments, of which number 1 fails at its fifth step. Each question is asked in a process of its own, which is
given up after some seconds. The last line that is printed is JSON: an answer for each question. Gymnasium's and alf's
pool are given a limit of three seconds for a step; the other has none to give.
"""

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium
import numpy as np
import psutil

NUM_ENVS, FAULTY, FAULTY_STEP, LIMIT_SECONDS, GIVEN_UP_SECONDS = 4, 1, 5, 3.0, 20.0
FAULTS = ("raises", "exits", "is killed", "hangs", "returns NaN")


class Faulty(gymnasium.Env):
    """Counts its steps; fails as asked for at one of them."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4, ), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fault):
        self._fault, self._num_steps = fault, 0

    def reset(self, *, seed=None, options=None):
        """Return zeros."""
        return np.zeros(4, np.float32), {}

    def step(self, action):
        """Return zeros, or fail."""
        self._num_steps += 1
        fault = self._fault if self._num_steps == FAULTY_STEP else None
        if fault == "raises":
            raise ArithmeticError("the simulation broke down")
        if fault == "exits":
            os._exit(3)
        if fault == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hangs":
            time.sleep(10**6)
        return np.zeros(4, np.float32), float("nan") if fault == "returns NaN" else 1.0, False, False, {}


def make_pool(name, fault):
    """Return functions that reset, step and close a pool of four environments."""
    makers = [functools.partial(Faulty, fault if index == FAULTY else None) for index in range(NUM_ENVS)]
    actions = np.zeros(NUM_ENVS, np.int64)
    if name == "gymnasium":
        env = gymnasium.vector.AsyncVectorEnv(makers)

        def step():
            env.step_async(actions)
            env.step_wait(timeout=LIMIT_SECONDS)

        return env.reset, step, env.close
    if name == "sb3":
        from stable_baselines3.common.vec_env import SubprocVecEnv
        env = SubprocVecEnv(makers)
        return env.reset, lambda: env.step(actions), env.close
    import torch

    from alf.environments import suite_gym
    from alf.environments.fast_parallel_environment import FastParallelEnvironment
    env = FastParallelEnvironment([lambda maker=maker: suite_gym.wrap_env(maker()) for maker in makers],
                                  num_workers=2, step_timeout_seconds=LIMIT_SECONDS)
    return env.reset, lambda: env.step(torch.from_numpy(actions)), env.close


def fail(name, fault, answer):
    """Step until the failure is told, and close the pool; put into ``answer`` what was seen."""
    reset, step, close = make_pool(name, fault)
    reset()
    began = time.monotonic()
    answer["told"] = None
    try:
        for _ in range(2 * FAULTY_STEP):
            began = time.monotonic()
            step()
    except BaseException as error:
        # With causes and notes. "worker 1" would not do: it stands in a list of all workers, too.
        text = "".join(traceback.format_exception(error)).lower()
        answer.update(told=type(error).__name__, seconds=round(time.monotonic() - began, 2),
                      names_environment=any(f"{word}{FAULTY}" in text for word in ("environment ", "env ", "worker-")),
                      has_cause="the simulation broke down" in text)
    began = time.monotonic()
    answer["closes"] = False
    try:
        close()
    except BaseException as error:
        answer["close_raises"] = type(error).__name__
    answer.update(closes=True, close_seconds=round(time.monotonic() - began, 2))


def step_for_ever(name, answer):
    """Step until killed."""
    reset, step, _ = make_pool(name, None)
    reset()
    while True:
        step()
        answer["steps"] = True


def ask(target, *arguments):
    """Return what ``target`` puts into its answer; it is killed with its children when it takes too long."""
    with multiprocessing.Manager() as manager:
        answer = manager.dict()
        process = multiprocessing.get_context("fork").Process(target=target, args=(*arguments, answer))
        process.start()
        process.join(GIVEN_UP_SECONDS)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)] \
            if process.is_alive() else []
        for one in family:
            one.kill()
        return {**answer, "given_up": bool(family)}


def count_orphans(name):
    """Return how many processes of a pool are left three seconds after its owner was killed."""
    with multiprocessing.Manager() as manager:
        answer = manager.dict()
        process = multiprocessing.get_context("fork").Process(target=step_for_ever, args=(name, answer))
        process.start()
        while not answer.get("steps"):
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        left = psutil.wait_procs(children, timeout=3.0)[1]
        for one in left:
            one.kill()
        return {"processes": len(children), "left": len(left)}


def main():
    """Ask everything, and print the answers."""
    name = sys.argv[1]
    found = {fault: ask(fail, name, fault) for fault in FAULTS}
    found["owner is killed"] = count_orphans(name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
