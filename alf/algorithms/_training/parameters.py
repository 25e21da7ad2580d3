"""Which optimizer trains which parameter of an algorithm tree."""

import dataclasses
from typing import Dict, List

import torch
from torch import nn


@dataclasses.dataclass
class Assignment:
    """The parameters of an algorithm tree by the optimizer that trains them.

    Attributes:
        optimizers: optimizers in the order in which the tree is walked.
        parameters: the parameters of each of ``optimizers``.
        unhandled: parameters that no optimizer trains.
    """
    optimizers: List[torch.optim.Optimizer]
    parameters: List[List[nn.Parameter]]
    unhandled: List[nn.Parameter]


def assign_parameters(algorithm) -> Assignment:
    """Return which optimizer trains which parameter of the tree under ``algorithm``.

    A parameter belongs to the optimizer that its own algorithm named for it (``add_optimizer``), else to the default
    optimizer of the nearest algorithm above it that has one. The first algorithm that reaches a shared parameter has it.
    """
    by_optimizer: Dict[int, tuple] = {}
    seen = set()

    def give(optimizer, parameters):
        known = by_optimizer.setdefault(id(optimizer), (optimizer, []))
        known[1].extend(parameters)

    def new(parameters):
        fresh = [p for p in parameters if id(p) not in seen]
        seen.update(map(id, fresh))
        return fresh

    def walk_module(module) -> List[nn.Parameter]:
        """Return the parameters under a module that no optimizer below it trains."""
        if hasattr(module, "_trainable_attributes_to_ignore"):
            return walk_algorithm(module)
        unhandled = new(module._parameters[name] for name in module._parameters if module._parameters[name] is not None)
        for child in module.children():
            unhandled += walk_module(child)
        return unhandled

    def walk_algorithm(alg) -> List[nn.Parameter]:
        for optimizer, modules in alg._modules_by_optimizer:
            give(optimizer, new(p for module in modules for p in _parameters_of(module)))
        ignored = set(alg._trainable_attributes_to_ignore())
        unhandled = new(p for name, p in alg._parameters.items() if p is not None and name not in ignored)
        for name, child in alg._modules.items():
            if child is not None and name not in ignored:
                unhandled += walk_module(child)
        if alg.default_optimizer is not None and not alg.force_params_visible_to_parent_enabled:
            give(alg.default_optimizer, unhandled)
            return []
        return unhandled

    unhandled = walk_algorithm(algorithm)
    pairs = [pair for pair in by_optimizer.values() if pair[1]]
    return Assignment([optimizer for optimizer, _ in pairs], [parameters for _, parameters in pairs], unhandled)


def _parameters_of(module_or_parameter) -> List[nn.Parameter]:
    if isinstance(module_or_parameter, nn.Parameter):
        return [module_or_parameter]
    return list(module_or_parameter.parameters())
