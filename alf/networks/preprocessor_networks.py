"""`PreprocessorNetwork`: base of networks that process the parts of a nested input and combine them first."""

from typing import Any, Callable, Optional, Tuple

import alf.nest as nest
from alf.networks.containers import Parallel
from alf.networks.network import Network, own_module
from alf.tensor_specs import NestedTensorSpec, TensorSpec


def make_preprocessors(input_preprocessors: Any, input_tensor_spec: NestedTensorSpec, name: str) -> Parallel:
    """Return a network that applies a nest of preprocessors to the parts of the input.

    Args:
        input_preprocessors: nest of networks without state, modules or functions, shaped like
            ``input_tensor_spec`` or its upper levels; ``None`` passes its part through. Networks that are no
            singletons, and modules, are copied.
        input_tensor_spec: nest of specs of the input.
        name: of the network that uses them, for errors.
    Raises:
        ValueError: if a preprocessor has state, or the structures do not match.
    """
    try:
        nest.assert_same_structure_up_to(input_preprocessors, input_tensor_spec)
    except Exception as e:
        raise ValueError(f"{name}.input_preprocessors: expected the structure of input_tensor_spec or of its "
                         f"upper levels; got {input_preprocessors} for {input_tensor_spec} ({e}).") from e
    for preprocessor in nest.flatten(input_preprocessors):
        if isinstance(preprocessor, Network) and preprocessor.is_rnn:
            raise ValueError(f"{name}.input_preprocessors: expected networks without state, got "
                             f"{preprocessor.name} with state {preprocessor.state_spec}.")
    return Parallel(nest.map_structure(own_module, input_preprocessors), input_tensor_spec,
                    name="input_preprocessors")


def check_single_tensor(spec: NestedTensorSpec, name: str) -> TensorSpec:
    """Return ``spec``, which must not be a nest.

    Raises:
        ValueError: if it is one.
    """
    if not nest.is_nested(spec):
        return spec
    leaves = []
    nest.py_map_structure_with_path(lambda path, leaf: leaves.append(f"{path}: {leaf}"), spec)
    raise ValueError(f"{name}: the input is a nest of {len(leaves)} tensors ({'; '.join(leaves)}) and "
                     f"nothing combines "
                     f"them. Set preprocessing_combiner, for example alf.nest.utils.NestConcat(), or "
                     f"input_preprocessors that make one tensor of them.")


class PreprocessorNetwork(Network):
    """Base of networks that preprocess their input; subclasses call its ``forward`` and go on from there.

    Args:
        input_tensor_spec: nest of specs of the input.
        input_preprocessors: nest of networks without state, modules or functions, shaped like
            ``input_tensor_spec`` or its upper levels; ``None`` at a leaf passes that part through.
        preprocessing_combiner: makes one tensor of the nest; needed if the preprocessed input is a nest.
        name: name of the network.
    Raises:
        ValueError: if the preprocessed input is a nest and there is no combiner.
    """

    def __init__(self,
                 input_tensor_spec: NestedTensorSpec,
                 input_preprocessors: Any = None,
                 preprocessing_combiner: Optional[Callable] = None,
                 name: str = 'PreprocessorNetwork'):
        super().__init__(input_tensor_spec, name=name)
        spec = input_tensor_spec
        self._input_preprocessors = None
        if input_preprocessors is not None:
            self._input_preprocessors = make_preprocessors(input_preprocessors, spec, name)
            spec = self._input_preprocessors.output_spec
        self._preprocessing_combiner = None
        if preprocessing_combiner is not None:
            self._preprocessing_combiner = own_module(preprocessing_combiner)
            spec = preprocessing_combiner(spec)
        check_single_tensor(spec, name)

    def forward(self, inputs: Any, state: Any = (), min_outer_rank: int = 1,
                max_outer_rank: int = 1) -> Tuple[Any, Any]:
        """Return the preprocessed and combined input, and ``state`` as it is.

        Args:
            inputs: nest like ``input_tensor_spec``.
            state: passed through.
            min_outer_rank: smallest allowed number of batch dimensions.
            max_outer_rank: largest allowed number of batch dimensions.
        Raises:
            ValueError: if the number of batch dimensions is another.
        """
        leaf, spec = nest.flatten(inputs)[0], nest.flatten(self._input_tensor_spec)[0]
        outer_rank = leaf.ndim - spec.ndim
        if not min_outer_rank <= outer_rank <= max_outer_rank:
            raise ValueError(f"{self.name}: expected between {min_outer_rank} and {max_outer_rank} batch "
                             f"dimensions, got {outer_rank}: input {tuple(leaf.shape)} for spec {spec}.")
        if self._input_preprocessors is not None:
            inputs, _ = self._input_preprocessors(inputs)
        if self._preprocessing_combiner is not None:
            inputs = self._preprocessing_combiner(inputs)
        return inputs, state
