"""Unrolls of environments that are stepped in parts or in the background: the same experience as without."""

import copy
import functools
import time

import pytest
import torch

from alf.algorithms._training.from_replay import prepare_experience
from alf.algorithms._training.unroll import Unroll
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.config import TrainerConfig
from alf.algorithms.data_transformer import FrameStacker, ObservationNormalizer
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.environments import suite_gym
from alf.environments.alf_wrappers import AlfEnvironmentBaseWrapper
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.nest import flatten, map_structure
from alf.networks import ActorDistributionNetwork, CriticNetwork
from alf.optimizers import Adam


class FailsAtStep(AlfEnvironmentBaseWrapper):
    """An environment whose ``num_steps``-th step raises."""

    def __init__(self, env, num_steps):
        super().__init__(env)
        self._left = num_steps

    def _step(self, action):
        self._left -= 1
        if self._left == 0:
            raise FloatingPointError("the pole is gone")
        return super()._step(action)


class Marks(AlfEnvironmentBaseWrapper):
    """An environment that takes its time for a step, and makes a file when it is made."""

    def __init__(self, env, path):
        super().__init__(env)
        self._path = path

    def _step(self, action):
        time.sleep(0.1)
        self._path.touch()
        return super()._step(action)


def failing(name, env_id=0):
    env = suite_gym.load(name, env_id=env_id)
    return FailsAtStep(env, 4) if env_id == 2 else env


@pytest.fixture
def pool():
    """Return a function that makes a pool of seeded environments."""
    made = []

    def make(num_workers, num_parts=1, name="CartPole-v1", num_envs=4, load=suite_gym.load, **kwargs):
        env = FastParallelEnvironment([functools.partial(load, name)] * num_envs, num_workers=num_workers,
                                      num_parts=num_parts, **kwargs)
        made.append(env)
        env.seed(7)
        return env

    yield make
    for env in made:
        env.close()


def actor_critic(env, networks, tmp_path, recurrent=False, transformer=None, cls=ActorCriticAlgorithm, **kwargs):
    """Return A2C, or PPO, with networks that are the same each time."""
    torch.manual_seed(1)
    config = TrainerConfig(root_dir=str(tmp_path), unroll_length=5)
    if transformer is not None:
        config.data_transformer = transformer(env.observation_spec())
        spec = config.data_transformer.transformed_observation_spec
    else:
        spec = env.observation_spec()
    return cls(spec, env.action_spec(), env=env, config=config, optimizer=Adam(lr=1e-2), **networks[recurrent],
               **kwargs)


def sac(env, tmp_path, transformer=None, **kwargs):
    torch.manual_seed(1)
    config = TrainerConfig(root_dir=str(tmp_path), unroll_length=2, whole_replay_buffer_training=False,
                           clear_replay_buffer=False, mini_batch_size=8, mini_batch_length=2, initial_collect_steps=10,
                           num_updates_per_train_iter=1, **kwargs)
    if transformer is not None:
        config.data_transformer = transformer(env.observation_spec())
    small = dict(fc_layer_params=(8, ))
    return SacAlgorithm(
        env.observation_spec(), env.action_spec(), env=env, config=config,
        actor_network_cls=functools.partial(ActorDistributionNetwork, **small),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8, )),
        actor_optimizer=Adam(lr=1e-2), critic_optimizer=Adam(lr=1e-2), alpha_optimizer=Adam(lr=1e-2))


def assert_equal(found, expected):
    leaves, right = flatten(found), flatten(expected)
    assert len(leaves) == len(right) > 0
    for leaf, expected_leaf in zip(leaves, right, strict=True):
        assert leaf.dtype == expected_leaf.dtype and torch.equal(leaf, expected_leaf)


def parameters(algorithm):
    return [p.detach().clone() for p in algorithm.parameters()]


@pytest.mark.parametrize("num_parts", [2, 4])
@pytest.mark.parametrize("recurrent", [False, True])
def test_overlapped_training_equals_training_with_parts_stepped_one_after_the_other(pool, networks, tmp_path, recurrent,
                                                                                   num_parts):
    results = []
    for num_workers in (0, 1, 2):
        algorithm = actor_critic(pool(num_workers, num_parts), networks, tmp_path, recurrent)
        seen = []
        unroll = algorithm.unroll
        algorithm.unroll = lambda length, unroll=unroll, seen=seen: seen.append(unroll(length)) or seen[-1]
        for _ in range(4):
            algorithm.train_iter()
        metrics = [metric.result() for metric in algorithm.get_metrics()[:2]]
        results.append(([e._replace(rollout_info=()) for e in seen], parameters(algorithm), metrics))
    for result in results[1:]:
        assert_equal(result, results[0])


@pytest.mark.parametrize("with_last_step", [True, False])
def test_halves_are_what_one_policy_call_for_each_half_gives(pool, networks, tmp_path, with_last_step):
    algorithm = actor_critic(pool(1, num_parts=2), networks, tmp_path, recurrent=True)
    unroll = Unroll(algorithm, algorithm._env, keep_state=True)
    torch.manual_seed(5)
    with torch.no_grad():
        experience = [unroll.run(3, with_last_step)[0] for _ in range(3)]

    # The oracle steps all environments at once, and calls the policy for rows 0 and 1, then for rows 2 and 3.
    env = pool(0)
    time_step = env.reset()
    states = [algorithm.get_initial_rollout_state(2)] * 2
    torch.manual_seed(5)
    for unrolled in experience:
        for t in range(3 + with_last_step):
            actions, befores = [], []
            for half in (0, 1):
                rows = slice(2 * half, 2 * half + 2)
                part = map_structure(lambda leaf, rows=rows: leaf[rows].clone(), time_step)
                first = part.is_first().unsqueeze(-1)
                befores.append(map_structure(lambda leaf, first=first: torch.where(first, 0.0, leaf), states[half]))
                with torch.no_grad():
                    step = algorithm.rollout_step(part, befores[half])
                actions.append(step.output)
                if t < 3:
                    states[half] = step.state
            assert_equal(map_structure(lambda leaf, t=t: leaf[t], unrolled.time_step), time_step)
            assert_equal(unrolled.action[t], torch.cat(actions))
            assert_equal(map_structure(lambda leaf, t=t: leaf[t], unrolled.state),
                         map_structure(lambda *leaves: torch.cat(leaves), *befores))
            if t < 3:
                time_step = env.step(torch.cat(actions))


def test_frames_of_halves_are_stacked_when_acting_as_when_training(pool, networks, tmp_path):
    transformer = functools.partial(FrameStacker, stack_size=3)
    algorithm = actor_critic(pool(1, num_parts=2), networks, tmp_path, transformer=transformer, cls=PPOAlgorithm)
    for _ in range(5):
        acted = algorithm.unroll(5)
        raw, batch_info = algorithm._replay.gather_all()
        trained, _ = prepare_experience(algorithm, raw, algorithm._replay.rollout_info_spec, batch_info,
                                        algorithm._replay)
        assert torch.equal(trained.observation, acted.observation[:-1])  # PPO leaves the last row out


def test_halves_store_the_action_that_the_environment_reports_if_asked_to(pool, networks, tmp_path):
    algorithm = actor_critic(pool(1, num_parts=2), networks, tmp_path)
    algorithm._overwrite_policy_output = True
    experience = algorithm.unroll(5)
    assert torch.equal(experience.action[:-1], experience.prev_action[1:])
    ends = experience.step_type[:-1] == 2
    assert (experience.action[:-1][ends] == 0).all()


def test_an_environment_that_raises_in_one_half_is_named_with_its_own_exception(pool, networks, tmp_path):
    algorithm = actor_critic(pool(1, num_parts=2, load=failing), networks, tmp_path)
    with pytest.raises(FloatingPointError, match="the pole is gone") as caught:
        algorithm.unroll(8)
    assert "environment 2" in "".join(caught.value.__notes__)


def test_halves_of_an_environment_without_parts_are_refused(scripted_env, networks, tmp_path, make_config):
    env = scripted_env()
    algorithm = ActorCriticAlgorithm(env.observation_spec(), env.action_spec(), env=env,
                                     config=make_config(unroll_halves=True), **networks[False])
    with pytest.raises(ValueError, match="unroll_halves=True: ScriptedEnv cannot be stepped in halves"):
        algorithm.unroll(2)


def test_halves_go_on_where_they_were_in_other_worker_processes(pool, networks, tmp_path):
    algorithm = actor_critic(pool(1, num_parts=2), networks, tmp_path, recurrent=True)
    for _ in range(3):
        algorithm.unroll(4)
    state = copy.deepcopy(algorithm._unroll.state_dict())
    torch.manual_seed(3)
    expected = [algorithm.unroll(4) for _ in range(2)]
    other = actor_critic(pool(2, num_parts=2), networks, tmp_path, recurrent=True)
    other._loaded_unroll = state
    torch.manual_seed(3)
    found = [other.unroll(4) for _ in range(2)]
    assert_equal([e._replace(rollout_info=()) for e in found], [e._replace(rollout_info=()) for e in expected])


def test_a_run_may_be_resumed_with_halves_that_had_none(pool, networks, tmp_path):
    algorithm = actor_critic(pool(0), networks, tmp_path, recurrent=True)
    last = [algorithm.unroll(4) for _ in range(3)][-1]
    other = actor_critic(pool(1, num_parts=2), networks, tmp_path, recurrent=True)
    other._loaded_unroll = algorithm._unroll.state_dict()
    first = other.unroll(4)
    assert_equal(map_structure(lambda leaf: leaf[0], first.time_step),
                 map_structure(lambda leaf: leaf[-1], last.time_step))


# ---- the step after the unroll ---------------------------------------------------------------------------------------


def train(algorithm, iterations=12, save_at=()):
    seen = []
    unroll = algorithm.unroll
    algorithm.unroll = lambda length: seen.append(unroll(length)) or seen[-1]
    for i in range(iterations):
        algorithm.train_iter()
        if i in save_at:
            algorithm.rollout_state_dict()
    return [(e.time_step, e.action) for e in seen], parameters(algorithm)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_a_step_made_while_training_changes_nothing(pool, tmp_path, num_parts):
    expected = train(sac(pool(0, num_parts, name="Pendulum-v1"), tmp_path))
    assert_equal(train(sac(pool(1, num_parts, name="Pendulum-v1"), tmp_path)), expected)
    assert_equal(train(sac(pool(2, num_parts, name="Pendulum-v1"), tmp_path), save_at=(0, 5, 6)), expected)


def is_stepping(algorithm):
    """Return whether environments make a step after an unroll has returned."""
    algorithm.unroll(2)
    return bool(algorithm._env._pending)


def test_environments_step_while_training_only_where_results_cannot_differ(pool, networks, tmp_path):
    pendulum = functools.partial(pool, name="Pendulum-v1")
    assert is_stepping(sac(pendulum(1), tmp_path))
    assert is_stepping(sac(pendulum(1, 2), tmp_path))
    # The main process steps them all, or a share of them.
    assert not is_stepping(sac(pendulum(0), tmp_path))
    assert not is_stepping(sac(pendulum(1, main_steps=True), tmp_path))
    # Training reads statistics of all observations that were seen.
    assert not is_stepping(sac(pendulum(1), tmp_path, transformer=ObservationNormalizer))
    assert not is_stepping(sac(pendulum(1), tmp_path, sync_progress_to_envs=True))
    # The experience ends with the step that the last action led to.
    assert not is_stepping(actor_critic(pool(1), networks, tmp_path))


def test_a_step_is_made_while_training_and_nobody_waits_for_it(pool, tmp_path):
    mark = tmp_path / "stepped"

    def load(name, env_id=0):
        return Marks(suite_gym.load(name, env_id=env_id), mark)

    algorithm = sac(pool(1, name="Pendulum-v1", num_envs=1, load=load), tmp_path)
    algorithm.unroll(1)
    assert not mark.exists()
    deadline = time.monotonic() + 20
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_failing_step_is_told_by_the_next_unroll(pool, tmp_path):
    def load(name, env_id=0):
        return failing("Pendulum-v1", env_id)

    algorithm = sac(pool(1, name="Pendulum-v1", load=load), tmp_path)
    algorithm.unroll(4)
    with pytest.raises(FloatingPointError, match="the pole is gone"):
        algorithm.unroll(1)
