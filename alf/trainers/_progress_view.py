"""What a person watches while a run trains: a live table on a terminal, plain lines elsewhere."""

import math
import sys
import time
from typing import Dict, Optional

_PLAIN_INTERVAL_SECONDS = 5.0
_RATE_WINDOW_SECONDS = 10.0


def told_duration(seconds: Optional[float]) -> str:
    """Return ``1:02:03``; ``-`` for None or infinity."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def told_number(value: Optional[float]) -> str:
    """Return a number as people read it: ``12,345``, ``0.531``; ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


class ProgressView:
    """Shows iteration, environment steps, speed, return, length and remaining time.

    On a terminal it is a table that redraws itself; elsewhere a line now and then. Speed is that of the last ten seconds, so
    that evaluation or a pause does not blur it for ever, by a clock that cannot jump.

    Args:
        stream: where to write; the standard output by default.
    """

    def __init__(self, stream=None):
        self._stream = sys.stdout if stream is None else stream
        self._live = None
        self._shown_at = 0.0
        self._history = []
        self._broken = False

    def start(self) -> None:
        """Begin to show."""
        if not self._is_terminal():
            return
        from rich.console import Console
        from rich.live import Live
        self._live = Live(console=Console(file=self._stream), refresh_per_second=4, transient=False)
        self._live.start()

    def _is_terminal(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):
            return False

    def update(self, progress: float, values: Dict[str, Optional[float]], env_steps: int, final: bool = False) -> None:
        """Show the present state, if it is time to.

        Args:
            progress: share of the run that is done, 0 to 1.
            values: what to show by its name.
            env_steps: environment steps made.
            final: show it in any case.
        """
        now = time.monotonic()
        interval = 0.25 if self._live is not None else _PLAIN_INTERVAL_SECONDS
        if not final and now - self._shown_at < interval:
            return
        self._shown_at = now
        rate, eta_seconds = self._speed(now, progress, env_steps)
        shown = {**values, "env steps": env_steps, "steps/s": rate, "done": f"{100 * progress:.1f} %"}
        shown["ETA"] = told_duration(0 if final else eta_seconds)
        shown = {name: value if isinstance(value, str) else told_number(value) for name, value in shown.items()}
        if self._live is not None:
            self._live.update(self._table(shown))
        else:
            self._write("  ".join(f"{name} {value}" for name, value in shown.items()) + "\n")

    def _speed(self, now: float, progress: float, env_steps: int):
        """Return environment steps per second and the seconds that remain, from the last ten seconds."""
        self._history.append((now, progress, env_steps))
        while len(self._history) > 2 and now - self._history[1][0] > _RATE_WINDOW_SECONDS:
            self._history.pop(0)
        then, progress_then, env_steps_then = self._history[0]
        elapsed = now - then
        if elapsed <= 0:
            return None, None
        gained = progress - progress_then
        return (env_steps - env_steps_then) / elapsed, (1 - progress) * elapsed / gained if gained > 0 else None

    @staticmethod
    def _table(shown: Dict[str, str]):
        from rich.table import Table
        table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
        for name in shown:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_row(*shown.values())
        return table

    def _write(self, text: str) -> None:
        # A closed terminal or pipe ends the show, never the training.
        if self._broken:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True

    def close(self) -> None:
        """End the show, leaving its last state on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
