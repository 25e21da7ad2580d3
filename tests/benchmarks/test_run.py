"""What the runner of benchmarks computes, writes and tells; nothing here measures speed."""

import argparse
import json
import os
import subprocess
import sys
import time

import pytest

import alf
from benchmarks import _jobs, _marks, _report, run, train
from benchmarks._marks import Mark
from benchmarks.peers import _job as peer_job

SPEED = _jobs.Job(name="speed", task="task", title="Speed", conf="-")
RETURN = _jobs.Job(name="return", task="other", title="Return", conf="-", threshold=-200.0, window_episodes=2)


class Script(_jobs.Candidate):
    """Runs Python code that writes a metrics.jsonl into its folder."""

    def __init__(self, code="", stops=True, name="script", tasks=None):
        super().__init__(name, tasks, {})
        self._code, self._stops = code, stops

    def command(self, job, seed, folder):
        return [sys.executable, "-c", self._code]

    def marks(self, job, folder):
        return _marks.read_metrics(folder / "metrics.jsonl", 1, job.window_episodes)

    def stops_itself(self, job):
        return self._stops


def measure(candidate, job, timeout=30.0):
    return train.measure(job, candidate, seed=1, cpus=[min(os.sched_getaffinity(0))], timeout=timeout)


def line(step, time, env_steps, **others):
    return json.dumps({"step": step, "time": time, "Metrics/EnvironmentSteps": env_steps, **others}) + "\n"


def row(job, number, candidate, **values):
    return {"job": job.name, "round": number, "candidate": candidate, **values}


# ---- order of runs -----------------------------------------------------------------------------------------------


def test_candidates_take_turns_within_a_job():
    candidates = [Script(name=name) for name in "abc"]
    order = [(job.name, number, candidate.name)
             for job, number, candidate in train.schedule([SPEED, RETURN], candidates, rounds=2, threshold_rounds=1)]
    assert order == [("speed", 0, "a"), ("speed", 0, "b"), ("speed", 0, "c"), ("speed", 1, "a"), ("speed", 1, "b"),
                     ("speed", 1, "c"), ("return", 0, "a"), ("return", 0, "b"), ("return", 0, "c")]


def test_candidate_that_cannot_do_a_job_is_passed_over():
    candidates = [Script(name="a"), Script(name="b", tasks=("other", ))]
    order = [(job.name, candidate.name) for job, _, candidate in train.schedule([SPEED, RETURN], candidates, 1, 1)]
    assert order == [("speed", "a"), ("return", "a"), ("return", "b")]


# ---- marks -------------------------------------------------------------------------------------------------------


def test_metrics_become_marks(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        line(4, 10.0, 400, **{"Metrics/AverageReturn": -900.5, "Metrics/NumberOfEpisodes": 1})
        + line(8, 12.5, 800, **{"Metrics/AverageReturn": -150.0, "Metrics/NumberOfEpisodes": 2}))
    assert _marks.read_metrics(path, updates_per_iteration=3, window_episodes=2) == [
        Mark(10.0, 400, 12, None), Mark(12.5, 800, 24, -150.0)]


def test_lines_of_one_step_are_one_mark_at_the_time_of_the_first(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 4, "time": 10.0, "time/unroll": 1}\n' + line(4, 11.0, 400) + '{"step": 5, "time": 12}\n')
    assert _marks.read_metrics(path, 1) == [Mark(10.0, 400, 4)]


def test_line_that_is_being_written_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(4, 10.0, 400) + line(8, 12.0, 800)[:30])
    assert [mark.env_steps for mark in _marks.read_metrics(path, 1)] == [400]


def test_run_without_metrics_yet_has_no_marks(tmp_path):
    assert _marks.read_metrics(tmp_path / "metrics.jsonl", 1) == []


def test_damaged_line_is_told_with_its_place(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(4, 10.0, 400) + "damaged\n")
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: expected a JSON object.*'damaged'"):
        _marks.read_metrics(path, 1)


def test_speed_is_that_between_first_and_last_mark():
    result = _marks.speed([Mark(100.0, 200, 100), Mark(101.0, 500, 300), Mark(104.0, 800, 700)])
    assert result == {"env_steps_per_second": 150.0, "updates_per_second": 150.0, "window_env_steps": 600,
                      "window_seconds": 4.0}


@pytest.mark.parametrize("marks", [[], [Mark(1.0, 5, 5)], [Mark(1.0, 5, 5), Mark(1.0, 9, 9)]])
def test_speed_needs_two_moments(marks):
    with pytest.raises(ValueError, match="expected a mark after the warm-up and a later one"):
        _marks.speed(marks)


def test_time_to_return_is_that_of_the_first_mark_at_the_threshold():
    marks = [Mark(12.0, 400, 0, None), Mark(13.0, 500, 0, float("nan")), Mark(14.0, 600, 0, -201.0),
             Mark(15.5, 700, 0, -200.0), Mark(16.0, 800, 0, -100.0)]
    assert _marks.time_to_return(marks, -200.0, began=10.0) == {"seconds": 5.5, "env_steps": 700}
    assert _marks.time_to_return(marks[:3], -200.0, began=10.0) == {"seconds": None, "env_steps": None}


# ---- marks of peers ----------------------------------------------------------------------------------------------


def peer_marks(tmp_path, episodes, **changed):
    """Return the marks of a run of single steps, and how many it made; the k-th return comes at step 10 k."""
    arguments = argparse.Namespace(**{"warm_up_steps": 20, "total_steps": 50, "threshold": None, "window_episodes": 2,
                                      "out": str(tmp_path / "marks.json"), **changed})
    marks = peer_job.Marks(arguments)
    for env_steps in range(1, 1000):
        if env_steps % 10 == 0 and episodes:
            marks.episode(episodes.pop(0))
        if marks.step(env_steps, updates=2 * env_steps):
            break
    marks.write()
    return _marks.read_peer_marks(arguments.out), env_steps


def test_peer_marks_end_of_warm_up_and_end_of_run(tmp_path):
    marks, env_steps = peer_marks(tmp_path, [])
    assert env_steps == 50
    assert [(mark.env_steps, mark.updates, mark.mean_return) for mark in marks] == [(20, 40, None), (50, 100, None)]


def test_peer_ends_when_the_mean_of_the_latest_returns_is_reached(tmp_path):
    marks, env_steps = peer_marks(tmp_path, [-100.0, -400.0, -250.0, -150.0, 0.0], threshold=-200.0, total_steps=900)
    assert env_steps == 40  # means of two: -250, -325, -200
    assert (marks[-1].env_steps, marks[-1].mean_return) == (40, -200.0)


# ---- medians, ratios, tables -------------------------------------------------------------------------------------


def test_ratio_is_the_median_of_those_of_each_round():
    rows = [row(SPEED, number, name, env_steps_per_second=value, updates_per_second=value / 2)
            for name, values in (("alf", (30.0, 20.0, 90.0)), ("sb3", (10.0, 20.0, 45.0)))
            for number, value in enumerate(values)]
    summary = train.summarize(SPEED, "alf", rows)
    assert summary == {"job": "speed", "candidate": "alf", "median": 30.0, "lowest": 20.0, "highest": 90.0,
                       "updates_per_second": 15.0, "ratios": {"sb3": 2.0}, "num_measured": 3, "num_runs": 3}


def test_ratio_of_times_says_how_many_times_as_fast():
    rows = [row(RETURN, 0, "alf", seconds=20.0, env_steps=3000), row(RETURN, 0, "sb3", seconds=50.0, env_steps=5000)]
    assert train.summarize(RETURN, "alf", rows)["ratios"] == {"sb3": pytest.approx(2.5)}


def test_failed_runs_count_as_runs_without_a_figure():
    rows = [row(SPEED, 0, "alf", error="exit code 1"),
            row(SPEED, 1, "alf", env_steps_per_second=8.0, updates_per_second=8.0),
            row(SPEED, 0, "sb3", env_steps_per_second=4.0, updates_per_second=4.0),
            row(SPEED, 1, "sb3", error="exit code 1")]
    summary = train.summarize(SPEED, "alf", rows)
    assert (summary["median"], summary["num_measured"], summary["num_runs"]) == (8.0, 1, 2)
    assert summary["ratios"] == {"sb3": None}


def test_tables_show_speeds_and_times_apart():
    rows = [row(SPEED, 0, "alf", env_steps_per_second=12345.6, updates_per_second=50.25),
            row(SPEED, 0, "sb3", env_steps_per_second=6172.8, updates_per_second=25.0),
            row(RETURN, 0, "alf", seconds=None, env_steps=None)]
    summaries = [train.summarize(SPEED, "alf", rows), train.summarize(RETURN, "alf", rows)]
    assert train.tables([SPEED, RETURN], summaries).splitlines() == [
        "| job | candidate | env steps/s | updates/s | lowest to highest | x sb3 | runs |",
        "|---|---|---|---|---|---|---|",
        "| Speed | alf | 12,346 | 50.2 | 12,346 to 12,346 | 2.00 | 1 of 1 |",
        "",
        "| job | candidate | seconds | env steps | lowest to highest s | x sb3 | runs |",
        "|---|---|---|---|---|---|---|",
        "| Return | alf | - | - | - | - | 0 of 1 |",
    ]


@pytest.mark.parametrize("measured, columns", [
    (("bare", ), ["x bare"]),
    (("sbx", "bare", "torchrl"), ["x bare", "x sbx", "x torchrl"]),
    (("sbx", "bare", "sb3"), ["x bare", "x sb3"]),
    ((), []),
])
def test_tables_compare_with_the_floor_and_with_the_peers_that_there_are(measured, columns):
    speeds = {"alf": 30.0, "alf-compiled": 60.0, "bare": 40.0, "sbx": 20.0, "torchrl": 10.0, "sb3": 15.0}
    rows = [row(SPEED, 0, name, env_steps_per_second=speeds[name], updates_per_second=1.0)
            for name in ("alf", "alf-compiled", *measured)]
    header, _, ours, *_ = train.tables([SPEED], [train.summarize(SPEED, "alf", rows)]).splitlines()
    cells = [cell.strip() for cell in header.split("|")]
    assert [cell for cell in cells if cell.startswith("x ")] == columns
    values = dict(zip(cells, [cell.strip() for cell in ours.split("|")], strict=True))
    assert [values[column] for column in columns] == [f"{30 / speeds[column[2:]]:.2f}" for column in columns]


# ---- processes ---------------------------------------------------------------------------------------------------

WRITE = f"open('metrics.jsonl', 'w').write({line(1, 5.0, 10)!r} + {line(3, 6.0, 30)!r});"


def test_run_is_measured_in_its_own_folder():
    result = measure(Script(WRITE), SPEED)
    assert (result["env_steps_per_second"], result["updates_per_second"]) == (20.0, 2.0)


def test_process_is_bound_to_the_cores_of_its_job():
    result = measure(Script(WRITE + "import os; assert len(os.sched_getaffinity(0)) == 1"), SPEED)
    assert "error" not in result, result


def test_failure_is_told_with_the_last_line_printed():
    result = measure(Script("print('so far so good'); raise SystemExit('no such engine')"), SPEED)
    assert result["error"] == "exit code 1: no such engine"
    assert "so far so good" in result["output"]


@pytest.mark.parametrize("stops", [True, False])
def test_run_that_hangs_is_ended(stops):
    began = time.monotonic()
    result = measure(Script("import time; time.sleep(100)", stops), RETURN, timeout=1.0)
    assert result["error"].startswith("not done after 1 s") and time.monotonic() - began < 30


def test_run_that_knows_no_threshold_is_ended_when_it_is_reached():
    reached = {"Metrics/AverageReturn": -150.0, "Metrics/NumberOfEpisodes": 2}
    began = time.time()
    code = f"import time; open('metrics.jsonl', 'w').write({line(7, began + 1000, 70, **reached)!r}); time.sleep(100)"
    result = measure(Script(code, stops=False), RETURN, timeout=60.0)
    assert result["env_steps"] == 70 and 900 < result["seconds"] <= 1000
    assert time.time() - began < 50


# ---- candidates and jobs -----------------------------------------------------------------------------------------


def test_peer_that_is_not_installed_is_left_out_and_told(tmp_path, monkeypatch):
    for name in ("SB3", "SBX", "TORCHRL", "TIANSHOU", "CLEANRL"):
        monkeypatch.delenv(f"ALF_BENCH_{name}", raising=False)
    python = tmp_path / "sb3" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho '{\"python\": \"3.11\"}'\n")
    python.chmod(0o755)
    found, left_out = _jobs.find_peers(str(tmp_path))
    assert found == [] and len(left_out) == 5
    assert f"{python} has no stable-baselines3" in left_out[0]
    assert f"there is no {tmp_path}/sbx/bin/python. Set" in left_out[1] and "ALF_BENCH_SBX" in left_out[1]


def test_peer_is_found_by_its_variable(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '{\"python\": \"3.11\", \"torchrl\": \"9.9\"}'\n")
    python.chmod(0o755)
    monkeypatch.setenv("ALF_BENCH_TORCHRL", str(python))
    found, _ = _jobs.find_peers(None)
    peer, = [candidate for candidate in found if candidate.name == "torchrl"]
    assert peer.versions["torchrl"] == "9.9"
    assert [name for name, job in _jobs.JOBS.items() if peer.does(job)] == ["sac1", "sac2", "dqn", "ppo"]
    command = peer.command(_jobs.JOBS["ppo"], 7, tmp_path)
    assert command[:3] == [str(python), str(_jobs.HERE / "peers" / "run_torchrl.py"), "ppo_cart_pole"]
    assert {"--seed=7", "--warm_up_steps=4096", "--total_steps=20480"} <= set(command)


def test_cleanrl_needs_a_checkout(tmp_path, monkeypatch):
    python = tmp_path / "cleanrl" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho '{\"python\": \"3.11\", \"tyro\": \"1.0\"}'\n")
    python.chmod(0o755)
    monkeypatch.setenv("ALF_BENCH_CLEANRL_CHECKOUT", str(tmp_path / "nowhere"))
    found, left_out = _jobs.find_peers(str(tmp_path))
    assert found == [] and f"no {tmp_path}/nowhere/cleanrl/ppo.py. Set ALF_BENCH_CLEANRL_CHECKOUT" in left_out[-1]
    (tmp_path / "cleanrl" / "ppo.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALF_BENCH_CLEANRL_CHECKOUT", ".")
    (peer, ), _ = _jobs.find_peers(str(tmp_path))
    assert peer.command(_jobs.JOBS["dqn"], 1, tmp_path)[-1] == f"--checkout={tmp_path}"
    assert peer.versions == {"python": "3.11", "tyro": "1.0", "cleanrl": "unknown"}


CLEANRL_SCRIPT = """
import sys

import gymnasium as gym
import numpy as np
import torch

assert {"--seed=7", "--no-cuda", "--num-envs=8", "--no-clip-vloss"} <= set(sys.argv), sys.argv
critic, actor = (torch.optim.Adam([torch.zeros(1, requires_grad=True)]) for _ in range(2))
envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1", max_episode_steps=5)] * 8)
envs.reset(seed=0)
for step in range(1, 1000):
    observation, _, _, truncated, infos = envs.step(np.arange(8) % 2)
    assert truncated.all() == (step % 5 == 0) and "final_info" not in infos
    if step % 5 == 0:
        assert (np.abs(observation) <= 0.05).all()  # of the next episode
        assert (np.abs(np.stack(infos["final_observation"])[:, 1]) > 0.1).all()
    for optimizer in (critic, actor, actor):
        optimizer.step()
"""


def test_script_of_cleanrl_is_counted_and_ended(tmp_path, monkeypatch):
    (tmp_path / "cleanrl").mkdir()
    (tmp_path / "cleanrl" / "ppo.py").write_text(CLEANRL_SCRIPT)
    peer = _jobs.Peer("cleanrl", sys.executable, str(_jobs.HERE / "peers" / "run_cleanrl.py"),
                      (f"--checkout={tmp_path}", ))
    command = peer.command(_jobs.JOBS["ppo"], 7, tmp_path)
    subprocess.run([word.replace("20480", "5120") for word in command], check=True, cwd=tmp_path)
    marks = peer.marks(_jobs.JOBS["ppo"], tmp_path)
    assert [(mark.env_steps, mark.updates) for mark in marks] == [(4096, 511), (5120, 639)]


def test_unknown_candidate_is_told_with_those_that_are_known(capsys):
    with pytest.raises(SystemExit):
        run.main(["train", "--candidates", "alf", "sb4"])
    assert "--candidates sb4: expected some of alf" in capsys.readouterr().err


def test_added_peer_must_exist():
    with pytest.raises(ValueError, match="expected NAME=PYTHON:SCRIPT"):
        _jobs.added_peer(f"mine={sys.executable}:/no/such/script.py")


def test_scale_keeps_the_warm_up_and_at_least_one_interval():
    job = _jobs.JOBS["sac1"]
    assert (job.num_iterations, job.scaled(2.0).num_iterations, job.scaled(0.01).num_iterations) == (800, 1400, 400)


@pytest.mark.parametrize("job", _jobs.JOBS.values(), ids=lambda job: job.name)
def test_conf_of_a_job_collects_and_updates_as_the_job_says(job):
    alf.load_config(str(_jobs.HERE / "confs" / job.conf))
    config = {name: alf.get_config_value(f"TrainerConfig.{name}")
              for name in ("unroll_length", "num_updates_per_train_iter", "initial_collect_steps")}
    num_envs = alf.get_config_value("create_environment.num_parallel_environments")
    assert config["unroll_length"] * num_envs == job.steps_per_iteration
    num_updates = config["num_updates_per_train_iter"]
    if alf.get_config_value("TrainerConfig.whole_replay_buffer_training"):  # epochs
        num_updates *= job.steps_per_iteration // alf.get_config_value("TrainerConfig.mini_batch_size")
    assert num_updates == job.updates_per_iteration
    if job.measures_speed:
        assert config["initial_collect_steps"] < job.interval * job.steps_per_iteration


# ---- reports -----------------------------------------------------------------------------------------------------


def test_high_load_is_warned_of():
    assert _report.load_warning(0.4, num_cores=2) is None
    assert "load average 1.50 on 2 cores" in _report.load_warning(1.5, num_cores=2)


@pytest.mark.parametrize("text, parts", [
    ("bare: 10.30 ms (lowest 9.9), 1.0 of bare", ("bare", "10.30 ms (lowest 9.9), 1.0 of bare")),
    ("method   bare  0.1 us   added 1 us", ("method", "bare 0.1 us added 1 us")),
    ("all done", ("", "all done")),
    ("8 in the main process (a step: 9.5 us)", ("", "8 in the main process (a step: 9.5 us)")),
])
def test_line_of_a_script_is_split(text, parts):
    assert run.split_line(text) == parts


def test_script_is_run_and_reported(tmp_path, monkeypatch, capfd):
    script = tmp_path / "bench_this.py"
    script.write_text("import sys\nprint('one | two:', *sys.argv[1:])\n")
    monkeypatch.setitem(run.SCRIPTS, "unroll", str(script))
    assert run.main(["unroll", "--out", str(tmp_path / "out"), "--", "--rounds", "3"]) == 0
    report = json.loads((tmp_path / "out" / "unroll.json").read_text())
    assert report["lines"] == ["one | two: --rounds 3"] and report["arguments"] == ["--rounds", "3"]
    assert report["command"] == f"python -m benchmarks.run unroll --out {tmp_path / 'out'} -- --rounds 3"
    assert report["machine"] and report["versions"]["python"] and len(report["load_average"]) == 3
    assert "| one \\| two | --rounds 3 |" in (tmp_path / "out" / "unroll.md").read_text().splitlines()
    assert "one | two: --rounds 3\n" in capfd.readouterr().out


def test_script_that_fails_leaves_no_report(tmp_path, monkeypatch, capfd):
    script = tmp_path / "bench_this.py"
    script.write_text("raise SystemExit(3)\n")
    monkeypatch.setitem(run.SCRIPTS, "envs", str(script))
    assert run.main(["envs", "--out", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()
    assert "ended with 3; no report was written" in capfd.readouterr().err


def test_every_script_has_a_name():
    assert sorted(run.SCRIPTS.values()) == sorted(path.name for path in run.HERE.glob("bench_*.py"))
