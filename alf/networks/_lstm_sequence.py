"""An LSTM layer over whole sequences with resets inside: cut at the resets, the pieces run side by side."""

from typing import NamedTuple, Optional, Tuple

import torch

from alf.nest.utils import convert_device
from alf.networks.networks import LSTMCell


class Pieces(NamedTuple):
    """How sequences ``[T, B]`` are cut into ``N`` pieces, the longest first; ``P = T * B``, their length together."""

    columns: torch.Tensor  # int64 [N]: the sequence that each piece is from
    carries: torch.Tensor  # bool [N, 1]: begins from the state before the sequence rather than from zeros
    rows: torch.Tensor  # int64 [longest, N]: where each row of each piece stands in the flattened sequences
    places: torch.Tensor  # int64 [P]: the inverse of rows: where each row stands in the flattened pieces
    # Where the last state is needed; else None:
    sizes: Optional[torch.Tensor] = None  # int64 [longest], on the CPU: how many pieces are longer than 0, 1, ... steps
    packed_rows: Optional[torch.Tensor] = None  # int64 [P]: rows without what is beyond the end of a piece
    packed_places: Optional[torch.Tensor] = None  # int64 [P]: the inverse of packed_rows
    last: Optional[torch.Tensor] = None  # int64 [B]: the piece that each sequence ends with


def cut_at_resets(is_first: torch.Tensor, with_state: bool) -> Optional[Pieces]:
    """Return the pieces of sequences that are reset before the rows of ``is_first``, bool ``[T, B]``; None: nowhere.

    All is found on the CPU, so that a GPU is waited for once, and is on the device of ``is_first`` then.

    Args:
        is_first: where the state is reset before the step.
        with_state: whether the last state is needed.
    """
    device, is_first = is_first.device, is_first.cpu()
    if not is_first.any():
        return None
    num_steps, batch_size = is_first.shape
    begins = is_first.clone()
    begins[0] = True
    # Column by column, so that a piece ends where the next one in the list begins.
    by_column = begins.t().flatten()
    starts = by_column.nonzero().squeeze(1)
    ends = torch.cat([starts[1:], starts.new_tensor([num_steps * batch_size])])
    lengths, order = (ends - starts).sort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.shape[0], device="cpu")
    piece = by_column.cumsum(0) - 1
    step = torch.arange(num_steps * batch_size, device="cpu") - starts[piece]
    places = (step * order.shape[0] + rank[piece]).view(batch_size, num_steps).t().flatten()
    columns, first_rows = starts[order] // num_steps, starts[order] % num_steps
    steps = torch.arange(int(lengths[0]), device="cpu").unsqueeze(1)
    rows = (first_rows + steps).clamp(max=num_steps - 1) * batch_size + columns
    pieces = Pieces(
        columns=columns,
        carries=~is_first.t().flatten()[starts[order]].unsqueeze(1),
        rows=rows,
        places=places)
    if with_state:
        is_in = steps < lengths
        pieces = pieces._replace(
            sizes=is_in.sum(1),
            packed_rows=rows[is_in],
            packed_places=is_in.flatten().cumsum(0)[places] - 1,
            last=rank[begins.sum(0).cumsum(0) - 1])
    return convert_device(pieces, device)._replace(sizes=pieces.sizes)


def run_lstm(cell: LSTMCell, x: torch.Tensor, state: Tuple[torch.Tensor, torch.Tensor], pieces: Optional[Pieces],
             with_state: bool) -> Tuple[torch.Tensor, Tuple]:
    """Return the outputs ``[T, B, hidden]`` and the last state of an LSTM layer.

    Args:
        cell: the layer.
        x: inputs ``[T, B, ...]``.
        state: ``(h, c)`` before the first step, each ``[B, hidden]``.
        pieces: how the sequences are cut; None: there is no reset.
        with_state: whether the last state is needed. If not, it is ``()`` and pieces are padded to one length, which is
            several times faster for small layers: a few rows too many cost less than steps of different sizes.
    """
    weights = [cell.cell.weight_ih, cell.cell.weight_hh, cell.cell.bias_ih, cell.cell.bias_hh]
    # with biases, 1 layer, no dropout, torch's training mode (without it cuDNN has no backward), one direction
    mode = (weights, True, 1, 0.0, torch.is_grad_enabled(), False)
    if pieces is None:
        y, h, c = torch.lstm(x, tuple(s.unsqueeze(0) for s in state), *mode, False)
        return y, (h[0], c[0]) if with_state else ()
    begin = tuple((s[pieces.columns] * pieces.carries).unsqueeze(0) for s in state)
    rows = x.flatten(0, 1)
    if not with_state:
        y, _, _ = torch.lstm(rows[pieces.rows], begin, *mode, False)
        return y.flatten(0, 1)[pieces.places].unflatten(0, x.shape[:2]), ()
    # As torch.nn.utils.rnn.PackedSequence: at each step those pieces that are so long.
    y, h, c = torch.lstm(rows[pieces.packed_rows], pieces.sizes, begin, *mode)
    return y[pieces.packed_places].unflatten(0, x.shape[:2]), (h[0][pieces.last], c[0][pieces.last])
