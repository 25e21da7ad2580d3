"""Videos, read back frame by frame."""

import logging
import sys

import numpy as np
import pytest
from absl import logging as absl_logging

from alf.summary.render import Image
from alf.utils.video_recorder import VideoRecorder, VideoWriter

av = pytest.importorskip("av")


def flat(value, height=32, width=48):
    return np.full((height, width, 3), value, np.uint8)


def read(path):
    """Return frames [T, H, W, 3], frames per second and codec."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), float(stream.average_rate), stream.codec_context


def levels(frames):
    """Return the mean brightness of each frame; encoding is lossy."""
    return frames.reshape(len(frames), -1).mean(axis=1)


class Camera:
    """An environment that shows brighter and brighter frames."""

    metadata = {"render_fps": 12}

    def __init__(self, frames=None):
        self._frames = iter(frames if frames is not None else [flat(v) for v in range(20, 250, 20)])

    def render(self, mode="rgb_array"):
        assert mode == "rgb_array"
        return next(self._frames)


def test_frames_come_back(tmp_path):
    path = tmp_path / "new" / "v.mp4"
    with VideoWriter(str(path), fps=25) as writer:
        for value in (10, 120, 240):
            writer.write(flat(value))
        assert writer.num_frames == 3
    frames, fps, codec = read(path)
    assert frames.shape == (3, 32, 48, 3) and fps == 25 and (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    np.testing.assert_allclose(levels(frames), [10, 120, 240], atol=3)


def test_colours_and_places_come_back(tmp_path):
    frame = flat(0)
    frame[:16, :, 0] = 255
    frame[16:, :, 2] = 255
    with VideoWriter(str(tmp_path / "v.mkv"), fps=5) as writer:
        writer.write(frame)
    top, bottom = (read(tmp_path / "v.mkv")[0][0, row, 20] for row in (4, 28))
    assert top[0] > 230 > 30 > top[2] and bottom[2] > 230 > 30 > bottom[0]


def test_odd_sizes_are_padded(tmp_path):
    with VideoWriter(str(tmp_path / "v.mp4"), fps=5) as writer:
        writer.write(flat(200, 31, 45))
    assert read(tmp_path / "v.mp4")[0].shape == (1, 32, 46, 3)


def test_fractional_rate(tmp_path):
    with VideoWriter(str(tmp_path / "v.mp4"), fps=12.5) as writer:
        for _ in range(3):
            writer.write(flat(9))
    assert read(tmp_path / "v.mp4")[1] == 12.5


@pytest.mark.parametrize(
    "frame, words",
    [
        (flat(0).astype(np.float32), "float32"),
        (flat(0)[..., :2], r"\(32, 48, 2\)"),
        (flat(0, 34), r"frame 1 has shape \(34, 48, 3\), the first one has \(32, 48, 3\)"),
    ],
)
def test_frames_of_other_kinds_are_refused(tmp_path, frame, words):
    with VideoWriter(str(tmp_path / "v.mp4"), fps=5) as writer:
        writer.write(flat(0))
        with pytest.raises(ValueError, match=words):
            writer.write(frame)


def test_wrong_ending_and_rate_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"expected an ending of .mp4, .mkv, .mov, got .*v.gif"):
        VideoWriter(str(tmp_path / "v.gif"), fps=5)
    with pytest.raises(ValueError, match="fps: expected a number > 0, got 0"):
        VideoWriter(str(tmp_path / "v.mp4"), fps=0)


def test_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"alf-rl\[video\]"):
        VideoWriter(str(tmp_path / "v.mp4"), fps=5)


def test_video_without_frames_leaves_no_file(tmp_path):
    writer = VideoWriter(str(tmp_path / "v.mp4"), fps=5)
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed already"):
        writer.write(flat(0))


def test_recorder_repeats_the_last_frame_and_appends_blank_ones(tmp_path):
    recorder = VideoRecorder(
        Camera(), last_step_repeats=2, append_blank_frames=1, path=str(tmp_path / "v.mp4")
    )
    recorder.capture_frame()
    recorder.capture_frame(is_last_step=True)
    recorder.capture_frame()
    recorder.close()
    frames, fps, _ = read(tmp_path / "v.mp4")
    assert fps == 12
    np.testing.assert_allclose(levels(frames), [20, 40, 40, 40, 0, 60], atol=4)


def test_recorder_lays_images_of_the_info_beside_the_frame(tmp_path):
    recorder = VideoRecorder(Camera(), frames_per_sec=7, base_path=str(tmp_path / "v"))
    info = {"value": np.zeros(3), "picture": Image(flat(200, 32, 16))}
    recorder.capture_frame(info)
    recorder.capture_frame()  # without the image: white instead
    recorder.close()
    frames, fps, _ = read(tmp_path / "v.mp4")
    assert frames.shape[1:3] == (32, 64) and fps == 7
    np.testing.assert_allclose(frames[0, 16, [20, 56], 0], [20, 200], atol=6)
    np.testing.assert_allclose(frames[1, 16, [20, 56], 0], [40, 255], atol=6)


def test_recorder_makes_wide_frames_smaller(tmp_path):
    recorder = VideoRecorder(Camera(), frame_max_width=24, path=str(tmp_path / "v.mp4"))
    recorder.capture_frame()
    recorder.close()
    assert read(tmp_path / "v.mp4")[0].shape == (1, 16, 24, 3)


def test_recorder_writes_or_drops_what_is_cached(tmp_path):
    recorder = VideoRecorder(Camera(), last_step_repeats=1, path=str(tmp_path / "v.mp4"))
    for keep in (False, True):
        for _ in range(2):
            recorder.cache_frame_and_pred_info(recorder.capture_env_frame())
        if keep:
            recorder.generate_video_from_cache()
        else:
            recorder.clear_cache()
    recorder.generate_video_from_cache()  # nothing is left in the cache
    recorder.close()
    np.testing.assert_allclose(levels(read(tmp_path / "v.mp4")[0]), [60, 80, 80], atol=4)


def test_disabled_recorder_records_nothing(tmp_path):
    recorder = VideoRecorder(Camera(frames=[]), path=str(tmp_path / "v.mp4"), enabled=False)
    recorder.capture_frame()
    recorder.close()
    assert not recorder.enabled and list(tmp_path.iterdir()) == []


def test_environment_that_shows_nothing_is_told(tmp_path):
    recorder = VideoRecorder(Camera(frames=[None]), path=str(tmp_path / "v.mp4"))
    with pytest.raises(ValueError, match=r"to return shape \[H, W, 3\], got None"):
        recorder.capture_frame()
    recorder.close()


def test_wrong_arguments_are_told():
    with pytest.raises(TypeError, match=r"unknown arguments \['pth'\]"):
        VideoRecorder(Camera(), pth="v.mp4")
    with pytest.raises(ValueError, match="expected path or base_path"):
        VideoRecorder(Camera())


def test_full_disk_ends_the_recording_with_one_warning(tmp_path, monkeypatch, caplog):
    absl_logging.get_absl_logger().propagate = True
    caplog.set_level(logging.WARNING, logger="absl")
    recorder = VideoRecorder(Camera(), path=str(tmp_path / "v.mp4"))
    recorder.capture_frame()

    def write(self, frame):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "write", write)
    for _ in range(3):
        recorder.capture_frame()
    recorder.close()
    assert len(caplog.records) == 1 and "No space left" in caplog.text and not recorder.enabled
