"""What a person watches while a run trains: a live table on a terminal, plain lines elsewhere."""

import math
import os
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

_LIVE_INTERVAL_SECONDS = 0.25
_PLAIN_INTERVAL_SECONDS = 5.0
_RATE_WINDOW_SECONDS = 10.0


def told_duration(seconds: Optional[float]) -> str:
    """Return ``1:02:03``; ``-`` for None or infinity."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def told_number(value: Any) -> str:
    """Return a value as people read it: ``12,345``, ``0.531``; ``-`` for None; text as it is."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class ProgressView:
    """Shows iteration, environment steps, speed, return, length and remaining time.

    On a terminal it is a table that redraws itself, on end where the terminal is narrow; elsewhere a line now and
    then. Speed is that of the last ten seconds, so that evaluation or a pause does not blur it for ever, by a clock
    that cannot jump. A terminal or pipe that is closed ends the show, never the training.

    Args:
        stream: where to write; the standard output by default.
    """

    def __init__(self, stream=None):
        self._stream = sys.stdout if stream is None else stream
        self._console = None
        self._live = None
        self._shown_at = -math.inf
        self._history: List[Tuple[float, float, int]] = []  # time, progress, environment steps

    def start(self) -> None:
        """Begin to show."""
        if not is_terminal(self._stream):
            return
        from rich.console import Console
        console = Console(file=self._stream)
        if console.is_dumb_terminal:
            return
        from rich.live import Live
        # What others write to a redirected standard error must go where it was redirected to.
        self._live = Live(console=console, auto_refresh=False, redirect_stderr=is_terminal(sys.stderr))
        self._guarded(self._live.start)

    def update(self, progress: float, values: Callable[[], Dict[str, Any]], env_steps: int,
               final: bool = False) -> None:
        """Show the present state, if it is time to.

        Args:
            progress: fraction of the run that is done, 0 to 1.
            values: returns what else to show, by name.
            env_steps: environment steps made.
            final: show it in any case.
        """
        now = time.monotonic()
        interval = _PLAIN_INTERVAL_SECONDS if self._live is None else _LIVE_INTERVAL_SECONDS
        if self._stream is None or (not final and now - self._shown_at < interval):
            return
        self._shown_at = now
        rate, eta_seconds = self._speed(now, progress, env_steps)
        shown = {
            **values(), "env steps": env_steps, "steps/s": rate, "done": f"{100 * progress:.1f}%",
            "ETA": told_duration(0 if final else eta_seconds)
        }
        shown = {name: told_number(value) for name, value in shown.items()}
        if self._live is None:
            self._guarded(self._write_line, "  ".join(f"{name} {value}" for name, value in shown.items()))
        else:
            self._guarded(self._live.update, _table(shown, self._live.console.width), refresh=True)

    def _speed(self, now: float, progress: float, env_steps: int) -> Tuple[Optional[float], Optional[float]]:
        """Return environment steps per second and the seconds that remain, from the last ten seconds."""
        self._history.append((now, progress, env_steps))
        while len(self._history) > 2 and now - self._history[1][0] >= _RATE_WINDOW_SECONDS:
            self._history.pop(0)
        then, progress_then, env_steps_then = self._history[0]
        elapsed = now - then
        if elapsed <= 0:
            return None, None
        gained = progress - progress_then
        return (env_steps - env_steps_then) / elapsed, (1 - progress) * elapsed / gained if gained > 0 else None

    def tell(self, text: str) -> None:
        """Show a text, which stays; it may have several lines.

        Args:
            text: as it is to be shown.
        """
        if self._stream is None:
            return
        if self._live is None:
            self._guarded(self._write_line, text)
        else:
            self._guarded(self._live.console.print, text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _write_line(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _guarded(self, write, *args, **kwargs) -> None:
        """Call ``write``; if the stream is gone, show nothing from now on."""
        try:
            write(*args, **kwargs)
        except (OSError, ValueError):
            live, self._live = self._live, None
            discard_output(self._stream)
            self._stream = None
            if live is not None:
                live.stop()  # gives the standard streams back

    def close(self) -> None:
        """End the show, leaving its last state on the screen."""
        if self._live is not None:
            self._guarded(self._live.stop)
            self._live = None


def discard_output(stream) -> None:
    """Let what is still written to a broken ``stream`` vanish: its last flush must not fail the process."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # no file of the system behind it


def is_terminal(stream) -> bool:
    """Return whether a stream, which may be None or closed, shows on a terminal."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _table(shown: Dict[str, str], width: int):
    """Return a table of one row or, where that is too wide, of one column."""
    from rich.table import Table
    columns = [max(len(name), len(value)) for name, value in shown.items()]
    if sum(columns) + len(columns) > width:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for name, value in shown.items():
            table.add_row(name, value)
        return table
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*shown.values())
    return table
