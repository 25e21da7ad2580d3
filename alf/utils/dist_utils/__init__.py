"""Action distributions: lean ones, transforms, their form as parameters, operations on nests of them."""

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
from alf.utils.dist_utils._ops import (
    compute_entropy,
    compute_log_probability,
    entropy_with_fallback,
    epsilon_greedy_sample,
    estimated_entropy,
    get_base_dist,
    get_mode,
    get_rmode,
    rsample_action_distribution,
    sample_action_distribution,
)
from alf.utils.dist_utils._spec import (
    DistributionSpec,
    distributions_to_params,
    extract_distribution_parameters,
    extract_spec,
    make_mixture,
    params_to_distributions,
    to_distribution_param_spec,
)
from alf.utils.dist_utils._target_entropy import (
    calc_default_max_entropy,
    calc_default_target_entropy,
    calc_default_target_entropy_quantized,
    calc_uniform_log_prob,
)
from alf.utils.dist_utils._transforms import (
    AffineTransform,
    Softclip,
    SoftclipTF,
    Softlower,
    Softplus,
    Softsign,
    Softupper,
    StableTanh,
    get_invertible,
    get_transform_builder,
)
from alf.utils.distributions import TruncatedCauchy, TruncatedDistribution, TruncatedNormal, TruncatedT2

__all__ = [
    "AffineTransform", "AffineTransformedDistribution", "Beta", "Categorical", "DiagMultivariateBeta",
    "DiagMultivariateCauchy", "DiagMultivariateNormal", "DistributionSpec", "Independent",
    "OneHotCategoricalGumbelSoftmax", "OneHotCategoricalStraightThrough", "Softclip", "SoftclipTF", "Softlower",
    "Softplus", "Softsign", "Softupper", "SquashedDiagNormal", "StableCauchy", "StableTanh", "TruncatedCauchy",
    "TruncatedDistribution", "TruncatedNormal", "TruncatedT2", "calc_default_max_entropy",
    "calc_default_target_entropy", "calc_default_target_entropy_quantized", "calc_uniform_log_prob", "compute_entropy",
    "compute_log_probability", "distributions_to_params", "entropy_with_fallback", "epsilon_greedy_sample",
    "estimated_entropy", "extract_distribution_parameters", "extract_spec", "get_base_dist", "get_invertible",
    "get_mode", "get_rmode", "get_transform_builder", "make_mixture", "make_transformed", "params_to_distributions", "rsample_action_distribution",
    "sample_action_distribution", "to_distribution_param_spec",
]
