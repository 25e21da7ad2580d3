"""JointTraining: what keeps trainers in several processes equal. One that trains alone has nothing to exchange."""

import contextlib
import os
from typing import Any, ContextManager, Dict, List, NamedTuple, Tuple

import torch
from absl import logging
from torch import nn

from alf import summary
from alf.trainers import _run_directory
from alf.trainers._signals import EXIT_CODES
from alf.utils import distributed
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError

LOST_EXIT_CODE = 4  # of a process that ends because another one is gone

_LEAVE_CODES = tuple(EXIT_CODES.values())


class Wishes(NamedTuple):
    """What is asked of a trainer between two iterations, by signals or the clock."""
    checkpoint: bool = False  # to be saved now, and told
    overdue: bool = False  # a checkpoint, by the clock
    leave: int = 0  # exit code with which to leave; 0: go on


class JointTraining:
    """The part of a trainer that knows of the other processes.

    All have the same parameters: they begin with those of the first, and their gradients are averaged. Buffers, such as
    the statistics of normalizers, are after each iteration those of the first. Each has its own environments, replay
    buffer and random numbers, and saves them itself; everything else is saved, written and shown by the first.

    Args:
        ddp_rank: number of this process; -1: it trains alone.
        root_dir: directory of the run.
    """

    def __init__(self, ddp_rank: int, root_dir: str):
        self.is_alone = ddp_rank < 0
        self.is_first = ddp_rank <= 0
        self._root_dir = root_dir
        self._own_dir = root_dir if self.is_first else process_dir(root_dir, ddp_rank)
        self._shared: Dict[str, Any] = {}

    @property
    def log_path(self) -> str:
        """The file in which this process logs."""
        return os.path.join(self._own_dir, "train.log")

    def directory_locked(self) -> ContextManager:
        """Return a context in which no other training can take up the run. The first process sees to it."""
        if self.is_first:
            return _run_directory.locked(self._root_dir)
        os.makedirs(self._own_dir, exist_ok=True)
        return contextlib.nullcontext()

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def checkpointer(self, max_to_keep: int, shared: Dict[str, Any], own: Dict[str, Any]) -> Checkpointer:
        """Return what saves the part of a checkpoint that is up to this process.

        Args:
            max_to_keep: number of checkpoints.
            shared: what is the same in all processes, by name.
            own: what each process has of its own.
        """
        self._shared = shared
        return Checkpointer(self._checkpoint_dir, max_to_keep=max_to_keep, **(shared if self.is_first else {}), **own)

    @property
    def _shared_dir(self) -> str:
        return os.path.join(self._root_dir, "train", "algorithm")

    @property
    def _checkpoint_dir(self) -> str:
        return self._shared_dir if self.is_first else os.path.join(self._own_dir, "checkpoints")

    def save(self, checkpointer: Checkpointer, step: int) -> str:
        """Save a checkpoint and return its path: the others save their parts, then the first, which makes it count.

        A kill in between leaves the checkpoint before as it was, with all its parts.

        Args:
            checkpointer: what :meth:`checkpointer` returned.
            step: number of the checkpoint.
        Raises:
            CheckpointError: if any process could not save its part.
        """
        if self.is_alone:
            return checkpointer.save(step)
        path, failure = "", None
        for is_turn in (not self.is_first, self.is_first):
            if is_turn and failure is None:
                try:
                    path = checkpointer.write(step)
                except CheckpointError as error:
                    failure = error
            num_failures = distributed.total([failure is not None])[0]
            if num_failures and failure is None:
                failure = CheckpointError("another process could not save its part; see its train.log.")
        if failure is not None:
            raise failure
        checkpointer.drop_older(step)
        return path

    def load(self, checkpointer: Checkpointer) -> Tuple[bool, bool]:
        """Load the newest checkpoint. All processes load that which the first can.

        Args:
            checkpointer: what :meth:`checkpointer` returned.
        Returns:
            Whether there is one, and whether all processes have their parts of it.
        """
        step = checkpointer.load() if self.is_first else 0
        if self.is_alone:
            return step >= 0, True
        step = int(distributed.total([step])[0])
        if step < 0:
            return False, True
        has_part = self.is_first or self._load_part(checkpointer, step)
        has_all = distributed.total([not has_part])[0] == 0
        if has_part and not has_all:
            logging.warning("another process has no part of the checkpoint of iteration %d: new episodes begin, with "
                            "empty replay buffers.", step)
        return True, has_all

    def _load_part(self, checkpointer: Checkpointer, step: int) -> bool:
        """Load what is the same in all processes, and the part of this one; return whether there is such a part."""
        Checkpointer(self._shared_dir, **self._shared).load(step)
        try:
            checkpointer.load(step)
            return True
        except CheckpointError as error:
            logging.warning("%s New episodes begin, with empty replay buffers; so it is after a start with fewer "
                            "processes.", error)
            return False

    # ---- the same in all processes -------------------------------------------------------------------------------

    def begin(self, algorithm: nn.Module) -> None:
        """Take over parameters and buffers of the first process."""
        if not self.is_alone:
            distributed.broadcast([*algorithm.parameters(), *_lasting_buffers(algorithm)])

    def after_iteration(self, algorithm: nn.Module) -> None:
        """Take over the buffers of the first process, which are changed by what each saw itself."""
        if not self.is_alone:
            distributed.broadcast(_lasting_buffers(algorithm))

    def check_parameters(self, algorithm: nn.Module) -> None:
        """Raise if parameters are not the same in all processes.

        Raises:
            RuntimeError: naming the first one that is not.
        """
        if self.is_alone:
            return
        name = distributed.first_difference(list(algorithm.named_parameters()))
        if name is not None:
            raise RuntimeError(
                f"TrainerConfig.ddp_paras_check_interval: {name} is not the same in all processes. Something other "
                "than the gradients of the losses changes it, from what only one process sees: let it be a buffer "
                "(register_buffer), which all take from the first process.")
        summary.scalar("DDP/para_consistency", 1.0)

    def exchange(self, counts: List[int], wishes: Wishes) -> Tuple[List[int], Wishes]:
        """Return counts summed over all processes, and what any of them is asked for.

        Args:
            counts: of this process.
            wishes: of this process.
        """
        if self.is_alone:
            return counts, wishes
        leaves = [wishes.leave == code for code in _LEAVE_CODES]
        *counts, checkpoint, overdue, interrupted, terminated = distributed.total(
            [*counts, wishes.checkpoint, wishes.overdue, *leaves])
        asked = [code for code, count in zip(_LEAVE_CODES, (interrupted, terminated), strict=True) if count]
        return [int(count) for count in counts], Wishes(checkpoint > 0, overdue > 0, max(asked, default=0))


def process_dir(root_dir: str, ddp_rank: int) -> str:
    """Return the directory of a process other than the first, with its log and its part of checkpoints."""
    return os.path.join(root_dir, "train", f"process{ddp_rank}")


def _lasting_buffers(module: nn.Module) -> List[torch.Tensor]:
    """Return the buffers under a module that a checkpoint would hold: others never change."""
    seen = {}
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and name not in part._non_persistent_buffers_set:
                seen[id(buffer)] = buffer
    return list(seen.values())
