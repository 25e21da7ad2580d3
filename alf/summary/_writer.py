"""The writer behind the summary verbs: TensorBoard events, and `metrics.jsonl` with one JSON line per step.

A run must not die because its log cannot be written: any OSError (full disk, lost mount) is told once, what
cannot be written is lost, and writing is tried again every minute.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import socket
import time
import weakref
from typing import Any

import numpy as np
from absl import logging

from alf.summary._event_file import AppendFile, encode_record
from alf.summary._purge import purge_after

LINES_FILE = "metrics.jsonl"
_RETRY_SECONDS = 60.0
_num_event_files = 0
_open_writers: weakref.WeakSet[SummaryWriter] = weakref.WeakSet()


class SummaryWriter:
    """Writes TensorBoard events and `metrics.jsonl`; has the `add_*` methods of torch's writer.

    Every line of `metrics.jsonl` is an object with "step", "time" (seconds since the epoch) and the scalars
    of that step under their tags. Numbers that JSON cannot express are the strings "nan", "inf", "-inf". A
    step flushed in the middle has two lines.

    Args:
        summary_dir: made if it does not exist.
        flush_secs: seconds after which pending events are handed to the operating system.
        max_queue: number of pending events after which the same happens.
        purge_step: drop what the directory holds of steps after this one; None keeps everything.
    """

    def __init__(
        self, summary_dir: str, *, flush_secs: float = 10, max_queue: int = 10, purge_step: int | None = None
    ):
        self._dir = os.path.abspath(os.path.expanduser(summary_dir))
        self._flush_secs = flush_secs
        self._max_queue = max(1, max_queue)
        self._events: AppendFile | None = None
        self._lines: AppendFile | None = None
        self._pending: list[bytes] = []
        self._next_flush = time.monotonic() + flush_secs
        self._line: dict[str, Any] = {}
        self._line_step: int | None = None
        self._failed = False
        self._retry_at = 0.0
        self._closed = False
        with _Degrading(self):
            if purge_step is not None:
                purge_after(self._dir, LINES_FILE, purge_step)
            self._open()
        _open_writers.add(self)

    @property
    def summary_dir(self) -> str:
        """The directory written to, an absolute path."""
        return self._dir

    # ------------------------------------------------------------ torch's interface

    def add_scalar(
        self, tag: str, scalar_value: float, global_step: int, walltime: float | None = None
    ) -> None:
        """Write one number."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(
            Summary(value=[Summary.Value(tag=tag, simple_value=_to_float(scalar_value))]),
            global_step,
            walltime,
        )

    def add_histogram(
        self,
        tag: str,
        values: np.ndarray,
        global_step: int,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Write the histogram of a non-empty array of finite values."""
        from alf.summary._media import histogram_summary

        self._add(histogram_summary(tag, values, bins, max_bins), global_step, walltime)

    def add_text(self, tag: str, text_string: str, global_step: int, walltime: float | None = None) -> None:
        """Write a text."""
        from alf.summary._media import text_summary

        self._add(text_summary(tag, text_string), global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: np.ndarray,
        global_step: int,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Write images, several of them as one grid."""
        from torch.utils.tensorboard.summary import image

        self._add(image(tag, img_tensor, dataformats=dataformats), global_step, walltime)

    def add_video(
        self, tag: str, vid_tensor: np.ndarray, global_step: int, fps: int = 4, walltime: float | None = None
    ) -> None:
        """Write videos of shape [N, T, C, H, W] as one animation."""
        from alf.summary._media import video_summary

        self._add(video_summary(tag, vid_tensor, fps), global_step, walltime)

    def add_embedding(
        self,
        mat: np.ndarray,
        metadata: list | None = None,
        label_img: Any = None,
        global_step: int = 0,
        tag: str = "default",
    ) -> None:
        """Write vectors of shape [N, D] for the projector."""
        from alf.summary._media import write_embedding

        if self._is_writable():
            with _Degrading(self):
                write_embedding(self._dir, mat, metadata, label_img, global_step, tag)

    def flush(self) -> None:
        """Hand everything pending to the operating system."""
        self._end_line()
        self._write_pending()

    def close(self) -> None:
        """Flush and close; closing twice is allowed."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        _open_writers.discard(self)
        for file in (self._events, self._lines):
            if file is not None:
                file.close()

    # ------------------------------------------------------------ metrics.jsonl

    def add_to_line(self, tag: str, number: float, step: int, walltime: float | None = None) -> None:
        """Put a number into the line of `step`, which is written when another step begins and at `flush`."""
        if step != self._line_step:
            self._end_line()
            self._line_step = step
            self._line["time"] = time.time() if walltime is None else walltime
        self._line[tag] = number if isinstance(number, int) or math.isfinite(number) else str(number)

    def _end_line(self) -> None:
        if self._line_step is None:
            return
        line = json.dumps({"step": self._line_step, **self._line}) + "\n"
        self._line_step, self._line = None, {}
        if self._is_writable():
            with _Degrading(self):
                self._open()
                self._lines.write(line.encode())

    # ------------------------------------------------------------ events

    def _add(self, summary: Any, step: int, walltime: float | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time() if walltime is None else walltime, step=step, summary=summary)
        self._pending.append(encode_record(event.SerializeToString()))
        if len(self._pending) >= self._max_queue or time.monotonic() >= self._next_flush:
            self._write_pending()

    def _write_pending(self) -> None:
        self._next_flush = time.monotonic() + self._flush_secs
        records, self._pending = self._pending, []
        if records and self._is_writable():
            with _Degrading(self):
                self._open()
                self._events.write(b"".join(records))

    def _open(self) -> None:
        global _num_event_files
        if self._lines is not None and self._events is not None:
            return
        os.makedirs(self._dir, exist_ok=True)
        if self._lines is None:
            self._lines = AppendFile(os.path.join(self._dir, LINES_FILE))
        if self._events is None:
            from tensorboard.compat.proto.event_pb2 import Event

            # TensorBoard reads the files of a directory in the order of their names.
            unique = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{_num_event_files:06d}"
            events = AppendFile(os.path.join(self._dir, f"events.out.tfevents.{unique}"))
            events.write(
                encode_record(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
            )
            self._events = events
            _num_event_files += 1

    def _is_writable(self) -> bool:
        if self._closed:
            raise ValueError(
                f"the summary writer of {self._dir} is closed. Make a new one with create_summary_writer()."
            )
        return not self._failed or time.monotonic() >= self._retry_at

    def _degrade(self, error: OSError) -> None:
        if not self._failed:
            logging.warning(
                "Summaries cannot be written to %s: %s. Training goes on; writing is tried again every %d "
                "seconds, and what is recorded meanwhile is lost. Free disk space or check the directory.",
                self._dir,
                error,
                _RETRY_SECONDS,
            )
        self._failed = True
        self._retry_at = time.monotonic() + _RETRY_SECONDS


class _Degrading:
    """Context that turns an OSError of the block into the writer's one warning."""

    def __init__(self, writer: SummaryWriter):
        self._writer = writer

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type, error, traceback) -> bool:
        if isinstance(error, OSError):
            self._writer._degrade(error)
            return True
        return False


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int beyond the range of float
        return math.copysign(math.inf, value)


@atexit.register
def _close_open_writers() -> None:
    for writer in list(_open_writers):
        writer.close()
