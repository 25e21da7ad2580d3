"""Builds the C++ extensions; every one is optional, the package works (slower) without them.

``ALF_SANITIZE=address,undefined`` or ``ALF_SANITIZE=thread`` in the environment builds them with these sanitizers of
the compiler, in a directory of their own; then all have to compile. ``.ci/sanitize`` does so and runs tests under them.
"""

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

SANITIZERS = os.environ.get("ALF_SANITIZE", "")
KNOWN_SANITIZERS = ("", "address", "undefined", "address,undefined", "thread")
if SANITIZERS not in KNOWN_SANITIZERS:
    raise SystemExit(f"ALF_SANITIZE: expected one of {', '.join(KNOWN_SANITIZERS[1:])}, got {SANITIZERS!r}.")


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
        if SANITIZERS:
            raise error
        print(
            f"NOTICE: {name} could not be built ({type(error).__name__}: {error}). alf uses its Python "
            "implementation instead; install a C++17 compiler and reinstall for full speed.",
            file=sys.stderr,
        )


def flags() -> tuple:
    """Returns the flags of the compiler and those of the linker."""
    # Without fused multiply-adds: environments have to compute bit for bit what Python computes.
    compile_flags = ["-Wall", "-Wextra", "-ffp-contract=off"]
    if not SANITIZERS:
        return [*compile_flags, "-O3"], []
    sanitize = [f"-fsanitize={SANITIZERS}"]
    # pybind11 has no use for the checks of virtual tables, which take half of the time to compile.
    checks = ["-fno-sanitize=vptr", "-fno-sanitize-recover=all"]
    return [*compile_flags, *sanitize, *checks, "-O1", "-g1", "-fno-omit-frame-pointer"], sanitize


def extensions() -> list:
    """An extension ``alf._<folder>`` for each folder of csrc with a bindings.cpp; none without pybind11."""
    try:
        from pybind11.setup_helpers import Pybind11Extension
    except ImportError:
        print("NOTICE: pybind11 is missing; alf is installed without its C++ extensions.", file=sys.stderr)
        return []
    compile_flags, link_flags = flags()
    return [
        Pybind11Extension(
            f"alf._{bindings.parent.name}",
            sorted(str(path) for path in bindings.parent.glob("*.cpp")),
            depends=[str(path) for folder in ("csrc", bindings.parent) for path in Path(folder).glob("*.h")],
            cxx_std=17,
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
        )
        for bindings in sorted(Path("csrc").glob("*/bindings.cpp"))
    ]


def build_options() -> dict:
    """Returns where objects and libraries go: those with sanitizers must not be taken for others."""
    if not SANITIZERS:
        return {}
    build_base = f"build/sanitized/{SANITIZERS.replace(',', '_')}"
    return {"build": {"build_base": build_base}, "build_ext": {"parallel": os.cpu_count()}}


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuildExt}, options=build_options())
