"""Shows, records and measures a trained policy."""

import contextlib
import os
import sys
import time
from typing import Any, ContextManager, List, NamedTuple, Optional, Union

import numpy as np
import torch
from absl import logging

from alf.trainers._episodes import Episode, run_episodes
from alf.trainers._run_directory import must_be_written
from alf.utils.checkpoint_utils import Checkpointer, CheckpointError


class PlayResult(NamedTuple):
    """What was played."""
    checkpoint_step: int
    episodes: List[Episode]

    def returns(self) -> np.ndarray:
        """Return the returns of the episodes ``[N]`` or ``[N, R]``."""
        return np.array([episode.episode_return for episode in self.episodes])


class _Window:
    """A window that shows frames, made by pygame, which comes with Gymnasium's own graphical environments.

    Raises:
        ImportError: if there is no pygame.
        ValueError: if there is no screen.
    """

    def __init__(self):
        instead = "Pass --norender, or --record_file=out.mp4."
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError(f"play: there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set. {instead}")
        try:
            import pygame
        except ImportError:
            raise ImportError(f"play: a window needs pygame: pip install pygame-ce. {instead}") from None
        self._pygame = pygame
        pygame.display.init()
        self._screen = None

    def show(self, frame: np.ndarray) -> None:
        """Show ``frame``, uint8 ``[H, W, 3]``."""
        pygame = self._pygame
        if self._screen is None:
            self._screen = pygame.display.set_mode((frame.shape[1], frame.shape[0]))
        self._screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        pygame.event.pump()

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def load_algorithm(root_dir: str, algorithm, checkpoint_step: Union[int, str] = "latest",
                   ignored_parameter_prefixes: List[str] = ()) -> int:
    """Load parameters and data transformers of a run, and return the iteration they are of.

    Args:
        root_dir: directory of the run.
        algorithm: to be loaded.
        checkpoint_step: iteration of the checkpoint, or "best", or "latest".
        ignored_parameter_prefixes: parameters that keep their values.
    Raises:
        CheckpointError: if the run has no such checkpoint, or it does not fit.
    """
    directory = os.path.join(root_dir, "train", "algorithm")
    checkpointer = Checkpointer(directory, algorithm=algorithm)
    if not checkpointer.has_checkpoint(checkpoint_step):
        if checkpoint_step == "best":
            raise CheckpointError(f"{root_dir}: there is no best checkpoint. Only evaluation while training makes one: "
                                  "train with TrainerConfig.evaluate=True. --checkpoint_step latest is the newest.")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        steps = sorted(int(name.removeprefix("ckpt-")) for name in names if name.startswith("ckpt-"))
        raise CheckpointError(f"{root_dir}: there is no checkpoint {checkpoint_step}, but {steps or 'none at all'}. "
                              "Choose one of these, or train with this --root_dir first.")
    return checkpointer.load(
        checkpoint_step,
        ignored_parameter_prefixes=list(ignored_parameter_prefixes),
        including_optimizer=False,
        including_replay_buffer=False)


def play(root_dir: str,
         env,
         algorithm,
         checkpoint_step: Union[int, str] = "latest",
         num_episodes: int = 10,
         sleep_time_per_step: float = 0.01,
         record_file: Optional[str] = None,
         last_step_repeats: int = 0,
         append_blank_frames: int = 0,
         render: bool = True,
         selective_mode: bool = False,
         ignored_parameter_prefixes: List[str] = ()) -> PlayResult:
    """Play episodes with the policy of a checkpoint; show them in a window or record them.

    Args:
        root_dir: directory of the run.
        env: environment with one episode at a time (batch size 1) if it is shown or recorded.
        algorithm: acts by ``predict_step``; its parameters are loaded.
        checkpoint_step: iteration of the checkpoint, or "best", or "latest".
        num_episodes: how many.
        sleep_time_per_step: seconds to wait after each shown step.
        record_file: an ``.mp4`` to write instead of showing a window.
        last_step_repeats: show the last frame of an episode so many times more.
        append_blank_frames: black frames after each episode.
        render: show a window, unless ``record_file`` is given.
        selective_mode: record only the episode with the lowest and that with the highest return.
        ignored_parameter_prefixes: parameters that are not loaded.
    Raises:
        CheckpointError: if the run has no such checkpoint.
        ValueError: if several environments are to be shown.
    """
    step = load_algorithm(root_dir, algorithm, checkpoint_step, ignored_parameter_prefixes)
    if not record_file and not render:
        return PlayResult(step, run_episodes(env, algorithm, num_episodes))
    if env.batch_size != 1:
        raise ValueError(f"play: expected one environment to show or record, got {env.batch_size}.")
    if record_file:
        screen = _Recorder(env, record_file, num_episodes, last_step_repeats, append_blank_frames, selective_mode,
                           algorithm.reward_weights)
    else:
        screen = _Show(env, sleep_time_per_step, last_step_repeats)
    with contextlib.closing(screen):
        return PlayResult(step, run_episodes(env, algorithm, num_episodes, screen.observe))


class _Show:
    """Shows each time step in a window."""

    def __init__(self, env, sleep_time_per_step: float, last_step_repeats: int):
        self._env = env
        self._sleep_time_per_step = sleep_time_per_step
        self._last_step_repeats = last_step_repeats
        self._window = _Window()

    def observe(self, time_step, active) -> None:
        """Show the environment as it is now."""
        repeats = 1 + (self._last_step_repeats if bool(time_step.is_last()[0]) else 0)
        for _ in range(repeats):
            self._window.show(_frame(self._env))
            time.sleep(self._sleep_time_per_step)

    def close(self) -> None:
        """Close the window."""
        self._window.close()


class _Recorder:
    """Writes each time step to a video."""

    def __init__(self, env, path: str, num_episodes: int, last_step_repeats: int, append_blank_frames: int,
                 selective_mode: bool, reward_weights: Optional[torch.Tensor]):
        self._env = env
        self._path = path
        self._num_episodes = num_episodes
        self._num_ended = 0
        self._last_step_repeats = last_step_repeats
        self._append_blank_frames = append_blank_frames
        self._selective_mode = selective_mode
        self._reward_weights = 1.0 if reward_weights is None else reward_weights.cpu()
        from alf.utils.video_recorder import VideoWriter  # PyAV, which only recording needs
        fps = (getattr(env, "metadata", None) or {}).get("render_fps", 30)
        with self._must_be_written():
            self._writer = VideoWriter(path, fps=fps)
        self._frames: List[np.ndarray] = []
        self._return: Any = 0.0
        self._kept: dict = {}

    def observe(self, time_step, active) -> None:
        """Take the picture of the environment as it is now."""
        frame = _frame(self._env)
        last = bool(time_step.is_last()[0])
        frames = [frame] * (1 + (self._last_step_repeats if last else 0))
        if last:
            frames += [np.zeros_like(frame)] * self._append_blank_frames
            self._num_ended += 1
            logging.info("recording %s: episode %d of %d has ended", self._path, self._num_ended, self._num_episodes)
        if not self._selective_mode:
            self._write(frames)
            return
        if bool(time_step.is_first()[0]):
            self._frames, self._return = [], 0.0
        self._frames += frames
        self._return += float(torch.sum(time_step.reward[0].cpu() * self._reward_weights))
        if last:
            episode = (self._return, self._frames)
            for kind, better in (("worst", lambda a, b: a < b), ("best", lambda a, b: a > b)):
                if kind not in self._kept or better(self._return, self._kept[kind][0]):
                    self._kept[kind] = episode

    def close(self) -> None:
        """Finish the video."""
        if self._kept:
            self._write(self._kept["worst"][1])
            if self._kept["best"] is not self._kept["worst"]:
                self._write(self._kept["best"][1])
        with self._must_be_written():
            self._writer.close()
        if self._writer.num_frames:
            logging.info("recorded %s", self._path)

    def _must_be_written(self) -> ContextManager[None]:
        return must_be_written(f"{self._path}: the video cannot be written", "file")

    def _write(self, frames: List[np.ndarray]) -> None:
        with self._must_be_written():
            for frame in frames:
                self._writer.write(frame)


def _frame(env) -> np.ndarray:
    frame = env.render(mode="rgb_array")
    if frame is None:
        raise ValueError("play: the environment makes no picture (its render() returned None). Pass --norender.")
    return frame
