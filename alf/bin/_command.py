"""What the commands share: flags, logging, errors as a person reads them. Nothing heavy is imported for ``--help``."""

import contextlib
import os
import sys
from typing import Callable, Iterator, List, Union

from absl import app, flags

FLAGS = flags.FLAGS


def define_run_flags(conf_help: str, needs_root_dir: bool = True) -> None:
    """Define the flags of every command: ``--root_dir``, ``--conf``, ``--conf_param``.

    Args:
        conf_help: what ``--conf`` means to the command.
        needs_root_dir: whether ``--root_dir`` must always be given.
    """
    flags.DEFINE_string("root_dir", os.environ.get("TEST_UNDECLARED_OUTPUTS_DIR"),
                        "Directory of the run: everything it writes.")
    flags.DEFINE_string("conf", None, conf_help)
    flags.DEFINE_multi_string("conf_param", None, "A value that wins over the conf: 'name=expression'.")
    if needs_root_dir:
        flags.register_validator("root_dir", bool, "expected --root_dir DIR, the directory of a run")


class _CountParser(flags.ArgumentParser):
    """Reads the value of a flag that may have none."""

    def parse(self, argument):
        """Return the number; 0 without one, None for ``--noname``."""
        if argument in ("true", "false", None):
            return 0 if argument == "true" else None
        if not str(argument).isdecimal() or int(argument) < 1:
            raise ValueError(f"expected nothing or a number of at least 1, got {argument!r}")
        return int(argument)

    def flag_type(self) -> str:
        """Return what is shown as the type."""
        return "number that may be left out"


class _OptionalCount(flags.Flag):
    """A flag that may stand alone, ``--name``, or have a number, ``--name=5``."""

    def __init__(self, name: str, help_text: str):
        super().__init__(_CountParser(), None, name, None, help_text)
        self.boolean = True


def define_optional_count(name: str, help_text: str) -> None:
    """Define ``--name`` or ``--name=N``: None if it is not given, 0 without a number.

    Args:
        name: of the flag.
        help_text: what it does, N being the number.
    """
    flags.DEFINE_flag(_OptionalCount(name, help_text))


def define_deterministic_flag() -> None:
    """Define ``--force_torch_deterministic``."""
    flags.DEFINE_bool("force_torch_deterministic", True, "Use deterministic algorithms of PyTorch where there are any.")


def heed_deterministic_flag() -> None:
    """Let PyTorch be deterministic if ``--force_torch_deterministic`` says so."""
    if FLAGS.force_torch_deterministic:
        import torch

        # The same as use_deterministic_algorithms(True, warn_only=True), which takes a second to import the compiler.
        torch.set_deterministic_debug_mode("warn")
        torch.utils.deterministic.fill_uninitialized_memory = False  # all is written before it is read
        torch.backends.cudnn.benchmark = False


def define_not_offered(name: str, advice: str) -> None:
    """Define a published flag that is only taken as false, ``--noname``.

    Args:
        name: of the flag.
        advice: what there is instead.
    """
    flags.DEFINE_bool(name, False, f"Not offered: {advice}.")
    flags.register_validator(name, lambda value: not value, f"not offered: {advice}")


def define_checkpoint_flag() -> None:
    """Define ``--checkpoint_step``."""
    flags.DEFINE_string("checkpoint_step", "latest", "Iteration of the checkpoint, or 'best', that of the highest "
                        "return in an evaluation while training, or 'latest'.")
    flags.register_validator("checkpoint_step", lambda step: step in ("latest", "best") or step.isdecimal(),
                             "expected the number of an iteration, 'best' or 'latest'")


def checkpoint_step() -> Union[int, str]:
    """Return ``--checkpoint_step``: a number, "best" or "latest"."""
    return int(FLAGS.checkpoint_step) if FLAGS.checkpoint_step.isdecimal() else FLAGS.checkpoint_step


def root_dir() -> str:
    """Return the absolute path of ``--root_dir``."""
    return os.path.realpath(os.path.expanduser(os.path.expandvars(FLAGS.root_dir)))


def conf_file() -> str:
    """Return the path of ``--conf``, which may name an example; without it, that of the conf that the run keeps.

    Raises:
        FileNotFoundError: if there is no such file, naming the nearest, or where examples are.
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
    wanted = _bare_name(FLAGS.conf)
    near_names = difflib.get_close_matches(wanted, map(_bare_name, known), n=3)
    nearest = [name for near in dict.fromkeys(near_names) for name in known if _bare_name(name) == near][:3]
    return f" Did you mean {' or '.join(nearest)}?" if nearest else f" Examples of confs are in {examples}."


def _bare_name(path: str) -> str:
    """Return the name of a conf file without what all have, by which all would be alike."""
    return os.path.basename(path).removesuffix(".py").removesuffix("_conf")


def run(main: Callable[[List[str]], None]) -> None:
    """Run a command, and end with 0 (done), 1 (failed), 2 (mistake in flags or conf), 130 or 143 (told to leave)."""

    def guarded(argv):
        if len(argv) > 1:
            counts = [f"--{name}={argv[1]}" for name in FLAGS if isinstance(FLAGS[name], _OptionalCount)]
            meant = f" Did you mean {' or '.join(counts)}?" if counts and argv[1].isdecimal() else ""
            fail(f"unknown argument {argv[1]!r}.{meant} See: python -m {_module_name()} --help", 2)
        try:
            from alf.trainers._run_log import start_console
            start_console(FLAGS.verbosity if FLAGS["verbosity"].present else 0)
            main(argv)
        except KeyboardInterrupt:
            fail("interrupted", 130)
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
    from alf.bin._errors import exit_code, told
    if FLAGS.verbosity > 0:
        import traceback
        traceback.print_exception(error)
    fail(told(error), exit_code(error))


def _parse_flags(argv):
    try:
        return flags.FLAGS(argv)
    except SystemExit:  # of --help; absl ends with 1
        sys.exit(0)
    except flags.Error as error:
        fail(f"{error}\nSee: python -m {_module_name()} --help", 2)


def _module_name() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else os.path.basename(sys.argv[0])


def fail(text: str, code: int) -> None:
    """Tell an error, and end with this exit code."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    sys.exit(code)
