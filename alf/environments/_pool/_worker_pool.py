"""WorkerPool: starts worker processes, gives them commands, waits, and copes with those that fail."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

import cloudpickle
import numpy as np

import alf.progress as progress
from alf.environments._pool._errors import Failure, WorkerDiedError
from alf.environments._pool._host import Share, first_unwritten
from alf.environments._pool._processes import SLICE_SECONDS, PoolOptions, WorkerProcesses
from alf.environments._pool._restarts import RestartBudget
from alf.environments._pool._segment import Layout, Specs, Views
from alf.environments._pool._twin import DAMAGED, FAILED, damaged_lines
from alf.environments._pool._worker import ALL_PARTS, CALL, RESET, STEP
from alf.environments._rows import LAST

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 10.0  # how long the report of a failure, which has been sent, may take to arrive
_FAILED_WORD = 4  # the counter `failed` in a control line; a report has been sent before it is incremented


class WorkerPool:
    """Worker processes that each host several environments.

    Args:
        constructors: environment constructors by index.
        spare_constructors: per worker, constructors of its spare environments by index.
        shares: per worker, its environments in each part of the batch.
        specs: specs of one environment.
        options: see :class:`PoolOptions`.
    """

    def __init__(
        self,
        constructors: list[Callable],
        spare_constructors: list[dict[int, Callable]],
        shares: list[list[Share]],
        specs: Specs,
        options: PoolOptions,
    ):
        self._num_spares = [len(spares) for spares in spare_constructors]
        self._shares = shares
        self._specs = specs
        self._options = options
        self.num_workers = len(shares)
        self._processes = WorkerProcesses(constructors, spare_constructors, shares, specs, options)
        self._signals = self._processes.signals
        self._words = self._processes.lines.view(np.uint32)
        self._views: Views | None = None
        self._batch_size = 0
        self._outstanding: dict[int, tuple[int, list[int]]] = {}  # part -> (code, tickets)
        self._seeds: dict[int, int] | None = None
        self._budget = RestartBudget(options.max_restarts, options.restart_window_seconds)
        # Parts of replaced workers whose next step sets out from time steps that nobody can go on from.
        self._gaps: set[tuple[int, int]] = set()  # (worker, part)
        self.ended_rows: list[int] = []  # rows whose time step became LAST afterwards, since the caller emptied this
        self.interrupted: list[int] = []  # the environments they belong to, since the caller emptied this

    def close(self) -> None:
        """End all workers, by force after a while; may be called more than once."""
        self._processes.close()

    @property
    def is_closed(self) -> bool:
        """Whether the workers have been ended."""
        return self._processes.is_closed

    @property
    def has_gaps(self) -> bool:
        """Whether environments have been made again that have not begun an episode yet."""
        return bool(self._gaps)

    def process_ids(self) -> list[int]:
        """Return the process id of every worker."""
        return self._processes.process_ids()

    def look_at_memory(self, now: float) -> None:
        """Note the memory of the workers, if that was not done within the last seconds; ``now`` is monotonic."""
        self._processes.look_at_memory(now)

    # --- the shared blocks ---

    def allocate(self, batch_size: int, num_ring_rows: int) -> Views:
        """Decide the size of the shared blocks, let all workers map them, and return them."""
        layout = Layout(self._specs, batch_size, num_ring_rows)
        self._views = layout.views(self._processes.data.allocate(layout.num_bytes))
        self._batch_size = batch_size
        for worker in range(self.num_workers):
            self._attach(worker)
        return self._views

    def _attach(self, worker: int) -> None:
        self.call(worker, -1, "attach", (self._batch_size, len(self._views.step_type)), {})

    # --- steps and resets ---

    def post(self, command: int, part: int, ring_row: int) -> None:
        """Let all workers run STEP or RESET on ``part`` and write time step ``ring_row``."""
        code = command | part << 8 | ring_row << 16
        if self._gaps:
            self._end_episodes(code)
        self._outstanding[part] = (code, self._signals.post_all(code))

    def wait(self, part: int) -> None:
        """Wait until the command posted for ``part`` is done everywhere.

        Raises:
            Exception: what an environment raised, with a note that names it.
            WorkerDiedError: if a worker ended or did not answer in time, and may not be restarted.
        """
        waited = 0.0
        while True:
            tickets = self._outstanding[part][1]
            began = time.monotonic()
            late = self._signals.wait_all(tickets, SLICE_SECONDS)
            if late == FAILED:
                failures = self._take_failures()
                if not self._are_survivable(failures):
                    del self._outstanding[part]
                    worker, failure = next(iter(failures.items()))
                    raise failure.to_exception(f"worker {worker}")
                for worker, failure in failures.items():
                    self._lose(worker, part, _told(failure), failure.env_index)
                waited = 0.0
            elif late == DAMAGED:
                self._lose_damaged(part)
            elif late < 0:
                del self._outstanding[part]
                return
            else:
                # Time during which this process itself was stopped does not count against the workers.
                waited += min(time.monotonic() - began, 2 * SLICE_SECONDS)
                if self._look_after(part, late, waited):
                    waited = 0.0

    def _look_after(self, part: int, late: int, waited: float) -> bool:
        """Look for workers that are dead or hang, while one is late; return whether there were any."""
        processes = self._processes
        processes.look_at_memory(time.monotonic())
        tickets = self._outstanding[part][1]
        dead = [
            worker
            for worker in range(self.num_workers)
            if not processes.is_alive(worker) and not self._signals.wait(worker, tickets[worker], 0.0)
        ]
        for worker in dead:
            self._lose(worker, part, processes.told_end(worker))
        if dead:
            return True
        if damaged_lines(self._words):
            self._lose_damaged(part)
            return True
        if waited > self._limit(late, part):
            self._lose(late, part, processes.stop_hanging(late, waited))
            return True
        return False

    def drain(self) -> None:
        """Wait for everything outstanding and forget its failures: what comes next is a reset."""
        for part in list(self._outstanding):
            try:
                self.wait(part)
            except WorkerDiedError:
                raise
            except Exception as error:  # an environment's, of a step that was given up
                logger.info("an abandoned step of the environments failed: %s", error)

    def _take_failures(self) -> dict[int, Failure]:
        """Return the first report of each worker in which an environment has failed."""
        failed = self._words[:, _FAILED_WORD]
        failures = {}
        for worker in map(int, np.flatnonzero(failed)):
            for _ in range(int(failed[worker])):
                try:
                    failures.setdefault(worker, self._processes.receive(worker, _REPORT_SECONDS, "failure report"))
                except WorkerDiedError:  # it has ended before it could say why
                    self.close()
                    raise
            failed[worker] = 0
        return failures

    def _are_survivable(self, failures: dict[int, Failure]) -> bool:
        """Return whether environments that failed are to be made again."""
        restart = self._options.on_worker_death == "restart"
        return restart and not any(failure.blames_caller for failure in failures.values())

    def _limit(self, worker: int, part: int) -> float:
        """Seconds that the outstanding command may take: an environment may be resetting within a step."""
        options = self._options
        code = self._outstanding[part][0]
        command, ring_row = code & 0xFF, code >> 16
        if command == RESET:
            return options.reset_timeout_seconds
        index = self._unfinished(worker, part, ring_row)
        row = index * self._specs.rows_per_env
        before = self._views.step_type[(ring_row - 1) % len(self._views.step_type)]
        resets = index < 0 or (before[row : row + self._specs.rows_per_env] == LAST).any()
        if resets:
            return max(options.step_timeout_seconds, options.reset_timeout_seconds)
        return options.step_timeout_seconds

    def _unfinished(self, worker: int, part: int, ring_row: int) -> int:
        shares = self._shares[worker] if part == ALL_PARTS else [self._shares[worker][part]]
        for share in shares:
            index = first_unwritten(self._views, share, ring_row, self._specs.rows_per_env)
            if index >= 0:
                return index
        return -1

    # --- lost workers ---

    def _lose_damaged(self, part: int) -> None:
        for worker in damaged_lines(self._words):
            self._processes.kill(worker)
            self._lose(
                worker,
                part,
                "was killed, because something writes into the memory that it shares with the main process. Look for "
                "native code of the environments that writes outside of its arrays.",
            )

    def _lose(self, worker: int, part: int, how: str, env_index: int = -1) -> None:
        """Restart a worker that has ended or is to end, or raise.

        Args:
            worker: which one.
            part: the part of the batch that was waited for.
            how: what happened, in words.
            env_index: the environment that is to blame, if that is known.
        """
        message = self._death_message(worker, part, how, env_index)
        self._replace_or_raise(worker, message)
        self._gaps.update((worker, each) for each in range(len(self._shares[worker])))
        # Commands are repeated in the order in which they were posted.
        for code, tickets in self._outstanding.values():
            self._end_episodes(code)
            tickets[worker] = self._signals.post(worker, code)

    def _end_episodes(self, code: int) -> None:
        """End the episodes of lost environments where they were left: what the last action led to is not known.

        The time step from which the step ``code`` sets out becomes LAST, with the discount of one that goes on. It has
        been returned already, and nothing has been learned from it: that takes the time step after it, which will be
        FIRST. So no transition is made up, and none leads across the gap.
        """
        command, part, ring_row = code & 0xFF, code >> 8 & 0xFF, code >> 16
        per_env = self._specs.rows_per_env
        for worker, each in sorted(self._gaps):
            if part not in (ALL_PARTS, each):
                continue
            self._gaps.discard((worker, each))
            if command != STEP:
                continue
            share = self._shares[worker][each]
            rows = slice(share.start * per_env, share.stop * per_env)
            step_type = self._views.step_type[ring_row - 1, rows]  # row -1 is the one before row 0
            cut_off = np.flatnonzero(step_type != LAST)
            step_type[cut_off] = LAST
            self.ended_rows += (cut_off + rows.start).tolist()
            self.interrupted += np.unique(share.start + cut_off // per_env).tolist()

    def _replace_or_raise(self, worker: int, message: str) -> None:
        options = self._options
        if options.on_worker_death == "raise":
            self.close()
            raise WorkerDiedError(message)
        if self._processes.are_all_killed():
            self.close()
            raise WorkerDiedError(f"{message}\nAll workers were killed at once, which a restart would not mend.")
        if not self._budget.take():
            self.close()
            raise WorkerDiedError(f"{message}\nIt is not restarted: there were {self._budget.describe()}.")
        logger.warning(
            "%s\nRestarting it (%s). Its episodes end at the time step before, and nothing is learned from the step "
            "that was lost.",
            message,
            self._budget.describe(),
        )
        try:
            self._replace(worker)
        except Exception as error:  # of a constructor
            self.close()
            raise WorkerDiedError(f"{message}\nIt could not be made again: {error!r}") from error

    def _replace(self, worker: int) -> None:
        self._processes.replace(worker)
        if self._seeds is not None:
            # Not the seeds of the beginning, which would play the same episodes again.
            fresh = {
                i: int(np.random.SeedSequence([seed, self._budget.num_restarts]).generate_state(1)[0] >> 1)
                for i, seed in self._seeds.items()
            }
            self._seed_worker(worker, fresh)
        if self._views is not None:
            self._attach(worker)

    def _death_message(self, worker: int, part: int, how: str, env_index: int) -> str:
        index, ring_row = env_index, self._outstanding[part][0] >> 16
        if index < 0 and self._views is not None:
            index = self._unfinished(worker, part, ring_row)
        at = "between two environments"
        if index >= 0:
            at = f"in environment {index}, {self._told_action(index)}"
            if self._seeds is not None:
                at += f" and whose seed was {self._seeds[index]}"
        return f"{self._processes.title(worker)} {how}\nIt was {at}."

    def _told_action(self, index: int) -> str:
        rows = slice(index * self._specs.rows_per_env, (index + 1) * self._specs.rows_per_env)
        actions = [block[rows].tolist() for block in self._views.actions]
        return f"whose last action was {actions[0] if len(actions) == 1 else actions}"

    # --- calls ---

    def call(self, worker: int, env_index: int, name: str, args: tuple, kwargs: dict) -> Any:
        """Return what a method of one environment, or for index -1 of the worker itself, returns.

        If the worker is lost and may be replaced, the new one is called.
        """
        message = cloudpickle.dumps((env_index, name, args, kwargs))
        while True:
            self._signals.post(worker, CALL)
            self._processes.send(worker, message)
            try:
                answer = self._processes.receive(
                    worker, self._options.reset_timeout_seconds, f"call of {name}", as_bytes=True
                )
                break
            except WorkerDiedError as error:
                self._replace_or_raise(worker, str(error))
                if self._views is not None:
                    self._gaps.update((worker, part) for part in range(len(self._shares[worker])))
        is_ok, answer = cloudpickle.loads(answer)
        if not is_ok:
            raise answer.to_exception(f"worker {worker}")
        return answer

    def call_all(self, name: str, args: tuple, kwargs: dict) -> dict[int, Any]:
        """Return what a method of every environment returns, by index."""
        results = {}
        for worker in range(self.num_workers):
            results.update(
                zip(self._processes.indices(worker), self.call(worker, -1, "call_all", (name, args, kwargs), {}))
            )
        return results

    def worker_of(self, env_index: int) -> int:
        """Return the worker that hosts an environment."""
        return next(worker for worker in range(self.num_workers) if env_index in self._processes.indices(worker))

    def seed(self, seeds: dict[int, int]) -> None:
        """Seed the environments of all workers, by index."""
        self._seeds = dict(seeds)
        for worker in range(self.num_workers):
            self._seed_worker(worker, seeds)

    def _seed_worker(self, worker: int, seeds: dict[int, int]) -> None:
        mine = {i: seeds[i] for i in self._processes.indices(worker)}
        spares = np.random.SeedSequence([*mine.values(), worker]).generate_state(self._num_spares[worker])
        self.call(worker, -1, "seed", (mine, [int(s >> 1) for s in spares]), {})

    def sync_progress(self) -> None:
        """Send the progress of this process to all workers."""
        for worker in range(self.num_workers):
            self.call(worker, -1, "sync_progress", (progress.get_all_progresses(),), {})


def _told(failure: Failure) -> str:
    return f"failed at {failure.phase}, after {failure.step_count} steps:\n{failure.traceback.rstrip()}"
