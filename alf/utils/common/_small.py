"""Logging, seeds, lists, paths, ports."""

import os
import random
import socket
from typing import Any, Iterable, Optional

import numpy as np
import torch
from absl import logging
from torch import nn

from alf.config_util import configurable
from alf.nest import map_structure

_logged_once = set()


def _is_new(msg: str, args: tuple) -> bool:
    text = msg % args if args else msg
    is_new = text not in _logged_once
    _logged_once.add(text)
    return is_new


def info(msg: str, *args) -> None:
    """Log ``msg % args`` as information."""
    logging.info(msg, *args)


def warning(msg: str, *args) -> None:
    """Log ``msg % args`` as a warning."""
    logging.warning(msg, *args)


def info_once(msg: str, *args) -> None:
    """Log ``msg % args`` as information, the first time only."""
    if _is_new(msg, args):
        logging.info(msg, *args)


def warning_once(msg: str, *args) -> None:
    """Log ``msg % args`` as a warning, the first time only."""
    if _is_new(msg, args):
        logging.warning(msg, *args)


def log_metrics(metrics: Iterable, prefix: str = "") -> None:
    """Log one line a metric: its name and result."""
    lines = [f"{metric.name} = {map_structure(_as_python, metric.result())}" for metric in metrics]
    logging.info("%s\n\t\t %s", prefix, "\n\t\t ".join(lines))


def _as_python(value: Any) -> Any:
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray)) else value


def set_random_seed(seed: Optional[int]) -> int:
    """Seed Python, NumPy and PyTorch and return the seed; None draws one from the operating system."""
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little") & 0x7fffffff
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def as_list(x: Any) -> list:
    """Return ``x`` as a list: a list, tuple or dictionary's values copied, anything else as its only element."""
    if isinstance(x, dict):
        return list(x.values())
    return list(x) if isinstance(x, (list, tuple, nn.ModuleList)) else [x]


def tuplify2d(x: Any) -> tuple:
    """Return a pair as a tuple and a single number as ``(x, x)``."""
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise ValueError(f"tuplify2d: expected a number or two numbers, got {x!r}.")
        return tuple(x)
    return (x, x)


@configurable
def flattened_size(spec) -> int:
    """Return the number of elements of a spec."""
    return spec.numel


def get_epsilon_greedy(config) -> float:
    """Return ``config.epsilon_greedy``, or 0 without a config."""
    return 0.0 if config is None else config.epsilon_greedy


def abs_path(path: str) -> str:
    """Return the absolute path with ``~`` and environment variables expanded."""
    return os.path.realpath(os.path.expanduser(os.path.expandvars(path)))


def get_unused_port(start: int, end: int = 65536, n: int = 1):
    """Return the first free TCP port of this machine in ``[start, end)``, or a list of ``n`` of them.

    Raises:
        OSError: if there are not enough.
    """
    ports = []
    for port in range(start, end):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            try:
                candidate.bind(("", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == n:
            return ports[0] if n == 1 else ports
    raise OSError(f"get_unused_port: expected {n} free ports in [{start}, {end}), found {len(ports)}.")
