"""How the starts of sampled sequences are drawn. Random numbers are torch's, so that its seed decides."""

from __future__ import annotations

import math
from typing import Optional

import torch

from alf.experience_replayers._backend import backend


def _plain(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor as it is in C++: contiguous, in main memory, without a graph."""
    if tensor.dtype is not dtype or not tensor.is_cpu:
        tensor = tensor.detach().to("cpu", dtype)
    return tensor.contiguous()


class Starts:
    """Draws starts, each with the same probability.

    Args:
        num_ignored: how many of the earliest steps of an environment are no starts.
        interval: only positions that are multiples of it are starts.
        with_replacement: whether a start may come twice in a batch though there are others.
        recent_steps: how many of the latest starts of each environment count as recent.
        recent_ratio: part of a batch that is drawn from the recent ones.
    """

    def __init__(self, num_ignored: int, interval: int, with_replacement: bool, recent_steps: int, recent_ratio: float):
        self._num_ignored, self._interval = num_ignored, interval
        self._with_replacement = with_replacement
        self._recent_steps, self._recent_ratio = recent_steps, recent_ratio
        self._backend = backend()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_backend"}

    def __setstate__(self, state):
        self.__dict__.update(state, _backend=backend())

    def count(self, counts: torch.Tensor, length: int, recent: bool = False) -> int:
        """Return how many starts of sequences of ``length`` steps there are. ``counts`` as in RowStorage."""
        return self._backend.count_starts(counts, length, self._num_ignored, self._interval,
                                          self._recent_steps if recent else 0)

    def _locate(self, drawn: torch.Tensor, counts: torch.Tensor, length: int, recent: bool = False):
        return self._backend.locate_starts(drawn, counts, length, self._num_ignored, self._interval,
                                           self._recent_steps if recent else 0)

    def _numbers(self, total: int, batch_size: int) -> torch.Tensor:
        """Return ``batch_size`` numbers below ``total``, none twice if there are enough, else as evenly as possible."""
        if self._with_replacement:
            return torch.randint(total, (batch_size, ), device="cpu")
        if batch_size > total:
            again = torch.arange(total, device="cpu").repeat(batch_size // total)
            numbers = torch.cat([again, torch.randperm(total, device="cpu")[:batch_size % total]])
            return numbers[torch.randperm(batch_size, device="cpu")]
        if 2 * batch_size > total:
            return torch.randperm(total, device="cpu")[:batch_size]
        numbers = torch.randint(total, (batch_size, ), device="cpu")
        while places := self._backend.repeated(numbers):
            numbers[places] = torch.randint(total, (len(places), ), device="cpu")
        return numbers

    def num_recent(self, counts: torch.Tensor, batch_size: int, length: int) -> tuple[int, int]:
        """Return how many of a batch are drawn from recent starts, and how many of these there are."""
        if self._recent_ratio == 0:
            return 0, 0
        available = self.count(counts, length, recent=True)
        wanted = int(batch_size * self._recent_ratio + 1e-6)  # not 28 of 100 * 0.29
        return (wanted if self._with_replacement else min(wanted, available)), available

    def draw_recent(self, counts: torch.Tensor, number: int, available: int, length: int):
        """Return environments and positions, int64 ``[number]``, of recent starts."""
        return self._locate(self._numbers(available, number), counts, length, recent=True)

    def draw(self, counts: torch.Tensor, total: int, batch_size: int, length: int):
        """Return environments and positions, int64 ``[batch_size]``, of starts, of which there are ``total``."""
        num_recent, available = self.num_recent(counts, batch_size, length)
        if num_recent == 0:
            return self._locate(self._numbers(total, batch_size), counts, length)
        recent = self.draw_recent(counts, num_recent, available, length)
        if self._with_replacement or batch_size > total:
            others = self._locate(self._numbers(total, batch_size - num_recent), counts, length)
        else:
            others = self._draw_others(recent, counts, total, batch_size - num_recent, length)
        return tuple(torch.cat(parts) for parts in zip(recent, others))

    def _draw_others(self, taken, counts: torch.Tensor, total: int, number: int, length: int):
        """Return starts that are not among ``taken``, a pair of environments and positions."""
        num_environments = counts.shape[1]

        def keys(env_ids, positions):
            return positions * num_environments + env_ids

        if 2 * (number + len(taken[0])) > total:
            everything = self._locate(torch.arange(total, device="cpu"), counts, length)
            free = (~torch.isin(keys(*everything), keys(*taken))).nonzero().squeeze(1)
            chosen = free[torch.randperm(len(free), device="cpu")[:number]]
            return tuple(part[chosen] for part in everything)
        numbers = torch.randint(total, (number, ), device="cpu")
        while True:
            others = self._locate(numbers, counts, length)
            places = self._backend.repeated(torch.cat([keys(*taken), keys(*others)]))
            if not places:
                return others
            places = torch.tensor(places, device="cpu") - len(taken[0])
            numbers[places] = torch.randint(total, (len(places), ), device="cpu")

    def is_recent(self, env_ids: torch.Tensor, positions: torch.Tensor, counts: torch.Tensor, length: int):
        """Return which starts are recent, bool with the shape of the arguments."""
        latest = torch.div(counts[0] - length, self._interval, rounding_mode="floor") * self._interval
        return positions > (latest - self._recent_steps * self._interval)[env_ids]


class PrioritizedStarts:
    """Draws starts in proportion to their priorities, by stratified sampling (appendix B.2.1 of
    https://arxiv.org/abs/1511.05952).

    Args:
        counts: int64 ``[3, num_environments]``, see RowStorage.
        max_length: steps of each environment.
        initial_priority: priority of new steps until a larger one is given.
        interval: only positions that are multiples of it are starts.
        num_ignored: how many of the earliest steps of an environment are no starts.
        name: what messages call the buffer.
    """

    def __init__(self, counts: torch.Tensor, max_length: int, initial_priority: float, interval: int, num_ignored: int,
                 name: str):
        self._counts, self._interval, self._num_ignored, self._name = counts, interval, num_ignored, name
        self._max_length = max_length
        #: float64 [num_environments, max_length]: priorities of stored steps.
        self.values = torch.zeros((counts.shape[1], max_length), dtype=torch.float64, device="cpu")
        #: the largest priority so far
        self.largest = self._checked("initial_priority", torch.tensor([initial_priority], device="cpu")).item()
        self._strata = torch.arange(0, dtype=torch.float64, device="cpu")  # as many as were last drawn
        self.rebuild()

    def rebuild(self) -> None:
        """Forget what was derived from :attr:`values`."""
        self._impl = backend().Priorities(self.values, self._counts, self._interval)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_impl"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.rebuild()

    def _checked(self, argument: str, priorities: torch.Tensor) -> torch.Tensor:
        """Return priorities as float64 in main memory, flat.

        Raises:
            ValueError: for the first one that is negative, NaN or infinite.
        """
        values = priorities.detach().to("cpu", torch.float64).reshape(-1).contiguous()
        if values.numel() and not (float(values.min()) >= 0 and float(values.max()) < math.inf):
            index = int((~((values >= 0) & (values < math.inf))).nonzero()[0])
            raise ValueError(f"{self._name}.{argument}: expected finite numbers >= 0, got {float(values[index])} at "
                             f"index {index}.")
        return values

    def add(self, num_steps: int, env_ids: torch.Tensor, priorities: Optional[torch.Tensor]) -> None:
        """Set the priorities ``[T, B]`` of the ``num_steps`` steps just stored; None: the largest so far.

        Algorithm 1, line 6 of https://arxiv.org/abs/1511.05952: so that every step is soon learned from once.
        """
        if priorities is None:
            self._impl.fill(env_ids, num_steps, self.largest)
            return
        kept = min(num_steps, self._max_length)
        positions = self._counts[0][env_ids] - kept + torch.arange(kept, device="cpu").unsqueeze(1)
        values = priorities.reshape(num_steps, -1)[num_steps - kept:].reshape(-1)
        self._impl.update(env_ids.expand_as(positions).contiguous(), positions, values)
        if priorities.numel():
            self.largest = max(self.largest, float(priorities.max()))

    def check(self, priorities: torch.Tensor, shape: tuple) -> torch.Tensor:
        """Return the priorities of steps to be stored as float64 of that shape in main memory."""
        if tuple(priorities.shape) != shape:
            raise ValueError(f"{self._name}.priorities: expected shape {list(shape)}, got {list(priorities.shape)}.")
        return self._checked("priorities", priorities).view(shape)

    def update(self, env_ids: torch.Tensor, positions: torch.Tensor, priorities: torch.Tensor) -> None:
        """Set the priorities of steps; those that are not stored any more are left out."""
        env_ids, positions = _plain(env_ids, torch.int64), _plain(positions, torch.int64)
        values = _plain(priorities, torch.float64)
        problem, index, largest = self._impl.update(env_ids, positions, values)
        if problem == 1:
            self._checked("update_priority: priorities", values)
        if problem == 2:
            env, position = int(env_ids.reshape(-1)[index]), int(positions.reshape(-1)[index])
            raise ValueError(f"{self._name}.update_priority: positions: expected positions below "
                             f"{int(self._counts[0][env])}, the next one of environment {env}, got {position} at index "
                             f"{index}.")
        self.largest = max(self.largest, largest)

    def draw(self, starts: Starts, total: int, batch_size: int, length: int):
        """Return environments, positions, int64 ``[B]``, and probability times ``total``, float64 ``[B]``.

        Args:
            starts: what counts as recent.
            total: number of starts.
            batch_size: number of sequences.
            length: their length.
        Raises:
            ValueError: if all priorities are 0.
        """
        mass = self._impl.synchronize(length, self._num_ignored)
        if not 0 < mass < math.inf:
            raise ValueError(f"{self._name}: the priorities of the {total} starts of sequences of {length} steps sum "
                             f"to {mass}: nothing can be drawn. Give priorities above 0 with a finite sum "
                             f"(TrainerConfig.priority_replay_eps is the smallest one).")
        num_recent, num_recent_starts = starts.num_recent(self._counts, batch_size, length)
        number = batch_size - num_recent
        if len(self._strata) != number:
            self._strata = torch.arange(number, dtype=torch.float64, device="cpu")
        bounds = torch.rand(number, dtype=torch.float64, device="cpu")
        bounds += self._strata
        bounds *= mass / max(number, 1)
        env_ids, positions, values = self._impl.find(bounds)
        if num_recent == 0:
            return env_ids, positions, values * (total / mass)
        recent = starts.draw_recent(self._counts, num_recent, num_recent_starts, length)
        env_ids, positions = torch.cat([recent[0], env_ids]), torch.cat([recent[1], positions])
        values = torch.cat([self._impl.weights(*recent), values])
        ratio = num_recent / batch_size
        is_recent = starts.is_recent(env_ids, positions, self._counts, length)
        weights = (1 - ratio) * values / mass + ratio * is_recent / num_recent_starts
        return env_ids, positions, weights * total
