"""How environments are closed, and copies of their process ended that they have made."""

from __future__ import annotations

import logging
import os
from typing import Any

from alf.environments._pool._errors import is_of_signal, text_of

logger = logging.getLogger(__name__)

_MAX_CHARS = 2000


def close_env(env: Any, who: str) -> None:
    """Close an environment; what it raises then is told, and is no reason to end anything.

    Args:
        env: the environment.
        who: it is, in words.
    """
    try:
        env.close()
    except BaseException as error:  # SystemExit too
        if is_of_signal(error):
            raise
        told = f"{type(error).__name__}: {text_of(error)}"[:_MAX_CHARS]
        logger.warning("%s: close() raised %s. That is passed over, for it is of no more use.", who, told)


def end_forked(pid: int) -> None:
    """End this process at once if it is not ``pid``, but a copy of it that an environment has forked and not ended.

    Such a copy would go on as if it were the process itself, with the same shared memory and the same pipes.
    """
    if os.getpid() != pid:
        os._exit(0)
