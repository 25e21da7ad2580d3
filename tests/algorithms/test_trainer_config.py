"""TrainerConfig refuses what cannot be meant, in words that say what to set."""

import ast
import dataclasses
import pathlib

import pytest
from absl import logging

import alf.algorithms.config as config_module
from alf.algorithms.config import TrainerConfig


@pytest.mark.parametrize("name,value,words", [
    ("num_iterations", -1, "a number >= 0"),
    ("num_env_steps", -5, "a number >= 0"),
    ("num_env_steps", float("nan"), "a whole number"),
    ("unroll_length", -0.5, "a number >= 0"),
    ("num_updates_per_train_iter", 0, "a number >= 1"),
    ("mini_batch_length", 0, "a number >= 1"),
    ("mini_batch_size", 0, "a number >= 1"),
    ("mini_batch_size", "256", "a whole number"),
    ("mini_batch_size", True, "a whole number"),
    ("summary_interval", 0, "a number >= 1"),
    ("eval_interval", 0, "a number >= 1"),
    ("num_eval_environments", 0, "a number >= 1"),
    ("replay_buffer_length", 0, "a number >= 1"),
    ("replay_buffer_length", 10.5, "a whole number"),
    ("mini_batch_size", 2.5, "a whole number"),
    ("num_env_steps", float("inf"), "a whole number"),
    ("replay_ratio", "4", "a finite number"),
    ("replay_ratio", 0, "None or a number > 0"),
    ("priority_replay_eps", -1e-6, "a number >= 0"),
    ("priority_replay_alpha", -0.5, "a number >= 0 or a scheduler"),
    ("priority_replay_beta", "a", "a number >= 0 or a scheduler"),
    ("epsilon_greedy", 1.5, "a number from 0 to 1"),
    ("ml_type", "dl", r"one of \['rl', 'sl'\]"),
])
def test_value_out_of_range(name, value, words):
    told = rf"TrainerConfig.{name}: expected {words}, got .*alf.config\(\"TrainerConfig\", {name}=...\)"
    with pytest.raises(ValueError, match=told):
        TrainerConfig(root_dir="x", **{name: value})


def test_whole_floats_are_counts():
    config = TrainerConfig(root_dir="x", replay_buffer_length=1e4, num_env_steps=1e6, mini_batch_size=64.0,
                           unroll_length=0.5, whole_replay_buffer_training=False)
    counts = (config.replay_buffer_length, config.num_env_steps, config.mini_batch_size)
    assert counts == (10000, 1000000, 64) and all(type(count) is int for count in counts)
    assert config.unroll_length == 0.5


def test_exponents_of_priorities_may_be_schedulers():
    TrainerConfig(root_dir="x", priority_replay_alpha=lambda: 0.5, priority_replay_beta=lambda: 1.0)


def test_the_directory_may_be_given_by_position_and_nothing_else():
    assert TrainerConfig("x").root_dir == "x"
    with pytest.raises(TypeError):
        TrainerConfig("x", "some_conf.py")


def test_a_run_must_have_an_end():
    with pytest.raises(ValueError, match="num_iterations > 0 or num_env_steps > 0.*never end"):
        TrainerConfig(root_dir="x", num_iterations=0)
    TrainerConfig(root_dir="x", num_iterations=0, num_env_steps=10)


def test_a_run_must_step_its_environments():
    with pytest.raises(ValueError, match="unroll_length: expected a number > 0, because there is neither"):
        TrainerConfig(root_dir="x", unroll_length=0)
    TrainerConfig(root_dir="x", unroll_length=0, async_unroll=True)
    offline = dict(root_dir="x", unroll_length=0, offline_buffer_dir="y", whole_replay_buffer_training=False,
                   mini_batch_length=2, mini_batch_size=2, num_env_steps=100)
    TrainerConfig(**offline)
    with pytest.raises(ValueError, match="num_iterations: expected a number > 0 with unroll_length=0.*never end"):
        TrainerConfig(**offline, num_iterations=0)


def test_an_unroll_must_fit_into_the_queue():
    for unroll_length, keeps_last, least in ((64, False, 64), (64, True, 65), (0.5, False, 1), (7.5, True, 9)):
        settings = dict(root_dir="x", unroll_length=unroll_length, async_unroll=True, mini_batch_length=2,
                        whole_replay_buffer_training=keeps_last, clear_replay_buffer=keeps_last)
        TrainerConfig(**settings, unroll_queue_size=least)
        if least > 1:
            with pytest.raises(ValueError, match=f"unroll_queue_size: expected at least {least} with unroll_length="):
                TrainerConfig(**settings, unroll_queue_size=least - 1)


def test_priorities_contradict_training_on_all():
    with pytest.raises(ValueError, match="priority_replay=True .*whole_replay_buffer_training=True"):
        TrainerConfig(root_dir="x", priority_replay=True)


def test_initial_steps_that_are_not_kept_are_told(monkeypatch):
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: warnings.append(message % args))
    TrainerConfig(root_dir="x", initial_collect_steps=100)
    assert len(warnings) == 1 and "initial_collect_steps=100 has no effect" in warnings[0]
    assert "set clear_replay_buffer=False" in warnings[0]
    TrainerConfig(root_dir="x", initial_collect_steps=100, clear_replay_buffer=False)
    TrainerConfig(root_dir="x", initial_collect_steps=100, whole_replay_buffer_training=False)
    assert len(warnings) == 1


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


def _fields_read_in(tree: ast.AST, of: str) -> set:
    """Return the names of attributes that code reads of what has a name that ends with ``of``."""
    reads = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    return {node.attr for node in reads
            if getattr(node.value, "attr", getattr(node.value, "id", "")).endswith(of)}


# field -> why no code reads it of the configs
UNREAD = {
    "data_transformer_ctor": "get_data_transformer reads it by its address, before there are configs",
    "confirm_checkpoint_upon_crash": "a crash leaves the last checkpoint, and never asks",
    "no_thread_env_for_conf": "no environment is ever made only to list its configs",
}


def test_every_field_is_read_or_has_a_reason_not_to_be():
    here = pathlib.Path(config_module.__file__)
    package = here.parents[1]
    read = set()
    for path in package.rglob("*.py"):
        if path != here and "examples" not in path.parts:
            read |= _fields_read_in(ast.parse(path.read_text(encoding="utf-8")), "config")
    # What properties of the configs read, which are read themselves.
    own, = [node for node in ast.parse(here.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    for method in own.body:
        if isinstance(method, ast.FunctionDef) and method.name in read:
            read |= _fields_read_in(method, "self")
    fields = {field.name for field in dataclasses.fields(TrainerConfig)}
    assert fields - read == UNREAD.keys()
