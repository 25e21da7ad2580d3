"""What the commands share: flags, logging, errors as a person reads them. Nothing heavy is imported for ``--help``."""

import contextlib
import os
import sys
from typing import Callable, Iterator, List

from absl import app, flags

FLAGS = flags.FLAGS


def define_run_flags(conf_help: str) -> None:
    """Define the flags of every command: ``--root_dir``, ``--conf``, ``--conf_param``."""
    flags.DEFINE_string("root_dir", os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR"),
                        "Directory of the run: everything it writes.")
    flags.DEFINE_string("conf", None, conf_help)
    flags.DEFINE_multi_string("conf_param", None, "A value that wins over the conf: 'name=expression'.")
    flags.register_validator("root_dir", bool, "expected the directory of the run, which this flag must name")


def root_dir() -> str:
    """Return the absolute path of ``--root_dir``."""
    return os.path.realpath(os.path.expanduser(os.path.expandvars(FLAGS.root_dir)))


def conf_file() -> str:
    """Return the path of ``--conf``, which may name an example; without it, that of the conf that the run keeps.

    Raises:
        FileNotFoundError: if there is no such file, naming the nearest examples.
        RunDirectoryError: if ``--conf`` is not given and there is no run either.
    """
    if FLAGS.conf is None:
        from alf.trainers import _run_directory
        return _run_directory.conf_of_run(root_dir())
    if os.path.exists(FLAGS.conf):
        return os.path.abspath(FLAGS.conf)
    examples = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")
    for candidate in (FLAGS.conf, FLAGS.conf + ".py", FLAGS.conf + "_conf.py"):
        if os.path.isfile(os.path.join(examples, candidate)):
            return os.path.join(examples, candidate)
    raise FileNotFoundError(f"--conf {FLAGS.conf}: no such file.{_nearest_confs(examples)}")


def _nearest_confs(examples: str) -> str:
    import difflib
    folder = os.path.dirname(os.path.abspath(FLAGS.conf))
    known = os.listdir(folder) if os.path.isdir(folder) else []
    known += [os.path.relpath(os.path.join(parent, name), examples)
              for parent, _, names in os.walk(examples) for name in names]
    known = [name for name in known if name.endswith("_conf.py")]
    nearest = difflib.get_close_matches(os.path.basename(FLAGS.conf), known, n=3, cutoff=0.4)
    return f" Did you mean {' or '.join(nearest)}?" if nearest else ""


def run(main: Callable[[List[str]], None]) -> None:
    """Run a command, and end with 0 (done), 1 (failed), 2 (mistake in flags or conf), 130 or 143 (told to leave)."""

    def guarded(argv):
        if len(argv) > 1:
            _fail(f"unknown argument {argv[1]!r}. See: python -m {_module_name()} --help", 2)
        try:
            from alf.trainers._run_log import start_console
            start_console(FLAGS.verbosity if FLAGS["verbosity"].present else 0)
            main(argv)
        except KeyboardInterrupt:
            _fail("interrupted", 130)
        except BrokenPipeError:
            from alf.trainers._progress_view import discard_output
            discard_output(sys.stdout)
            sys.exit(1)
        except Exception as error:
            from alf.bin._errors import is_mistake
            if not is_mistake(error, while_preparing=False):
                raise
            _fail_by(error)

    app.run(guarded, flags_parser=_parse_flags)


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """Context in which conf, environments and algorithm are made: what is raised there is mostly the user's mistake."""
    try:
        yield
    except Exception as error:
        from alf.bin._errors import is_mistake
        if not is_mistake(error, while_preparing=True):
            raise
        _fail_by(error)


def _fail_by(error: Exception) -> None:
    from alf.bin._errors import told
    if FLAGS.verbosity > 0:
        import traceback
        traceback.print_exception(error)
    _fail(told(error), 2)


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(f"{error}\nSee: python -m {_module_name()} --help", 2)


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else os.path.basename(sys.argv[0])


def _fail(text: str, code: int) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)
    sys.exit(code)
