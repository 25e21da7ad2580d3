"""What is imported until something happens: heavy packages only when they are needed."""

import pathlib
import subprocess
import sys

import pytest
from command_line import ROOT

HERE = pathlib.Path(__file__).parent
HEAVY = {"torch._dynamo", "torch._inductor", "sympy", "matplotlib", "scipy", "pandas", "PIL", "cv2", "av", "pygame",
         "mujoco", "ale_py", "ray", "rich", "tensorflow", "fsspec", "onnx", "torchvision", "cProfile"}

_TRAIN = """
import runpy, sys
sys.argv = ["train", "--conf", {conf!r}, "--root_dir", {root_dir!r}, "--conf_param", "TrainerConfig.num_iterations=2"]
runpy.run_module("alf.bin.train", run_name="__main__", alter_sys=True)
"""


def modules_after(code: str, cwd=ROOT) -> set:
    """Return what is imported at the end of a program in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", "import atexit\n@atexit.register\ndef tell():\n    import sys\n"
                           "    print('MODULES', *sorted(sys.modules))\n" + code], capture_output=True, text=True,
                          cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("MODULES")]
    return set(told[-1].split()[1:])


def test_importing_the_package_imports_next_to_nothing():
    found = modules_after("import alf")
    assert not {"torch", "numpy", "gymnasium", "absl"} & found
    assert len([name for name in found if name.split(".")[0] == "alf"]) == 1


@pytest.mark.parametrize("command", ["train", "play", "evaluate", "check", "grid_search"])
def test_help_and_mistakes_in_flags_import_nothing_heavy(command):
    heavy = {"torch", "numpy", "gymnasium", "optree", "tensorboard"}
    run = ("import runpy, sys; sys.argv = ['x', '{}']\n"
           "try: runpy.run_module('alf.bin.{}', run_name='__main__')\n"
           "except SystemExit as e: assert e.code == {}, e.code\n")
    assert not heavy & modules_after(run.format("--help", command, 0))
    assert not heavy & modules_after(run.format("--confff=x", command, 2))


@pytest.mark.parametrize("conf", ["ppo_cart_pole_conf.py", "sac_pendulum_conf.py"])
def test_first_iterations_need_nothing_heavy_but_torch(tmp_path, conf):
    found = modules_after(_TRAIN.format(conf=conf, root_dir=str(tmp_path / "run")), cwd=tmp_path)
    assert "torch" in found and "alf.trainers.policy_trainer" in found
    assert not HEAVY & found


def test_garbage_is_collected_when_a_conf_is_loaded(commands, tmp_path):
    conf = tmp_path / "gc_conf.py"
    conf.write_text("import gc\nassert gc.isenabled() and gc.get_freeze_count() > 10_000\n"
                    + (HERE / "tiny_conf.py").read_text())
    for words in (("--root_dir", tmp_path / "run"), ("--dry_run", )):
        done = commands.run("train", "--conf", conf, *words, "--conf_param", "TrainerConfig.num_iterations=1")
        assert done.code == 0, done.stderr
