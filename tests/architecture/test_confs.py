"""Every example conf loads, says how to launch it, and names only addresses that exist."""

import ast
import pathlib

import pytest

import alf

EXAMPLES = pathlib.Path(alf.__file__).parent / "examples"
CONFS = sorted(path for path in EXAMPLES.rglob("*_conf.py"))


def name_of(path) -> str:
    return path.relative_to(EXAMPLES).as_posix()


@pytest.mark.parametrize("path", CONFS, ids=name_of)
def test_conf_loads(path):
    # A conf that asks for specs creates its environment: one is enough.
    alf.pre_config({"create_environment.nonparallel": True})
    try:
        alf.load_config(str(path))
        alf.validate_pre_configs()
    except ImportError as error:
        pytest.skip(f"needs an optional package: {error}")


@pytest.mark.parametrize("path", CONFS, ids=name_of)
def test_conf_says_what_it_trains_and_how_to_launch_it(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and docstring.split("\n")[0].endswith((".", ":"))
    # Confs that others import name no environment, and are not launched.
    if "Launch:" in docstring:
        assert f"--conf {name_of(path)} " in docstring
    else:
        assert "imported" in docstring


@pytest.mark.parametrize("path", CONFS, ids=name_of)
def test_conf_body_is_flat(path):
    """Confs hold settings, one after another: no classes, no loops around them."""
    kinds = {type(node).__name__ for node in ast.parse(path.read_text()).body}
    assert not kinds & {"ClassDef", "For", "While"}
