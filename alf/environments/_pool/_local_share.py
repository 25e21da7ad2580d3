"""LocalShare: the environments that the main process steps itself."""

from __future__ import annotations

import os
from typing import Any, Callable

import numpy as np

from alf.environments._pool._closing import close_env, end_forked
from alf.environments._pool._errors import reported
from alf.environments._pool._host import Host, Share
from alf.environments._pool._segment import Specs, Views
from alf.environments._pool._spares import Spares, SpareSlot
from alf.environments._pool._worker import ALL_PARTS, STEP, build_env, call_env, check_specs


class LocalShare:
    """A share of the environments of a batch, in this process.

    Args:
        constructors: environment constructors by index.
        spare_constructors: constructors of spare environments by index.
        shares: its environments in each part of the batch.
        specs: specs of one environment.
        backend: ``"native"`` or ``"python"``.
        first_env: environment 0, if it exists already.
        resets_non_finite: see :class:`Host`.
    """

    def __init__(
        self,
        constructors: list[Callable],
        spare_constructors: dict[int, Callable],
        shares: list[Share],
        specs: Specs,
        backend: str,
        first_env: Any = None,
        resets_non_finite: bool = False,
    ):
        self._shares = shares
        self._parts = {part: (part,) for part in range(len(shares))} | {ALL_PARTS: tuple(range(len(shares)))}
        self._specs = specs
        self._backend = backend
        self._resets_non_finite = resets_non_finite
        self._host: Host | None = None
        self._pid = os.getpid()
        self._spares: Spares | None = None
        self.envs: dict[int, Any] = {}
        try:
            for index in (i for share in shares for i in range(share.start, share.stop)):
                is_made = index == 0 and first_env is not None
                self.envs[index] = first_env if is_made else self._build(constructors[index], index)
                check_specs(specs, self.envs[index], index)
            if spare_constructors:
                spares = [self._build(constructor, i) for i, constructor in spare_constructors.items()]
                self._spares = Spares(spares)
                self.envs = {i: SpareSlot(env, self._spares) for i, env in self.envs.items()}
        except BaseException:
            self.close()
            raise

    def _build(self, constructor: Callable, index: int) -> Any:
        with reported(index, "construct"):
            return build_env(constructor, index)

    def attach(self, views: Views) -> None:
        """Use these shared blocks from now on."""
        self._host = Host(
            self.envs,
            self._shares,
            self._specs,
            views,
            self._backend,
            resets_non_finite=self._resets_non_finite,
        )

    def run(self, command: int, part: int, ring_row: int) -> None:
        """Step or reset the environments of ``part`` (or of all parts) and write time step ``ring_row``.

        Raises:
            Exception: what an environment raised, with a note that names it; for ``SystemExit`` and its like a
                WorkerError.
        """
        method = self._host.step if command == STEP else self._host.reset
        for each in self._parts[part]:
            try:
                method(each, ring_row)
            except BaseException as error:
                end_forked(self._pid)
                failure = self._host.attributed(error, each, ring_row, "step" if command == STEP else "reset")
                if failure is not error:
                    raise failure from failure.__cause__
                raise
            end_forked(self._pid)

    def call_all(self, name: str, args: tuple, kwargs: dict) -> dict[int, Any]:
        """Return what a method of every environment returns, by index."""
        results = {}
        for index, env in self.envs.items():
            with reported(index, f"call {name}"):
                results[index] = call_env(env, name, args, kwargs)
        return results

    def seed(self, seeds: dict[int, int]) -> None:
        """Seed the environments, by index."""
        for index, env in self.envs.items():
            with reported(index, "call seed"):
                env.seed(seeds[index])
        if self._spares is not None:
            state = np.random.SeedSequence(list(seeds.values())).generate_state(len(self._spares))
            self._spares.seed([int(seed >> 1) for seed in state])

    def close(self) -> None:
        """Close the environments, each whatever the others do then."""
        for index, env in self.envs.items():
            close_env(env, f"environment {index}")
        if self._spares is not None:
            self._spares.close()
