"""TrainerConfig refuses what cannot be meant, in words that say what to set."""

import pytest
from absl import logging

from alf.algorithms.config import TrainerConfig


@pytest.mark.parametrize("name,value,words", [
    ("num_iterations", -1, "a number >= 0"),
    ("num_env_steps", -5, "a number >= 0"),
    ("num_env_steps", float("nan"), "a number >= 0"),
    ("unroll_length", -0.5, "a number >= 0"),
    ("num_updates_per_train_iter", 0, "a number >= 1"),
    ("mini_batch_length", 0, "a number >= 1"),
    ("mini_batch_size", 0, "a number >= 1"),
    ("mini_batch_size", "256", "a number >= 1"),
    ("mini_batch_size", True, "a number >= 1"),
    ("summary_interval", 0, "a number >= 1"),
    ("eval_interval", 0, "a number >= 1"),
    ("num_eval_environments", 0, "a number >= 1"),
    ("replay_buffer_length", 0, "a number >= 1"),
    ("epsilon_greedy", 1.5, "a number from 0 to 1"),
    ("ml_type", "dl", r"one of \['rl', 'sl'\]"),
])
def test_value_out_of_range(name, value, words):
    told = rf"TrainerConfig.{name}: expected {words}, got .*alf.config\(\"TrainerConfig\", {name}=...\)"
    with pytest.raises(ValueError, match=told):
        TrainerConfig(root_dir="x", **{name: value})


def test_a_run_must_have_an_end():
    with pytest.raises(ValueError, match="num_iterations > 0 or num_env_steps > 0.*never end"):
        TrainerConfig(root_dir="x", num_iterations=0)
    TrainerConfig(root_dir="x", num_iterations=0, num_env_steps=10)


def test_a_run_must_step_its_environments():
    with pytest.raises(ValueError, match="unroll_length: expected a number > 0, because there is neither"):
        TrainerConfig(root_dir="x", unroll_length=0)
    TrainerConfig(root_dir="x", unroll_length=0, async_unroll=True)


def test_priorities_contradict_training_on_all():
    with pytest.raises(ValueError, match="priority_replay=True .*whole_replay_buffer_training=True"):
        TrainerConfig(root_dir="x", priority_replay=True)


@pytest.mark.parametrize("length,told", [(5000, True), (9, False), (1024, False)])
def test_a_buffer_length_that_has_no_effect_is_told(length, told, monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: warnings.append(message % args))
    TrainerConfig(root_dir="x", unroll_length=8, replay_buffer_length=length)
    assert bool(warnings) == told
    if told:
        assert "replay_buffer_length=5000 has no effect" in warnings[0]
        assert "unroll_length + 1 = 9 steps" in warnings[0]
    warnings.clear()
    TrainerConfig(root_dir="x", replay_buffer_length=length, clear_replay_buffer=False)
    assert not warnings


def test_only_keyword_arguments():
    with pytest.raises(TypeError):
        TrainerConfig("x")
