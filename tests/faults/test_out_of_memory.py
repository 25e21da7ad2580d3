"""Memory that runs out while training: what to change is told, and what was learned is kept."""

import pathlib

import pytest
import torch

from alf.algorithms.config import TrainerConfig
from alf.trainers._out_of_memory import advice

CONF = pathlib.Path(__file__).parent / "confs" / "out_of_memory_conf.py"


def test_memory_that_runs_out_in_an_update_keeps_what_was_learned(commands, tmp_path):
    arguments = ["train", "--conf", CONF, "--root_dir", tmp_path / "run", "--conf_param",
                 f"_CONFIG._USER.marker='{tmp_path}/full'"]
    command = commands.run(*arguments)
    assert command.code == 1, command.stderr
    for word in ("can't allocate memory", "An update takes 8 sequences of 1 steps", "mini_batch_size=4",
                 "saved iteration"):
        assert word in command.stderr, command.stderr
    command.assert_nobody_left()
    again = commands.run(*arguments)
    assert again.code == 0 and "resumed from iteration 3 of " in again.stderr, again.stderr


@pytest.mark.parametrize("error, is_told", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
    (MemoryError("Unable to allocate 3 TiB"), True),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
])
def test_only_errors_about_memory_are_explained(error, is_told):
    told = advice(error, TrainerConfig(root_dir="", unroll_length=16), num_envs=32)
    assert (told is not None) is is_told
    if is_told:
        assert "An update takes 32 sequences of 16 steps" in told and "mini_batch_size=16" in told
        assert ("on the GPU" in told) is isinstance(error, torch.OutOfMemoryError)
