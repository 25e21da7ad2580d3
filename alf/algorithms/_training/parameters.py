"""Which optimizer trains which parameter of an algorithm tree."""

import dataclasses
from typing import Dict, Iterator, List

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

    def attach(self, root_name: str) -> None:
        """Give the parameters to their optimizers.

        Args:
            root_name: name of the algorithm at the root of the tree, for messages.
        Raises:
            ValueError: if an optimizer has parameters already, be it of another tree or from its constructor.
        """
        for optimizer, parameters in zip(self.optimizers, self.parameters, strict=True):
            if any(group["params"] for group in optimizer.param_groups):
                raise ValueError(
                    f"{root_name}: expected an optimizer without parameters, got one that has some already: "
                    f"{optimizer!r}. Algorithms of one tree may share an optimizer, separate trees may not: give this "
                    "one its own, made without parameters, e.g. alf.optimizers.Adam(lr=1e-3).")
            optimizer.add_param_group({"params": parameters})


def is_algorithm(module: nn.Module) -> bool:
    """Return whether a module is an Algorithm, whose class this file cannot import."""
    return hasattr(module, "_trainable_attributes_to_ignore")


def trained_algorithms(module: nn.Module, include_ignored: bool = False) -> Iterator[nn.Module]:
    """Yield the algorithms under a module, itself included.

    Args:
        module: where to begin.
        include_ignored: also those in attributes that their algorithm does not train.
    """
    ignored = ()
    if is_algorithm(module):
        yield module
        ignored = () if include_ignored else module._trainable_attributes_to_ignore()
    for name, child in module.named_children():
        if name not in ignored:
            yield from trained_algorithms(child, include_ignored)


def assign_parameters(algorithm: nn.Module) -> Assignment:
    """Return which optimizer trains which parameter of the tree under ``algorithm``.

    A parameter belongs to the optimizer that its own algorithm named for it (``add_optimizer``), else to the default
    optimizer of the nearest algorithm above it that has one. The first algorithm that reaches a shared parameter has
    it.
    """
    by_optimizer: Dict[int, tuple] = {}
    seen = set()

    def give(optimizer, parameters):
        known = by_optimizer.setdefault(id(optimizer), (optimizer, []))
        known[1].extend(parameters)

    def new(parameters):
        fresh = [p for p in parameters if p is not None and id(p) not in seen]
        seen.update(map(id, fresh))
        return list({id(p): p for p in fresh}.values())

    def walk(module: nn.Module) -> List[nn.Parameter]:
        """Return the parameters under a module that no optimizer below it trains."""
        ignored = ()
        if is_algorithm(module):
            ignored = module._trainable_attributes_to_ignore()
            for optimizer, owners in module._modules_by_optimizer:
                give(optimizer, new(p for owner in owners for p in _parameters_of(owner)))
        unhandled = new(p for name, p in module._parameters.items() if name not in ignored)
        for name, child in module.named_children():
            if name not in ignored:
                unhandled += walk(child)
        if is_algorithm(module) and module.default_optimizer and not module.force_params_visible_to_parent:
            give(module.default_optimizer, unhandled)
            return []
        return unhandled

    unhandled = walk(algorithm)
    if algorithm.default_optimizer is not None:
        # The root has no parent to leave its parameters to.
        give(algorithm.default_optimizer, unhandled)
        unhandled = []
    pairs = [pair for pair in by_optimizer.values() if pair[1]]
    return Assignment([optimizer for optimizer, _ in pairs], [parameters for _, parameters in pairs], unhandled)


def _parameters_of(module_or_parameter) -> List[nn.Parameter]:
    if isinstance(module_or_parameter, nn.Parameter):
        return [module_or_parameter]
    return list(module_or_parameter.parameters())
