"""NonFiniteReset: a batch of environments that is begun anew when it returns NaN or infinity."""

from __future__ import annotations

from typing import Any

from alf.data_structures import TimeStep
from alf.environments._non_finite import FiniteCheck, NonFinitePolicy
from alf.environments._pool._errors import NonFiniteStepError
from alf.environments._rows import LAST
from alf.environments.alf_environment import AlfEnvironment
from alf.environments.alf_wrappers._base import AlfEnvironmentBaseWrapper


class NonFiniteReset(AlfEnvironmentBaseWrapper):
    """Resets a batch of tensors as a whole when it finds NaN or infinity in what it is about to return.

    The episode ends where it was left, as where a worker is lost: the time step that was returned before becomes
    LAST, and the next one is FIRST. So no transition is made up, and none leads across the gap.

    Args:
        env: a batched environment with tensors.
        policy: tells how often.
    """

    state_attributes = ()

    def __init__(self, env: AlfEnvironment, policy: NonFinitePolicy):
        super().__init__(env)
        self._policy = policy
        self._check_finite = FiniteCheck(env.observation_spec(), f"the batch ({type(env).__name__})")
        self._num_steps = 0

    def _reset(self) -> TimeStep:
        try:
            return self._checked(self._env.reset())
        except NonFiniteStepError as error:
            self._take(error)
            return self._checked(self._env.reset())

    def _step(self, action: Any) -> TimeStep:
        before = self.current_time_step()
        self._num_steps += 1
        try:
            return self._checked(self._env.step(action))
        except NonFiniteStepError as error:
            self._take(error)
        time_step = self._reset()
        before.step_type.fill_(LAST)
        return time_step

    def _checked(self, time_step: TimeStep) -> TimeStep:
        self._check_finite(time_step)
        # Of its own, for it may be written to: an environment may return the same array again and again.
        return time_step._replace(step_type=time_step.step_type.clone())

    def _take(self, error: NonFiniteStepError) -> None:
        if error.blames_caller:
            raise error
        self._policy.take(f"step {self._num_steps}: {error}")
