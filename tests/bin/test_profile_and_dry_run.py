"""python -m alf.bin.train with --profile, --dry_run and --strict."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from command_line import ROOT

from alf.bin._dry_run import told_memory_of_processes

CONF = pathlib.Path(__file__).parent / "tiny_conf.py"
SAC = """
from alf.examples import sac_conf  # noqa: F401
import alf
alf.config("create_environment", env_name="Pendulum-v1", num_parallel_environments=4)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("CriticNetwork", joint_fc_layer_params=(8, ))
alf.config("SacAlgorithm", actor_optimizer=alf.optimizers.Adam(lr=1e-3), critic_optimizer=alf.optimizers.Adam(lr=1e-3),
           alpha_optimizer=alf.optimizers.Adam(lr=1e-3))
alf.config("TrainerConfig", unroll_length=1, mini_batch_length=2, mini_batch_size=16, initial_collect_steps=400,
           num_updates_per_train_iter=1, whole_replay_buffer_training=False, clear_replay_buffer=False,
           replay_buffer_length=1000, num_iterations=10_000_000, summary_interval=1000)
"""


@pytest.fixture
def sac_conf(tmp_path):
    path = tmp_path / "conf" / "tiny_sac_conf.py"
    path.parent.mkdir()
    path.write_text(SAC)
    return path


def assert_duration_is_that_of_the_speed(told, num_iterations, env_steps_per_iteration):
    speed = re.search(r"speed: (\S+) environment steps/s, (\S+) iterations/s", told)
    duration, its, steps = re.search(r"duration: about (\S+): (\S+) iterations, (\S+) environment steps", told).groups()
    per_second = float(speed[2].replace(",", ""))
    seconds = sum(int(part) * 60**i for i, part in enumerate(reversed(duration.split(":"))))
    assert int(its.replace(",", "")) == num_iterations
    assert seconds == pytest.approx(num_iterations / per_second, rel=0.05, abs=1.5)
    # The first step of an episode is a reset and counts as none.
    most = num_iterations * env_steps_per_iteration
    assert 0.8 * most <= float(steps.replace(",", "")) <= most


def iterations(number):
    return "--conf_param", f"TrainerConfig.num_iterations={number}"


def test_profile_is_told_and_written_and_training_goes_on(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--profile=2", "--root_dir", tmp_path, *iterations(8),
                        "--conf_param", "TrainerConfig.evaluate=True", "--conf_param", "TrainerConfig.eval_interval=1",
                        "--conf_param", "TrainerConfig.num_eval_episodes=1")
    assert done.code == 0, done.stderr
    assert "profile of iterations 4 to 5" in done.stdout and "bottleneck: " in done.stdout
    assert "iteration 8" in done.stdout
    told = json.loads((tmp_path / "profile" / "profile.json").read_text())
    # Two iterations of 8 steps; each has an action more, for bootstrapping.
    assert told["phases"]["environment"]["calls"] == 16 and told["phases"]["policy"]["calls"] == 18
    assert told["phases"]["evaluation"]["calls"] >= 2
    assert {"update", "storage", "summaries", "other"} <= told["phases"].keys()
    assert sum(phase["seconds"] for phase in told["phases"].values()) == pytest.approx(told["seconds"], rel=1e-6)
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    whole = [event for event in trace if event["name"] == "train_iter"]
    assert len(whole) == 2
    assert sum(event["dur"] for event in whole) * 1e-6 < told["seconds"]


def test_profile_of_a_run_whose_unroll_is_in_another_process_says_what_is_not_seen(commands, tmp_path, sac_conf):
    done = commands.run("train", "--conf", sac_conf, "--profile=3", "--root_dir", tmp_path / "run", "--conf_param",
                        "TrainerConfig.async_unroll=True", "--conf_param", "TrainerConfig.initial_collect_steps=8",
                        *iterations(12))
    assert done.code == 0, done.stderr
    assert "not seen: what the process that unrolls does" in done.stdout
    told = json.loads((tmp_path / "run" / "profile" / "profile.json").read_text())
    assert told["phases"]["waiting"]["calls"] == 3 and "environment" not in told["phases"]


def test_profile_begins_when_updates_do_and_leaves_out_the_checkpoint_that_ends_the_run(commands, tmp_path, sac_conf):
    done = commands.run("train", "--conf", sac_conf, "--profile", "--root_dir", tmp_path / "run", "--conf_param",
                        "TrainerConfig.initial_collect_steps=80", "--conf_param", "TrainerConfig.num_checkpoints=1",
                        *iterations(30))
    assert done.code == 0, done.stderr
    told = json.loads((tmp_path / "run" / "profile" / "profile.json").read_text())
    assert told["first_iteration"] >= 80 // 4 + 3
    # The loop of the run is left after the last iteration.
    assert told["num_updates"] == told["num_iterations"] == 30 - told["first_iteration"] + 1
    assert "checkpoint" not in told["phases"]


def test_profile_needs_no_number_and_takes_it_only_with_an_equals_sign(commands, tmp_path):
    done = commands.run("train", "--profile", "--conf", CONF, "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    assert "profile of iterations 4 to 6" in done.stdout
    apart = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--profile", "5")
    assert apart.code == 2 and "Did you mean --profile=5?" in apart.stderr
    none = commands.run("train", "--conf", CONF, "--root_dir", tmp_path, "--profile=0")
    assert none.code == 2 and "--profile=0: expected nothing or a number of at least 1" in none.stderr


def test_dry_run_tells_what_the_run_would_take_and_leaves_nothing(commands, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    done = commands.run("train", "--conf", CONF, "--dry_run", "--root_dir", folder / "run", "--conf_param",
                        "TrainerConfig.num_iterations=200", cwd=folder, TMPDIR=str(folder))
    assert done.code == 0, done.stderr
    # Two networks of 8 units: (4 * 8 + 8) + (8 * 2 + 2) for the actor, (4 * 8 + 8) + (8 + 1) for the value.
    for words in ("PyTorch: 1 threads, large products of float32 by ", "environments: 2\n",
                  "observation: BoundedTensorSpec(shape=(4,)", "Agent, 107 parameters",
                  "    _actor_network: ActorDistributionNetwork, 58 parameters",
                  "    _value_network: ValueNetwork, 49 parameters", "8 tensors, 107 parameters",
                  "replay buffer: none, only the last unroll is kept", "8 steps of 2 environments\n",
                  "memory of this process: ", "checkpoints: ", "3 over the run", ": 200 iterations, "):
        assert words in done.stdout, f"{words}\n{done.stdout}"
    assert_duration_is_that_of_the_speed(done.stdout, num_iterations=200, env_steps_per_iteration=16)
    assert not list(folder.iterdir())


def test_dry_run_of_an_off_policy_conf_measures_updates_without_collecting_first(commands, tmp_path, sac_conf):
    done = commands.run("train", "--conf", sac_conf, "--dry_run", "--strict", "--conf_param",
                        "ReplayBuffer.enable_checkpoint=True")
    assert done.code == 0, done.stderr + done.stdout
    step_bytes = int(re.search(r"1,000 steps of each, (\d+) bytes a step", done.stdout)[1])
    assert f"replay buffer: about {4 * 1000 * step_bytes / 2**20:.1f} MiB: 4 environments" in done.stdout
    assert re.search(r"checkpoints: .* each, and .* of a full replay buffer in the newest", done.stdout)
    assert_duration_is_that_of_the_speed(done.stdout, num_iterations=10_000_000, env_steps_per_iteration=4)
    profile = re.search(r"^update +\S+ +\S+ % +\S+ +([\d,]+)$", done.stdout, re.MULTILINE)
    assert int(profile[1].replace(",", "")) >= 6


def test_memory_of_the_processes_that_were_started_is_told():
    def told():
        found = re.search(r"libraries included; and ([\d,]+) MiB now in (\d+) processes that it has started",
                          told_memory_of_processes())
        return (float(found[1].replace(",", "")), int(found[2])) if found else (0.0, 0)

    mebibytes, number = told()  # there may be a server of other tests
    code = "memory = bytearray(100_000_000); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        more, one_more = told()
        child.communicate(b"\n")
    assert one_more == number + 1 and more > mebibytes + 90


def test_dry_run_tells_mistakes_as_training_does(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--dry_run", "--conf_param", "TrainerConfig.unroll_lenght=3")
    assert done.code == 2
    assert "unroll_length" in done.stderr and "Traceback" not in done.stderr


def test_strict_ends_with_a_code_of_its_own_if_values_were_not_used(commands, tmp_path):
    conf = tmp_path / "unused_conf.py"
    conf.write_text(CONF.read_text() + '\nalf.config("SacAlgorithm", target_update_tau=0.1)\n'
                    '\nimport alf.algorithms.sac_algorithm\n')
    loose = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "a", *iterations(1))
    assert loose.code == 0, loose.stderr
    strict = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "b", "--strict", *iterations(1))
    assert strict.code == 3
    line = CONF.read_text().count("\n") + 2
    assert "--strict: the conf sets values that nothing has used" in strict.stderr
    assert f"SacAlgorithm.target_update_tau = 0.1  ({conf}:{line})" in strict.stderr
    assert (tmp_path / "b" / "train" / "algorithm" / "ckpt-1").is_dir()  # it was trained all the same
    used = commands.run("train", "--conf", CONF, "--root_dir", tmp_path / "c", "--strict", *iterations(1))
    assert used.code == 0, used.stderr


def test_flags_are_told_with_the_nearest_ones(commands, tmp_path):
    done = commands.run("train", "--conf", CONF, "--root_dr", tmp_path)
    assert done.code == 2
    assert "Unknown command line flag 'root_dr'. Did you mean: root_dir" in done.stderr
    nothing = commands.run("train")
    assert nothing.code == 2 and "--root_dir" in nothing.stderr
    assert "python -m alf.bin.train --help" in nothing.stderr or "train --help" in nothing.stderr


def test_every_flag_of_the_command_is_documented():
    text = (ROOT / "docs" / "tutorial" / "1_train_and_play.md").read_text()
    for flag in ("--profile", "--dry_run", "--strict"):
        assert flag in text
