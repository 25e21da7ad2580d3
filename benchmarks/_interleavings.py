"""Random orders of what may be done with a pool of environments, compared with environments stepped one by one."""

from __future__ import annotations

import functools
import importlib.util
import logging
import pathlib
import time
from typing import Any, Dict, Iterator

TESTS = pathlib.Path(__file__).resolve().parents[1] / "tests" / "environments" / "pool"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"pool_{name}", TESTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interleave(num_operations: int, seed: int) -> Iterator[Dict[str, Any]]:
    """Yield what operations on the pool in C++ and on its Python twin did: ``pool, done, seconds, problem``.

    Args:
        num_operations: of both together.
        seed: of their order.
    """
    machine, toys = _load("pool_machine"), _load("conftest")
    constructors = [functools.partial(toys.ToyEnv)] * machine.NUM_ENVS
    logging.disable(logging.WARNING)  # each restart is told
    try:
        for backend in ("native", "python"):
            options = {"backend": backend, "num_workers": 2, "on_worker_death": "restart"}
            row: Dict[str, Any] = {"pool": "C++" if backend == "native" else "Python", "problem": None}
            began = time.monotonic()
            try:
                row["done"] = machine.run(constructors, options, num_operations // 2, seed=seed)
            except Exception as error:
                notes = "\n".join(getattr(error, "__notes__", ()))
                row.update(done={}, problem=f"{type(error).__name__}: {error}\n{notes}")
            yield {**row, "seconds": time.monotonic() - began}
    finally:
        logging.disable(logging.NOTSET)
