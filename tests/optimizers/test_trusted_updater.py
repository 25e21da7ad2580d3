"""Tests of steps kept within a measured bound."""

import pytest
import torch

from alf.optimizers.trusted_updater import TrustedUpdater


def test_step_is_shortened_until_the_change_is_allowed():
    p = torch.nn.Parameter(torch.zeros(2))
    updater = TrustedUpdater([p])
    with torch.no_grad():
        p.copy_(torch.tensor([3.0, 4.0]))

    def change():
        return dict(norm=torch.linalg.vector_norm(p))

    first, num_rounds = updater.adjust_step(change, dict(norm=1.0))
    assert first["norm"].item() == 5.0 and num_rounds == 1
    torch.testing.assert_close(p.detach(), torch.tensor([0.54, 0.72]))


def test_allowed_step_is_kept():
    p = torch.nn.Parameter(torch.zeros(2))
    updater = TrustedUpdater([p])
    with torch.no_grad():
        p.copy_(torch.ones(2))
    assert updater.adjust_step(lambda: p.sum(), 2.0)[1] == 0
    assert p.tolist() == [1.0, 1.0]


def test_change_that_cannot_be_bounded_is_told():
    updater = TrustedUpdater([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(RuntimeError, match="still exceed .* after 100 rounds"):
        updater.adjust_step(lambda: torch.tensor(3.0), 1.0)
    with pytest.raises(RuntimeError, match="not finite"):
        updater.adjust_step(lambda: torch.tensor(float("nan")), 1.0)
    for changes in ([0.5, float("nan")], [float("nan"), 0.5]):
        with pytest.raises(RuntimeError, match="changes are not finite"):
            updater.adjust_step(lambda changes=changes: torch.tensor(changes).unbind(), (1.0, 1.0))
