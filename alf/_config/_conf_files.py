"""Runs conf files, and remembers which ones, so that they can be run again and saved."""

from __future__ import annotations

import os
import sys
from types import FrameType

from alf._config._errors import CONF_MODULE_NAME, ConfigError, Place, conf_place, place_of, user_frame
from alf._config._registry import USER_PATH, registry
from alf._config._store import LOCK, store


class ConfigModule:
    """The names a conf file defined, as attributes: what `load_config` and `import_config` return."""

    def __repr__(self) -> str:
        return f"<conf {vars(self).get('__file__', '')}>"


class ConfFile:
    """A conf file that was run: its text as it was then, and the confs it imported, by the names it wrote."""

    def __init__(self, path: str, source: bytes):
        self.path = path
        self.source = source
        self.module = ConfigModule()
        self.imports: list[tuple[str, ConfFile]] = []


class _Loading:
    """The confs that are running, outermost first; those that have run in this load; the last one loaded."""

    def __init__(self) -> None:
        self.stack: list[ConfFile] = []
        self.done: dict[str, ConfFile] = {}
        self.root: ConfFile | None = None
        self.python_modules: set[str] = set()  # confs imported as Python modules
        self.user_names: set[str] = set()  # what confs have put under USER_PATH


_loading = _Loading()


def loaded_conf() -> ConfFile | None:
    """Return the conf file of the last `load_config`, None if there was none since the last reset."""
    return _loading.root


def load_config(conf_file: str) -> ConfigModule:
    """Run a conf file and return the names it defines.

    Confs it imports, as Python modules too, run again even if an earlier load has run them. If it fails, the
    configuration is as it was before, so that the next load starts clean.

    Args:
        conf_file: path of the file, relative to the working directory or to a folder of `ALF_CONFIG_PATH`.

    Raises:
        ConfigError: if there is no such file, it is not valid Python, or it configures something wrongly.
        Exception: whatever the conf raises, with a note that names its file and line.
    """
    place = place_of(user_frame())
    path = _find(conf_file, [os.getcwd()], place)
    return _run_imported(conf_file, path, place).module if _loading.stack else _run_root(path, fresh=True)


def import_config(conf_file: str) -> ConfigModule:
    """Run another conf file from inside a conf, once per load, and return the names it defines.

    Args:
        conf_file: path of the file, relative to the folder of the importing conf or to one of
            `ALF_CONFIG_PATH`.

    Raises:
        ConfigError: as `load_config`, and if confs import each other in a circle.
    """
    frame = user_frame()
    place = place_of(frame)
    if not _loading.stack:
        return _run_root(_find(conf_file, [os.getcwd()], place), fresh=False)
    note_python_imports(frame)
    folders = [os.path.dirname(_loading.stack[-1].path)]
    if frame.f_code.co_name == "<module>":  # else a helper in another file, which imports for the conf
        folders.insert(0, os.path.dirname(os.path.abspath(frame.f_code.co_filename)))
    return _run_imported(conf_file, _find(conf_file, folders, place), place).module


def _run_root(path: str, fresh: bool) -> ConfigModule:
    """Run a conf that no other conf imports; if `fresh`, without what earlier confs have defined."""
    with LOCK:
        if fresh:
            forget_confs()
        before, user_names = store.snapshot(), set(_loading.user_names)
    try:
        conf = _run(path)
    except BaseException:
        with LOCK:
            store.restore(before)
            _forget_user_names(_loading.user_names - user_names)
            clear_all_plans()
        raise
    finally:
        _loading.done.clear()
    if fresh or _loading.root is None:
        _loading.root = conf
    return conf.module


def _run_imported(name: str, path: str, place: Place) -> ConfFile:
    importer = _loading.stack[-1]
    running = [conf.path for conf in _loading.stack]
    if path in running:
        chain = " -> ".join(map(os.path.basename, [*running[running.index(path) :], path]))
        raise ConfigError(f"Confs import each other in a circle ({place}): {chain}.")
    conf = _loading.done.get(path) or _run(path)
    # A conf module of Python finds what lies beside it again without our help.
    if place.filename == importer.path or os.path.dirname(path) != os.path.dirname(place.filename):
        importer.imports.append((name, conf))
    return conf


def _run(path: str) -> ConfFile:
    with open(path, "rb") as file:
        conf = ConfFile(path, file.read())
    code = _compile(conf)
    names = vars(conf.module)
    names.update(__name__=CONF_MODULE_NAME, __file__=path, __package__="", __spec__=None, __doc__=None)
    outer = sys.modules.get(CONF_MODULE_NAME)
    sys.modules[CONF_MODULE_NAME] = conf.module  # dataclasses and the like look their module up
    _loading.stack.append(conf)
    try:
        exec(code, names)
    except Exception as error:
        line = _line_in(error, path)
        error.add_note(f"In conf {path}, line {line}" if line else f"In conf {path}")
        raise
    finally:
        _loading.stack.pop()
        if outer is None:
            del sys.modules[CONF_MODULE_NAME]
        else:
            sys.modules[CONF_MODULE_NAME] = outer
    _loading.done[path] = conf
    return conf


def _line_in(error: BaseException, path: str) -> int | None:
    """Return the line of the file `path` that `error` went through last."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _find(conf_file: str, folders: list[str], place: Place) -> str:
    """Return the absolute path of a conf file: in `folders`, else in those of `ALF_CONFIG_PATH`."""
    name = os.path.expanduser(os.fspath(conf_file))
    folders = [*folders, *filter(None, os.environ.get("ALF_CONFIG_PATH", "").split(os.pathsep))]
    candidates = list(dict.fromkeys(os.path.abspath(os.path.join(f, name)) for f in folders))
    for path in candidates:
        if os.path.isfile(path):
            return path
    for path in candidates:
        if os.path.isdir(path):
            confs = sorted(file for file in os.listdir(path) if file.endswith("_conf.py"))[:3]
            example = f", such as {', '.join(confs)}" if confs else ""
            raise ConfigError(f"Conf file {path} ({place}) is a directory. Give a file in it{example}.")
    raise ConfigError(
        f"Cannot find conf file {conf_file} ({place}). Looked for {', '.join(candidates)}."
        + _similar(candidates[0])
    )


def _similar(path: str) -> str:
    import difflib

    folder, name = os.path.split(path)
    near = difflib.get_close_matches(name, os.listdir(folder), 3) if os.path.isdir(folder) else []
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _compile(conf: ConfFile):
    """Return the code of a conf; a mistake in its text is told in two or three lines, without our frames."""
    try:
        conf.source.decode()
    except UnicodeDecodeError as error:
        if not any(b"coding" in line for line in conf.source.splitlines()[:2]):
            line = conf.source.count(b"\n", 0, error.start) + 1
            raise ConfigError(
                f"Conf file {conf.path}, line {line}: not valid UTF-8 "
                f"(byte 0x{conf.source[error.start]:02x}). Save it as UTF-8."
            ) from None
    try:
        return compile(conf.source, conf.path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ConfigError(_syntax_message(conf.path, error)) from None
    except ValueError as error:  # null bytes
        raise ConfigError(f"Conf file {conf.path} is not Python source: {error}.") from None


def _syntax_message(path: str, error: SyntaxError) -> str:
    message = f"Conf file {path}, line {error.lineno}: {error.msg}"
    if not error.text:
        return message
    text = error.text.rstrip("\n")
    stripped = text.lstrip()
    start = max((error.offset or 1) - 1 - (len(text) - len(stripped)), 0)
    end = error.end_offset if error.end_lineno == error.lineno and error.end_offset else 0
    width = max(end - (error.offset or 1), 1)
    return f"{message}\n    {stripped}\n    {' ' * start}{'^' * width}"


def note_python_imports(frame: FrameType) -> None:
    """Remember the Python modules whose import leads to a setting at `frame`: they are confs, too.

    `from alf.examples import sac_conf` must run the settings of `sac_conf` again in the next load, so Python
    has to forget the module, and every module between it and the conf file that is running.
    """
    current: FrameType | None = frame
    while current is not None and current.f_globals.get("__name__") != CONF_MODULE_NAME:
        spec = current.f_globals.get("__spec__")
        if current.f_code.co_name == "<module>" and getattr(spec, "_initializing", False):
            _loading.python_modules.add(current.f_globals["__name__"])
        if not _loading.stack:
            return  # imported by a script or a test: only the module with the setting itself is a conf
        current = current.f_back


def note_user_name(name: str, frame: FrameType) -> None:
    """Remember that a conf, if it is one that runs at `frame`, has defined the user's value `name`."""
    if conf_place(frame) is not None or frame.f_globals.get("__name__") in _loading.python_modules:
        _loading.user_names.add(name)


def forget_confs() -> None:
    """Forget what confs have defined, and make Python import those that are modules anew."""
    clear_all_plans()
    _forget_user_names(_loading.user_names)
    registry.keep_only([entry for entry in registry if not _is_of_conf(entry.module)])
    for name in _loading.python_modules:
        module = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        # `from package import module` takes the attribute of the package where there is one.
        if module is not None and parent in sys.modules and vars(sys.modules[parent]).get(child) is module:
            delattr(sys.modules[parent], child)
    _loading.python_modules.clear()


def _forget_user_names(names: set[str]) -> None:
    for name in list(names):
        path, _, arg = name.rpartition(".")
        registry.get(path).args.pop(arg)
        _loading.user_names.discard(name)


def _is_of_conf(module: str) -> bool:
    return module == CONF_MODULE_NAME or module in _loading.python_modules


def clear_all_plans() -> None:
    """Make every configurable callable look its arguments up again."""
    for entry in registry:
        entry.clear_plans()


def reset_configs() -> None:
    """Bring the configuration back to what it was before anything was set, used, defined or loaded."""
    with LOCK:
        forget_confs()
        registry.keep_only([entry for entry in registry if not entry.path.startswith(USER_PATH)])
        store.clear()
        _loading.root = None
