"""PerProcessContext: which of the processes that train together this one is."""

from typing import Any, Optional


class PerProcessContext:
    """The record of that, one for the whole process: ``PerProcessContext()`` returns it each time."""

    _the_one: Optional["PerProcessContext"] = None

    def __new__(cls):
        if cls._the_one is None:
            cls._the_one = super().__new__(cls)
            cls._the_one._reset()
        return cls._the_one

    def _reset(self) -> None:
        self._rank = -1
        self._num_processes = 1
        self._is_final = False
        self._paras_queue = None

    def set_distributed(self, rank: int, num_processes: int) -> None:
        """Say that this process is one of several.

        Args:
            rank: its number, from 0.
            num_processes: how many there are.
        Raises:
            ValueError: if there is no such number.
            RuntimeError: after :meth:`finalize`.
        """
        self._check_open("set_distributed")
        if not 0 <= rank < num_processes:
            raise ValueError(f"PerProcessContext.set_distributed: expected a rank from 0 to {num_processes - 1}, got "
                             f"{rank}.")
        self._rank, self._num_processes = rank, num_processes

    def finalize(self) -> None:
        """Refuse changes from now on: what has been built relies on what is said."""
        self._is_final = True

    def _check_open(self, method: str) -> None:
        if self._is_final:
            raise RuntimeError(f"PerProcessContext.{method}: called after finalize(). Call it before anything is made.")

    @property
    def is_distributed(self) -> bool:
        """Whether this process is one of several."""
        return self._rank >= 0

    @property
    def ddp_rank(self) -> int:
        """Number of this process, from 0; -1: it trains alone."""
        return self._rank

    @property
    def num_processes(self) -> int:
        """How many processes train together."""
        return self._num_processes

    def set_paras_queue(self, paras_queue: Any) -> None:
        """Keep a queue for :attr:`paras_queue`: a published name, for code that compares parameters by itself."""
        self._check_open("set_paras_queue")
        self._paras_queue = paras_queue

    @property
    def paras_queue(self) -> Any:
        """What :meth:`set_paras_queue` was given, or None. Trainers do not need it: they ask each other."""
        return self._paras_queue
