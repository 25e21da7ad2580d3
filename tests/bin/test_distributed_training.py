"""--distributed: one run in several processes."""

import json
import pathlib
import signal

import psutil
import pytest
import torch
from command_line import checkpoints, records
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
TOGETHER = ("--distributed", "multi-cpu", "--num_processes")
CHECKED = ("--conf_param", "TrainerConfig.ddp_paras_check_interval=1")


def final_state(root_dir, num_processes):
    """Return every tensor and number that the processes saved last, time aside."""
    state = {}
    folders = [pathlib.Path(root_dir, "train", "algorithm")]
    folders += [pathlib.Path(root_dir, "train", f"process{rank}", "checkpoints") for rank in range(1, num_processes)]
    for folder in folders:
        last = max(folder.glob("ckpt-*"), key=lambda path: int(path.name.removeprefix("ckpt-")))
        for path in last.iterdir():
            name = str(path.relative_to(root_dir))
            if path.suffix == ".safetensors":
                state.update((f"{name}/{key}", tensor) for key, tensor in load_file(path).items())
            elif path.name == "trainer_progress.json":
                state[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}
            elif path.name != "manifest.json":
                state[name] = json.loads(path.read_text())
    return state


def members(command):
    """Return the processes that train together, in the order of their ranks."""
    found = [child for child in psutil.Process(command.pid).children() if "RANK" in child.environ()]
    return sorted(found, key=lambda process: int(process.environ()["RANK"]))


@pytest.mark.parametrize("conf, params", [
    ("normalizing_conf.py", ["TrainerConfig.evaluate=False"]),
    ("off_policy_conf.py", ["_CONFIG._USER.method='dqn'"]),
], ids=["PPO, normalizers", "DQN, priorities and n steps"])
def test_a_killed_distributed_run_ends_like_one_that_was_not(commands, tmp_path, conf, params):
    arguments = ["--conf", HERE / conf, *TOGETHER, 2, *CHECKED]
    for param in (*params, "TrainerConfig.num_iterations=40", "TrainerConfig.num_checkpoints=40",
                  "TrainerConfig.random_seed=3"):
        arguments += ["--conf_param", param]
    whole = commands.run("train", *arguments, "--root_dir", tmp_path / "whole")
    assert whole.code == 0, whole.stderr
    killed = commands.start("train", *arguments, "--root_dir", tmp_path / "killed")
    killed.wait_for_checkpoint(tmp_path / "killed", 9)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    resumed = commands.run("train", *arguments, "--root_dir", tmp_path / "killed")
    assert resumed.code == 0 and "resumed from iteration" in resumed.stderr, resumed.stderr
    expected, found = final_state(tmp_path / "whole", 2), final_state(tmp_path / "killed", 2)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        equal = torch.equal(value, found[name]) if isinstance(value, torch.Tensor) else value == found[name]
        assert equal, (name, value, found[name])


def test_the_work_is_shared(commands, tmp_path):
    command = commands.run("train", "--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path / "run", *TOGETHER, 2,
                           "--conf_param", "TrainerConfig.num_env_steps=200", "--conf_param",
                           "TrainerConfig.num_iterations=0", "--conf_param", "TrainerConfig.random_seed=None", *CHECKED)
    assert command.code == 0, command.stderr
    # Each steps one of the two environments, and all steps count.
    assert "1 environments in the main process" in command.stderr
    assert "starting 2 processes, which meet at port" in command.stderr
    assert command.stderr.count("all 2 processes have started") == 1
    saved = final_state(tmp_path / "run", 2)
    folder, own_folder = f"train/algorithm/ckpt-{checkpoints(tmp_path / 'run')[-1]}", "train/process1/checkpoints"
    own_folder += f"/ckpt-{checkpoints(tmp_path / 'run')[-1]}"
    metrics = [{name.removeprefix(place): tensor.tolist() for name, tensor in saved.items()
                if name.startswith(f"{place}/metrics.safetensors/")} for place in (folder, own_folder)]
    assert metrics[0] and metrics[0] != metrics[1]  # each has seen episodes of its own
    assert 200 <= saved[f"{folder}/trainer_progress.json"]["env_steps"] < 232
    assert records(tmp_path / "run")[-1]["Metrics/EnvironmentSteps"] > 150
    assert {row["DDP/para_consistency"] for row in records(tmp_path / "run") if "DDP/para_consistency" in row} <= {1.0}


def test_what_cannot_be_divided_is_told(commands, tmp_path):
    command = commands.run("train", "--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path / "run", *TOGETHER, 3)
    assert command.code == 0, command.stderr
    for words in ("create_environment.num_parallel_environments=2 cannot be divided among 3 processes: each has 1, "
                  "which makes 3.", "TrainerConfig.mini_batch_size=8 cannot be divided among 3 processes: each has 3"):
        assert command.stderr.count(words) == 1, command.stderr


def test_a_run_goes_on_with_other_numbers_of_processes(commands, tmp_path):

    def train(num_iterations, *flags):
        command = commands.run("train", "--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path / "run", *flags,
                               "--conf_param", f"TrainerConfig.num_iterations={num_iterations}")
        assert command.code == 0, command.stderr
        return command.stderr, final_state(tmp_path / "run", 1)[
            f"train/algorithm/ckpt-{num_iterations}/trainer_progress.json"]["env_steps"]

    _, with_two = train(6, *TOGETHER, 2)
    told, with_one = train(12)
    assert "1 environments in the checkpoint, 2 now: new episodes begin" in told
    assert with_two + 60 < with_one <= with_two + 96  # those of the process that is gone still count
    told, with_three = train(18, *TOGETHER, 3)
    assert "2 environments in the checkpoint, 1 now" in told
    assert with_one + 90 < with_three <= with_one + 144
    console = (tmp_path / "run/train/process2/console.log").read_text()
    assert "There is no checkpoint of step 12" in console


def test_leaves_together_and_saves(commands, tmp_path):
    arguments = ["--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path / "run", *TOGETHER, 2, "--conf_param",
                 "TrainerConfig.num_iterations=1000000", "--conf_param", "TrainerConfig.num_checkpoints=100000"]
    command = commands.start("train", *arguments)
    command.wait_for_checkpoint(tmp_path / "run")
    members(command)[1].send_signal(signal.SIGUSR2)  # whichever is asked, all save
    command.wait_for(lambda: "saved iteration" in command.stderr)
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 143, command.stderr
    last = checkpoints(tmp_path / "run")[-1]
    assert (tmp_path / f"run/train/process1/checkpoints/ckpt-{last}").is_dir()
    assert command.stderr.count("Finishing this iteration and saving a checkpoint") == 1
    assert "Traceback" not in command.stderr
    command.assert_nobody_left()


def test_a_difference_of_parameters_is_told(commands, tmp_path):
    command = commands.run("train", "--conf", HERE / "drifting_conf.py", "--root_dir", tmp_path / "run", *TOGETHER, 2,
                           *CHECKED)
    assert command.code == 2
    for words in ("_drift is not the same in all processes", "let it be a buffer"):
        assert words in command.stderr, command.stderr


@pytest.mark.parametrize("arguments, code, words", [
    (["--distributed", "multi-gpu"], 2, "--distributed=multi-gpu: expected at least 1 GPUs, PyTorch finds 0. Use fewer "
     "--num_processes, or --distributed=multi-cpu."),
    (["--distributed", "multi-cpu"], 2, "--distributed=multi-cpu: expected --num_processes, the number of processes"),
    (["--num_processes", "2"], 2, "--num_processes is for several processes: expected "
     "--distributed with it"),
    ([*TOGETHER, "0"], 2, "0 is not a positive integer"),
    ([*TOGETHER, "2", "--dry_run"], 2, "expected no --distributed with it"),
    ([*TOGETHER, "2", "--conf_param", "TrainerConfig.async_unroll=True"], 2, "TrainerConfig.async_unroll=True: not in "
     "several processes"),
    ([*TOGETHER, "2", "--conf_param", "TrainerConfig.mini=True"], 2, "Cannot find config name TrainerConfig.mini"),
])
def test_mistakes_of_distributed_training_are_told_once(commands, tmp_path, arguments, code, words):
    conf = "off_policy_conf.py" if "async" in str(arguments) else "tiny_conf.py"
    command = commands.run("train", "--conf", HERE / conf, "--root_dir", tmp_path / "run", *arguments)
    if torch.cuda.is_available() and "multi-gpu" in arguments:
        pytest.skip("there are GPUs")
    assert command.code == code, command.stderr
    assert command.stderr.count("error: ") == 1 and words in command.stderr, command.stderr
    assert "Traceback" not in command.stderr


def test_a_directory_that_cannot_be_written_is_told(commands, tmp_path):
    (tmp_path / "file").touch()
    command = commands.run("train", "--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path / "file" / "run", *TOGETHER,
                           2)
    assert command.code == 2 and "cannot be written" in command.stderr, command.stderr
    assert "Traceback" not in command.stderr


def test_is_what_torchrun_starts(tmp_path):
    import subprocess
    import sys
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m",
               "alf.bin.train", "--conf", str(HERE / "tiny_conf.py"), "--root_dir", str(tmp_path / "run"),
               "--distributed", "multi-cpu", *CHECKED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stderr
    assert checkpoints(tmp_path / "run")[-1] == 6
    assert (tmp_path / "run/train/process1/checkpoints/ckpt-6").is_dir()


def test_all_begin_anew_where_one_has_lost_its_part_of_the_checkpoint(commands, tmp_path):
    arguments = ["--conf", HERE / "off_policy_conf.py", "--root_dir", tmp_path / "run", *TOGETHER, 2, *CHECKED,
                 "--conf_param", "_CONFIG._USER.method='dqn'", "--conf_param"]
    assert commands.run("train", *arguments, "TrainerConfig.num_iterations=20").code == 0
    [damaged] = (tmp_path / "run/train/process1/checkpoints/ckpt-20").glob("rollout.safetensors")
    damaged.write_bytes(b"")
    command = commands.run("train", *arguments, "TrainerConfig.num_iterations=40")
    assert command.code == 0, command.stderr
    assert "another process has no part of the checkpoint of iteration 20: new episodes begin" in command.stderr
    console = (tmp_path / "run/train/process1/console.log").read_text()
    assert "rollout.safetensors" in console and "New episodes begin, with empty replay buffers" in console
