"""The states of the optimizers of an algorithm tree, as they stand in its state dictionary."""

import math
from typing import Any, Dict, Iterator, Optional, Tuple

import torch
from torch import nn

from alf.algorithms._training.parameters import is_algorithm

_OPTIMIZERS = "_optimizers"
# What optimizers keep in the shape of the parameter, by the names that PyTorch and we give it.
_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "sum"}
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


def check_optimizer_states(algorithm: nn.Module, states: Dict[str, Any]) -> None:
    """Raise if ``states`` are not those of the optimizers of the tree.

    Args:
        algorithm: root of the tree, with attached optimizers.
        states: as :func:`optimizer_states` returns them, without prefix.
    Raises:
        ValueError: if groups, numbers of parameters or shapes differ, or a number is NaN.
    """
    for key, optimizer in _named_optimizers(algorithm):
        if key in states:
            groups, state = states[key]["param_groups"], states[key]["state"]
            expected = [len(group["params"]) for group in optimizer.param_groups]
            got = [len(group["params"]) for group in groups]
            if got != expected:
                raise ValueError(f"{key}: expected groups of {expected} parameters, got {got}")
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            indices = [int(index) for group in groups for index in group["params"]]
            by_index = dict(zip(indices, parameters, strict=True))
            for index, moments in state.items():
                _check_moments(f"{key}.state.{index}", moments, by_index[int(index)])


def _check_moments(place: str, moments: Dict[str, Any], parameter: torch.Tensor) -> None:
    for name, value in moments.items():
        if value is None:
            continue
        if name in _MOMENTS and (not isinstance(value, torch.Tensor) or value.shape != parameter.shape):
            raise ValueError(f"{place}.{name}: expected a tensor {list(parameter.shape)}, got "
                             f"{list(value.shape) if isinstance(value, torch.Tensor) else repr(value)}")
        # Infinity is the square of a very large gradient: such parameters stay as they are, and it may be saved.
        if isinstance(value, torch.Tensor) and bool(value.isnan().any()):
            raise ValueError(f"{place}.{name}: NaN")


def check_rollout_state(state: Dict[str, Any]) -> None:
    """Raise if a state of unroll and replay has not the fields that are read of it.

    Args:
        state: as ``rollout_state_dict()`` of an algorithm returns it.
    Raises:
        ValueError: naming the first one that is missing or wrong.
    """
    if not isinstance(state, dict):
        raise ValueError(f"expected entries by name, got {state!r:.80}")
    kinds = {"unroll_carry": (int, float), "credit": (int, float), "steps_per_update": (int, ),
             "num_offline_updates": (int, )}
    for name, expected in kinds.items():
        value = state.get(name, 0)
        if type(value) not in expected or not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number, got {value!r:.80}")
    unroll, contents = state.get("unroll"), state.get("_replay_buffer", {})
    present = unroll.get("present", []) if isinstance(unroll, dict) else None
    is_unroll = present is not None and (not unroll or "environments" in unroll) and _are_rows(present)
    if "unroll_carry" not in state or not is_unroll:
        raise ValueError("expected unroll_carry and unroll, with environments and present time steps of all of them, "
                         f"got {sorted(state)}")
    if not _are_rows(state.get("earlier", [])):
        raise ValueError("earlier: expected tensors of one number of time steps")
    if not isinstance(contents, dict) or not _are_rows([value for value in contents.values() if _has_rows(value)]):
        raise ValueError("_replay_buffer: expected tensors of one number of environments by name")


def _has_rows(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or value.ndim > 0


def _are_rows(leaves: Any) -> bool:
    """Return whether these are tensors of one number of rows."""
    is_right = isinstance(leaves, list) and all(isinstance(leaf, torch.Tensor) and leaf.ndim for leaf in leaves)
    return is_right and len({leaf.shape[0] for leaf in leaves}) <= 1


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
