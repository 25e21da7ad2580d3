"""What every network must do, tried on all public ones; a new network joins by a line in `CASES`."""

import inspect

import pytest
import torch
import torch.distributions as td

import alf.layers as layers
import alf.nest as nest
import alf.networks as networks
from alf.nest.utils import NestConcat
from alf.networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    ActorNetwork,
    ActorRNNNetwork,
    AMPWrapper,
    BatchSquashNetwork,
    BetaProjectionNetwork,
    Branch,
    CategoricalProjectionNetwork,
    CauchyProjectionNetwork,
    CosineEmbeddingPreprocessor,
    CriticNetwork,
    CriticRNNNetwork,
    Delay,
    DistributionalQNetwork,
    DuelingQNetwork,
    Echo,
    EmbeddingPreprocessor,
    EncodingNetwork,
    GRUCell,
    ImageEncodingNetwork,
    LSTMCell,
    LSTMEncodingNetwork,
    MixtureProjectionNetwork,
    NaiveParallelNetwork,
    NetworkWrapper,
    NoisyFC,
    NormalProjectionNetwork,
    OnehotCategoricalProjectionNetwork,
    Parallel,
    ParallelActorDistributionNetwork,
    ParallelCategoricalProjectionNetwork,
    ParallelEncodingNetwork,
    ParallelQNetwork,
    ParallelValueNetwork,
    PreprocessorNetwork,
    QNetwork,
    QRNNNetwork,
    Residue,
    Sequential,
    SimpleActionEncoder,
    StableNormalProjectionNetwork,
    TemporalPool,
    TruncatedProjectionNetwork,
    UnitNormalActorDistributionNetwork,
    ValueNetwork,
    ValueRNNNetwork,
)
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

OBSERVATION = TensorSpec((4,))
IMAGE = TensorSpec((3, 12, 12), torch.uint8)
INDEX = BoundedTensorSpec((), torch.int64, 2, 6)
CONTINUOUS = BoundedTensorSpec((2,), torch.float32, -1, 2)
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 3)
NESTED = dict(image=IMAGE, index=INDEX, vector=OBSERVATION)


def _nested_arguments():
    return dict(
        input_preprocessors=dict(
            image=EncodingNetwork(IMAGE, conv_layer_params=((4, 3, 2),), fc_layer_params=(5,)),
            index=EmbeddingPreprocessor(INDEX, 5),
            vector=layers.FC(4, 5),
        ),
        preprocessing_combiner=NestConcat(),
    )


def _echo_block():
    return Sequential(
        NestConcat(),
        h=layers.FC(6, 5, activation=torch.tanh),
        echo=layers.FC(5, 2),
        output=dict(output="h", echo="echo"),
        input_tensor_spec=dict(input=OBSERVATION, echo=TensorSpec((2,))),
    )


# Name of the public class or function, and which of its uses -> a function that makes one.
CASES = {
    "ActorDistributionNetwork": lambda: ActorDistributionNetwork(
        OBSERVATION, CONTINUOUS, fc_layer_params=(5,)
    ),
    "ActorDistributionNetwork.mixed": lambda: ActorDistributionNetwork(
        NESTED, dict(c=CONTINUOUS, d=DISCRETE), fc_layer_params=(5,), **_nested_arguments()
    ),
    "ActorDistributionRNNNetwork": lambda: ActorDistributionRNNNetwork(
        OBSERVATION, DISCRETE, lstm_hidden_size=5
    ),
    "ActorNetwork": lambda: ActorNetwork(OBSERVATION, [CONTINUOUS], fc_layer_params=(5,)),
    "ActorRNNNetwork": lambda: ActorRNNNetwork(OBSERVATION, CONTINUOUS, lstm_hidden_size=(5, 6)),
    "AMPWrapper": lambda: AMPWrapper(False, EncodingNetwork(OBSERVATION, fc_layer_params=(5,))),
    "BatchSquashNetwork": lambda: BatchSquashNetwork(
        EncodingNetwork(OBSERVATION, fc_layer_params=(5,)), batch_dims=1
    ),
    "Branch": lambda: Branch(a=layers.FC(4, 3), b=(LSTMCell(4, 2), torch.tanh)),
    "BetaProjectionNetwork": lambda: BetaProjectionNetwork(4, CONTINUOUS),
    "CategoricalProjectionNetwork": lambda: CategoricalProjectionNetwork(4, DISCRETE),
    "CauchyProjectionNetwork": lambda: CauchyProjectionNetwork(4, CONTINUOUS),
    "CosineEmbeddingPreprocessor": lambda: CosineEmbeddingPreprocessor(OBSERVATION, 6),
    "CriticNetwork": lambda: CriticNetwork(
        (OBSERVATION, CONTINUOUS), observation_fc_layer_params=(5,), joint_fc_layer_params=(6,)
    ),
    "CriticNetwork.naive": lambda: CriticNetwork(
        (OBSERVATION, CONTINUOUS),
        TensorSpec((2,)),
        joint_fc_layer_params=(6,),
        use_naive_parallel_network=True,
    ),
    "CriticRNNNetwork": lambda: CriticRNNNetwork((OBSERVATION, CONTINUOUS), lstm_hidden_size=5),
    "Delay": lambda: Delay(dict(a=OBSERVATION), delay=2),
    "DistributionalQNetwork": lambda: DistributionalQNetwork(
        OBSERVATION, DISCRETE, num_values=3, fc_layer_params=(5,)
    ),
    "DistributionalQNetwork.noisy": lambda: DistributionalQNetwork(
        OBSERVATION, DISCRETE, noisy_std=0.5, stream_fc_layer_params=(5,)
    ),
    "DuelingQNetwork": lambda: DuelingQNetwork(OBSERVATION, DISCRETE, fc_layer_params=(5,)),
    "DuelingQNetwork.image": lambda: DuelingQNetwork(
        IMAGE,
        DISCRETE,
        num_values=3,
        noisy_std=0.5,
        conv_layer_params=((4, 3, 2),),
        stream_fc_layer_params=(5,),
    ),
    "Echo": lambda: Echo(_echo_block()),
    "EmbeddingPreprocessor": lambda: EmbeddingPreprocessor(INDEX, 5),
    "EmbeddingPreprocessor.fc": lambda: EmbeddingPreprocessor(INDEX, 5, fc_layer_params=(7,)),
    "EmbeddingPreprocessor.image": lambda: EmbeddingPreprocessor(
        IMAGE, 5, conv_layer_params=((4, 3, 2),), fc_layer_params=(7,)
    ),
    "EncodingNetwork": lambda: EncodingNetwork(OBSERVATION, fc_layer_params=(8, 6), activation=torch.tanh),
    "EncodingNetwork.nothing": lambda: EncodingNetwork(OBSERVATION),
    "EncodingNetwork.image": lambda: EncodingNetwork(
        IMAGE, conv_layer_params=((4, 3, 2), (5, 3, 1, 1)), fc_layer_params=(6,), use_fc_bn=True
    ),
    "EncodingNetwork.nested": lambda: EncodingNetwork(
        NESTED,
        fc_layer_params=(8,),
        use_fc_ln=True,
        last_layer_size=6,
        last_activation=torch.tanh,
        output_tensor_spec=TensorSpec((2, 3)),
        **_nested_arguments(),
    ),
    "GRUCell": lambda: GRUCell(4, 3),
    "ImageEncodingNetwork": lambda: ImageEncodingNetwork(3, 12, ((4, 3, 2),), same_padding=True),
    "LSTMCell": lambda: LSTMCell(4, 3),
    "LSTMEncodingNetwork": lambda: LSTMEncodingNetwork(OBSERVATION, hidden_size=5),
    "LSTMEncodingNetwork.nested": lambda: LSTMEncodingNetwork(
        NESTED,
        pre_fc_layer_params=(7,),
        hidden_size=(5, 6),
        lstm_output_layers=(0, -1),
        post_fc_layer_params=(4,),
        last_layer_size=2,
        last_activation=torch.tanh,
        **_nested_arguments(),
    ),
    "MixtureProjectionNetwork": lambda: MixtureProjectionNetwork(4, CONTINUOUS, 3, NormalProjectionNetwork),
    "NaiveParallelNetwork": lambda: NaiveParallelNetwork(LSTMCell(4, 3), 2),
    "NetworkWrapper": lambda: NetworkWrapper(layers.FC(4, 3), OBSERVATION),
    "NoisyFC": lambda: NoisyFC(4, 3, activation=torch.tanh),
    "NormalProjectionNetwork": lambda: NormalProjectionNetwork(
        4, CONTINUOUS, state_dependent_std=True, scale_distribution=True
    ),
    "OnehotCategoricalProjectionNetwork": lambda: OnehotCategoricalProjectionNetwork(4, DISCRETE),
    "Parallel": lambda: Parallel(dict(a=layers.FC(4, 3), b=(LSTMCell(4, 2), layers.FC(2, 2)))),
    "ParallelActorDistributionNetwork": lambda: ParallelActorDistributionNetwork(
        ActorDistributionNetwork(OBSERVATION, DISCRETE, fc_layer_params=(5,)), 2
    ),
    "ParallelCategoricalProjectionNetwork": lambda: ParallelCategoricalProjectionNetwork(4, DISCRETE, 2),
    "ParallelEncodingNetwork": lambda: ParallelEncodingNetwork(OBSERVATION, 2, fc_layer_params=(5,)),
    "ParallelQNetwork": lambda: ParallelQNetwork(QNetwork(OBSERVATION, DISCRETE, fc_layer_params=(5,)), 2),
    "ParallelValueNetwork": lambda: ParallelValueNetwork(ValueNetwork(OBSERVATION, fc_layer_params=(5,)), 2),
    "PreprocessorNetwork": lambda: PreprocessorNetwork(NESTED, **_nested_arguments()),
    "QNetwork": lambda: QNetwork(OBSERVATION, DISCRETE, fc_layer_params=(5,)),
    "QRNNNetwork": lambda: QRNNNetwork(OBSERVATION, DISCRETE, lstm_hidden_size=5),
    "Residue": lambda: Residue(layers.FC(4, 4)),
    "Sequential": lambda: Sequential(layers.FC(4, 3), torch.tanh, layers.FC(3, 2)),
    "Sequential.routed": lambda: Sequential(
        layers.FC(4, 3),
        core=LSTMCell(3, 5),
        policy=layers.FC(5, 2),
        value=(("core", "input"), NestConcat()),
        output=dict(policy="policy", value="value"),
    ),
    "SimpleActionEncoder": lambda: SimpleActionEncoder(dict(c=CONTINUOUS, d=DISCRETE)),
    "StableNormalProjectionNetwork": lambda: StableNormalProjectionNetwork(4, CONTINUOUS),
    "TemporalPool": lambda: TemporalPool(4, stack_size=3, pooling_size=2, mode="avg"),
    "TruncatedProjectionNetwork": lambda: TruncatedProjectionNetwork(4, CONTINUOUS),
    "UnitNormalActorDistributionNetwork": lambda: UnitNormalActorDistributionNetwork(OBSERVATION, CONTINUOUS),
    "ValueNetwork": lambda: ValueNetwork(OBSERVATION, fc_layer_params=(5,)),
    "ValueRNNNetwork": lambda: ValueRNNNetwork(OBSERVATION, TensorSpec((2,)), lstm_hidden_size=5),
}
N = 3

# Bases, functions, and OUProcess, which is called with its state alone.
_NOT_COVERED = {
    "ActorDistributionNetworkBase",
    "ActorNetworkBase",
    "Network",
    "OUProcess",
    "QNetworkBase",
    "ValueNetworkBase",
    "get_input_tensor_spec",
    "wrap_as_network",
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=CASES)
def net(request):
    network = CASES[request.param]().eval()
    # Biases are zero and normalization layers the identity when new: that would hide mistakes.
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


def _batch(specs, batch_size):
    def sample(spec):
        if spec.is_bounded():
            return spec.sample((batch_size,))
        if spec.is_discrete:
            return torch.randint(0, 2 if spec.ndim == 0 else 256, (batch_size, *spec.shape)).to(spec.dtype)
        return spec.randn((batch_size,))

    return nest.map_structure(sample, specs)


def _rows(nested, rows):
    return nest.map_structure(lambda x: x[rows], nested)


def _tensors(output):
    """Return the output as a nest of tensors: distributions as their parameters."""
    return dist_utils.distributions_to_params(output)


def _param_spec(net):
    """Return the spec of `_tensors` of the output."""
    return dist_utils.to_distribution_param_spec(net.output_spec)


def _assert_close(actual, expected):
    nest.assert_same_structure(actual, expected)
    for a, e in zip(nest.flatten(actual), nest.flatten(expected), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


def _assert_fits(spec, tensors, batch_size):
    nest.assert_same_structure(spec, tensors)
    for s, x in zip(nest.flatten(spec), nest.flatten(tensors), strict=True):
        assert (tuple(x.shape), x.dtype) == ((batch_size, *s.shape), s.dtype)


def test_every_public_network_has_a_case():
    covered = {name.split(".")[0] for name in CASES}
    assert covered | _NOT_COVERED >= set(networks.__all__)


def test_output_and_new_state_fit_their_specs(net):
    inputs, state = _batch((net.input_tensor_spec, net.state_spec), 5)
    output, new_state = net(inputs, state)
    _assert_fits(net.state_spec, new_state, 5)
    _assert_fits(_param_spec(net), _tensors(output), 5)
    assert net.is_distribution_output == any(isinstance(x, td.Distribution) for x in nest.flatten(output))


def test_finding_the_output_spec_leaves_no_trace(net):
    net.train()
    buffers = [b.clone() for b in net.buffers()]
    random_state = torch.get_rng_state()
    net.output_spec  # noqa: B018
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(m.training for m in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(buffers, net.buffers(), strict=True))


def test_it_is_an_rnn_if_it_has_state(net):
    assert net.is_rnn == bool(nest.flatten(net.state_spec))
    if not net.is_rnn:
        _, new_state = net(_batch(net.input_tensor_spec, 2))
        assert new_state == ()


def test_samples_of_a_batch_do_not_touch_each_other(net):
    inputs, state = _batch((net.input_tensor_spec, net.state_spec), 6)
    output, new_state = net(inputs, state)
    rows = torch.tensor([4, 1])
    some_output, some_state = net(_rows(inputs, rows), _rows(state, rows))
    _assert_close(some_state, _rows(new_state, rows))
    _assert_close(_tensors(some_output), _rows(_tensors(output), rows))


def test_inputs_and_state_are_left_alone(net):
    inputs, state = _batch((net.input_tensor_spec, net.state_spec), 4)
    before = nest.map_structure(torch.clone, (inputs, state))
    net(inputs, state)
    _assert_close((inputs, state), before)


def test_copy_has_own_parameters_drawn_anew(net):
    copied = net.copy()
    assert type(copied) is type(net) and copied is not net
    shapes = [{name: p.shape for name, p in network.named_parameters()} for network in (copied, net)]
    assert shapes[0] == shapes[1]
    for new, old in zip(copied.parameters(), net.parameters(), strict=True):
        assert new.data_ptr() != old.data_ptr() and not new.equal(old)
    assert nest.flatten(_param_spec(copied)) == nest.flatten(_param_spec(net))
    assert nest.flatten(copied.state_spec) == nest.flatten(net.state_spec)


def test_copy_changes_arguments(net):
    if "name" in inspect.signature(type(net).__init__).parameters:
        assert net.copy(name="other").name == "other"


def test_singleton_copies_to_itself(net):
    assert net.singleton() is net and net.copy() is net
    assert net.singleton(False).copy() is not net


def _extract(parallel, single, i):
    """Copy the parameters and buffers of the ``i``-th network in ``parallel`` to ``single``."""
    if hasattr(parallel, "_pnet"):
        return _extract(parallel._pnet, single, i)
    if type(parallel).__name__.startswith("NaiveParallel") and len(parallel._networks) == N:
        return single.load_state_dict(parallel._networks[i].state_dict())
    for get in (torch.nn.Module.named_parameters, torch.nn.Module.named_buffers):
        theirs = dict(get(parallel, recurse=False))
        for name, mine in get(single, recurse=False):
            is_stacked = (
                theirs[name].numel() == N * mine.numel() and mine.numel() > 0 and name != "_frequencies"
            )
            mine.data.copy_(theirs[name].data.view(N, *mine.shape)[i] if is_stacked else theirs[name])
    children = dict(parallel.named_children())
    for name, child in single.named_children():
        _extract(children[name], child, i)


def test_parallel_network_equals_networks_with_its_parameters(net):
    parallel = net.make_parallel(N).eval()
    assert parallel.input_tensor_spec == layers.make_parallel_spec(net.input_tensor_spec, N)
    assert parallel.state_spec == layers.make_parallel_spec(net.state_spec, N)
    inputs, state = _batch(layers.make_parallel_spec((net.input_tensor_spec, net.state_spec), N), 5)
    output, new_state = parallel(inputs, state)
    for i in range(N):
        single = net.copy().eval()
        _extract(parallel, single, i)
        expected, expected_state = single(*nest.map_structure(lambda x, i=i: x[:, i], (inputs, state)))
        _assert_close(nest.map_structure(lambda x, i=i: x[:, i], _tensors(output)), _tensors(expected))
        _assert_close(nest.map_structure(lambda x, i=i: x[:, i], new_state), expected_state)


def test_gradients_reach_all_parameters(net):
    net.train()
    inputs, state = _batch((net.input_tensor_spec, net.state_spec), 5)
    output, new_state = net(inputs, state)
    leaves = [x for x in nest.flatten((_tensors(output), new_state)) if x.requires_grad]
    if leaves:
        sum((x * torch.randn_like(x)).sum() for x in leaves).backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None]
    assert not missing
