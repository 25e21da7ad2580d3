"""Steps that were lost, with their worker or because they were not finite: nothing is learned across the gap."""

import functools
import os
import pathlib

import pytest
import torch

from alf.algorithms._training.unroll import Unroll
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.config import TrainerConfig
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.data_structures import StepType
from alf.environments import suite_gym
from alf.environments.alf_wrappers import AlfEnvironmentBaseWrapper
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.networks import ActorDistributionNetwork, CriticNetwork
from alf.optimizers import Adam

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


class EndsItsProcess(AlfEnvironmentBaseWrapper):
    """An environment that ends its process at a step, if none has done so before."""

    def __init__(self, env, num_steps, marker):
        super().__init__(env)
        self._left, self._marker = num_steps, marker

    def _step(self, action):
        self._left -= 1
        if self._left == 0 and not self._marker.exists():
            self._marker.touch()
            os._exit(1)
        return super()._step(action)


class Diverges(AlfEnvironmentBaseWrapper):
    """An environment whose reward is NaN at a step."""

    def __init__(self, env, num_steps, marker):
        super().__init__(env)
        self._left = num_steps

    def _step(self, action):
        self._left -= 1
        time_step = super()._step(action)
        return time_step._replace(reward=time_step.reward * float("nan")) if self._left == 0 else time_step


def load(breaks, marker, num_steps, env_id=0):
    env = suite_gym.load("CartPole-v1", env_id=env_id, max_episode_steps=6)
    return breaks(env, num_steps, marker) if env_id == 2 else env


@pytest.fixture(params=[{"breaks": EndsItsProcess, "num_workers": 2, "on_worker_death": "restart"},
                        {"breaks": Diverges, "num_workers": 2, "on_non_finite": "reset"},
                        {"breaks": Diverges, "num_workers": 0, "on_non_finite": "reset"}],
                ids=["lost worker", "NaN from a worker", "NaN in this process"])
def pool(request, tmp_path):
    """Return a function that makes a pool in which a step of environment 2 is lost."""
    made = []
    options = dict(request.param)
    breaks = options.pop("breaks")

    def make(num_steps, **kwargs):
        marker = pathlib.Path(tmp_path, "ended")
        env = FastParallelEnvironment([functools.partial(load, breaks, marker, num_steps)] * 4, **options, **kwargs)
        made.append(env)
        env.seed(7)
        return env

    yield make
    for env in made:
        assert 2 in env.interrupted_envs
        env.close()


def assert_episodes_are_whole(step_type):
    """Assert that no transition leads to a time step that is FIRST, and each to one that is MID.

    A lost episode of which there was nothing but its FIRST is a LAST after a LAST.

    Args:
        step_type: ``[T, B]``, successive.
    """
    ended = step_type[:-1] == LAST
    assert ended[step_type[1:] == FIRST].all() and not ended[step_type[1:] == MID].any()


# In the middle of an unroll, at its last step, and at the first of the next one.
@pytest.mark.parametrize("num_steps", [3, 5, 6])
@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("with_last_step", [True, False])
def test_unrolls_have_whole_episodes(pool, networks, tmp_path, num_steps, num_parts, with_last_step):
    env = pool(num_steps, num_parts=num_parts if with_last_step or num_parts == 1 else 1)
    torch.manual_seed(1)
    algorithm = ActorCriticAlgorithm(env.observation_spec(), env.action_spec(), env=env, optimizer=Adam(lr=1e-2),
                                     config=TrainerConfig(root_dir=str(tmp_path), unroll_length=5), **networks[False])
    unroll = Unroll(algorithm, env, keep_state=False, steps_ahead=not with_last_step)
    rows = []
    for _ in range(4):
        experience, inputs, _ = unroll.run(5, with_last_step)
        assert torch.equal(experience.step_type, inputs.step_type)
        rows.append(experience.step_type[:5])
    step_type = torch.cat(rows)
    assert_episodes_are_whole(step_type)
    assert (step_type[:, 2] == LAST).sum() >= 3


@pytest.mark.parametrize("num_steps", [7, 8, 9])
def test_replay_samples_no_transition_across_the_gap(pool, tmp_path, num_steps):
    env = pool(num_steps)
    torch.manual_seed(1)
    config = TrainerConfig(root_dir=str(tmp_path), unroll_length=2, whole_replay_buffer_training=False,
                           clear_replay_buffer=False, mini_batch_size=8, mini_batch_length=2, initial_collect_steps=10,
                           num_updates_per_train_iter=1)
    algorithm = SacAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config,
        actor_network_cls=functools.partial(ActorDistributionNetwork, fc_layer_params=(8, )),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8, )),
        actor_optimizer=Adam(lr=1e-2), critic_optimizer=Adam(lr=1e-2), alpha_optimizer=Adam(lr=1e-2))
    algorithm.attach_optimizers()
    for _ in range(10):
        algorithm.train_iter()
    experience, _ = algorithm._replay.buffer.gather_all()
    assert_episodes_are_whole(experience.step_type.T)
    batch, _ = algorithm._replay.buffer.get_batch(512, 2)
    starts = batch.step_type[:, 0] != LAST
    assert starts.any() and not (batch.step_type[starts, 1] == FIRST).any()
