"""Whether the disk can take the checkpoints of a run, asked before it needs them."""

import os
import shutil

from absl import logging

from alf.utils.checkpoint_utils import Checkpointer


def warn_if_scarce(checkpointer: Checkpointer, num_to_keep: int, share_of_replay: float) -> None:
    """Warn if the disk has less free space than the checkpoints of this run will take.

    While a checkpoint is written the one before it is still there, so the replay buffer counts twice.

    Args:
        checkpointer: of the run, whose objects exist.
        num_to_keep: how many checkpoints stay.
        share_of_replay: share of its capacity to which the replay buffer is filled now.
    """
    state_bytes, replay_bytes = checkpointer.state_bytes()
    replay_bytes = int(replay_bytes / share_of_replay) if share_of_replay > 0 else 0
    needed = (num_to_keep + 1) * state_bytes + 2 * replay_bytes
    free = shutil.disk_usage(checkpointer.ckpt_dir if os.path.isdir(checkpointer.ckpt_dir) else
                             os.path.dirname(checkpointer.ckpt_dir)).free
    free += _bytes_below(checkpointer.ckpt_dir)  # of an earlier start, which will be replaced
    if needed <= free:
        return
    replay = f" and a replay buffer of {told_bytes(replay_bytes)}, twice while one is saved" if replay_bytes else ""
    logging.warning(
        "DISK SPACE: checkpoints will need %s in %s (%d of %s%s), but only %s are free. Saving will fail, and training "
        "will go on without. Free disk space, choose another --root_dir, or set a lower "
        "TrainerConfig.num_checkpoints_to_keep%s.", told_bytes(needed), checkpointer.ckpt_dir, num_to_keep + 1,
        told_bytes(state_bytes), replay, told_bytes(free),
        " or ReplayBuffer.enable_checkpoint=False" if replay_bytes else "")


def _bytes_below(directory: str) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.path.getsize(os.path.join(folder, name))
            except OSError:
                continue  # it was removed meanwhile
    return total


def told_bytes(number: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
