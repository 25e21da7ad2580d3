"""Q-learning, the example of an algorithm of one's own: its loss by hand, and a few iterations of its conf."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from alf.data_structures import StepType
from alf.examples.tutorial.q_learning_algorithm import QLearningAlgorithm, QLearningInfo
from alf.networks import QNetwork
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def algorithm():
    return QLearningAlgorithm(
        TensorSpec((2, )), BoundedTensorSpec((), torch.int64, 0, 2), gamma=0.5, epsilon=0.0, target_update_period=2,
        q_network_cls=functools.partial(QNetwork, fc_layer_params=(4, )), optimizer=Adam(lr=0.1))


def test_loss_bootstraps_at_time_limits_and_not_at_terminations(algorithm):
    mid, last = int(StepType.MID), int(StepType.LAST)
    loss = algorithm.calc_loss(QLearningInfo(
        action=torch.zeros(2, 3, dtype=torch.int64),
        value=torch.tensor([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]]),
        next_value=torch.tensor([[9.0, 9.0, 9.0], [4.0, 4.0, 4.0]]),
        reward=torch.tensor([[9.0, 9.0, 9.0], [2.0, 2.0, 2.0]]),
        discount=torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]]),
        step_type=torch.tensor([[mid, mid, last], [last, last, mid]], dtype=torch.int32))).loss
    # 2 + 0.5 * 4 - 1 = 3 at a time limit, 2 - 1 = 1 at a termination, nothing begins at LAST.
    assert loss.tolist() == [[9.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_target_network_follows_in_every_second_update(algorithm):
    with torch.no_grad():
        for parameter in algorithm._q_network.parameters():
            parameter.add_(1.0)
    pairs = list(zip(algorithm._q_network.parameters(), algorithm._target_network.parameters(), strict=True))
    algorithm.after_update((), ())
    assert not any(torch.equal(ours, target) for ours, target in pairs)
    algorithm.after_update((), ())
    assert all(torch.equal(ours, target) for ours, target in pairs)


def test_its_conf_trains(tmp_path):
    settings = ["TrainerConfig.num_iterations=4", "TrainerConfig.initial_collect_steps=100"]
    process = subprocess.run(
        [sys.executable, "-m", "alf.bin.train", "--conf", "tutorial/q_learning_conf.py", "--root_dir", str(tmp_path),
         *[word for setting in settings for word in ("--conf_param", setting)]],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "train" / "algorithm" / "ckpt-4").is_dir()
    assert "loss/q_loss" in (tmp_path / "train" / "metrics.jsonl").read_text()
