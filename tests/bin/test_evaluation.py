"""Evaluation while training, and the commands evaluate and play."""

import json
import os
import pathlib
import re
import signal

import pytest
from command_line import records

CONF = pathlib.Path(__file__).parent / "normalizing_conf.py"


@pytest.fixture(scope="module")
def run(commands, tmp_path_factory):
    """Return a finished run that evaluated in this process."""
    root_dir = tmp_path_factory.mktemp("run")
    done = commands.run("train", "--conf", CONF, "--root_dir", root_dir, "--conf_param",
                        "TrainerConfig.async_eval=False")
    assert done.code == 0, done.stderr
    assert "evaluation at step 6: return " in done.stderr
    return root_dir


def _results(root_dir) -> list:
    return [(line["step"], line["Metrics/AverageReturn"], line["Metrics/AverageEpisodeLength"])
            for line in records(root_dir, "eval")]


def test_another_process_finds_the_same_and_does_not_outlive_the_run(commands, run, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    assert "evaluation at step 6: return " in done.stderr
    done.assert_nobody_left()
    # Equal only if the parameters, the state of the normalizer and the seed of the environments are those of training.
    assert [result[0] for result in _results(run)] == [2, 4, 6]
    assert _results(tmp_path) == _results(run)


def test_training_does_not_notice_the_random_numbers_of_evaluation(commands, tmp_path):
    losses = []
    for evaluate in (True, False):
        root_dir = tmp_path / str(evaluate)
        done = commands.run("train", "--conf", CONF, "--root_dir", root_dir, "--conf_param",
                            "TrainerConfig.async_eval=False", "--conf_param", "TrainerConfig.epsilon_greedy=0.5",
                            "--conf_param", f"TrainerConfig.evaluate={evaluate}")
        assert done.code == 0, done.stderr
        losses.append([line["loss"] for line in records(root_dir)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("async_eval", [True, False])
def test_evaluations_at_one_step_of_the_summaries_are_told_apart(commands, tmp_path, async_eval):
    # While initial steps are collected there are no mini batches to count.
    done = commands.run(
        "train", "--conf", CONF.parent / "off_policy_conf.py", "--root_dir", tmp_path, *[
            word for param in ("_CONFIG._USER.method='dqn'", "TrainerConfig.update_counter_every_mini_batch=True",
                               "TrainerConfig.initial_collect_steps=20", "TrainerConfig.evaluate=True",
                               f"TrainerConfig.async_eval={async_eval}", "TrainerConfig.eval_interval=1",
                               "TrainerConfig.num_eval_episodes=1") for word in ("--conf_param", param)])
    assert done.code == 0, done.stderr
    assert done.stderr.count("evaluation at step 0: return ") >= 2 and (tmp_path / "train" / "algorithm").exists()


@pytest.mark.parametrize("async_eval", [True, False])
def test_what_is_evaluated_reads_the_progress_of_training(commands, tmp_path, async_eval):
    conf = tmp_path / "progress_conf.py"
    conf.write_text(f"""
import gymnasium
import numpy as np
import alf
from alf.environments import suite_gym

alf.import_config({str(CONF.parent / "tiny_conf.py")!r})

class Telling(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {{}}

    def step(self, action):
        return np.zeros(1, np.float32), alf.progress.get_progress("iterations"), True, False, {{}}

alf.config("create_environment", env_load_fn=lambda name, env_id=None: suite_gym.wrap_env(Telling(), env_id=env_id),
           num_workers=0)
alf.config("TrainerConfig", num_iterations=6, evaluate=True, eval_interval=2, num_eval_episodes=2)
""")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run", "--conf_param",
                        f"TrainerConfig.async_eval={async_eval}")
    assert done.code == 0, done.stderr
    assert [returned for _, returned, _ in _results(tmp_path / "run")] == [2, 4, 6]


def test_results_are_drawn_against_environment_steps_too(run):
    last = records(run)[-1]
    tags = records(run, "eval")[-1].keys()
    assert {"Metrics/AverageReturn", "Metrics/AverageEpisodeLength", "Metrics/AverageDiscountedReturn"} <= tags
    assert last["step"] == records(run, "eval")[-1]["step"]


def test_failure_of_the_evaluation_process_is_told_with_its_traceback(commands, tmp_path):
    conf = tmp_path / "failing_conf.py"
    conf.write_text(CONF.read_text() + "\nimport multiprocessing\n"
                    "assert multiprocessing.parent_process() is None, 'only in training'\n")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert done.code == 1
    assert "The evaluation process failed:" in done.stderr
    assert 'failing_conf.py", line' in done.stderr and "AssertionError: only in training" in done.stderr
    done.assert_nobody_left()


def test_death_of_the_evaluation_process_is_told(commands, tmp_path):
    conf = tmp_path / "dying_conf.py"
    conf.write_text(CONF.read_text() + "\nimport multiprocessing, os, signal\n"
                    "if multiprocessing.parent_process(): os.kill(os.getpid(), signal.SIGKILL)\n")
    done = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert done.code == 1
    assert "The evaluation process died with exit code -9" in done.stderr


def test_evaluate_writes_every_episode(commands, run):
    done = commands.run("evaluate", "--root_dir", run, "--num_episodes", 7, "--num_environments", 3)
    assert done.code == 0, done.stderr
    report = json.loads((run / "evaluation-6.json").read_text())
    returns = [episode["return"] for episode in report["episodes"]]
    assert len(returns) == report["num_episodes"] == 7
    assert report["mean_return"] == pytest.approx(sum(returns) / 7)
    assert report["std_return"] == pytest.approx((sum((r - sum(returns) / 7)**2 for r in returns) / 7)**0.5)
    assert sorted([e["environment"] for e in report["episodes"]].count(i) for i in range(3)) == [2, 2, 3]
    assert f"mean return {report['mean_return']}, standard deviation {report['std_return']}" in done.stdout
    # That there is no compiler on a machine is told; nothing else is to be warned of.
    assert not [line for line in done.stderr.splitlines() if " W " in line and "native extension" not in line]
    again = commands.run("evaluate", "--root_dir", run, "--num_episodes", 7, "--num_environments", 3, "--output_file",
                         run / "again.json")
    assert again.code == 0
    assert json.loads((run / "again.json").read_text())["episodes"] == report["episodes"]


def test_missing_checkpoint_is_named_with_those_that_exist(commands, run, tmp_path):
    done = commands.run("play", "--root_dir", run, "--norender", "--checkpoint_step", 3)
    assert done.code == 2
    assert f"{run}: there is no checkpoint 3, but [6]." in done.stderr
    assert commands.run("evaluate", "--root_dir", tmp_path).code == 2


def test_missing_best_checkpoint_is_told_with_what_makes_one(commands, tmp_path):
    trained = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                           "TrainerConfig.evaluate=False")
    assert trained.code == 0, trained.stderr
    done = commands.run("play", "--root_dir", tmp_path, "--norender", "--checkpoint_step", "best")
    assert done.code == 2
    assert "there is no best checkpoint" in done.stderr and "TrainerConfig.evaluate=True" in done.stderr


def test_play_without_a_screen(commands, run):
    done = commands.run("play", "--root_dir", run, "--norender", "--num_episodes", 2, "--random_seed", 5,
                        "--parallel_play=1", "--noalg_render", "--nouse_alf_snapshot", "--noforce_torch_deterministic")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "checkpoint 6" and lines[1].startswith("episode 0: return ") and len(lines) == 4
    assert done.stderr == ""
    shown = commands.run("play", "--root_dir", run, "--num_episodes", 1, DISPLAY="", WAYLAND_DISPLAY="")
    assert shown.code == 2
    assert "there is no screen" in shown.stderr and "--norender" in shown.stderr


def _frames(path) -> list:
    import av
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_play_records_a_video(commands, run, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("pygame")
    arguments = ["play", "--root_dir", run, "--random_seed", 5, "--num_episodes", 3, "--last_step_repeats", 4,
                 "--append_blank_frames", 2]
    done = commands.run(*arguments, "--record_file", tmp_path / "all.mp4")
    assert done.code == 0, done.stderr
    lengths = [int(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("episode ")]
    frames = _frames(tmp_path / "all.mp4")
    assert len(frames) == sum(length + 1 + 4 + 2 for length in lengths)
    first_end = lengths[0] + 1 + 4
    assert frames[0].mean() > 200  # a white sky
    assert frames[first_end].max() < 30 and frames[first_end + 1].max() < 30 and frames[first_end + 2].mean() > 200
    assert "XDG_RUNTIME_DIR" not in done.stderr and "pygame" not in done.stdout
    told = re.findall(r"recording .*all.mp4: episode (\d) of 3 has ended", done.stderr)
    assert told == ["1", "2", "3"]

    selected = commands.run(*arguments, "--record_file", tmp_path / "some.mp4", "--selective_mode")
    assert selected.code == 0, selected.stderr
    assert len(_frames(tmp_path / "some.mp4")) == sum(n + 7 for n in (min(lengths), max(lengths)))


def test_record_file_of_an_unknown_kind_is_told(commands, run):
    done = commands.run("play", "--root_dir", run, "--record_file", "video.txt")
    assert done.code == 2
    assert ".mp4" in done.stderr and "Traceback" not in done.stderr


def test_evaluator_ignores_what_the_terminal_sends_to_all(commands, tmp_path):
    command = commands.start("train", "--conf", CONF, "--root_dir", tmp_path, "--conf_param",
                             "TrainerConfig.num_iterations=100000", "--conf_param", "TrainerConfig.num_evals=10000")
    command.wait_for(lambda: "evaluation at step" in command.stderr)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(20) == 130
    assert "Traceback" not in command.stderr + (tmp_path / "eval" / "eval.log").read_text()
    command.assert_nobody_left()
