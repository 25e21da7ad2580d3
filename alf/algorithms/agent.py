"""Agent: an RL algorithm together with what prepares its observation, reward and goal."""

from typing import Callable, Optional

import torch

from alf import summary
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent_helpers import AgentHelper
from alf.algorithms.config import TrainerConfig
from alf.algorithms.entropy_target_algorithm import EntropyTargetAlgorithm
from alf.algorithms.rl_algorithm import RLAlgorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, BasicRolloutInfo, Experience, LossInfo, TimeStep, namedtuple
from alf.nest import Nest, map_structure
from alf.tensor_specs import TensorSpec

AgentState = namedtuple("AgentState", ["rl", "irm", "goal_generator", "repr", "rw"], default_value=())

AgentInfo = namedtuple(
    "AgentInfo",
    [
        "rl",  # info of the RL algorithm
        "irm",  # info of the intrinsic reward module
        "goal_generator",  # info of the goal generator
        "entropy_target",  # info of the entropy target algorithm
        "repr",  # info of the representation learner
        "rw",  # info of the reward weight algorithm
        "rewards",  # rewards by source [T, B], for summaries
    ],
    default_value=())


def _ignore(name: str, reward: torch.Tensor) -> None:
    pass


@configurable
class Agent(RLAlgorithm):
    """Composes algorithms: representation, goal, intrinsic reward, RL, entropy target and reward weights.

    An observation goes through the representation learner, is paired with the goal, and is given to the RL algorithm
    with the reward ``extrinsic_reward_coef * reward + intrinsic_reward_coef * intrinsic reward``. Losses are added.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded specs of the action.
        reward_spec: spec of the reward.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        rl_algorithm_cls: makes the RL algorithm.
        reward_weight_algorithm_cls: makes the algorithm that weighs the components of a vector reward.
        representation_learner_cls: makes the representation learner; its ``output_spec`` is the new observation.
        representation_use_rl_state: give the representation learner the state of the RL algorithm too.
        goal_generator: an algorithm whose output is the goal.
        intrinsic_reward_module: an algorithm whose output is a reward ``[B]``.
        intrinsic_reward_coef: weight of the intrinsic reward.
        extrinsic_reward_coef: weight of the reward of the environment.
        enforce_entropy_target: hold the entropy of the policy near a target by an EntropyTargetAlgorithm.
        entropy_target_cls: makes that algorithm; None: EntropyTargetAlgorithm.
        optimizer: trains the parameters that nothing else trains.
        debug_summaries: write more summaries.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: Nest,
                 reward_spec: TensorSpec = TensorSpec(()),
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 rl_algorithm_cls: Callable = ActorCriticAlgorithm,
                 reward_weight_algorithm_cls: Optional[Callable] = None,
                 representation_learner_cls: Optional[Callable] = None,
                 representation_use_rl_state: bool = False,
                 goal_generator: Optional[Callable] = None,
                 intrinsic_reward_module=None,
                 intrinsic_reward_coef: float = 1.0,
                 extrinsic_reward_coef: float = 1.0,
                 enforce_entropy_target: bool = False,
                 entropy_target_cls: Optional[Callable] = None,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 debug_summaries: bool = False,
                 name: str = "AgentAlgorithm"):
        helper = AgentHelper(AgentState)
        rl_observation_spec = observation_spec
        representation_learner = None
        if representation_learner_cls is not None:
            representation_learner = representation_learner_cls(
                observation_spec=rl_observation_spec,
                action_spec=action_spec,
                reward_spec=reward_spec,
                config=config,
                debug_summaries=debug_summaries)
            rl_observation_spec = representation_learner.output_spec
            helper.register_algorithm(representation_learner, "repr")
        if goal_generator is not None:
            rl_observation_spec = [rl_observation_spec, goal_generator.action_spec]
            helper.register_algorithm(goal_generator, "goal_generator")
        helper.register_algorithm(intrinsic_reward_module, "irm")
        rl_algorithm = rl_algorithm_cls(
            observation_spec=rl_observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            config=config,
            debug_summaries=debug_summaries)
        helper.register_algorithm(rl_algorithm, "rl")
        reward_weight_algorithm = None
        if reward_weight_algorithm_cls is not None:
            reward_weight_algorithm = reward_weight_algorithm_cls(
                reward_spec=reward_spec, debug_summaries=debug_summaries)
            helper.register_algorithm(reward_weight_algorithm, "rw")
            rl_algorithm.set_reward_weights(reward_weight_algorithm.reward_weights)
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            is_on_policy=rl_algorithm.on_policy,
            env=env,
            config=config,
            optimizer=optimizer,
            debug_summaries=debug_summaries,
            name=name,
            **helper.state_specs())
        self._helper = helper
        self._representation_learner = representation_learner
        self._representation_use_rl_state = representation_use_rl_state
        self._goal_generator = goal_generator
        self._irm = intrinsic_reward_module
        self._rl_algorithm = rl_algorithm
        self._reward_weight_algorithm = reward_weight_algorithm
        self._intrinsic_reward_coef = intrinsic_reward_coef
        self._extrinsic_reward_coef = extrinsic_reward_coef
        self._entropy_target_algorithm = None
        if enforce_entropy_target or entropy_target_cls is not None:
            entropy_target_cls = EntropyTargetAlgorithm if entropy_target_cls is None else entropy_target_cls
            self._entropy_target_algorithm = entropy_target_cls(action_spec, debug_summaries=debug_summaries)
        for algorithm in (representation_learner, goal_generator, intrinsic_reward_module,
                          self._entropy_target_algorithm, reward_weight_algorithm):
            if algorithm is not None and algorithm.on_policy is None:
                algorithm.set_on_policy(bool(rl_algorithm.on_policy))

    def update_kind(self) -> tuple:
        """Return ``()``: an update is nothing but tensor operations."""
        return ()

    def set_path(self, path: str) -> None:
        """Tell each algorithm its place in the tree."""
        super().set_path(path)
        self._helper.set_path(path)

    def convert_train_state_to_predict_state(self, state: AgentState) -> AgentState:
        """Return the part of a train state that ``predict_step`` needs."""
        return state._replace(rl=self._rl_algorithm.convert_train_state_to_predict_state(state.rl))

    @property
    def reward_weights(self) -> Optional[torch.Tensor]:
        """Weights of the RL algorithm for the components of a vector reward ``[R]``; None for a scalar reward."""
        return self._rl_algorithm.reward_weights

    def _repr_state(self, state: AgentState) -> Nest:
        """Return the state that the representation learner is given."""
        return (state.repr, state.rl) if self._representation_use_rl_state else state.repr

    def _observe(self, step_method: str, time_step: TimeStep, state: AgentState, rollout_info=None):
        """Return the time step for the RL algorithm, the new states and the infos of what prepares it.

        Args:
            step_method: ``predict_step``, ``rollout_step`` or ``train_step``.
            time_step: of the environment ``[B, ...]``.
            state: of the Agent.
            rollout_info: of the Agent, for ``train_step``.
        """
        new_state, infos = {}, {}

        def step(alg, field, inputs, alg_state):
            extra = (getattr(rollout_info, field), ) if step_method == "train_step" else ()
            alg_step = getattr(alg, step_method)(inputs, alg_state, *extra)
            new_state[field], infos[field] = alg_step.state, alg_step.info
            return alg_step.output

        if self._representation_learner is not None:
            observation = step(self._representation_learner, "repr", time_step, self._repr_state(state))
            time_step = time_step._replace(observation=observation)
        if self._goal_generator is not None:
            goal = step(self._goal_generator, "goal_generator", time_step, state.goal_generator)
            time_step = time_step._replace(observation=[time_step.observation, goal])
        if self._irm is not None:
            if step_method == "predict_step":
                new_state["irm"] = state.irm
            else:
                intrinsic = step(self._irm, "irm", time_step, state.irm)
                if step_method == "rollout_step":
                    infos["rewards"] = {"extrinsic": time_step.reward, "intrinsic": intrinsic}
        if step_method == "rollout_step":
            time_step = time_step._replace(reward=self._mix_rewards(time_step.reward, infos.get("rewards", ())))
        return time_step, new_state, infos

    def _mix_rewards(self, reward: torch.Tensor, rewards: Nest, prefix: str = "", summarize_fn=_ignore) -> torch.Tensor:
        """Return the reward that the RL algorithm learns from.

        Args:
            reward: of the environment.
            rewards: ``AgentInfo.rewards``.
            prefix: scope of the summaries.
            summarize_fn: called with name and reward of each part and of the sum.
        """
        if rewards == ():
            return reward if self._extrinsic_reward_coef == 1.0 else self._extrinsic_reward_coef * reward
        return self._helper.accumulate_algorithm_rewards(
            [rewards["extrinsic"], rewards["intrinsic"]], [self._extrinsic_reward_coef, self._intrinsic_reward_coef],
            ["extrinsic", "intrinsic"], prefix, summarize_fn)

    def predict_step(self, time_step: TimeStep, state: AgentState) -> AlgStep:
        """Return the action of the RL algorithm.

        Args:
            time_step: ``[B, ...]``.
            state: states of all algorithms.
        """
        time_step, new_state, infos = self._observe("predict_step", time_step, state)
        rl_step = self._rl_algorithm.predict_step(time_step, state.rl)
        new_state["rl"], infos["rl"] = rl_step.state, rl_step.info
        if self._reward_weight_algorithm is not None:
            new_state["rw"] = state.rw
        return AlgStep(output=rl_step.output, state=AgentState(**new_state), info=AgentInfo(**infos))

    def rollout_step(self, time_step: TimeStep, state: AgentState) -> AlgStep:
        """Return the action of the RL algorithm and the infos of all.

        Args:
            time_step: ``[B, ...]``.
            state: states of all algorithms.
        """
        step_type = time_step.step_type
        time_step, new_state, infos = self._observe("rollout_step", time_step, state)
        rl_step = self._rl_algorithm.rollout_step(time_step, state.rl)
        new_state["rl"], infos["rl"] = rl_step.state, rl_step.info
        if self._entropy_target_algorithm is not None and self.on_policy:
            inputs = (rl_step.info.action_distribution, step_type)
            infos["entropy_target"] = self._entropy_target_algorithm.rollout_step(inputs).info
        if self._reward_weight_algorithm is not None:
            rw_step = self._reward_weight_algorithm.rollout_step(time_step, state.rw)
            new_state["rw"], infos["rw"] = rw_step.state, rw_step.info
        return AlgStep(output=rl_step.output, state=AgentState(**new_state), info=AgentInfo(**infos))

    def train_step(self, time_step: TimeStep, state: AgentState, rollout_info: AgentInfo) -> AlgStep:
        """Return the infos of all algorithms for a stored step.

        Args:
            time_step: ``[B, ...]``.
            state: states of all algorithms.
            rollout_info: infos of the unroll.
        """
        inputs, new_state, infos = self._observe("train_step", time_step, state, rollout_info)
        rl_step = self._rl_algorithm.train_step(inputs, state.rl, rollout_info.rl)
        new_state["rl"], infos["rl"] = rl_step.state, rl_step.info
        if self._entropy_target_algorithm is not None:
            step = self._entropy_target_algorithm.train_step((rl_step.info.action_distribution, time_step.step_type))
            infos["entropy_target"] = step.info
        if self._reward_weight_algorithm is not None:
            new_state["rw"] = state.rw
        return AlgStep(output=rl_step.output, state=AgentState(**new_state), info=AgentInfo(**infos))

    @property
    def _has_only_rl(self) -> bool:
        others = (self._representation_learner, self._goal_generator, self._irm, self._entropy_target_algorithm,
                  self._reward_weight_algorithm)
        return all(other is None for other in others)

    @property
    def trains_sequences(self) -> bool:
        """Whether the RL algorithm does, and is alone."""
        return self._has_only_rl and self._rl_algorithm.trains_sequences

    def train_sequence(self, inputs: TimeStep, rollout_info: AgentInfo, state: AgentState = ()) -> AgentInfo:
        """Return the infos of all algorithms for sequences: an RL algorithm that is alone treats them in its own way.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll ``[T, B, ...]``.
            state: states of all algorithms before the first step ``[B, ...]``.
        """
        if not self._has_only_rl:
            return super().train_sequence(inputs, rollout_info, state)
        state = (state.rl, ) if self.trains_sequences else ()
        return AgentInfo(rl=self._rl_algorithm.train_sequence(inputs, rollout_info.rl, *state))

    def rollout_priority(self, experience: Experience) -> Optional[torch.Tensor]:
        """Return the priorities that the RL algorithm gives to the steps of an unroll."""
        return self._rl_algorithm.rollout_priority(experience._replace(rollout_info=experience.rollout_info.rl))

    def calc_loss(self, info: AgentInfo) -> LossInfo:
        """Return the sum of the losses of all algorithms ``[T, B]``."""
        losses = self._helper.accumulate_loss_info(
            [self._rl_algorithm, self._irm, self._goal_generator, self._representation_learner], info)
        if self._entropy_target_algorithm is None:
            return losses
        entropy_loss = self._entropy_target_algorithm.calc_loss(info.entropy_target)
        return losses._replace(
            loss=losses.loss + entropy_loss.loss, extra={**losses.extra, "entropy_target": entropy_loss.extra})

    def calc_loss_offline(self, info: AgentInfo, pre_train: bool = False) -> LossInfo:
        """Return the sum of the losses of all algorithms on offline experience."""
        return self._helper.accumulate_loss_info(
            [self._rl_algorithm, self._representation_learner], info, offline=True, pre_train=pre_train)

    def train_step_offline(self, time_step: TimeStep, state: AgentState, rollout_info: BasicRolloutInfo,
                           pre_train: bool = False) -> AlgStep:
        """Return the infos of representation learner and RL algorithm for a step of a stored buffer.

        The others learn from the Agent's own experience only. Arguments as in :class:`Algorithm`.
        """
        new_state, infos = {}, {}
        if self._representation_learner is not None:
            step = self._representation_learner.train_step_offline(time_step, self._repr_state(state),
                                                                   rollout_info.repr, pre_train)
            new_state["repr"], infos["repr"] = step.state, step.info
            time_step = time_step._replace(observation=step.output)
        rl_step = self._rl_algorithm.train_step_offline(time_step, state.rl, rollout_info.rl, pre_train)
        new_state["rl"], infos["rl"] = rl_step.state, rl_step.info
        return AlgStep(output=rl_step.output, state=state._replace(**new_state), info=AgentInfo(**infos))

    def train_sequence_offline(self, inputs: TimeStep, rollout_info: BasicRolloutInfo,
                               pre_train: bool = False) -> AgentInfo:
        """Return the infos for stored sequences: an RL algorithm that is alone treats them in its own way."""
        if not self._has_only_rl:
            return super().train_sequence_offline(inputs, rollout_info, pre_train)
        return AgentInfo(rl=self._rl_algorithm.train_sequence_offline(inputs, rollout_info.rl, pre_train))

    def offline_rollout_info(self, action) -> BasicRolloutInfo:
        """Return what takes the place of the infos of the unroll in steps of stored buffers.

        Raises:
            ValueError: if the RL algorithm needs goals, which are not stored.
        """
        if self._goal_generator is not None:
            raise ValueError("TrainerConfig.offline_buffer_dir: stored buffers have no goals, which the goal_generator "
                             f"of {self.name} would give to the RL algorithm. Leave one of the two out.")
        return BasicRolloutInfo(rl=self._rl_algorithm.offline_rollout_info(action))

    def overwrite_action(self, rollout_info: AgentInfo, action: Nest) -> AgentInfo:
        """Return the info of rollout steps with another action in that of the RL algorithm."""
        return rollout_info._replace(rl=self._rl_algorithm.overwrite_action(rollout_info.rl, action))

    def _all(self) -> list:
        return [self._rl_algorithm, self._representation_learner, self._irm, self._goal_generator]

    def after_update(self, experience: TimeStep, train_info: AgentInfo) -> None:
        """Call ``after_update`` of all algorithms."""
        self._helper.after_update(self._all(), experience, train_info)

    def after_train_iter(self, experience: Optional[TimeStep], info: AgentInfo) -> None:
        """Call ``after_train_iter`` of all algorithms, and take over new reward weights."""
        self._helper.after_train_iter(self._all() + [self._reward_weight_algorithm], experience, info)
        if self._reward_weight_algorithm is not None:
            self._rl_algorithm.set_reward_weights(self._reward_weight_algorithm.reward_weights)

    def preprocess_experience(self, root_inputs: TimeStep, rollout_info: AgentInfo, batch_info: Nest):
        """Let the RL algorithm and the representation learner preprocess; all infos keep the same number of steps.

        Args:
            root_inputs: time steps ``[B, T, ...]``.
            rollout_info: infos of the unroll ``[B, T, ...]``.
            batch_info: of the sequences.
        Returns:
            Time steps with the reward that the RL algorithm learns from, and infos.
        """
        reward = self._mix_rewards(root_inputs.reward, rollout_info.rewards)
        root_inputs, rollout_info = root_inputs._replace(reward=reward), rollout_info._replace(rewards=())
        if self._representation_learner is not None:
            root_inputs, repr_info = self._representation_learner.preprocess_experience(
                root_inputs, rollout_info.repr, batch_info)
            rollout_info = rollout_info._replace(repr=repr_info)
        root_inputs, rl_info = self._rl_algorithm.preprocess_experience(root_inputs, rollout_info.rl, batch_info)
        num_steps = root_inputs.step_type.shape[1]
        cut = map_structure(lambda leaf: leaf[:, :num_steps], rollout_info._replace(rl=()))
        return root_inputs, cut._replace(rl=rl_info)

    @property
    def preprocesses_experience(self) -> bool:
        """Whether an algorithm of the agent preprocesses, or rewards are mixed, or a subclass preprocesses."""
        return (self._representation_learner is not None or self._irm is not None or self._goal_generator is not None
                or self._extrinsic_reward_coef != 1.0 or self._rl_algorithm.preprocesses_experience
                or type(self).preprocess_experience is not Agent.preprocess_experience)

    def summarize_rollout(self, experience: Experience) -> None:
        """Write the summaries of an unroll: those of the RL algorithm, and each reward."""
        if not summary.should_record_summaries():
            return
        info = experience.rollout_info
        self._rl_algorithm.summarize_rollout(experience._replace(rollout_info=info.rl))
        if info.rewards != ():
            self._mix_rewards(experience.reward, info.rewards, "rollout_reward", self.summarize_reward)

    def _action_distribution(self, info: AgentInfo) -> Nest:
        return self._rl_algorithm._action_distribution(info.rl)
