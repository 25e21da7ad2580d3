"""Small runs on a disk that takes no checkpoint while a file `full`, which holds an errno, is in the run directory."""

import os

import alf
from alf.utils import _checkpoint_files

_fsync = _checkpoint_files._fsync


def _fsync_if_there_is_room(path):
    folder = path[:path.index("/train/")]
    if os.path.exists(f"{folder}/full"):
        with open(f"{folder}/full") as file:
            number = int(file.read())
        raise OSError(number, os.strerror(number), path)
    _fsync(path)


_checkpoint_files._fsync = _fsync_if_there_is_room
alf.import_config("endless_conf.py")
