"""The default device of new tensors."""

import pytest
import torch

from alf.device_ctx import device, get_default_device, set_default_device

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_default_is_the_cpu():
    assert get_default_device() == "cpu"
    with device("cpu"):
        assert torch.zeros(1).device.type == "cpu"


def test_unknown_device_is_named():
    with pytest.raises(ValueError, match="expected one of .*, got 'tpu'"):
        set_default_device("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_told_before_anything_changes():
    with pytest.raises(RuntimeError, match="no usable GPU"):
        device("cuda")
    assert get_default_device() == "cpu"


@needs_gpu
def test_new_tensors_follow_the_context():
    with device("cuda"):
        assert get_default_device() == "cuda" and torch.zeros(1).is_cuda
        with device("cpu"):
            assert not torch.zeros(1).is_cuda
        assert torch.zeros(1).is_cuda
    assert not torch.zeros(1).is_cuda


@needs_gpu
def test_the_former_default_returns_after_an_error():
    with pytest.raises(KeyError), device("cuda"):
        raise KeyError
    assert get_default_device() == "cpu"
