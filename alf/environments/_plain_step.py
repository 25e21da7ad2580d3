"""PlainStep: what native code needs to make the plain steps of a Gymnasium environment by itself."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np

#: Types of numbers that a reward may have without a closer look.
NUMBERS = frozenset({float, int, bool, np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_})


class PlainStep(NamedTuple):
    """How to make a plain step of an environment: one that leads to MID, with a result of the usual types.

    Native code (``csrc/parallel_env/gym_stepper.h``) steps ``gym_step``, looks at the result and, if it is plain, does
    what ``step_into`` would do with it. If it is not, it puts the result as a tuple of one into ``env._made_result``
    and calls ``step_into``, which then does not step again. Where a reset is due, or a limit near, it only calls
    ``step_into``. The state of the episode stays in the Python objects.

    An AlfEnvironment offers this by its method ``_plain_step``. A wrapper may pass on that of its environment if it
    does nothing in plain steps, or nothing but count them (see ``counters``).
    """

    env: Any  # the AlfGymWrapper: `_reset_due` is read, `_info` and `_made_result` are set
    gym_step: Callable  # `step` of the Gymnasium environment
    gym_actions: list | None  # what `gym_step` is given for the discrete actions 0, 1, ...; None for arrays
    action_bounds: Any  # Box to whose bounds an action is clipped before `gym_step`, or None
    observation_dtype: np.dtype  # of the observation that `gym_step` returns; float64 may become float32
    observation_shape: tuple[int, ...]
    discount: float
    write_env_info: Callable  # `write(blocks, index, info)`, where `info` is not plain
    env_info_keys: list[str] | None  # keys of `info` in the order of the blocks, if all are plain numbers
    counters: tuple[Any, ...]  # wrappers with a `_reset_due`, that count steps in `_num_steps`, up to `_limit` or None
