"""A run in whose fourth iteration memory runs out, unless it did before: then the file `marker` is there."""

import os

import torch

import alf
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.examples import ppo_conf  # noqa: F401

marker = alf.define_config("marker", "")
_calc_loss = PPOAlgorithm.calc_loss


def _calc_loss_if_there_is_room(algorithm, info):
    if alf.progress.get_progress("iterations") >= 3 and not os.path.exists(marker):
        open(marker, "w").close()
        torch.empty(2**55)
    return _calc_loss(algorithm, info)


PPOAlgorithm.calc_loss = _calc_loss_if_there_is_room
alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=2, num_workers=0)
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-2))
alf.config("TrainerConfig", unroll_length=8, mini_batch_size=8, mini_batch_length=1, num_updates_per_train_iter=1,
           num_iterations=6, num_checkpoints=1)
