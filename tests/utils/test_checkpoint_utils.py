"""The Checkpointer: what is saved and loaded, and that no fault of disk or process loses a run."""

import errno
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch
from absl import logging as absl_logging
from safetensors.torch import load_file, save_file
from torch import nn

from alf.utils import _checkpoint_files
from alf.utils.checkpoint_utils import (
    Checkpointer,
    CheckpointError,
    enable_checkpoint,
    extract_sub_state_dict_from_checkpoint,
    is_checkpoint_enabled,
)


@pytest.fixture
def log(caplog):
    absl_logging.get_absl_logger().propagate = True
    caplog.set_level(logging.WARNING, logger="absl")
    return caplog


class Progress:
    """An object that is no module."""

    def __init__(self, iterations=0):
        self.iterations = iterations

    def state_dict(self):
        return {"iterations": self.iterations, "rng": random.Random(self.iterations).getstate()}

    def load_state_dict(self, state):
        self.iterations = state["iterations"]
        assert state["rng"] == random.Random(self.iterations).getstate()


class Agent(nn.Module):
    """Parameters, an optimizer, a replay buffer and a data transformer under the names an algorithm gives them."""

    def __init__(self, value=0.0, width=4):
        super().__init__()
        self._net = nn.Linear(3, width)
        self._data_transformer = nn.BatchNorm1d(2)
        self._replay_buffer = nn.Module()
        self._replay_buffer.register_buffer("action", torch.full((5,), value))
        self._optimizer = torch.optim.Adam(self._net.parameters())
        with torch.no_grad():
            for tensor in [*self.parameters(), self._data_transformer.running_mean]:
                tensor.fill_(value)
        self._net(torch.ones(1, 3)).sum().backward()
        self._optimizer.param_groups[0]["lr"] = value
        self._optimizer.state[self._net.weight] = {"step": torch.tensor(value)}

    def state_dict(self):
        return {**super().state_dict(), "_optimizers.0": self._optimizer.state_dict()}

    def load_state_dict(self, state):
        state = dict(state)
        self._optimizer.load_state_dict(state.pop("_optimizers.0"))
        return super().load_state_dict(state)

    def values(self):
        return {
            "net": float(self._net.weight.detach().mean()),
            "optimizer": float(self._optimizer.param_groups[0]["lr"]),
            "replay": float(self._replay_buffer.action[0]),
            "transformer": float(self._data_transformer.running_mean[0]),
        }


def everything(value):
    return dict.fromkeys(["net", "optimizer", "replay", "transformer"], value)


def save(directory, step, value=None, **kwargs):
    """Save an agent full of `value` at `step`."""
    agent = Agent(float(step if value is None else value))
    return Checkpointer(str(directory), algorithm=agent, progress=Progress(step), **kwargs).save(step)


def load(directory, *args, **kwargs):
    """Return (step, values) of a fresh agent into which was loaded."""
    agent, progress = Agent(-1.0), Progress()
    step = Checkpointer(str(directory), algorithm=agent, progress=progress).load(*args, **kwargs)
    assert progress.iterations == max(step, 0)
    return step, agent.values()


def names(directory):
    return sorted(os.listdir(directory))


# ---------------------------------------------------------------- what is saved and loaded


def test_everything_comes_back(tmp_path):
    path = save(tmp_path, 7)
    assert path == str(tmp_path / "ckpt-7")
    assert load(tmp_path) == (7, everything(7.0))


def test_files_of_a_checkpoint(tmp_path):
    save(tmp_path, 7)
    assert names(tmp_path / "ckpt-7") == [
        "algorithm-optimizer.json",
        "algorithm-optimizer.safetensors",
        "algorithm-replay_buffer.json",
        "algorithm-replay_buffer.safetensors",
        "algorithm.json",
        "algorithm.safetensors",
        "manifest.json",
        "progress.json",
    ]
    manifest = json.loads((tmp_path / "ckpt-7" / "manifest.json").read_text())
    assert manifest["step"] == 7 and manifest["versions"]["torch"] == torch.__version__
    assert set(manifest["files"]) == set(names(tmp_path / "ckpt-7")) - {"manifest.json"}


def test_nothing_to_load_is_told_by_minus_one(tmp_path):
    checkpointer = Checkpointer(str(tmp_path / "none"), progress=Progress())
    assert (
        checkpointer.load() == -1 and not checkpointer.has_checkpoint() and not checkpointer.has_checkpoint(3)
    )


def test_latest_is_the_highest_step_and_each_can_be_asked_for(tmp_path):
    for step in (9, 10, 100):
        save(tmp_path, step)
    assert load(tmp_path)[0] == 100
    # The replay buffer is in the newest alone, see below.
    assert load(tmp_path, 9) == (9, {**everything(9.0), "replay": -1.0})
    checkpointer = Checkpointer(str(tmp_path), progress=Progress())
    assert (
        checkpointer.has_checkpoint()
        and checkpointer.has_checkpoint(10)
        and not checkpointer.has_checkpoint(11)
    )


def test_step_that_is_not_there_is_told_with_those_that_are(tmp_path):
    save(tmp_path, 9)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 8 .*There are: \[9\]"):
        load(tmp_path, 8)


def test_loading_an_early_step_warns_that_later_ones_stay_the_latest(tmp_path, log):
    save(tmp_path, 1)
    save(tmp_path, 2)
    load(tmp_path, 1)
    assert "later checkpoints than step 1" in log.text


@pytest.mark.parametrize(
    "flag, kept",
    [
        ("including_optimizer", "optimizer"),
        ("including_replay_buffer", "replay"),
        ("including_data_transformers", "transformer"),
    ],
)
def test_parts_can_be_left_out(tmp_path, flag, kept):
    save(tmp_path, 7)
    assert load(tmp_path, **{flag: False}) == (7, {**everything(7.0), kept: -1.0})


def test_parts_left_out_are_not_read(tmp_path):
    save(tmp_path, 7)
    for name in names(tmp_path / "ckpt-7"):
        if "replay_buffer" in name or "optimizer" in name:
            os.unlink(tmp_path / "ckpt-7" / name)
    assert load(tmp_path, including_optimizer=False, including_replay_buffer=False)[0] == 7


@pytest.mark.parametrize("prefix", ["_net", "algorithm._net"])
def test_ignored_prefixes_are_left_alone(tmp_path, prefix):
    save(tmp_path, 7)
    assert load(tmp_path, ignored_parameter_prefixes=[prefix]) == (7, {**everything(7.0), "net": -1.0})


def test_optimizers_of_nested_state_are_split_off_too(tmp_path):

    class Holder:
        def __init__(self, value):
            self.state = {"child": {"weight": value, "_optimizers": {0: value}}, "empty": {}, 3: value}

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    Checkpointer(str(tmp_path), holder=Holder(1)).save(0)
    assert "holder-optimizer.json" in names(tmp_path / "ckpt-0")
    holder = Holder(2)
    checkpointer = Checkpointer(str(tmp_path), holder=holder)
    checkpointer.load(including_optimizer=False)
    assert holder.state == {"child": {"weight": 1, "_optimizers": {0: 2}}, "empty": {}, 3: 1}
    checkpointer.load()
    assert holder.state == Holder(1).state


def test_state_that_is_no_dict_comes_back(tmp_path):

    class Holder:
        def __init__(self, state):
            self.state_dict = lambda: state

        def load_state_dict(self, state):
            self.loaded = state

    Checkpointer(str(tmp_path), holder=Holder([1, (2.5, None)])).save(0)
    holder = Holder([])
    Checkpointer(str(tmp_path), holder=holder).load()
    assert holder.loaded == [1, (2.5, None)]


def test_disabled_modules_are_not_saved_and_stay_as_they_are(tmp_path):
    agent = Agent(1.0)
    enable_checkpoint(agent._replay_buffer, False)
    assert not is_checkpoint_enabled(agent._replay_buffer) and is_checkpoint_enabled(agent)
    Checkpointer(str(tmp_path), algorithm=agent).save(1)
    assert not any("replay" in name for name in names(tmp_path / "ckpt-1"))
    other = Agent(2.0)
    enable_checkpoint(other._replay_buffer, False)
    Checkpointer(str(tmp_path), algorithm=other).load()
    assert other.values() == {**everything(1.0), "replay": 2.0}


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 7)
    save(tmp_path, 7, value=8.0)
    assert load(tmp_path) == (7, everything(8.0)) and names(tmp_path) == ["ckpt-7"]


def test_modules_without_state_are_refused_by_name():
    with pytest.raises(TypeError, match=r"progress is a dict, which has no state_dict\(\)"):
        Checkpointer("/nowhere", progress={})


def test_state_that_cannot_be_stored_is_told_and_leaves_nothing(tmp_path):
    progress = Progress()
    progress.iterations = 3
    progress.state_dict = lambda: {"callback": print}
    with pytest.raises(
        TypeError, match="progress.callback: a builtins.builtin_function_or_method cannot be stored"
    ):
        Checkpointer(str(tmp_path), progress=progress).save(1)
    assert names(tmp_path) == []


# ---------------------------------------------------------------- rotation


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    progress = Progress()
    checkpointer = Checkpointer(str(tmp_path), max_to_keep=2, progress=progress)
    assert not checkpointer.has_checkpoint("best") and checkpointer.best_score() is None
    with pytest.raises(CheckpointError, match="There is no best checkpoint"):
        checkpointer.load("best")
    for step in range(1, 7):
        progress.iterations = step
        checkpointer.save(step)
        if step in (1, 2):
            checkpointer.save_best(checkpointer.snapshot(step, ["progress"]), score=10.0 * step)
    assert names(tmp_path) == ["best", "ckpt-5", "ckpt-6"]
    assert names(tmp_path / "best") == ["ckpt-2"]
    assert checkpointer.has_checkpoint("best") and checkpointer.best_score() == 20.0
    assert checkpointer.load("best") == 2 and progress.iterations == 2
    assert checkpointer.load() == 6 and progress.iterations == 6


def test_snapshot_is_of_its_moment(tmp_path):
    agent = Agent(1.0)
    checkpointer = Checkpointer(str(tmp_path), agent=agent)
    snapshot = checkpointer.snapshot(3, ["agent"])
    with torch.no_grad():
        agent._net.weight.fill_(9.0)
    assert checkpointer.save_best(snapshot, 0.5) == str(tmp_path / "best" / "ckpt-3")
    checkpointer.load("best")
    assert agent._net.weight.unique().tolist() == [1.0]


def test_best_of_a_run_that_went_back_replaces_a_later_one(tmp_path):
    checkpointer = Checkpointer(str(tmp_path), progress=Progress())
    for step in (70, 50):
        checkpointer.save_best(checkpointer.snapshot(step, ["progress"]), score=step)
    assert names(tmp_path / "best") == ["ckpt-50"] and checkpointer.best_score() == 50.0


class Rollout:
    """Counts, and a replay buffer as algorithms give it."""

    def __init__(self, value=0.0):
        self.state = {"credit": value, "_replay_buffer": {"reward": torch.full((1000, ), value)}}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_only_the_newest_checkpoint_keeps_the_replay_buffer(tmp_path, log):
    rollout = Rollout()
    checkpointer = Checkpointer(str(tmp_path), rollout=rollout)
    assert checkpointer.state_bytes() == (0, 4000)
    for step in (1, 2, 3):
        rollout.state = Rollout(float(step)).state
        checkpointer.save(step)
    kept = "rollout-replay_buffer.safetensors"
    assert [(tmp_path / f"ckpt-{step}" / kept).exists() for step in (1, 2, 3)] == [False, False, True]
    assert sorted(os.listdir(tmp_path / "ckpt-1")) == ["manifest.json", "rollout.json"]
    assert json.loads((tmp_path / "ckpt-1" / "manifest.json").read_text())["dropped"] == ["rollout-replay_buffer"]

    fresh = Rollout()
    assert Checkpointer(str(tmp_path), rollout=fresh).load() == 3
    assert fresh.state["_replay_buffer"]["reward"].tolist() == [3.0] * 1000
    assert "REPLAY BUFFER" not in log.text
    damage(tmp_path / "ckpt-3" / kept, "flip", random.Random(1))
    fresh = Rollout()
    assert Checkpointer(str(tmp_path), rollout=fresh).load() == 2
    assert fresh.state["credit"] == 2.0
    assert fresh.state["_replay_buffer"]["reward"].tolist() == [0.0] * 1000  # as it was
    assert "REPLAY BUFFER NOT IN THIS CHECKPOINT" in log.text and "initial_collect_steps" in log.text


def test_files_left_by_a_kill_while_a_buffer_was_dropped_go_with_the_next_save(tmp_path):
    checkpointer = Checkpointer(str(tmp_path), rollout=Rollout())
    checkpointer.save(1)
    checkpointer.save(2)
    (tmp_path / "ckpt-1" / "rollout-replay_buffer.safetensors").write_bytes(b"left")
    (tmp_path / "ckpt-1" / "manifest.json.tmp").write_bytes(b"left")
    checkpointer.save(3)
    assert sorted(os.listdir(tmp_path / "ckpt-1")) == ["manifest.json", "rollout.json"]
    assert checkpointer.load(1) == 1


def test_checkpoint_of_other_versions_is_loaded_and_told(tmp_path, monkeypatch, log):
    Checkpointer(str(tmp_path), progress=Progress()).save(1)
    monkeypatch.setattr(torch, "__version__", "9.9")
    checkpointer = Checkpointer(str(tmp_path), progress=Progress())
    assert checkpointer.load(including_optimizer=False) == 1 and not log.text  # who only acts is not bothered
    assert checkpointer.load() == 1
    assert "was written by other versions: torch " in log.text and "-> 9.9." in log.text


def test_rotation_never_removes_what_was_just_saved(tmp_path):
    for step in (100, 200):
        save(tmp_path, step)
    save(tmp_path, 50, max_to_keep=1)
    assert names(tmp_path) == ["ckpt-200", "ckpt-50"]


def test_without_max_to_keep_all_stay(tmp_path):
    for step in range(4):
        save(tmp_path, step)
    assert len(names(tmp_path)) == 4
    with pytest.raises(ValueError, match="max_to_keep: expected None or a number >= 1, got 0"):
        Checkpointer(str(tmp_path), max_to_keep=0)


# ---------------------------------------------------------------- what does not fit


def test_other_shapes_are_told_with_both_and_how_to_go_on(tmp_path):
    Checkpointer(str(tmp_path), algorithm=Agent(1.0, width=4)).save(1)
    agent = Agent(2.0, width=5)
    with pytest.raises(CheckpointError) as error:
        Checkpointer(str(tmp_path), algorithm=agent).load()
    assert "algorithm._net.weight: (4, 3) in the checkpoint, but now (5, 3)" in str(error.value)
    assert "algorithm._net.bias: (4,) in the checkpoint, but now (5,)" in str(error.value)
    assert "ignored_parameter_prefixes" in str(error.value)
    assert agent.values() == everything(2.0)  # nothing was loaded halfway
    with pytest.raises(CheckpointError, match="but now"):
        Checkpointer(str(tmp_path), algorithm=agent).load(strict=False)


def test_missing_and_unexpected_entries_are_listed_and_accepted_unless_strict(tmp_path, log):
    Checkpointer(str(tmp_path), module=nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})).save(1)
    module = nn.ModuleDict({"a": nn.Linear(1, 1), "c": nn.Linear(1, 1)})
    checkpointer = Checkpointer(str(tmp_path), module=module)
    with pytest.raises(CheckpointError) as error:
        checkpointer.load()
    assert "module: missing in the checkpoint: c.weight, c.bias" in str(error.value)
    assert "module: unexpected in the checkpoint: b.weight, b.bias" in str(error.value)
    assert checkpointer.load(strict=False) == 1
    assert "c.weight" in log.text


def test_module_that_is_not_in_the_checkpoint_is_told(tmp_path):
    save(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match="other: not in the checkpoint, which holds algorithm, algorithm-optimizer"
    ):
        Checkpointer(str(tmp_path), other=Progress()).load()


def test_checkpoint_of_a_newer_format_is_refused_not_passed_over(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(_checkpoint_files, "FORMAT_VERSION", 2)
    save(tmp_path, 2)
    monkeypatch.setattr(_checkpoint_files, "FORMAT_VERSION", 1)
    with pytest.raises(CheckpointError, match="written in format 2 .* reads formats 1 to 1. Install that version"):
        load(tmp_path)


def test_checkpoint_of_a_format_that_is_too_old_is_refused_with_the_version_to_install(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(_checkpoint_files, "OLDEST_VERSION", 2)
    monkeypatch.setattr(_checkpoint_files, "FORMAT_VERSION", 3)
    with pytest.raises(CheckpointError, match=r"written in format 1 by alf \S+; this alf reads formats 2 to 3"):
        load(tmp_path)


def test_golden_checkpoint_of_format_1_can_be_loaded():
    # Never written again: it is what this version's users have on their disks.
    assert load(pathlib.Path(__file__).parent / "golden_checkpoints") == (7, everything(7.0))


def test_checkpoint_can_be_read_by_whoever_may_read_its_directory(tmp_path):
    outer = os.umask(0o027)
    try:
        path = save(tmp_path, 1)
    finally:
        os.umask(outer)
    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(path)}
    assert set(modes.values()) == {0o640}, modes


# ---------------------------------------------------------------- damage


def damage(path, how, rng):
    data = bytearray(path.read_bytes())
    if how == "flip":
        position = rng.randrange(len(data))
        data[position] ^= 1 << rng.randrange(8)
    elif how == "truncate":
        data = data[: rng.randrange(len(data))]
    elif how == "grow":
        data += b"\0"
    elif how == "remove":
        path.unlink()
        return
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "algorithm.json",
        "algorithm.safetensors",
        "algorithm-optimizer.json",
        "algorithm-optimizer.safetensors",
        "algorithm-replay_buffer.json",
        "algorithm-replay_buffer.safetensors",
        "progress.json",
    ],
)
@pytest.mark.parametrize("how", ["flip", "truncate", "grow", "remove"])
def test_any_damage_of_the_newest_is_told_and_the_one_before_is_used(tmp_path, log, name, how):
    save(tmp_path, 1)
    save(tmp_path, 2)
    pristine = tmp_path / "pristine"
    shutil.copytree(tmp_path / "ckpt-2", pristine)
    rng = random.Random(f"{name} {how}")
    for _ in range(4 if how in ("flip", "truncate") else 1):
        shutil.rmtree(tmp_path / "ckpt-2")
        shutil.copytree(pristine, tmp_path / "ckpt-2")
        damage(tmp_path / "ckpt-2" / name, how, rng)
        log.clear()
        assert load(tmp_path) == (1, {**everything(1.0), "replay": -1.0})
        assert "DAMAGED CHECKPOINT" in log.text and "ckpt-2" in log.text and "Going on from" in log.text
        with pytest.raises(CheckpointError, match="ckpt-2"):
            load(tmp_path, 2)


def change_manifest(path, **fields):
    """Give fields of a manifest other values, None for none, with a checksum that fits."""
    manifest = {**json.loads((path / "manifest.json").read_text()), **fields}
    del manifest["checksum"]
    manifest = {name: value for name, value in manifest.items() if value != "remove"}
    (path / "manifest.json").write_bytes(_checkpoint_files._dump_manifest(manifest))


def change_part(path, name, change):
    """Change the contents of a JSON or tensor file, with a checksum that fits."""
    file = path / name
    if name.endswith(".json"):
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
    else:
        save_file(change(load_file(file)), file)
    sealed = json.loads((path / "manifest.json").read_text())["files"]
    change_manifest(path, files={**sealed, name: _checkpoint_files._seal(str(file))})


@pytest.mark.parametrize(
    "fields",
    [
        {"version": "a"},
        {"version": None},
        {"version": True},
        {"version": "remove"},
        {"versions": None},
        {"versions": [1]},
        {"versions": "remove"},
        {"files": []},
        {"files": "remove"},
        {"files": {}},
        {"files": {"algorithm.json": 5}},
        {"files": {"../../passwd": {"bytes": 1, "sha256": "0" * 64}}},
        {"dropped": None},
        {"dropped": [1]},
        {"score": "x"},
        {"step": "9"},
        {"step": [9]},
        {"step": -9},
    ],
    ids=str,
)
def test_fields_of_a_manifest_that_mean_nothing_are_damage_whatever_the_checksum(tmp_path, log, fields):
    save(tmp_path, 7)
    save(tmp_path, 9)
    change_manifest(tmp_path / "ckpt-9", **fields)
    assert load(tmp_path)[0] == 7
    assert f"manifest.json: {next(iter(fields))}" in log.text
    assert Checkpointer(str(tmp_path)).best_score() is None


@pytest.mark.parametrize("name", ["manifest.json", "algorithm.json"])
@pytest.mark.parametrize("kind", ["pipe", "directory", "nested without end"])
def test_something_else_in_the_place_of_a_file_is_damage(tmp_path, log, name, kind):
    save(tmp_path, 7)
    save(tmp_path, 9)
    file = tmp_path / "ckpt-9" / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif name == "manifest.json":
        file.write_text("[" * 100_000 + "]" * 100_000)
    else:
        file.write_text("0")
        change_part(tmp_path / "ckpt-9", name, lambda _: nested(400))
    assert load(tmp_path)[0] == 7
    assert "DAMAGED CHECKPOINT, not used" in log.text


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_a_newer_format_without_versions_is_refused_as_newer(tmp_path):
    save(tmp_path, 9)
    change_manifest(tmp_path / "ckpt-9", version=99, versions="remove")
    with pytest.raises(CheckpointError, match="written in format 99 by alf unknown"):
        load(tmp_path)


@pytest.mark.parametrize("change", [lambda state: "x", lambda state: [1]], ids=["text", "list"])
def test_a_module_whose_state_has_no_names_is_damaged(tmp_path, log, change):
    save(tmp_path, 7)
    save(tmp_path, 9)
    change_part(tmp_path / "ckpt-9", "algorithm.json", change)
    assert load(tmp_path)[0] == 7
    assert "no part of algorithm: " in log.text
    assert load(tmp_path, including_optimizer=False, including_replay_buffer=False)[0] == 7
    assert "algorithm: expected entries by name" in log.text


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_parameters_of_another_kind_of_number_are_refused(tmp_path, dtype):
    save(tmp_path, 9)
    key = "algorithm._net.weight"
    change_part(tmp_path / "ckpt-9", "algorithm.safetensors", lambda state: {**state, key: state[key].to(dtype)})
    with pytest.raises(CheckpointError, match=f"_net.weight: {dtype} in the checkpoint, but now torch.float32"):
        load(tmp_path)


def test_a_number_in_the_place_of_a_parameter_is_refused(tmp_path):
    save(tmp_path, 9)
    change_part(tmp_path / "ckpt-9", "algorithm.json", lambda state: {**state, "_net.weight": 3.0})
    with pytest.raises(CheckpointError, match="_net.weight: no tensor but 3.0 in the checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_damage(tmp_path, log, value):
    save(tmp_path, 7)
    save(tmp_path, 9)
    key = "algorithm._net.weight"
    change_part(
        tmp_path / "ckpt-9", "algorithm.safetensors", lambda state: {**state, key: torch.full_like(state[key], value)}
    )
    assert load(tmp_path)[0] == 7
    assert "algorithm._net.weight: NaN or infinite" in log.text


class Careful(Progress):
    """Looks at what it is to load."""

    def check_state_dict(self, state):
        if state["iterations"] < 0:
            raise ValueError(f"iterations: got {state['iterations']}")


def test_nothing_is_changed_when_the_last_object_finds_its_state_wrong(tmp_path, log):
    for step in (7, 9):
        Checkpointer(str(tmp_path), algorithm=Agent(float(step)), progress=Careful(step)).save(step)
    change_part(tmp_path / "ckpt-9", "progress.json", lambda state: {**state, "iterations": -9})
    agent = Agent(-1.0)
    checkpointer = Checkpointer(str(tmp_path), algorithm=agent, progress=Careful())
    with pytest.raises(CheckpointError, match="ckpt-9: progress: iterations: got -9"):
        checkpointer.load(9)
    assert agent.values() == everything(-1.0)
    assert checkpointer.load() == 7 and "progress: iterations: got -9" in log.text


def test_every_byte_of_a_manifest_counts(tmp_path):
    checkpointer = Checkpointer(str(tmp_path), progress=Progress())
    path = checkpointer.save(3)
    manifest = os.path.join(path, "manifest.json")
    data = open(manifest, "rb").read()
    for bit in range(0, len(data) * 8, 7):  # 7 has no divisor in common with 8: every byte, every position
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with open(manifest, "wb") as file:
            file.write(flipped)
        with pytest.raises(CheckpointError):
            _checkpoint_files.read_manifest(path)


def test_all_damaged_is_an_error_and_no_start_from_scratch(tmp_path):
    save(tmp_path, 1)
    os.unlink(tmp_path / "ckpt-1" / "algorithm.json")
    with pytest.raises(CheckpointError, match="All checkpoints .* are damaged: .*algorithm.json is missing"):
        load(tmp_path)


def test_renamed_directory_is_no_checkpoint_of_that_step(tmp_path):
    save(tmp_path, 1)
    os.rename(tmp_path / "ckpt-1", tmp_path / "ckpt-5")
    with pytest.raises(CheckpointError, match="the manifest is of step 1. Was the directory renamed"):
        load(tmp_path, 5)


def test_pickles_are_neither_read_nor_written(tmp_path, log):
    torch.save({"a": 1}, tmp_path / "ckpt-9")  # the name under which others keep pickles
    assert load(tmp_path)[0] == -1
    assert "ckpt-9 is a file and no checkpoint" in log.text
    save(tmp_path, 1)
    assert load(tmp_path)[0] == 1
    with pytest.raises(CheckpointError, match="Pickled checkpoints are not read"):
        extract_sub_state_dict_from_checkpoint("alg", str(tmp_path / "ckpt-9"))
    for name in names(tmp_path / "ckpt-1"):
        assert b"\x80\x02" not in (tmp_path / "ckpt-1" / name).read_bytes()[:2]


# ---------------------------------------------------------------- full disk, kills


@pytest.mark.parametrize("operation", ["save_tensors", "write_json", "fsync", "rename", "mkdir"])
def test_disk_fault_while_saving_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch, operation):
    save(tmp_path, 1)
    agent = Agent(2.0)
    checkpointer = Checkpointer(str(tmp_path), algorithm=agent, progress=Progress(2))

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if operation == "save_tensors":
            patch.setattr(_checkpoint_files, "_save_tensors", fail)
        elif operation == "write_json":
            patch.setattr(_checkpoint_files.json, "dump", fail)
        elif operation == "fsync":
            patch.setattr(_checkpoint_files.os, "fsync", fail)
        elif operation == "mkdir":
            patch.setattr(_checkpoint_files.os, "mkdir", fail)
        else:
            patch.setattr(_checkpoint_files.os, "rename", fail)
        for step in (1, 2):
            with pytest.raises(
                CheckpointError, match=rf"step {step} could not be saved .*No space left.*Earlier checkpoints"
            ):
                checkpointer.save(step)
    assert names(tmp_path) == ["ckpt-1"]
    assert load(tmp_path) == (1, everything(1.0))


def test_a_file_system_that_cannot_sync_directories_and_has_no_modes_takes_checkpoints(tmp_path, monkeypatch, log):
    _checkpoint_files._tell_names_are_not_synced.cache_clear()
    fsync = os.fsync

    def sync_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    def has_no_modes(*args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(_checkpoint_files.os, "fsync", sync_files_only)
    monkeypatch.setattr(_checkpoint_files.os, "chmod", has_no_modes)
    for step in (1, 2):
        save(tmp_path, step)
    assert load(tmp_path) == (2, everything(2.0))
    assert log.text.count("cannot sync directories") == 1


def test_file_too_large_for_the_disk_is_an_error_of_the_checkpoint(tmp_path):
    code = f"""
import resource, torch
from torch import nn
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError
checkpointer = Checkpointer({str(tmp_path)!r}, module=nn.Linear(100, 100))
checkpointer.save(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    checkpointer.save(2)
except CheckpointError as error:
    assert 'File too large' in str(error), error
    print('refused')
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "refused\n"
    assert names(tmp_path) == ["ckpt-1"]


def test_leftovers_of_dead_processes_are_swept_and_those_of_the_living_are_not(tmp_path, log):
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".tmp-ckpt-5-{socket.gethostname()}-{dead.pid}"
    living = tmp_path / f".tmp-ckpt-6-{socket.gethostname()}-{os.getppid()}"
    old = tmp_path / ".tmp-ckpt-7-elsewhere-1"
    for path in (left, living, old):
        path.mkdir()
    os.utime(old, (1, 1))
    Checkpointer(str(tmp_path), progress=Progress())
    assert names(tmp_path) == [living.name] and "killed" in log.text


def test_checkpoint_moved_out_of_the_way_by_a_killed_process_is_put_back(tmp_path):
    save(tmp_path, 3)
    os.rename(tmp_path / "ckpt-3", tmp_path / ".old-ckpt-3")
    assert load(tmp_path) == (3, everything(3.0))


def filled_module(value):
    module = nn.ParameterDict({str(i): nn.Parameter(torch.zeros(2000)) for i in range(5)})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def save_until_killed(directory, counter, pipe):
    """Save forever, each third time over the checkpoint before; tell `pipe` of everything that is finished."""
    while True:
        counter += 1
        step = counter if counter % 3 else counter - 1
        Checkpointer(str(directory), max_to_keep=2, module=filled_module(counter)).save(step)
        os.write(pipe, counter.to_bytes(4, "little"))


@pytest.mark.timeout(120)
def test_killed_at_any_moment_of_saving_the_last_finished_checkpoint_can_be_loaded(tmp_path):
    rng = random.Random(0)
    counter = 0
    for _ in range(60):
        reading, writing = os.pipe()
        saver = os.fork()
        if saver == 0:
            try:
                save_until_killed(tmp_path, counter, writing)
            finally:
                os._exit(1)
        os.close(writing)
        if counter == 0:
            os.read(reading, 4)
            counter = 1
        time.sleep(rng.random() * 0.03)
        os.kill(saver, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(saver, 0)[1]) == -signal.SIGKILL
        told = b""
        while chunk := os.read(reading, 4096):
            told += chunk
        os.close(reading)
        counter = int.from_bytes(told[-4:], "little") if told else counter
        module = filled_module(0.0)
        assert Checkpointer(str(tmp_path), module=module).load() >= counter - 1
        values = {float(value) for p in module.parameters() for value in (p.detach().min(), p.detach().max())}
        assert len(values) == 1, "a checkpoint mixes two saves"
        counter, before = int(values.pop()), counter
        assert counter in (before, before + 1)
        assert all(name.startswith("ckpt-") for name in names(tmp_path))


# ---------------------------------------------------------------- parts of other checkpoints


def test_part_of_a_checkpoint_is_extracted_by_prefix(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    for prefix in ("alg._net", "algorithm._net"):
        for where in (path, str(tmp_path)):
            state = extract_sub_state_dict_from_checkpoint(prefix, where)
            assert set(state) == {"weight", "bias"} and float(state["weight"][0, 0]) == 2.0
    whole = extract_sub_state_dict_from_checkpoint("alg", path)
    assert "_net.weight" in whole and not any(
        "_optimizers" in key or "_replay_buffer" in key for key in whole
    )


def test_unknown_prefix_is_told_with_the_nearest(tmp_path):
    path = save(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"begins with '_nett'. Nearest: \['_net'"):
        extract_sub_state_dict_from_checkpoint("alg._nett", path)
    with pytest.raises(CheckpointError, match="holds nothing named 'agent'"):
        extract_sub_state_dict_from_checkpoint("agent._net", path)
    with pytest.raises(CheckpointError, match="manifest.json is missing"):
        extract_sub_state_dict_from_checkpoint("alg", str(tmp_path / "empty"))
