"""AgentHelper: what an Agent does in the same way to each of the algorithms it is made of."""

from typing import Callable, Dict, List, Optional

import torch

from alf.algorithms.algorithm import Algorithm
from alf.data_structures import LossInfo
from alf.nest import Nest
from alf.utils import math_ops
from alf.utils.common import expand_dims_as

_SPEC_KINDS = ("train_state_spec", "rollout_state_spec", "predict_state_spec")


class AgentHelper:
    """Keeps the algorithms of an Agent with the fields that state and info have for them.

    Args:
        state_ctor: the namedtuple of the states of the algorithms.
    """

    def __init__(self, state_ctor: Callable):
        self._state_ctor = state_ctor
        self._fields: Dict[Algorithm, str] = {}

    def register_algorithm(self, alg: Optional[Algorithm], alg_field: str) -> None:
        """Add an algorithm; None is left out.

        Args:
            alg: the algorithm.
            alg_field: name of its part in the state and in the info of the Agent.
        """
        if alg is None:
            return
        assert alg_field in self._state_ctor._fields, f"{alg_field} is not one of {self._state_ctor._fields}"
        self._fields[alg] = alg_field

    def state_specs(self) -> Dict[str, Nest]:
        """Return the state specs of the Agent: ``train_state_spec``, ``rollout_state_spec``, ``predict_state_spec``."""
        return {kind: self._state_ctor(**{field: getattr(alg, kind) for alg, field in self._fields.items()})
                for kind in _SPEC_KINDS}

    def set_path(self, path: str) -> None:
        """Tell each algorithm its place in the tree."""
        prefix = f"{path}." if path else ""
        for alg, field in self._fields.items():
            alg.set_path(prefix + field)

    def accumulate_algorithm_rewards(self, rewards: List[Optional[torch.Tensor]], weights: List[float],
                                     names: List[str], summary_prefix: str, summarize_fn: Callable) -> torch.Tensor:
        """Return the weighted sum of rewards, and summarize each of them and the sum.

        Args:
            rewards: ``[T, B]`` or ``[T, B, R]`` each; None or ``()`` is left out.
            weights: factor of each.
            names: name of each in summaries.
            summary_prefix: scope of the summaries.
            summarize_fn: called with name and reward.
        """
        given = [(reward, weight, name) for reward, weight, name in zip(rewards, weights, names, strict=True)
                 if isinstance(reward, torch.Tensor)]
        assert given, "accumulate_algorithm_rewards: expected at least one reward"
        for reward, _, name in given:
            summarize_fn(f"{summary_prefix}/{name}", reward)
        # One number beside a vector reward counts for each component.
        widest = max((reward for reward, _, _ in given), key=lambda reward: reward.ndim)
        total = sum(expand_dims_as(reward, widest) * weight for reward, weight, _ in given)
        if len(given) > 1:
            summarize_fn(f"{summary_prefix}/overall", total)
        return total

    def accumulate_loss_info(self, algorithms: List[Optional[Algorithm]], train_info: Nest, offline: bool = False,
                             pre_train: bool = False) -> LossInfo:
        """Return the sum of the losses of the algorithms; ``extra`` has a part for each.

        One of them at most may give ``priority``, ``gns`` and ``batch_label``, which are passed on.

        Args:
            algorithms: None is left out.
            train_info: info of the Agent ``[T, B, ...]``.
            offline: sum the losses on offline experience.
            pre_train: passed on with ``offline``.
        """
        loss, scalar_loss, extra = (), (), {}
        of_one = {}  # field -> what the only algorithm gave that may
        for alg in algorithms:
            if alg is None:
                continue
            field = self._fields[alg]
            info = getattr(train_info, field)
            alg_loss = alg.calc_loss_offline(info, pre_train) if offline else alg.calc_loss(info)
            loss = math_ops.add_ignore_empty(loss, alg_loss.loss)
            scalar_loss = math_ops.add_ignore_empty(scalar_loss, alg_loss.scalar_loss)
            extra[field] = alg_loss.extra
            for name in ("priority", "gns", "batch_label"):
                value = getattr(alg_loss, name)
                if not isinstance(value, tuple):
                    assert name not in of_one, f"only one algorithm of an Agent may give LossInfo.{name}"
                    of_one[name] = value
        return LossInfo(loss=loss, scalar_loss=scalar_loss, extra=extra, **of_one)

    def after_update(self, algorithms: List[Optional[Algorithm]], root_inputs: Nest, train_info: Nest) -> None:
        """Call ``after_update`` of each algorithm with its part of the info, which is ``()`` if ``train_info`` is."""
        for alg in algorithms:
            if alg is not None:
                alg.after_update(root_inputs, () if train_info == () else getattr(train_info, self._fields[alg]))

    def after_train_iter(self, algorithms: List[Optional[Algorithm]], root_inputs: Nest,
                         rollout_info: Nest = None) -> None:
        """Call ``after_train_iter`` of each algorithm with its part of the info."""
        for alg in algorithms:
            if alg is not None:
                info = None if rollout_info is None else getattr(rollout_info, self._fields[alg])
                alg.after_train_iter(root_inputs, info)
