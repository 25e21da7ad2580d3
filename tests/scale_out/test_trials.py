"""Trials of a sweep, with small programs in their place: whatever one does, the others go on and nobody is left."""

import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from alf.scale_out import trials
from alf.scale_out._trial_process import Idleness
from alf.scale_out._trial_records import read_record, read_result
from alf.scale_out.search_space import SearchSpace
from alf.scale_out.trials import Limits, TrialQueue, find_slots, run_sweep
from alf.trainers._progress_view import ProgressView

ROOT = pathlib.Path(__file__).parents[2]
BUSY = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


def run_programs(root_dir, programs, slots=("", ""), **limits):
    """Run a trial for each program, and return exit code and records."""
    space = SearchSpace({"program": [str(i) for i in range(len(programs))]})
    all_trials = space.trials()

    def command(trial, folder):
        program = programs[trial.index]
        return program if isinstance(program, list) else [sys.executable, "-S", "-E", "-c", program]

    code = run_sweep(str(root_dir), space, all_trials, command, slots, Limits(**limits))
    return code, [read_record(str(root_dir), trial) for trial in all_trials]


def console(root_dir, index: int) -> str:
    path, = root_dir.glob(f"{index:04d}r0*/console.log")
    return path.read_text()


def started(root_dir, index: int) -> str:
    """Return what a trial has printed, nothing before it begins."""
    return console(root_dir, index) if list(root_dir.glob(f"{index:04d}r0*/console.log")) else ""


def is_alive(pid) -> bool:
    return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE


def wait_for(condition, seconds: float = 20.0):
    """Return what the condition is once it is something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def test_each_trial_has_a_slot_for_itself_and_gives_it_back_whatever_it_does(tmp_path, capsys):
    log = tmp_path / "log"
    note = f"import os, sys\ndef note(what): open({str(log)!r}, 'a').write(what + os.environ['CUDA_VISIBLE_DEVICES'])\n"
    begin = note + "note('+')\n"
    programs = [begin + "note('-'); sys.exit(1)", begin + "note('-'); os.kill(os.getpid(), 9)", ["/no/such/program"],
                ["/no/such/program"], begin + "note('-'); os.abort()",
                begin + "import signal, time; signal.signal(signal.SIGUSR1, lambda *a: note('-')); time.sleep(1000)",
                begin + "note('-')", begin + "note('-'); sys.exit(2)", begin + "note('-')"]
    code, records = run_programs(tmp_path / "out", programs, slots=("3", "5"), stall_seconds=1, grace_seconds=0.2)
    assert code == 1
    assert [record["state"] for record in records] == [
        "failed", "failed", "failed", "failed", "failed", "hung", "finished", "failed", "finished"]
    assert [record["exit_code"] for record in records] == [1, -9, None, None, -6, -15, 0, 2, 0]
    events = log.read_text()
    for slot in "35":
        signs = "".join(sign for sign, on in zip(events[::2], events[1::2], strict=True) if on == slot)
        assert signs == "+-" * (len(signs) // 2) and signs
    assert "at a time: 2" in capsys.readouterr().out


def test_order_and_number_at_a_time(tmp_path):
    log = tmp_path / "log"
    note = f"import time\ndef note(what): open({str(log)!r}, 'a').write(what)\n"
    programs = [note + f"note('{i}'); time.sleep(0.3); note('.')" for i in range(4)]
    assert run_programs(tmp_path / "one", programs, slots=("", ))[0] == 0
    assert log.read_text() == "0.1.2.3."
    log.unlink()
    assert run_programs(tmp_path / "all", programs, slots=("", ) * 4)[0] == 0
    assert log.read_text().endswith("....") and set(log.read_text()) == set("0123.")


def test_what_a_failure_was_is_told(tmp_path, capsys):
    code, records = run_programs(tmp_path, [
        "import sys; print('error: no such thing\\nas this', file=sys.stderr); sys.exit(2)",
        "print('working', flush=True); import os; os.kill(os.getpid(), 9)", "1 / 0", "print('fine')"])
    assert code == 1
    assert records[0]["error"] == "exit code 2\nerror: no such thing\nas this"
    assert records[1]["error"] == "killed (signal 9, SIGKILL), perhaps for memory\nworking"
    assert records[2]["error"].startswith("exit code 1\nTraceback") and "division by zero" in records[2]["error"]
    assert records[3]["error"] == "" and records[3]["starts"] == 1
    assert console(tmp_path, 3) == "fine\n"
    out = capsys.readouterr().out
    assert "[4/4, ETA 0:00] 000" in out and "trials: 4, finished before: 0, at a time: 2" in out
    table = out[out.index("\ntrial"):]
    assert f"0000r0+pro=0 failed: exit code 2: no such thing\n  see {tmp_path}/0000r0+pro=0/console.log" in table
    assert "0001r0+pro=1 failed: killed (signal 9, SIGKILL), perhaps for memory\n" in table
    assert "0002r0+pro=2 failed: exit code 1: ZeroDivisionError: division by zero" in table
    assert "finished" in table and "\x1b" not in out
    rows = list(csv.DictReader(open(tmp_path / "summary.csv")))
    assert [row["state"] for row in rows] == ["failed", "failed", "failed", "finished"]
    assert rows[0]["program"] == "0" and rows[0]["error"] == "exit code 2: no such thing"


def test_the_same_again_runs_only_what_has_not_finished(tmp_path):
    marker = tmp_path / "marker"
    programs = [f"open({str(tmp_path)!r} + '/ran', 'a').write('0')",
                f"import os; open({str(tmp_path)!r} + '/ran', 'a').write('1'); os.stat({str(marker)!r})"]
    assert run_programs(tmp_path / "out", programs, slots=("", ))[0] == 1
    marker.touch()
    code, records = run_programs(tmp_path / "out", programs, slots=("", ))
    assert code == 0 and records[1]["starts"] == 2 and records[1]["error"] == ""
    assert run_programs(tmp_path / "out", programs, slots=("", ))[0] == 0
    assert (tmp_path / "ran").read_text() == "011"


def test_hanging_trial_writes_its_stack_and_is_killed_with_all_it_started(tmp_path):
    program = """
import faulthandler, os, signal, subprocess, sys, time
faulthandler.register(signal.SIGUSR1)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(1000)']).pid, flush=True)
def waits_for_ever():
    time.sleep(1000)
waits_for_ever()
"""
    code, (hung, busy) = run_programs(tmp_path, [program, BUSY.format(4)], stall_seconds=1, grace_seconds=0.5)
    assert code == 1
    assert hung["state"] == "hung" and hung["exit_code"] == -9
    assert hung["error"].startswith("no process used the processor for 1 s (--stall_seconds)")
    assert "in waits_for_ever" in console(tmp_path, 0)
    assert not is_alive(console(tmp_path, 0).splitlines()[0])
    assert busy["state"] == "finished"  # it took longer, but it did something


def test_trial_whose_children_work_does_not_hang(tmp_path):
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {BUSY.format(3)!r}])"
    assert run_programs(tmp_path, [program], stall_seconds=1)[0] == 0


def test_trial_that_takes_too_long_is_told_to_leave(tmp_path):
    leaves = ("import signal, sys, time\nsignal.signal(signal.SIGUSR1, lambda *a: None)\n"
              "signal.signal(signal.SIGTERM, lambda *a: sys.exit(143))\ntime.sleep(1000)")
    code, (late, early) = run_programs(tmp_path, [leaves, "pass"], stall_seconds=0, timeout_seconds=0.7)
    assert code == 1
    assert (late["state"], late["exit_code"], early["state"]) == ("timed out", 143, "finished")
    assert late["error"].startswith("not done after 0.7 s (--trial_timeout_seconds)")
    assert 1.7 < late["seconds"] < 100  # by itself it would take a thousand


def test_what_a_trial_leaves_behind_ends_with_it(tmp_path):
    program = ("import subprocess, sys\nsleep = [sys.executable, '-S', '-c', 'import time; time.sleep(1000)']\n"
               "print(subprocess.Popen(sleep).pid, flush=True)\nsys.exit({})")
    code, records = run_programs(tmp_path, [program.format(1), program.format(0)])
    assert [record["state"] for record in records] == ["failed", "finished"]
    for index in range(2):
        assert not is_alive(console(tmp_path, index))


def test_trials_have_no_input_and_a_session_of_their_own(tmp_path):
    program = "import os, sys; assert sys.stdin.read() == '' and os.getsid(0) == os.getpid()"
    assert run_programs(tmp_path, [program])[0] == 0


@contextlib.contextmanager
def signals_after(condition, *numbers):
    """Context in which this process gets signals, the first one as soon as the condition holds."""

    def send():
        wait_for(condition)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.5)

    thread = threading.Thread(target=send)
    thread.start()
    yield
    thread.join()


WAITS = """
import signal, sys, time
def leave(number, frame):
    time.sleep({})
    sys.exit(128 + number)
for number in (2, 15):
    signal.signal(number, leave)
print('ready', flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_goes_on_to_the_trials_and_no_other_begins(tmp_path, capsys, number, code):
    before = signal.getsignal(number)
    # The second one takes its time, so that the slot of the first one is free while the sweep goes on.
    programs = [WAITS.format(0), WAITS.format(1), "pass"]
    with signals_after(lambda: "ready" in started(tmp_path, 0) and "ready" in started(tmp_path, 1), number):
        ended, (first, second, third) = run_programs(tmp_path, programs)
    assert ended == code and signal.getsignal(number) is before
    assert (first["state"], first["exit_code"], second["state"], third) == ("left", code, "left", {})
    assert "The trials that run save a checkpoint and leave; once more to kill them." in capsys.readouterr().out
    assert [row["state"] for row in csv.DictReader(open(tmp_path / "summary.csv"))] == ["left", "left", "not begun"]


def test_second_signal_kills_them(tmp_path):
    program = "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(1000)"
    began = time.monotonic()
    with signals_after(lambda: "ready" in started(tmp_path, 0), signal.SIGINT, signal.SIGINT):
        code, (record, ) = run_programs(tmp_path, [program])
    assert code == 130 and record["state"] == "left" and record["exit_code"] == -9
    assert time.monotonic() - began < 10


@pytest.fixture
def fake_sweep(tmp_path):
    """Return a function that starts a sweep of programs in a process of its own; it is killed at the end."""
    (tmp_path / "program.py").write_text("import sys\nexec(sys.argv[2])\n")
    started = []

    def start(stall_seconds, *programs):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        started.append(subprocess.Popen(
            [sys.executable, pathlib.Path(__file__).with_name("fake_sweep.py"), tmp_path / "out", str(stall_seconds),
             *programs], env=environment, stdout=subprocess.DEVNULL))
        return started[-1]

    yield start
    for sweep in started:
        sweep.kill()
        sweep.wait()


def test_trials_die_with_a_sweep_that_is_killed(tmp_path, fake_sweep):
    sweep = fake_sweep(0, "import os, time; print(os.getpid(), flush=True); time.sleep(1000)")
    log, = wait_for(lambda: list(tmp_path.glob("out/0000r0*/console.log")))
    pid = int(wait_for(log.read_text))
    assert is_alive(pid)
    sweep.kill()
    sweep.wait()
    wait_for(lambda: not is_alive(pid), 5)
    assert not list(tmp_path.glob("out/*/trial.json"))  # so that it runs again


def test_time_in_which_the_sweep_is_stopped_does_not_count(tmp_path, fake_sweep):
    sweep = fake_sweep(2, "import time; print('ready', flush=True); time.sleep(3)")
    log, = wait_for(lambda: list(tmp_path.glob("out/0000r0*/console.log")))
    wait_for(log.read_text)
    time.sleep(0.3)
    sweep.send_signal(signal.SIGSTOP)
    time.sleep(2.1)
    sweep.send_signal(signal.SIGCONT)
    assert sweep.wait(20) == 0
    assert json.loads(next(tmp_path.glob("out/*/trial.json")).read_text())["state"] == "finished"


def test_process_that_is_bound_is_like_one_that_is_not(tmp_path):
    (tmp_path / "shows.py").write_text(
        "import json, sys\n"
        "print(json.dumps([__name__, sys.modules['__main__'].__spec__.name, sys.argv[1:]]))\nsys.exit(7)\n")
    bound = ("import subprocess, sys\nfrom alf.scale_out._bound_process import bound_command\n"
             "sys.exit(subprocess.call(bound_command('shows', '--a', 'b c')))")
    done = subprocess.run([sys.executable, "-c", bound], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"})
    assert json.loads(done.stdout) == ["__main__", "shows", ["--a", "b c"]], done.stderr
    assert done.returncode == 7


def test_disk_that_takes_no_record_ends_no_sweep(tmp_path, caplog):
    trial, = SearchSpace({"x": ["1"]}).trials()
    (tmp_path / trial.name / "trial.json.tmp").mkdir(parents=True)
    command = [sys.executable, "-S", "-c", "pass"]
    queue = TrialQueue(str(tmp_path), [trial], lambda trial, folder: command, [""], Limits(), ProgressView())
    assert queue.run() is None
    assert "trial.json cannot be written: " in caplog.text and "will run that trial again" in caplog.text


def test_result_is_read_from_the_summaries_of_a_run(tmp_path):
    nothing = dict.fromkeys(("env_steps", "final_return", "best_return", "best_eval_return"))
    assert read_result(tmp_path) == nothing
    for kind, lines in (("train", ['{"step": 1, "Metrics/EnvironmentSteps": 10}',
                                   '{"step": 2, "Metrics/EnvironmentSteps": 20, "Metrics/AverageReturn": 7.0}',
                                   '{"step": 3, "Metrics/EnvironmentSteps": 30, "Metrics/AverageReturn": 5.0}',
                                   '{"step": 4, "loss": 2.0}', '{"step": 5, "Metrics/EnvironmentSteps": 40, "Met']),
                        ("eval", ['{"step": 2, "Metrics/AverageReturn/0": 1.5, "Metrics/AverageReturn/1": 2.0}',
                                  '{"step": 4, "Metrics/AverageReturn/0": NaN, "Metrics/AverageReturn/1": 9.0}'])):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "metrics.jsonl").write_text("\n".join(lines))
    assert read_result(tmp_path) == {"env_steps": 30, "final_return": 5.0, "best_return": 7.0, "best_eval_return": 3.5}


@pytest.mark.parametrize("cpu_seconds, idle", [
    ([{1: 5.0}, {1: 5.0}, {1: 5.0}], 20.0),  # from the first look on
    ([{1: 5.0}, {1: 5.5}, {1: 5.9}], 20.0),  # too little: it waits for something
    ([{1: 5.0}, {1: 5.6}, {1: 6.2}], 0.0),  # little by little, but enough
    ([{1: 5.0}, {1: 5.0, 2: 2.0}, {1: 5.0}], 10.0),  # a process came, worked and went
])
def test_idleness_is_counted_from_the_last_use_of_a_hundredth_of_the_limit(cpu_seconds, idle):
    idleness = Idleness(limit_seconds=100.0)
    for seconds in cpu_seconds:
        idleness.look({(pid, 0): used for pid, used in seconds.items()}, 10.0)
    assert idleness.seconds == idle


@pytest.mark.parametrize("space, slots", [
    ({"max_worker_num": 3}, ["", "", ""]),
    ({}, [""]),
    ({"use_gpu": True}, ["0", "1", "2"]),
    ({"use_gpu": True, "gpus": [2, 0]}, ["2", "0"]),
    ({"use_gpu": True, "gpus": [2, 0], "max_worker_num": 1}, ["2"]),
    ({"use_gpu": False, "gpus": [7], "max_worker_num": 1}, [""]),
])
def test_a_slot_for_each_trial_at_a_time(monkeypatch, space, slots):
    monkeypatch.setattr(trials, "_ASK_FOR_GPUS", "print(3)")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_slots(SearchSpace({"x": ["1"]}, **space)) == slots


def test_only_gpus_that_may_be_used_are_slots(monkeypatch):
    monkeypatch.setattr(trials, "_ASK_FOR_GPUS", "print(2)")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    assert find_slots(SearchSpace({"x": ["1"]}, use_gpu=True)) == ["4", "6"]
    with pytest.raises(ValueError, match="gpus: there is no GPU 0, 5; there are 4, 6."):
        find_slots(SearchSpace({"x": ["1"]}, use_gpu=True, gpus=[0, 4, 5]))
    monkeypatch.setattr(trials, "_ASK_FOR_GPUS", "print(0)")
    with pytest.raises(ValueError, match="use_gpu: PyTorch sees no GPU here. Set it to false"):
        find_slots(SearchSpace({"x": ["1"]}, use_gpu=True))
    monkeypatch.setattr(trials, "_ASK_FOR_GPUS", "1 / 0")
    with pytest.raises(ValueError, match="use_gpu: PyTorch fails to count the GPUs:\n(?s:.*)division by zero"):
        find_slots(SearchSpace({"x": ["1"]}, use_gpu=True))
