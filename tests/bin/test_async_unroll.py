"""Unrolling in a process of its own: it learns, its parameters follow, and it ends with the trainer."""

import os
import pathlib
import signal

import psutil
import pytest
from command_line import records, session_processes
from safetensors.torch import load_file

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"
ASYNC = ("--conf_param", "TrainerConfig.async_unroll=True")


def _unroller(command):
    """Return the process that unrolls."""
    names = {"alf-unroller"}
    found = [p for p in session_processes(command.pid) if p.pid != command.pid and _loads_torch(p)]
    assert len(found) == 1, (names, found)
    return found[0]


def _loads_torch(process) -> bool:
    return any("libtorch" in entry.path for entry in process.memory_maps())


@pytest.mark.parametrize("unroll_length, extra", [
    (8, ()),
    (0, ("--conf_param", "TrainerConfig.max_unroll_length=8", "--conf_param", "TrainerConfig.num_iterations=300")),
])
def test_training_counts_each_step_that_the_other_process_made(commands, tmp_path, unroll_length, extra):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, *ASYNC, "--conf_param",
                        f"TrainerConfig.unroll_length={unroll_length}", "--conf_param",
                        "TrainerConfig.mini_batch_length=1", "--conf_param",
                        "TrainerConfig.unroll_parameter_update_period=1", *extra)
    assert done.code == 0, done.stderr
    done.assert_nobody_left()
    rows = records(tmp_path)
    steps = [row["Metrics/EnvironmentSteps"] for row in rows if "Metrics/EnvironmentSteps" in row]
    assert steps == sorted(steps) and steps[-1] > 0
    if unroll_length:
        # 6 iterations of 8 steps of 2 environments; the first steps of episodes are not made by an action.
        assert 80 <= steps[-1] <= 94
    lags = [row["async_unroll/parameter_lag_iterations"] for row in rows
            if "async_unroll/parameter_lag_iterations" in row]
    assert lags and all(lag >= 0 for lag in lags)


def test_statistics_that_follow_the_rollout_are_in_the_checkpoint(commands, tmp_path):
    conf = tmp_path / "rollout_conf.py"
    conf.write_text(f"""
from functools import partial
import alf
from alf.algorithms.data_transformer import ObservationNormalizer
alf.import_config({str(CONF)!r})
alf.config("TrainerConfig", data_transformer_ctor=partial(ObservationNormalizer, update_mode="rollout"))
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", *ASYNC)
    assert done.code == 0, done.stderr
    tensors = {}
    for path in (tmp_path / "run" / "train" / "algorithm" / "ckpt-6").glob("*.safetensors"):
        tensors.update(load_file(path))
    counts = [int(value) for name, value in tensors.items() if name.endswith("_normalizer._num_updates")]
    assert counts == [48]  # 6 iterations of 8 steps


def test_the_process_acts_for_halves_if_asked_to(commands, tmp_path):
    conf = tmp_path / "halves_conf.py"
    conf.write_text(f"""
import alf
from alf.algorithms.dqn_algorithm import DqnAlgorithm
alf.import_config({str(CONF.with_name("off_policy_conf.py"))!r})
step = DqnAlgorithm.rollout_step
def step_half(self, inputs, state):
    assert inputs.step_type.shape == (1, ), inputs.step_type.shape
    return step(self, inputs, state)
DqnAlgorithm.rollout_step = step_half
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", *ASYNC, "--conf_param",
                        "_CONFIG._USER.method='dqn'", "--conf_param", "TrainerConfig.unroll_halves=True",
                        "--conf_param", "DqnAlgorithm.rollout_epsilon_alpha=7.0")
    assert done.code == 0, done.stderr


def test_failure_of_the_process_is_told_with_its_traceback(commands, tmp_path):
    conf = tmp_path / "failing_conf.py"
    conf.write_text(f'''
import multiprocessing
import alf
alf.import_config({str(CONF)!r})
if multiprocessing.parent_process() is not None:
    raise RuntimeError("only here")
''')
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", *ASYNC)
    assert done.code == 1
    assert "The process that unrolls failed" in done.stderr and "only here" in done.stderr
    done.assert_nobody_left()


def test_death_of_the_process_ends_training_within_seconds(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ASYNC, "--conf_param",
                             "TrainerConfig.num_iterations=1000000", "--conf_param",
                             "TrainerConfig.num_checkpoints=100000")
    command.wait_for_checkpoint(tmp_path, 20)
    os.kill(_unroller(command).pid, signal.SIGKILL)
    assert command.wait(timeout=15) == 1
    assert "The process that unrolls failed" in command.stderr and "exit code -9" in command.stderr
    command.assert_nobody_left()


def test_the_process_dies_with_its_trainer(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ASYNC, "--conf_param",
                             "TrainerConfig.num_iterations=1000000", "--conf_param",
                             "TrainerConfig.num_checkpoints=100000")
    command.wait_for_checkpoint(tmp_path, 20)
    process = _unroller(command)
    command.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], timeout=5)
    command.wait()
    command.assert_nobody_left()


def test_nothing_is_left_where_the_whole_group_is_killed(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, *ASYNC, "--conf_param",
                             "TrainerConfig.num_iterations=1000000")
    command.wait_for(lambda: (tmp_path / "train" / "metrics.jsonl").exists() and records(tmp_path))
    mapped = {entry.path for process in session_processes(command.pid) for entry in process.memory_maps()}
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    command.assert_nobody_left()
    assert any(path.startswith("/dev/shm/") for path in mapped)
    assert [path for path in mapped if path.startswith("/dev/shm/") and os.path.exists(path)] == []
