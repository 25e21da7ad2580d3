"""Encoding of a nest of actions as one vector."""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

import alf.nest as nest
from alf.networks.network import Network
from alf.tensor_specs import NestedTensorSpec


class SimpleActionEncoder(Network):
    """Concatenates discrete actions as one-hot vectors and continuous actions as they are.

    Args:
        action_spec: nest of action specs; discrete ones bounded, with the same bounds for all components.
    """

    def __init__(self, action_spec: NestedTensorSpec):
        rows = []
        for spec in nest.flatten(action_spec):
            if spec.is_continuous:
                rows.append(None)
                continue
            if (
                not spec.is_bounded()
                or spec.minimum.min() != spec.minimum.max()
                or (spec.maximum.min() != spec.maximum.max())
            ):
                raise ValueError(
                    f"SimpleActionEncoder.action_spec: expected discrete actions, the same bounds for all components, "
                    f"got {spec}."
                )
            low = int(spec.minimum.min())
            rows.append((low, int(spec.maximum.max()) - low + 1))
        super().__init__(action_spec, name="SimpleActionEncoder")
        # For each action: (smallest value, number of values), or None where it is continuous.
        self._offsets_and_sizes = rows

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[Tensor, Any]:
        """Return the encoding `[B, size]`, float32, and the state as it is.

        Args:
            inputs: nest of actions `[B, ...]`.
            state: passed through.
        """
        encoded = []
        for action, row in zip(nest.flatten(inputs), self._offsets_and_sizes, strict=True):
            if row is not None:
                offset, size = row
                action = F.one_hot(action.long() - offset, num_classes=size)
            encoded.append(action.reshape(action.shape[0], -1).to(torch.float32))
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded, dim=-1), state
