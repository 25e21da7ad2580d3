"""What is recorded, when, where and under which name: `scalar`, `histogram`, `text`, `images`, `video`, ...

Something is recorded when summaries are enabled, a writer is in force, and the innermost `record_if`
condition holds. Asking costs about a tenth of a microsecond, and nothing is copied from a device before the
answer is yes, so calls may stay in hot loops. Names are prefixed by the scopes they are made in: `with
scope("agent"): scalar("loss", x)` is `agent/loss`.

The state below belongs to the process and is meant for the thread that trains.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np
import torch

from alf.summary._writer import SummaryWriter

_global_counter: int = 0
_enabled: bool = True
_summarize_output: bool = False
_default_writer: Any = None
_writer: Any = None  # the one in force: the innermost pushed one, or the default
_num_pushed_writers: int = 0
_record_condition: Callable[[], bool] | None = None
_scope: str = ""  # "" or a path that ends with "/"


# ---------------------------------------------------------------- the step


def get_global_counter() -> int:
    """Return the step of summaries: the number of training iterations begun, an exact Python int."""
    return _global_counter


def set_global_counter(counter: int) -> None:
    """Set the global counter, as after a checkpoint was loaded."""
    global _global_counter
    _global_counter = int(counter)


def reset_global_counter() -> None:
    """Set the global counter to zero."""
    set_global_counter(0)


def increment_global_counter() -> None:
    """Add one to the global counter."""
    global _global_counter
    _global_counter += 1


# ---------------------------------------------------------------- whether to record


def enable_summary(flag: bool = True) -> None:
    """Turn all summaries of this process on or off."""
    global _enabled
    _enabled = bool(flag)


def disable_summary() -> None:
    """Turn all summaries of this process off."""
    enable_summary(False)


def is_summary_enabled() -> bool:
    """Return whether summaries are enabled at all, see `should_record_summaries()`."""
    return _enabled


def should_record_summaries() -> bool:
    """Return whether a summary made now would be written."""
    return _enabled and _writer is not None and (_record_condition is None or bool(_record_condition()))


def should_summarize_output(flag: bool | None = None) -> bool:
    """Return whether layers and networks summarize their outputs; a given `flag` is stored first."""
    global _summarize_output
    if flag is not None:
        _summarize_output = bool(flag)
    return _summarize_output


class record_if:
    """Context in which summaries are recorded while `cond()` holds. The innermost context decides alone.

    Args:
        cond: called at every summary, so keep it cheap.
    """

    def __init__(self, cond: Callable[[], bool]):
        if not callable(cond):
            raise TypeError(
                f"record_if: expected a callable that returns a bool, got {cond!r}. "
                f"Write record_if(lambda: {cond!r})."
            )
        self._cond = cond
        self._outer: list[Callable[[], bool] | None] = []

    def __enter__(self) -> record_if:
        global _record_condition
        self._outer.append(_record_condition)
        _record_condition = self._cond
        return self

    def __exit__(self, *exc_info) -> None:
        global _record_condition
        _record_condition = self._outer.pop()


class EnsureSummary:
    """Lets code that does not run in every iteration be recorded as often as the rest.

    A rollout that happens every fourth iteration would never be seen if the recorded iterations are always
    others. So the wish of an iteration to record is kept until the code runs:

        ensure = EnsureSummary()
        for every iteration:
            ensure.tick()
            if it is time for a rollout:
                with ensure:
                    rollout()
    """

    def __init__(self):
        self._wanted = False
        self._record_if = record_if(lambda: True)
        self._entered: list[bool] = []

    def tick(self) -> None:
        """Note whether the present iteration records; call it once per iteration."""
        self._wanted = self._wanted or should_record_summaries()

    def __enter__(self) -> EnsureSummary:
        self._entered.append(self._wanted)
        if self._wanted:
            self._wanted = False
            self._record_if.__enter__()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._entered.pop():
            self._record_if.__exit__(*exc_info)


# ---------------------------------------------------------------- where to


def create_summary_writer(
    summary_dir: str, flush_secs: float = 10, max_queue: int = 10, *, purge_step: int | None = None
) -> SummaryWriter:
    """Return a writer of TensorBoard events and of `metrics.jsonl` into `summary_dir`.

    Args:
        summary_dir: made if it does not exist.
        flush_secs: seconds after which pending events are handed to the operating system.
        max_queue: number of pending events after which the same happens.
        purge_step: the step of the checkpoint training goes on from. What an earlier process recorded after
            it is dropped, so that no curve is drawn twice.
    """
    return SummaryWriter(summary_dir, flush_secs=flush_secs, max_queue=max_queue, purge_step=purge_step)


def set_default_writer(writer: Any) -> None:
    """Make `writer` the one used outside of any `push_summary_writer`; None turns recording off there.

    Args:
        writer: what `create_summary_writer` returned, or an object with the methods of
            `torch.utils.tensorboard.SummaryWriter`.
    """
    global _default_writer, _writer
    _default_writer = writer
    if not _num_pushed_writers:
        _writer = writer


class push_summary_writer:
    """Context in which summaries go to `writer` instead of the default one.

    Args:
        writer: as for `set_default_writer`.
    """

    def __init__(self, writer: Any):
        self._new = writer
        self._outer: list[Any] = []

    def __enter__(self) -> push_summary_writer:
        global _writer, _num_pushed_writers
        self._outer.append(_writer)
        _writer = self._new
        _num_pushed_writers += 1
        return self

    def __exit__(self, *exc_info) -> None:
        global _writer, _num_pushed_writers
        outer = self._outer.pop()
        _num_pushed_writers -= 1
        _writer = outer if _num_pushed_writers else _default_writer


# ---------------------------------------------------------------- under which name


class scope:
    """Context that prefixes the names of summaries with `name` and a slash; gives the full prefix to `as`.

    Args:
        name: a name that ends with "/" is a full prefix (as told by `scope_name()`) and replaces the scopes
            around it: so code that runs later, like a gradient hook, can write under the name of the place
            where it was made.
    """

    def __init__(self, name: str):
        self._name = name
        self._outer: list[str] = []

    @property
    def name(self) -> str:
        """The name as given."""
        return self._name

    def __enter__(self) -> str:
        global _scope
        self._outer.append(_scope)
        if self._name.endswith("/"):
            _scope = "" if self._name == "/" else self._name
        elif self._name:
            _scope = f"{_scope}{self._name}/"
        return _scope

    def __exit__(self, *exc_info) -> None:
        global _scope
        _scope = self._outer.pop()


def scope_name() -> str:
    """Return the prefix of summaries made now: "" or scope names joined by slashes and a slash at the end."""
    return _scope


def enter_summary_scope(method: Callable) -> Callable:
    """Return `method` made to run under a scope named like its object: `name` or `_name` or its class."""

    @functools.wraps(method)
    def scoped(self, *args, **kwargs):
        name = getattr(self, "name", None) or getattr(self, "_name", None) or type(self).__name__
        with scope(name):
            return method(self, *args, **kwargs)

    return scoped


# ---------------------------------------------------------------- what


def _to_number(name: str, data: Any) -> int | float:
    number = data
    if (
        isinstance(data, torch.Tensor)
        and data.numel() == 1
        or isinstance(data, (np.ndarray, np.generic))
        and data.size == 1
    ):
        number = data.item()
    if isinstance(number, bool):
        return int(number)
    if isinstance(number, (int, float)):
        return number
    got = f"shape {tuple(data.shape)}" if hasattr(data, "shape") else f"{type(data).__name__} {data!r}"
    raise ValueError(
        f"summary '{_scope}{name}': expected one real number, got {got}. Reduce it first, e.g. with .mean()."
    )


def _to_numpy(data: Any) -> np.ndarray:
    if isinstance(data, torch.Tensor):
        data = data.detach()
        if data.dtype is torch.bfloat16:  # NumPy has no such type
            data = data.float()
        return data.cpu().numpy()
    return np.asarray(data)


def _step(step: int | None) -> int:
    return _global_counter if step is None else int(step)


def scalar(name: str, data: Any, step: int | None = None, walltime: float | None = None) -> None:
    """Record one number.

    Args:
        name: tag below the current scope.
        data: a number, or a tensor or array with one element.
        step: the global counter if None. Only values recorded at the global counter go into `metrics.jsonl`.
        walltime: seconds since the epoch; now if None.
    """
    if not should_record_summaries():
        return
    number = _to_number(name, data)
    _writer.add_scalar(_scope + name, number, _step(step), walltime)
    if step is None and isinstance(_writer, SummaryWriter):
        _writer.add_to_line(_scope + name, number, _global_counter, walltime)


def histogram(
    name: str,
    data: Any,
    step: int | None = None,
    bins: Any = None,
    walltime: float | None = None,
    max_bins: int | None = None,
) -> None:
    """Record the distribution of the values of `data`; values that are not finite are left out.

    Args:
        name: tag below the current scope.
        data: a tensor or array of any shape; nothing is recorded when it has no (finite) element.
        step: the global counter if None.
        bins: bin edges, their number, or a rule known to `numpy.histogram_bin_edges`; exponentially spaced
            edges if None.
        walltime: seconds since the epoch; now if None.
        max_bins: neighbouring bins are joined until at most so many are left.
    """
    if not should_record_summaries():
        return
    values = _to_numpy(data).reshape(-1)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    elif values.dtype == np.float16:
        values = values.astype(np.float32)  # sums over float16 overflow
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return
    _writer.add_histogram(
        _scope + name, values, _step(step), "tensorflow" if bins is None else bins, walltime, max_bins
    )


def text(name: str, data: str, step: int | None = None, walltime: float | None = None) -> None:
    """Record a text, shown as Markdown.

    Args:
        name: tag below the current scope.
        data: the text.
        step: the global counter if None.
        walltime: seconds since the epoch; now if None.
    """
    if not should_record_summaries():
        return
    _writer.add_text(_scope + name, str(data), _step(step), walltime)


def images(
    name: str, data: Any, step: int | None = None, dataformat: str = "NCHW", walltime: float | None = None
) -> None:
    """Record images.

    Args:
        name: tag below the current scope.
        data: uint8 in [0, 255] or float in [0, 1], shaped as `dataformat` says.
        step: the global counter if None.
        dataformat: one letter per dimension: N (images), C (1 or 3 channels), H, W. N and C may be missing.
        walltime: seconds since the epoch; now if None.
    """
    if not should_record_summaries():
        return
    array = _to_numpy(data)
    if array.ndim != len(dataformat) or not set("HW") <= set(dataformat) <= set("NCHW"):
        raise ValueError(
            f"summary '{_scope}{name}': dataformat {dataformat!r} does not describe images of shape "
            f"{array.shape}. Use one of the letters N, C, H, W per dimension."
        )
    _writer.add_images(_scope + name, array, _step(step), walltime, dataformat)


def video(
    name: str,
    data: np.ndarray | torch.Tensor,
    step: int | None = None,
    fps: int = 4,
    walltime: float | None = None,
) -> None:
    """Record short videos, shown as animations.

    Args:
        name: tag below the current scope.
        data: [N, T, C, H, W], uint8 in [0, 255] or float in [0, 1], C 1 or 3; the N videos are laid side by
            side.
        step: the global counter if None.
        fps: frames per second.
        walltime: seconds since the epoch; now if None.
    """
    if not should_record_summaries():
        return
    array = _to_numpy(data)
    if array.ndim != 5 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"summary '{_scope}{name}': expected a video of shape [N, T, C, H, W] with 1 or 3 channels, "
            f"got {array.shape}."
        )
    _writer.add_video(_scope + name, array, _step(step), fps, walltime)


def embedding(
    name: str, data: Any, step: int | None = None, class_labels: Any = None, label_imgs: Any = None
) -> None:
    """Record vectors for TensorBoard's projector.

    Args:
        name: tag below the current scope.
        data: [N, D] vectors.
        step: the global counter if None.
        class_labels: N labels, anything that can be turned into text.
        label_imgs: [N, C, H, W] pictures of the vectors.
    """
    if not should_record_summaries():
        return
    matrix = _to_numpy(data)
    if matrix.ndim != 2:
        raise ValueError(
            f"summary '{_scope}{name}': expected embedding vectors of shape [N, D], got {matrix.shape}."
        )
    for what, sequence in (("class_labels", class_labels), ("label_imgs", label_imgs)):
        if sequence is not None and len(sequence) != len(matrix):
            raise ValueError(f"summary '{_scope}{name}': {len(matrix)} vectors, but {len(sequence)} {what}.")
    _writer.add_embedding(
        matrix,
        metadata=None if class_labels is None else list(class_labels),
        label_img=None if label_imgs is None else torch.as_tensor(_to_numpy(label_imgs)),
        global_step=_step(step),
        tag=_scope + name,
    )
