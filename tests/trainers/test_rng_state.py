"""Random numbers after a state is loaded are those after it was saved."""

import random

import numpy as np
import torch

from alf.trainers._rng_state import RngState
from alf.utils.checkpoint_utils import Checkpointer


def _draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


def test_all_generators_go_on_where_they_were(tmp_path):
    random.gauss(0, 1)  # leaves a second number behind
    np.random.randn()
    checkpointer = Checkpointer(str(tmp_path), rng=RngState())
    checkpointer.save(1)
    expected = [_draw() for _ in range(3)]
    checkpointer.load()
    assert [_draw() for _ in range(3)] == expected
