"""DMCGYMWrapper: a task of the DeepMind control suite as a Gymnasium environment."""

from __future__ import annotations

import difflib
from typing import Any, Optional

import gymnasium
import numpy as np

from alf._install import how_to_install
from alf.environments._mujoco_compat import draw_without_screen


class DMCGYMWrapper(gymnasium.Env):
    """A task of the DeepMind control suite (https://arxiv.org/abs/1801.00690) as a Gymnasium environment.

    The observation is one float32 array, all that the task observes side by side, or an image. Rewards are in [0, 1].
    A time limit of the task (1000 steps, unless ``control_timestep`` changes that) is a truncation; few tasks
    terminate.

    Args:
        domain_name: such as ``"cartpole"``.
        task_name: such as ``"swingup"``.
        visualize_reward: let colours in images show the reward.
        from_pixels: observe images, uint8 ``[height, width, 3]``.
        height: of images.
        width: of images.
        camera_id: camera of images.
        control_timestep: seconds between actions; None: those of the task.
    Raises:
        ImportError: if dm_control is missing; it names the extra to install.
        ValueError: if there is no such task; it names the nearest.
    """

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        domain_name: str,
        task_name: str,
        visualize_reward: bool = True,
        from_pixels: bool = False,
        height: int = 84,
        width: int = 84,
        camera_id: int = 0,
        control_timestep: Optional[float] = None,
    ):
        draw_without_screen()
        try:
            from dm_control import suite
        except ModuleNotFoundError as error:
            if error.name != "dm_control":
                raise
            raise ImportError(
                f"The DeepMind control suite needs dm_control, which is not installed: {how_to_install('dmc')}. There "
                "is none for Python 3.13."
            ) from None
        if (domain_name, task_name) not in suite.ALL_TASKS:
            names = [":".join(task) for task in suite.ALL_TASKS]
            near = difflib.get_close_matches(f"{domain_name}:{task_name}", names, n=3, cutoff=0.4) or names[:3]
            raise ValueError(
                f"DMCGYMWrapper: the control suite has no task '{domain_name}:{task_name}'. "
                f"Nearest: {', '.join(map(repr, near))}."
            )
        timing = {} if control_timestep is None else dict(control_timestep=control_timestep)
        self._env = suite.load(
            domain_name,
            task_name,
            environment_kwargs=dict(flat_observation=True, **timing),
            visualize_reward=visualize_reward,
        )
        self._from_pixels = from_pixels
        self._height, self._width, self._camera_id = height, width, camera_id
        self.render_mode = "rgb_array"

        action = self._env.action_spec()
        self._action_space = gymnasium.spaces.Box(
            np.broadcast_to(action.minimum, action.shape).astype(np.float32),
            np.broadcast_to(action.maximum, action.shape).astype(np.float32),
            dtype=np.float32,
        )
        if from_pixels:
            self._observation_space = gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)
        else:
            (state,) = self._env.observation_spec().values()
            self._observation_space = gymnasium.spaces.Box(-np.inf, np.inf, state.shape, np.float32)

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        """Space of the images or of the states."""
        return self._observation_space

    @property
    def action_space(self) -> gymnasium.spaces.Box:
        """Space of the actions, with the bounds of the task."""
        return self._action_space

    def seed(self, seed: Optional[int] = None) -> None:
        """Seed the task."""
        self._env.task.random.seed(seed)

    def reset(self, *, seed: Optional[int] = None, options: Optional[dict] = None) -> tuple[np.ndarray, dict]:
        """Start an episode."""
        super().reset(seed=seed)
        if seed is not None:
            self.seed(seed)
        return self._observation(self._env.reset()), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Apply ``action`` for one control time step."""
        step = self._env.step(np.asarray(action, np.float64))
        terminated = step.last() and step.discount == 0
        return self._observation(step), float(step.reward), terminated, step.last() and not terminated, {}

    def _observation(self, step: Any) -> np.ndarray:
        if self._from_pixels:
            return self.render()
        (state,) = step.observation.values()
        return state.astype(np.float32)

    def render(
        self,
        mode: str = "rgb_array",
        height: Optional[int] = None,
        width: Optional[int] = None,
        camera_id: Optional[int] = None,
    ) -> np.ndarray:
        """Return an image, uint8 ``[height, width, 3]``; size and camera are those of the constructor by default."""
        if mode != "rgb_array":
            raise ValueError(f"DMCGYMWrapper.render: expected mode 'rgb_array', got {mode!r}.")
        return self._env.physics.render(
            height=self._height if height is None else height,
            width=self._width if width is None else width,
            camera_id=self._camera_id if camera_id is None else camera_id,
        )

    def close(self) -> None:
        """Free the simulation."""
        self._env.close()
