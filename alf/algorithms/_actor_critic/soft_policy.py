"""The policy of soft actor-critic algorithms: an actor makes continuous actions, values of critics a discrete one."""

from typing import Any, Callable, List, Optional, Tuple

import torch
from torch import nn

from alf.algorithms._actor_critic.action_kind import ActionParts, ActionType
from alf.algorithms._actor_critic.action_values import action_gradient, minus_value_of_action, weights_fixed
from alf.algorithms._actor_critic.entropy_weights import EntropyWeights
from alf.algorithms._actor_critic.rows import fold
from alf.data_structures import TimeStep, namedtuple
from alf.nest import Nest, flatten, flatten_with_structure, map_structure
from alf.networks.network import Network
from alf.utils import dist_utils

Policy = namedtuple(
    "Policy",
    [
        "distribution",  # nest of distributions [B], as the action
        "continuous",  # nest [B, ...]: a sample of the continuous part, with its graph; () if there is none
        "discrete_distribution",  # of the discrete part, given the continuous one; () if there is none
        "log_pi",  # list of float32 [B]: log probability of each part, minus that of the prior
        "loss",  # float32 [B]: minus the value of the sample; () without an actor
    ],
    default_value=())


class SoftPolicy:
    """Policy of SAC: samples actions and computes their log-probabilities and the losses of the actor.

    The discrete part of an action has the probabilities ``softmax(Q / alpha)`` of its values beside the continuous one.

    Args:
        parts: of the action.
        actor_network: makes distributions of the continuous part; None if there is none.
        critic_networks: values ``[B, n]`` or ``[B, n, ...]`` of n replicas, of all discrete actions ``[B, n, K]``.
        weights: of the entropies.
        lowest: called with values ``[B, n, ...]``, returns the lowest of the replicas ``[B, ...]``.
        scalarize_value: called with values of actions, returns what the policy maximises ``[B]``.
        prior_actor: algorithm whose output is a prior over actions; None: none.
        dqda_clipping: limit of each element of the gradient of the value with respect to the action; None: none.
    """

    def __init__(self, parts: ActionParts, actor_network: Optional[Network], critic_networks: Network,
                 weights: EntropyWeights, lowest: Callable, scalarize_value: Callable,
                 prior_actor: Optional[nn.Module] = None, dqda_clipping: Optional[float] = None):
        self._parts = parts
        self._actor_network = actor_network
        self._critic_networks = critic_networks
        self._weights = weights
        self._lowest = lowest
        self._scalarize_value = scalarize_value
        self._prior_actor = prior_actor
        self._dqda_clipping = dqda_clipping

    def act(self, observation: Nest, state: Nest, epsilon_greedy: float) -> Tuple[Nest, Nest, Nest]:
        """Return an action, the distributions it was chosen from, and the new state of what chose it.

        Args:
            observation: nest ``[B, ...]``, as the networks see it.
            state: has the states of actor and critics.
            epsilon_greedy: probability to sample the action instead of taking the mode.
        """
        continuous_distribution = continuous = discrete_distribution = discrete = ()
        if self._actor_network is not None:
            continuous_distribution, actor_state = self._actor_network(observation, state=state.actor)
            continuous = dist_utils.epsilon_greedy_sample(continuous_distribution, epsilon_greedy)
            state = state._replace(actor=actor_state)
        if self._parts.type != ActionType.Continuous:
            values, critics_state = self._values(observation, continuous, state.critics)
            discrete_distribution = self._discrete_distribution(values)
            discrete = dist_utils.epsilon_greedy_sample(discrete_distribution, epsilon_greedy)
            state = state._replace(critics=critics_state)
        join = self._parts.join
        return join(continuous, discrete), join(continuous_distribution, discrete_distribution), state

    def at(self, inputs: TimeStep, observation: Nest, state: Nest, values: Optional[torch.Tensor] = None,
           with_loss: bool = True) -> Tuple[Policy, Nest]:
        """Return the policy at an observation, and the new state of the actor.

        Args:
            inputs: time step ``[B, ...]``, for the prior.
            observation: as the networks see it.
            state: has the states of actor and critics.
            values: for a single discrete action: its values by the critics ``[B, n, K]``; None: they are computed.
            with_loss: also compute the loss of the actor.
        """
        if self._parts.type == ActionType.Discrete:
            return self._discrete_at(inputs, observation, state, values), state.actor
        distribution, actor_state = self._actor_network(observation, state=state.actor)
        continuous, log_pi = _rsample(distribution)
        discrete_distribution = loss = ()
        is_mixed = self._parts.type == ActionType.Mixed
        if with_loss or is_mixed:
            # The graph from the action to its value ends at the action, so that its gradient stops there.
            leaf = map_structure(lambda action: action.detach().requires_grad_(with_loss), continuous)
            with weights_fixed(self._critic_networks):
                values, _ = self._values(observation, leaf, state.critics)
            lowest = self._lowest(values)
            if is_mixed:
                discrete_distribution = self._discrete_distribution(values)
                # The derivative of alpha * log(sum(exp(Q / alpha))), the soft value, is that of this expectation.
                lowest = (discrete_distribution.probs * lowest).sum(-1)
                log_pi.insert(self._parts.discrete_place, -discrete_distribution.entropy())
            if with_loss:
                value, actions = self._scalarize_value(lowest), flatten(continuous)
                gradients = action_gradient(value, flatten(leaf), self._dqda_clipping)
                loss = minus_value_of_action(value, actions, gradients)
        log_pi = self._minus_log_prior(inputs, continuous, discrete_distribution, log_pi)
        distribution = self._parts.join(distribution, discrete_distribution)
        return Policy(distribution, continuous, discrete_distribution, log_pi, loss), actor_state

    def at_rows(self, inputs: TimeStep, observation: Nest, rows: slice, state: Nest,
                values: Optional[torch.Tensor] = None, with_loss: bool = True) -> Policy:
        """Return the policy at some rows of sequences, folded into one batch; other arguments as of :meth:`at`.

        Args:
            inputs: time steps ``[T, B, ...]``.
            observation: of the rows, ``[N, ...]``.
            rows: which rows.
        """
        inputs = () if self._prior_actor is None else fold(inputs, rows)
        return self.at(inputs, observation, state, values, with_loss)[0]

    def _discrete_at(self, inputs: TimeStep, observation: Nest, state: Nest,
                     values: Optional[torch.Tensor]) -> Policy:
        if values is None:
            with torch.no_grad():
                values, _ = self._values(observation, (), state.critics)
        distribution = self._discrete_distribution(values)
        log_pi = self._minus_log_prior(inputs, (), distribution, [-distribution.entropy()])
        return Policy(self._parts.join((), distribution), (), distribution, log_pi)

    def value(self, values: torch.Tensor, discrete_distribution: Any) -> torch.Tensor:
        """Return the value ``[B]`` or ``[B, ...]`` of the policy.

        Args:
            values: by critics or targets: ``[B, n, ...]`` of a sampled action, ``[B, n, K]`` of all discrete ones.
            discrete_distribution: policy over the discrete action; ``()`` without one.
        """
        value = self._lowest(values)
        return value if discrete_distribution == () else (discrete_distribution.probs * value).sum(-1)

    def _values(self, observation: Nest, continuous: Nest, state: Nest) -> Tuple[torch.Tensor, Nest]:
        return self._critic_networks(self._parts.critic_inputs(observation, continuous), state=state)

    def _discrete_distribution(self, values: torch.Tensor) -> torch.distributions.Distribution:
        """Return the policy over the discrete action, from values ``[B, n, K]``."""
        inverse_alpha = self._weights.inverse_alpha(self._parts.discrete_place)
        return dist_utils.Categorical(logits=self._lowest(values.detach()) * inverse_alpha)

    def _minus_log_prior(self, inputs: TimeStep, continuous: Nest, discrete_distribution: Any,
                         log_pi: List[torch.Tensor]) -> List[torch.Tensor]:
        """Return ``log_pi`` minus the log probability under the prior, expected for a discrete action."""
        if self._prior_actor is None:
            return log_pi
        prior = self._prior_actor.train_step(inputs, ()).output
        priors, discrete_prior = self._parts.split(prior)
        log_priors = [dist.log_prob(action) for dist, action in zip(flatten(priors), flatten(continuous), strict=True)]
        if discrete_prior != ():
            log_prior = (discrete_distribution.probs * discrete_prior.logits.log_softmax(-1)).sum(-1)
            log_priors.insert(self._parts.discrete_place, log_prior)
        return [ours - theirs for ours, theirs in zip(log_pi, log_priors, strict=True)]


def append_last_row(policy: Policy, last: Policy, batch_size: int) -> Policy:
    """Return the policy at the rows after the first one, without gradient.

    Args:
        policy: at all rows but the last, ``[(T - 1) * B]``.
        last: at the last row ``[B]``.
        batch_size: B.
    """
    if policy.log_pi[0].shape[0] == batch_size:
        return last

    def join(now, at_last):
        return torch.cat([now.detach()[batch_size:], at_last])

    distribution = policy.discrete_distribution
    if distribution != ():
        distribution = dist_utils.Categorical(logits=join(distribution.logits, last.discrete_distribution.logits))
    return last._replace(
        continuous=map_structure(join, policy.continuous, last.continuous),
        discrete_distribution=distribution,
        log_pi=[join(now, at_last) for now, at_last in zip(policy.log_pi, last.log_pi, strict=True)])


def _rsample(distribution: Nest) -> Tuple[Nest, List[torch.Tensor]]:
    """Return a sample of a nest of distributions with its graph, and the log probabilities ``[B]`` of its leaves."""
    leaves, structure = flatten_with_structure(distribution)
    samples = [dist_utils.rsample_action_distribution(leaf, return_log_prob=True) for leaf in leaves]
    return structure.unflatten([action for action, _ in samples]), [log_pi for _, log_pi in samples]
