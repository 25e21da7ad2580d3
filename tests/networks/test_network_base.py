import copy

import pytest
import torch
import torch.distributions as td

import alf.layers as layers
import alf.networks as networks
from alf.networks import (
    BatchSquashNetwork,
    EncodingNetwork,
    LSTMCell,
    NaiveParallelNetwork,
    Network,
    NetworkWrapper,
    get_input_tensor_spec,
    wrap_as_network,
)
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Gaussian(Network):
    """A network of a user: positional, variable and keyword arguments, a module among them."""

    def __init__(self, input_size, *sizes, body=None, name="Gaussian", **options):
        super().__init__(TensorSpec((input_size,)), name=name)
        self.sizes, self.options = sizes, options
        self.body = body
        self.fc = layers.FC(input_size, 2)

    def forward(self, inputs, state=()):
        mean = self.fc(inputs)
        return td.Independent(td.Normal(mean, torch.ones_like(mean)), 1), state


def test_saved_args_are_told_by_name():
    net = Gaussian(3, 4, 5, name="g", depth=2)
    assert net.saved_args == dict(input_size=3, sizes=(4, 5), name="g", depth=2)


def test_copy_repeats_all_kinds_of_arguments_and_changes_some():
    net = Gaussian(3, 4, 5, body=layers.FC(2, 2), depth=2)
    copied = net.copy(name="other", depth=7)
    assert (copied.sizes, copied.options, copied.name) == ((4, 5), dict(depth=7), "other")
    assert copied.body is not net.body and not copied.body.weight.equal(net.body.weight)
    assert copied.copy().name == "other"


def test_distribution_output_is_described_by_a_spec_that_rebuilds_it():
    net = Gaussian(3)
    assert net.is_distribution_output
    rebuilt = net.output_spec.build_distribution(dict(loc=torch.zeros(4, 2), scale=torch.ones(4, 2)))
    assert isinstance(rebuilt, td.Independent) and rebuilt.batch_shape == (4,)


def test_parallel_distributions_have_the_batch_shape_of_the_ensemble():
    net = NaiveParallelNetwork(Gaussian(3), 5)
    x = torch.randn(4, 3)
    dist, _ = net(x)
    assert dist.batch_shape == (4, 5) and dist.event_shape == (2,)
    singles = [n(x)[0].base_dist.loc for n in net._networks]
    torch.testing.assert_close(dist.base_dist.loc, torch.stack(singles, dim=1))


def test_singletons_are_shared_and_others_are_copied_by_users():
    for make_shared in (False, True):
        preprocessor = EncodingNetwork(TensorSpec((3,)), fc_layer_params=(2,)).singleton(make_shared)
        users = [EncodingNetwork(TensorSpec((3,)), input_preprocessors=preprocessor) for _ in range(2)]
        weights = [list(user.parameters())[0] for user in users]
        assert (weights[0] is weights[1]) == make_shared
        assert (weights[0] is list(preprocessor.parameters())[0]) == make_shared


def test_pretrained_modules_keep_their_values_in_a_user_and_lose_them_in_its_copy():
    pretrained = torch.nn.Linear(3, 2)
    user = EncodingNetwork(TensorSpec((3,)), input_preprocessors=pretrained)
    weight = list(user.parameters())[0]
    assert weight.equal(pretrained.weight) and weight is not pretrained.weight
    assert not list(user.copy().parameters())[0].equal(pretrained.weight)


def test_output_spec_needs_an_input_spec():
    net = wrap_as_network(torch.tanh, None)
    with pytest.raises(
        ValueError, match="NetworkWrapper: output_spec: the input spec is not known. Pass input_t"
    ):
        net.output_spec  # noqa: B018


def test_output_spec_stays_within_the_bounds_of_indices():
    table = torch.nn.Embedding(5, 2)
    net = NetworkWrapper(lambda x: table(x - 10), BoundedTensorSpec((), torch.int64, 10, 14))
    assert net.output_spec == TensorSpec((2,))


def test_wrapper_with_state_counts():
    net = NetworkWrapper(lambda x, s: (x + s, s + 1), TensorSpec(()), state_spec=TensorSpec(()))
    y, state = net(torch.zeros(2), torch.zeros(2))
    y, state = net(y, state)
    assert y.tolist() == [1, 1] and state.tolist() == [2, 2] and net.is_rnn


def test_batch_squash_folds_batch_dimensions():
    inner = EncodingNetwork(TensorSpec((3,)), fc_layer_params=(2,))
    net = BatchSquashNetwork(inner)
    x = torch.randn(4, 5, 3)
    y, _ = net(x)
    torch.testing.assert_close(y[2], inner(x[2])[0])
    assert net.output_spec == TensorSpec((2,))
    with pytest.raises(ValueError, match="expected a network without state, got LSTMCell"):
        BatchSquashNetwork(LSTMCell(3, 2))


def test_input_specs_are_found_where_the_module_fixes_them():
    spec = TensorSpec((3,))
    assert get_input_tensor_spec(layers.FC(3, 2)) == spec
    assert get_input_tensor_spec(layers.Sequential(layers.FC(3, 2), torch.tanh)) == spec
    assert get_input_tensor_spec(torch.nn.Linear(3, 2)) == spec
    assert get_input_tensor_spec(LSTMCell(3, 2)) == spec
    assert get_input_tensor_spec(torch.tanh) is None
    net = LSTMCell(3, 2)
    assert wrap_as_network(net, None) is net
    assert wrap_as_network(layers.FC(3, 2), None).output_spec == TensorSpec((2,))


def test_deep_copies_and_state_dicts_work():
    net = EncodingNetwork(TensorSpec((3,)), fc_layer_params=(4, 2))
    twin = copy.deepcopy(net)
    x = torch.randn(5, 3)
    torch.testing.assert_close(twin(x)[0], net(x)[0])
    other = net.copy()
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(x)[0], net(x)[0])
    assert list(net.state_dict()) == ["_nets.0._weight", "_nets.0._bias", "_nets.1._weight", "_nets.1._bias"]


def test_public_names_are_those_of_the_files():
    for name in networks.__all__:
        assert getattr(networks, name).__name__ == name
    with pytest.raises(AttributeError, match="NoSuchNetwork"):
        networks.NoSuchNetwork  # noqa: B018
