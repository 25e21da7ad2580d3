"""MixedPrecision: networks compute with 16 bits where that is faster, and everything around them with 32."""

import contextlib
import functools
from typing import Any, Iterator, List, Optional, Sequence, Tuple

import torch
from absl import logging
from torch import nn
from torch.distributions import Distribution

from alf.algorithms._training.loss_scaler import LossScaler
from alf.nest import flatten, map_structure
from alf.networks.network import Network
from alf.utils import dist_utils


class MixedPrecision:
    """Switches ``torch.autocast`` on while a network of an algorithm is called in training.

    Autocast is on inside the networks only. What they put out is float32 again, and so is all that an algorithm makes
    of it: distributions, log probabilities, returns, losses, and what is stored. In networks themselves, layers with
    ``keeps_full_precision`` compute in float32: their results are values, logits, means or actions, and a value near
    500 would be rounded to a multiple of 2 by bfloat16, to one of 0.25 by float16. Parameters, gradients and moments of
    optimizers are float32.

    The type goes by the device: float16 on CUDA, where a :class:`LossScaler` keeps gradients in its range; bfloat16,
    which has the range of float32, on CPUs.

    Autocast does not cache the weights it has cast, for such a cache adds up the gradients of all calls in 16 bits.

    Args:
        algorithm: the root algorithm; it must have its networks already.
        parameters: what optimizers train.
        dtype: the 16-bit type; None: as above.
    Raises:
        ValueError: if the device has no suitable type.
    """

    def __init__(self, algorithm: nn.Module, parameters: Sequence[nn.Parameter], dtype: Optional[torch.dtype] = None):
        self._device_type = _device_type(parameters)
        self.dtype = _supported_dtype(self._device_type) if dtype is None else dtype
        self.loss_scaler = LossScaler(self._device_type) if self.dtype == torch.float16 else None
        self._is_active = False
        self._before: List[bool] = []  # whether autocast was on where the calls in progress began
        for network in _outermost_networks(algorithm):
            self._switch(network, on=True)
            for module in network.modules():
                if getattr(module, "keeps_full_precision", False):
                    self._switch(module, on=False)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Context in which networks compute in mixed precision; outside of networks autocast is off."""
        self._before.clear()
        with torch.autocast(self._device_type, self.dtype, enabled=False, cache_enabled=False):
            self._is_active = True
            try:
                yield
            finally:
                self._is_active = False

    def _switch(self, module: nn.Module, on: bool) -> None:
        """Let autocast be on or off during calls of ``module``."""
        module.register_forward_pre_hook(functools.partial(self._enter, on))
        module.register_forward_hook(self._leave)

    def _enter(self, on: bool, module: nn.Module, args: Tuple) -> Optional[Tuple]:
        if not self._is_active:
            return None
        self._before.append(torch.is_autocast_enabled(self._device_type))
        torch.set_autocast_enabled(self._device_type, on)
        return None if on else map_structure(_to_float32, args)

    def _leave(self, module: nn.Module, args: Tuple, output: Any) -> Any:
        if not self._is_active:
            return None
        torch.set_autocast_enabled(self._device_type, self._before.pop())
        return map_structure(_to_float32, output)


def _outermost_networks(module: nn.Module) -> Iterator[Network]:
    """Yield the networks in a tree of algorithms that are not parts of networks."""
    for child in module.children():
        if isinstance(child, Network):
            yield child
        else:
            yield from _outermost_networks(child)


def _is_low(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.float16, torch.bfloat16)


def _to_float32(leaf: Any) -> Any:
    """Return a leaf of what a network puts out, tensor or distribution, with float32 in place of 16-bit types."""
    if isinstance(leaf, Distribution):
        params = dist_utils.extract_distribution_parameters(leaf)
        if not any(map(_is_low, flatten(params))):
            return leaf
        return dist_utils.get_builder(leaf)(**map_structure(_to_float32, params))
    return leaf.float() if _is_low(leaf) else leaf


def _device_type(parameters: Sequence[nn.Parameter]) -> str:
    types = sorted({p.device.type for p in parameters})
    if len(types) != 1 or types[0] not in ("cpu", "cuda"):
        raise ValueError(f"TrainerConfig.enable_amp: expected parameters on the CPU or on CUDA devices, got some on "
                         f"{types}. {_REMEDY}")
    return types[0]


_REMEDY = 'Set alf.config("TrainerConfig", enable_amp=False).'


def _supported_dtype(device_type: str) -> torch.dtype:
    """Return the 16-bit type that mixed precision takes on a kind of device."""
    if device_type == "cuda":
        return torch.float16
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        raise ValueError("TrainerConfig.enable_amp: expected a CPU on which oneDNN has products of bfloat16 (x86-64 "
                         f"with AVX-512, or Arm with its bfloat16 instructions); this one has not. {_REMEDY}")
    if not any(has for name, has in torch.cpu.get_capabilities().items() if "bf16" in name):
        logging.warning("TrainerConfig.enable_amp: this CPU has no instructions for bfloat16 (avx512_bf16, amx_bf16). "
                        "They are emulated, so that training becomes slower rather than faster. %s", _REMEDY)
    return torch.bfloat16
