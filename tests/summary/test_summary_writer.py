"""The files of summaries: faults of the disk, and what a resumed run does to them."""

import json
import logging
import os

import pytest
from absl import logging as absl_logging
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import alf.summary as summary
from alf.summary import _event_file, _writer


@pytest.fixture(autouse=True)
def fresh_state():
    summary.set_default_writer(None)
    summary.reset_global_counter()
    yield
    summary.set_default_writer(None)
    summary.reset_global_counter()


@pytest.fixture
def warnings(caplog):
    absl_logging.get_absl_logger().propagate = True
    caplog.set_level(logging.WARNING, logger="absl")
    return caplog


def scalars(directory, tag):
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(tag)]


def lines(directory):
    return [json.loads(line) for line in open(directory / "metrics.jsonl")]


def run(directory, steps, purge_step=None):
    """Record what a trainer would at `steps`; every training step is 1000 environment steps."""
    writer = summary.create_summary_writer(str(directory), purge_step=purge_step)
    with summary.push_summary_writer(writer):
        for step in steps:
            summary.set_global_counter(step)
            summary.scalar("loss", step)
            summary.scalar("Metrics_vs_EnvironmentSteps/AverageReturn", step, step=1000 * step)
    writer.close()


def test_resume_drops_what_came_after_the_checkpoint(tmp_path):
    run(tmp_path, range(1, 11))
    run(tmp_path, range(7, 9), purge_step=6)
    assert [step for step, _ in scalars(tmp_path, "loss")] == list(range(1, 9))
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 9))


def test_resume_keeps_curves_against_environment_steps(tmp_path):
    run(tmp_path, range(1, 11))
    run(tmp_path, range(7, 9), purge_step=6)
    steps = [step for step, _ in scalars(tmp_path, "Metrics_vs_EnvironmentSteps/AverageReturn")]
    assert steps == [1000 * step for step in range(1, 9)]


def test_resume_after_resume_cuts_every_file_where_it_passed_the_checkpoint(tmp_path):
    run(tmp_path, range(1, 11))
    run(tmp_path, range(7, 15), purge_step=6)
    run(tmp_path, range(3, 5), purge_step=2)
    assert [step for step, _ in scalars(tmp_path, "loss")] == [1, 2, 3, 4]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_without_purge_step_nothing_is_dropped(tmp_path):
    run(tmp_path, [1, 2])
    run(tmp_path, [3])
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_resume_passes_over_a_line_and_a_record_cut_off_by_a_kill(tmp_path):
    run(tmp_path, range(1, 5))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    events = next(path for path in tmp_path.iterdir() if "tfevents" in path.name)
    with open(events, "ab") as file:
        file.write(b"\x20\x00\x00")
    run(tmp_path, [4], purge_step=3)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    assert [step for step, _ in scalars(tmp_path, "loss")] == [1, 2, 3, 4]


def test_full_disk_is_told_once_and_recording_goes_on_when_it_is_over(tmp_path, monkeypatch, warnings):
    writer = summary.create_summary_writer(str(tmp_path), max_queue=1)
    summary.set_default_writer(writer)
    now = [100.0]
    monkeypatch.setattr(_writer.time, "monotonic", lambda: now[0])
    real_write = os.write
    full = True

    def write(descriptor, data):
        if full:
            real_write(descriptor, bytes(data)[:3])  # part of it still found room
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data)

    monkeypatch.setattr(_event_file.os, "write", write)
    for step in range(1, 6):
        summary.set_global_counter(step)
        summary.scalar("loss", step)
    assert len(warnings.records) == 1
    assert "No space left on device" in warnings.text and "Training goes on" in warnings.text

    full, now[0] = False, 200.0
    for step in range(6, 8):
        summary.set_global_counter(step)
        summary.scalar("loss", step)
    writer.close()
    assert [step for step, _ in scalars(tmp_path, "loss")] == [6, 7]
    assert [line["step"] for line in lines(tmp_path)][-1] == 7


def test_directory_that_cannot_be_made_does_not_stop_the_run(tmp_path, warnings):
    (tmp_path / "file").write_text("")
    writer = summary.create_summary_writer(str(tmp_path / "file" / "train"))
    with summary.push_summary_writer(writer):
        summary.scalar("loss", 1.0)
    writer.close()
    assert len(warnings.records) == 1 and "cannot be written" in warnings.text


def test_writer_that_was_closed_is_told(tmp_path):
    writer = summary.create_summary_writer(str(tmp_path), max_queue=1)
    writer.close()
    writer.close()
    with summary.push_summary_writer(writer), pytest.raises(ValueError, match="is closed"):
        summary.scalar("loss", 1.0)


def test_pending_events_are_written_when_the_interpreter_ends(tmp_path):
    import subprocess
    import sys

    code = (
        f"import alf.summary as s; s.set_default_writer(s.create_summary_writer({str(tmp_path)!r}))\n"
        "s.scalar('loss', 3.0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert scalars(tmp_path, "loss") == [(0, 3.0)] and lines(tmp_path)[0]["loss"] == 3.0


def test_flush_makes_everything_readable(tmp_path):
    writer = summary.create_summary_writer(str(tmp_path), max_queue=1000)
    with summary.push_summary_writer(writer):
        summary.scalar("loss", 3.0)
        writer.flush()
        assert scalars(tmp_path, "loss") == [(0, 3.0)] and lines(tmp_path)[0]["loss"] == 3.0
    writer.close()


@pytest.mark.parametrize("text", ["", "two\nlines | größer", "x" * 5000])
def test_texts_and_their_records_are_those_of_tensorboard_itself(text):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from torch.utils.tensorboard.summary import text as expected

    from alf.summary._media import text_summary

    payload = text_summary("a/b", text).SerializeToString()
    assert payload == expected("a/b", text).SerializeToString()
    record = _event_file.encode_record(payload)
    assert record[8:12] == masked_crc32c(record[:8]).to_bytes(4, "little")
    assert record[-4:] == masked_crc32c(payload).to_bytes(4, "little")
