"""Pictures of numbers made while playing: bars, curves, heatmaps, texts, actions and their distributions.

An algorithm puts them anywhere into the `info` of `predict_step`; a player lays them beside the frames of the
environment. They are slow (tens of milliseconds each), so nothing is drawn unless rendering is enabled: the
functions then return `()`, an empty nest. Drawing needs matplotlib, the extra `plot`; `Image` alone does not.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch

import alf.nest as nest
from alf.summary._image import INTER_AREA, INTER_CUBIC, INTER_LINEAR, INTER_NEAREST, Image, import_matplotlib
from alf.summary.summary_ops import scope_name
from alf.tensor_specs import TensorSpec

__all__ = [
    "INTER_AREA",
    "INTER_CUBIC",
    "INTER_LINEAR",
    "INTER_NEAREST",
    "Image",
    "enable_rendering",
    "is_rendering_enabled",
    "render_action",
    "render_action_distribution",
    "render_bar",
    "render_curve",
    "render_heatmap",
    "render_text",
]

_rendering_enabled = False


def enable_rendering(flag: bool = True) -> None:
    """Turn the render functions of this process on or off; they are off at first."""
    global _rendering_enabled
    _rendering_enabled = bool(flag)


def is_rendering_enabled() -> bool:
    """Return whether the render functions draw."""
    return _rendering_enabled


def _renders(function: Callable) -> Callable:
    """Make `function(name, ...)` return () while rendering is off, and prefix the name by the scope."""

    @functools.wraps(function)
    def render(name: str, *args, **kwargs) -> Any:
        if not _rendering_enabled:
            return ()
        return function(scope_name() + name, *args, **kwargs)

    return render


def _array(name: str, data: Any, num_dims: tuple[int, ...]) -> np.ndarray:
    """Return `data` as a float array with one of `num_dims` dimensions; leading 1s are dropped."""
    array = (
        data.detach().cpu().float().numpy()
        if isinstance(data, torch.Tensor)
        else np.asarray(data, np.float32)
    )
    while array.ndim > max(num_dims) and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in num_dims:
        raise ValueError(
            f"{name}: expected {' or '.join(map(str, num_dims))} dimensions (leading ones of size 1 are "
            f"dropped), got shape {tuple(np.shape(data))}. Render one sample at a time."
        )
    return array


def _figure(
    name: str, figsize: tuple, x_label: str | None = None, y_label: str | None = None, font_size: int = 7
) -> tuple:
    figure = import_matplotlib().figure.Figure(figsize=figsize, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(name, fontsize=font_size)
    axes.tick_params(labelsize=font_size)
    if x_label is not None:
        axes.set_xlabel(x_label, fontsize=font_size)
    if y_label is not None:
        axes.set_ylabel(y_label, fontsize=font_size)
    return figure, axes


def _finish(figure: Any, dpi: int, img_height: int | None, img_width: int | None) -> Image:
    return Image.from_pyplot_fig(figure, dpi).resize(img_height, img_width, INTER_LINEAR)


@_renders
def render_text(
    name: str,
    data: str,
    font_size: int = 10,
    fig_width_per_char: float = 0.1,
    fig_height: float = 0.4,
    img_height: int | None = None,
    img_width: int | None = None,
    dpi: int = 200,
    **kwargs,
) -> Image:
    """Return a picture of "name: data".

    Args:
        name: what the text is about.
        data: the text.
        font_size: in points.
        fig_width_per_char: inches of width per character.
        fig_height: inches per line.
        img_height: height in pixels to resize to.
        img_width: width in pixels to resize to.
        dpi: pixels per inch.
        **kwargs: passed to `Figure.text`.
    """
    text = f"{name}: {data}"
    lines = text.split("\n")
    size = (max(1.0, fig_width_per_char * max(map(len, lines))), fig_height * len(lines))
    figure = import_matplotlib().figure.Figure(figsize=size)
    figure.text(0.5, 0.5, text, fontsize=font_size, ha="center", va="center", **kwargs)
    return _finish(figure, dpi, img_height, img_width)


@_renders
def render_bar(
    name: str,
    data: Any,
    width: float = 0.8,
    y_range: tuple | None = None,
    x_ticks: Sequence | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    legends: Sequence[str] | None = None,
    legend_kwargs: Mapping = {},
    annotate_format: str = "%.2f",
    img_height: int | None = None,
    img_width: int | None = None,
    dpi: int = 300,
    figsize: tuple = (2, 2),
    **kwargs,
) -> Image:
    """Return a bar chart.

    Args:
        name: title.
        data: [N] bars, or [M, N] for M bars at each of N places.
        width: of the bars of one place together.
        y_range: (lowest, highest) value shown.
        x_ticks: N labels of the places.
        x_label: label of the x axis.
        y_label: label of the y axis.
        legends: M names.
        legend_kwargs: passed to `Axes.legend`.
        annotate_format: format of the value written on each bar; "" writes none.
        img_height: height in pixels to resize to.
        img_width: width in pixels to resize to.
        dpi: pixels per inch.
        figsize: (width, height) in inches.
        **kwargs: passed to `Axes.bar`.
    """
    groups = np.atleast_2d(_array(name, data, (0, 1, 2)))
    figure, axes = _figure(name, figsize, x_label, y_label)
    places = np.arange(groups.shape[1])
    bar_width = width / len(groups)
    for i, values in enumerate(groups):
        offset = (i - (len(groups) - 1) / 2) * bar_width
        bars = axes.bar(places + offset, values, bar_width, label=legends[i] if legends else None, **kwargs)
        if annotate_format:
            axes.bar_label(bars, labels=[annotate_format % v for v in values], fontsize=5)
    axes.set_xticks(places, places if x_ticks is None else x_ticks)
    if y_range is not None:
        axes.set_ylim(y_range)
    if legends:
        axes.legend(**{"fontsize": 5, **legend_kwargs})
    return _finish(figure, dpi, img_height, img_width)


@_renders
def render_curve(
    name: str,
    data: Any,
    x_range: tuple | None = None,
    y_range: tuple | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    legends: Sequence[str] | None = None,
    legend_kwargs: Mapping = {},
    img_height: int | None = None,
    img_width: int | None = None,
    dpi: int = 300,
    figsize: tuple = (2, 2),
    **kwargs,
) -> Image:
    """Return a plot of one or several curves.

    Args:
        name: title.
        data: [N] values, or [M, N] for M curves.
        x_range: (first, last) x of the N values; 0 to N - 1 if None.
        y_range: (lowest, highest) value shown.
        x_label: label of the x axis.
        y_label: label of the y axis.
        legends: M names.
        legend_kwargs: passed to `Axes.legend`.
        img_height: height in pixels to resize to.
        img_width: width in pixels to resize to.
        dpi: pixels per inch.
        figsize: (width, height) in inches.
        **kwargs: passed to `Axes.plot`.
    """
    curves = np.atleast_2d(_array(name, data, (1, 2)))
    figure, axes = _figure(name, figsize, x_label, y_label)
    first, last = (0, curves.shape[1] - 1) if x_range is None else x_range
    x = np.linspace(first, last, curves.shape[1])
    for i, values in enumerate(curves):
        axes.plot(x, values, label=legends[i] if legends else None, **kwargs)
    if y_range is not None:
        axes.set_ylim(y_range)
    if legends:
        axes.legend(**{"fontsize": 5, **legend_kwargs})
    return _finish(figure, dpi, img_height, img_width)


@_renders
def render_heatmap(
    name: str,
    data: Any,
    val_label: str = "",
    row_ticks: Sequence | None = None,
    col_ticks: Sequence | None = None,
    row_labels: Sequence | None = None,
    col_labels: Sequence | None = None,
    cbar_kw: Mapping = {},
    annotate_format: str = "%.2f",
    font_size: int = 7,
    img_height: int | None = None,
    img_width: int | None = None,
    dpi: int = 300,
    figsize: tuple = (2, 2),
    **kwargs,
) -> Image:
    """Return a matrix as colours with a colour bar.

    Args:
        name: title.
        data: [H, W].
        val_label: label of the colour bar.
        row_ticks: rows that get a tick; those of `row_labels` if None.
        col_ticks: columns that get a tick; those of `col_labels` if None.
        row_labels: a label for each tick of the rows.
        col_labels: a label for each tick of the columns.
        cbar_kw: passed to `Figure.colorbar`.
        annotate_format: format of the value written into each cell; "" writes none.
        font_size: in points.
        img_height: height in pixels to resize to.
        img_width: width in pixels to resize to.
        dpi: pixels per inch.
        figsize: (width, height) in inches.
        **kwargs: passed to `Axes.imshow`.
    """
    matrix = _array(name, data, (2,))
    figure, axes = _figure(name, figsize, font_size=font_size)
    picture = axes.imshow(matrix, **kwargs)
    bar = figure.colorbar(picture, ax=axes, **cbar_kw)
    bar.ax.set_ylabel(val_label, fontsize=font_size)
    bar.ax.tick_params(labelsize=font_size)
    for set_ticks, ticks, labels in (
        (axes.set_yticks, row_ticks, row_labels),
        (axes.set_xticks, col_ticks, col_labels),
    ):
        if ticks is not None or labels is not None:
            set_ticks(range(len(labels)) if ticks is None else ticks, labels)
    if annotate_format:
        for (row, col), value in np.ndenumerate(matrix):
            colour = "black" if picture.norm(value) > 0.5 else "white"
            axes.text(
                col, row, annotate_format % value, ha="center", va="center", color=colour, fontsize=font_size
            )
    return _finish(figure, dpi, img_height, img_width)


def _leaf_name(name: str, path: str) -> str:
    return f"{name}/{path}" if path else name


def _bounds(spec: TensorSpec) -> tuple[float, float] | None:
    """Return the lowest and the highest value of `spec`, or None where one is infinite or not known."""
    if not spec.is_bounded():
        return None
    low, high = float(np.min(spec.minimum)), float(np.max(spec.maximum))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


@_renders
def render_action(name: str, action: Any, action_spec: Any, **kwargs) -> Any:
    """Return a bar chart for each leaf of an action.

    Args:
        name: title; leaves of a nest are named `name/<path>`.
        action: nest of [1, ...] or [...] tensors.
        action_spec: nest of specs.
        **kwargs: passed to `render_bar`.
    Returns:
        Nest of `Image`s.
    """

    def draw(path: str, spec: TensorSpec, leaf: Any) -> Image:
        leaf_name = _leaf_name(name, path)
        values = _single(leaf_name, leaf, spec)
        options = {
            "y_range": _bounds(spec),
            "annotate_format": "%d" if spec.is_discrete else "%.2f",
            **kwargs,
        }
        return render_bar.__wrapped__(leaf_name, values, **options)

    return nest.py_map_structure_with_path(draw, action_spec, action)


def _single(name: str, leaf: Any, spec: TensorSpec) -> np.ndarray:
    """Return the one value of `spec` in `leaf`, flattened."""
    array = (
        leaf.detach().cpu().float().numpy()
        if isinstance(leaf, torch.Tensor)
        else np.asarray(leaf, np.float32)
    )
    if array.size != spec.numel:
        raise ValueError(
            f"{name}: expected one value of {spec}, got shape {array.shape}. Render one sample at a time."
        )
    return array.reshape(-1)


@_renders
def render_action_distribution(
    name: str, act_dist: Any, action_spec: Any, n_samples: int = 500, n_bins: int = 20, **kwargs
) -> Any:
    """Return a picture of each action distribution: probabilities if discrete, else histograms of samples.

    Args:
        name: title; leaves of a nest are named `name/<path>`.
        act_dist: nest of distributions with batch size 1.
        action_spec: nest of specs.
        n_samples: number of samples drawn for the histograms.
        n_bins: number of bins of the histograms.
        **kwargs: passed to `render_bar` (discrete) or `render_curve`.
    Returns:
        Nest of `Image`s. A histogram has one curve for each action dimension.
    """

    def draw(path: str, spec: TensorSpec, dist: Any) -> Image:
        leaf_name = _leaf_name(name, path)
        base = getattr(dist, "base_dist", dist)
        if isinstance(base, torch.distributions.Categorical) and spec.numel == 1:
            return render_bar.__wrapped__(leaf_name, base.probs, **{"y_range": (0, 1), **kwargs})
        samples = dist.sample((n_samples,)).detach().cpu().float().numpy()
        if samples.size != n_samples * spec.numel:
            raise ValueError(
                f"{leaf_name}: expected a distribution over one value of {spec}, got samples of shape "
                f"{samples.shape[1:]}. Render one sample at a time."
            )
        samples = samples.reshape(n_samples, -1)
        bounds = _bounds(spec) or (float(samples.min()), float(samples.max()))
        counts = np.stack([np.histogram(column, bins=n_bins, range=bounds)[0] for column in samples.T])
        options = {"x_range": bounds, "legends": [f"a{i}" for i in range(len(counts))], **kwargs}
        return render_curve.__wrapped__(leaf_name, counts / n_samples, **options)

    return nest.py_map_structure_with_path(draw, action_spec, act_dist)
