"""Mistakes of a user, each told in a few words, without a traceback, with exit code 2, and before anything is made."""

import pathlib

import pytest
from command_line import checkpoints

CONFS = pathlib.Path(__file__).parent / "confs"


def _told(commands, root_dir, *arguments, **kwargs) -> str:
    command = commands.run("train", "--root_dir", root_dir, *arguments, **kwargs)
    assert command.code == 2, command.stderr
    assert "Traceback" not in command.stderr
    assert not pathlib.Path(root_dir).exists()
    return command.stderr[command.stderr.index("error: "):]


@pytest.mark.parametrize("name, words", [
    ("unknown_argument", ["Cannot find config name PPOLoss.gama (", "unknown_argument_conf.py:10)",
                          "Did you mean PPOLoss.gamma?"]),
    ("unknown_name", ["Cannot find config name PPOLos.gamma (", "unknown_name_conf.py:10)",
                      "Did you mean PPOLoss.gamma?"]),
    ("ambiguous", ["max_episode_steps", "ambiguous_conf.py:10", "suite_gym.load.max_episode_steps",
                   "suite_gym.wrap_env.max_episode_steps"]),
    ("wrong_type", ["TrainerConfig.num_iterations: expected int, got 'many' (str)", "wrong_type_conf.py:10"]),
    ("out_of_range", ["TrainerConfig.eval_interval: expected a number >= 1, got 0", "alf.config("]),
    ("after_use", ["create_environment.env_name has already been used", "It is set to 'MountainCar-v0' by ",
                   "after_use_conf.py:8", "Move the setting above line 7 of ", "alf.get_observation_spec()"]),
    ("syntax_error", ["syntax_error_conf.py, line 5: '(' was never closed", '    alf.config("TrainerConfig",', "^"]),
    ("python_error", ["ZeroDivisionError: division by zero", "python_error_conf.py\", line 12, in half",
                      "python_error_conf.py\", line 15"]),
    ("missing_module", ["ModuleNotFoundError: No module named 'nosuchmodule'", "missing_module_conf.py\", line 10"]),
    ("unknown_environment", ["got 'CartPol-v1'. Did you mean 'CartPole-v1'"]),
    ("wrong_constructor_argument", ["got an unexpected keyword argument 'optimzer'"]),
])
def test_mistake_in_a_conf_is_told(commands, tmp_path, name, words):
    told = _told(commands, tmp_path / "run", "--conf", CONFS / f"{name}_conf.py")
    for word in words:
        assert word in told, told


def test_missing_conf_names_the_nearest_example(commands, tmp_path):
    told = _told(commands, tmp_path / "run", "--conf", "ppo_cart_pol")
    assert "--conf ppo_cart_pol: no such file. Did you mean ppo_cart_pole_conf.py" in told
    assert _told(commands, tmp_path / "run") == (
        f"error: --root_dir {tmp_path}/run: no run there (no alf_config.py). Pass --conf to begin one.\n")


def test_missing_conf_like_no_other_is_told_where_examples_are(commands, tmp_path):
    told = _told(commands, tmp_path / "run", "--conf", "nosuch_conf.py")
    assert "no such file. Examples of confs are in " in told and "Did you mean" not in told


def test_conf_that_is_a_directory_is_told(commands, tmp_path):
    assert "is a directory" in _told(commands, tmp_path / "run", "--conf", CONFS)


def test_conf_that_is_not_utf8_or_imports_itself_is_told(commands, tmp_path):
    (tmp_path / "latin_conf.py").write_bytes("# Grüße\n".encode("latin-1"))
    told = _told(commands, tmp_path / "run", "--conf", tmp_path / "latin_conf.py")
    assert "latin_conf.py, line 1: not valid UTF-8 (byte 0xfc). Save it as UTF-8" in told
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}_conf.py").write_text(f"import alf\nalf.import_config('{other}_conf.py')\n")
    told = _told(commands, tmp_path / "run", "--conf", tmp_path / "a_conf.py")
    assert "import each other in a circle" in told and "b_conf.py:2): a_conf.py -> b_conf.py -> a_conf.py" in told


@pytest.mark.parametrize("param, words", [
    ("PPOLoss.gamma=0.9.9", "the value of PPOLoss.gamma is not a Python expression: '0.9.9'"),
    ("PPOLoss.gamma", "expected 'name=value', got 'PPOLoss.gamma'"),
    ("PPOLoss.gama=0.9", "Cannot find config name PPOLoss.gama (--conf_param)"),
    ("TrainerConfig.num_iterations='x'", "expected int, got 'x' (str), set by --conf_param"),
    ("TrainerConfig.num_iterations=None", "expected int, got None (NoneType), set by --conf_param"),
    ("TrainerConfig.num_iterations=-1", "TrainerConfig.num_iterations: expected a number >= 0, got -1"),
    ("create_environment.num_parallel_environments=2.5", "expected int, got 2.5 (float), set by --conf_param"),
    ("create_environment.num_parallel_environments=0", "num_parallel_environments: must be >= 1, got 0"),
    ("create_environment.num_parallel_environments=-3", "num_parallel_environments: must be >= 1, got -3"),
    ("ActorDistributionNetwork.fc_layer_params=(-8, )", "A layer needs a parameter of shape [-8, 4]"),
])
def test_mistake_in_a_conf_param_is_told(commands, tmp_path, param, words):
    assert words in _told(commands, tmp_path / "run", "--conf", "ppo_cart_pole", "--conf_param", param)


def test_misspelt_flag_names_the_nearest(commands, tmp_path):
    told = _told(commands, tmp_path / "run", "--conff", "x")
    assert "Unknown command line flag 'conff'. Did you mean: conf, " in told
    assert "python -m alf.bin.train --help" in told
    assert "unknown argument 'stray'" in _told(commands, tmp_path / "run", "--conf", "ppo_cart_pole", "stray")
    command = commands.run("train", "--conf", "ppo_cart_pole")
    assert command.code == 2
    assert "train needs --root_dir DIR (not needed with --dry_run --conf CONF)" in command.stderr


def test_package_that_is_missing_is_told(commands, tmp_path):
    told = _told(commands, tmp_path / "run", "--conf", CONFS / "unknown_environment_conf.py", "--conf_param",
                 "create_environment.env_name='nosuchpackage:Some-v0'")
    assert told == ("error: environment_name: 'nosuchpackage:Some-v0' is registered by the package 'nosuchpackage', "
                    "which is not installed. Install it, or correct the name before the colon.\n")


def test_directory_of_another_conf_is_refused(commands, tmp_path):
    conf = tmp_path / "first_conf.py"
    conf.write_text((CONFS / "unknown_argument_conf.py").read_text().replace("gama", "gamma"))
    assert commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run").code == 0
    other = commands.run("train", "--conf", CONFS / "unknown_name_conf.py", "--root_dir", tmp_path / "run")
    assert other.code == 2
    assert f"--root_dir {tmp_path}/run: expected an empty directory or a run of " in other.stderr
    assert f"got a run of {conf} (begun " in other.stderr
    # The same conf with another text goes on, and the difference is told.
    conf.write_text(conf.read_text().replace("gamma=0.9", "gamma=0.8") +
                    "alf.config('TrainerConfig', num_iterations=4)\n")
    changed = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert changed.code == 0
    assert '-alf.config("PPOLoss", gamma=0.9)' in changed.stderr
    assert '+alf.config("PPOLoss", gamma=0.8)' in changed.stderr
    assert checkpoints(tmp_path / "run")[-1] == 4

    # A network of another size does not fit.
    conf.write_text(conf.read_text() + "alf.config('ValueNetwork', fc_layer_params=(7, ))\n")
    misfit = commands.run("train", "--conf", conf, "--root_dir", tmp_path / "run")
    assert misfit.code == 2
    assert "does not fit" in misfit.stderr and "_value_network" in misfit.stderr
    assert "in the checkpoint, but now (7, 4)" in misfit.stderr
    assert "Traceback" not in misfit.stderr


def test_directory_that_cannot_be_made_is_told(commands, tmp_path):
    (tmp_path / "file").write_text("")
    for root_dir in (tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        command = commands.run("train", "--root_dir", root_dir, "--conf", "ppo_cart_pole")
        assert command.code == 2
        assert f"--root_dir {root_dir}: expected a directory that can be written, got: " in command.stderr


def test_name_with_spaces_and_other_letters_and_a_narrow_terminal_without_colours_are_fine(commands, tmp_path):
    root_dir = tmp_path / "a b ü 日本"
    conf = CONFS / "unknown_argument_conf.py"
    copy = tmp_path / "ein Übungslauf_conf.py"
    copy.write_text(conf.read_text().replace("gama", "gamma"))
    command = commands.run("train", "--conf", copy, "--root_dir", root_dir, COLUMNS="20", NO_COLOR="1", TERM="dumb",
                           LC_ALL="C")
    assert command.code == 0, command.stderr
    assert checkpoints(root_dir)
    assert "\x1b" not in command.stdout + command.stderr
    shown = commands.run("play", "--root_dir", root_dir, "--num_episodes", 1, DISPLAY="", WAYLAND_DISPLAY="")
    assert shown.code == 2
    assert "there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set. Pass --norender" in shown.stderr


def test_too_few_file_descriptors_are_told_with_numbers(commands, tmp_path):
    told = _told(commands, tmp_path / "run", "--conf", CONFS / "few_descriptors_conf.py")
    for word in ("30 workers need 76 file descriptors, and ", " of the 64 that this process may have", "ulimit -n"):
        assert word in told, told
