"""Random orders of step, step_async, step_wait, reset, calls and kills, against environments stepped one by one.

Quick by default. ``ALF_POOL_OPERATIONS=10000`` makes it long.
"""

import os
import random
import signal

import numpy as np
import pytest
import torch

from alf.data_structures import StepType
from alf.environments.fast_parallel_environment import FastParallelEnvironment

FIRST, MID, LAST = (int(t) for t in (StepType.FIRST, StepType.MID, StepType.LAST))
NUM_OPERATIONS = int(os.environ.get("ALF_POOL_OPERATIONS", 150))
NUM_ENVS, NUM_PARTS = 4, 2


def indices_of(part):
    """Return the environments of a part of the batch."""
    return range(part * NUM_ENVS // NUM_PARTS, (part + 1) * NUM_ENVS // NUM_PARTS)


class Serial:
    """The same environments, stepped one after the other in this process."""

    def __init__(self, constructors):
        self._envs = [constructor(env_id=i) for i, constructor in enumerate(constructors)]
        self.current = [None] * len(constructors)

    def seed(self, seed):
        for i, env in enumerate(self._envs):
            env.seed(seed + i)

    def reset(self):
        self.current = [env.reset() for env in self._envs]

    def step(self, indices, actions):
        for i, action in zip(indices, actions):
            self.current[i] = self._envs[i].step(action)


class Machine:
    """A pool, its serial reference, and what may be done next."""

    def __init__(self, constructors, rng, backend):
        self._rng = rng
        self._constructors = constructors
        self._backend = backend
        self._make()

    def _make(self):
        self.env = FastParallelEnvironment(self._constructors, num_workers=2, num_parts=NUM_PARTS,
                                           on_worker_death="restart", max_restarts=10**9, backend=self._backend,
                                           step_timeout_seconds=30)
        self.serial = Serial(self._constructors)
        self._pending = {}
        self._killed = set()
        self._seed()
        self._reset()

    def _seed(self):
        self.seed = self._rng.randrange(1000)
        self.env.seed(self.seed)
        self.serial.seed(self.seed)

    def _reset(self):
        for part, actions in self._pending.items():  # a step that was begun is made, though nobody waits for it
            self.serial.step(indices_of(part), actions.tolist())
        self._pending.clear()
        self.env.reset()
        if self._killed:  # the new environments have their own seeds: begin the comparison anew
            self._killed.clear()
            self._seed()
            self.env.reset()
        self.serial.reset()
        self._compare(range(NUM_ENVS), self.env.current_time_step())

    def operations(self):
        allowed = ["close and make", "reset"]
        idle = [part for part in range(NUM_PARTS) if part not in self._pending]
        allowed += 6 * [("begin", part) for part in idle] + 8 * [("finish", part) for part in self._pending]
        if not self._pending:
            allowed += ["call", "seed"]
        if not self._killed:
            allowed += ["kill"]
        return allowed

    def run(self, operation):
        if operation == "close and make":
            self.env.close()
            self.env.close()
            self._make()
        elif operation == "reset":
            self._reset()
        elif operation == "call":
            assert self.env.call_envs_with_same_args("whoami") == [f"env{i}" for i in range(NUM_ENVS)]
        elif operation == "seed":
            self._seed()
            self._reset()
        elif operation == "kill":
            worker = self._rng.randrange(2)
            os.kill(self.env.worker_process_ids[worker], signal.SIGKILL)
            self._killed.add(worker)
        elif operation[0] == "begin":
            actions = torch.tensor([self._rng.randrange(5) for _ in range(NUM_ENVS // NUM_PARTS)])
            self.env.step_async(actions, part=operation[1])
            self._pending[operation[1]] = actions
        else:
            self._finish(operation[1])

    def _finish(self, part):
        actions = self._pending.pop(part)
        time_step = self.env.step_wait(part)
        if self._killed:
            # Which steps were lost depends on when the signal came; that what follows is right does not.
            assert set(time_step.step_type.tolist()) <= {FIRST, MID, LAST}
            if not self._pending:
                self._reset()
            return
        self.serial.step(indices_of(part), actions.tolist())
        self._compare(indices_of(part), time_step)

    def _compare(self, indices, time_step):
        for row, i in enumerate(indices):
            expected = self.serial.current[i]
            assert int(time_step.step_type[row]) == int(expected.step_type)
            assert float(time_step.reward[row]) == float(expected.reward)
            assert float(time_step.discount[row]) == float(expected.discount)
            for name in ("count", "noise"):
                np.testing.assert_array_equal(time_step.observation[name][row].numpy(), expected.observation[name])


@pytest.mark.parametrize("backend, seed", [("native", 1), ("native", 2), ("python", 3)])
def test_any_order_of_operations_gives_what_one_environment_after_the_other_gives(toys, backend, seed):
    rng = random.Random(seed)
    machine = Machine(toys(NUM_ENVS), rng, backend)
    done = []
    try:
        for _ in range(NUM_OPERATIONS // 3):
            done.append(rng.choice(machine.operations()))
            machine.run(done[-1])
    except BaseException as error:
        error.add_note(f"operations: {done}")
        raise
    finally:
        machine.env.close()
