"""Every test starts from the state of a fresh process and leaves none of its own behind."""

import importlib
import os
import random
import sys

import numpy as np
import pytest
import torch

# Tests run side by side; a thread pool in each of them would only make them wait for one another.
torch.set_num_threads(1)


_EXTENSIONS = ("alf._envs", "alf._exchange", "alf._parallel_env", "alf._replay")


def pytest_configure(config):
    """With ``ALF_REQUIRE_NATIVE=1``, refuse to test without the C++ extensions: tests of them would be skipped."""
    if os.environ.get("ALF_REQUIRE_NATIVE") != "1":
        return
    for name in _EXTENSIONS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise pytest.UsageError(f"ALF_REQUIRE_NATIVE=1: the extension {name} is not built: {error}") from error


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """Return a CommandServer: the commands as a stranger starts them."""
    import command_line
    with command_line.CommandServer(tmp_path_factory.mktemp("commands")) as server:
        yield server


def _reset_what_was_imported():
    """Put back the state of every module that is imported by now; one that is not has none yet."""
    if "alf.config_helpers" in sys.modules:
        sys.modules["alf.config_helpers"].close_env()
    if "alf.utils.common" in sys.modules:
        common = sys.modules["alf.utils.common"]
        common.set_global_env(None)
        common.set_exe_mode(0)
    if "alf.summary" in sys.modules:
        summary = sys.modules["alf.summary"]
        summary.set_default_writer(None)
        summary.reset_global_counter()
        summary.enable_summary()
        summary.should_summarize_output(False)
    if "alf.utils.summary_utils" in sys.modules:
        sys.modules["alf.utils.summary_utils"].record_time._totals.clear()
    if "alf.progress" in sys.modules:
        sys.modules["alf.progress"].reset_progress()
    if "alf.config_util" in sys.modules:
        sys.modules["alf.config_util"].reset_configs()
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def fresh_state():
    """Reset configurations, environment, summaries, progress and device around each test, and fix the seeds."""
    _reset_what_was_imported()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    _reset_what_was_imported()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip a test that asks for the C++ extension where no compiler has built it; the others use its Python twin."""
    try:
        return (yield)
    except ImportError as error:
        if "alf._parallel_env is not built" in str(error):
            pytest.skip(str(error))
        raise
