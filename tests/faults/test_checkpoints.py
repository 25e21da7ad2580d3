"""What a run makes of its checkpoints when they are damaged, old, hostile, or of other settings."""

import json
import os
import pathlib
import pickle
import re
import shutil

import pytest
from command_line import checkpoints
from safetensors.torch import load_file, save_file

from alf.utils import _checkpoint_files

BIN = pathlib.Path(__file__).parents[1] / "bin"
TINY, OFF_POLICY = BIN / "tiny_conf.py", BIN / "off_policy_conf.py"


def _params(*settings) -> list:
    return [word for setting in settings for word in ("--conf_param", setting)]


def _folder(root_dir) -> pathlib.Path:
    return pathlib.Path(root_dir, "train", "algorithm")


@pytest.fixture(scope="module")
def finished_runs(commands, tmp_path_factory):
    """Return {conf: directory of a run with checkpoints 2, 4 and 6}."""
    folder = tmp_path_factory.mktemp("finished")
    for conf in (TINY, OFF_POLICY):
        done = commands.run("train", "--conf", conf, "--root_dir", folder / conf.stem)
        assert done.code == 0, done.stderr
    return {conf: folder / conf.stem for conf in (TINY, OFF_POLICY)}


@pytest.fixture
def run(finished_runs, tmp_path):
    """Return the directory of a run of PPO that may be changed."""
    return shutil.copytree(finished_runs[TINY], tmp_path / "run")


@pytest.fixture
def off_policy_run(finished_runs, tmp_path):
    """Return the directory of a run of SAC that may be changed."""
    return shutil.copytree(finished_runs[OFF_POLICY], tmp_path / "run")


def _go_on(commands, root_dir, *settings, num_iterations=8, conf=TINY):
    """Resume a run for some iterations."""
    return commands.run("train", "--conf", conf, "--root_dir", root_dir,
                        *_params(f"TrainerConfig.num_iterations={num_iterations}", *settings))


def test_a_damaged_newest_checkpoint_falls_back_although_the_replay_buffer_was_in_it(commands, off_policy_run):
    folder = _folder(off_policy_run)
    buffers = sorted(path.parent.name for path in folder.glob("ckpt-*/rollout-replay_buffer.safetensors"))
    assert buffers == ["ckpt-6"]
    with open(folder / "ckpt-6" / "algorithm.safetensors", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    done = _go_on(commands, off_policy_run, conf=OFF_POLICY)
    assert done.code == 0, done.stderr
    assert "DAMAGED CHECKPOINT, not used: " in done.stderr and "Going on from " in done.stderr
    assert "REPLAY BUFFER NOT IN THIS CHECKPOINT" in done.stderr
    assert "resumed from iteration 4 of " in done.stderr
    # Steps of the 4 iterations since, in each 3 of each environment.
    stored = load_file(folder / "ckpt-8" / "rollout-replay_buffer.safetensors")
    (sizes, ) = [value.tolist() for name, value in stored.items() if name.endswith("_current_size")]
    assert sizes == [12, 12] and checkpoints(off_policy_run)[-1] == 8


def test_golden_run_of_format_1_goes_on(commands, tmp_path):
    # Never written again: it is what this version's users have on their disks.
    shutil.copytree(pathlib.Path(__file__).parent / "golden_run", tmp_path / "run")
    done = _go_on(commands, tmp_path / "run")
    assert done.code == 0, done.stderr
    assert "resumed from iteration 6 of " in done.stderr and checkpoints(tmp_path / "run") == [6, 8]


def test_no_start_from_scratch_when_all_checkpoints_are_damaged(commands, run):
    for path in _folder(run).glob("ckpt-*/algorithm.json"):
        path.write_bytes(b"")
    done = _go_on(commands, run)
    assert done.code == 2
    assert "are damaged: " in done.stderr and "To start from scratch move the directory away." in done.stderr
    assert "Traceback" not in done.stderr


class _Witness:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


def test_code_in_what_looks_like_a_checkpoint_is_never_run(commands, run, tmp_path):
    witness = tmp_path / "code ran"
    hostile = pickle.dumps(_Witness(witness))
    _folder(run).joinpath("ckpt-9").write_bytes(hostile)  # the name and form of other frameworks
    shutil.copytree(_folder(run) / "ckpt-6", _folder(run) / "ckpt-8")
    for path in (_folder(run) / "ckpt-8").iterdir():
        path.write_bytes(hostile)
    done = _go_on(commands, run, num_iterations=9)
    assert done.code == 0, done.stderr
    assert "DAMAGED CHECKPOINT, not used: " in done.stderr and "resumed from iteration 6 of " in done.stderr
    assert not witness.exists()

    fresh = tmp_path / "fresh"
    _folder(fresh).mkdir(parents=True)
    (_folder(fresh) / "ckpt-9").write_bytes(hostile)
    done = commands.run("train", "--conf", TINY, "--root_dir", fresh)
    assert done.code == 0, done.stderr
    assert "It is not read: pickles can run code." in done.stderr
    assert not witness.exists()


def test_other_learning_rate_is_applied_and_told(commands, run):
    state = (_folder(run) / "ckpt-6" / "algorithm-optimizer.json").read_text()
    assert re.findall('"lr": ([0-9.]+)', state) == ["0.01"]
    done = _go_on(commands, run, "Agent.optimizer=alf.optimizers.Adam(lr=0.125)")
    assert done.code == 0, done.stderr
    state = (_folder(run) / "ckpt-8" / "algorithm-optimizer.json").read_text()
    assert re.findall('"lr": ([0-9.]+)', state) == ["0.125"]
    assert "the run goes on with other settings than before:" in done.stderr
    assert "TrainerConfig.num_iterations: 6 -> 8" in done.stderr
    assert re.search(r"Agent.optimizer: .*0\.01.* -> .*0\.125", done.stderr), done.stderr


def test_other_number_of_environments_begins_new_episodes(commands, run):
    done = _go_on(commands, run, "create_environment.num_parallel_environments=3")
    assert done.code == 0, done.stderr
    assert "2 environments in the checkpoint, 3 now: new episodes begin." in done.stderr
    assert "create_environment.num_parallel_environments: 2 -> 3" in done.stderr
    assert checkpoints(run)[-1] == 8


def test_other_number_of_environments_empties_the_replay_buffer(commands, off_policy_run):
    done = _go_on(commands, off_policy_run, "create_environment.num_parallel_environments=3", conf=OFF_POLICY)
    assert done.code == 0, done.stderr
    told = "2 environments in the checkpoint, 3 now: new episodes begin, and the replay buffer begins empty"
    assert told in done.stderr
    assert checkpoints(off_policy_run)[-1] == 8


def test_algorithm_that_fits_goes_on_and_is_told(commands, run):
    done = _go_on(commands, run, "Agent.rl_algorithm_cls="
                  "__import__('alf').algorithms.actor_critic_algorithm.ActorCriticAlgorithm")
    assert done.code == 0, done.stderr
    assert re.search("Agent.rl_algorithm_cls: .*PPOAlgorithm.* -> .*ActorCriticAlgorithm", done.stderr)


def test_algorithm_that_does_not_fit_is_told_by_its_parameters(commands, off_policy_run):
    done = _go_on(commands, off_policy_run, "_CONFIG._USER.method='td3'", conf=OFF_POLICY)
    assert done.code == 2
    assert "ckpt-6 does not fit:" in done.stderr
    assert re.search(r"algorithm: missing in the checkpoint: .*_target_actor_network", done.stderr), done.stderr
    assert re.search(r"algorithm: unexpected in the checkpoint: .*_log_alpha", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoints(off_policy_run) == [2, 4, 6]


def test_other_size_of_a_network_is_told_with_both_shapes(commands, run):
    done = _go_on(commands, run, "ValueNetwork.fc_layer_params=(7, )")
    assert done.code == 2
    assert re.search(r"algorithm\.\S*_value_network\S*: \(8, 4\) in the checkpoint, but now \(7, 4\)", done.stderr)
    assert "Traceback" not in done.stderr


def test_best_policy_of_evaluations_outlives_the_rotation(commands, tmp_path):
    evaluation = ("TrainerConfig.evaluate=True", "TrainerConfig.async_eval=False", "TrainerConfig.eval_interval=1")
    done = _go_on(commands, tmp_path, *evaluation, "TrainerConfig.num_checkpoints=12",
                  "TrainerConfig.num_checkpoints_to_keep=2", "TrainerConfig.num_eval_episodes=3", num_iterations=12)
    assert done.code == 0, done.stderr
    assert checkpoints(tmp_path) == [11, 12]
    returns = {int(step): float(value) for step, value in re.findall(r"evaluation at step (\d+): return ([0-9.]+)",
                                                                     done.stderr)}
    best = max(returns.values())
    first = min(step for step, value in returns.items() if value == best)
    assert os.listdir(_folder(tmp_path) / "best") == [f"ckpt-{first}"]
    manifest = json.loads((_folder(tmp_path) / "best" / f"ckpt-{first}" / "manifest.json").read_text())
    assert manifest["score"] == pytest.approx(best, abs=1e-3)
    play = ["play", "--root_dir", tmp_path, "--norender", "--num_episodes", 1, "--checkpoint_step"]
    played = commands.run(*play, "best")
    assert played.code == 0 and played.stdout.startswith(f"checkpoint {first}\n"), played.stderr
    refused = commands.run(*play, "beste")
    assert refused.code == 2 and "'best' or 'latest'" in refused.stderr
    # A run that goes on knows what was best.
    done = _go_on(commands, tmp_path, *evaluation, "TrainerConfig.num_eval_episodes=1", num_iterations=13)
    assert done.code == 0, done.stderr
    (kept, ) = (_folder(tmp_path) / "best").iterdir()
    assert json.loads((kept / "manifest.json").read_text())["score"] >= best - 1e-3


NEW_EPISODES = "The environments cannot go on from where they were; new episodes begin: "


@pytest.mark.parametrize("workers", [("0", "None"), ("None", "0")], ids=["to a native batch", "from a native batch"])
def test_environments_of_gymnasium_and_native_ones_take_over_from_each_other(commands, tmp_path, workers):
    first, second = (f"create_environment.num_workers={number}" for number in workers)
    done = _go_on(commands, tmp_path, first, num_iterations=4)
    assert done.code == 0, done.stderr
    done = _go_on(commands, tmp_path, second, num_iterations=8)
    assert done.code == 0, done.stderr
    assert NEW_EPISODES in done.stderr and "native batch of CartPole" in done.stderr
    assert "resumed from iteration 4 of " in done.stderr and checkpoints(tmp_path)[-1] == 8


def test_another_wrapper_begins_new_episodes_and_ends_those_in_the_replay_buffer(commands, off_policy_run):
    done = _go_on(
        commands, off_policy_run,
        "suite_gym.load.gym_env_wrappers=(__import__('gymnasium').wrappers.FlattenObservation, )", conf=OFF_POLICY)
    assert done.code == 0, done.stderr
    (told, ) = [line for line in done.stderr.splitlines() if NEW_EPISODES in line]
    saved, found = told.split(", got ")
    assert "FlattenObservation" in found and "FlattenObservation" not in saved and saved.count("PendulumEnv") == 1
    stored = load_file(_folder(off_policy_run) / "ckpt-8" / "rollout-replay_buffer.safetensors")
    (step_type, ) = [value for name, value in stored.items() if name.endswith("step_type")]
    # Six iterations of three steps, then two of new episodes.
    assert step_type[:, :24].tolist() == [[0] + [1] * 16 + [2] + [0] + [1] * 5] * 2


def _change(folder, name, change):
    """Change a JSON or tensor file of a checkpoint, with checksums that fit."""
    file = folder / name
    if file.suffix == ".json":
        file.write_text(json.dumps(change(json.loads(file.read_text()))))
    else:
        save_file(change(load_file(file)), file)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    manifest["files"][name] = _checkpoint_files._seal(str(file))
    (folder / "manifest.json").write_bytes(_checkpoint_files._dump_manifest(manifest))


def _first_row(tensors):
    """Cut what has several rows to one, in the first of the tensors that has."""
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    return {**tensors, name: tensors[name][:1].clone()}


@pytest.mark.parametrize("name, change, told", [
    ("trainer_progress.json", lambda state: {**state, "iterations": -5}, "trainer_progress: iterations: expected"),
    ("trainer_progress.json", lambda state: {**state, "env_steps": "many"}, "trainer_progress: env_steps: expected"),
    ("trainer_progress.json", lambda state: {"iterations": 6}, "trainer_progress: "),
    ("trainer_progress.json", lambda state: [1], "trainer_progress: "),
    ("rng.json", lambda state: {}, "rng: "),
    ("rng.json", lambda state: {**state, "python": {**state["python"], "internal": [1, 2]}}, "rng: "),
    ("rollout.json", lambda state: [1, 2], "rollout: expected entries by name"),
    ("rollout.json", lambda state: {"a": 1}, "rollout: expected unroll_carry"),
    ("algorithm-optimizer.safetensors", _first_row, "exp_avg: expected a tensor ["),
    ("algorithm-optimizer.safetensors", lambda state: {k: v * float("nan") if v.is_floating_point() else v
                                                       for k, v in state.items()}, ": NaN"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_contents_that_mean_nothing_are_told_and_the_checkpoint_before_is_used(commands, run, name, change, told):
    _change(_folder(run) / "ckpt-6", name, change)
    done = _go_on(commands, run)
    assert done.code == 0, done.stderr
    assert "DAMAGED CHECKPOINT, not used: " in done.stderr and told in done.stderr
    assert "resumed from iteration 4 of " in done.stderr and "Traceback" not in done.stderr


def test_a_replay_buffer_of_other_shapes_is_told(commands, off_policy_run):
    def cut(tensors):
        name = next(name for name in tensors if name.endswith("_current_pos"))
        return {**tensors, name: -tensors[name]}

    _change(_folder(off_policy_run) / "ckpt-6", "rollout-replay_buffer.safetensors", cut)
    done = _go_on(commands, off_policy_run, conf=OFF_POLICY)
    assert done.code == 2
    assert "The replay buffer in the checkpoint does not fit, or is damaged: " in done.stderr
    assert "'_current_pos': expected int64 [2] from [18, 18] on" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["train", "train/algorithm", "train.log", "run.json"])
def test_a_run_directory_with_something_else_in_it_ends_with_2(commands, run, place):
    path = pathlib.Path(run, place)
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()
    done = _go_on(commands, run)
    assert done.code == 2, done.stderr
    assert f"{path}: expected a " in done.stderr and ", got a " in done.stderr and "Traceback" not in done.stderr
