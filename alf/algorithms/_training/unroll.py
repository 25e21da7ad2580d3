"""Acting in the training environments: so many steps of each, as one experience."""

import contextlib
from typing import Any, Dict, List, Tuple

import torch

from alf.algorithms._training.sequences import stack_steps
from alf.data_structures import AlgStep, Experience, TimeStep
from alf.nest import Nest, flatten, map_structure, pack_sequence_as
from alf.utils import common, dist_utils
from alf.utils.summary_utils import record_time


class Unroll:
    """Steps an algorithm through its environments, where it left off the last time.

    An unroll of ``T`` steps makes an experience of ``T + 1`` for those that train on it at once: the last one is only
    there to be bootstrapped from. It is the first of the next unroll again, by then with the parameters of that time.
    So ``rollout_step`` sees that time step twice; data transformers see each time step once. A replay buffer needs each
    step once: there an unroll makes an experience of ``T``.

    Args:
        algorithm: the root algorithm.
        env: batched environment with tensors.
        keep_state: store the recurrent state before each step.
        overwrite_policy_output: store the action that the environment reports instead of the algorithm's.
    """

    def __init__(self, algorithm, env, keep_state: bool, overwrite_policy_output: bool = False):
        self._algorithm = algorithm
        self._env = env
        self._keep_state = keep_state
        self._overwrite_policy_output = overwrite_policy_output
        self._has_state = bool(flatten(algorithm.rollout_state_spec))
        self._time_step = None  # the present one, raw
        self._inputs = None  # the same after data transformers
        self._policy_state: Nest = ()
        self._zero_state: Nest = ()
        self._transform_state: Nest = ()
        self._loaded: Dict[str, Any] = {}  # where to begin, if a checkpoint says it

    def _begin(self, num_steps: int) -> None:
        env = self._env
        # Those of an unroll, and one more in case a fractional unroll_length makes later ones longer.
        env.reserve_rows(num_steps + 2)
        self._zero_state = self._policy_state = self._algorithm.get_initial_rollout_state(env.batch_size)
        self._transform_state = self._algorithm.get_initial_transform_state(env.batch_size)
        with self._algorithm.unchanged_transformers() if self._loaded else contextlib.nullcontext():
            self._observe(common.get_initial_time_step(env), copy=False)
        if self._loaded:
            self._begin_where_it_was(self._loaded)

    def _begin_where_it_was(self, state: Dict[str, Any]) -> None:
        self._env.set_state(state["environments"])
        is_transformed = self._inputs is not self._time_step
        present = (self._time_step, self._inputs, self._policy_state, self._transform_state)
        device = torch.get_default_device()
        # Copies: tensors of a file lie at odd addresses, which may change the last bit of a matrix product.
        present = pack_sequence_as(present, [leaf.to(device, copy=True) for leaf in state["present"]])
        self._time_step, self._inputs, self._policy_state, self._transform_state = present
        if not is_transformed:
            self._inputs = self._time_step
        self._loaded = {}

    def state_dict(self) -> Dict[str, Any]:
        """Return where the next unroll begins; nothing if the environments cannot tell their states."""
        if self._time_step is None:
            return self._loaded
        environments = self._env.get_state()
        if environments is None:
            return {}
        present = (self._time_step, self._inputs, self._policy_state, self._transform_state)
        return {"environments": environments, "present": [leaf.detach().clone() for leaf in flatten(present)]}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Begin where the unroll was when :meth:`state_dict` returned ``state``."""
        self._loaded = state

    def _observe(self, time_step: TimeStep, copy: bool) -> None:
        """Make ``time_step`` the present one."""
        self._time_step = map_structure(torch.clone, time_step) if copy else time_step
        self._inputs, self._transform_state = self._algorithm.transform_timestep(self._time_step, self._transform_state)

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
        if self._time_step is None:
            self._begin(num_steps)
        valid_steps = self._env.num_valid_steps
        # The first time step must outlast all steps of the unroll, for they are stacked at its end.
        copy = valid_steps is not None and valid_steps < num_steps
        if copy:
            self._time_step, self._inputs = map_structure(torch.clone, (self._time_step, self._inputs))
        if valid_steps is not None:
            # It may alias time steps before the first.
            self._transform_state = map_structure(torch.clone, self._transform_state)
        # The gradient of an on-policy algorithm ends where the unroll began.
        self._policy_state = common.detach(self._policy_state)
        raw, transformed, states, alg_steps = [], [], [], []
        for t in range(num_steps + 1 if with_last_step else num_steps):
            time_step, inputs, state = self._time_step, self._inputs, self._policy_state
            if self._has_state:
                state = common.reset_state_if_necessary(state, self._zero_state, time_step.is_first())
            raw.append(time_step)
            transformed.append(inputs)
            states.append(state)
            if t == num_steps:
                # Its action is not carried out and its state not kept: the next unroll takes this step again.
                with torch.no_grad():
                    alg_steps.append(self._algorithm.rollout_step(inputs, state))
                break
            alg_step = self._algorithm.rollout_step(inputs, state)
            alg_steps.append(alg_step)
            self._policy_state = alg_step.state
            with record_time("time/unroll_env_step"):
                time_step = self._env.step(alg_step.output)
            self._observe(time_step, copy)
        return self._stack(raw, transformed, states, alg_steps)

    def _stack(self, raw: List[TimeStep], transformed: List[TimeStep], states: List[Nest],
               alg_steps: List[AlgStep]) -> Tuple[Experience, TimeStep, Nest]:
        info_spec = dist_utils.extract_spec(alg_steps[0].info, from_dim=1)
        time_steps = stack_steps(raw)
        inputs = time_steps if transformed[-1] is raw[-1] else stack_steps(transformed)
        if self._overwrite_policy_output:
            # The time step after the last row is the present one, unless the last row is the present one itself.
            later = raw[1:] + ([self._time_step] if raw[-1] is not self._time_step else [])
            actions = [time_step.prev_action for time_step in later]
            actions += [alg_step.output for alg_step in alg_steps[len(actions):]]
        else:
            actions = [alg_step.output for alg_step in alg_steps]
        experience = Experience(
            time_step=time_steps,
            action=common.detach(stack_steps(actions)),
            rollout_info=stack_steps([dist_utils.distributions_to_params(s.info) for s in alg_steps]),
            state=common.detach(stack_steps(states)) if self._keep_state else ())
        return experience, inputs, info_spec
