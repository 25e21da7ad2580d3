"""When something is recorded, under which name, at which step."""

import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import alf.summary as summary


@pytest.fixture(autouse=True)
def fresh_state():
    summary.set_default_writer(None)
    summary.enable_summary()
    summary.reset_global_counter()
    yield
    summary.set_default_writer(None)
    summary.enable_summary()
    summary.reset_global_counter()
    summary.should_summarize_output(False)


@pytest.fixture
def written(tmp_path):
    """Make a default writer; return a function that gives what was written."""
    writer = summary.create_summary_writer(str(tmp_path))
    summary.set_default_writer(writer)

    def read():
        writer.close()
        events = EventAccumulator(
            str(tmp_path), size_guidance={"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}
        )
        events.Reload()
        return events

    read.lines = lambda: [json.loads(line) for line in open(tmp_path / "metrics.jsonl")]
    read.dir = tmp_path
    return read


class Unreadable:
    """A value that must not be looked at."""

    def item(self):
        raise AssertionError("a value was read though nothing is recorded")


def test_nothing_is_read_from_a_value_that_is_not_recorded():
    summary.scalar("a", Unreadable())  # no writer


def test_scalar_is_recorded_at_the_global_counter(written):
    summary.set_global_counter(7)
    summary.scalar("a", torch.tensor(1.5))
    summary.increment_global_counter()
    summary.scalar("a", np.float32(2.5))
    assert [(e.step, e.value) for e in written().Scalars("a")] == [(7, 1.5), (8, 2.5)]


def test_global_counter_is_exact_beyond_2_to_53():
    summary.set_global_counter(2**53)
    summary.increment_global_counter()
    assert summary.get_global_counter() == 2**53 + 1


def test_step_and_walltime_can_be_given(written):
    summary.scalar("a", 1, step=2**40, walltime=123.0)
    event = written().Scalars("a")[0]
    assert (event.step, event.wall_time) == (2**40, 123.0)


def test_scopes_are_joined_by_slashes_and_left_again(written):
    with summary.scope("x") as name:
        assert name == "x/"
        with summary.scope("y"):
            assert summary.scope_name() == "x/y/"
            summary.scalar("a", 1.0)
    assert summary.scope_name() == ""
    assert written().Tags()["scalars"] == ["x/y/a"]


def test_scope_that_ends_with_a_slash_replaces_the_ones_around_it():
    with summary.scope("x"), summary.scope("p/q/"):
        assert summary.scope_name() == "p/q/"
    with summary.scope("x"), summary.scope("/"):
        assert summary.scope_name() == ""


def test_scope_is_left_when_an_error_passes():
    with pytest.raises(KeyError), summary.scope("x"):
        raise KeyError
    assert summary.scope_name() == ""


def test_record_if_asks_at_every_summary_and_the_innermost_decides(written):
    on = False
    with summary.record_if(lambda: on):
        assert not summary.should_record_summaries()
        on = True
        assert summary.should_record_summaries()
        with summary.record_if(lambda: False):
            assert not summary.should_record_summaries()
        assert summary.should_record_summaries()
    assert summary.should_record_summaries()


def test_record_if_refuses_a_bool():
    with pytest.raises(TypeError, match=r"record_if\(lambda: True\)"):
        summary.record_if(True)


def test_disable_summary_wins_over_everything(written):
    summary.disable_summary()
    with summary.record_if(lambda: True):
        assert not summary.should_record_summaries() and not summary.is_summary_enabled()


def test_pushed_writer_is_used_instead_of_the_default_one(written, tmp_path):
    other = summary.create_summary_writer(str(tmp_path / "other"))
    with summary.push_summary_writer(other):
        summary.scalar("a", 1.0)
    summary.scalar("b", 1.0)
    other.close()
    events = EventAccumulator(str(tmp_path / "other"))
    events.Reload()
    assert events.Tags()["scalars"] == ["a"]
    assert written().Tags()["scalars"] == ["b"]


def test_default_writer_set_inside_a_push_is_used_after_it(tmp_path):
    with summary.push_summary_writer(None):
        summary.set_default_writer(summary.create_summary_writer(str(tmp_path)))
        assert not summary.should_record_summaries()
    assert summary.should_record_summaries()


def test_ensure_summary_carries_the_wish_to_the_next_run_of_the_block(written):
    ensure = summary.EnsureSummary()
    recorded = []
    for iteration in range(8):
        with summary.record_if(lambda: iteration in (1, 2)):  # noqa: B023
            ensure.tick()
            if iteration in (3, 7):
                with ensure:
                    recorded.append(summary.should_record_summaries())
    assert recorded == [True, False]


def test_enter_summary_scope_uses_the_name_of_the_object():
    class Thing:
        _name = "thing"

        @summary.enter_summary_scope
        def act(self, x):
            return summary.scope_name(), x

    assert Thing().act(3) == ("thing/", 3)


def test_should_summarize_output_is_set_and_told():
    assert summary.should_summarize_output() is False
    assert summary.should_summarize_output(True) is True
    assert summary.should_summarize_output() is True


def test_scalar_of_several_numbers_is_refused_with_name_and_shape(written):
    with (
        summary.scope("s"),
        pytest.raises(ValueError, match=r"'s/a': expected one real number, got shape \(2,\)"),
    ):
        summary.scalar("a", torch.zeros(2))


def test_lines_hold_the_scalars_of_a_step(written):
    for step in (1, 2):
        summary.set_global_counter(step)
        summary.scalar("a", step / 2)
        summary.scalar("b", torch.tensor(float("nan")))
        summary.scalar("c", 1, step=1000)
    written()
    lines = written.lines()
    assert [(line["step"], line["a"], line["b"]) for line in lines] == [(1, 0.5, "nan"), (2, 1.0, "nan")]
    assert all(line["time"] > 1.7e9 and "c" not in line for line in lines)


def test_numbers_in_lines_are_exact(written):
    summary.scalar("steps", torch.tensor(2**53 + 1))
    written()
    assert written.lines()[0]["steps"] == 2**53 + 1


def test_histogram_counts_every_finite_value(written):
    data = torch.tensor([-1.0, 0.0, 2.0, 2.0, float("inf"), float("nan")])
    summary.histogram("h", data)
    value = written().Histograms("h")[0].histogram_value
    assert (value.num, value.min, value.max, value.sum) == (4, -1.0, 2.0, 3.0)
    assert sum(value.bucket) == 4
    # [left, right) of the bucket that holds the two 2.0s
    index = list(value.bucket).index(2.0)
    assert value.bucket_limit[index - 1] <= 2.0 <= value.bucket_limit[index]


@pytest.mark.parametrize("bins", [3, [0.0, 1.0, 2.0, 3.0], "auto"])
def test_histogram_takes_the_bins_of_numpy(written, bins):
    data = np.array([0.0, 0.5, 2.5, 3.0])
    summary.histogram("h", data, bins=bins)
    value = written().Histograms("h")[0].histogram_value
    assert sum(value.bucket) == 4


def test_histogram_joins_bins_beyond_max_bins(written):
    summary.histogram("h", torch.arange(100.0), bins=100, max_bins=7)
    value = written().Histograms("h")[0].histogram_value
    assert sum(value.bucket) == 100 and np.count_nonzero(value.bucket) <= 7


def test_histogram_of_nothing_is_not_recorded(written):
    summary.histogram("h", torch.zeros(0))
    summary.histogram("h", torch.tensor([float("nan")]))
    assert written().Tags()["histograms"] == []


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float16, torch.bfloat16])
def test_histogram_takes_any_dtype(written, dtype):
    summary.histogram("h", torch.ones(1000).to(dtype))
    assert written().Histograms("h")[0].histogram_value.sum == 1000.0


def test_text_is_recorded(written):
    summary.text("config/operative_config", "a = 1")
    tensor = written().Tensors("config/operative_config/text_summary")[0].tensor_proto
    assert tensor.string_val[0] == b"a = 1"


def test_images_are_recorded_as_one_picture(written):
    import io

    from PIL import Image

    red = np.zeros((3, 4, 6), np.uint8)
    red[0] = 255
    summary.images("i", torch.from_numpy(np.stack([red, red])))
    picture = np.asarray(Image.open(io.BytesIO(written().Images("i")[0].encoded_image_string)))
    assert tuple(picture[0, 0]) == (255, 0, 0)


def test_images_of_another_shape_than_told_are_refused(written):
    with pytest.raises(ValueError, match="dataformat 'NCHW' does not describe"):
        summary.images("i", torch.zeros(3, 4, 4))


def test_video_is_an_animation_with_all_frames(written):
    import io

    from PIL import Image

    video = np.zeros((2, 5, 1, 4, 6), np.uint8)
    video[:, :, 0, 0, 0] = np.arange(5) * 50  # frames must differ, or the encoder joins them
    summary.video("v", video, fps=10)
    animation = Image.open(io.BytesIO(written().Images("v")[0].encoded_image_string))
    assert animation.n_frames == 5 and animation.size == (12, 4) and animation.info["duration"] == 100


def test_video_of_wrong_shape_is_refused(written):
    with pytest.raises(ValueError, match=r"\[N, T, C, H, W\]"):
        summary.video("v", torch.zeros(5, 3, 4, 4))


def test_embedding_is_written_for_the_projector(written):
    summary.set_global_counter(3)
    summary.embedding(
        "e",
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        class_labels=["a", "b\n"],
        label_imgs=torch.ones(2, 1, 3, 3),
    )
    folder = written.dir / "00003" / "e"
    np.testing.assert_array_equal(np.loadtxt(folder / "tensors.tsv"), [[1, 2], [3, 4]])
    assert (folder / "metadata.tsv").read_text() == "a\nb \n"
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    config = text_format.Parse((written.dir / "projector_config.pbtxt").read_text(), ProjectorConfig())
    assert config.embeddings[0].tensor_path == "00003/e/tensors.tsv"
    assert list(config.embeddings[0].sprite.single_image_dim) == [3, 3]


def test_torch_writer_can_be_used_too(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer, summary.push_summary_writer(writer):
        summary.scalar("a", 2.0)
        summary.histogram("h", torch.ones(3))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Scalars("a")[0].value == 2.0 and events.Tags()["histograms"] == ["h"]


def test_importing_summary_imports_neither_tensorboard_nor_matplotlib():
    import subprocess
    import sys

    code = "import sys, alf.summary; assert not {'tensorboard', 'matplotlib', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
