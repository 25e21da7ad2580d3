"""What tests of algorithms, networks and confs inherit: ``alf.test.TestCase``; ``alf.test.main()`` runs them."""

import unittest
from typing import Optional

import torch

from alf import progress, summary
from alf.config_helpers import close_env
from alf.config_util import reset_configs
from alf.utils import common

__all__ = ["TestCase", "main"]

main = unittest.main


class TestCase(unittest.TestCase):
    """A test that begins as a fresh process does, with a fixed seed, and leaves nothing behind.

    A subclass that overrides ``setUp`` calls that of this class first.
    """

    def setUp(self):
        """Forget configs, environment, progress and the counter of summaries, and fix the seeds."""
        super().setUp()
        _forget()
        self.addCleanup(_forget)
        common.set_random_seed(0)

    def assertTensorEqual(self, t1: torch.Tensor, t2: torch.Tensor, msg: Optional[str] = None):
        """Fail unless two tensors have the same shape and the same elements."""
        self._check_tensors(t1, t2, msg)
        if not torch.equal(t1, t2):
            self.fail(self._formatMessage(msg, f"{t1} != {t2}"))

    def assertTensorClose(self, t1: torch.Tensor, t2: torch.Tensor, epsilon: float = 1e-6, msg: Optional[str] = None):
        """Fail unless two tensors have the same shape and no elements differ by more than ``epsilon``."""
        self._check_tensors(t1, t2, msg)
        difference = _largest_difference(t1, t2)
        if not difference <= epsilon:
            self.fail(self._formatMessage(msg, f"{t1} and {t2} differ by {difference}, expected at most {epsilon}"))

    def assertTensorNotClose(self, t1: torch.Tensor, t2: torch.Tensor, epsilon: float = 1e-6,
                             msg: Optional[str] = None):
        """Fail unless two tensors have the same shape and some elements differ by more than ``epsilon``."""
        self._check_tensors(t1, t2, msg)
        difference = _largest_difference(t1, t2)
        if difference <= epsilon:
            self.fail(self._formatMessage(msg, f"{t1} and {t2} differ by {difference}, expected more than {epsilon}"))

    def _check_tensors(self, t1: torch.Tensor, t2: torch.Tensor, msg: Optional[str]) -> None:
        for t in (t1, t2):
            self.assertIsInstance(t, torch.Tensor, msg)
        self.assertEqual(t1.shape, t2.shape, msg)


def _largest_difference(t1: torch.Tensor, t2: torch.Tensor) -> float:
    """Return the largest difference of two elements; NaN if one is NaN or both are the same infinity."""
    return float((t1.double() - t2.double()).abs().max()) if t1.numel() else 0.0


def _forget() -> None:
    close_env()
    reset_configs()
    progress.reset_progress()
    summary.reset_global_counter()
