"""The profile of a run: which iterations are measured, and what is written and told about them."""

import json
import os
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.trainers._profile_report import ProfileResult, told_bottleneck, told_profile
from alf.utils import profiling
from alf.utils.profiling import Profiler

_WARM_UP_UPDATES = 3  # iterations that update: the first ones build, pack and compile
_LEAST_ITERATIONS = 20
_TIMES_AS_LONG = 6  # where fewer iterations than that take long


class RunProfile:
    """Measures some iterations of a run after its first updates, writes them to a directory, and tells them.

    Args:
        config: the settings of the run.
        algorithm: its root algorithm.
        num_environments: that it has.
        num_iterations: to measure; None: those of ``seconds``, at least 20 unless that takes six times as long.
        directory: where to write; made if it does not exist. None: nothing is written.
        tell: called with the text that a person reads.
        seconds: how long to measure, if ``num_iterations`` is None.
    """

    def __init__(self, config: TrainerConfig, algorithm: Algorithm, num_environments: int,
                 num_iterations: Optional[int] = None, directory: Optional[str] = None,
                 tell: Callable[[str], None] = print, seconds: float = 10.0):
        self._config = config
        self._algorithm = algorithm
        self._num_environments = num_environments
        self._num_iterations = num_iterations
        self._seconds = seconds
        self._directory = directory
        self._tell = tell
        on_gpu = torch.get_default_device().type == "cuda"
        self._profiler = Profiler(synchronize=torch.cuda.synchronize if on_gpu else None)
        self._num_seen = self._num_warm = 0
        self._num_updates = 0  # that the profiler had counted
        self._began_at: Optional[Tuple[int, int, float]] = None  # iterations, environment steps, time
        self._latest = (0, 0)  # iterations, environment steps
        self.result: Optional[ProfileResult] = None  # when it is over

    @property
    def is_over(self) -> bool:
        """Whether the iterations have been measured."""
        return self.result is not None

    def begin(self) -> None:
        """Begin to look: from now on iterations are counted."""
        profiling.activate(self._profiler)
        self._profiler.start()

    def count_iteration(self, iterations: int, env_steps: int) -> None:
        """Tell that an iteration has ended, evaluation with it; a checkpoint of it counts for the next one.

        Args:
            iterations: of the run, until now.
            env_steps: environment steps of the run, until now.
        """
        if self.is_over:
            return
        self._num_seen += 1
        self._latest = (iterations, env_steps)
        if self._began_at is None:
            self._warm_up(iterations, env_steps)
            return
        num_measured = iterations - self._began_at[0]
        seconds = time.monotonic() - self._began_at[2]
        if self._num_iterations is not None:
            enough = num_measured >= self._num_iterations
        else:
            enough = seconds >= self._seconds * (1 if num_measured >= _LEAST_ITERATIONS else _TIMES_AS_LONG)
        if enough:
            self._finish()

    def _warm_up(self, iterations: int, env_steps: int) -> None:
        if self._profiler.num_updates > self._num_updates:
            self._num_updates = self._profiler.num_updates
            self._num_warm += 1
        if self._num_warm >= _WARM_UP_UPDATES:
            self._began_at = (iterations, env_steps, time.monotonic())
            self._profiler.start()

    def close(self) -> None:
        """End, if the run does before enough is measured: what there is is written and told."""
        if profiling.active() is not self._profiler:  # it has ended already, or never begun
            return
        if self._began_at is None or self._latest[0] == self._began_at[0]:
            profiling.activate(None)
            self._tell(f"profile: nothing was measured: the run ended after {self._num_seen} iterations, and the first "
                       f"{_WARM_UP_UPDATES} that update are a warm-up.")
            return
        self._finish()

    def _finish(self) -> None:
        self._profiler.stop()
        profiling.activate(None)
        first, env_steps, _ = self._began_at
        phases = sorted(self._profiler.phases.items(), key=lambda item: -item[1].nanoseconds)
        self.result = ProfileResult(
            first_iteration=first + 1,
            num_iterations=self._latest[0] - first,
            env_steps=self._latest[1] - env_steps,
            seconds=self._profiler.seconds,
            num_updates=self._profiler.num_updates,
            phases=dict(phases),
            beside=self._profiler.beside())
        text = "\n".join([told_profile(self.result), *self._remarks(),
                          told_bottleneck(self.result, self._config, self._algorithm, self._num_environments)])
        if self._directory is not None:
            written = f"\nwritten to {self._directory}; open trace.json in https://ui.perfetto.dev or chrome://tracing"
            try:
                self._write(text + written)
                text += written
            except OSError as error:
                text += f"\nit could not be written to {self._directory}: {error}"
        self._tell(text)

    def _remarks(self) -> List[str]:
        """Return what to know about the figures."""
        config, remarks = self._config, []
        if self.result.num_updates == 0:
            remarks.append("no update was made in these iterations: what is told is how collecting goes. Measure more "
                           "of them (--profile=N)")
        if config.async_unroll:
            remarks.append("not seen: what the process that unrolls does (TrainerConfig.async_unroll); 'waiting' is "
                           "how long training waited for it")
        if config.evaluate and config.async_eval:
            remarks.append("not seen: the process that evaluates (TrainerConfig.async_eval)")
        if torch.get_default_device().type == "cuda":
            remarks.append("the GPU was waited for at both ends of each scope, which makes the run slower than it is "
                           "without --profile")
        if self.result.beside:
            told = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in self.result.beside.items())
            remarks.append(f"beside, in other threads: {told}")
        if self._profiler.num_lost_events:
            remarks.append(f"trace.json has the first {len(self._profiler.events):,} of "
                           f"{len(self._profiler.events) + self._profiler.num_lost_events:,} scopes")
        return remarks

    def _write(self, text: str) -> None:
        os.makedirs(self._directory, exist_ok=True)
        result = self.result
        numbers: Dict[str, Any] = {
            **result._asdict(), "env_steps_per_second": result.env_steps_per_second, "bottleneck": result.bottleneck,
            "phases": {name: {"seconds": phase.seconds, "share": phase.seconds / result.seconds, "calls": phase.calls}
                       for name, phase in result.phases.items()}
        }
        for name, content in (("profile.json", numbers), ("trace.json", self._profiler.chrome_trace())):
            with open(os.path.join(self._directory, name), "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2 if name == "profile.json" else None)
        with open(os.path.join(self._directory, "profile.txt"), "w", encoding="utf-8") as file:
            file.write(text + "\n")
