"""Every test of the configuration starts from a pristine one and leaves nothing behind."""

import pytest

from alf._config._registry import registry
from alf.config_util import reset_configs


@pytest.fixture(autouse=True)
def pristine_configuration(request, monkeypatch):
    """Let a test see the callables of its own module only, whatever else has been imported."""
    monkeypatch.setattr("alf._config._discover.configurables_in_package", dict)
    reset_configs()
    before = list(registry)
    registry.keep_only(entry for entry in before if entry.module == request.module.__name__)
    yield
    reset_configs()
    registry.keep_only(before)


@pytest.fixture
def confs(tmp_path):
    """Return a function that writes files below a temporary folder: confs(**{"a_conf.py": text})."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("import alf.config_util as alf\n" + text)
        return tmp_path

    return write
