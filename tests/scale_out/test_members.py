"""What processes of one machine are given."""

import os
import sys

from alf.scale_out import _members


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def test_memory_to_share_is_of_zeros_and_gone_with_the_last_process():
    before = descriptors()
    with _members._shared_memory(3) as [descriptor]:
        assert os.fstat(descriptor).st_size > 4 << 20
        assert os.pread(descriptor, 192, 0) == bytes(192)
    assert descriptors() == before


def test_without_the_extension_it_is_told_and_there_is_none(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "alf._exchange", None)
    caplog.set_level("INFO", logger="absl")
    with _members._shared_memory(3) as none:
        assert none == []
    assert "the extension alf._exchange is not built: processes exchange with gloo" in caplog.text
