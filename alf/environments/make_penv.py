"""gen_penv: builds the native extension of the parallel environments in place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def gen_penv() -> None:
    """Compile ``alf._parallel_env`` beside the package, in a source checkout.

    An installed package has it already, if there was a compiler; without it, parallel environments use their
    Python twin. Already imported modules do not change: start a new process to use the result.

    Raises:
        FileNotFoundError: if the package is not in a source checkout.
        subprocess.CalledProcessError: if the build tool itself fails.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "csrc" / "parallel_env").is_dir():
        raise FileNotFoundError(
            f"gen_penv: expected the C++ sources in {root / 'csrc' / 'parallel_env'}. Run it in a "
            "source checkout, or reinstall alf-rl where a C++17 compiler exists."
        )
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=root, check=True)


if __name__ == "__main__":
    gen_penv()
