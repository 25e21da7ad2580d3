"""Which peers are installed, and where: each has a virtual environment of its own."""

import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks import _report

#: name -> distribution that must be there, and others whose version is told.
PEERS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "sb3": ("stable-baselines3", ("torch", "numpy", "gymnasium", "mujoco", "ale-py")),
    "sbx": ("sbx-rl", ("jax", "numpy", "gymnasium", "mujoco")),
    "torchrl": ("torchrl", ("tensordict", "torch", "numpy", "gymnasium", "mujoco")),
    "cpprb": ("cpprb", ("numpy", )),
    "tianshou": ("tianshou", ("torch", "numpy", "gymnasium")),
    "cleanrl": ("tyro", ("stable-baselines3", "torch", "numpy", "gymnasium", "mujoco")),  # of its scripts
    "pufferlib": ("pufferlib", ("numpy", "gymnasium", "mujoco")),
    "envpool": ("envpool", ("torch", "numpy", "gymnasium")),
    "gin": ("gin-config", ()),
}
_HERE = ("envpool", )  # peers that our own interpreter may have


class Found(NamedTuple):
    """A peer that is installed."""

    python: str  # interpreter
    versions: Dict[str, str]


def find(folder: Optional[str], names: Sequence[str]) -> Tuple[Dict[str, Found], List[str]]:
    """Return the peers that are installed, and a line for each that is not.

    The interpreter of a peer is named by the variable ``ALF_BENCH_<NAME>`` or is ``<folder>/<name>/bin/python``. That
    of cpprb may be the one of sb3, and that of envpool ours.

    Args:
        folder: of virtual environments; None: only the variables count.
        names: some of PEERS.
    """
    found, left_out = {}, []
    for name in names:
        needed, others = PEERS[name]
        variable = f"ALF_BENCH_{name.upper()}"
        python = os.environ.get(variable) or (os.path.join(folder, name, "bin", "python") if folder else "")
        if not os.path.isfile(python) and name == "cpprb":
            python = os.environ.get("ALF_BENCH_SB3") or python
        if not os.path.isfile(python) and name in _HERE:
            python = sys.executable
        if not os.path.isfile(python):
            missing = f"there is no {python}" if python else "no interpreter is named"
            left_out.append(f"{name} is left out: {missing}. Set {variable}=.../bin/python, or put its environment at "
                            f"DIR/{name} and give --peers DIR.")
            continue
        installed = _report.versions(python, (needed, *others))
        if needed not in installed:
            left_out.append(f"{name} is left out: {python} has no {needed}. Install it there: {python} -m pip install "
                            f"{needed}")
            continue
        found[name] = Found(python, installed)
    return found, left_out
