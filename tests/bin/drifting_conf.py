"""A run with a parameter that each process changes in its own way."""

import torch

import alf
from alf.algorithms.ppo_algorithm import PPOAlgorithm

alf.import_config("tiny_conf.py")


class DriftingAlgorithm(PPOAlgorithm):
    """An algorithm with such a parameter."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._drift = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

    def after_train_iter(self, root_inputs, rollout_info):
        """Change it."""
        self._drift.data += torch.rand(())
        super().after_train_iter(root_inputs, rollout_info)


alf.config("Agent", rl_algorithm_cls=DriftingAlgorithm)
