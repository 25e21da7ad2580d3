"""What confs use beside `alf.config`: the environment, its specs, and values of the command line."""


import pytest
import torch

import alf
from alf import config_helpers
from alf.config_util import reset_configs
from alf.environments import suite_unittest
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import common

TINY = """
import alf
from alf.algorithms.data_transformer import FrameStacker
alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=3, num_workers=0)
alf.config("TrainerConfig", random_seed=7, data_transformer_ctor=FrameStacker)
"""


@pytest.fixture
def conf(tmp_path):
    """Return a function that writes a conf and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "some_conf.py"
        path.write_text(TINY + text)
        return str(path)

    return write


def test_a_conf_has_its_environment_and_specs(conf):
    alf.parse_config(conf("spec = alf.get_raw_observation_spec(); stacked = alf.get_observation_spec()\n"), [])
    assert alf.get_env().batch_size == 3
    assert alf.get_raw_observation_spec().shape == (4, )
    assert alf.get_observation_spec().shape == (16, )  # four frames
    assert alf.get_action_spec() == BoundedTensorSpec((), torch.int64, 0, 1)
    assert alf.get_reward_spec() == TensorSpec(())
    assert config_helpers.get_data_transformer().transformed_observation_spec.shape == (16, )
    assert config_helpers.random_seed() == 7


def test_data_transformers_may_be_set_after_the_specs_that_they_do_not_change(tmp_path):
    path = tmp_path / "some_conf.py"
    path.write_text("""
import functools
import alf
from alf.algorithms.data_transformer import FrameStacker
alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=3, num_workers=0)
stack_size = alf.get_raw_observation_spec().numel + alf.get_action_spec().numel + alf.get_reward_spec().numel
alf.config("TrainerConfig", data_transformer_ctor=functools.partial(FrameStacker, stack_size=stack_size))
""")
    alf.parse_config(str(path), [])
    assert alf.get_observation_spec().shape == (24, )  # six frames
    assert common.get_observation_spec().shape == (24, )


def test_data_transformers_cannot_be_set_after_what_they_make_of_observations(conf):
    with pytest.raises(ValueError, match="data_transformer_ctor has already been used"):
        alf.parse_config(conf('alf.get_observation_spec()\nalf.config("TrainerConfig", data_transformer_ctor=None)\n'),
                         [])


def test_halves_of_the_unroll_are_parts_of_the_environment(conf):
    halves = 'alf.config("TrainerConfig", unroll_halves=True)\n'
    alf.parse_config(conf(halves), ["create_environment.num_parallel_environments=4"])
    assert alf.get_env().num_parts == 2


def test_closing_the_environment_lets_another_be_made(conf):
    alf.parse_config(conf(""), [])
    env = alf.get_env()
    alf.close_env()
    alf.close_env()  # twice is fine
    assert not common.has_env()
    assert alf.get_env() is not env


def test_command_line_values_win(conf):
    with pytest.warns(UserWarning, match="was set to 2 for good by --conf_param; 3 set here is ignored"):
        alf.parse_config(conf(""), ["create_environment.num_parallel_environments=2",
                                    "TrainerConfig.random_seed=int(math.pi)",
                                    "TrainerConfig.algorithm_ctor=torch.nn.Linear"])
    assert alf.get_env().batch_size == 2
    assert alf.get_config_value("TrainerConfig.random_seed") == 3
    assert alf.get_config_value("TrainerConfig.algorithm_ctor") is torch.nn.Linear


@pytest.mark.parametrize("param, words", [
    ("a.b", "expected 'name=value', got 'a.b'"),
    ("=3", "expected 'name=value', got '=3'"),
    ("a.b=text", "the value of a.b is not a Python expression: 'text' (NameError"),
    ("a.b=text", """If it is a string, quote it: --conf_param 'a.b="text"'"""),
    ("a.b=it's", """quote it: --conf_param 'a.b="it'"'"'s"'"""),
    ("a.b=1 +", "the value of a.b is not a Python expression: '1 +' (SyntaxError"),
    ("nosuchthing=1", "Cannot find config name nosuchthing (--conf_param)"),
])
def test_wrong_command_line_values_are_told(conf, param, words):
    with pytest.raises(ValueError) as raised:
        alf.parse_config(conf(""), [param])
    assert words in str(raised.value)


@pytest.mark.filterwarnings("ignore:.*for good by")
def test_saved_copy_knows_the_modules_that_command_line_values_need(conf, tmp_path):
    alf.parse_config(conf(""), ["TrainerConfig.algorithm_ctor=torch.nn.Linear",
                                "TrainerConfig.random_seed=int(math.pi)"])
    alf.save_config(str(tmp_path / "copy" / "alf_config.py"))
    alf.close_env()
    reset_configs()
    alf.parse_config(str(tmp_path / "copy" / "alf_config.py"), [])
    assert alf.get_config_value("TrainerConfig.algorithm_ctor") is torch.nn.Linear
    assert alf.get_config_value("TrainerConfig.random_seed") == 3


def test_the_environment_may_be_made_otherwise(conf):
    def make():
        return suite_unittest.ValueUnittestEnv(batch_size=5, episode_length=3)

    with config_helpers.environment_made_by(make):
        alf.parse_config(conf("alf.get_observation_spec()\n"), [])
    assert alf.get_env().batch_size == 5
    alf.close_env()
    assert alf.get_env().batch_size == 3


def test_random_seed_is_drawn_once_and_kept():
    first = config_helpers.random_seed()
    assert config_helpers.random_seed() == first
    config_helpers.use_random_seed(12)
    assert config_helpers.random_seed() == 12
    alf.config("TrainerConfig", random_seed=3, raise_if_used=False)
    assert config_helpers.random_seed() == 3


def test_sizes_are_divided_among_processes():
    alf.config("create_environment", num_parallel_environments=10)
    alf.config("TrainerConfig", mini_batch_size=7, num_env_steps=100, evaluate=True)
    config_helpers.adjust_config_by_multi_process_divider(ddp_rank=1, multi_process_divider=4)
    assert alf.get_config_value("create_environment.num_parallel_environments") == 3
    assert alf.get_config_value("TrainerConfig.mini_batch_size") == 2
    assert alf.get_config_value("TrainerConfig.num_env_steps") == 25
    assert alf.get_config_value("TrainerConfig.initial_collect_steps") == 0
    assert alf.get_config_value("TrainerConfig.evaluate") is False


def test_no_division_for_one_process():
    alf.config("TrainerConfig", mini_batch_size=7)
    config_helpers.adjust_config_by_multi_process_divider(0, 1)
    assert alf.get_config_value("TrainerConfig.mini_batch_size") == 7
