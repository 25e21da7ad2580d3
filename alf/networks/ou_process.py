"""Ornstein-Uhlenbeck noise: exploration that is correlated in time."""

from typing import Any

import torch

import alf.nest as nest
from alf.networks.network import Network
from alf.tensor_specs import NestedTensorSpec


class OUProcess(Network):
    """The discretised process `x' = (1 - damping) x + stddev * N(0, 1)`.

    Args:
        state_spec: nest of continuous specs of x.
        damping: pull towards 0, in [0, 1].
        stddev: standard deviation of the noise of one step, >= 0.
    """

    def __init__(self, state_spec: NestedTensorSpec, damping: float = 0.15, stddev: float = 0.2):
        for spec in nest.flatten(state_spec):
            if not spec.is_continuous:
                raise ValueError(f"OUProcess.state_spec: expected continuous specs, got {spec}.")
        if not 0 <= damping <= 1 or stddev < 0:
            raise ValueError(f"OUProcess: expected 0 <= damping <= 1 and stddev >= 0, got {damping} and {stddev}.")
        super().__init__(input_tensor_spec=(), state_spec=state_spec, name="OUProcess")
        self._damping, self._stddev = damping, stddev

    @property
    def state_spec(self) -> NestedTensorSpec:
        """Nest of specs of x."""
        return self._state_spec

    def forward(self, state: Any) -> Any:
        """Return the next x, which is both the noise and the state to pass on.

        Args:
            state: nest of tensors `[B, ...]`, zeros at the beginning of an episode.
        """
        return nest.map_structure(lambda x: (1 - self._damping) * x + self._stddev * torch.randn_like(x), state)
