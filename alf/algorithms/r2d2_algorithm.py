"""R2D2: Q-learning with a recurrent network from replayed sequences, https://openreview.net/forum?id=r1lyTjAqYX.

Sequences begin from the recurrent state stored when they were acted (``TrainerConfig.use_rollout_state=True``). Their
first ``burn_in_steps`` steps only bring the states of both networks up to date with their present parameters. The steps
after that learn from n-step double Q-learning targets with rescaled values. A sequence is replayed with a priority made
of the largest and the mean TD error in it.

Different from the paper: there a sequence is followed by ``n_step`` more steps for the targets of its last ones. Here
the last steps of a sequence have targets of fewer steps, so that all steps after burn-in but the last are learned.
The architecture is that of ``q_network_cls``: a dueling head is not a part of the algorithm.
"""

from typing import Callable, Hashable, Optional, Union

import torch
import torch.nn.functional as F

from alf import summary
from alf.algorithms._q_learning.exploration import epsilon_greedy_actions, rollout_epsilons
from alf.algorithms._q_learning.sequence_priority import priorities_from_each_row, sequence_priority
from alf.algorithms._q_learning.targets import target_value
from alf.algorithms.config import TrainerConfig
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.config_util import configurable
from alf.data_structures import AlgStep, Experience, LossInfo, StepType, TimeStep, namedtuple
from alf.nest import Nest, flatten, map_structure
from alf.networks import QRNNNetwork
from alf.tensor_specs import BoundedTensorSpec, NestedTensorSpec, TensorSpec
from alf.utils import common, losses, math_ops, summary_utils
from alf.utils.n_step_returns import n_step_returns
from alf.utils.schedulers import Scheduler, as_scheduler

_LAST = int(StepType.LAST)

R2d2RolloutInfo = namedtuple(
    "R2d2RolloutInfo",
    [
        "value",  # [B]: rescaled value of the action taken
        "max_value",  # [B]: of the best action
        "reward",  # [B]: reward that the algorithm saw, after data transformers
    ],
    default_value=())

R2d2Info = namedtuple(
    "R2d2Info",
    [
        "time_step",  # TimeStep of the steps after burn-in [L, B, ...]: what the targets need
        "values",  # [L, B, K]: rescaled values of all actions, with graph
        "target_values",  # [L, B, K]: those of the target network
    ],
    default_value=())


@configurable
class R2d2Algorithm(OffPolicyAlgorithm):
    """Recurrent replay distributed DQN, for a single discrete action.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: a discrete spec of shape ``()``, minimum 0.
        reward_spec: spec of the reward, a scalar.
        q_network_cls: called with ``input_tensor_spec`` and ``action_spec``; makes a network with ``forward_sequence``,
            as ``QRNNNetwork``.
        q_optimizer: trains the network; None: what ``optimizer`` says.
        gamma: discount factor.
        n_step: number of rewards in a target, less where an episode or the sequence ends.
        burn_in_steps: steps at the beginning of a sequence that only bring the recurrent states up to date.
        use_prev_action_and_reward: give the network ``dict(observation=..., prev_action=one-hot [K], prev_reward=[1])``
            instead of the observation alone.
        target_update_tau: how far an update of the target network goes; 1 copies.
        target_update_period: number of updates from one update of the target network to the next.
        rollout_epsilon_greedy: probability of random actions in the first environment; a number or a scheduler.
        rollout_epsilon_alpha: environment ``i`` of ``N`` takes ``epsilon ** (1 + alpha i / (N - 1))``.
        value_transform_ctor: makes the ``InvertibleTransform`` that rescales values; None: no rescaling.
        td_error_loss_fn: called with target and value ``[L, B]``.
        priority_eta: weight of the largest TD error in the priority of a sequence; the rest is that of the mean.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        optimizer: trains what ``q_optimizer`` does not; None: that of the parent does.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
    Raises:
        ValueError: if the action, the reward, the network or the length of sequences is not of that kind.
    """

    def __init__(self,
                 observation_spec: NestedTensorSpec,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 q_network_cls: Callable = QRNNNetwork,
                 q_optimizer: Optional[torch.optim.Optimizer] = None,
                 gamma: float = 0.997,
                 n_step: int = 5,
                 burn_in_steps: int = 40,
                 use_prev_action_and_reward: bool = False,
                 target_update_tau: float = 1.0,
                 target_update_period: int = 2500,
                 rollout_epsilon_greedy: Union[float, Scheduler] = 0.4,
                 rollout_epsilon_alpha: float = 7.0,
                 value_transform_ctor: Optional[Callable] = math_ops.SqrtLinearTransform,
                 td_error_loss_fn: Callable = losses.element_wise_squared_loss,
                 priority_eta: float = 0.9,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "R2d2Algorithm"):
        _check_arguments(name, reward_spec, gamma, n_step, burn_in_steps, priority_eta)
        input_spec = observation_spec
        if use_prev_action_and_reward:
            num_actions = int(action_spec.maximum) + 1
            input_spec = dict(
                observation=observation_spec, prev_action=TensorSpec((num_actions, )), prev_reward=TensorSpec((1, )))
        q_network = q_network_cls(input_tensor_spec=input_spec, action_spec=action_spec)
        if not q_network.is_rnn or not hasattr(q_network, "forward_sequence"):
            raise ValueError(f"{name}.q_network_cls: expected a recurrent network with forward_sequence, such as "
                             f"QRNNNetwork, got {type(q_network).__name__}. For one without memory use DqnAlgorithm.")
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            train_state_spec=q_network.state_spec,
            env=env,
            config=config,
            optimizer=optimizer,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._q_network = q_network
        self._target_q_network = q_network.copy(name="target_" + q_network.name)
        if q_optimizer is not None:
            self.add_optimizer(q_optimizer, [q_network])
        self._num_actions = int(action_spec.maximum) + 1
        self._gamma = gamma
        self._n_step = n_step
        self._burn_in_steps = burn_in_steps
        self._sequence_length = None
        if config is not None:
            self._sequence_length = config.mini_batch_length or max(1, int(config.unroll_length))
            if self._sequence_length < burn_in_steps + 2:
                raise ValueError(f"TrainerConfig.mini_batch_length: expected at least {burn_in_steps + 2} for {name}: "
                                 f"burn_in_steps={burn_in_steps}, one step to learn and one to bootstrap from, got "
                                 f"{self._sequence_length}.")
        self._use_prev_action_and_reward = use_prev_action_and_reward
        self._rollout_epsilon = as_scheduler(rollout_epsilon_greedy)
        self._rollout_epsilon_alpha = rollout_epsilon_alpha
        self._predict_epsilon = common.get_epsilon_greedy(config)
        self._value_transform = None if value_transform_ctor is None else value_transform_ctor()
        self._td_error_loss_fn = td_error_loss_fn
        self._priority_eta = priority_eta
        self._update_target = common.TargetUpdater(
            q_network, self._target_q_network, tau=target_update_tau, period=target_update_period)

    def _trainable_attributes_to_ignore(self):
        return ["_target_q_network"]

    def _transform(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._value_transform is None else self._value_transform.transform(value)

    def _inverse_transform(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._value_transform is None else self._value_transform.inverse_transform(value)

    # ---- acting --------------------------------------------------------------------------------------------------

    def _network_input(self, inputs: TimeStep) -> Nest:
        """Return what the network is given of time steps with any batch dimensions."""
        if not self._use_prev_action_and_reward:
            return inputs.observation
        return dict(
            observation=inputs.observation,
            prev_action=F.one_hot(inputs.prev_action.long(), self._num_actions).to(torch.float32),
            prev_reward=inputs.reward.unsqueeze(-1))

    def predict_step(self, inputs: TimeStep, state: Nest) -> AlgStep:
        """Return the best action, or with probability ``config.epsilon_greedy`` a random one.

        Args:
            inputs: time step ``[B, ...]``.
            state: state of the network.
        """
        values, state = self._q_network(self._network_input(inputs), state)
        action = epsilon_greedy_actions(values, self._predict_epsilon)
        return AlgStep(output=action.to(self._action_spec.dtype), state=state)

    def rollout_step(self, inputs: TimeStep, state: Nest) -> AlgStep:
        """Return an action, random with a probability that differs from environment to environment.

        Args:
            inputs: time step ``[B, ...]``, a row for each environment.
            state: state of the network.
        """
        values, state = self._q_network(self._network_input(inputs), state)
        epsilons = rollout_epsilons(self._rollout_epsilon(), self._rollout_epsilon_alpha, inputs, self._config)
        action = epsilon_greedy_actions(values, epsilons)
        info = R2d2RolloutInfo(
            value=values.gather(-1, action.unsqueeze(-1)).squeeze(-1), max_value=values.amax(-1), reward=inputs.reward)
        return AlgStep(output=action.to(self._action_spec.dtype), state=state, info=info)

    def rollout_priority(self, experience: Experience) -> Optional[torch.Tensor]:
        """Return the priorities ``[T, B]`` of the sequences that begin at the rows of an unroll.

        They are made of one-step TD errors with the values that were acted on. Those of a sequence that goes on after
        the unroll are made of its rows in the unroll. None if the unroll is too short for any error.

        Args:
            experience: time steps and infos ``[T, B, ...]``.
        """
        info, step_type = experience.rollout_info, experience.step_type
        num_rows = step_type.shape[0]
        if num_rows < 2:
            return None
        target = self._transform(info.reward[1:] +
                                 self._gamma * experience.discount[1:] * self._inverse_transform(info.max_value[1:]))
        length = num_rows - 1
        skip = 0
        if self._sequence_length is not None:
            skip = self._burn_in_steps
            length = self._sequence_length - skip - 1
        return priorities_from_each_row(target - info.value[:-1], step_type[:-1] != _LAST, self._priority_eta, skip,
                                        length)

    # ---- learning ------------------------------------------------------------------------------------------------

    @property
    def trains_sequences(self) -> bool:
        """True: whole sequences go through the network at once."""
        return True

    def update_kind(self) -> Hashable:
        """Not offered.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("where the episodes in a batch end decides in which pieces its sequences go through "
                                  "the network")

    def train_step(self, inputs: TimeStep, state: Nest, rollout_info: Nest) -> AlgStep:
        """Not offered: burn-in and targets need whole sequences.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{self.name} is trained by train_sequence, not step by step. In an Agent it must be "
                                  "the only algorithm.")

    def train_sequence(self, inputs: TimeStep, rollout_info: R2d2RolloutInfo, state: Nest = ()) -> R2d2Info:
        """Return the values of all actions in the steps after burn-in.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll; not needed.
            state: state of the network before the first step ``[B, ...]``; ``()``: zeros.
        """
        is_first = inputs.is_first()
        if not flatten(state):
            state = self.get_initial_train_state(is_first.shape[1])
        network_input, burn_in = self._network_input(inputs), self._burn_in_steps

        def rows(nest, start, end=None):
            return map_structure(lambda leaf: leaf[start:end], nest)

        with torch.no_grad():
            # The stored state is good enough for both networks to begin their burn-in from.
            target_values, _ = self._target_q_network.forward_sequence(
                network_input, state, is_first, with_state=False)
            if burn_in:
                _, state = self._q_network.forward_sequence(rows(network_input, 0, burn_in), state, is_first[:burn_in])
        values, _ = self._q_network.forward_sequence(
            rows(network_input, burn_in), state, is_first[burn_in:], with_state=False)
        # The observations are not needed any more.
        time_step = rows(inputs._replace(observation=(), untransformed=()), burn_in)
        return R2d2Info(time_step=time_step, values=values, target_values=target_values[burn_in:])

    def _targets(self, info: R2d2Info) -> torch.Tensor:
        """Return ``h(sum_k gamma^k r_{t+k+1} + gamma^n h^-1(Q'(s_{t+n}, argmax_a Q(s_{t+n}, a))))`` ``[L - 1, B]``."""
        time_step = info.time_step
        # As of one replica.
        value = target_value(info.target_values.unsqueeze(-2), info.values.detach().unsqueeze(-2))
        bootstrap = self._inverse_transform(value)
        returns = n_step_returns(time_step.reward, self._gamma * time_step.discount, time_step.step_type, bootstrap,
                                 self._n_step)
        return self._transform(returns[:-1])

    def calc_loss(self, info: R2d2Info) -> LossInfo:
        """Return the loss ``[T, B]`` and the new priorities ``[B]``.

        The loss is 0 in the steps of burn-in, where an episode has ended and in the last row.
        """
        time_step = info.time_step
        # The action taken at row t stands in the time step it led to.
        actions = time_step.prev_action[1:].long().unsqueeze(-1)
        taken = info.values[:-1].gather(-1, actions).squeeze(-1)
        target = self._targets(info)
        counts = time_step.step_type[:-1] != _LAST
        loss = self._td_error_loss_fn(target, taken) * counts
        td_error = (target - taken).detach()
        if self._debug_summaries and summary.should_record_summaries():
            self._summarize(taken.detach()[counts], target[counts], td_error[counts])
        return LossInfo(
            loss=F.pad(loss, (0, 0, self._burn_in_steps, 1)),
            priority=sequence_priority(td_error, counts, self._priority_eta),
            extra={"td_error": td_error[counts].abs().mean()} if summary.should_record_summaries() else {})

    def _summarize(self, taken: torch.Tensor, target: torch.Tensor, td_error: torch.Tensor) -> None:
        with summary.scope(self.name):
            for label, x in dict(values=taken, targets=target, td_errors=td_error).items():
                summary_utils.add_mean_hist_summary(label, x)

    def after_update(self, root_inputs: TimeStep, info: R2d2Info) -> None:
        """Update the target network when it is due."""
        self._update_target()


def _check_arguments(name: str, reward_spec: TensorSpec, gamma: float, n_step: int, burn_in_steps: int,
                     priority_eta: float) -> None:
    if reward_spec.numel != 1:
        raise ValueError(f"{name}.reward_spec: expected a scalar reward, got {reward_spec}.")
    for argument, value, low, high in (("gamma", gamma, 0, 1), ("n_step", n_step, 1, float("inf")),
                                       ("burn_in_steps", burn_in_steps, 0, float("inf")),
                                       ("priority_eta", priority_eta, 0, 1)):
        if not low <= value <= high:
            raise ValueError(f"{name}.{argument}: expected a number from {low} to {high}, got {value}. Set it with "
                             f"alf.config(\"R2d2Algorithm\", {argument}=...).")
