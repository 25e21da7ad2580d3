"""python -m alf.bin.train: what a run leaves, and how it is taken up again."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from command_line import ROOT, checkpoints, records

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"


def test_run_directory_holds_what_is_needed_to_run_again(commands, tmp_path):
    first = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "a", "--nostore_snapshot", "--conf_param",
                         "ActorDistributionNetwork.activation=torch.tanh", "--conf_param",
                         "TrainerConfig.num_iterations=2")
    assert first.code == 0, first.stderr
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["seed"] == 1
    assert "--conf_param TrainerConfig.num_iterations=2" in run["command_line"]
    assert {"python", "torch", "numpy", "gymnasium"} <= run["versions"].keys()
    assert len(run["git_revisions"]["alf"]) == 40
    assert "TrainerConfig.num_iterations = 2" in (tmp_path / "a" / "operative_configs.txt").read_text()
    assert (tmp_path / "a" / "inoperative_configs.txt").exists()
    assert "num_iterations was set to 2 for good" in (tmp_path / "a" / "train.log").read_text()

    again = commands.run("train", "--conf", tmp_path / "a" / "alf_config.py", "--root_dir", tmp_path / "b")
    assert again.code == 0, again.stderr
    assert checkpoints(tmp_path / "b") == [1, 2]
    assert [line["loss"] for line in records(tmp_path / "a")] == [line["loss"] for line in records(tmp_path / "b")]


def test_the_same_command_says_that_training_is_finished(commands, tmp_path):
    assert commands.run("train", "--conf", CONF, "--root_dir", tmp_path).code == 0
    before = records(tmp_path)
    again = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert again.code == 0
    assert "training is finished, after 6 iterations" in again.stderr
    assert records(tmp_path) == before


def test_a_run_goes_on_without_conf_and_with_exact_counters(commands, tmp_path):
    assert commands.run("train", "--conf", CONF, "--root_dir", tmp_path).code == 0
    steps = records(tmp_path)[-1]["Metrics/EnvironmentSteps"]
    more = commands.run("train", "--root_dir", tmp_path, "--conf_param", "TrainerConfig.num_iterations=9")
    assert more.code == 0, more.stderr
    assert f"resumed from iteration 6 of {tmp_path}: " in more.stderr
    lines = records(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 10))  # none twice
    assert lines[6]["Metrics/EnvironmentSteps"] > steps
    num_episodes = [line["Metrics/NumberOfEpisodes"] for line in lines]
    assert num_episodes == sorted(num_episodes)
    # The copy has learnt the new value.
    assert "'TrainerConfig.num_iterations': 9" in (tmp_path / "alf_config.py").read_text()
    assert "resumed from iteration 9" in commands.run("train", "--root_dir", tmp_path).stderr


def test_a_drawn_seed_is_kept_when_a_run_goes_on(commands, tmp_path):
    drawn = ["--root_dir", tmp_path, "--conf_param", "TrainerConfig.random_seed=None"]
    assert commands.run("train", "--conf", CONF, *drawn).code == 0
    seed = json.loads((tmp_path / "run.json").read_text())["seed"]
    assert commands.run("train", *drawn, "--conf_param", "TrainerConfig.num_iterations=7").code == 0
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == seed


def test_number_of_checkpoints_and_summaries(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                        "TrainerConfig.num_summaries=3", "--conf_param", "TrainerConfig.summarize_first_interval=False")
    assert done.code == 0, done.stderr
    assert checkpoints(tmp_path) == [2, 4, 6]
    assert [line["step"] for line in records(tmp_path) if "Metrics/EnvironmentSteps" in line] == [2, 4, 6]


def test_strange_directory_names_are_fine(commands, tmp_path):
    root_dir = tmp_path / "a run, größer [1] 100%"
    done = commands.run("train", "--conf", CONF, "--root_dir", root_dir, "--conf_param",
                        "TrainerConfig.num_iterations=2")
    assert done.code == 0, done.stderr
    assert checkpoints(root_dir) == [1, 2]
    again = commands.run("train", "--root_dir", root_dir)
    assert "training is finished" in again.stderr and again.code == 0


def test_plain_lines_where_there_is_no_terminal(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert done.stdout.count("\n") == 2, done.stdout
    last = done.stdout.splitlines()[-1]
    for word in ("iteration 6", "return ", "length ", "env steps ", "steps/s ", "done 100.0%", "ETA 0:00"):
        assert word in last
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr.count("fast_parallel") <= 1


def test_conf_warnings_are_shown_once(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                        "TrainerConfig.num_iterations=1")
    assert done.stderr.count("6 set here is ignored") == 1, done.stderr


def test_help_is_quick_because_it_imports_nothing_heavy():
    program = ("import runpy, sys; sys.argv = ['x', '--help']\n"
               "try: runpy.run_module('alf.bin.{}', run_name='__main__')\n"
               "except SystemExit: pass\n"
               "assert not {{'torch', 'numpy', 'gymnasium'}} & sys.modules.keys()")
    for command, flag in (("train", "--conf_param"), ("play", "--record_file"), ("evaluate", "--num_episodes")):
        done = subprocess.run([sys.executable, "-c", program.format(command)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert flag in done.stdout and "--root_dir" in done.stdout and "--conf:" in done.stdout


@pytest.mark.parametrize("command, flag, told", [
    ("train", "--store_snapshot", "not offered: no copy of the code is kept; its revision"),
    ("play", "--alg_render", "not offered: what algorithms draw is not shown"),
    ("play", "--use_alf_snapshot", "not offered: runs keep no copy of the code; check out the revision"),
    ("play", "--parallel_play=2", "not offered: expected 1, .* python -m alf.bin.evaluate --num_environments"),
])
def test_published_flags_for_what_is_not_offered_say_what_to_do(commands, tmp_path, command, flag, told):
    done = commands.run(command, "--root_dir", tmp_path, flag)
    assert done.code == 2 and re.search(told, done.stderr)


def test_a_run_tells_its_memory_in_megabytes(commands, tmp_path):
    import psutil
    assert commands.run("train", "--conf", CONF, "--root_dir", tmp_path).code == 0
    for line in records(tmp_path):
        assert 50 < line["memory/cpu"] < psutil.virtual_memory().total / 1e6


def test_tensorboard_has_the_settings(commands, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    (tmp_path / "snippet.py").write_text("x = 1\n")
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                        f"TrainerConfig.code_snapshots=[{str(tmp_path / 'snippet.py')!r}, 'algorithms/ppo_loss.py', "
                        "'tiny_conf.py']", "--conf_param",
                        "TrainerConfig.profiling=True")
    assert done.code == 0, done.stderr
    events = EventAccumulator(str(tmp_path / "run" / "train"))
    events.Reload()
    texts = {tag.removesuffix("/text_summary"): events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
             for tag in events.Tags()["tensors"]}
    assert {"config/operative_config", "config/inoperative_config", "commandline", "optimizers", "seed",
            "unoptimized_parameters", "alf/revision", "alf/diff"} <= texts.keys()
    assert "TrainerConfig.num_iterations` | `6`" in texts["config/operative_config"]
    assert "--root_dir" in texts["commandline"] and texts["seed"] == "1"
    assert "Adam" in texts["optimizers"] and "_value_network" in texts["optimizers"]
    assert texts[f"code/{tmp_path / 'snippet.py'}"] == "    x = 1\n    "
    assert "class PPOLoss" in texts["code/algorithms/ppo_loss.py"]
    assert texts["code/tiny_conf.py"].strip().startswith(CONF.read_text().splitlines()[0])
    assert "num_updates_per_train_iter" in texts["config/operative_config"]
    assert (tmp_path / "run" / "train" / "train.prof").stat().st_size > 1000


@pytest.mark.parametrize("command", ["train", "check"])
def test_code_that_there_is_not_is_told_before_training(commands, tmp_path, command):
    words = ["--root_dir", tmp_path / "run"] if command == "train" else []
    for name, told in (("ppo_los.py", f"got 'ppo_los.py', which is in none of {ROOT / 'alf'}, {CONF.parent}, "),
                       ("binary", "binary cannot be read as a text: ")):
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        done = commands.run(command, "--conf", CONF, *words, "--conf_param",
                            f"TrainerConfig.code_snapshots=[{name!r}]", cwd=tmp_path)
        assert done.code == 2 and "error: TrainerConfig.code_snapshots: " in done.stderr and told in done.stderr
    assert not (tmp_path / "run" / "train" / "algorithm").exists()


def test_each_state_is_shown_once_the_last_too(commands, tmp_path):
    conf = tmp_path / "talkative_conf.py"
    conf.write_text(f"""
import alf
from alf.trainers import _progress_view
_progress_view._PLAIN_INTERVAL_SECONDS = 0.0
alf.import_config({str(CONF)!r})
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert done.code == 0, done.stderr
    shown = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("iteration ")]
    assert shown == ["1", "2", "3", "4", "5", "6"]
    assert "done 100.0%" in done.stdout.splitlines()[-1]


def test_deterministic_training_does_not_fill_memory_that_is_written_anyway(commands, tmp_path):
    conf = tmp_path / "asking_conf.py"
    conf.write_text(f"""
import alf
import torch
print(torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory)
alf.import_config({str(CONF)!r})
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert done.code == 0, done.stderr
    assert done.stdout.splitlines()[0] == "True False"
