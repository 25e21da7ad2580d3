"""Findings: what a check of an environment has found, each kind once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Finding(NamedTuple):
    """Something about an environment that is wrong (``"error"``) or deserves a look (``"warning"``)."""

    severity: str
    step: int | None  # step at which it was seen first, resets not counted; None: it concerns no step
    path: str  # "observation.position", "reward", "reset()", ...
    expected: str
    got: str
    fix: str  # what to do

    def __str__(self) -> str:
        where = "" if self.step is None else f"step {self.step}: "
        return f"{self.severity}: {where}{self.path}: expected {self.expected}, got {self.got}. {self.fix}."


class Findings:
    """Collects findings; what was found again in the same place is left out."""

    def __init__(self):
        self._found: dict[tuple, Finding] = {}
        self.step: int | None = None  # now

    def error(self, path: str, expected: str, got: str, fix: str) -> None:
        """Note that training on this environment would fail, or learn something else than meant."""
        self._add("error", path, expected, got, fix)

    def warning(self, path: str, expected: str, got: str, fix: str) -> None:
        """Note something that may be meant."""
        self._add("warning", path, expected, got, fix)

    def _add(self, severity: str, path: str, expected: str, got: str, fix: str) -> None:
        self._found.setdefault((severity, path, expected), Finding(severity, self.step, path, expected, got, fix))

    @property
    def has_errors(self) -> bool:
        """Whether there is an error among them."""
        return any(finding.severity == "error" for finding in self._found.values())

    def as_list(self) -> list[Finding]:
        """Return the errors, then the warnings."""
        return sorted(self._found.values(), key=lambda finding: finding.severity != "error")


def told(value: Any) -> str:
    """Return a few words for a value."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{type(value).__name__} {value!r:.80}"


def told_error(error: BaseException) -> str:
    """Return type and first words of an exception, and where in the user's code it was raised."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"{type(error).__name__}: {error!s:.200} ({code.co_filename}:{traceback.tb_lineno} in {code.co_name})"
