"""Checkpoint directories: written beside, renamed into place, and checked by a manifest.

`ckpt-<step>/` holds for each part `<part>.json` (the structure, see `_checkpoint_codec`) and
`<part>.safetensors` (its tensors), and `manifest.json` with their sizes and SHA-256. A directory without a
manifest that fits is no checkpoint. Nothing that is loaded is ever executed: there is no pickle.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import stat
import time
from typing import Any, Iterator, Sequence

import numpy as np
import torch
from absl import logging

from alf.utils._checkpoint_codec import Encoder, decode

FORMAT, FORMAT_VERSION, OLDEST_VERSION = "alf-checkpoint", 1, 1  # the last: that can still be read
MANIFEST = "manifest.json"
_NAME = re.compile(r"ckpt-(\d+)")
_PART_FILE = re.compile(r"[\w-]+\.(json|safetensors)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STALE_SECONDS = 3600.0
_CHUNK_BYTES = 1 << 20


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or is not fit to be loaded."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not what was written: an older one may serve instead."""


def checkpoint_path(ckpt_dir: str, step: int) -> str:
    """Return the directory of the checkpoint at `step`."""
    return os.path.join(ckpt_dir, f"ckpt-{step}")


def list_steps(ckpt_dir: str) -> list[int]:
    """Return the steps of the checkpoints in `ckpt_dir`, ascending; they may be damaged."""
    try:
        names = os.listdir(ckpt_dir)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise CheckpointError(f"{ckpt_dir}: expected a directory of checkpoints, got a file. Move it away.") from None
    matches = filter(None, map(_NAME.fullmatch, names))
    return sorted(int(match[1]) for match in matches if os.path.isdir(os.path.join(ckpt_dir, match[0])))


def list_pickles(ckpt_dir: str) -> list[str]:
    """Return the files in `ckpt_dir` that are named like checkpoints, as other frameworks write them."""
    paths = glob.glob(os.path.join(glob.escape(ckpt_dir), "ckpt-*"))
    return sorted(path for path in paths if _NAME.fullmatch(os.path.basename(path)) and os.path.isfile(path))


# ---------------------------------------------------------------- writing


def write_checkpoint(
    ckpt_dir: str, step: int, parts: dict[str, Any], score: float | None = None, dropped: Sequence[str] = ()
) -> str:
    """Write a checkpoint so that at every moment the old or the new one is whole; return its path.

    Args:
        ckpt_dir: made if it does not exist.
        step: number in the name.
        parts: {file name without ending: nested state}.
        score: how good it is, noted in the manifest; None: not known.
        dropped: names of parts that were left out on purpose, noted in the manifest.
    Raises:
        OSError: if the disk does not take it; nothing is left behind.
        TypeError: if the state holds something that cannot be stored.
    """
    os.makedirs(ckpt_dir, exist_ok=True)
    temporary = os.path.join(ckpt_dir, f".tmp-ckpt-{step}-{socket.gethostname()}-{os.getpid()}")
    final = checkpoint_path(ckpt_dir, step)
    try:
        os.mkdir(temporary)
        files = {}
        for part, state in parts.items():
            encoder = Encoder()
            structure = encoder.encode(state, part)
            if encoder.tensors:
                _save_tensors(encoder.tensors, os.path.join(temporary, f"{part}.safetensors"))
                files[f"{part}.safetensors"] = _seal(os.path.join(temporary, f"{part}.safetensors"))
            with open(os.path.join(temporary, f"{part}.json"), "w", encoding="utf-8") as file:
                json.dump(structure, file, allow_nan=False)
            files[f"{part}.json"] = _seal(os.path.join(temporary, f"{part}.json"))
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "step": step,
            "score": score,
            "dropped": list(dropped),
            "time": time.time(),
            "versions": versions(),
            "files": files,
        }
        _write_manifest(temporary, manifest)
        _move_into_place(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def _write_manifest(path: str, manifest: dict[str, Any]) -> None:
    """Put a manifest into the checkpoint directory `path`, in the place of one that is there, and onto the disk."""
    temporary = os.path.join(path, MANIFEST + ".tmp")
    with open(temporary, "wb") as file:
        file.write(_dump_manifest(manifest))
    _fsync(temporary)
    os.replace(temporary, os.path.join(path, MANIFEST))
    _fsync_directory(path)


def _move_into_place(temporary: str, final: str) -> None:
    """Rename `temporary` to `final`; what is there is first moved out of the way, where `sweep` finds it."""
    replaced = None
    if os.path.lexists(final):
        replaced = os.path.join(os.path.dirname(final), f".old-{os.path.basename(final)}")
        _remove(replaced)
        os.rename(final, replaced)
    try:
        os.rename(temporary, final)
    except OSError:
        if replaced is not None:
            os.rename(replaced, final)
        raise
    _fsync_directory(os.path.dirname(final))
    if replaced is not None:
        _remove(replaced)


def _save_tensors(tensors: dict[str, torch.Tensor], path: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
        # The library makes it readable for its owner alone; whoever may read the directory may read it.
        with contextlib.suppress(OSError):  # not every file system has modes
            os.chmod(path, os.stat(os.path.dirname(path)).st_mode & 0o666)
    except SafetensorError as error:  # how the library tells of a full disk
        raise OSError(f"{path}: {error}") from error


def _seal(path: str) -> dict[str, Any]:
    """Bring a file to the disk and return its size and checksum."""
    _fsync(path)
    return {"bytes": os.path.getsize(path), "sha256": _sha256(path)}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_directory(path: str) -> None:
    """Put the names in a directory onto the disk, where the file system can; several over a network cannot."""
    try:
        _fsync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
        _tell_names_are_not_synced(str(error))


@functools.cache
def _tell_names_are_not_synced(reason: str) -> None:
    logging.warning("The file system of the checkpoints cannot sync directories (%s): after a power failure the newest "
                    "checkpoint may be missing; the one before it is there.", reason)


def _dump_manifest(manifest: dict[str, Any]) -> bytes:
    """Return the manifest's one and only serialization, with its own checksum as last entry."""
    checksum = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return (json.dumps({**manifest, "checksum": checksum}, indent=1) + "\n").encode()


def versions() -> dict[str, str]:
    """Return the versions that manifests tell."""
    return {
        "alf": _alf_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _alf_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("alf-rl")
    except metadata.PackageNotFoundError:
        return "unknown"  # used from a source tree that is not installed


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# ---------------------------------------------------------------- reading


def read_manifest(path: str) -> dict[str, Any]:
    """Return the manifest of the checkpoint directory `path`.

    Raises:
        DamagedCheckpointError: if it is missing or not what was written.
        CheckpointError: if a newer version wrote it.
    """
    try:
        _require_regular(path, MANIFEST)
        with open(os.path.join(path, MANIFEST), "rb") as file:
            raw = file.read()
        manifest = json.loads(raw)
        checksum = manifest.pop("checksum")
        intact = _dump_manifest(manifest) == raw and manifest["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path}: {MANIFEST} cannot be read: {error!r}") from error
    if not intact:
        raise DamagedCheckpointError(f"{path}: {MANIFEST} does not match its checksum {checksum}")
    _check_version(path, manifest)
    _check_manifest(path, manifest)
    if f"ckpt-{manifest['step']}" != os.path.basename(os.path.abspath(path)):
        raise DamagedCheckpointError(
            f"{path}: the manifest is of step {manifest['step']}. Was the directory renamed?"
        )
    return manifest


def _check_version(path: str, manifest: dict[str, Any]) -> None:
    version, versions = manifest.get("version"), manifest.get("versions")
    _require(path, "version", version, type(version) is int, "a whole number")
    if not OLDEST_VERSION <= version <= FORMAT_VERSION:
        writer = versions.get("alf", "unknown") if isinstance(versions, dict) else "unknown"
        raise CheckpointError(
            f"{path}: written in format {version} by alf {writer}; this alf reads formats {OLDEST_VERSION} to "
            f"{FORMAT_VERSION}. Install that version."
        )


def _check_manifest(path: str, manifest: dict[str, Any]) -> None:
    """Raise if a field that is used is not of the kind that is written: who can write files can write checksums."""
    step, score, dropped = manifest.get("step"), manifest.get("score"), manifest.get("dropped", [])
    names, sealed = manifest.get("versions"), manifest.get("files")
    _require(path, "step", step, type(step) is int and step >= 0, "a number of iterations")
    _require(path, "score", score, score is None or _is_finite(score), "null or a finite number")
    _require(path, "dropped", dropped, _is_list_of_text(dropped), "a list of names")
    is_text = isinstance(names, dict) and _is_list_of_text(list(names.values()))
    _require(path, "versions", names, is_text, "versions by name")
    _require(path, "files", sealed, isinstance(sealed, dict) and bool(sealed), "sizes and checksums by name")
    for name, seal in sealed.items():
        _require(path, "files", name, bool(_PART_FILE.fullmatch(name)), "names of parts")
        is_seal = (
            isinstance(seal, dict)
            and type(seal.get("bytes")) is int
            and isinstance(seal.get("sha256"), str)
            and bool(_SHA256.fullmatch(seal["sha256"]))
        )
        _require(path, f"files.{name}", seal, is_seal, "size and checksum")


def _require(path: str, field: str, value: Any, is_right: bool, expected: str) -> None:
    if not is_right:
        raise DamagedCheckpointError(f"{path}: {MANIFEST}: {field}: expected {expected}, got {value!r:.80}")


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and bool(np.isfinite(float(value)))


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _require_regular(path: str, name: str) -> None:
    """Raise if a file of a checkpoint is missing, or is something that is read for ever, as a pipe is."""
    try:
        mode = os.stat(os.path.join(path, name)).st_mode
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{path}: {name} is missing") from None
    if not stat.S_ISREG(mode):
        raise DamagedCheckpointError(f"{path}: {name} is not a file but a {_told_kind(mode)}")


def _told_kind(mode: int) -> str:
    return "directory" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device or socket"


def read_part(path: str, manifest: dict[str, Any], part: str) -> Any:
    """Return the state stored as `part`.

    Raises:
        DamagedCheckpointError: if its files are not what was written.
    """
    with _damage_told(path):
        structure_file, tensor_file = f"{part}.json", f"{part}.safetensors"
        _verify(path, manifest, structure_file)
        with open(os.path.join(path, structure_file), encoding="utf-8") as file:
            structure = json.load(file)
        tensors = {}
        if tensor_file in manifest["files"]:
            from safetensors.torch import load_file

            _verify(path, manifest, tensor_file)
            tensors = load_file(os.path.join(path, tensor_file))
        return decode(structure, tensors)


def _verify(path: str, manifest: dict[str, Any], name: str) -> None:
    expected = manifest["files"][name]
    file = os.path.join(path, name)
    _require_regular(path, name)
    size = os.path.getsize(file)
    if size != expected["bytes"]:
        raise DamagedCheckpointError(f"{path}: {name} has {size} bytes, {expected['bytes']} were written")
    if _sha256(file) != expected["sha256"]:
        raise DamagedCheckpointError(
            f"{path}: {name} does not match its checksum: its content has changed since it was written"
        )


@contextlib.contextmanager
def _damage_told(path: str) -> Iterator[None]:
    """Turn whatever reading a file with the right checksum may raise into a DamagedCheckpointError."""
    try:
        yield
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise DamagedCheckpointError(f"{path}: cannot be read: {error!r}") from error


# ---------------------------------------------------------------- tidying


def sweep(ckpt_dir: str) -> None:
    """Remove what killed processes left behind, and put back what they had moved out of the way."""
    for replaced in glob.glob(os.path.join(glob.escape(ckpt_dir), ".old-ckpt-*")):
        final = os.path.join(ckpt_dir, os.path.basename(replaced).removeprefix(".old-"))
        if os.path.lexists(final):
            shutil.rmtree(replaced, ignore_errors=True)
        elif not _writers(ckpt_dir, final):
            with contextlib.suppress(OSError):  # a read-only directory: then the others have to do
                os.rename(replaced, final)
    for temporary in glob.glob(os.path.join(glob.escape(ckpt_dir), ".tmp-ckpt-*")):
        if _is_stale(temporary):
            logging.warning("Removing %s, left behind by a process that was killed.", temporary)
            shutil.rmtree(temporary, ignore_errors=True)


def _writers(ckpt_dir: str, final: str) -> list[str]:
    """Return the temporary directories of processes that are about to write `final`."""
    pattern = os.path.join(glob.escape(ckpt_dir), f".tmp-{os.path.basename(final)}-*")
    return [temporary for temporary in glob.glob(pattern) if not _is_stale(temporary)]


def _is_stale(temporary: str) -> bool:
    """Return whether nobody is writing `temporary` any more; another machine's is given an hour."""
    host, _, pid = temporary.rpartition("-")
    if host.endswith("-" + socket.gethostname()) and pid.isdigit():
        if int(pid) == os.getpid():
            return True
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    try:
        return time.time() - os.path.getmtime(temporary) > _STALE_SECONDS
    except FileNotFoundError:
        return False


def rotate(ckpt_dir: str, max_to_keep: int | None, saved_step: int) -> None:
    """Remove the oldest checkpoints beyond `max_to_keep`.

    Args:
        ckpt_dir: directory of the checkpoints.
        max_to_keep: None keeps all.
        saved_step: the step just saved, which stays also where an earlier run has left higher ones.
    """
    steps = list_steps(ckpt_dir)
    if max_to_keep is None or len(steps) <= max_to_keep:
        return
    for step in steps[:-max_to_keep]:
        if step != saved_step:
            # without its name a half-removed checkpoint can not be taken for a damaged one
            doomed = os.path.join(ckpt_dir, f".tmp-ckpt-{step}-{socket.gethostname()}-{os.getpid()}")
            try:
                os.rename(checkpoint_path(ckpt_dir, step), doomed)
                shutil.rmtree(doomed)
            except OSError as error:
                logging.warning("The old checkpoint of step %d could not be removed: %s.", step, error)


def drop_parts(ckpt_dir: str, ending: str, saved_step: int) -> None:
    """Remove the parts whose names have that ending from all checkpoints but one; manifests then tell they are dropped.

    A kill in between leaves files that no manifest names; the next call removes them.

    Args:
        ckpt_dir: directory of the checkpoints.
        ending: of names of parts.
        saved_step: the step that keeps them.
    """
    for step in list_steps(ckpt_dir):
        path = checkpoint_path(ckpt_dir, step)
        if step == saved_step:
            continue
        try:
            manifest = read_manifest(path)
            names = {name for name in manifest["files"] if os.path.splitext(name)[0].endswith(ending)}
            if names:
                manifest["files"] = {name: seal for name, seal in manifest["files"].items() if name not in names}
                dropped = {os.path.splitext(name)[0] for name in names}
                manifest["dropped"] = sorted({*manifest.get("dropped", ()), *dropped})
                _write_manifest(path, manifest)
            for name in set(os.listdir(path)) - {MANIFEST, *manifest["files"]}:
                os.unlink(os.path.join(path, name))
        except CheckpointError:
            continue  # a damaged one stays as it is, for whoever wants to look at it
        except OSError as error:
            logging.warning("%s could not be made smaller: %s.", path, error)
