"""Actor networks that put out distributions over actions: an encoding network and a projection for each action."""

from typing import Any, Callable, Optional, Tuple, Union

import torch
import torch.distributions as td
from torch import nn

import alf.nest as nest
from alf.config_util import configurable
from alf.layers import make_parallel_spec
from alf.networks._action_spec_checks import check_continuous_action_spec
from alf.networks._call import call
from alf.networks.encoding_networks import EncodingNetwork, LSTMEncodingNetwork
from alf.networks.network import Network
from alf.networks.projection_networks import CategoricalProjectionNetwork, NormalProjectionNetwork
from alf.tensor_specs import NestedTensorSpec, TensorSpec
from alf.utils import dist_utils


class _Projections(nn.Module):
    """A nest of projection networks that all get the same encoding.

    Args:
        networks: flat list of projection networks.
        structure: a nest with as many leaves, the structure of the action.
    """

    def __init__(self, networks: list, structure: Any):
        super().__init__()
        self._nets = nn.ModuleList(networks)
        self._structure = nest.flatten_with_structure(structure)[1]
        self.is_rnn = any(net.is_rnn for net in networks)
        self.state_spec = self._structure.unflatten([net.state_spec for net in networks]) if self.is_rnn else ()

    def forward(self, encoding: torch.Tensor, state: Any) -> Tuple[Any, Any]:
        """Return the nest of distributions and the new state."""
        nets = self._modules["_nets"]._modules.values()
        if not self.is_rnn:
            return self._structure.unflatten([call(net, encoding)[0] for net in nets]), state
        states = self._structure.flatten_up_to(state)
        results = [call(net, encoding, s) for net, s in zip(nets, states, strict=True)]
        distributions, new_states = zip(*results, strict=True)
        return self._structure.unflatten(distributions), self._structure.unflatten(new_states)

    def make_parallel(self, n: int) -> "_Projections":
        """Return the nest of projection networks made parallel."""
        structure = self._structure.unflatten(range(len(self._nets)))
        return _Projections([net.make_parallel(n) for net in self._nets], structure)


class _EncodeAndProject(Network):
    """Base of the actors below: runs the encoding network, then the projection or the nest of them.

    The state is that of the encoding network; if projections have state too, the pair of both.
    """

    def _set_parts(self, encoding_net: Network, projection_net: Union[Network, _Projections]) -> None:
        self._encoding_net = encoding_net
        self._projection_net = projection_net
        self._has_projection_state = projection_net.is_rnn
        self._state_spec = encoding_net.state_spec
        if self._has_projection_state:
            self._state_spec = (encoding_net.state_spec, projection_net.state_spec)

    def forward(self, observation: Any, state: Any = ()) -> Tuple[Any, Any]:
        """Return a nest of distributions, structured as the action spec, and the new state.

        Args:
            observation: nest of tensors `[B, ...]`; in a parallel network also `[B, n, ...]`.
            state: nest as `state_spec`.
        """
        modules = self._modules
        if not self._has_projection_state:
            encoding, state = call(modules["_encoding_net"], observation, state)
            return call(modules["_projection_net"], encoding, ())[0], state
        encoding, encoding_state = call(modules["_encoding_net"], observation, state[0])
        distributions, projection_state = call(modules["_projection_net"], encoding, state[1])
        return distributions, (encoding_state, projection_state)


@configurable
class ActorDistributionNetworkBase(_EncodeAndProject):
    """An encoding network followed by a projection network for each action.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of action specs; discrete and continuous ones may be mixed.
        encoding_network_ctor: called with `input_tensor_spec` and `encoder_kwargs`; its output must be a
            vector.
        discrete_projection_net_ctor: called with `input_size` and `action_spec` for discrete actions.
        continuous_projection_net_ctor: called with the same for continuous ones.
        name: name of the network.
        encoder_kwargs: further arguments of the encoding network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: NestedTensorSpec,
        encoding_network_ctor: Callable,
        discrete_projection_net_ctor: Callable,
        continuous_projection_net_ctor: Callable,
        name: str = "ActorDistributionNetworkBase",
        **encoder_kwargs,
    ):
        super().__init__(input_tensor_spec, name=name)
        encoding_net = encoding_network_ctor(input_tensor_spec=input_tensor_spec, **encoder_kwargs)
        encoding_spec = encoding_net.output_spec
        if nest.is_nested(encoding_spec) or encoding_spec.ndim != 1:
            raise ValueError(
                f"{name}: expected an encoding network that puts out a vector, got {encoding_spec}. Set "
                f"conv_layer_params for images and fc_layer_params, or flatten with input_preprocessors."
            )

        def _make_projection(spec):
            ctor = discrete_projection_net_ctor if spec.is_discrete else continuous_projection_net_ctor
            return ctor(input_size=encoding_spec.shape[0], action_spec=spec)

        if isinstance(action_spec, TensorSpec):
            projection_net = _make_projection(action_spec)
        else:
            specs = nest.flatten(action_spec)
            if not specs:
                raise ValueError(f"{name}.action_spec: expected at least one action, got {action_spec!r}.")
            projection_net = _Projections([_make_projection(spec) for spec in specs], action_spec)
        self._set_parts(encoding_net, projection_net)

    def make_parallel(self, n: int) -> Network:
        """Return `n` such networks, with parameters of their own, as one; batch shape `[B, n]`."""
        return ParallelActorDistributionNetwork(self, n, f"parallel_{self.name}")


@configurable
class ActorDistributionNetwork(ActorDistributionNetworkBase):
    """A feed-forward actor: `EncodingNetwork` and projections.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of action specs; discrete and continuous ones may be mixed.
        input_preprocessors: see `EncodingNetwork`, as all arguments not listed here.
        input_preprocessors_ctor: makes the preprocessors from the input spec.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers.
        activation: of all layers.
        kernel_initializer: of all layers.
        use_fc_bn: whether dense layers have batch normalization.
        use_fc_ln: whether dense layers have layer normalization.
        discrete_projection_net_ctor: makes the projection network of a discrete action.
        continuous_projection_net_ctor: makes that of a continuous action.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: NestedTensorSpec,
        input_preprocessors: Any = None,
        input_preprocessors_ctor: Optional[Callable] = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        use_fc_bn: bool = False,
        use_fc_ln: bool = False,
        discrete_projection_net_ctor: Callable = CategoricalProjectionNetwork,
        continuous_projection_net_ctor: Callable = NormalProjectionNetwork,
        name: str = "ActorDistributionNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=EncodingNetwork,
            discrete_projection_net_ctor=discrete_projection_net_ctor,
            continuous_projection_net_ctor=continuous_projection_net_ctor,
            name=name,
            input_preprocessors=input_preprocessors,
            input_preprocessors_ctor=input_preprocessors_ctor,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            fc_layer_params=fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
            use_fc_bn=use_fc_bn,
            use_fc_ln=use_fc_ln,
        )


class ParallelActorDistributionNetwork(_EncodeAndProject):
    """`n` actors with parameters of their own, computed at once.

    Args:
        actor_network: the actor to take the structure of.
        n: number of actors.
        name: name of the network.
    """

    def __init__(self, actor_network: ActorDistributionNetworkBase, n: int, name="ParallelActorDistributionNetwork"):
        super().__init__(make_parallel_spec(actor_network.input_tensor_spec, n), name=name)
        self._set_parts(
            actor_network._encoding_net.make_parallel(n, allow_non_parallel_input=True),
            actor_network._projection_net.make_parallel(n),
        )


@configurable
class ActorDistributionRNNNetwork(ActorDistributionNetworkBase):
    """A recurrent actor: `LSTMEncodingNetwork` and projections.

    Args:
        input_tensor_spec: nest of specs of the observation.
        action_spec: nest of action specs; discrete and continuous ones may be mixed.
        input_preprocessors: see `LSTMEncodingNetwork`, as all arguments not listed here.
        preprocessing_combiner: makes one tensor of the preprocessed nest.
        conv_layer_params: convolutional layers, for images.
        fc_layer_params: sizes of the dense layers before the LSTM.
        lstm_hidden_size: size of each LSTM layer; an int for a single one.
        actor_fc_layer_params: sizes of the dense layers after the LSTM.
        activation: of all but the LSTM layers.
        kernel_initializer: of all but the LSTM layers.
        discrete_projection_net_ctor: makes the projection network of a discrete action.
        continuous_projection_net_ctor: makes that of a continuous action.
        name: name of the network.
    """

    def __init__(
        self,
        input_tensor_spec: NestedTensorSpec,
        action_spec: NestedTensorSpec,
        input_preprocessors: Any = None,
        preprocessing_combiner: Optional[Callable] = None,
        conv_layer_params: Optional[Tuple] = None,
        fc_layer_params: Optional[Tuple[int, ...]] = None,
        lstm_hidden_size: Any = 100,
        actor_fc_layer_params: Optional[Tuple[int, ...]] = None,
        activation: Callable = torch.relu_,
        kernel_initializer: Optional[Callable] = None,
        discrete_projection_net_ctor: Callable = CategoricalProjectionNetwork,
        continuous_projection_net_ctor: Callable = NormalProjectionNetwork,
        name: str = "ActorRNNDistributionNetwork",
    ):
        super().__init__(
            input_tensor_spec,
            action_spec,
            encoding_network_ctor=LSTMEncodingNetwork,
            discrete_projection_net_ctor=discrete_projection_net_ctor,
            continuous_projection_net_ctor=continuous_projection_net_ctor,
            name=name,
            input_preprocessors=input_preprocessors,
            preprocessing_combiner=preprocessing_combiner,
            conv_layer_params=conv_layer_params,
            pre_fc_layer_params=fc_layer_params,
            hidden_size=lstm_hidden_size,
            post_fc_layer_params=actor_fc_layer_params,
            activation=activation,
            kernel_initializer=kernel_initializer,
        )


class UnitNormalActorDistributionNetwork(Network):
    """Puts out the standard normal distribution whatever the input, as prior of a latent action.

    Args:
        input_tensor_spec: nest of specs of the input.
        action_spec: a continuous spec of shape `(A,)`.
        name: name of the network.
    """

    def __init__(
        self, input_tensor_spec: NestedTensorSpec, action_spec: TensorSpec, name="UnitNormalActorDistributionNetwork"
    ):
        check_continuous_action_spec(action_spec, name)
        super().__init__(input_tensor_spec, name=name)
        self._action_spec = action_spec

    def forward(self, inputs: Any, state: Any = ()) -> Tuple[td.Distribution, Any]:
        """Return the distribution, batch shape `[B]`, and the state as it is."""
        leaf = nest.flatten(inputs)[0]
        shape = (leaf.shape[0], *self._action_spec.shape)
        loc = torch.zeros(shape, dtype=self._action_spec.dtype, device=leaf.device)
        return dist_utils.DiagMultivariateNormal(loc, torch.ones_like(loc)), state
