"""Priorities of sequences from the TD errors in them, Section 2.3 of https://openreview.net/forum?id=r1lyTjAqYX."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sequence_priority(td_errors: Tensor, counts: Tensor, eta: float) -> Tensor:
    """Return ``eta max_t |delta_t| + (1 - eta) mean_t |delta_t|`` ``[...]``; 0 where no row counts.

    Args:
        td_errors: ``[T, ...]``.
        counts: bool ``[T, ...]``: rows whose error counts.
        eta: weight of the largest.
    """
    magnitude = td_errors.abs() * counts
    mean = magnitude.sum(0) / counts.sum(0).clamp(min=1)
    return torch.lerp(mean, magnitude.amax(0), eta)


def priorities_from_each_row(td_errors: Tensor, counts: Tensor, eta: float, skip: int, length: int) -> Tensor:
    """Return, for each row of an unroll, the priority of the sequence that begins there, ``[T + 1, B]``.

    It is made of what the unroll shows of that sequence; where that is nothing, of the whole unroll.

    Args:
        td_errors: ``[T, B]``; the last row of the unroll has none, for what follows is not known yet.
        counts: bool ``[T, B]``: rows whose error counts.
        eta: weight of the largest.
        skip: rows at the beginning of a sequence that are not trained on.
        length: rows after them that are trained on.
    """
    num_rows = td_errors.shape[0] + 1

    def windows(x):
        """Return ``[length, T + 1, B]``."""
        padded = F.pad(x, (0, 0, 0, skip + length))[skip:]
        return padded.unfold(0, length, 1)[:num_rows].movedim(-1, 0)

    in_window = windows(counts)
    seen = sequence_priority(windows(td_errors), in_window, eta)
    return torch.where(in_window.any(0), seen, sequence_priority(td_errors, counts, eta))
