"""Whatever may be done with a pool, in any order, against the same environments stepped one after the other.

A hypothesis state machine. Each time step is compared with the reference bit for bit, those of environments that were
made anew after a kill as well: their episodes must have ended at the time step before, and begin again from the seeds
of their replacement. ``run`` makes so many operations and counts them.
"""

import collections
import os
import signal
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psutil
import torch
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from alf.data_structures import StepType
from alf.environments.fast_parallel_environment import FastParallelEnvironment

LAST = int(StepType.LAST)
NUM_ENVS, NUM_PARTS = 4, 2
ACTIONS = st.lists(st.integers(0, 4), min_size=NUM_ENVS, max_size=NUM_ENVS)
FIELDS = ("step_type", "reward", "discount", "env_id", "prev_action", "observation", "env_info")


def indices_of(part):
    """Return the environments of a part of the batch."""
    return range(part * NUM_ENVS // NUM_PARTS, (part + 1) * NUM_ENVS // NUM_PARTS)


def arrays(value, row=...):
    """Return the arrays of a field by name, of one row if that is given."""
    named = value if isinstance(value, dict) else {"": value}
    return {name: np.asarray(leaf)[row] for name, leaf in named.items()}


class PoolMachine(RuleBasedStateMachine):
    """A pool, its serial reference, and what may be done next; subclasses say which pool."""

    constructors: list  # of the environments
    options: dict  # of the pool
    done: collections.Counter  # operations so far

    def __init__(self):
        super().__init__()
        self.make()

    def make(self):
        """Make pool and reference."""
        self.env = FastParallelEnvironment(self.constructors, num_parts=NUM_PARTS, step_timeout_seconds=30,
                                           max_restarts=10**9, **self.options)
        self.can_die = bool(self.env.worker_process_ids)
        pids = self.env.call_envs_with_same_args("pid")
        self.worker_of = [self.env.worker_process_ids.index(pid) if self.can_die else 0 for pid in pids]
        self.serial = [constructor(env_id=i) for i, constructor in enumerate(self.constructors)]
        self.current = [None] * NUM_ENVS  # what the reference returned last
        self.returned = {}  # what the pool returned last, by part
        self.pending = {}  # actions of steps that have begun, by part
        self.killed = None  # the worker whose end the pool has not noticed yet
        self.num_restarts = 0
        self.gaps = set()  # environments that were made anew and have not begun an episode
        self.set_seeds(0)
        self.begin_all()

    def teardown(self):
        """Close the pool."""
        self.env.close()

    # ---- the reference -------------------------------------------------------------------------------------------

    def set_seeds(self, seed):
        """Seed pool and reference."""
        self.env.seed(seed)
        self.notice_restart()
        self.seeds = [seed + i for i in range(NUM_ENVS)]
        for env, each in zip(self.serial, self.seeds):
            env.seed(each)

    def notice_restart(self):
        """Replace the environments of a worker that the pool has replaced."""
        if not self.can_die or self.env._pool._budget.num_restarts == self.num_restarts:
            return
        self.num_restarts += 1
        assert self.env._pool._budget.num_restarts == self.num_restarts and self.killed is not None
        for i in (i for i in range(NUM_ENVS) if self.worker_of[i] == self.killed):
            self.serial[i] = self.constructors[i](env_id=i)
            fresh = np.random.SeedSequence([self.seeds[i], self.num_restarts]).generate_state(1)[0] >> 1
            self.serial[i].seed(int(fresh))
            self.gaps.add(i)
        self.killed = None

    def begin_all(self):
        """Reset all, and compare."""
        time_step = self.env.reset()
        self.notice_restart()
        self.gaps.clear()
        self.current = [env.reset() for env in self.serial]
        self.pending.clear()
        for part in range(NUM_PARTS):
            rows = slice(indices_of(part).start, indices_of(part).stop)
            self.returned[part] = {field: self.cut(getattr(time_step, field), rows) for field in FIELDS}
            self.compare(part)

    @staticmethod
    def cut(value, rows):
        """Return rows of a field: views, in which it is seen when the pool changes them."""
        return {name: leaf[rows] for name, leaf in (value if isinstance(value, dict) else {"": value}).items()}

    def take(self, part, time_step, rows):
        """Compare a step of a part that the pool has finished with the same step of the reference."""
        self.notice_restart()
        before = self.returned[part]
        self.returned[part] = {field: self.cut(getattr(time_step, field), rows) for field in FIELDS}
        actions = self.pending.pop(part)
        for row, i in enumerate(indices_of(part)):
            expected = self.current[i]
            if i in self.gaps:
                self.gaps.discard(i)
                # What was returned before has ended there, and is otherwise as it was.
                self.compare_row(before, row, expected._replace(step_type=StepType.LAST))
                self.current[i] = self.serial[i].reset()
            else:
                self.compare_row(before, row, expected)
                self.current[i] = self.serial[i].step(actions[row])
        self.compare(part)

    def compare(self, part):
        """Compare what the pool returned last of a part with the reference."""
        for row, i in enumerate(indices_of(part)):
            self.compare_row(self.returned[part], row, self.current[i])

    @staticmethod
    def compare_row(returned, row, expected):
        """Compare a row with an unbatched time step, bit for bit."""
        for field in FIELDS:
            for name, value in arrays(getattr(expected, field)).items():
                got = np.asarray(returned[field][name])[row]
                assert got.tobytes() == np.asarray(value, got.dtype).tobytes(), (field, name, got, value)

    # ---- operations ----------------------------------------------------------------------------------------------

    @rule(moves=st.lists(st.tuples(st.integers(0, NUM_PARTS - 1), ACTIONS), min_size=1, max_size=8))
    def step_parts(self, moves):
        """Begin to step parts, or wait for those that are stepping."""
        for part, actions in moves:
            if part in self.pending:
                self.done["step_wait"] += 1
                self.take(part, self.env.step_wait(part), slice(None))
            else:
                self.done["step_async"] += 1
                self.pending[part] = actions[: NUM_ENVS // NUM_PARTS]
                self.env.step_async(torch.tensor(self.pending[part]), part=part)

    @precondition(lambda self: not self.pending and len(set(self.env._counts)) == 1)
    @rule(moves=st.lists(ACTIONS, min_size=1, max_size=8))
    def step_all(self, moves):
        """Step the whole batch."""
        for actions in moves:
            self.done["step"] += 1
            time_step = self.env.step(torch.tensor(actions))
            rows = [slice(indices_of(part).start, indices_of(part).stop) for part in range(NUM_PARTS)]
            self.pending = {part: actions[rows[part]] for part in range(NUM_PARTS)}
            for part in range(NUM_PARTS):
                self.take(part, time_step, rows[part])

    @rule()
    def reset(self):
        """Begin new episodes, in the middle of steps as well, which are made though nobody waits for them."""
        if self.pending and self.killed is not None:
            self.reset_after_a_race()
            return
        self.done["reset"] += 1
        for part, actions in self.pending.items():
            for i, action in zip(indices_of(part), actions):
                self.current[i] = self.serial[i].reset() if i in self.gaps else self.serial[i].step(action)
        self.begin_all()

    def reset_after_a_race(self):
        """Reset while a worker that is stepping has been killed: which of its steps were made is not known."""
        self.done["reset in a race"] += 1
        self.env.reset()
        self.notice_restart()
        self.pending.clear()
        self.set_seeds(3)
        self.begin_all()

    @precondition(lambda self: not self.pending)
    @rule(seed=st.integers(0, 1000))
    def seed(self, seed):
        """Seed, and begin anew."""
        self.done["seed"] += 1
        self.set_seeds(seed)
        self.begin_all()

    @precondition(lambda self: not self.pending)
    @rule()
    def call(self):
        """Call a method of each environment."""
        self.done["call"] += 1
        assert self.env.call_envs_with_same_args("whoami") == [f"env{i}" for i in range(NUM_ENVS)]
        self.notice_restart()

    @precondition(lambda self: self.can_die and self.killed is None)
    @rule(worker=st.integers(0, 1), now=st.booleans())
    def kill(self, worker, now):
        """Kill a worker, in the middle of a step if one has begun; and wait until it is dead, or not."""
        self.done["kill"] += 1
        self.killed = worker
        process_id = self.env.worker_process_ids[worker]
        os.kill(process_id, signal.SIGKILL)
        while now and psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)

    @rule()
    def close_and_make(self):
        """Close, twice, whatever is going on, and make another pool."""
        self.done["close"] += 1
        self.env.close()
        self.env.close()
        self.make()

    @invariant()
    def workers_are_there(self):
        """There are as many workers as there were."""
        assert len(self.env.worker_process_ids) == (2 if self.can_die else 0)


def run(constructors, options, num_operations, length=40, seed=1, simplifies=True):
    """Make at least so many operations on pools, all kinds among them, and return how many of each kind were made.

    Args:
        constructors: of ``NUM_ENVS`` environments.
        options: of the pools.
        num_operations: in all.
        length: rules of each machine at most.
        seed: of what is drawn.
        simplifies: whether the shortest failure is looked for.
    """
    phases = [hypothesis.Phase.generate] + simplifies * [hypothesis.Phase.shrink]
    done = collections.Counter()
    wanted = {"step_async", "step_wait", "step", "reset", "seed", "call", "close"}
    wanted |= {"kill"} if options["num_workers"] else set()
    while sum(done.values()) < num_operations or not wanted <= set(done):
        left = max(num_operations - sum(done.values()), 10 * length)  # the first ones are always the simplest
        kind = type("Machine", (PoolMachine,), dict(constructors=constructors, options=options, done=done))
        settings = hypothesis.settings(
            max_examples=left // length, stateful_step_count=length, deadline=None, database=None,
            phases=phases, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False)
        run_state_machine_as_test(hypothesis.seed(seed)(kind), settings=settings)
        seed += 1
    return done
