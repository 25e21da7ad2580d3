"""What evaluations and recordings compare episodes by."""

import types

import pytest
import torch

from alf.data_structures import StepType, TimeStep
from alf.trainers import _player
from alf.trainers._sync_evaluator import score_of

WEIGHTS = torch.tensor([1.0, 0.0])


@pytest.mark.parametrize("result, weights, score", [
    (torch.tensor(3.0), None, 3.0), (torch.tensor([3.0, -7.0]), torch.ones(2), -4.0),
    (torch.tensor([3.0, -7.0]), WEIGHTS, 3.0)])
def test_scores_are_of_what_the_policy_maximises(result, weights, score):
    metrics = [types.SimpleNamespace(name=name, result=lambda: result) for name in ("other", "AverageReturn")]
    assert score_of(metrics, weights) == score


def test_the_recorder_keeps_the_best_and_the_worst_by_the_same_measure(monkeypatch, tmp_path):
    monkeypatch.setattr(_player, "_frame", lambda env: torch.zeros(16, 16, 3, dtype=torch.uint8).numpy())
    recorder = _player._Recorder(None, str(tmp_path / "v.mp4"), 3, 0, 0, selective_mode=True, reward_weights=WEIGHTS)
    for episode_return in (2.0, 5.0, 1.0):  # by the plain sum their order would be the opposite
        for step_type in (StepType.FIRST, StepType.LAST):
            reward = torch.tensor([[episode_return, -2 * episode_return]]) * (step_type == StepType.LAST)
            recorder.observe(TimeStep(step_type=torch.tensor([int(step_type)]), reward=reward), None)
    assert {kind: kept[0] for kind, kept in recorder._kept.items()} == {"best": 5.0, "worst": 1.0}
    recorder.close()


def test_an_only_episode_is_recorded_once(monkeypatch, tmp_path):
    monkeypatch.setattr(_player, "_frame", lambda env: torch.zeros(16, 16, 3, dtype=torch.uint8).numpy())
    recorder = _player._Recorder(None, str(tmp_path / "v.mp4"), 1, 0, 0, selective_mode=True, reward_weights=None)
    for step_type in (StepType.FIRST, StepType.MID, StepType.LAST):
        recorder.observe(TimeStep(step_type=torch.tensor([int(step_type)]), reward=torch.ones(1)), None)
    recorder.close()
    assert recorder._writer.num_frames == 3
