"""The distribution: versions agree, every dependency is pinned, and extras that messages name exist."""

import pathlib
import re
import sys
import tomllib

import pytest

import alf
from alf.environments import _registry

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOT_PINNED = {"sphinx", "furo", "myst-parser"}  # they make web pages; no test uses them


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    return canonical(re.match(r"[A-Za-z0-9._-]+", requirement)[0])


@pytest.fixture(scope="module")
def pins():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line) for line in lines), "one exact version a line"
    return {name_of(line): line.partition("==")[2] for line in lines}


def test_version_is_the_same_everywhere():
    assert PROJECT["version"] == alf.__version__
    assert f"## {alf.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *[r for extra in EXTRAS.values() for r in extra]])
def test_dependency_is_pinned(pins, requirement):
    if name_of(requirement) not in NOT_PINNED | {canonical(PROJECT["name"])}:
        assert name_of(requirement) in pins


@pytest.mark.parametrize("extra", ["all", "atari", "box2d", "classic-control", "dev", "mujoco", "plot", "video"])
def test_extra_exists(extra):
    assert EXTRAS[extra]


def test_extras_that_messages_name_exist():
    named = set()
    for path in (ROOT / "alf").rglob("*.py"):
        named |= set(re.findall(r"alf-rl\[([a-z0-9-]+)\]", path.read_text()))
    named |= {extra for _, extra in _registry._EXTRAS}
    assert named <= set(EXTRAS), f"unknown: {sorted(named - set(EXTRAS))}"


def test_installed_versions_are_the_pinned_ones(pins):
    import importlib.metadata
    different = {}
    for name in ("torch", "numpy", "gymnasium", "optree", "tensorboard", "safetensors"):
        installed = importlib.metadata.version(name).partition("+")[0]
        if installed != pins[name]:
            different[name] = (installed, pins[name])
    assert not different, f"others (installed, pinned): {different}; install with: pip install -c constraints.txt ..."


def test_where_native_code_is_required_tests_do_not_begin_without_it(request, monkeypatch):
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    monkeypatch.setitem(sys.modules, "alf._replay", None)
    monkeypatch.setenv("ALF_REQUIRE_NATIVE", "0")
    conftest.pytest_configure(request.config)
    monkeypatch.setenv("ALF_REQUIRE_NATIVE", "1")
    with pytest.raises(pytest.UsageError, match="ALF_REQUIRE_NATIVE=1: the extension alf._replay is not built"):
        conftest.pytest_configure(request.config)
