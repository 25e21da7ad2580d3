"""Runs a module as ``python -m`` does, in a process that dies with the one that started it, however that ends.

``python -m alf.scale_out._bound_process PARENT_PID MODULE [ARGUMENT ...]``
"""

import os
import runpy
import sys
from typing import List

from alf.trainers._signals import die_with_parent


def bound_command(module: str, *arguments: str) -> List[str]:
    """Return the command that runs a module in a process bound to this one.

    It is to be started by a thread that lives as long as this process: the system watches the thread.

    Args:
        module: dotted name of a module, which is run as ``__main__``.
        arguments: of its command line.
    """
    return [sys.executable, "-m", "alf.scale_out._bound_process", str(os.getpid()), module, *arguments]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    del sys.argv[:2]  # the module comes first, as `python -m` has it
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
