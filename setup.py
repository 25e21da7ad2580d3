"""Builds the C++ extensions; every one is optional, the package works (slower) without them."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext


class OptionalBuildExt(build_ext):
    """Compiles the extensions; says so once and goes on where that is not possible."""

    def run(self) -> None:
        """Builds all extensions, or none if there is no working compiler."""
        try:
            super().run()
        except Exception as error:  # a build tool may fail in any way; the package must install all the same
            self._report(error)

    def build_extension(self, ext) -> None:
        """Builds one extension; a failure leaves the others alone."""
        try:
            super().build_extension(ext)
        except Exception as error:
            self._report(error, ext.name)

    def _report(self, error: Exception, name: str = "the C++ extensions") -> None:
        print(
            f"NOTICE: {name} could not be built ({type(error).__name__}: {error}). alf uses its Python "
            "implementation instead; install a C++17 compiler and reinstall for full speed.",
            file=sys.stderr,
        )


def extensions() -> list:
    """An extension ``alf._<folder>`` for each folder of csrc with a bindings.cpp; none without pybind11."""
    try:
        from pybind11.setup_helpers import Pybind11Extension
    except ImportError:
        print("NOTICE: pybind11 is missing; alf is installed without its C++ extensions.", file=sys.stderr)
        return []
    return [
        Pybind11Extension(
            f"alf._{bindings.parent.name}",
            sorted(str(path) for path in bindings.parent.glob("*.cpp")),
            depends=[str(path) for path in bindings.parent.glob("*.h")],
            cxx_std=17,
            # Without fused multiply-adds: environments have to compute bit for bit what Python computes.
            extra_compile_args=["-O3", "-Wall", "-Wextra", "-ffp-contract=off"],
        )
        for bindings in sorted(Path("csrc").glob("*/bindings.cpp"))
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuildExt})
