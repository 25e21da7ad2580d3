"""One-step temporal difference loss of categorical value distributions (C51), https://arxiv.org/abs/1707.06887."""

import torch

from alf import summary
from alf.algorithms._q_learning.categorical import atoms, categorical_divergence, project_onto_atoms
from alf.algorithms.one_step_loss import OneStepTDLoss
from alf.config_util import configurable
from alf.data_structures import LossInfo, StepType, namedtuple

_LAST = int(StepType.LAST)


@configurable
class CategoricalTDLoss(OneStepTDLoss):
    """The divergence of predicted value distributions from those of ``r_{t+1} + gamma discount_{t+1} Z_{t+1}``.

    ``Z_{t+1}``, the target distribution, is over the same atoms; after the affine map it is projected onto them. Rows
    are as for :class:`TDLoss`: those at ``LAST`` and the last one start no transition, and their loss is 0.

    Args:
        num_atoms: number of atoms, N.
        v_min: the smallest atom.
        v_max: the largest atom. Returns outside of ``[v_min, v_max]`` count as its ends.
        gamma: discount of the future in [0, 1].
        debug_summaries: see :class:`TDLoss`; of the means of the distributions.
        name: name in summaries.
    Raises:
        ValueError: if there are fewer than two atoms, or ``v_min`` is not below ``v_max``.
    """

    def __init__(self,
                 num_atoms: int = 51,
                 v_min: float = -10.0,
                 v_max: float = 10.0,
                 gamma: float = 0.99,
                 debug_summaries: bool = False,
                 name: str = "CategoricalTDLoss"):
        super().__init__(gamma=gamma, debug_summaries=debug_summaries, name=name)
        if isinstance(self._gamma, torch.Tensor):
            raise ValueError(f"{name}.gamma: expected a number, for the reward is one, got {gamma}.")
        self.register_buffer("_support", atoms(v_min, v_max, num_atoms), persistent=False)

    @property
    def support(self) -> torch.Tensor:
        """The atoms ``[N]``."""
        return self._support

    def compute_td_target(self, info: namedtuple, target_value: torch.Tensor) -> torch.Tensor:
        """Return the probabilities ``[T - 1, B, N]`` of the targets of all rows but the last, without gradient.

        Args:
            info: with fields ``reward [T, B]``, ``step_type [T, B]`` and ``discount [T, B]``.
            target_value: logits of the distributions to bootstrap from ``[T, B, N]``. Row 0 is not read.
        """
        probs = target_value[1:].detach().softmax(dim=-1)
        discounts = self._discounts(info, target_value)[1:].unsqueeze(-1)
        return project_onto_atoms(probs, info.reward[1:].unsqueeze(-1) + discounts * self._support, self._support)

    def forward(self, info: namedtuple, value: torch.Tensor, target_value: torch.Tensor) -> LossInfo:
        """Return the loss ``[T, B]``.

        Args:
            info: see :meth:`compute_td_target`.
            value: logits ``[T, B, N]`` that are trained.
            target_value: logits ``[T, B, N]``: what is bootstrapped from.
        Raises:
            ValueError: if the logits are not of N atoms.
        """
        if value.shape != target_value.shape or value.shape[-1] != self._support.shape[0]:
            raise ValueError(f"{self._name}: expected value and target_value [T, B, {self._support.shape[0]}], got "
                             f"{tuple(value.shape)} and {tuple(target_value.shape)}.")
        target, value = self.compute_td_target(info, target_value), value[:-1]
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize(info, value.detach().softmax(-1) @ self._support, target @ self._support)
        return self._finish(categorical_divergence(value, target) * (info.step_type[:-1] != _LAST))
