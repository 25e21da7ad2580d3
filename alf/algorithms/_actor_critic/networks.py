"""The networks that an action needs: an actor for its continuous part, critics."""

from typing import Callable, Optional, Tuple

from torch import Tensor

from alf.algorithms._actor_critic.action_kind import ActionParts, ActionType
from alf.layers import make_parallel_spec
from alf.nest import Nest, map_structure
from alf.networks.network import Network
from alf.tensor_specs import TensorSpec


def make_networks(parts: ActionParts, observation_spec: Nest, reward_spec: TensorSpec,
                  actor_network_cls: Optional[Callable], critic_network_cls: Optional[Callable],
                  q_network_cls: Optional[Callable], num_replicas: int, name: str) -> Tuple[Optional[Network], Network]:
    """Return the actor network, None for a single discrete action, and the replicas of the critic as one network.

    Args:
        parts: of the action.
        observation_spec: nest of specs of what the networks see.
        reward_spec: spec of the reward, or of what critics give for each action.
        actor_network_cls: called with ``input_tensor_spec`` and ``action_spec``.
        critic_network_cls: called with ``input_tensor_spec`` and ``output_tensor_spec``.
        q_network_cls: called with ``input_tensor_spec`` and ``action_spec``.
        num_replicas: number of critics.
        name: of the algorithm, for messages.
    Raises:
        ValueError: if a needed class is None, or a Q network would have to value a vector reward.
    """
    kind = parts.type.name.lower()
    is_q = parts.type != ActionType.Continuous
    needed = {"actor_network_cls": actor_network_cls} if parts.type != ActionType.Discrete else {}
    needed.update({"q_network_cls": q_network_cls} if is_q else {"critic_network_cls": critic_network_cls})
    for argument, cls in needed.items():
        if cls is None:
            raise ValueError(f"{name}.{argument}: expected a network class for {kind} actions, got None.")
    if is_q and reward_spec.numel > 1:
        raise ValueError(f"{name}.reward_spec: expected one reward for {kind} actions, because a Q network has one "
                         f"value for each action, got {reward_spec}.")
    actor_network = None
    if parts.type != ActionType.Discrete:
        actor_network = actor_network_cls(input_tensor_spec=observation_spec, action_spec=parts.continuous_spec)
    if is_q:
        inputs = observation_spec if actor_network is None else (observation_spec, parts.continuous_spec)
        critic = q_network_cls(input_tensor_spec=inputs, action_spec=parts.discrete_spec)
    else:
        critic = critic_network_cls(
            input_tensor_spec=(observation_spec, parts.continuous_spec), output_tensor_spec=reward_spec)
    return actor_network, OneReplica(critic) if num_replicas == 1 else critic.make_parallel(num_replicas)


class OneReplica(Network):
    """A network as a parallel one of a single replica: that is quicker than a batched matrix product of one.

    Args:
        network: its output is a tensor.
    """

    def __init__(self, network: Network):
        super().__init__(
            make_parallel_spec(network.input_tensor_spec, 1),
            state_spec=make_parallel_spec(network.state_spec, 1),
            name=f"parallel_{network.name}")
        self._network = network
        self._has_state = network.is_rnn

    def forward(self, inputs: Nest, state: Nest = ()) -> Tuple[Tensor, Nest]:
        """Return the output ``[B, 1, ...]`` and the new state, nest of ``[B, 1, ...]``.

        Args:
            inputs: nest of ``[B, ...]``.
            state: nest of ``[B, 1, ...]``.
        """
        network = self._modules["_network"]
        if not self._has_state:
            return network(inputs)[0].unsqueeze(1), state
        output, state = network(inputs, map_structure(lambda leaf: leaf[:, 0], state))
        return output.unsqueeze(1), map_structure(lambda leaf: leaf.unsqueeze(1), state)
