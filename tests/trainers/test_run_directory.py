"""What a run leaves in its directory."""

import json
import multiprocessing
import os
import re
import time

import pytest

from alf.trainers import _run_directory
from alf.trainers._run_directory import RunDirectoryError, check_belongs_to, conf_of_run, locked, read_run


def test_damaged_record_is_told(tmp_path):
    assert read_run(str(tmp_path)) is None
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"run.json: not a JSON file .*Delete it"):
        read_run(str(tmp_path))


RUN = {"conf_file": "a_conf.py", "conf": "", "begun": "today", "seed": 1, "starts": ["today"]}


@pytest.mark.parametrize("record, told", [
    ([], "expected fields by name, got []"),
    ({**RUN, "seed": "abc"}, "seed: expected a whole number from 0 to 2**64, got 'abc'"),
    ({**RUN, "seed": -1}, "seed: expected a whole number from 0 to 2**64, got -1"),
    ({**RUN, "seed": True}, "seed: expected a whole number"),
    ({**RUN, "starts": "x"}, "starts: expected a list of texts, got 'x'"),
    ({name: value for name, value in RUN.items() if name != "begun"}, "begun: expected a text, got nothing"),
])
def test_record_with_other_fields_is_told_by_the_field(tmp_path, record, told):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    assert read_run(str(tmp_path)) == RUN
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunDirectoryError, match=re.escape(f"run.json: {told}")):
        read_run(str(tmp_path))


@pytest.mark.parametrize("place, told", [("run.json", "a directory"), ("run.json", "a pipe")])
def test_record_that_is_no_file_is_told(tmp_path, place, told):
    path = tmp_path / place
    path.mkdir() if told == "a directory" else os.mkfifo(path)
    with pytest.raises(RunDirectoryError, match=f"run.json: expected a file, got {told}"):
        read_run(str(tmp_path))


def test_record_nested_without_end_is_told(tmp_path):
    (tmp_path / "run.json").write_text("[" * 100_000)
    with pytest.raises(RunDirectoryError, match="run.json: not a JSON file"):
        read_run(str(tmp_path))


@pytest.mark.parametrize("name", ["train", "train/algorithm", "train/algorithm/best", "config_files"])
def test_a_file_in_the_place_of_a_directory_is_told(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(RunDirectoryError, match=f"{name}: expected a directory, got a file. Move it away"):
        with locked(str(tmp_path)):
            pass


@pytest.mark.parametrize("name", ["train.log", "alf_config.py", "train/metrics.jsonl", ".lock"])
def test_a_directory_in_the_place_of_a_file_is_told(tmp_path, name):
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(RunDirectoryError, match=f"{name}: expected a file, got a directory. Move it away"):
        with locked(str(tmp_path)):
            pass


def test_directory_without_a_run_is_told(tmp_path):
    with pytest.raises(RunDirectoryError, match="no run there .*Pass --conf to begin one"):
        conf_of_run(str(tmp_path))


def test_copy_of_the_conf_belongs_to_its_directory(tmp_path):
    run = {"conf_file": "/elsewhere/some_conf.py", "conf": "", "begun": "today", "seed": 1, "starts": ["today"]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "alf_config.py").write_text("")
    check_belongs_to(str(tmp_path), str(tmp_path / "alf_config.py"))
    with pytest.raises(RunDirectoryError, match="got a run of /elsewhere/some_conf.py .begun today"):
        check_belongs_to(str(tmp_path), "/elsewhere/other_conf.py")


def _hold(root_dir, connection):
    with locked(root_dir):
        connection.send("held")
        connection.poll(30)


def test_lock_is_that_of_a_process_and_ends_with_it(tmp_path):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    holder = context.Process(target=_hold, args=(str(tmp_path), theirs))
    holder.start()
    assert ours.recv() == "held"
    told = f"a trainer or a sweep is at work there already: process {holder.pid} on "
    with pytest.raises(RunDirectoryError, match=told):
        with locked(str(tmp_path)):
            pass
    holder.kill()
    holder.join()
    with locked(str(tmp_path)):
        # Processes that are started meanwhile do not hold it on.
        child = context.Process(target=time.sleep, args=(30, ))
        child.start()
    ours, theirs = context.Pipe()
    next_holder = context.Process(target=_hold, args=(str(tmp_path), theirs))
    next_holder.start()
    assert ours.recv() == "held"
    ours.send("release")
    next_holder.join()
    child.kill()
    child.join()


def test_repositories_of_the_user_are_recorded_too(tmp_path, monkeypatch):
    monkeypatch.setenv("ALF_SNAPSHOT_REPO_ROOTS", os.pathsep.join([str(tmp_path / "mine") + "/", ""]))
    assert list(_run_directory.repositories()) == ["alf", "mine"]


def test_command_line_can_be_typed_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "--root_dir", "a b"])
    assert _run_directory.command_line().endswith(" --root_dir 'a b'")
