"""Acting in the training environments: so many steps of each, as one experience."""

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from absl import logging

from alf import summary
from alf.algorithms._training.sequences import stack_steps
from alf.data_structures import AlgStep, Experience, StepType, TimeStep
from alf.environments.alf_environment import ForeignStateError
from alf.nest import Nest, flatten, map_structure, pack_sequence_as
from alf.utils import common, dist_utils, profiling
from alf.utils.summary_utils import record_time

_LAST = int(StepType.LAST)


class _Part:
    """Where a part of the environments stands: the part that is stepped and acted for at a time.

    Args:
        index: of the part; None: all environments are one.
    """

    def __init__(self, index: Optional[int]):
        self.index = index
        self.time_step: Optional[TimeStep] = None  # the present one, raw
        self.inputs: Optional[TimeStep] = None  # the same after data transformers
        self.policy_state: Nest = ()
        self.zero_state: Nest = ()
        self.transform_state: Nest = ()
        self.is_copied = False  # the present time step is a copy of what the environments returned
        self.is_stepping = False  # the present one is the one before what the environments are making

    @property
    def present(self) -> Nest:
        """All that the next step begins with."""
        return self.time_step, self.inputs, self.policy_state, self.transform_state

    def begin_where_it_was(self, leaves: List[torch.Tensor]) -> None:
        """Take over the leaves of :attr:`present`."""
        is_transformed = self.inputs is not self.time_step
        self.time_step, self.inputs, self.policy_state, self.transform_state = pack_sequence_as(self.present, leaves)
        if not is_transformed:
            self.inputs = self.time_step
        self.is_copied = True


def _check_same_kind(saved: List[torch.Tensor], present: List[torch.Tensor]) -> None:
    """Raise if what a step began with has other shapes or dtypes than what steps begin with now."""
    kinds = [[(tuple(leaf.shape), leaf.dtype) for leaf in leaves] for leaves in (present, saved)]
    if kinds[0] != kinds[1]:
        raise ForeignStateError(f"time steps and recurrent states: expected {kinds[0]}, got {kinds[1]}")


class _Row(NamedTuple):
    """A step of one part."""
    time_step: TimeStep
    inputs: TimeStep
    state: Nest  # before the step
    alg_step: AlgStep


class Unroll:
    """Steps an algorithm through its environments, where it left off the last time.

    An unroll of ``T`` steps makes an experience of ``T + 1`` for those that train on it at once: the last one is only
    there to be bootstrapped from. It is the first of the next unroll again, by then with the parameters of that time.
    So ``rollout_step`` sees that time step twice; data transformers see each time step once. A replay buffer needs each
    step once: there an unroll makes an experience of ``T``.

    Environments with parts are acted for part by part: while worker processes step one, the policy acts for the next.
    Parts are always taken in turn, so that what comes out does not depend on how long anything takes, and is what
    stepping them one after the other gives.

    With ``steps_ahead`` the step that follows the last action of an unroll is made by worker processes while training
    goes on, and waited for when the next unroll begins. That changes nothing either: the experience does not hold it.

    Args:
        algorithm: the root algorithm.
        env: batched environment with tensors.
        keep_state: store the recurrent state before each step.
        overwrite_policy_output: store the action that the environment reports instead of the algorithm's, also in
            ``rollout_info``.
        steps_ahead: see above; for environments that are stepped in the background, and an experience without its last
            step and with the algorithm's actions.
    """

    def __init__(self, algorithm, env, keep_state: bool, overwrite_policy_output: bool = False,
                 steps_ahead: bool = False):
        self._algorithm = algorithm
        self._env = env
        self._keep_state = keep_state
        self._overwrite_policy_output = overwrite_policy_output
        self._steps_ahead = steps_ahead and env.steps_in_background and not overwrite_policy_output
        self._has_state = bool(flatten(algorithm.rollout_state_spec))
        self._has_transform_state = False
        self._has_parts = env.num_parts > 1
        self._parts: List[_Part] = []  # empty before the first step
        self._loaded: Dict[str, Any] = {}  # where to begin, if a checkpoint says it

    # ---- where it stands -----------------------------------------------------------------------------------------

    def _begin(self, num_steps: int) -> None:
        env, algorithm = self._env, self._algorithm
        if not self._has_parts:
            # Those of an unroll, and one more in case a fractional unroll_length makes later ones longer.
            env.reserve_rows(num_steps + 2)
        if self._loaded:
            with algorithm.unchanged_transformers():
                self._make_parts()
            if not self._begin_where_it_was(self._loaded):
                self._parts = []
                env.reset()  # some may have been brought to where they were
            self._loaded = {}
        if not self._parts:
            self._make_parts()
        self._has_transform_state = bool(flatten(self._parts[0].transform_state))

    def _make_parts(self) -> None:
        env, algorithm = self._env, self._algorithm
        size = env.batch_size // env.num_parts
        time_step = common.get_initial_time_step(env)
        for index in range(env.num_parts):
            part = _Part(index if self._has_parts else None)
            part.zero_state = part.policy_state = algorithm.get_initial_rollout_state(size)
            part.transform_state = algorithm.get_initial_transform_state(size)
            self._observe(part, self._rows_of(part, time_step), copy=self._has_parts)
            self._parts.append(part)

    def _rows_of(self, part: _Part, nest: Nest) -> Nest:
        """Return the rows of a part, of a nest ``[B, ...]``."""
        if part.index is None:
            return nest
        size = self._env.batch_size // self._env.num_parts
        return map_structure(lambda leaf: leaf[part.index * size:(part.index + 1) * size], nest)

    def _begin_where_it_was(self, state: Dict[str, Any]) -> bool:
        """Go on from a state, and return whether that could be done; if not, it is told why."""
        try:
            presents = [self._rows_of(part, state["present"]) for part in self._parts]
            for part, present in zip(self._parts, presents, strict=True):
                _check_same_kind(present, flatten(part.present))
            self._env.set_state(state["environments"])
        except (ForeignStateError, NotImplementedError) as error:
            logging.warning("The environments cannot go on from where they were; new episodes begin: %s", error)
            return False
        device = torch.get_default_device()
        for part, present in zip(self._parts, presents, strict=True):
            # Copies: tensors of a file lie at odd addresses, which may change the last bit of a matrix product.
            part.begin_where_it_was([leaf.to(device, copy=True) for leaf in present])
        return True

    def state_dict(self) -> Dict[str, Any]:
        """Return where the next unroll begins; nothing if the environments cannot tell their states."""
        if not self._parts:
            return self._loaded
        # Not summarized: what an iteration has summarized is written before its checkpoint.
        with torch.no_grad(), common.rollout_context(), summary.record_if(lambda: False):
            with self._begins_anew_if_it_fails():
                self._finish_steps()
        environments = self._env.get_state()
        if environments is None:
            return {}
        columns = zip(*[flatten(part.present) for part in self._parts], strict=True)
        return {"environments": environments, "present": [torch.cat(leaves).detach() for leaves in columns]}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Begin where the unroll was when :meth:`state_dict` returned ``state``."""
        self._loaded = state

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _observe(self, part: _Part, time_step: TimeStep, copy: bool) -> None:
        """Make ``time_step`` the present one of a part."""
        if part.is_copied:
            # Environments whose step was lost have begun new episodes, and ended the old ones in the time step that
            # they had returned, of which this is a copy.
            lost = time_step.is_first() & ~part.time_step.is_last()
            for present in (part.time_step, part.inputs):
                present.step_type.masked_fill_(lost, _LAST)
        part.is_copied = copy
        part.time_step = map_structure(torch.clone, time_step) if copy else time_step
        part.inputs, part.transform_state = self._algorithm.transform_timestep(part.time_step, part.transform_state)

    def _act(self, part: _Part) -> _Row:
        """Return the step that the algorithm takes at the present time step of a part."""
        state = part.policy_state
        if self._has_state:
            state = common.reset_state_if_necessary(state, part.zero_state, part.time_step.is_first())
        with profiling.scope("policy"):
            alg_step = self._algorithm.rollout_step(part.inputs, state)
        return _Row(part.time_step, part.inputs, state, alg_step)

    def _step(self, part: _Part, alg_step: AlgStep, copy: bool) -> None:
        """Carry a step out, or begin to."""
        part.policy_state = alg_step.state
        with record_time("time/unroll_env_step"):
            if not self._has_parts and not self._steps_ahead:
                time_step = self._env.step(alg_step.output)
            else:
                self._env.step_async(alg_step.output, part.index)
                part.is_stepping = True
                return
        self._observe(part, time_step, copy)

    def _finish_step(self, part: _Part, copy: bool) -> None:
        """Wait for the step that was begun, if one was."""
        if part.is_stepping:
            part.is_stepping = False  # also if it fails
            with record_time("time/unroll_env_step"):
                time_step = self._env.step_wait(part.index)
            self._observe(part, time_step, copy)

    def _finish_steps(self) -> None:
        for part in self._parts:
            self._finish_step(part, copy=self._has_parts)

    def _prepare(self, part: _Part, copy: bool) -> None:
        if copy and not self._has_parts:
            part.time_step, part.inputs = map_structure(torch.clone, (part.time_step, part.inputs))
            part.is_copied = True
        if self._has_transform_state and self._env.num_valid_steps is not None:
            # It may alias time steps before the first.
            part.transform_state = map_structure(torch.clone, part.transform_state)
        if self._has_state:
            # The gradient of an on-policy algorithm ends where the unroll began.
            part.policy_state = common.detach(part.policy_state)

    def run(self, num_steps: int, with_last_step: bool = True) -> Tuple[Experience, TimeStep, Nest]:
        """Act for ``num_steps`` steps.

        Args:
            num_steps: steps of each environment.
            with_last_step: also return the time step that the last action led to.
        Returns:
            - the experience ``[num_rows, B, ...]``, distributions as parameters; its time steps are raw. ``num_rows``
              is ``num_steps + 1`` with the last step, else ``num_steps``
            - its time steps after the data transformers ``[num_rows, B, ...]``
            - the spec from which the distributions of ``rollout_info`` are rebuilt
        """
        with self._begins_anew_if_it_fails():
            return self._run(num_steps, with_last_step)

    @contextlib.contextmanager
    def _begins_anew_if_it_fails(self) -> Iterator[None]:
        """Context in which environments are stepped; after an error the next unroll resets them."""
        try:
            yield
        except BaseException:
            self._parts = []
            raise

    def _run(self, num_steps: int, with_last_step: bool) -> Tuple[Experience, TimeStep, Nest]:
        if not self._parts:
            self._begin(num_steps)
        self._finish_steps()
        valid_steps = self._env.num_valid_steps
        # The first time step must outlast all steps of the unroll, for they are stacked at its end. The rows of a part
        # are always copied: they need not begin at cache lines, where those of a run that resumes do.
        copy = self._has_parts or (valid_steps is not None and valid_steps < num_steps)
        for part in self._parts:
            self._prepare(part, copy)
        rows = []
        for _ in range(num_steps):
            for part in self._parts:
                self._finish_step(part, copy)
                row = self._act(part)
                rows.append(row)
                self._step(part, row.alg_step, copy)
        if with_last_step:
            for part in self._parts:
                self._finish_step(part, copy)
                # Its action is not carried out and its state not kept: the next unroll takes this step again.
                with torch.no_grad():
                    rows.append(self._act(part))
        elif not self._steps_ahead:
            self._finish_steps()
        with profiling.scope("storage"):
            return self._stack(rows, with_last_step)

    # ---- experience ----------------------------------------------------------------------------------------------

    def _stack_steps(self, steps: List[Nest]) -> Nest:
        """Return tensors ``[T, B, ...]`` from the nests ``[B / num_parts, ...]`` of parts in turn."""
        stacked = stack_steps(steps)
        if not self._has_parts:
            return stacked
        return map_structure(lambda leaf: leaf.unflatten(0, (-1, len(self._parts))).flatten(1, 2), stacked)

    def _stack(self, rows: List[_Row], with_last_step: bool) -> Tuple[Experience, TimeStep, Nest]:
        info_spec = dist_utils.extract_spec(rows[0].alg_step.info, from_dim=1)
        infos = [row.alg_step.info for row in rows]
        if dist_utils.has_distributions(info_spec):
            infos = map(dist_utils.distributions_to_params, infos)
        is_transformed = rows[-1].inputs is not rows[-1].time_step
        actions = [row.alg_step.output for row in rows]
        if self._overwrite_policy_output:
            # The time step after the last row is the present one, unless the last row is the present one itself.
            later = [row.time_step for row in rows[len(self._parts):]]
            later += [] if with_last_step else [part.time_step for part in self._parts]
            actions[:len(later)] = [time_step.prev_action for time_step in later]
        # All at once: to take nests apart and put them together costs as much as a small step.
        time_step, inputs, action, info, state = self._stack_steps([
            (row.time_step, row.inputs if is_transformed else (), action, info, row.state if self._keep_state else ())
            for row, action, info in zip(rows, actions, infos, strict=True)
        ])
        if self._overwrite_policy_output:
            info = self._algorithm.overwrite_action(info, action)
        if torch.is_grad_enabled():
            action, state = common.detach((action, state))
        experience = Experience(time_step=time_step, action=action, rollout_info=info, state=state)
        return experience, inputs if is_transformed else time_step, info_spec
