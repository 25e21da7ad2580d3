"""Optimizers: made in a conf without parameters, attached to parts of an algorithm, fast for small
networks."""

from alf.optimizers.optimizers import SGD, Adam, AdamTF, AdamW, wrap_optimizer
from alf.optimizers.trusted_updater import TrustedUpdater
from alf.optimizers.utils import get_opt_arg

__all__ = ["Adam", "AdamTF", "AdamW", "SGD", "TrustedUpdater", "get_opt_arg", "wrap_optimizer"]
