"""Equal seeds, equal runs: bit for bit, on the CPU."""

import json
import pathlib
import subprocess
import sys

import pytest
import torch
from command_line import ROOT
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent


def _state(root_dir, iteration: int) -> dict:
    """Return every tensor and number of a checkpoint, time aside."""
    state = {}
    for path in pathlib.Path(root_dir, "train", "algorithm", f"ckpt-{iteration}").iterdir():
        if path.suffix == ".safetensors":
            state.update((f"{path.name}/{name}", tensor) for name, tensor in load_file(path).items())
        elif path.name != "manifest.json" and "progress" not in path.name:
            state[path.name] = json.loads(path.read_text())
    return state


def _assert_equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        equal = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert equal, name


@pytest.mark.parametrize("conf", ["tiny_conf.py", "a2c_conf.py"])
def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(commands, tmp_path, conf):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = commands.run("train", "--conf", HERE / conf, "--root_dir", tmp_path / name, "--conf_param",
                            f"TrainerConfig.random_seed={seed}")
        assert done.code == 0, done.stderr
    _assert_equal(_state(tmp_path / "a", 6), _state(tmp_path / "b", 6))
    with pytest.raises(AssertionError):
        _assert_equal(_state(tmp_path / "a", 6), _state(tmp_path / "c", 6))


def test_what_is_loaded_is_what_was_saved(commands, tmp_path):
    """Counters, parameters, optimizers, metrics, random numbers: to resume and save at once saves the same."""
    done = commands.run("train", "--conf", HERE / "tiny_conf.py", "--root_dir", tmp_path)
    assert done.code == 0, done.stderr
    script = tmp_path / "resave.py"
    script.write_text(f"""
import alf
from alf.algorithms.config import TrainerConfig
from alf.trainers.policy_trainer import RLTrainer
alf.parse_config({str(tmp_path / 'alf_config.py')!r}, [])
trainer = RLTrainer(TrainerConfig(root_dir={str(tmp_path)!r}))
trainer._restore_checkpoint()
assert trainer.current_iterations() == 6 and trainer.current_env_steps() == 90, trainer.current_env_steps()
assert alf.summary.get_global_counter() == 6
assert trainer.progress() == 1.0
trainer._progress.iterations = 7
trainer._save_checkpoint()
alf.close_env()
""")
    resaved = subprocess.run([sys.executable, str(script)], cwd=ROOT, capture_output=True, text=True)
    assert resaved.returncode == 0, resaved.stderr
    _assert_equal(_state(tmp_path, 6), _state(tmp_path, 7))
