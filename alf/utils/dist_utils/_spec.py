"""Distributions as data: the parameters that travel through buffers and the spec that makes the distribution again."""

import functools
from typing import Any, Callable, Dict, Tuple

import torch.distributions as td

import alf.nest as nest
from alf.tensor_specs import TensorSpec
from alf.utils.dist_utils._categorical import (
    Categorical,
    OneHotCategoricalGumbelSoftmax,
    OneHotCategoricalStraightThrough,
)
from alf.utils.dist_utils._continuous import (
    AffineTransformedDistribution,
    Beta,
    DiagMultivariateBeta,
    DiagMultivariateCauchy,
    StableCauchy,
)
from alf.utils.dist_utils._lean import Independent
from alf.utils.dist_utils._normal import DiagMultivariateNormal, SquashedDiagNormal, make_transformed
from alf.utils.dist_utils._transforms import flatten_transforms, get_transform_builder
from alf.utils.distributions import TruncatedCauchy, TruncatedDistribution, TruncatedNormal, TruncatedT2


def _build_independent(base_builder: Callable, reinterpreted_batch_ndims: int, **params) -> td.Distribution:
    return Independent(base_builder(**params), reinterpreted_batch_ndims)


def _build_transformed(base_builder: Callable, transform_builders: Tuple[Callable, ...], **params):
    return make_transformed(base_builder(**params), [build() for build in transform_builders])


def _build_affine(base_builder: Callable, loc, scale, /, **params) -> td.Distribution:
    return AffineTransformedDistribution(base_builder(**params), loc, scale)


def make_mixture(mixture: td.Distribution, components: td.Distribution) -> td.MixtureSameFamily:
    """Return the mixture of `components` (last batch dimension) with the weights of the categorical `mixture`."""
    return td.MixtureSameFamily(mixture, components, validate_args=False)


def _build_mixture(mixture_builder: Callable, component_builder: Callable, mixture: Dict, component: Dict):
    return make_mixture(mixture_builder(**mixture), component_builder(**component))


def _logits(dist) -> Dict:
    return {"logits": dist._param}


def _loc_scale(dist) -> Dict:
    return {"loc": dist.loc, "scale": dist.scale}


def _concentrations(dist) -> Dict:
    return {"concentration1": dist.concentration1, "concentration0": dist.concentration0}


def _base_params(dist) -> Dict:
    return extract_distribution_parameters(dist.base_dist)


def _mixture_params(dist) -> Dict:
    return {
        "mixture": extract_distribution_parameters(dist.mixture_distribution),
        "component": extract_distribution_parameters(dist.component_distribution),
    }


def _same(cls: type) -> Callable:
    return lambda dist: cls


def _truncated_builder(dist: TruncatedDistribution) -> Callable:
    return functools.partial(type(dist), lower_bound=dist.lower_bound, upper_bound=dist.upper_bound)


def _torch_row(cls: type, *names: str) -> Tuple[Callable, Callable]:
    """Return the row of a class of PyTorch whose constructor takes the parameters `names`."""
    return (
        lambda dist: {name: getattr(dist, name) for name in names},
        lambda dist: functools.partial(cls, validate_args=False),
    )


# type: (its parameters as a nest, a callable that takes them as keyword arguments and makes an equal
# distribution)
_TABLE: Dict[type, Tuple[Callable, Callable]] = {
    Categorical: (_logits, _same(Categorical)),
    OneHotCategoricalStraightThrough: (_logits, _same(OneHotCategoricalStraightThrough)),
    OneHotCategoricalGumbelSoftmax: (
        _logits,
        lambda dist: functools.partial(OneHotCategoricalGumbelSoftmax, hard_sample=dist._hard_sample, tau=dist._tau),
    ),
    DiagMultivariateNormal: (_loc_scale, _same(DiagMultivariateNormal)),
    SquashedDiagNormal: (_loc_scale, lambda dist: functools.partial(SquashedDiagNormal, transforms=dist.transforms)),
    Beta: (_concentrations, lambda dist: functools.partial(Beta, eps=dist._eps)),
    DiagMultivariateBeta: (_concentrations, _same(DiagMultivariateBeta)),
    StableCauchy: (_loc_scale, _same(StableCauchy)),
    DiagMultivariateCauchy: (_loc_scale, _same(DiagMultivariateCauchy)),
    TruncatedNormal: (_loc_scale, _truncated_builder),
    TruncatedCauchy: (_loc_scale, _truncated_builder),
    TruncatedT2: (_loc_scale, _truncated_builder),
    TruncatedDistribution: (_loc_scale, lambda dist: functools.partial(_truncated_builder(dist), its=dist._its)),
    AffineTransformedDistribution: (
        _base_params,
        lambda dist: functools.partial(_build_affine, get_builder(dist.base_dist), dist.loc, dist.scale),
    ),
    td.TransformedDistribution: (
        _base_params,
        lambda dist: functools.partial(
            _build_transformed,
            get_builder(dist.base_dist),
            tuple(get_transform_builder(t) for t in flatten_transforms(dist.transforms)),
        ),
    ),
    td.MixtureSameFamily: (
        _mixture_params,
        lambda dist: functools.partial(
            _build_mixture, get_builder(dist.mixture_distribution), get_builder(dist.component_distribution)
        ),
    ),
    td.Categorical: (lambda dist: {"logits": dist.logits}, _same(Categorical)),
    td.OneHotCategorical: _torch_row(td.OneHotCategorical, "logits"),
    td.OneHotCategoricalStraightThrough: (
        lambda dist: {"logits": dist.logits},
        _same(OneHotCategoricalStraightThrough),
    ),
    td.Bernoulli: _torch_row(td.Bernoulli, "logits"),
    td.Normal: _torch_row(td.Normal, "loc", "scale"),
    td.Cauchy: _torch_row(td.Cauchy, "loc", "scale"),
    td.Laplace: _torch_row(td.Laplace, "loc", "scale"),
    td.StudentT: _torch_row(td.StudentT, "df", "loc", "scale"),
    td.Uniform: _torch_row(td.Uniform, "low", "high"),
    td.Beta: _torch_row(td.Beta, "concentration1", "concentration0"),
    td.Gamma: _torch_row(td.Gamma, "concentration", "rate"),
    td.Exponential: _torch_row(td.Exponential, "rate"),
    td.Poisson: _torch_row(td.Poisson, "rate"),
}
for _cls in (Independent, td.Independent):
    _TABLE[_cls] = (
        _base_params,
        lambda dist: functools.partial(_build_independent, get_builder(dist.base_dist), dist.reinterpreted_batch_ndims),
    )


def _row(dist: td.Distribution) -> Tuple[Callable, Callable]:
    try:
        return _TABLE[type(dist)]
    except KeyError:
        raise ValueError(
            f"Distribution of type {type(dist).__module__}.{type(dist).__qualname__} cannot be turned into parameters. "
            f"Expected one of: {', '.join(sorted({cls.__name__ for cls in _TABLE}))}."
        ) from None


def extract_distribution_parameters(dist: td.Distribution) -> Dict[str, Any]:
    """Return the parameters of `dist` as a nest of tensors, batch dimensions included.

    Raises:
        ValueError: if the class of `dist` is not known.
    """
    return _row(dist)[0](dist)


def get_builder(dist: td.Distribution) -> Callable[..., td.Distribution]:
    """Return a picklable callable that makes a distribution like `dist` from parameters given by keyword."""
    return _row(dist)[1](dist)


class DistributionSpec:
    """How to make a distribution from a nest of parameter tensors.

    Distributions cannot be stored in buffers or sent through queues; their parameters can:

        spec = extract_spec(dist)
        params = distributions_to_params(dist)         # {'loc': [B, A], 'scale': [B, A]}
        dist = params_to_distributions(params, spec)

    Args:
        builder: called with the parameters as keyword arguments, returns the distribution.
        input_params_spec: a dictionary of the parameters' specs, without batch dimensions.
    """

    def __init__(self, builder: Callable[..., td.Distribution], input_params_spec: Dict[str, Any]):
        if not isinstance(input_params_spec, dict):
            raise ValueError(
                f"DistributionSpec.input_params_spec: expected a dictionary name -> spec, got {input_params_spec!r}."
            )
        self.builder = builder
        self.input_params_spec = input_params_spec

    def build_distribution(self, input_params: Dict[str, Any]) -> td.Distribution:
        """Return the distribution with the parameters `input_params`.

        Args:
            input_params: tensors `[B, ...]` (any number of batch dimensions), structured as
                `input_params_spec`.
        """
        if input_params.keys() != self.input_params_spec.keys():
            raise ValueError(
                f"DistributionSpec.build_distribution: expected parameters {sorted(self.input_params_spec)}, got "
                f"{sorted(input_params)}."
            )
        return self.builder(**input_params)

    @classmethod
    def from_distribution(cls, dist: td.Distribution, from_dim: int = 0) -> "DistributionSpec":
        """Return the spec of `dist`.

        Args:
            dist: the distribution.
            from_dim: number of leading (batch) dimensions of its parameters that are left out of their specs.
        """
        params = extract_distribution_parameters(dist)
        return cls(
            get_builder(dist), nest.map_structure(functools.partial(TensorSpec.from_tensor, from_dim=from_dim), params)
        )

    def __repr__(self) -> str:
        return f"DistributionSpec(builder={self.builder}, input_params_spec={self.input_params_spec})"


def extract_spec(nests: Any, from_dim: int = 1) -> Any:
    """Return the nest of specs of a nest of tensors and distributions.

    Args:
        nests: tensors become `TensorSpec`, distributions `DistributionSpec`.
        from_dim: number of leading (batch) dimensions left out.
    """

    def _extract(value):
        if isinstance(value, td.Distribution):
            return DistributionSpec.from_distribution(value, from_dim)
        return TensorSpec.from_tensor(value, from_dim)

    return nest.map_structure(_extract, nests)


def has_distributions(nest_spec: Any) -> bool:
    """Return whether a nest of specs, as made by `extract_spec`, has a `DistributionSpec`."""
    return any(isinstance(spec, DistributionSpec) for spec in nest.flatten(nest_spec))


def to_distribution_param_spec(nests: Any) -> Any:
    """Return the nest of specs with every `DistributionSpec` replaced by the specs of its parameters."""
    return nest.map_structure(
        lambda spec: spec.input_params_spec if isinstance(spec, DistributionSpec) else spec, nests
    )


def distributions_to_params(nests: Any) -> Any:
    """Return the nest with every distribution replaced by its parameters; tensors stay as they are."""
    row = _TABLE.get(type(nests))
    if row is not None:
        return row[0](nests)
    leaves, structure = nest.flatten_with_structure(nests)
    found = False
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, td.Distribution):
            leaves[i] = extract_distribution_parameters(leaf)
            found = True
    return structure.unflatten(leaves) if found else nests


def params_to_distributions(nests: Any, nest_spec: Any) -> Any:
    """Return the nest with the parameters of every distribution replaced by the distribution; without any, itself.

    Args:
        nests: a nest as made by `distributions_to_params`.
        nest_spec: the nest of specs as made by `extract_spec`, with a `DistributionSpec` for every
            distribution.

    Raises:
        RuntimeError: if the structures differ, with the first place where they do.
    """
    if type(nest_spec) is DistributionSpec:
        return nest_spec.build_distribution(nests)
    specs, structure = nest.flatten_with_structure(nest_spec)
    unchanged = True
    try:
        values = structure.flatten_up_to(nests)
    except (ValueError, TypeError):
        # Slower, but it names the place; it also accepts what differs in nothing but the kind of dictionary.
        values = nest.flatten_up_to(nest_spec, nests)
        unchanged = False
    for i, spec in enumerate(specs):
        if isinstance(spec, DistributionSpec):
            values[i] = spec.build_distribution(values[i])
            unchanged = False
    return nests if unchanged else structure.unflatten(values)
