"""Every script of the benchmarks that compares candidates runs, with one short measurement of each."""

import json
import os
import sys
import textwrap

import pretend_gpu
import pytest
import torch

from benchmarks import (
    _peers,
    _rounds,
    _servers,
    bench_config,
    bench_envs,
    bench_native_envs,
    bench_replay,
    bench_update,
)
from benchmarks import run as main

sys.path.insert(0, str(_servers.SCRIPTS))  # scripts of peers import each other by name
import run_bare  # noqa: E402
import serve_update  # noqa: E402


def run(module, monkeypatch, tmp_path, *words):
    """Return the rows of a script, by case and candidate, and all results."""
    results = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", [module.__name__, *words, "--rounds", "1", "--seconds", "0.001", "--json",
                                      str(results)])
    module.main()
    told = json.loads(results.read_text())
    return {(row["case"], row["candidate"]): row for row in told["rows"]}, told


def test_envs_measures_each_candidate_that_has_the_environment(monkeypatch, tmp_path, capsys):
    rows, _ = run(bench_envs, monkeypatch, tmp_path, "--cells", "CartPole-v1:2", "--candidates",
                  "raw,sync,alf-main,ale")
    assert set(rows) == {("CartPole-v1 x 2", name) for name in ("raw", "sync", "alf-main")}  # ALE has no CartPole
    row = rows["CartPole-v1 x 2", "alf-main"]
    assert row["unit"] == "env steps/s" and row["reference"] == "sync" and len(row["values"]) == 1
    assert row["ratio"] == row["values"][0] / rows["CartPole-v1 x 2", "sync"]["values"][0]
    assert "CartPole-v1 x 2: raw " in capsys.readouterr().out


def test_native_envs_measures_each_candidate_that_has_the_environment(monkeypatch, tmp_path):
    rows, _ = run(bench_native_envs, monkeypatch, tmp_path, "--cells", "CartPole-v1:2,Pendulum-v1:2", "--candidates",
                  "native,vector,sync")
    assert {name for case, name in rows if case.startswith("CartPole")} == {"native", "vector", "sync"}
    assert {name for case, name in rows if case.startswith("Pendulum")} == {"native", "sync"}


def test_replay_measures_stores_samples_and_frames(monkeypatch, tmp_path):
    rows, told = run(bench_replay, monkeypatch, tmp_path, "--capacity", "8000", "--frames", "800")
    assert rows["uniform, sample", "alf"]["unit"] == "us a batch" and told["frames"]["steps"] == 800
    assert ("uniform, store", "torch rows") in rows and ("prioritized, sample and update", "alf") in rows


def test_config_tells_what_each_call_costs_beyond_a_plain_one(monkeypatch, tmp_path):
    rows, told = run(bench_config, monkeypatch, tmp_path)
    assert rows["function(1)", "plain"]["ratio"] == 1.0 and ("Class(1)", "alf") in rows
    assert set(told["added_us"]) == {case for case, _ in rows}


def test_update_measures_each_case_by_processes_of_its_own(monkeypatch, tmp_path):
    (tmp_path / "serve_update.py").write_text(textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(_servers.SCRIPTS)!r})
        import _server

        _server.serve(lambda candidate, case: (lambda seconds: len(candidate), lambda: None, ""))
    """))
    monkeypatch.setattr(_servers, "SCRIPTS", tmp_path)
    rows, told = run(bench_update, monkeypatch, tmp_path, "--cases", "ppo,dqn", "--candidates", "bare,alf")
    assert {key: row["median"] for key, row in rows.items()} == {
        ("ppo", "bare"): 4, ("ppo", "alf"): 3, ("dqn", "bare"): 4, ("dqn", "alf"): 3}
    assert rows["dqn", "alf"]["ratio"] == pytest.approx(4 / 3) and told["notes"] == []


@pytest.mark.parametrize("case", ["ppo", "sac", "dqn"])
def test_bare_update_is_measured(case):
    measure, _, _ = serve_update.open_case("bare", case)
    assert measure(0.001) > 0


@pytest.mark.parametrize("candidate", ["bare", "alf", "alf cuda graph"])
@pytest.mark.parametrize("case", ["ppo", "sac", "dqn"])
def test_updates_are_measured_on_a_gpu(monkeypatch, candidate, case):
    waits = []
    monkeypatch.setenv("ALF_BENCH_DEVICE", "cuda")
    with pretend_gpu.plugged_in():
        synchronize = torch.cuda.synchronize
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(synchronize()))
        measure, _, _ = serve_update.open_case(candidate, case)
        waits.clear()
        assert measure(0.001) > 0
        assert len(waits) == 1
        monkeypatch.undo()
        torch.set_default_device(None)


def test_peers_are_not_measured_on_a_gpu(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(bench_update, monkeypatch, tmp_path, "--device", "cuda", "--with-peers")
    assert "--device cuda: peers are measured on the CPU" in capsys.readouterr().err


def test_update_that_there_is_not_is_told():
    with pytest.raises(LookupError, match="slower there"):
        serve_update.open_case("bare compiled", "dqn")
    with pytest.raises(LookupError, match="for GPUs"):
        serve_update.open_case("alf cuda graph", "dqn")


class Counted:
    """Marks of a run that ends after some environment steps; keeps what it was told."""

    def __init__(self, total):
        self.total, self.told = total, []

    def step(self, env_steps, updates):
        self.told.append((env_steps, updates))
        return env_steps >= self.total


def test_bare_ppo_updates_after_each_unroll(monkeypatch):
    monkeypatch.setattr("torch.compile", lambda function: function)
    monkeypatch.setattr(run_bare, "NUM_EPOCHS", 2)
    marks = Counted(768)
    run_bare.train_ppo(marks, seed=0)
    assert marks.told == [(256, 0), (512, 2), (768, 4)]


def test_bare_sac_updates_after_each_step_but_the_first(monkeypatch):
    marks = Counted(102)
    run_bare.train_sac(marks, seed=0)
    assert marks.told[-4:] == [(99, 0), (100, 0), (101, 1), (102, 2)]


def test_bare_dqn_updates_after_each_unroll_once_there_are_a_thousand_steps():
    marks = Counted(1280)
    run_bare.train_dqn(marks, seed=0)
    assert marks.told == [(256, 0), (512, 0), (768, 0), (1024, 0), (1280, 128)]


# ---- reports of scripts --------------------------------------------------------------------------------------------


def test_rows_of_a_script_become_a_table(tmp_path, monkeypatch):
    script = tmp_path / "bench_this.py"
    script.write_text(textwrap.dedent("""
        import json, sys
        assert sys.argv[1:5] == ["--with-peers", "--peers", "d", "--quick"], sys.argv
        row = {"case": "c", "candidate": "alf", "unit": "us", "median": 2.0, "lowest": 1.0, "highest": 3.0,
               "reference": "bare", "ratio": 0.5, "values": [1.0, 2.0, 3.0]}
        json.dump({"rows": [row], "notes": ["sb3 is left out"]}, open(sys.argv[sys.argv.index("--json") + 1], "w"))
    """))
    monkeypatch.setitem(main.SCRIPTS, "envs", str(script))
    assert main.main(["envs", "--with-peers", "--peers", "d", "--quick", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "envs.json").read_text())["rows"][0]["values"] == [1.0, 2.0, 3.0]
    lines = (tmp_path / "envs.md").read_text().splitlines()
    assert "| c | alf | 2 us | 1 to 3 | 0.50 x bare |" in lines and "- sb3 is left out" in lines


def test_all_runs_everything_that_is_compared_with_the_same_options(monkeypatch, tmp_path):
    scripts, trained = [], []
    monkeypatch.setattr(main, "run_script", lambda name, rest, out: scripts.append((name, rest, out)) or 0)
    monkeypatch.setattr(main.train, "run", lambda arguments, words: trained.append(arguments) or 1)
    assert main.main(["all", "--with-peers", "--quick", "--out", "there"]) == 1  # as train failed
    assert scripts == [(name, ["--with-peers", "--quick"], "there") for name in main.ALL if name != "train"]
    assert (trained[0].with_peers, trained[0].quick, trained[0].out) == (True, True, "there")
    assert set(main.ALL) - {"train"} == set(main.COMPARED)


# ---- candidates in other processes ---------------------------------------------------------------------------------


@pytest.fixture
def peers(tmp_path, monkeypatch):
    """Servers of a script that measures the length of the case's name, and fails on purpose."""
    (tmp_path / "serve.py").write_text(textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(_servers.SCRIPTS)!r})
        import _server

        def open_case(candidate, case):
            print("what others print is no answer")
            if case == "refused":
                raise LookupError("no such case")
            if case == "dies":
                print("the reason", file=sys.stderr)
                raise SystemExit(3)
            def measure(seconds):
                if case == "breaks":
                    raise ValueError("broken")
                return len(case) * seconds
            return measure, lambda: print("freed"), candidate

        _server.serve(open_case)
    """))
    monkeypatch.setattr(_servers, "SCRIPTS", tmp_path)
    with _servers.Peers([{"name": "length", "python": sys.executable, "script": "serve.py"}]) as peers:
        yield peers


def test_candidates_of_both_kinds_take_turns(peers):
    figures = _rounds.measure("four", {"mine": lambda seconds: 2 * seconds}, peers, rounds=3, seconds=0.5)
    assert figures == {"mine": [1.0, 1.0, 1.0], "length": [2.0, 2.0, 2.0]}
    assert _rounds.measure("seven77", {}, peers, rounds=1, seconds=1.0) == {"length": [7.0]}
    assert peers.failures == {}


def test_peer_that_fails_is_told_and_the_next_case_is_measured(peers):
    for case in ("refused", "breaks", "dies"):
        assert _rounds.measure(case, {"mine": lambda seconds: 1.0}, peers, rounds=1, seconds=1.0) == {"mine": [1.0]}
    assert _rounds.measure("well", {}, peers, rounds=1, seconds=1.0) == {"length": [4.0]}
    assert peers.failures == {"refused, length": "LookupError: no such case", "breaks, length": "ValueError: broken",
                              "dies, length": "it ended: the reason"}


def test_peer_that_hangs_is_given_up(tmp_path, monkeypatch):
    (tmp_path / "serve.py").write_text("import time; time.sleep(100)")
    monkeypatch.setattr(_servers, "SCRIPTS", tmp_path)
    with _servers.Peers([{"name": "slow", "python": sys.executable, "script": "serve.py", "timeout": 0.2}]) as peers:
        assert peers.open("any") == {}
        assert peers.failures == {"any, slow": "no answer after 0.2 s: it printed nothing"}


# ---- rows ----------------------------------------------------------------------------------------------------------


def test_ratio_says_how_many_times_as_fast_for_speeds_and_for_times():
    speeds = _rounds.summarize("case", "steps/s", {"a": [10.0, 30.0, 40.0], "b": [10.0, 10.0, 20.0]}, "b")
    assert (speeds[0]["median"], speeds[0]["lowest"], speeds[0]["highest"], speeds[0]["ratio"]) == (30, 10, 40, 2)
    times = _rounds.summarize("case", "us", {"a": [10.0], "b": [40.0]}, "b")
    assert times[0]["ratio"] == 4
    assert _rounds.summarize("case", "us", {"a": [10.0]}, "b")[0]["ratio"] is None


def test_table_has_a_line_for_each_candidate():
    rows = _rounds.summarize("case", "us", {"a": [10.0], "b": [40_000.0]}, "b")
    assert _rounds.table(rows).splitlines()[2:] == [
        "| case | a | 10 us | 10 to 10 | 4000.00 x b |", "| case | b | 40k us | 40k to 40k | 1.00 x b |"]


def test_cpprb_may_live_with_stable_baselines3_and_envpool_with_us(tmp_path, monkeypatch):
    for name in _peers.PEERS:
        monkeypatch.delenv(f"ALF_BENCH_{name.upper()}", raising=False)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho '{\"cpprb\": \"1.0\"}'\n")
    python.chmod(0o755)
    monkeypatch.setenv("ALF_BENCH_SB3", str(python))
    found, left_out = _peers.find(None, ["cpprb", "sb3", "envpool"])
    assert found["cpprb"] == (str(python), {"cpprb": "1.0"})
    assert f"{python} has no stable-baselines3" in left_out[0]
    assert "envpool" in found or sys.executable in left_out[1]


def test_peers_are_asked_for_by_the_command_line(monkeypatch):
    monkeypatch.delenv("ALF_BENCH_GIN", raising=False)
    monkeypatch.setattr(_peers, "find", lambda folder, names: ({"a": _peers.Found("/py", {})}, [f"{folder} {names}"]))
    parser = __import__("argparse").ArgumentParser()
    _rounds.add_arguments(parser, 1, 1.0)
    assert _rounds.find_servers(parser.parse_args([]), "s.py", "a")[0].arguments == []
    peers, left_out = _rounds.find_servers(
        parser.parse_args(["--with-peers", "--peers", os.curdir]), "s.py", "a", "mine@a", "b", has_alf=("mine", ))
    assert left_out == [". ['a', 'b']"]
    assert [(row["name"], row["python"], row["has_alf"]) for row in peers.arguments] == [
        ("a", "/py", False), ("mine", "/py", True)]
