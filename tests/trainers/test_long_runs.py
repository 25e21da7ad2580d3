"""Runs of billions of steps: counters and schedules stay exact."""

from fractions import Fraction

import pytest
import torch

from alf import progress
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.summary._event_file import iterate_records
from alf.summary.summary_ops import create_summary_writer
from alf.tensor_specs import TensorSpec
from alf.trainers.policy_trainer import TrainerProgress
from alf.utils.checkpoint_utils import Checkpointer
from alf.utils.schedulers import LinearScheduler

LARGE = [2**31 - 1, 2**31 + 1, 2**53 + 1, 2**62 + 1]


@pytest.mark.parametrize("steps", LARGE)
def test_progress_in_a_checkpoint_is_exact(tmp_path, steps):
    saved, loaded = TrainerProgress(), TrainerProgress()
    saved.env_steps, saved.iterations, saved.global_counter = steps, steps - 2, steps - 1
    Checkpointer(str(tmp_path), progress=saved).save(saved.iterations)
    assert Checkpointer(str(tmp_path), progress=loaded).load() == steps - 2
    assert loaded.state_dict() == {
        "env_steps": steps, "iterations": steps - 2, "global_counter": steps - 1, "seconds": 0.0}


@pytest.mark.parametrize("step", [1, 10**9 + 1, 2 * 10**9 - 1])
def test_schedule_is_exact_at_a_billion_steps(step):
    schedule = LinearScheduler("env_steps", [(0, 1.0), (2 * 10**9, 0.0)])
    progress.update_all_progresses({"percent": 0.0, "iterations": 0, "env_steps": step, "global_counter": 0})
    exact = 1 - Fraction(step, 2 * 10**9)
    assert schedule() == pytest.approx(float(exact), rel=1e-12, abs=1e-16)  # float32 would be off by 1e-8


@pytest.mark.parametrize("step", LARGE)
def test_events_keep_large_steps(tmp_path, step):
    from tensorboard.compat.proto.event_pb2 import Event
    writer = create_summary_writer(str(tmp_path))
    writer.add_scalar("x", 1.0, step)
    writer.close()
    (path, ) = tmp_path.glob("events.*")
    assert [Event.FromString(payload).step for _, payload in iterate_records(str(path))][-1] == step


@pytest.mark.parametrize("steps", LARGE[:3])
def test_replay_buffer_goes_on_after_billions_of_steps(steps):
    buffer = ReplayBuffer(TensorSpec((), torch.int64), num_environments=2, max_length=10)
    buffer._storage.counts[0].fill_(steps)
    buffer._storage.counts[2].fill_(steps)
    for i in range(10):
        buffer.add_batch(torch.tensor([100 + i, 200 + i]))
    batch, info = buffer.get_batch(20, 2)
    # The value of a step tells its position, whatever the ring did.
    expected = (1 + info.env_ids) * 100 + info.positions - steps
    assert torch.equal(batch[:, 0], expected) and torch.equal(batch[:, 1], expected + 1)
    assert int(info.positions.min()) >= steps and int(info.positions.max()) <= steps + 8
