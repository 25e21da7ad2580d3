"""The states of the optimizers of an algorithm tree, as they stand in its state dictionary."""

from typing import Any, Dict, Iterator, Optional, Tuple

import torch
from torch import nn

from alf.algorithms._training.parameters import is_algorithm

_OPTIMIZERS = "_optimizers"
LOSS_SCALER = f"{_OPTIMIZERS}.loss_scaler"  # key of the state of the root's loss scaler


def _named_optimizers(algorithm: nn.Module) -> Iterator[Tuple[str, torch.optim.Optimizer]]:
    """Yield key and optimizer of the tree; one that several algorithms share counts where it is met first."""
    seen = set()
    for path, module in algorithm.named_modules():
        if is_algorithm(module):
            for i, optimizer in enumerate(module.optimizers(recurse=False)):
                if id(optimizer) not in seen:
                    seen.add(id(optimizer))
                    yield f"{path}{'.' if path else ''}{_OPTIMIZERS}.{i}", optimizer


def optimizer_states(algorithm: nn.Module, prefix: str) -> Dict[str, Any]:
    """Return ``{<prefix><path of the algorithm>._optimizers.<i>: state}`` of the optimizers that have parameters.

    Args:
        algorithm: root of the tree.
        prefix: put before each key.
    """
    return {prefix + key: optimizer.state_dict() for key, optimizer in _named_optimizers(algorithm)
            if any(group["params"] for group in optimizer.param_groups)}


def load_optimizer_states(algorithm: nn.Module, states: Dict[str, Any]) -> None:
    """Load what :func:`optimizer_states` returned; an optimizer that ``states`` lacks keeps its state.

    Options such as the learning rate stay as the conf says, which may have changed since.
    """
    for key, optimizer in _named_optimizers(algorithm):
        if key in states:
            options = [{name: value for name, value in group.items() if name != "params"}
                       for group in optimizer.param_groups]
            optimizer.load_state_dict(states[key])
            for group, conf_options in zip(optimizer.param_groups, options, strict=True):
                group.update(conf_options)


def num_environments_of(rollout_state: Dict[str, Any]) -> Optional[int]:
    """Return of how many environments a state of unroll and replay is; None if it holds nothing of environments.

    Args:
        rollout_state: ``rollout_state_dict()`` of an algorithm.
    """
    present = rollout_state["unroll"].get("present")
    sizes = rollout_state.get("_replay_buffer", {}).get("_current_size")
    for leaf in (present[0] if present else None, sizes):
        if leaf is not None:
            return leaf.shape[0]
    return None


def split_state_dict(state_dict: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the part of a state dictionary for parameters and buffers, and that for optimizers."""
    modules, optimizers = {}, {}
    for key, value in state_dict.items():
        owner = key.rpartition(".")[0]
        (optimizers if owner.rpartition(".")[2] == _OPTIMIZERS else modules)[key] = value
    return modules, optimizers
