"""Where processes that train together may run."""

import os

import pytest

from alf.scale_out import processes


@pytest.mark.parametrize("num_cores, warned", [(3, True), (4, False)])
def test_more_processes_than_cores_are_warned_of(monkeypatch, caplog, num_cores, warned):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(num_cores)))
    with processes._places("multi-cpu", 4, None) as places:
        assert places.number() == 4
    assert ("--num_processes=4: there are only 3 cores" in caplog.text) == warned
