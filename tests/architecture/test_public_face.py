"""The face of the package: every public name resolves, and looking at it costs nothing."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import alf


@pytest.mark.parametrize("name", alf.__all__)
def test_public_name_resolves(name):
    assert getattr(alf, name) is not None


def test_dir_lists_every_public_name():
    assert set(alf.__all__) <= set(dir(alf))


def all_modules():
    skipped = ("alf.examples.", "alf._parallel_env")
    names = [module.name for module in pkgutil.walk_packages(alf.__path__, "alf.")]
    return [name for name in names if not name.startswith(skipped)]


@pytest.mark.parametrize("name", [name for name in all_modules() if "._" not in name])
def test_all_of_a_module_names_what_it_has(name):
    module = importlib.import_module(name)
    missing = [entry for entry in getattr(module, "__all__", ()) if not hasattr(module, entry)]
    assert not missing


def heavy_modules_after(statement: str) -> set:
    heavy = ("torch", "gymnasium", "tensorboard", "numpy")
    code = f"import sys\n{statement}\nprint(*[name for name in {heavy} if name in sys.modules])"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_configuration_alone_imports_nothing_heavy():
    assert heavy_modules_after("import alf; alf.reset_configs()") == set()


@pytest.mark.parametrize("command", ["train", "play", "evaluate"])
def test_help_of_a_command_imports_nothing_heavy(command):
    assert heavy_modules_after(f"import alf.bin.{command}") == set()
