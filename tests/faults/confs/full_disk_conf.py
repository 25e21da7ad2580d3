"""Small runs on a disk that takes no checkpoint while a file `full`, which holds an errno, is in the run directory."""

import os

import alf
from alf.examples import ppo_conf  # noqa: F401
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
alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("ActorDistributionNetwork", fc_layer_params=(8, ))
alf.config("ValueNetwork", fc_layer_params=(8, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", random_seed=1, unroll_length=8, num_iterations=10**9, num_checkpoints=10**9)
