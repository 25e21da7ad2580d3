"""Base of algorithms that learn from the graph of their unroll."""

from typing import Optional

from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.data_structures import AlgStep, TimeStep
from alf.nest import Nest


class OnPolicyAlgorithm(OffPolicyAlgorithm):
    """An algorithm whose ``rollout_step`` is also what trains it.

    With ``is_on_policy=False`` it trains off-policy instead: ``train_step`` is ``rollout_step`` on stored steps.
    """

    @property
    def on_policy(self) -> Optional[bool]:
        """Whether it learns from its unroll: the argument ``is_on_policy``, by default True."""
        return True if self._is_on_policy is None else self._is_on_policy

    def train_step(self, inputs: TimeStep, state: Nest, rollout_info: Nest) -> AlgStep:
        """Return ``rollout_step(inputs, state)``."""
        return self.rollout_step(inputs, state)
