"""Both implementations of what is native, for the tests of this folder."""

import pytest

from alf.utils import native_replay


@pytest.fixture(params=["native", "python"])
def implementation(request, monkeypatch):
    """Run the test with the extension and with its twin."""
    if request.param == "python":
        monkeypatch.setattr(native_replay, "_native", None)
    elif native_replay._native is None:
        pytest.skip("alf._replay is not built")
    return request.param
