import math

import pytest
import torch

import alf.layers as layers
from alf.nest.utils import NestConcat
from alf.networks import CosineEmbeddingPreprocessor, EmbeddingPreprocessor, PreprocessorNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_integers_are_looked_up_from_their_minimum_on():
    net = EmbeddingPreprocessor(BoundedTensorSpec((), torch.int64, -1, 1), 4)
    y, _ = net(torch.tensor([-1, 1, 0]))
    torch.testing.assert_close(y, net._table.weight[[0, 2, 1]])


def test_last_activation_is_applied_to_the_embedding():
    net = EmbeddingPreprocessor(BoundedTensorSpec((), torch.int32, 0, 2), 4, last_activation=torch.tanh)
    y, _ = net(torch.tensor([1], dtype=torch.int32))
    torch.testing.assert_close(y[0], torch.tanh(net._table.weight[1]))


def test_vectors_are_encoded():
    net = EmbeddingPreprocessor(TensorSpec((3,)), 4, fc_layer_params=(5,))
    assert net.output_spec == TensorSpec((4,))


@pytest.mark.parametrize("spec", [TensorSpec((), torch.int64), BoundedTensorSpec((2,), torch.int64, 0, 3)])
def test_integers_need_bounds_and_no_shape(spec):
    with pytest.raises(ValueError, match="expected a bounded scalar of an integer dtype"):
        EmbeddingPreprocessor(spec, 4)


def test_cosine_embedding():
    y, _ = CosineEmbeddingPreprocessor(TensorSpec((1,)), 3)(torch.tensor([[0.25]]))
    torch.testing.assert_close(y, torch.tensor([[[1.0, math.cos(math.pi / 4), 0.0]]]))


def test_preprocessor_network_checks_the_number_of_batch_dimensions():
    spec = dict(a=TensorSpec((2,)), b=TensorSpec((3,)))
    net = PreprocessorNetwork(spec, dict(a=layers.FC(2, 2), b=None), NestConcat())
    x = dict(a=torch.randn(4, 5, 2), b=torch.randn(4, 5, 3))
    assert net(x, max_outer_rank=2)[0].shape == (4, 5, 5)
    with pytest.raises(ValueError, match=r"between 1 and 1 batch dimensions, got 2: input \(4, 5, 2\)"):
        net(x)


def test_preprocessor_network_needs_a_combiner_for_a_nest():
    with pytest.raises(ValueError, match="Set preprocessing_combiner"):
        PreprocessorNetwork([TensorSpec(()), TensorSpec(())])
