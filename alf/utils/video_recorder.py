"""Videos: `VideoWriter` turns frames into a file, `VideoRecorder` takes them from an environment.

Encoding is done by PyAV, the extra `video`, which is imported when a file is opened.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import numpy as np
from absl import logging

import alf.nest as nest
from alf._install import how_to_install
from alf.config_util import configurable
from alf.summary._image import INTER_AREA, Image

_EXTENSIONS = (".mp4", ".mkv", ".mov")
_DEFAULT_FPS = 30


class VideoWriter:
    """Writes frames into a video file (H.264, yuv420p); may be used as a context.

    Args:
        path: the file, ending with .mp4, .mkv or .mov; its directory is made if it does not exist.
        fps: frames per second.
    Raises:
        ImportError: if PyAV is not installed.
        ValueError: if the ending or `fps` is not possible.
    """

    def __init__(self, path: str, fps: float):
        if os.path.splitext(path)[1].lower() not in _EXTENSIONS:
            raise ValueError(
                f"VideoWriter.path: expected an ending of {', '.join(_EXTENSIONS)}, got {path!r}."
            )
        if not fps > 0:
            raise ValueError(f"VideoWriter.fps: expected a number > 0, got {fps}.")
        try:
            import av
        except ImportError as error:
            raise ImportError(
                f"Writing videos needs PyAV, which is not installed: {how_to_install('video')}."
            ) from error
        self._av = av
        self._path = os.path.abspath(os.path.expanduser(path))
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._rate = Fraction(fps).limit_denominator(1001)
        self._container = av.open(self._path, mode="w")
        self._stream: Any = None
        self._frame_shape: tuple[int, ...] | None = None
        self._num_frames = 0

    @property
    def path(self) -> str:
        """The file, an absolute path."""
        return self._path

    @property
    def frame_shape(self) -> tuple[int, ...] | None:
        """(height, width, 3) of the frames; None before the first one."""
        return self._frame_shape

    @property
    def num_frames(self) -> int:
        """How many frames were written."""
        return self._num_frames

    def write(self, frame: np.ndarray) -> None:
        """Append a frame.

        Args:
            frame: [H, W, 3] uint8 RGB, of the same size as the first one. Odd sizes get a black line more,
                since the format knows even ones only.
        """
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(
                f"{self._path}: expected uint8 frames of shape [H, W, 3], got {frame.dtype} {frame.shape}."
            )
        if self._container is None:
            raise ValueError(f"{self._path}: this video is closed already.")
        if self._frame_shape is None:
            self._frame_shape = frame.shape
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.height, self._stream.width = (size + size % 2 for size in frame.shape[:2])
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.thread_count = (
                1  # more would take cores from environments and training
            )
        elif frame.shape != self._frame_shape:
            raise ValueError(
                f"{self._path}: frame {self._num_frames} has shape {frame.shape}, the first one has "
                f"{self._frame_shape}."
            )
        padded = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)))
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        picture.pts = self._num_frames
        self._container.mux(self._stream.encode(picture))
        self._num_frames += 1

    def close(self) -> None:
        """Finish the file; one without frames is removed. Closing twice is allowed."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            if self._stream is not None:
                container.mux(self._stream.encode(None))
        finally:
            container.close()
        if self._stream is None and os.path.exists(self._path):
            os.unlink(self._path)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


@configurable
class VideoRecorder:
    """Records what an environment shows, and beside it the `Image`s that an algorithm puts into its info.

    Frames can be written as they come (`capture_frame`), or be cached first and then written or dropped, as
    when only interesting episodes are to be kept. If the disk does not take the video, that is told once and
    recording ends.

    Args:
        env: environment with `render(mode="rgb_array")`.
        frame_max_width: wider frames are made smaller.
        frames_per_sec: None takes `env.metadata["render_fps"]`, or else 30.
        last_step_repeats: how many times the last frame of an episode is repeated.
        append_blank_frames: number of black frames after an episode.
        **kwargs: `path` of the file, or `base_path`, which gets the ending .mp4; `enabled=False` records
            nothing.
    """

    def __init__(
        self,
        env: Any,
        frame_max_width: int = 2560,
        frames_per_sec: float | None = None,
        last_step_repeats: int = 0,
        append_blank_frames: int = 0,
        **kwargs: Any,
    ):
        self._env = env
        self._frame_max_width = frame_max_width
        self._last_step_repeats = last_step_repeats
        self._append_blank_frames = append_blank_frames
        self._cache: list[tuple[np.ndarray, Any]] = []
        self._writer: VideoWriter | None = None
        path, base_path, enabled = (
            kwargs.pop("path", None),
            kwargs.pop("base_path", None),
            kwargs.pop("enabled", True),
        )
        if kwargs:
            raise TypeError(
                f"VideoRecorder: unknown arguments {sorted(kwargs)}. Known besides: path, base_path, enabled."
            )
        if (path is None) == (base_path is None):
            raise ValueError(
                f"VideoRecorder: expected path or base_path, got path={path!r}, base_path={base_path!r}."
            )
        if frames_per_sec is None:
            frames_per_sec = (getattr(env, "metadata", None) or {}).get("render_fps", _DEFAULT_FPS)
        if enabled:
            self._writer = VideoWriter(path or base_path + ".mp4", frames_per_sec)

    @property
    def enabled(self) -> bool:
        """Whether frames are recorded."""
        return self._writer is not None

    def capture_env_frame(self) -> np.ndarray:
        """Return what the environment shows, [H, W, 3] uint8."""
        frame = self._env.render(mode="rgb_array")
        if not isinstance(frame, np.ndarray) or frame.ndim != 3:
            raise ValueError(
                f"VideoRecorder: expected render(mode='rgb_array') of {self._env!r} to return shape "
                f"[H, W, 3], got {getattr(frame, 'shape', frame)!r}."
            )
        return frame

    def capture_frame(self, pred_info: Any = None, is_last_step: bool = False) -> None:
        """Write a frame of the environment.

        Args:
            pred_info: nest; the `Image`s in it are laid beside the frame.
            is_last_step: whether the episode ends here: then the repeated and the blank frames follow.
        """
        if self._writer is not None:
            self._write(self.capture_env_frame(), pred_info, is_last_step)

    def cache_frame_and_pred_info(self, frame: np.ndarray, pred_info: Any = None) -> None:
        """Keep a frame of `capture_env_frame`, and the info that goes with it, to be written later."""
        self._cache.append((np.array(frame), pred_info))

    def clear_cache(self) -> None:
        """Drop all cached frames."""
        self._cache.clear()

    def generate_video_from_cache(self) -> None:
        """Write the cached frames, the last of them as the end of an episode, and clear the cache."""
        if self._writer is not None:
            for i, (frame, pred_info) in enumerate(self._cache):
                self._write(frame, pred_info, is_last_step=i == len(self._cache) - 1)
        self.clear_cache()

    def close(self) -> None:
        """Finish the file; closing twice is allowed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except (OSError, writer._av.FFmpegError) as error:
                self._warn(writer, error)

    def _write(self, frame: np.ndarray, pred_info: Any, is_last_step: bool) -> None:
        frame = self._compose(frame, pred_info)
        repeats = 1 + (self._last_step_repeats if is_last_step else 0)
        blanks = self._append_blank_frames if is_last_step else 0
        writer = self._writer
        try:
            for picture in [frame] * repeats + [np.zeros_like(frame)] * blanks:
                writer.write(picture)
        except (OSError, writer._av.FFmpegError) as error:
            self._warn(writer, error)
            self.close()

    def _warn(self, writer: VideoWriter, error: Exception) -> None:
        logging.warning("The video %s cannot be written: %s. It is recorded no further.", writer.path, error)

    def _compose(self, frame: np.ndarray, pred_info: Any) -> np.ndarray:
        """Return the frame with the images of `pred_info` on its right, of the size of the frames before."""
        image = Image(np.array(frame[:, :, :3]))
        images = (
            [] if pred_info is None else [leaf for leaf in nest.flatten(pred_info) if isinstance(leaf, Image)]
        )
        if images:
            image = Image.stack_images([image, Image.pack_image_nest(images)])
        if image.shape[1] > self._frame_max_width:
            image.resize(width=self._frame_max_width, interploation=INTER_AREA)
        shape = self._writer.frame_shape
        if shape is None or image.shape == shape:
            return image.data
        # later frames have more or fewer images: make them fit
        scale = min(1.0, shape[0] / image.shape[0], shape[1] / image.shape[1])
        if scale < 1.0:
            image.resize(max(1, int(image.shape[0] * scale)), max(1, int(image.shape[1] * scale)), INTER_AREA)
        missing = [(0, size - present) for size, present in zip(shape, image.shape, strict=True)]
        return np.pad(image.data, missing, constant_values=255)
