"""Small runs that save after each iteration, which takes a second or more."""

import time

import alf
from alf.utils import _checkpoint_files

_save_tensors = _checkpoint_files._save_tensors


def _save_slowly(*arguments):
    time.sleep(1)
    _save_tensors(*arguments)


_checkpoint_files._save_tensors = _save_slowly
alf.import_config("endless_conf.py")
