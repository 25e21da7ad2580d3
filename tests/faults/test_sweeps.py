"""A sweep in which trials crash, run out of memory and hang: the others go on; the same again runs what is missing."""

import csv
import json
import pathlib

import psutil
from command_line import checkpoints

CONF = pathlib.Path(__file__).parent / "confs" / "sweep_conf.py"


def _processes_in(folder) -> list:
    return [process for process in psutil.process_iter(["cmdline"])
            if any(str(folder) in word for word in process.info["cmdline"] or ())]


def test_sweep_outlives_its_trials_and_goes_on_with_what_is_missing(commands, tmp_path):
    search = tmp_path / "search.json"
    kinds = ["crash", "memory", "hang", "none"]
    search.write_text(json.dumps({"max_worker_num": 2, "parameters": {"mischief": [f"'{kind}'" for kind in kinds]}}))
    arguments = ["grid_search", "--conf", CONF, "--root_dir", tmp_path / "out", "--search_config", search,
                 "--stall_seconds", "4", "--conf_param", f"folder='{tmp_path}'"]

    first = commands.run(*arguments)
    assert first.code == 1, first.stderr
    with open(tmp_path / "out" / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["failed", "failed", "hung", "finished"], first.stdout
    assert [float(row["env_steps"]) > 0 for row in rows] == [True] * 4
    table = first.stdout[first.stdout.index("\ntrial"):]
    for words in ("0000r0+mis=crash failed: exit code 1: RuntimeError: the environment has had enough",
                  "0001r0+mis=memory failed: killed (signal 9, SIGKILL), perhaps for memory\n",
                  "0002r0+mis=hang hung: no process used the processor for 4 s (--stall_seconds)",
                  f"see {tmp_path}/out/0002r0+mis=hang/console.log"):
        assert words in table
    assert "sweep_conf.py\", line" in (tmp_path / "out" / "0002r0+mis=hang" / "train.log").read_text()  # its stack
    assert _processes_in(tmp_path / "out") == []

    again = commands.run(*arguments)
    assert again.code == 0, again.stdout
    assert "trials: 4, finished before: 1," in again.stdout and "0003r0+mis=none begins" not in again.stdout
    for kind, folder in zip(kinds, sorted((tmp_path / "out").glob("000*"))):
        record = json.loads((folder / "trial.json").read_text())
        assert (record["state"], record["starts"]) == ("finished", 1 if kind == "none" else 2)
        assert checkpoints(folder)[-1] == 6
        assert ("resumed from iteration 2 of " in (folder / "console.log").read_text()) is (kind != "none")
