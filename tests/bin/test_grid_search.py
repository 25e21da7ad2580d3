"""python -m alf.bin.grid_search: what a sweep leaves, how it is taken up again, and mistakes in their words."""

import csv
import json
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from command_line import ROOT, checkpoints, records

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"
SPACE = {"TrainerConfig.unroll_length": [8, 16],
         "Agent.optimizer": ["alf.optimizers.Adam(lr=1e-2)", "alf.optimizers.SGD(lr=0.1)"]}


def _arguments(tmp_path, **said) -> list:
    search = tmp_path / "search.json"
    search.write_text(json.dumps({"parameters": SPACE, **said}))
    return ["grid_search", "--conf", CONF, "--root_dir", tmp_path / "out", "--search_config", search]


def test_every_combination_is_trained_and_told(commands, tmp_path):
    arguments = [*_arguments(tmp_path, max_worker_num=2), "--num_threads=2", "--conf_param", "PPOLoss.gamma=0.9"]
    done = commands.run(*arguments)
    assert done.code == 0, done.stderr + done.stdout
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == [
        "0000r0+ul=8+opt=Adam_lr_1e-2", "0001r0+ul=8+opt=SGD_lr_0.1", "0002r0+ul=16+opt=Adam_lr_1e-2",
        "0003r0+ul=16+opt=SGD_lr_0.1"]
    record = json.loads((folders[3] / "trial.json").read_text())
    assert record["parameters"] == {name: str(values[1]) for name, values in SPACE.items()}
    lines = [line for line in records(folders[3]) if "Metrics/AverageReturn" in line]
    returns = [line["Metrics/AverageReturn"] for line in lines]
    assert record["result"] == {
        "env_steps": records(folders[3])[-1]["Metrics/EnvironmentSteps"], "final_return": returns[-1],
        "best_return": max(returns), "best_eval_return": None}
    run = json.loads((folders[3] / "run.json").read_text())
    assert run["seed"] == record["seed"] == 0
    assert run["command_line"].startswith("python -m alf.bin.train --root_dir ")
    assert " --num_threads=2 " in run["command_line"] and "PPOLoss.gamma=0.9" in run["command_line"]
    assert "TrainerConfig.unroll_length = 16\n" in (folders[3] / "operative_configs.txt").read_text()
    with open(tmp_path / "out" / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["TrainerConfig.unroll_length"], row["state"]) for row in rows] == [
        ("8", "finished"), ("8", "finished"), ("16", "finished"), ("16", "finished")]
    assert re.search(r"trial +unroll_length +optimizer +state +env steps +final return +best return +time",
                     done.stdout)

    again = commands.run(*arguments)
    assert again.code == 0 and "trials: 4, finished before: 4," in again.stdout
    assert "begins" not in again.stdout and "finished" in again.stdout
    other = commands.run(*arguments[:-2], "--conf_param", "PPOLoss.gamma=0.8")
    assert other.code == 2 and "begun with other settings (then -> now):\n  conf_params: [\"PPO" in other.stderr


def test_repeats_have_seeds_and_a_mean(commands, tmp_path):
    done = commands.run(*_arguments(tmp_path, repeats=2, parameters={"TrainerConfig.unroll_length": [8]}))
    assert done.code == 0, done.stderr + done.stdout
    assert [json.loads((tmp_path / "out" / f"0000r{i}" / "run.json").read_text())["seed"] for i in range(2)] == [0, 1]
    final = [records(tmp_path / "out" / f"0000r{i}")[-1]["Metrics/AverageReturn"] for i in range(2)]
    assert final[0] != final[1]
    mean, spread = sum(final) / 2, abs(final[0] - final[1]) / 2**0.5  # of two numbers
    row = done.stdout[done.stdout.index("combination"):].splitlines()[1].split()
    assert row[:2] == ["0000", "2/2"] and row[3] == "±"
    assert float(row[2]) == pytest.approx(mean, rel=1e-3) and float(row[4]) == pytest.approx(spread, rel=1e-3)


def test_sweep_that_was_left_goes_on_where_its_trials_were(commands, tmp_path):
    arguments = [*_arguments(tmp_path, parameters={"TrainerConfig.num_iterations": [600, 4]}), "--conf_param",
                 "TrainerConfig.num_checkpoints=30"]
    sweep = commands.start(*arguments)
    folder = tmp_path / "out" / "0000r0+ni=600"
    sweep.wait_for_checkpoint(folder)
    second = commands.run(*arguments)
    assert second.code == 2 and "is at work there already" in second.stderr
    sweep.send_signal(signal.SIGINT)
    assert sweep.wait() == 130, sweep.stderr
    assert json.loads((folder / "trial.json").read_text())["state"] == "left"
    assert not (tmp_path / "out" / "0001r0+ni=4").exists()
    last = checkpoints(folder)[-1]
    again = commands.run(*arguments)
    assert again.code == 0, again.stdout + again.stderr
    assert f"resumed from iteration {last} of " in (folder / "console.log").read_text()
    assert json.loads((folder / "trial.json").read_text())["starts"] == 2
    assert checkpoints(folder)[-1] == 600 and checkpoints(tmp_path / "out" / "0001r0+ni=4")[-1] == 4


@pytest.mark.parametrize("said, more, words", [
    ({"repeat": 2}, [], "search.json: unknown key 'repeat'. Did you mean repeats"),
    ({"parameters": {"A.x": ["CartPole-v1"]}}, [], "Strings need quotes of their own: \"'CartPole-v1'\"."),
    ({}, ["--search_config", "serch.json"], "--search_config serch.json: no such file."),
    ({}, ["--search_config", ""], "expected the JSON file of the values to combine"),
    ({}, ["--conf", ""], "expected the conf to train with each combination"),
    ({}, ["--conf", "ppo_cart_pol"], "no such file. Did you mean ppo_cart_pole_conf.py"),
    ({}, ["--conf_param", "Agent.optimizer=None"], "--conf_param Agent.optimizer: the search has values for it"),
    ({}, ["--dry_run"], "--dry_run=True: expected nothing: it is for a training by itself"),
    ({}, ["--profile"], "--profile=0: expected nothing: it is for a training by itself"),
    ({}, ["--stall_seconds=-1"], "--stall_seconds=-1: -1.0 is not a non-negative number"),
])
def test_mistake_is_told_before_anything_is_made(commands, tmp_path, said, more, words):
    done = commands.run(*_arguments(tmp_path, **said), *more)
    assert done.code == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_another_sweep_or_a_run_is_not_mixed_up(commands, tmp_path):
    arguments = _arguments(tmp_path, parameters={"A.y": [1], "A.x": [1]})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    done = commands.run(*arguments)
    assert done.code == 2 and "expected an empty directory or a sweep, got the run of a training" in done.stderr
    (tmp_path / "out" / "run.json").unlink()
    begun = {"conf": CONF.name, "conf_params": [], "repeats": 2, "conf_text": "",
             "parameters": {"A.x": ["1"], "A.z": ["2"]}}
    (tmp_path / "out" / "search.json").write_text(json.dumps(begun))
    done = commands.run(*arguments)
    assert done.code == 2 and "repeats: 2 -> 1\n  parameters.A.z: [\"2\"] -> nothing\n  parameters.A.y: nothing" in (
        done.stderr), done.stderr
    begun.update(repeats=1, parameters={"A.x": ["1"], "A.y": ["1"]})
    (tmp_path / "out" / "search.json").write_text(json.dumps(begun))
    done = commands.run(*arguments)
    assert done.code == 2 and "order of parameters: A.x, A.y -> A.y, A.x" in done.stderr, done.stderr
    (tmp_path / "out" / "search.json").write_text("{")
    done = commands.run(*arguments)
    assert done.code == 2 and "search.json: damaged. Delete it to take up the sweep" in done.stderr, done.stderr


def test_literals_import_nothing_heavy(tmp_path):
    arguments = [str(word) for word in _arguments(tmp_path, parameters={"TrainerConfig.unroll_length": [8]})[1:]]
    program = (f"import runpy, sys; sys.argv = ['x', *{arguments!r}, '--trial_timeout_seconds=0.1']\n"
               "try: runpy.run_module('alf.bin.grid_search', run_name='__main__')\n"
               "except SystemExit as error: assert error.code == 1, error.code\n"
               "assert not {'torch', 'numpy', 'gymnasium'} & sys.modules.keys()")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "timed out" in done.stdout  # so it has come to the end
