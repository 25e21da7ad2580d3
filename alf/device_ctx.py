"""Default device for new tensors: a context manager and two functions around torch's own default device."""

import torch

_DEVICES = ("cpu", "cuda")


def _checked(device_name: str) -> str:
    if device_name not in _DEVICES:
        raise ValueError(f"device: expected one of {_DEVICES}, got {device_name!r}.")
    if device_name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("device 'cuda': PyTorch finds no usable GPU on this machine. Use 'cpu', or install a "
                           "CUDA build of PyTorch and a driver.")
    return device_name


def get_default_device() -> str:
    """Return the name of the device on which new tensors are created: ``"cpu"`` or ``"cuda"``."""
    return torch.get_default_device().type


def set_default_device(device_name: str) -> None:
    """Create new tensors on ``device_name`` from now on.

    Args:
        device_name: ``"cpu"`` or ``"cuda"``.
    Raises:
        ValueError: for another name.
        RuntimeError: for ``"cuda"`` on a machine without a usable GPU.
    """
    name = _checked(device_name)
    # `set_default_device` installs a function mode that taxes every torch call; None removes it, and CPU needs none.
    torch.set_default_device(None if name == "cpu" else name)


class device:
    """Context in which new tensors are created on ``device_name``; the former default returns at its end."""

    def __init__(self, device_name: str):
        self._device_name = _checked(device_name)
        self._outer_device_name = None

    def __enter__(self):
        self._outer_device_name = get_default_device()
        set_default_device(self._device_name)
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        set_default_device(self._outer_device_name)
