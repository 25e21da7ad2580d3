"""Values that no setting of a training run can have are refused, by the name of the setting and who set it."""

import dataclasses
import math
import typing

import numpy as np
import pytest

import alf
from alf.algorithms.config import TrainerConfig

NUMBERS = {bool: [0, 1, 0.5, -1, math.nan, math.inf, "x"], int: [math.inf, -math.inf, math.nan, 2.5, True, "x", 2**63],
           float: [math.inf, math.nan, True, "x"]}
OUT_OF_RANGE = [("num_eval_episodes", 0), ("random_seed", -1), ("random_seed", 2**31), ("leave_within_seconds", 1e30),
                ("leave_within_seconds", -1.0), ("epsilon_greedy", 1.5), ("num_evals", 0), ("unroll_length", 0)]


def impossible_values():
    for field in dataclasses.fields(TrainerConfig):
        kinds = typing.get_args(field.type) or (field.type, )
        for kind in set(kinds) & NUMBERS.keys():
            values = NUMBERS[kind] + ([] if type(None) in kinds else [None])
            yield from ((field.name, value) for value in values)
    yield from OUT_OF_RANGE


@pytest.mark.parametrize("name, value", list(impossible_values()))
def test_impossible_value_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"TrainerConfig\.{name}: expected .*, got .*alf\.config"):
        TrainerConfig(root_dir="", **{name: value})


def test_every_number_is_checked():
    checked = {name for name, _ in impossible_values()}
    unchecked = {field.name for field in dataclasses.fields(TrainerConfig)} - checked
    assert {"num_iterations", "evaluate", "random_seed", "unroll_length"} <= checked
    assert not [name for name in unchecked if isinstance(getattr(TrainerConfig, name, None), (int, float))
                and not name.startswith("priority_replay_")]  # numbers or schedulers


def test_whole_number_may_be_written_as_a_float():
    config = TrainerConfig(root_dir="", num_env_steps=1e6, num_iterations=np.int64(5))
    assert config.num_env_steps == 10**6 and type(config.num_env_steps) is type(config.num_iterations) is int


def test_refusal_says_who_set_the_value(tmp_path):
    conf = tmp_path / "endless_conf.py"
    conf.write_text("import alf\n\nalf.config('TrainerConfig', num_iterations=float('inf'))\n")
    alf.import_config(str(conf))
    with pytest.raises(ValueError, match=r"num_iterations: .* got inf, set by .*endless_conf\.py:3\. Set it with"):
        TrainerConfig(root_dir="")
