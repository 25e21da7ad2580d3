"""Categorical value distributions: fixed atoms, their probabilities, and the projection of a target onto them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def atoms(v_min: float, v_max: float, num_atoms: int) -> Tensor:
    """Return the values ``[N]`` that a categorical value distribution is over, evenly spaced.

    Raises:
        ValueError: if there are fewer than two or their range is empty.
    """
    if num_atoms < 2 or not v_min < v_max:
        raise ValueError(f"categorical value distribution: expected num_atoms >= 2 and v_min < v_max, got "
                         f"num_atoms={num_atoms}, v_min={v_min}, v_max={v_max}.")
    return torch.linspace(v_min, v_max, num_atoms)


def categorical_mean(logits: Tensor, support: Tensor) -> Tensor:
    """Return the means ``[...]`` of distributions over ``support`` ``[N]``.

    Args:
        logits: ``[..., N]``.
        support: evenly spaced ``[N]``.
    """
    return logits.softmax(dim=-1) @ support


def project_onto_atoms(probs: Tensor, positions: Tensor, support: Tensor) -> Tensor:
    """Return the probabilities ``[..., N]`` over ``support`` that stand for masses at other positions.

    Eq. (7) of https://arxiv.org/abs/1707.06887: positions outside of the support are clipped to its ends, and each mass
    is shared by its two neighbouring atoms in inverse proportion to the distance. Mass is kept, and so is the mean if
    nothing was clipped.

    Args:
        probs: ``[..., N]``.
        positions: where the masses lie, for instance ``r + discount * support`` ``[..., N]``.
        support: evenly spaced ``[N]``.
    Raises:
        ValueError: if the shapes do not fit.
    """
    num_atoms = support.shape[0]
    if probs.shape != positions.shape or probs.shape[-1] != num_atoms:
        raise ValueError(f"project_onto_atoms: expected probs and positions [..., {num_atoms}], got "
                         f"{tuple(probs.shape)} and {tuple(positions.shape)}.")
    spacing = (support[-1] - support[0]) / (num_atoms - 1)
    place = ((positions - support[0]) / spacing).clamp(0, num_atoms - 1)
    # The last atom is the upper neighbour of the one before it, so that there always is an upper neighbour.
    below = place.floor().clamp(max=num_atoms - 2)
    mass_above = probs * (place - below)
    index = below.long()
    projected = torch.zeros_like(probs).scatter_add_(-1, index, probs - mass_above)
    return projected.scatter_add_(-1, index + 1, mass_above)


def categorical_divergence(logits: Tensor, target_probs: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergences ``[...]`` of targets from predicted distributions.

    That is the cross entropy of section 4 of https://arxiv.org/abs/1707.06887, less the entropy of the target: it has
    the same gradient, and is 0 where the prediction is right.

    Args:
        logits: of the prediction ``[..., N]``.
        target_probs: ``[..., N]``.
    """
    return (torch.xlogy(target_probs, target_probs) - target_probs * F.log_softmax(logits, dim=-1)).sum(dim=-1)
