"""What is told when memory runs out while training."""

from typing import Optional

import torch

from alf.algorithms.config import TrainerConfig
from alf.environments.fast_parallel_environment import is_of_environment

# PyTorch has no class of its own for main memory.
_WORDS_OF_MAIN_MEMORY = ("can't allocate memory", "not enough memory")


def advice(error: BaseException, config: TrainerConfig, num_envs: int) -> Optional[str]:
    """Return what to change after an error, or None if it does not say that memory ran out for training.

    Args:
        error: what ended training.
        config: of the run.
        num_envs: number of training environments.
    """
    if is_of_environment(error):
        return None
    on_gpu = isinstance(error, torch.OutOfMemoryError)
    if not on_gpu and not isinstance(error, MemoryError) and not any(w in str(error) for w in _WORDS_OF_MAIN_MEMORY):
        return None
    size, length = config.mini_batch_size or num_envs, config.sampled_length
    told = f"Memory ran out{' on the GPU' if on_gpu else ''}. An update takes {size} sequences of {length} steps."
    if on_gpu and torch.cuda.is_available():
        free, total = (number / 2**30 for number in torch.cuda.mem_get_info())
        told += f" {free:.1f} of {total:.1f} GiB are free, and {torch.cuda.memory_allocated() / 2**30:.1f} are ours."
    smaller = f'alf.config("TrainerConfig", mini_batch_size={size // 2})' if size > 1 else "a shorter mini_batch_length"
    return (f"{told} Try half of it, {smaller}, a smaller network or fewer environments; the same command goes on from "
            "the checkpoint.")
