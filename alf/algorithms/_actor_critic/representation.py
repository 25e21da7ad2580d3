"""What the networks of an actor-critic algorithm see of a time step."""

import copy
from typing import Any, Callable, Optional, Tuple

from torch import nn

from alf.data_structures import AlgStep, BatchInfo, TimeStep
from alf.nest import Nest, map_structure
from alf.tensor_specs import TensorSpec


class Representation:
    """The output of a representation learner, of which target networks see that of a slow copy; or the observation.

    Args:
        learner: the representation learner, an algorithm with ``output_spec``; None: the observation is seen.
        observation_spec: nest of specs of the observation.
    """

    def __init__(self, learner: Optional[nn.Module], observation_spec: Nest):
        self.learner = learner
        self.target = copy.deepcopy(learner)
        self.output_spec = observation_spec if learner is None else learner.output_spec
        self.state_spec = () if learner is None else learner.train_state_spec
        self.predict_state_spec = () if learner is None else learner.predict_state_spec

    @staticmethod
    def make(ctor: Optional[Callable], observation_spec: Nest, action_spec: Nest, reward_spec: TensorSpec, config,
             debug_summaries: bool) -> "Representation":
        """Return a representation whose learner a constructor makes.

        Args:
            ctor: called with all other arguments by their names; None: there is no learner.
            observation_spec: nest of specs.
            action_spec: nest of specs.
            reward_spec: spec of the reward.
            config: the settings of the run.
            debug_summaries: write more summaries.
        """
        if ctor is None:
            return Representation(None, observation_spec)
        learner = ctor(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            config=config,
            debug_summaries=debug_summaries)
        if learner.on_policy is None:
            learner.set_on_policy(False)
        return Representation(learner, observation_spec)

    def step(self, step_method: str, inputs: TimeStep, state: Nest, *rollout_info: Nest) -> AlgStep:
        """Return the step of the learner; without one its output is the observation.

        Args:
            step_method: ``predict_step``, ``rollout_step`` or ``train_step``.
            inputs: time step ``[B, ...]``.
            state: of the learner.
            rollout_info: of the learner, for ``train_step``.
        """
        if self.learner is None:
            return AlgStep(output=inputs.observation)
        return getattr(self.learner, step_method)(inputs, state, *rollout_info)

    def target_step(self, inputs: TimeStep, state: Nest) -> Tuple[Nest, Nest]:
        """Return what target networks see ``[B, ...]``, and the new state of the target copy.

        Args:
            inputs: time step ``[B, ...]``.
            state: of the target copy.
        """
        if self.target is None:
            return inputs.observation, ()
        step = self.target.predict_step(inputs, state)
        return step.output, step.state

    def preprocess_experience(self, root_inputs: TimeStep, rollout_info: Any,
                              batch_info: BatchInfo) -> Tuple[TimeStep, Any]:
        """Let the learner preprocess; all infos are cut to the steps that it leaves.

        Args:
            root_inputs: inputs of the root algorithm ``[B, T, ...]``.
            rollout_info: with the info of the learner as ``repr``, ``[B, T, ...]``.
            batch_info: of the sequences.
        """
        if self.learner is None:
            return root_inputs, rollout_info
        root_inputs, repr_info = self.learner.preprocess_experience(root_inputs, rollout_info.repr, batch_info)
        num_steps = root_inputs.step_type.shape[1]
        cut = map_structure(lambda leaf: leaf[:, :num_steps], rollout_info._replace(repr=()))
        return root_inputs, cut._replace(repr=repr_info)
