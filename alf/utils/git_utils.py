"""Which revision of a source tree runs, and how the tree differs from it: written down with every run."""

from __future__ import annotations

import os
import subprocess

_TIMEOUT_SECONDS = 30.0


def get_revision(module_root: str) -> str:
    """Return the commit checked out at `module_root`; "" if that is no git repository or there is no git."""
    return _git(module_root, "rev-parse", "HEAD").strip()


def get_diff(module_root: str) -> str:
    """Return how the tracked files at `module_root` differ from the last commit; "" as for `get_revision`."""
    return _git(module_root, "diff", "--no-color", "--no-ext-diff", "HEAD")


def _git(root: str, *arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        result = subprocess.run(
            ["git", "-C", root, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.decode("utf-8", errors="replace") if result.returncode == 0 else ""
