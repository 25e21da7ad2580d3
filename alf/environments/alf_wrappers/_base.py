"""AlfEnvironmentBaseWrapper: an environment that passes everything on to another one."""

from __future__ import annotations

from typing import Any

from alf.data_structures import TimeStep
from alf.environments.alf_environment import AlfEnvironment, ForeignStateError, check_layers, class_name
from alf.tensor_specs import TensorSpec


class AlfEnvironmentBaseWrapper(AlfEnvironment):
    """Passes everything on to ``env``; subclasses override what they change.

    A wrapper changes time steps in ``_reset`` and ``_step``. One that matters for speed also overrides
    ``reset_into`` and ``step_into`` and edits the row after the inner call; the others inherit versions of
    these that are built on ``step``.

    Args:
        env: the wrapped environment.
    """

    def __init__(self, env: AlfEnvironment):
        self._env = env
        self.auto_reset = env.auto_reset

    def wrapped_env(self) -> AlfEnvironment:
        """Return the wrapped environment."""
        return self._env

    def __getattr__(self, name: str) -> Any:
        # Looked up only where this wrapper has no such attribute: `env.gym` reaches through all wrappers.
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        return getattr(self._env, name)

    @property
    def checks_finite(self) -> bool:
        """See :attr:`AlfEnvironment.checks_finite`."""
        return self._env.checks_finite

    @property
    def num_valid_steps(self) -> int | None:
        """See :attr:`AlfEnvironment.num_valid_steps`."""
        return self._env.num_valid_steps

    def reserve_rows(self, num_time_steps: int) -> None:
        """See :meth:`AlfEnvironment.reserve_rows`."""
        self._env.reserve_rows(num_time_steps)

    @property
    def is_tensor_based(self) -> bool:
        """Whether the wrapped environment is tensor based."""
        return self._env.is_tensor_based

    @property
    def batched(self) -> bool:
        """Whether the wrapped environment is batched."""
        return self._env.batched

    @property
    def batch_size(self) -> int:
        """Batch size of the wrapped environment."""
        return self._env.batch_size

    @property
    def num_tasks(self) -> int:
        """Number of tasks of the wrapped environment."""
        return self._env.num_tasks

    @property
    def task_names(self) -> list[str]:
        """Task names of the wrapped environment."""
        return self._env.task_names

    def _reset(self) -> TimeStep:
        return self._env.reset()

    def _step(self, action: Any) -> TimeStep:
        return self._env.step(action)

    def get_info(self) -> Any:
        """Return the info of the wrapped environment."""
        return self._env.get_info()

    def env_info_spec(self) -> Any:
        """Return the spec of the wrapped environment."""
        return self._env.env_info_spec()

    def observation_spec(self) -> Any:
        """Return the spec of the wrapped environment."""
        return self._env.observation_spec()

    def action_spec(self) -> Any:
        """Return the spec of the wrapped environment."""
        return self._env.action_spec()

    def reward_spec(self) -> TensorSpec:
        """Return the spec of the wrapped environment."""
        return self._env.reward_spec()

    def time_step_spec(self) -> TimeStep:
        """Return the TimeStep of the specs of this wrapper."""
        return super().time_step_spec()

    def sync_progress(self) -> None:
        """Pass on."""
        self._env.sync_progress()

    def close(self) -> None:
        """Close the wrapped environment."""
        self._env.close()

    def render(self, mode: str = "rgb_array") -> Any:
        """Render the wrapped environment."""
        return self._env.render(mode)

    def seed(self, seed: int) -> None:
        """Seed the wrapped environment."""
        self._env.seed(seed)

    def get_state(self) -> Any:
        """Return the state of this wrapper and of what it wraps; None if one of them has none."""
        # Of the class itself: a subclass may keep more than its parent.
        names = type(self).__dict__.get("state_attributes")
        inner = None if names is None else self._env.get_state()
        if inner is None:
            return None
        own = {name: getattr(self, name) for name in names}
        return {"env": inner, "reset_due": self._reset_due, "own": own, "layers": self.layers()}

    def set_state(self, state: Any) -> None:
        """Set the state of this wrapper and of what it wraps.

        Raises:
            ForeignStateError: if it is the state of other wrappers or of another environment.
        """
        names = type(self).__dict__.get("state_attributes")
        if names is None or not isinstance(state, dict) or not {"env", "reset_due", "own"} <= state.keys():
            raise ForeignStateError(f"the state is not that of {type(self).__name__}, or that wrapper keeps none")
        check_layers(state.get("layers"), self.layers())
        if not isinstance(state["own"], dict) or set(state["own"]) != set(names):
            raise ForeignStateError(
                f"{type(self).__name__}: expected the attributes {sorted(names)} in its state, got {list(state['own'])}"
            )
        self._env.set_state(state["env"])
        self._reset_due = bool(state["reset_due"])
        for name in names:
            setattr(self, name, state["own"][name])

    def layers(self) -> list[str]:
        """Return the full names of the classes of this wrapper and of what it wraps, the outermost first."""
        return [class_name(self), *self._env.layers()]

    def _require_unbatched(self) -> None:
        if self._env.batched:
            raise ValueError(
                f"{type(self).__name__}.env: expected an unbatched environment, got a batch of "
                f"{self._env.batch_size} ({type(self._env).__name__}). Wrap the single environments, "
                "for instance with the alf_env_wrappers argument of the load function."
            )
