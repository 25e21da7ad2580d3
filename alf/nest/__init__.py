"""Operations on nests: tensors, specs or anything else in lists, tuples, namedtuples and dictionaries."""

import importlib

from alf.nest.nest import *  # noqa: F401,F403
from alf.nest.nest import __all__ as _nest_names


def __getattr__(name):
    # The combiners are torch modules; whoever only flattens does not pay for them.
    utils = importlib.import_module("alf.nest.utils")
    if name == "utils":
        return utils
    if name in utils.__all__:
        return getattr(utils, name)
    raise AttributeError(f"module 'alf.nest' has no attribute {name!r}")


def __dir__():
    return sorted([*_nest_names, *importlib.import_module("alf.nest.utils").__all__])
