"""Runs the trials of a sweep: each in processes of its own, so many at a time, whatever becomes of the others.

::

    gpus: [0, 1]     waiting          running                        ended
                     0002r0+lr=0.1    0000r0+lr=0.001 on GPU 0       trial.json: finished, failed, hung, timed out, left
                     0003r0+lr=1      0001r0+lr=0.01 on GPU 1

A slot, which is a GPU or a place on the CPU, is held by one running trial and free again as soon as no process of that
trial is left.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from absl import logging

from alf.scale_out import _sweep_report, _trial_records
from alf.scale_out._running_trial import Limits, RunningTrial
from alf.scale_out._trial_process import TrialProcess, read_sessions
from alf.scale_out._trial_records import CONSOLE_FILE, Record
from alf.scale_out.search_space import SearchSpace, Trial
from alf.trainers._progress_view import ProgressView, told_duration, told_number
from alf.trainers._signals import EXIT_CODES

_POLL_SECONDS = 0.1
_ASK_FOR_GPUS = "import torch; print(torch.cuda.device_count())"


def find_slots(space: SearchSpace) -> List[str]:
    """Return ``CUDA_VISIBLE_DEVICES`` for each trial that may run at the same time; another process asks for GPUs.

    Args:
        space: which says whether there are to be GPUs, which ones, and how many trials at a time.
    Raises:
        ValueError: if the GPUs it asks for are not there.
    """
    if not space.use_gpu:
        return [""] * (space.max_worker_num or 1)
    asked = subprocess.run([sys.executable, "-c", _ASK_FOR_GPUS], stdin=subprocess.DEVNULL, capture_output=True,
                           text=True)
    if asked.returncode:
        raise ValueError(f"use_gpu: PyTorch fails to count the GPUs:\n{asked.stderr.strip()}")
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = int(asked.stdout.split()[-1])
    there = [str(i) for i in range(count)] if allowed is None else allowed.replace(" ", "").split(",")[:count]
    if not there:
        raise ValueError("use_gpu: PyTorch sees no GPU here. Set it to false to train on the CPU.")
    wanted = there if space.gpus is None else [str(gpu) for gpu in space.gpus]
    missing = [gpu for gpu in wanted if gpu not in there]
    if missing:
        raise ValueError(f"gpus: there is no GPU {', '.join(missing)}; there are {', '.join(there)}.")
    return wanted[:space.max_worker_num]


class TrialQueue:
    """Runs trials in a number of slots until none is waiting or running.

    Args:
        root_dir: directory of the sweep; each trial has its own in it.
        trials: to run, in this order.
        command: returns the command of a trial, given the directory for it.
        slots: ``CUDA_VISIBLE_DEVICES`` for each trial that may run at the same time.
        limits: when a trial is ended.
        view: shows a line when a trial begins or ends.
    """

    def __init__(self, root_dir: str, trials: Sequence[Trial], command: Callable[[Trial, str], List[str]],
                 slots: Sequence[str], limits: Limits, view: ProgressView):
        self._root_dir = root_dir
        self._waiting = list(trials)
        self._num_trials = len(self._waiting)
        self._command = command
        self._free_slots = list(slots)
        self._limits = limits
        self._view = view
        self._running: List[RunningTrial] = []
        self._records: Dict[str, Record] = {}
        self._signals: List[int] = []  # that asked to leave
        self._num_heeded = 0
        self._began = time.monotonic()

    def run(self) -> Optional[int]:
        """Run the trials; to be called in the main thread, with which they die.

        Ctrl-C or SIGTERM goes on to the trials, which save and leave, and no other begins; a second one kills them.

        Returns:
            the exit code for the signal that asked to leave; None if there was none.
        """
        with self._signals_collected():
            try:
                self._loop()
            finally:
                for running in self._running:
                    running.process.kill()
        return EXIT_CODES[self._signals[-1]] if self._signals else None

    def _loop(self) -> None:
        look_seconds = min(5.0, max(_POLL_SECONDS, self._limits.stall_seconds / 10))
        looked = time.monotonic()
        while self._running or (self._waiting and not self._signals):
            while self._waiting and self._free_slots and not self._signals:
                self._start(self._waiting.pop(0))
            time.sleep(_POLL_SECONDS)
            self._pass_signals_on()
            for running in list(self._running):
                running.heed_limits()
                if running.process.has_ended():
                    self._collect(running)
            elapsed = time.monotonic() - looked
            if self._limits.stall_seconds > 0 and elapsed >= look_seconds:
                looked += elapsed
                # Where all is stopped for a while, the sweep included, that time does not count.
                self._look(min(elapsed, 2 * look_seconds))

    def _look(self, elapsed_seconds: float) -> None:
        sessions = read_sessions()
        for running in self._running:
            running.look(sessions.get(running.process.session, {}), elapsed_seconds)

    def _start(self, trial: Trial) -> None:
        folder = os.path.join(self._root_dir, trial.name)
        slot = self._free_slots.pop(0)
        try:
            os.makedirs(folder, exist_ok=True)
            process = TrialProcess(self._command(trial, folder), os.path.join(folder, CONSOLE_FILE),
                                   {"CUDA_VISIBLE_DEVICES": slot})
        except OSError as error:  # no room for a process or on the disk
            self._free_slots.append(slot)
            self._record(trial, "failed", f"it cannot be started: {error}", None, 0.0)
            return
        self._running.append(RunningTrial(trial, process, slot, self._limits))
        self._view.tell(f"{trial.name} begins{f' on GPU {slot}' if slot else ''}")

    def _collect(self, running: RunningTrial) -> None:
        """Take note of the end of a trial, and give its slot back whatever it did."""
        self._running.remove(running)
        try:
            code = running.process.collect()
        finally:
            self._free_slots.append(running.slot)
        state, reason = running.state_and_reason(code)
        if state not in ("finished", "left"):
            console = os.path.join(self._root_dir, running.trial.name, CONSOLE_FILE)
            reason += "\n" + _trial_records.read_error(console, running.process.console_begin)
        self._record(running.trial, state, reason, code, running.seconds())

    def _record(self, trial: Trial, state: str, error: str, code: Optional[int], seconds: float) -> None:
        before = _trial_records.read_record(self._root_dir, trial)
        record = _trial_records.write_record(self._root_dir, trial, state=state, exit_code=code, error=error,
                                             seconds=round(before.get("seconds", 0.0) + seconds, 2),
                                             starts=before.get("starts", 0) + 1)
        self._records[trial.name] = record
        result = record["result"]
        returns = "" if result["env_steps"] is None else (
            f": return {told_number(result['final_return'])}, best {told_number(result['best_return'])}, "
            f"{told_number(result['env_steps'])} env steps")
        told = f": {_sweep_report.told_error(record)}" if error else ""
        self._view.tell(f"[{self._told_progress()}] {trial.name} {state} after {told_duration(seconds)}{returns}{told}")

    def _told_progress(self) -> str:
        """Return how many trials have ended, and when the rest will have if they take as long."""
        num_ended = len(self._records)
        if self._signals:
            return f"{num_ended}/{self._num_trials}"
        eta_seconds = (time.monotonic() - self._began) / num_ended * (self._num_trials - num_ended)
        return f"{num_ended}/{self._num_trials}, ETA {told_duration(eta_seconds)}"

    def _pass_signals_on(self) -> None:
        """Tell the trials what this process was told since the last time."""
        for number in self._signals[self._num_heeded:]:
            self._num_heeded += 1
            for running in self._running:
                running.told_to_leave = True
                if self._num_heeded > 1:
                    running.process.kill()
                elif not running.ended_as:
                    running.process.send_signal(number)
            self._view.tell("Killing the trials that run." if self._num_heeded > 1 else
                            "The trials that run save a checkpoint and leave; once more to kill them.")

    @contextlib.contextmanager
    def _signals_collected(self) -> Iterator[None]:
        # A terminal that closes ends nothing. Handlers, unlike SIG_IGN, are not passed on to the trials.
        handlers = {signal.SIGHUP: lambda number, frame: None,
                    **{number: lambda number, frame: self._signals.append(number) for number in EXIT_CODES}}
        outer = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in outer.items():
                signal.signal(number, handler)


def run_sweep(root_dir: str, space: SearchSpace, trials: Sequence[Trial], command: Callable[[Trial, str], List[str]],
              slots: Sequence[str], limits: Limits) -> int:
    """Run those trials of a sweep that have not finished yet, tell all results and write them to ``summary.csv``.

    Args:
        root_dir: directory of the sweep, which no other process may use at the same time.
        space: its parameters.
        trials: all of it, in the order to run them.
        command: returns the command of a trial, given the directory for it.
        slots: ``CUDA_VISIBLE_DEVICES`` for each trial that may run at the same time.
        limits: when a trial is ended.
    Returns:
        the exit code: 0 if all trials have finished, 1 if some have not, 130 or 143 after a signal to leave.
    """

    def records():
        found = {trial.name: _trial_records.read_record(root_dir, trial) for trial in trials}
        return {name: record for name, record in found.items() if record}

    view = ProgressView()
    finished = {name for name, record in records().items() if record.get("state") == "finished"}
    missing = [trial for trial in trials if trial.name not in finished]
    view.tell(f"{root_dir}: trials: {len(trials)}, finished before: {len(finished)}, at a time: {len(slots)}")
    left_code = TrialQueue(root_dir, missing, command, slots, limits, view).run()
    ended = records()
    view.tell("\n" + _sweep_report.told_summary(root_dir, space, trials, ended))
    try:
        view.tell(f"\nsummary: {_sweep_report.write_csv(root_dir, space, trials, ended)}")
    except OSError as error:
        logging.warning("the summary cannot be written: %s", error)
    all_finished = all(ended.get(trial.name, {}).get("state") == "finished" for trial in trials)
    return left_code or int(not all_finished)
