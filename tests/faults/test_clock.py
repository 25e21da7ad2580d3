"""A wall clock that jumps: nothing that is timed, waited for or shown depends on it."""

import ast
import pathlib
import re

from command_line import checkpoints, records

ALF = pathlib.Path(__file__).parents[2] / "alf"
CONF = pathlib.Path(__file__).parent / "confs" / "jumping_clock_conf.py"
# Where the date is meant: what is written beside a record, and the age of files of another machine.
DATES = {"summary/_writer.py", "utils/_checkpoint_files.py"}


def _looks_at_wall_clock(path: pathlib.Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in ("time", "time_ns") and (
                isinstance(node.value, ast.Name) and node.value.id == "time"):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "time" and any(
                name.name in ("time", "time_ns") for name in node.names):
            return True
    return False


def test_only_dates_come_from_the_wall_clock():
    found = {path.relative_to(ALF).as_posix() for path in ALF.rglob("*.py") if _looks_at_wall_clock(path)}
    assert found == DATES
    native = [path for path in ALF.parent.joinpath("csrc").rglob("*.[ch]*")
              if re.search("system_clock|CLOCK_REALTIME|gettimeofday", path.read_text(errors="replace"))]
    assert native == []


def test_training_on_a_machine_whose_clock_jumps(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    assert checkpoints(tmp_path) == [10, 20, 30, 40]
    lines = records(tmp_path)
    dates = [line["time"] for line in lines]
    assert max(dates) - min(dates) > 3000  # it did jump
    durations = [(name, value) for line in lines for name, value in line.items() if name.startswith("time/")]
    assert len(durations) > 40
    assert [(name, value) for name, value in durations if not 0 <= value < 600] == []
    assert not re.search(r"(steps/s|ETA) -\d", done.stdout), done.stdout
