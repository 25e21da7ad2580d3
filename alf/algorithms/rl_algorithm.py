"""RLAlgorithm: an algorithm that acts in environments; as the root of a tree it unrolls, trains and measures itself."""

import contextlib
from typing import Any, Callable, Dict, List, Optional, Union

import torch
from absl import logging
from torch import nn

from alf import summary
from alf.algorithms._training.checkpoint import check_rollout_state, num_environments_of
from alf.algorithms._training.offline import OfflineReplay
from alf.algorithms._training.replay import LastUnroll, Replay
from alf.algorithms._training.unroll import Unroll
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.async_unroller import AsyncUnroller
from alf.algorithms.config import TrainerConfig
from alf.algorithms.data_transformer import IdentityDataTransformer
from alf.config_util import configurable
from alf.data_structures import AlgStep, BasicRLInfo, Experience, LossInfo, StepType, TimeStep
from alf.metrics import StepMetric, metrics, update_metrics
from alf.nest import Nest, flatten, map_structure
from alf.tensor_specs import TensorSpec
from alf.utils import common, dist_utils, profiling, spec_utils, summary_utils
from alf.utils.summary_utils import record_time

_FIRST = int(StepType.FIRST)
_STEPS_MEASURED_TOGETHER = 16
_CHANGES_BEFORE_MODULES_ARE_KNOWN = 8


@configurable
class RLAlgorithm(Algorithm):
    """Base of algorithms whose steps take a TimeStep and return an action.

    The root of a tree of algorithms is given ``env`` and ``config``; it steps the environment, trains, keeps metrics.

    Args:
        observation_spec: nest of specs of the observation, after the data transformers of the trainer.
        action_spec: nest of bounded specs of the action.
        train_state_spec: nest of specs of the recurrent state of ``train_step``.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``.
        predict_state_spec: of ``predict_step``; None: that of ``rollout_step``.
        rollout_state_spec: of ``rollout_step``; None: that of ``train_step``.
        is_on_policy: whether it learns from the graph of its unroll; None: as the class says.
        reward_weights: weights of the components of a vector reward; None: all 1.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        optimizer: trains the parameters that nothing else trains.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        is_eval: made for evaluation or play: no replay, no metrics.
        overwrite_policy_output: learn from the action that the environment reports as ``prev_action``. It takes the
            place of the algorithm's in the experience and in its ``rollout_info``, see :meth:`overwrite_action`.
        debug_summaries: write more summaries.
        name: name in summaries.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: Nest,
                 train_state_spec: Nest,
                 reward_spec: TensorSpec = TensorSpec(()),
                 predict_state_spec: Optional[Nest] = None,
                 rollout_state_spec: Optional[Nest] = None,
                 is_on_policy: Optional[bool] = None,
                 reward_weights: Optional[List[float]] = None,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 is_eval: bool = False,
                 overwrite_policy_output: bool = False,
                 debug_summaries: bool = False,
                 name: str = "RLAlgorithm"):
        super().__init__(
            train_state_spec=train_state_spec,
            rollout_state_spec=rollout_state_spec,
            predict_state_spec=predict_state_spec,
            is_on_policy=is_on_policy,
            optimizer=optimizer,
            checkpoint=checkpoint,
            config=config,
            debug_summaries=debug_summaries,
            name=name)
        self._observation_spec = observation_spec
        self._action_spec = action_spec
        self._reward_spec = reward_spec
        self._env = env
        self._overwrite_policy_output = overwrite_policy_output
        if reward_weights is not None and (reward_spec.ndim != 1 or len(reward_weights) != reward_spec.numel):
            raise ValueError(f"{name}.reward_weights: expected one weight for each component of the reward, whose spec "
                             f"is {reward_spec}, got {reward_weights}.")
        weights = None
        if reward_spec.ndim:
            weights = torch.ones(reward_spec.shape) if reward_weights is None else torch.as_tensor(reward_weights)
            weights = weights.to(torch.float32)
        self.register_buffer("_reward_weights", weights)
        self._metrics = None
        self._unmeasured: List[TimeStep] = []  # time steps of unrolls [T, B, ...] that metrics have not seen yet
        self._unmeasured_env_steps = 0
        self._modules_with_modes: Optional[List[nn.Module]] = None
        self._num_mode_changes = 0
        self._unroll: Union[None, Unroll, AsyncUnroller] = None
        self._experience_spec: Optional[Experience] = None  # None: nothing was unrolled yet
        self._unroll_carry = 0.0
        self._loaded_unroll: Dict[str, Any] = {}  # where the unroll begins, if a checkpoint says it
        if env is not None and config is not None and not is_eval:
            transformer = getattr(config, "data_transformer", None)
            # A conf that names none gets this one: then time steps and experience are used as they are.
            self._data_transformer = None if type(transformer) is IdentityDataTransformer else transformer
            if self.on_policy and self._data_transformer is not None:
                self._data_transformer.follow_rollout()
            if self.on_policy and config.async_unroll:
                raise ValueError(f"TrainerConfig.async_unroll=True: {name} learns from the graph of its unroll, which "
                                 "cannot come from another process. Set async_unroll=False.")
            self._metrics = self._create_metrics(env, config)
            num_earlier = 0 if self._data_transformer is None else self._data_transformer.stack_size - 1
            self._replay = LastUnroll(num_earlier) if config.keeps_last_unroll else Replay(config, num_earlier, name)
            if config.offline_buffer_dir is not None:
                self.load_offline_replay_buffer(env.observation_spec())

    # ---- specs and reward ----------------------------------------------------------------------------------------

    def is_rl(self) -> bool:
        """Return True."""
        return True

    @property
    def observation_spec(self) -> Nest:
        """Nest of specs of the observation."""
        return self._observation_spec

    @property
    def action_spec(self) -> Nest:
        """Nest of specs of the action."""
        return self._action_spec

    @property
    def experience_spec(self) -> Experience:
        """Specs of what this root algorithm unrolls, its time steps raw; distributions are DistributionSpecs.

        Raises:
            RuntimeError: before the first unroll.
        """
        if self._experience_spec is None:
            raise RuntimeError(f"{self.name}: the specs of experience are those of the first unroll, which only the "
                               "root algorithm makes, and it has made none yet. Call unroll() first.")
        return self._experience_spec

    @property
    def rollout_info_spec(self) -> Nest:
        """Specs of ``AlgStep.info`` of ``rollout_step``; where it comes from and errors as :attr:`experience_spec`."""
        return self.experience_spec.rollout_info

    def has_multidim_reward(self) -> bool:
        """Return whether the reward is a vector."""
        return self._reward_spec.ndim > 0

    @property
    def reward_weights(self) -> Optional[torch.Tensor]:
        """Weights ``[R]`` of the components of a vector reward; None for a scalar reward."""
        return self._reward_weights

    def set_reward_weights(self, reward_weights: torch.Tensor) -> None:
        """Set the weights ``[R]`` of the components of the reward.

        Raises:
            ValueError: if the reward is a scalar.
        """
        if self._reward_weights is None:
            raise ValueError(f"{self.name}.set_reward_weights: expected a vector reward, its spec is "
                             f"{self._reward_spec}.")
        self._reward_weights.copy_(reward_weights)

    # ---- metrics and summaries -----------------------------------------------------------------------------------

    @staticmethod
    def _create_metrics(env, config: TrainerConfig) -> List[StepMetric]:
        # From the specs: asking the environment for a time step would reset it, perhaps before it is seeded.
        example = spec_utils.zeros_from_spec(env.time_step_spec(), env.batch_size)
        example = example._replace(env_info=spec_utils.zeros_from_spec(env.env_info_spec(), env.batch_size))
        episodic = [
            metrics.AverageReturnMetric, metrics.AverageEpisodeLengthMetric, metrics.AverageDiscountedReturnMetric,
            metrics.EpisodicStartAverageDiscountedReturnMetric, metrics.AverageRewardMetric
        ]
        if flatten(example.env_info):
            episodic.append(metrics.AverageEnvInfoMetric)
        buffer_size = max(config.metric_min_buffer_size, env.batch_size)
        return [metrics.NumberOfEpisodes(), metrics.EnvironmentSteps()
                ] + [metric(example_time_step=example, buffer_size=buffer_size) for metric in episodic]

    def get_step_metrics(self) -> List[StepMetric]:
        """Return the metrics that others are plotted against: number of episodes, environment steps."""
        return self.get_metrics()[:2]

    def get_metrics(self) -> List[StepMetric]:
        """Return all metrics of the training environments."""
        self._measure()
        return self._metrics

    @property
    def env_steps(self) -> int:
        """How many steps were made in the training environments."""
        return int(self._metrics[1].result()) + self._unmeasured_env_steps

    def own_counts(self) -> List[int]:
        """Return how many steps were made and episodes ended in the environments of this process.

        Episodes that metrics have not seen yet are not counted.
        """
        episodes, env_steps = self._metrics[:2]
        return [env_steps.own_count + self._unmeasured_env_steps, episodes.own_count]

    def set_total_counts(self, env_steps: int, num_episodes: int) -> None:
        """Say how many steps were made and episodes ended in all processes that train together."""
        own_env_steps, own_episodes = self.own_counts()
        self._metrics[1].count_elsewhere(env_steps - own_env_steps)
        self._metrics[0].count_elsewhere(num_episodes - own_episodes)

    def _measure(self) -> None:
        """Update the metrics with the time steps since the last call."""
        if self._unmeasured:
            time_steps, self._unmeasured = self._unmeasured, []
            self._unmeasured_env_steps = 0
            joined = time_steps[0] if len(time_steps) == 1 else map_structure(
                lambda *leaves: torch.cat(leaves), *time_steps)
            update_metrics(self._metrics, joined)

    def summarize_metrics(self) -> None:
        """Write the metrics, if summaries are recorded now."""
        if summary.should_record_summaries():
            for metric in self.get_metrics():
                metric.gen_summaries(train_step=summary.get_global_counter(), step_metrics=self.get_step_metrics())

    def summarize_reward(self, name: str, rewards: torch.Tensor) -> None:
        """Write mean and histogram of ``rewards`` ``[T, B]`` or ``[T, B, R]``."""
        if rewards.ndim == 3:
            for i in range(rewards.shape[-1]):
                summary_utils.add_mean_hist_summary(f"{name}/{i}", rewards[..., i])
        else:
            summary_utils.add_mean_hist_summary(name, rewards)

    def summarize_rollout(self, experience: Experience,
                          custom_summary: Optional[Callable[[Experience], None]] = None) -> None:
        """Write the summaries of an unroll, if they are recorded now.

        Args:
            experience: the unroll ``[T, B, ...]``.
            custom_summary: called with the experience.
        """
        if not summary.should_record_summaries():
            return
        if self._debug_summaries:
            summary_utils.summarize_action(experience.action, self._action_spec, "rollout_action")
            self.summarize_reward("rollout_reward/original_reward", experience.reward)
        if self._config.summarize_action_distributions:
            distribution = self._action_distribution(experience.rollout_info)
            summary_utils.summarize_distribution("rollout_action_dist", distribution)
        if custom_summary is not None:
            custom_summary(experience)

    def summarize_train(self, experience: Experience, train_info: Nest, loss_info: LossInfo, params: list) -> None:
        """Write the summaries of an update, if they are recorded now. Arguments as in :class:`Algorithm`."""
        super().summarize_train(experience, train_info, loss_info, params)
        if not summary.should_record_summaries():
            return
        if self._debug_summaries:
            summary_utils.summarize_action(experience.action, self._action_spec, "training_action")
            self.summarize_reward("training_reward", experience.reward)
        if self._config.summarize_action_distributions:
            summary_utils.summarize_distribution("training_action_dist", self._action_distribution(train_info))

    def _action_distribution(self, info: Nest) -> Nest:
        """Return the action distributions in an info for summaries, ``()`` if it has none. May be overridden."""
        return getattr(info, "action_distribution", ())

    # ---- unroll and training -------------------------------------------------------------------------------------

    def predict_step(self, inputs: TimeStep, state: Nest) -> AlgStep:
        """Act without learning; to be overridden."""
        raise NotImplementedError(f"{self.name}: override predict_step.")

    def unroll(self, unroll_length: int) -> Experience:
        """Act in the training environments, and store what an off-policy algorithm trains on.

        Args:
            unroll_length: number of steps of each environment.
        Returns:
            The experience with time steps after the data transformers. For an algorithm that trains on it at once it is
            ``[unroll_length + 1, B, ...]``, its last step is there to be bootstrapped from; else it is
            ``[unroll_length, B, ...]``.
        """
        at_once = self._trains_on_unroll
        unroll = self._make_unroll()
        with common.rollout_context(), record_time("time/unroll"):
            experience, inputs, rollout_info_spec = unroll.run(unroll_length, with_last_step=at_once)
        if self._experience_spec is None:
            spec = dist_utils.extract_spec(experience, from_dim=2)
            self._experience_spec = spec._replace(rollout_info=rollout_info_spec)
        if not self.on_policy:
            with record_time("time/unroll_store_exp"):
                has_graph = torch.is_grad_enabled()
                self._store(common.detach(experience) if has_graph else experience, rollout_info_spec)
        time_steps = experience.time_step
        self._unmeasured.append(map_structure(lambda leaf: leaf[:-1], time_steps) if at_once else time_steps)
        self._unmeasured_env_steps += int((self._unmeasured[-1].step_type != _FIRST).sum())
        # Metrics cost nearly the same for one step as for many: those of short unrolls are taken together.
        if len(self._unmeasured) * unroll_length >= _STEPS_MEASURED_TOGETHER:
            with profiling.scope("summaries"):
                self._measure()
        rollout_info = dist_utils.params_to_distributions(experience.rollout_info, rollout_info_spec)
        return experience._replace(time_step=inputs, rollout_info=rollout_info)

    def overwrite_action(self, rollout_info: Nest, action: Nest) -> Nest:
        """Return the info of rollout steps with another action in place of the algorithm's.

        By default its field ``action`` is replaced, if it has one. May be overridden by an algorithm that keeps the
        action elsewhere, or in another form.

        Args:
            rollout_info: ``AlgStep.info`` of ``rollout_step``, distributions as parameters ``[T, B, ...]``.
            action: what is to be learned from, nested as the action spec ``[T, B, ...]``.
        """
        if not flatten(getattr(rollout_info, "action", ())):
            return rollout_info
        return rollout_info._replace(action=map_structure(lambda _, done: done, rollout_info.action, action))

    def _make_unroll(self) -> Union[Unroll, AsyncUnroller]:
        """Return what acts for this algorithm, in this process or another; it is made at the first call."""
        if self._unroll is None:
            if self._env is None:
                raise RuntimeError(f"{self.name}: only the root algorithm unrolls, and it needs env and config.")
            if self._config.unroll_halves and self._env.num_parts != 2:
                raise ValueError(f"TrainerConfig.unroll_halves=True: {type(self._env).__name__} cannot be stepped in "
                                 "halves. Use FastParallelEnvironment, without batched_wrappers, or set it to False.")
            settings = dict(
                keep_state=self.need_full_rollout_state() and not self.on_policy,
                overwrite_policy_output=self._overwrite_policy_output)
            if self._config.async_unroll:
                self._unroll = AsyncUnroller(self, self._config, **settings)
            else:
                self._unroll = Unroll(self, self._env, steps_ahead=self._may_step_ahead(), **settings)
                self._unroll.load_state_dict(self._loaded_unroll)
                self._loaded_unroll = {}
        return self._unroll

    def _may_step_ahead(self) -> bool:
        """Return whether the next environment step may overlap with training without changing results.

        Training must not use that step, nor the statistics of data transformers that would have seen it, and the
        environments must not depend on the progress of training.
        """
        transforms = self._data_transformer is not None and bool(self._data_transformer.state_dict())
        return not (self._trains_on_unroll or transforms or self._config.sync_progress_to_envs)

    @property
    def _trains_on_unroll(self) -> bool:
        """Whether training uses all of the last unroll and nothing else."""
        return bool(self.on_policy) or isinstance(self._replay, LastUnroll)

    def _store(self, experience: Experience, rollout_info_spec: Nest) -> None:
        if self._trains_on_unroll:
            self._replay.set(experience, rollout_info_spec)
        else:
            priorities = self.rollout_priority(experience) if self._config.priority_replay else None
            self._replay.add(experience, rollout_info_spec, priorities)

    def _next_unroll_length(self) -> int:
        """Return the steps to unroll now, so that ``unroll_length``, perhaps a fraction, is met on average."""
        config = self._config
        if config.num_iterations > 0 and 0 < config.num_env_steps <= self.env_steps:
            return 0  # the environments stop here, training goes on
        if config.async_unroll and config.unroll_length == 0:
            at_once = int(self._trains_on_unroll)
            return self._make_unroll().available_steps(at_least=at_once, num_look_ahead=at_once)
        self._unroll_carry += config.unroll_length
        # 10 times 0.1 is a little less than 1.
        length = int(self._unroll_carry + 1e-9)
        self._unroll_carry -= length
        return length

    # ---- stored buffers ------------------------------------------------------------------------------------------

    def load_offline_replay_buffer(self, untransformed_observation_spec: Nest) -> None:
        """Load the stored buffers that ``TrainerConfig.offline_buffer_dir`` names.

        Args:
            untransformed_observation_spec: nest of specs of the observation before data transformers.
        Raises:
            ValueError: if a stored buffer cannot be read or does not fit, or if the algorithm is on-policy.
        """
        if self.on_policy:
            raise ValueError(f"TrainerConfig.offline_buffer_dir: {self.name} learns from the graph of its unroll and "
                             "cannot learn from stored buffers. Use an off-policy algorithm, such as IqlAlgorithm.")
        num_earlier = 0 if self._data_transformer is None else self._data_transformer.stack_size - 1
        self._offline = OfflineReplay(self._config, untransformed_observation_spec, self._action_spec,
                                      self._reward_spec, num_earlier)

    def offline_rollout_info(self, action: Nest) -> Nest:
        """Return what takes the place of ``AlgStep.info`` of ``rollout_step`` in steps of stored buffers.

        May be overridden by an algorithm whose training reads more of it than the action.

        Args:
            action: stored actions ``[B, T, ...]``.
        """
        return BasicRLInfo(action=action)

    def train_iter(self) -> int:
        """Unroll, train, and return the number of steps trained on, repeated ones counted each time."""
        config = self._config
        on_policy = bool(self.on_policy)
        unroll_length = self._next_unroll_length()
        if unroll_length == 0 and self._trains_on_unroll:
            return 0
        if on_policy or not config.update_counter_every_mini_batch:
            summary.increment_global_counter()
        experience = self._unroll_and_summarize(unroll_length) if unroll_length else None
        self._set_mode(True)
        if on_policy:
            with common.rollout_context(), record_time("time/train"):
                steps = self.train_from_unroll(experience, experience.rollout_info)
        else:
            with common.replay_context():
                steps = self.train_from_replay_buffer(update_global_counter=config.update_counter_every_mini_batch)
        if experience is not None:
            with record_time("time/after_train_iter"):
                root_inputs = experience.time_step if config.use_root_inputs_for_after_train_iter else None
                self.after_train_iter(root_inputs, experience.rollout_info)
        if config.async_unroll:
            self._make_unroll().after_train_iter(self)
        return steps

    def _unroll_and_summarize(self, unroll_length: int) -> Experience:
        on_policy = bool(self.on_policy)
        # The graph of an on-policy unroll is trained on, so it must be that of training.
        self._set_mode(on_policy)
        precision = self._learner.in_mixed_precision() if on_policy else contextlib.nullcontext()
        with torch.set_grad_enabled(on_policy or self._config.unroll_with_grad), precision:
            experience = self.unroll(unroll_length)
        with profiling.scope("summaries"):
            self.summarize_rollout(experience)
            self.summarize_metrics()
        return experience

    def _set_mode(self, training: bool) -> None:
        """Switch train or eval mode as ``train(training)`` does, using a cached list of modules.

        The first iterations visit all modules, some of which may only be created then.
        """
        self._num_mode_changes += 1
        if self._num_mode_changes <= _CHANGES_BEFORE_MODULES_ARE_KNOWN:
            self.train(training)
            return
        if self._modules_with_modes is None:
            self._modules_with_modes = list(self.modules())
        for module in self._modules_with_modes:
            module.__dict__["training"] = training  # nn.Module.__setattr__ takes ten times as long

    # ---- what a checkpoint holds besides the algorithm -----------------------------------------------------------

    def rollout_state_dict(self) -> Dict[str, Any]:
        """Return the state of unroll and replay, for checkpoints. The metrics have then seen all."""
        self._measure()
        replay = {} if self._replay is None else self._replay.state_dict()
        offline = {} if self._offline is None else self._offline.state_dict()
        present = self._unroll.state_dict() if isinstance(self._unroll, Unroll) else self._loaded_unroll
        return {"unroll_carry": self._unroll_carry, "unroll": present, **replay, **offline}

    @property
    def num_stored_steps(self) -> int:
        """Number of steps in the replay buffer, of all environments; 0 without one."""
        return self._replay.total_size if isinstance(self._replay, Replay) else 0

    @staticmethod
    def check_rollout_state_dict(state: Dict[str, Any]) -> None:
        """Raise if ``state`` is nothing that :meth:`rollout_state_dict` returns.

        Raises:
            KeyError, ValueError: naming what is missing or wrong.
        """
        check_rollout_state(state)

    def load_rollout_state_dict(self, state: Dict[str, Any]) -> None:
        """Take over what :meth:`rollout_state_dict` returned.

        Of another number of environments, unroll and replay are not taken over, which is told: new episodes begin, and
        the replay buffer is empty. Where new episodes begin and the replay buffer goes on, its episodes end with the
        steps that it holds.
        """
        saved = num_environments_of(state)
        if saved is not None and self._env is not None and saved != self._env.batch_size:
            replay = (", and the replay buffer begins empty: training collects initial_collect_steps again before it "
                      "goes on to learn" if state.get("_replay_buffer") else "")
            logging.warning("%d environments in the checkpoint, %d now: new episodes begin%s.", saved,
                            self._env.batch_size, replay)
            state = {**state, "unroll": {}, "earlier": [], "_replay_buffer": {}}
        if self._config is not None and self._config.async_unroll:
            state = {**state, "unroll": {}, "earlier": []}  # the other process begins new episodes
        self._unroll_carry = state["unroll_carry"]
        self._loaded_unroll = state["unroll"]
        if self._replay is not None:
            self._replay.load_state_dict(state)
        if self._offline is not None:
            self._offline.load_state_dict(state)

    def forget_rollout(self) -> None:
        """Discard the state restored by :meth:`load_rollout_state_dict`: new episodes, an empty replay buffer."""
        self._unroll_carry, self._loaded_unroll = 0.0, {}
        if self._replay is not None:
            self._replay.load_state_dict({"credit": 0.0, "steps_per_update": 0})

    def finish_train(self) -> None:
        """Release what training holds."""
        if isinstance(self._unroll, AsyncUnroller):
            self._unroll.close()
        self._unroll = None
        self._replay = None
