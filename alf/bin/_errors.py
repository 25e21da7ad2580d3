"""Errors as a person reads them: which are the user's mistakes, and how those are told without our frames."""

import os
import sysconfig
import traceback

from alf._config._errors import ConfigError
from alf.environments.fast_parallel_environment import is_of_environment
from alf.trainers._joint_training import LOST_EXIT_CODE
from alf.trainers._run_directory import RunDirectoryError
from alf.utils.checkpoint_utils import CheckpointError
from alf.utils.distributed import LostProcessError

_OUR_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_EXAMPLES = os.path.join(_OUR_CODE, "examples") + os.sep
_LIBRARIES = tuple({path + os.sep for path in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"),
                                               sysconfig.get_path("stdlib"))}) + ("<",)


def is_mistake(error: Exception, while_preparing: bool) -> bool:
    """Return whether ``error`` is best told by its words and the user's own lines, without our frames.

    Args:
        error: what was raised.
        while_preparing: it was raised while conf, environments and algorithm were made. There, what we raise on purpose
            and what the user's own code raises is such a mistake; what fails in the depths of our code is ours.
    """
    if is_of_environment(error) and not while_preparing:
        return False
    if isinstance(error, (ConfigError, RunDirectoryError, CheckpointError, FileNotFoundError, LostProcessError)):
        return True
    # What is stored is known at the first step, so these come late.
    if _is_raised_by_us(error) and (isinstance(error, MemoryError) or str(error).startswith("TrainerConfig.")):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if not while_preparing or isinstance(error, AssertionError):
        return False
    if isinstance(error, ImportError):  # of a package that is not installed
        return True
    # A call with a wrong argument has no frame of its own.
    wrong_argument = isinstance(error, TypeError) and "argument" in str(error)
    return _is_raised_by_us(error) or _is_users(frames[-1]) or wrong_argument


def exit_code(error: Exception) -> int:
    """Return the exit code after an error that is told by its words: 2, for a mistake, or that of a lost process."""
    return LOST_EXIT_CODE if isinstance(error, LostProcessError) else 2


def told(error: Exception) -> str:
    """Return what ``error`` says, then the user's own lines that led to it, if it does not name them itself."""
    text = str(error) if _is_raised_by_us(error) else f"{type(error).__name__}: {error}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame)]
    if own and f"{own[-1].filename}:{own[-1].lineno}" not in text:
        text += "\n" + "".join(traceback.format_list(own)).rstrip()
    notes = [note for note in getattr(error, "__notes__", ()) if not (own and note.startswith("In conf "))]
    return "\n".join([text, *notes])


def _is_raised_by_us(error: Exception) -> bool:
    """Return whether ``error`` was raised on purpose, with words of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_OUR_CODE) and (frames[-1].line or "").startswith("raise ")


def _is_users(frame: traceback.FrameSummary) -> bool:
    if frame.filename.startswith(_EXAMPLES):
        return True
    return not frame.filename.startswith((_OUR_CODE, *_LIBRARIES))
