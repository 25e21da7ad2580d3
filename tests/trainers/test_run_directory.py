"""What a run leaves in its directory."""

import json
import multiprocessing
import os
import time

import pytest

from alf.trainers import _run_directory
from alf.trainers._run_directory import RunDirectoryError, check_belongs_to, conf_of_run, locked, read_run


def test_damaged_record_is_told(tmp_path):
    assert read_run(str(tmp_path)) is None
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"run.json: not a JSON file .*Delete it"):
        read_run(str(tmp_path))


def test_directory_without_a_run_is_told(tmp_path):
    with pytest.raises(RunDirectoryError, match="no run there .*Pass --conf to begin one"):
        conf_of_run(str(tmp_path))


def test_copy_of_the_conf_belongs_to_its_directory(tmp_path):
    run = {"conf_file": "/elsewhere/some_conf.py", "conf": "", "begun": "today"}
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
