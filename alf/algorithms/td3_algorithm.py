"""Twin delayed DDPG (TD3), https://arxiv.org/abs/1802.09477: DDPG with three changes against overestimated values.

* Two critics are trained, and the lower of their values is bootstrapped from (Section 4.2 of the paper).
* Actor and targets are updated less often than critics (Section 5.2).
* Noise on the action that is bootstrapped from smoothes the target (Section 5.3).
"""

from typing import Callable, Dict, List, Optional, Tuple, Union

import torch

from alf.algorithms.config import TrainerConfig
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm, DdpgInfo
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.nest import Nest, map_structure
from alf.networks.actor_networks import ActorNetwork
from alf.networks.critic_networks import CriticNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.schedulers import Scheduler


@configurable
class Td3Algorithm(DdpgAlgorithm):
    """TD3. All noise is Gaussian, independent from step to step, in units of half the distance of the bounds.

    Args:
        observation_spec: nest of specs of the observation.
        action_spec: nest of bounded continuous specs of the action.
        reward_spec: spec of the reward; a vector reward has shape ``(R,)``.
        actor_network_ctor: see :class:`DdpgAlgorithm`, as all arguments not explained here.
        critic_network_ctor: makes the critics.
        reward_weights: weights of the components of a vector reward.
        epsilon_greedy: probability of uniformly random actions in ``predict_step``.
        calculate_priority: give priorities to a prioritized replay buffer.
        env: batched environment with tensors, for the root only.
        config: the settings of the run.
        exploration_noise_stddev: standard deviation of the noise that ``rollout_step`` adds, a number >= 0.
        target_noise_stddev: standard deviation of the noise on the target actor's action; 0: no smoothing.
        target_noise_clip: that noise is clipped to plus or minus this.
        policy_update_period: actor and targets are updated in every so many-th update of the critics.
        critic_loss_ctor: makes the loss of the critics.
        num_critic_replicas: number of critics. The actor maximises the value of the first one.
        target_update_tau: how far targets move each time.
        rollout_random_action: probability of uniformly random actions in ``rollout_step``, a number or a scheduler.
        dqda_clipping: clips the gradient of the value with respect to the action.
        action_l2: weight of the squared action in the actor loss.
        actor_optimizer: trains the actor. In an update that leaves the actor as it is, so is the optimizer's state.
        critic_optimizer: trains the critics.
        checkpoint: ``"prefix@path"``: load a part of a checkpoint after construction.
        debug_summaries: write more summaries.
        name: name in summaries.
    Raises:
        ValueError: if an action is discrete or has no bounds, a noise is negative, or ``policy_update_period < 1``.
    """

    def __init__(self,
                 observation_spec: Nest,
                 action_spec: BoundedTensorSpec,
                 reward_spec: TensorSpec = TensorSpec(()),
                 actor_network_ctor: Callable = ActorNetwork,
                 critic_network_ctor: Callable = CriticNetwork,
                 reward_weights: Optional[List[float]] = None,
                 epsilon_greedy: Optional[float] = None,
                 calculate_priority: bool = False,
                 env=None,
                 config: Optional[TrainerConfig] = None,
                 exploration_noise_stddev: float = 0.1,
                 target_noise_stddev: float = 0.2,
                 target_noise_clip: float = 0.5,
                 policy_update_period: int = 2,
                 critic_loss_ctor: Optional[Callable] = None,
                 num_critic_replicas: int = 2,
                 target_update_tau: Union[float, Scheduler] = 0.005,
                 rollout_random_action: Union[float, Scheduler] = 0.0,
                 dqda_clipping: Optional[float] = None,
                 action_l2: float = 0,
                 actor_optimizer: Optional[torch.optim.Optimizer] = None,
                 critic_optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 debug_summaries: bool = False,
                 name: str = "Td3Algorithm"):
        for argument, value, least in (("exploration_noise_stddev", exploration_noise_stddev, 0),
                                       ("target_noise_stddev", target_noise_stddev, 0),
                                       ("target_noise_clip", target_noise_clip, 0),
                                       ("policy_update_period", policy_update_period, 1)):
            if not value >= least:
                raise ValueError(f"{name}.{argument}: expected a number >= {least}, got {value}. Set it with "
                                 f"alf.config(\"Td3Algorithm\", {argument}=...).")
        super().__init__(
            observation_spec=observation_spec,
            action_spec=action_spec,
            reward_spec=reward_spec,
            actor_network_ctor=actor_network_ctor,
            critic_network_ctor=critic_network_ctor,
            reward_weights=reward_weights,
            epsilon_greedy=epsilon_greedy,
            calculate_priority=calculate_priority,
            env=env,
            config=config,
            ou_stddev=0,
            ou_damping=0,
            critic_loss_ctor=critic_loss_ctor,
            num_critic_replicas=num_critic_replicas,
            target_update_tau=target_update_tau,
            # Both count updates, so that targets move when the actor has been updated.
            target_update_period=policy_update_period,
            rollout_random_action=rollout_random_action,
            dqda_clipping=dqda_clipping,
            action_l2=action_l2,
            actor_optimizer=actor_optimizer,
            critic_optimizer=critic_optimizer,
            checkpoint=checkpoint,
            debug_summaries=debug_summaries,
            name=name)
        self._exploration_noise_stddev = exploration_noise_stddev
        self._target_noise_stddev = target_noise_stddev
        self._target_noise_clip = target_noise_clip
        self._policy_update_period = policy_update_period
        # A number, not a buffer: which update comes next must be known without waiting for a GPU.
        self._num_updates = 0

    def get_extra_state(self) -> Dict[str, int]:
        """Return the number of updates since the start, for checkpoints."""
        return {"num_updates": self._num_updates}

    def set_extra_state(self, state: Dict[str, int]) -> None:
        """Take over what :meth:`get_extra_state` returned."""
        self._num_updates = state["num_updates"]

    def _explore(self, action: Nest, noise: Nest) -> Tuple[Nest, Nest]:
        stddev = self._exploration_noise_stddev
        return self._action_box.perturb(action, map_structure(lambda a: stddev * torch.randn_like(a), action)), noise

    def _target_action(self, action: Nest) -> Nest:
        """Return ``clip(mu'(s) + clip(noise, -c, c), low, high)``, Eq. (14) of https://arxiv.org/abs/1802.09477."""
        clip = self._target_noise_clip

        def noise(leaf: torch.Tensor) -> torch.Tensor:
            return torch.randn_like(leaf).mul_(self._target_noise_stddev).clamp_(-clip, clip)

        return self._action_box.perturb(action, map_structure(noise, action))

    def _value_for_actor(self, q_values: torch.Tensor) -> torch.Tensor:
        """Return the values of the first critic, as Algorithm 1 of https://arxiv.org/abs/1802.09477 does."""
        return q_values[:, 0]

    def _trains_actor(self) -> bool:
        return (self._num_updates + 1) % self._policy_update_period == 0

    def update_kind(self) -> Tuple[bool]:
        """Return whether the next update trains the actor."""
        return (self._trains_actor(), )

    def after_update(self, root_inputs: TimeStep, info: DdpgInfo) -> None:
        """Count the update; after one of the actor, move the targets.

        Args:
            root_inputs: not needed.
            info: not needed.
        """
        super().after_update(root_inputs, info)
        self._num_updates += 1
