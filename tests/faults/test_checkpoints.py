"""What a run makes of its checkpoints when they are damaged, old, hostile, or of other settings."""

import json
import os
import pathlib
import pickle
import re
import shutil

import pytest
from command_line import checkpoints
from safetensors.torch import load_file

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
