"""Experience kept for training: the last unroll."""

from typing import Optional, Tuple

import torch

from alf.data_structures import BatchInfo, Experience
from alf.nest import Nest


class LastUnroll:
    """The experience of the last unroll, for algorithms that train on all of it and then forget it."""

    def __init__(self):
        self._experience: Optional[Experience] = None
        self._rollout_info_spec: Nest = ()

    def set(self, experience: Experience, rollout_info_spec: Nest) -> None:
        """Keep an unroll in place of the one before.

        Args:
            experience: raw time steps, distributions as parameters ``[T, B, ...]``.
            rollout_info_spec: spec from which the distributions of its ``rollout_info`` are rebuilt.
        """
        self._experience = experience
        self._rollout_info_spec = rollout_info_spec

    @property
    def rollout_info_spec(self) -> Nest:
        """Spec from which the distributions of ``rollout_info`` are rebuilt."""
        return self._rollout_info_spec

    def gather_all(self) -> Tuple[Experience, BatchInfo]:
        """Return the unroll ``[T, B, ...]``, and where its rows came from.

        Raises:
            RuntimeError: if there is none yet.
        """
        if self._experience is None:
            raise RuntimeError("There is no experience to train on yet: unroll first.")
        num_envs = self._experience.step_type.shape[1]
        env_ids = torch.arange(num_envs)
        return self._experience, BatchInfo(env_ids=env_ids, positions=torch.zeros_like(env_ids))
