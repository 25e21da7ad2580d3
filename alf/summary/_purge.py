"""Dropping what an earlier process recorded after the checkpoint that training goes on from.

TensorBoard's own device (a session-start event with a purge step) would compare the step of *every* tag with
the purge step, and so hide the curves drawn against environment steps almost entirely. Records are written in
order of time, so here a file is cut at its first record of a later training step, whatever the tags after it.
"""

from __future__ import annotations

import glob
import json
import os

from alf.summary._event_file import iterate_records


def purge_after(summary_dir: str, lines_file: str, step: int) -> None:
    """Drop lines and events recorded after training step `step` from the files in `summary_dir`."""
    tags = _purge_lines(os.path.join(summary_dir, lines_file), step)
    if tags:
        for path in sorted(glob.glob(os.path.join(glob.escape(summary_dir), "events.out.tfevents.*"))):
            _purge_events(path, tags, step)


def _purge_lines(path: str, step: int) -> set[str]:
    """Cut the line file and return the tags recorded at training steps, those of dropped lines included."""
    if not os.path.exists(path):
        return set()
    tags: set[str] = set()
    kept_bytes = None
    offset = 0
    with open(path, "rb") as file:
        for raw in file:
            line = _parse(raw)
            if line is None or (kept_bytes is None and line["step"] > step):
                # a line without an end was cut off by a kill; it can only be the last one
                kept_bytes = offset if kept_bytes is None else kept_bytes
            if line is not None:
                tags.update(line)
            offset += len(raw)
    if kept_bytes is not None:
        os.truncate(path, kept_bytes)
    return tags - {"step", "time"}


def _parse(raw: bytes) -> dict | None:
    try:
        line = json.loads(raw)
    except (RecursionError, ValueError):
        return None
    return line if isinstance(line, dict) and type(line.get("step")) in (int, float) and raw.endswith(b"\n") else None


def _purge_events(path: str, tags: set[str], step: int) -> None:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    for offset, payload in iterate_records(path):
        try:
            event = Event.FromString(payload)
        except DecodeError:  # the rest of the file is unreadable for TensorBoard too
            return
        if event.step > step and any(value.tag in tags for value in event.summary.value):
            os.truncate(path, offset)
            return
