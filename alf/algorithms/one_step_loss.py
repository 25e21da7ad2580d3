"""Temporal difference losses that look one step ahead."""

from typing import Callable, List, Union

from alf.algorithms.td_loss import TDLoss, TDQRLoss
from alf.config_util import configurable
from alf.utils import losses


@configurable
class OneStepTDLoss(TDLoss):
    """:class:`TDLoss` with the one-step target ``r_{t+1} + gamma * discount_{t+1} * v_{t+1}``.

    Args:
        gamma: discount of the future in [0, 1], or one for each component of a vector reward.
        td_error_loss_fn: called with target and value; returns the loss of each element.
        debug_summaries: see :class:`TDLoss`.
        name: name in summaries.
    """

    def __init__(self,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = losses.element_wise_squared_loss,
                 debug_summaries: bool = False,
                 name: str = "OneStepTDLoss"):
        super().__init__(
            gamma=gamma, td_error_loss_fn=td_error_loss_fn, td_lambda=0.0, debug_summaries=debug_summaries, name=name)


@configurable
class OneStepTDQRLoss(TDQRLoss):
    """:class:`TDQRLoss` with one-step targets.

    Args:
        num_quantiles: number of quantiles of a value.
        gamma: discount of the future in [0, 1], or one for each component of a vector reward.
        td_error_loss_fn: see :class:`TDQRLoss`.
        sum_over_quantiles: sum the losses of the quantiles, rather than take their mean.
        debug_summaries: see :class:`TDQRLoss`.
        name: name in summaries.
    """

    def __init__(self,
                 num_quantiles: int = 50,
                 gamma: Union[float, List[float]] = 0.99,
                 td_error_loss_fn: Callable = losses.iqn_huber_loss,
                 sum_over_quantiles: bool = False,
                 debug_summaries: bool = False,
                 name: str = "OneStepTDQRLoss"):
        super().__init__(
            num_quantiles=num_quantiles,
            gamma=gamma,
            td_error_loss_fn=td_error_loss_fn,
            td_lambda=0.0,
            sum_over_quantiles=sum_over_quantiles,
            debug_summaries=debug_summaries,
            name=name)
