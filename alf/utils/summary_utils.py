"""Summaries of what training is made of: parameters, gradients, losses, actions, distributions, and times.

Nothing is computed while summaries are not recorded.
"""

from __future__ import annotations

import time
from typing import Any, Iterable, Sequence

import numpy as np
import torch
from torch import nn

import alf.nest as nest
import alf.summary as summary
from alf.config_util import configurable
from alf.data_structures import LossInfo
from alf.tensor_specs import TensorSpec
from alf.utils import profiling

DEFAULT_BUCKET_COUNT = 30


class record_time:
    """Context that measures how long its block takes, and records the mean since the last record.

    The time is recorded as a scalar `time/...` outside of all scopes, in seconds. For a profiler it is a scope.

    Args:
        tag: name of the scalar; "time/" is put before it if it does not begin so.
    """

    _totals: dict[str, list] = {}  # tag -> [seconds, number of blocks] since the last record

    def __init__(self, tag: str):
        self._tag = tag if tag.startswith("time/") else f"time/{tag}"

    def __enter__(self) -> record_time:
        self._profiler = profiling.active()
        if self._profiler is not None:
            self._profiler.enter(self._tag)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._profiler is not None:
            self._profiler.exit()
        total = self._totals.get(self._tag)
        if total is None:
            total = self._totals[self._tag] = [0.0, 0]
        total[0] += time.perf_counter() - self._start
        total[1] += 1
        if summary.should_record_summaries():
            with summary.scope("/"):
                summary.scalar(self._tag, total[0] / total[1])
            total[:] = [0.0, 0]


# ---------------------------------------------------------------- tensors


def histogram_discrete(
    name: str, data: torch.Tensor, bucket_min: int, bucket_max: int, step: int | None = None
) -> None:
    """Record how often each integer from `bucket_min` to `bucket_max` occurs.

    Args:
        name: tag below the current scope.
        data: integers of any shape; those outside of the range are counted at its ends.
        bucket_min: the smallest integer.
        bucket_max: the largest integer.
        step: the global counter if None.
    """
    if summary.should_record_summaries():
        edges = np.arange(bucket_min, bucket_max + 2) - 0.5
        summary.histogram(name, data.clamp(bucket_min, bucket_max), step=step, bins=edges)


def histogram_continuous(
    name: str,
    data: torch.Tensor,
    bucket_min: float | None = None,
    bucket_max: float | None = None,
    bucket_count: int = DEFAULT_BUCKET_COUNT,
    step: int | None = None,
) -> None:
    """Record a histogram with buckets of equal width.

    Args:
        name: tag below the current scope.
        data: numbers of any shape; those outside of the range are counted at its ends.
        bucket_min: left end; the smallest number if None.
        bucket_max: right end; the largest number if None.
        bucket_count: number of buckets.
        step: the global counter if None.
    """
    if not summary.should_record_summaries() or data.numel() == 0:
        return
    low = data.min().item() if bucket_min is None else bucket_min
    high = data.max().item() if bucket_max is None else bucket_max
    if not (np.isfinite(low) and np.isfinite(high)):
        summary.histogram(name, data, step=step)  # there are no buckets of equal width up to infinity
        return
    edges = np.linspace(low, high if high > low else low + 1.0, bucket_count + 1)
    summary.histogram(name, data.clamp(low, high), step=step, bins=edges)


def add_mean_summary(name: str, value: torch.Tensor) -> None:
    """Record the mean of `value` as `<name>/mean`."""
    safe_mean_summary(name, value)


def add_mean_hist_summary(name: str, value: torch.Tensor) -> None:
    """Record the mean of `value` as `<name>/mean` and its histogram as `<name>/value`."""
    safe_mean_hist_summary(name, value)


def safe_mean_summary(name: str, value: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """Record the mean of the selected elements as `<name>/mean`, nothing if none is selected.

    Args:
        name: tag below the current scope.
        value: a tensor of any shape and dtype.
        mask: bool with the leading dimensions of `value`; None selects all.
    """
    if not summary.should_record_summaries():
        return
    selected = value if mask is None else value[mask]
    if selected.numel():
        summary.scalar(f"{name}/mean", selected.detach().to(_mean_dtype(selected)).mean())


def safe_mean_hist_summary(name: str, value: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """Record mean and histogram of the selected elements as `<name>/mean` and `<name>/value`.

    Args:
        name: tag below the current scope.
        value: a tensor of any shape and dtype.
        mask: bool with the leading dimensions of `value`; None selects all.
    """
    if not summary.should_record_summaries():
        return
    selected = value if mask is None else value[mask]
    summary.histogram(f"{name}/value", selected)
    safe_mean_summary(name, selected)


def _mean_dtype(tensor: torch.Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32


# ---------------------------------------------------------------- parameters


@configurable
def summarize_variables(
    name_and_params: Iterable[tuple[str, nn.Parameter]], with_histogram: bool = True
) -> None:
    """Record the norm (`summarize_vars/<name>_value_norm`) and histogram (`..._value`) of each parameter.

    Args:
        name_and_params: (name, parameter) pairs.
        with_histogram: False records norms only.
    """
    if summary.should_record_summaries():
        with summary.scope("summarize_vars"):
            _summarize_tensors("value", [(name, p.detach()) for name, p in name_and_params], with_histogram)


@configurable
def summarize_gradients(
    name_and_params: Iterable[tuple[str, nn.Parameter]], with_histogram: bool = True
) -> None:
    """Record the norm (`summarize_grads/<name>_gradient_norm`) and histogram of each parameter's gradient.

    Args:
        name_and_params: (name, parameter) pairs; those without gradient are passed over.
        with_histogram: False records norms only.
    """
    if summary.should_record_summaries():
        with summary.scope("summarize_grads"):
            gradients = [(name, p.grad) for name, p in name_and_params if p.grad is not None]
            _summarize_tensors("gradient", gradients, with_histogram)


def _summarize_tensors(kind: str, named: Sequence[tuple[str, torch.Tensor]], with_histogram: bool) -> None:
    if not named:
        return
    # all norms in one go, so that a GPU is waited for once
    norms = torch.stack([norm.float().cpu() for norm in torch._foreach_norm([tensor for _, tensor in named])])
    for (name, tensor), norm in zip(named, norms.tolist(), strict=True):
        if with_histogram:
            summary.histogram(f"{name}_{kind}", tensor)
        summary.scalar(f"{name}_{kind}_norm", norm)


# ---------------------------------------------------------------- losses and nests


def _named_leaves(prefix: str, data: Any) -> list[tuple[str, Any]]:
    """Return (`prefix/<path>`, leaf) of every leaf."""
    leaves: list[tuple[str, Any]] = []
    nest.py_map_structure_with_path(
        lambda path, leaf: leaves.append(("/".join([prefix, *path.split(".")]) if path else prefix, leaf)),
        data,
    )
    return leaves


def add_nested_summaries(prefix: str, data: Any) -> None:
    """Record the mean of each leaf as a scalar `<prefix>/<path>`.

    Args:
        prefix: first part of the tags.
        data: nest of tensors or numbers.
    """
    if not summary.should_record_summaries():
        return
    for name, leaf in _named_leaves(prefix, data):
        if isinstance(leaf, torch.Tensor) and leaf.dim():
            if leaf.numel() == 0:
                continue
            leaf = leaf.detach().to(_mean_dtype(leaf)).mean()
        if leaf is not None:
            summary.scalar(name, leaf)


def summarize_nest(prefix: str, nest: Any) -> None:
    """Record mean and histogram of each leaf as `<prefix>/<path>/mean` and `<prefix>/<path>/value`.

    Args:
        prefix: first part of the tags.
        nest: nest of tensors.
    """
    if summary.should_record_summaries():
        for name, leaf in _named_leaves(prefix, nest):
            add_mean_hist_summary(name, leaf)


def summarize_loss(loss_info: LossInfo) -> None:
    """Record the mean loss as `loss`, and the parts in `extra` as `loss/<path>`.

    Args:
        loss_info: `loss` [T, B] or [B] or (), `extra` a nest of tensors of such shapes.
    """
    if not summary.should_record_summaries():
        return
    for name, part in (
        ("loss", loss_info.loss),
        ("loss/scalar_loss", loss_info.scalar_loss),
        ("loss/gns", loss_info.gns),
    ):
        if isinstance(part, torch.Tensor):
            add_nested_summaries(name, part)
    if isinstance(loss_info.extra, torch.Tensor):
        add_nested_summaries("loss/extra", loss_info.extra)
    else:
        add_nested_summaries("loss", loss_info.extra)
    if isinstance(loss_info.priority, torch.Tensor):
        add_mean_hist_summary("loss/priority", loss_info.priority)


@configurable
def summarize_per_category_loss(
    loss_info: LossInfo, summarize_count: bool = False, label_names: list[str] | None = None
) -> None:
    """Record the mean loss of each category of samples as `per_category_loss/<label>/<path>`.

    Args:
        loss_info: with `batch_label`, integers of the shape of `loss`; nothing is recorded without.
        summarize_count: also record the number of samples of each category as `per_category_count/<label>`.
        label_names: names of the labels 0, 1, ...; the numbers if None.
    """
    if not summary.should_record_summaries() or not isinstance(loss_info.batch_label, torch.Tensor):
        return
    labels = loss_info.batch_label
    parts = _named_leaves("", {"loss": loss_info.loss, "extra": loss_info.extra})
    for label in labels.unique().tolist():
        if label_names is not None and not 0 <= label < len(label_names):
            raise ValueError(
                f"summarize_per_category_loss.label_names: label {label} has no name in {label_names}."
            )
        label_name = str(label) if label_names is None else label_names[label]
        chosen = labels == label
        if summarize_count:
            summary.scalar(f"per_category_count/{label_name}", int(chosen.sum()))
        for name, part in parts:
            if isinstance(part, torch.Tensor) and part.shape[: labels.dim()] == labels.shape:
                add_nested_summaries(f"per_category_loss/{label_name}{name}", part[chosen])


# ---------------------------------------------------------------- actions and distributions


def summarize_action(actions: Any, action_specs: Any, name: str = "action") -> None:
    """Record a histogram of each action, of each of its dimensions: `<name>/<path>/<dimension>`.

    Args:
        actions: nest of [B, ...] tensors.
        action_specs: nest of specs.
        name: first part of the tags.
    """
    if not summary.should_record_summaries():
        return
    specs: list[TensorSpec] = nest.flatten(action_specs)
    for (leaf_name, action), spec in zip(_named_leaves(name, actions), specs, strict=True):
        columns = action.detach().reshape(-1, spec.numel)
        low, high = _bounds(spec)
        for i in range(spec.numel):
            tag = leaf_name if spec.numel == 1 else f"{leaf_name}/{i}"
            if spec.is_discrete and low is not None:
                histogram_discrete(tag, columns[:, i], int(low[i]), int(high[i]))
            elif spec.is_discrete or low is None:
                summary.histogram(tag, columns[:, i])
            else:
                histogram_continuous(tag, columns[:, i], float(low[i]), float(high[i]))


def _bounds(spec: TensorSpec) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not spec.is_bounded():
        return None, None
    return tuple(
        np.broadcast_to(bound, tuple(spec.shape)).reshape(-1) for bound in (spec.minimum, spec.maximum)
    )


def summarize_distribution(name: str, distributions: Any) -> None:
    """Record mean and histogram of each parameter of each distribution: `<name>/<path>/<parameter>/...`.

    Args:
        name: first part of the tags.
        distributions: nest of distributions; other leaves are passed over.
    """
    if not summary.should_record_summaries():
        return
    from alf.utils import dist_utils  # for this alone, and it is slow to import

    for leaf_name, leaf in _named_leaves(name, distributions):
        if isinstance(leaf, torch.distributions.Distribution):
            for parameter, value in _named_leaves(leaf_name, dist_utils.extract_distribution_parameters(leaf)):
                add_mean_hist_summary(parameter, value)


# ---------------------------------------------------------------- gradients of tensors


def summarize_tensor_gradients(name: str, tensor: Any, batch_dims: int = 1, clone: bool = False) -> Any:
    """Return `tensor`, whose gradient norms will be recorded as `<name>/<path>/...` when they are computed.

    Args:
        name: first part of the tags.
        tensor: nest of tensors.
        batch_dims: number of leading dimensions that are not part of the norm.
        clone: return views of the tensors, so that only gradients that flow through what is returned count.
    """
    if not summary.should_record_summaries():
        return tensor
    scope_name = summary.scope_name() or "/"

    def hook(path: str, leaf: torch.Tensor) -> torch.Tensor:
        if not leaf.requires_grad:
            return leaf
        leaf = leaf.view_as(leaf) if clone else leaf
        leaf_name = f"{name}/{path.replace('.', '/')}" if path else name

        def record(gradient: torch.Tensor) -> None:
            with summary.scope(scope_name):
                norms = gradient.reshape(*gradient.shape[:batch_dims], -1).norm(dim=-1)
                add_mean_hist_summary(f"{leaf_name}/gradient_norm", norms)

        leaf.register_hook(record)
        return leaf

    return nest.py_map_structure_with_path(hook, tensor)


def summarize_distribution_gradient(
    name: str, distribution: Any, batch_dims: int = 1, clone: bool = False
) -> Any:
    """Return `distribution`, the gradient norms of whose parameters will be recorded when they are computed.

    Args:
        name: first part of the tags.
        distribution: nest of distributions or tensors.
        batch_dims: number of leading dimensions that are not part of the norm.
        clone: return distributions with views of the parameters, as for `summarize_tensor_gradients`.
    """
    if not summary.should_record_summaries():
        return distribution
    from alf.utils import dist_utils  # for this alone, and it is slow to import

    if not clone:
        summarize_tensor_gradients(name, dist_utils.distributions_to_params(distribution), batch_dims)
        return distribution
    spec = dist_utils.extract_spec(distribution)
    parameters = dist_utils.distributions_to_params(distribution)
    return dist_utils.params_to_distributions(
        summarize_tensor_gradients(name, parameters, batch_dims, clone=True), spec
    )
