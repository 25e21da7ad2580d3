"""Summaries of what networks put out, with ``TrainerConfig.summarize_output``."""

from typing import Any

from torch import nn

from alf import summary
from alf.algorithms.algorithm import Algorithm
from alf.networks import Network
from alf.utils import dist_utils, summary_utils


def summarize_outputs(algorithm: Algorithm) -> None:
    """Let each network of a tree of algorithms record its outputs as ``network_output/<name of the module>``.

    Recorded is the first call in training at a step that is recorded: mean and histogram of each tensor and of each
    parameter of a distribution.

    Args:
        algorithm: the root, with all its networks.
    """
    summary.should_summarize_output(True)
    for name, module in algorithm.named_modules():
        if isinstance(module, Network):
            module.register_forward_hook(_OutputHook(name))


class _OutputHook:
    """Is called with each output of a network.

    Args:
        name: of the network among the modules of the root algorithm.
    """

    def __init__(self, name: str):
        self._tag = f"network_output/{name}"
        self._recorded_at = -1  # global counter

    def __call__(self, module: nn.Module, inputs: Any, result: Any) -> None:
        # Off-policy algorithms act in evaluation mode.
        if not module.training or not summary.should_record_summaries() or not summary.should_summarize_output():
            return
        if self._recorded_at == summary.get_global_counter():
            return
        self._recorded_at = summary.get_global_counter()
        output, _ = result
        summary_utils.summarize_nest(self._tag, dist_utils.distributions_to_params(output))
