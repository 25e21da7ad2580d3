"""The commands as a stranger starts them, and what can go wrong."""

import importlib.util
import pathlib
import sys

import pytest

PATH = pathlib.Path(__file__).parents[1] / "bin" / "command_line.py"


def _load():
    if "command_line" not in sys.modules:
        spec = importlib.util.spec_from_file_location("command_line", PATH)
        sys.modules["command_line"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["command_line"])
    return sys.modules["command_line"]


_load()


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Return a CommandServer."""
    with _load().shared_server(tmp_path_factory.mktemp("commands")) as server:
        yield server
