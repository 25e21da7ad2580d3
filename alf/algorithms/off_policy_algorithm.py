"""Base of algorithms that learn from stored experience."""

from alf.algorithms.rl_algorithm import RLAlgorithm


class OffPolicyAlgorithm(RLAlgorithm):
    """An algorithm whose unroll makes no graph; ``train_step`` computes what the loss needs from stored steps."""

    @property
    def on_policy(self) -> bool:
        """False."""
        return False
