"""`save_config`: writes the configuration of a run as a conf that runs again."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator

from alf._config._conf_files import ConfFile, loaded_conf
from alf._config._errors import ConfigError
from alf._config._source import NotWritable, to_source
from alf._config._store import store

_HEAD = b'"""The configuration of a run, written by alf.save_config. It is a conf file itself."""'
_FOLDER = "config_files"


def save_config(alf_config_file: str) -> None:
    """Write the loaded conf, with everything it imported, as a conf file that gives the same configuration.

    `alf_config_file` holds the pre-configs and imports `config_files/<conf>.py` beside it, where the conf
    files lie as they were when they ran, in folders that keep their relative names valid. Confs that were
    imported as Python modules are not copied: they come from their package again.

    Args:
        alf_config_file: path of the file to write, usually `<root_dir>/alf_config.py`.

    Raises:
        ConfigError: if no conf has been loaded, or a pre-config value cannot be written as Python source.
    """
    conf = _conf_to_save()
    files = _layout(conf)
    imported = next(iter(files))
    folder = os.path.join(os.path.dirname(os.path.abspath(alf_config_file)), _FOLDER)
    for name, source in files.items():
        _write(os.path.join(folder, name), source)
    lines = [*_pre_config_lines(), f"config = alf.import_config({f'{_FOLDER}/{imported}'!r})", ""]
    _write(alf_config_file, _HEAD + b"\n\nimport alf\n" + "\n".join(lines).encode())


def _conf_to_save() -> ConfFile:
    conf = loaded_conf()
    if conf is None:
        raise ConfigError("alf.save_config: no conf file has been loaded, so there is nothing to save.")
    while conf.source.startswith(_HEAD) and conf.imports:
        conf = conf.imports[0][1]  # a saved run that runs again: its pre-configs are among ours
    return conf


def _layout(root: ConfFile) -> dict[str, bytes]:
    """Return relative path -> source for `root` (first) and all it imports.

    A conf lies where the name its importer wrote leads from the importer's copy. So that `../base_conf.py`
    stays inside the folder, the root lies as many folders deep as names lead above it.
    """
    placed = list(_places(root, os.path.basename(root.path), set()))
    above = max(place.split("/").count("..") for place, _ in placed)
    folders = os.path.dirname(root.path).split(os.sep)
    prefix = "/".join(folders[len(folders) - above :])
    files: dict[str, ConfFile] = {}
    for place, conf in placed:
        other = files.setdefault(os.path.normpath(os.path.join(prefix, place)).replace(os.sep, "/"), conf)
        if other.path != conf.path:
            raise ConfigError(f"alf.save_config: {other.path} and {conf.path} would both lie at {place}.")
    return {place: conf.source for place, conf in files.items()}


def _places(conf: ConfFile, place: str, seen: set) -> Iterator[tuple[str, ConfFile]]:
    if (place, conf.path) in seen:
        return
    seen.add((place, conf.path))
    yield place, conf
    for name, imported in conf.imports:
        name = os.path.expanduser(name)
        if os.path.isabs(name):  # e.g. made from the importing conf's __file__
            name = os.path.relpath(imported.path, os.path.dirname(conf.path))
        beside = os.path.normpath(os.path.join(os.path.dirname(place), name))
        yield from _places(imported, beside.replace(os.sep, "/"), seen)


def _pre_config_lines() -> list[str]:
    """Return the lines that make the pre-configs again."""
    modules: set[str] = set()
    items = []
    for name, setting in {**store.handled, **store.pending}.items():
        source = store.sources.get(name)
        try:
            if source is None:
                source = to_source(setting.value, modules)
            else:
                names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
                modules |= names & sys.modules.keys()
        except NotWritable as error:
            raise ConfigError(
                f"alf.save_config: the pre-config {name} ({setting.place}) cannot be written to a file: "
                f"{error}. Set it in the conf file instead."
            ) from None
        items.append(f"    {name!r}: {source},")
    imports = [f"import {module}" for module in sorted(modules - {"alf"})]
    return [*imports, "", *(["alf.pre_config({", *items, "})"] if items else [])]


def _write(path: str, source: bytes) -> None:
    """Write a file beside its place and rename it, so that a reader never sees half of it."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(source)
    os.replace(temporary, path)
