"""A sweep of small programs in a process of its own: ``python fake_sweep.py ROOT_DIR STALL_SECONDS PROGRAM...``."""

import json
import sys

from alf.scale_out import trials
from alf.scale_out._bound_process import bound_command
from alf.scale_out.search_space import SearchSpace


def main(root_dir: str, stall_seconds: float, *programs: str) -> int:
    """Run the module ``program`` with each program as its argument, one at a time, and return the exit code."""
    space = SearchSpace({"program": [json.dumps(program) for program in programs]})

    def command(trial, folder):
        return bound_command("program", folder, json.loads(trial.parameters["program"]))

    return trials.run_sweep(root_dir, space, space.trials(), command, [""] * len(programs),
                            trials.Limits(stall_seconds=stall_seconds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:]))
