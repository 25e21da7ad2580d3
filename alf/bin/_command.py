"""What the commands share: flags, logging, and errors as a person reads them. Nothing heavy is imported for ``--help``."""

import os
import sys
from typing import Callable, List

from absl import app, flags, logging

FLAGS = flags.FLAGS


def define_run_flags(conf_help: str) -> None:
    """Define the flags of every command: ``--root_dir``, ``--conf``, ``--conf_param``."""
    flags.DEFINE_string("root_dir", None, "Directory of the run: everything it writes.")
    flags.DEFINE_string("conf", None, conf_help)
    flags.DEFINE_multi_string("conf_param", None, "A value that wins over the conf: 'name=expression'. May be repeated.")
    flags.mark_flag_as_required("root_dir")


def resolve_conf(conf: str) -> str:
    """Return the path of a conf: itself, or a name among the examples.

    Raises:
        FileNotFoundError: if there is no such file, naming the nearest examples.
    """
    if os.path.exists(conf):
        return os.path.abspath(conf)
    examples = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
    for candidate in (conf, conf + ".py", conf + "_conf.py"):
        path = os.path.join(examples, candidate)
        if os.path.isfile(path):
            return path
    import difflib
    known = [os.path.relpath(os.path.join(folder, name), examples)
             for folder, _, names in os.walk(examples) for name in names if name.endswith("_conf.py")]
    nearest = difflib.get_close_matches(os.path.basename(conf), known, n=3, cutoff=0.4)
    hint = f" Did you mean one of the examples {nearest}?" if nearest else ""
    raise FileNotFoundError(f"--conf {conf}: no such file.{hint}")


def run(main: Callable[[List[str]], None]) -> None:
    """Run a command, and end with 0 (done), 1 (failed), 2 (mistake in flags or conf), 130 or 143 (told to leave)."""

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"unknown argument {argv[1]!r}. See --help.", 2)
        logging.use_absl_handler()
        logging.set_verbosity(FLAGS.verbosity if FLAGS["verbosity"].present else logging.INFO)
        logging.set_stderrthreshold("info")
        try:
            main(argv)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except Exception as error:
            code = _mistake_code(error)
            if code is None:
                raise
            notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
            _fail(f"{error}{notes}", code)

    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(f"{error}\nSee: python -m {_module_name()} --help", 2)


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else os.path.basename(sys.argv[0])


def _mistake_code(error: Exception):
    """Return the exit code of errors that a person is told without a traceback; None for all others."""
    from alf._config._errors import ConfigError
    from alf.utils.checkpoint_utils import CheckpointError
    if isinstance(error, (ConfigError, FileNotFoundError)):
        return 2
    return 1 if isinstance(error, CheckpointError) else None


def _fail(text: str, code: int) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(code)
