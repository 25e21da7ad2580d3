"""The long form of the fault tests: what it counts as damage, loss and growth."""

import os
import pathlib
import random
import subprocess
import sys
import textwrap
import types

import psutil
import pytest
import torch

from alf.utils.checkpoint_utils import Checkpointer, DamagedCheckpointError
from benchmarks import _interleavings, _kills, _soak, bench_faults


class Weights:
    """An object to be saved."""

    def state_dict(self):
        return {"weight": torch.arange(100.0)}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("how", sorted(set(_kills.DAMAGES)))
def test_every_damage_is_one(tmp_path, how):
    path = Checkpointer(str(tmp_path), algorithm=Weights()).save(3)
    assert _kills.verified_bytes(path) > 400
    told = _kills.damage(tmp_path / "ckpt-3" / "algorithm.safetensors", how, random.Random(1))
    assert "algorithm.safetensors" in told
    with pytest.raises(DamagedCheckpointError):
        _kills.verified_bytes(path)


def test_damages_that_are_noticed_are_counted(tmp_path):
    folder = tmp_path / "run" / "train" / "algorithm"
    objects = {name: Weights() for name in ("algorithm", "trainer_progress", "rng", "rollout", "metrics")}
    for step in (1, 2):
        Checkpointer(str(folder), **objects).save(step)
    rows = list(_kills.damage_checkpoints(5, tmp_path / "run", tmp_path, seed=1))
    assert [row["detected"] for row in rows] == [True] * 5 and len({row["damage"] for row in rows}) > 1
    assert not (tmp_path / "damaged").exists()


def test_names_in_shared_memory_count_if_they_are_those_of_the_run():
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import mmap, os
        names = [f"/dev/shm/alf_test_{os.getppid()}x_mapped", f"/dev/shm/alf_test_{os.getpid()}_named"]
        for name in names:
            with open(name, "wb") as file:
                file.write(bytes(4096))
        file = open(names[0], "r+b")
        mapped = mmap.mmap(file.fileno(), 4096)
        print("there", flush=True)
        input()
    """)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"there\n"
    mapped, named = f"alf_test_{os.getpid()}x_mapped", f"alf_test_{process.pid}_named"
    other = pathlib.Path(f"/dev/shm/alf_test_{os.getpid()}x_other")  # nobody uses it, and it is not of the run
    other.write_bytes(b"")
    try:
        own = _kills.used_names([psutil.Process(process.pid)])
        assert own == {mapped}
        assert _kills.left_names(own, []) == set()  # it is in use
        process.kill()
        process.wait()
        assert _kills.left_names(own, [process.pid]) == {mapped, named}
        assert other.name in _kills.abandoned_names()
    finally:
        process.kill()
        process.communicate()
        for name in (mapped, named, other.name):
            pathlib.Path("/dev/shm", name).unlink(missing_ok=True)


def test_slope_is_per_hour():
    assert _soak.slope_per_hour([0, 10, 20, 30], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(360)
    assert _soak.slope_per_hour([0, 10, 20], [5.0, 5.0, 5.0]) == pytest.approx(0)


def test_memory_of_a_process_is_resident_and_shared():
    told = _soak._memory(os.getpid())
    resident = psutil.Process().memory_info().rss / 2**20
    assert told["resident_mb"] == pytest.approx(resident, rel=0.05)
    assert 0 < told["proportional_mb"] <= told["resident_mb"]


@pytest.mark.parametrize("change, growth, good", [({}, 0.9, True), ({}, 1.1, False), ({"seconds": 600}, 60.0, True),
                                                  ({"exit_code": 1}, 0.0, False)])
def test_memory_that_grows_for_hours_is_told(capsys, change, growth, good):
    kinds = {"resident_mb": 100.0, "files": 7.0}
    report = {"seconds": 7200, "episodes": 5, "evaluations": 2, "exit_code": 130, "first": kinds, "last": kinds,
              "slopes_per_hour": {"resident_mb": growth, "files": 0.0}, **change}
    assert bench_faults.tell_soak(report) is good
    told = capsys.readouterr().out
    assert f"soak, resident_mb: 100.0 -> 100.0, slope {growth:+.2f} per hour" in told
    assert ("PROBLEM" in told) is (growth == 1.1)


@pytest.mark.parametrize("change, good", [({}, True), ({"lost_bytes": 7}, False), ({"orphans": 1}, False),
                                          ({"shared_names": 1}, False), ({"problems": ["it is gone"]}, False)])
def test_whatever_is_lost_or_left_behind_is_told(capsys, change, good):
    row = {"run": "PPO", "while": "training", "recovery_seconds": 2.0, "problems": [], "orphans": 0,
           "orphan_seconds": 0.5, "shared_names": 0, "lost_bytes": 0}
    assert bench_faults.tell_kills([row, {**row, **change}]) is good
    told = capsys.readouterr().out
    assert f"{1 if change.get('problems') else 2} of 2 (0 of them while starting)" in told
    assert ("it is gone" in told) is ("problems" in change)


def test_operations_that_differ_are_told(capsys, monkeypatch):
    def run(constructors, options, num_operations, seed):
        assert len(constructors) == 4 and constructors[3](env_id=3).whoami() == "env3" and num_operations == 10
        if options["backend"] == "python" and seed == 2:
            raise AssertionError("reward")
        return {"step_async": 10}

    load = _interleavings._load
    fake = types.SimpleNamespace(NUM_ENVS=4, run=run)
    monkeypatch.setattr(_interleavings, "_load", lambda name: fake if name == "pool_machine" else load(name))
    rows = list(_interleavings.interleave(20, seed=1))
    assert [row["pool"] for row in rows] == ["C++", "Python"] and bench_faults.tell_operations(rows) is True
    assert bench_faults.tell_operations(list(_interleavings.interleave(20, seed=2))) is False
    told = capsys.readouterr().out
    assert "PROBLEM (Python): AssertionError: reward" in told and "by kind: 10 step_async" in told


def test_our_pool_tells_which_environment_failed_and_closes(capsys):
    answers = bench_faults.tell_pools({"alf": sys.executable})["alf"]
    left = answers.pop("owner is killed")
    assert left["processes"] > 0 and left["left"] == 0
    assert set(answers) == {"raises", "exits", "is killed", "hangs", "returns NaN"}
    for answer in answers.values():
        assert answer["told"] and answer["names_environment"] and answer["closes"] and not answer["given_up"]
    assert answers["raises"]["has_cause"]
    assert "pool of alf, hangs: told WorkerDiedError" in capsys.readouterr().out
