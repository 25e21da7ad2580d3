"""Experience as training sees it: transposed, cut into sequences, shuffled into mini batches, stepped through time."""

from typing import Callable, Iterator, List

import torch
from torch.distributions import Distribution

from alf.data_structures import AlgStep
from alf.nest import Nest, flatten_with_structure, map_structure
from alf.utils import dist_utils
from alf.utils.common import reset_state_if_necessary


def swap_time_and_batch(nest: Nest) -> Nest:
    """Return views of tensors ``[T, B, ...]`` as ``[B, T, ...]``, or the other way round."""
    return map_structure(lambda leaf: leaf.transpose(0, 1), nest)


def stack_steps(steps: List[Nest]) -> Nest:
    """Return tensors ``[T, ...]`` from the nests of ``T`` steps, all of one structure."""
    leaves, structure = flatten_with_structure(steps[0])
    columns = [leaves] + [flatten_with_structure(step)[0] for step in steps[1:]]
    return structure.unflatten(map(torch.stack, zip(*columns, strict=True)))


def cut_sequences(nest: Nest, length: int, overlap: int = 0) -> Nest:
    """Return tensors ``[T, B, ...]`` cut into sequences ``[length + overlap, N, ...]``, where
    ``N = (T - overlap) / length * B``.

    Args:
        nest: tensors ``[T, B, ...]``.
        length: steps from the beginning of a sequence to that of the next.
        overlap: steps that a sequence has in common with the next.
    Raises:
        ValueError: if ``T - overlap`` is not a multiple of ``length``.
    """

    def cut(leaf):
        num_steps = leaf.shape[0] - overlap
        if num_steps % length:
            raise ValueError(f"TrainerConfig.mini_batch_length: expected a divisor of the {num_steps} steps that an "
                             f"unroll gives to train on, got {length}. Change it or TrainerConfig.unroll_length.")
        return leaf.unfold(0, length + overlap, length).movedim(-1, 0).flatten(1, 2)

    return map_structure(cut, nest)


def mini_batches(nest: Nest, batch_size: int, num_epochs: int) -> Iterator[Nest]:
    """Yield mini batches ``[L, <= batch_size, ...]`` of sequences ``[L, N, ...]``, shuffled anew each epoch.

    The mini batches of an epoch are as equal in size as can be. One that takes all sequences is not shuffled.

    Args:
        nest: tensors ``[L, N, ...]``; ``L`` may differ from leaf to leaf.
        batch_size: sequences of a mini batch, at most.
        num_epochs: how often to go through all sequences.
    """
    leaves, structure = flatten_with_structure(nest)
    num_sequences = leaves[0].shape[1]
    num_batches = -(-num_sequences // batch_size)
    for _ in range(num_epochs):
        if num_batches == 1:
            yield nest
            continue
        order = torch.randperm(num_sequences, device=leaves[0].device)
        # One gather an epoch and views for the mini batches: far fewer calls than a gather for each of them.
        shuffled = [torch.tensor_split(leaf.index_select(1, order), num_batches, dim=1) for leaf in leaves]
        for batch in zip(*shuffled, strict=True):
            yield structure.unflatten(batch)


def step_through_time(train_step: Callable[[Nest, Nest, Nest], AlgStep], inputs: Nest, rollout_info: Nest,
                      initial_state: Nest, zero_state: Nest) -> Nest:
    """Return the infos ``[L, B, ...]`` of ``train_step`` called for each of ``L`` steps, the state carried along.

    Args:
        train_step: called with tensors ``[B, ...]``.
        inputs: time steps ``[L, B, ...]``.
        rollout_info: nest ``[L, B, ...]``.
        initial_state: state before the first step ``[B, ...]``.
        zero_state: what the state is set to where an episode begins ``[B, ...]``.
    """
    leaves, structure = flatten_with_structure((inputs, rollout_info))
    state = initial_state
    infos = []
    info_spec = None
    for step_leaves in zip(*[leaf.unbind(0) for leaf in leaves], strict=True):
        step_inputs, step_rollout_info = structure.unflatten(step_leaves)
        state = reset_state_if_necessary(state, zero_state, step_inputs.is_first())
        alg_step = train_step(step_inputs, state, step_rollout_info)
        state = alg_step.state
        if info_spec is None:
            info_spec = dist_utils.extract_spec(alg_step.info, from_dim=1)
        infos.append(dist_utils.distributions_to_params(alg_step.info))
    return dist_utils.params_to_distributions(stack_steps(infos), info_spec)


def step_at_once(train_step: Callable[[Nest, Nest, Nest], AlgStep], inputs: Nest, rollout_info: Nest,
                 no_state: Nest) -> Nest:
    """Return the infos ``[L, B, ...]`` of one call of ``train_step`` with time folded into the batch.

    Args:
        train_step: called with tensors ``[L * B, ...]``.
        inputs: time steps ``[L, B, ...]``.
        rollout_info: nest ``[L, B, ...]``.
        no_state: the state, a nest without leaves.
    """
    leaves, structure = flatten_with_structure((inputs, rollout_info))
    outer = leaves[0].shape[:2]
    folded_inputs, folded_info = structure.unflatten([leaf.flatten(0, 1) for leaf in leaves])
    info = train_step(folded_inputs, no_state, folded_info).info
    return unfold_time(info, outer)


def unfold_time(nest: Nest, outer: torch.Size) -> Nest:
    """Return tensors and distributions ``[L * B, ...]`` as ``[L, B, ...]``.

    Args:
        nest: of tensors and distributions.
        outer: ``(L, B)``.
    """

    def unfold(tensor):
        return tensor.unflatten(0, outer)

    def unfold_leaf(leaf):
        if isinstance(leaf, Distribution):
            params = map_structure(unfold, dist_utils.extract_distribution_parameters(leaf))
            return dist_utils.get_builder(leaf)(**params)
        return unfold(leaf)

    return map_structure(unfold_leaf, nest)
