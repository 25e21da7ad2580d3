"""What is logged: short lines on the standard error, and everything in a file of the run."""

import contextlib
import logging
import logging.handlers
import re
import sys
import warnings
from typing import Iterator

from absl import logging as absl_logging

_CONSOLE_FORMAT = logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
_FILE_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(process)d %(filename)s:%(lineno)d %(message)s")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_CAPACITY = 10_000  # records kept until the file of the run is known


class _Console(logging.StreamHandler):
    """Writes to what is the standard error at that time: a live table there gives way to the line."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.setFormatter(_CONSOLE_FORMAT)

    @property
    def stream(self):
        """The standard error; None if it is closed."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if there is somewhere to write it."""
        if self.stream is not None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: a terminal that is closed ends its lines, never the training."""


class _File(logging.FileHandler):
    """Writes to a file. A full disk is told once, and later records are tried again."""

    def __init__(self, path: str):
        super().__init__(path, encoding="utf-8")
        self.setFormatter(_FILE_FORMAT)
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell the first failure."""
        if not self._told:
            self._told = True
            logging.warning("%s cannot be written: %s. Training goes on.", self.baseFilename, sys.exc_info()[1])

    def close(self) -> None:
        """Close the file; what it could not take is lost."""
        with contextlib.suppress(OSError):
            super().close()


_early_records = logging.handlers.MemoryHandler(_CAPACITY, flushLevel=logging.CRITICAL + 1)


def start_console(verbosity: int) -> None:
    """Log to the standard error from now on, and keep the records for the file of the run.

    Args:
        verbosity: as in absl: -1 warnings and errors only, 0 information, 1 everything.
    """
    absl_logging.set_verbosity(verbosity)
    root = logging.getLogger()
    logging.getLogger("alf").setLevel(absl_logging.converter.absl_to_standard(verbosity))
    root.removeHandler(absl_logging.get_absl_handler())
    for handler in (_Console(), _early_records):
        root.addHandler(handler)
    logging.captureWarnings(True)
    warnings.formatwarning = _told_warning


def _told_warning(message, category, filename, lineno, line=None) -> str:
    return f"{filename}:{lineno}: {_COLORS.sub('', str(message))}"


@contextlib.contextmanager
def logged_to(path: str) -> Iterator[None]:
    """Context in which everything is also logged to a file, from what was logged before to how the context failed.

    Args:
        path: of the file, which is appended to.
    """
    root = logging.getLogger()
    handler = _File(path)
    for record in _early_records.buffer:
        handler.handle(record)
    _early_records.buffer.clear()
    root.removeHandler(_early_records)
    root.addHandler(handler)
    try:
        yield
    except Exception:  # it goes on to whoever tells the user
        handler.handle(root.makeRecord("alf", logging.ERROR, __file__, 0, "training failed", (), sys.exc_info()))
        raise
    finally:
        root.removeHandler(handler)
        handler.close()
