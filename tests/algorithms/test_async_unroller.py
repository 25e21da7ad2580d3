"""Unrolling in another process: who updates the statistics of data transformers, and how often."""

import functools
import multiprocessing
import types

import pytest
import torch

from alf.algorithms.async_unroller import AsyncUnroller, UnrollSide, _Started, run_unroll
from alf.algorithms.data_transformer import (
    FrameStacker,
    ObservationNormalizer,
    RewardNormalizer,
    create_data_transformer,
)
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.data_structures import AlgStep, Experience
from alf.nest import map_structure

CONTEXT = multiprocessing.get_context("spawn")
TRANSFORMERS = [
    functools.partial(FrameStacker, stack_size=3),
    functools.partial(ObservationNormalizer, update_mode="rollout"),
    functools.partial(RewardNormalizer, update_mode="rollout"),
]


class Idle(OffPolicyAlgorithm):
    """Does the same whatever happens."""

    def rollout_step(self, inputs, state):
        return AlgStep(output=torch.zeros_like(inputs.step_type, dtype=torch.int64))


def make(env, config, transformers=TRANSFORMERS):
    config.data_transformer = create_data_transformer(transformers, env.observation_spec())
    return Idle(config.data_transformer.transformed_observation_spec, env.action_spec(), (), env=env, config=config)


def statistics(algorithm):
    return {name: value.clone() for name, value in algorithm._data_transformer.state_dict().items()}


class FullAfter:
    """Stands for the queue of steps, and tells to stop after so many."""

    def __init__(self, num_steps):
        self._num_left = num_steps
        self.stop = torch.tensor(False)

    def put(self, step, reader, timeout_seconds):
        self._num_left -= 1
        self.stop.fill_(self._num_left == 0)
        return True


class TrainersParameters:
    """Those of an algorithm that no trainer has updated."""

    def refresh(self, algorithm):
        return 1


def test_the_process_that_acts_leaves_the_statistics_to_the_trainer(scripted_env, make_config):
    env = scripted_env()
    algorithm = make(env, make_config(unroll_length=4))
    before = statistics(algorithm)
    steps = FullAfter(7)
    run_unroll(UnrollSide(None, steps, TrainersParameters(), steps.stop, torch.zeros(4), False, False, 0.0),
               algorithm, env)
    assert len(env.actions) == 7
    assert all(torch.equal(before[name], value) for name, value in statistics(algorithm).items())


def scripted_steps(env, num_steps):
    time_steps = [env.time_step_at(t) for t in range(num_steps)]
    return Experience(time_step=map_structure(lambda *leaves: torch.stack(leaves), *time_steps))


class ScriptedProcess:
    """Stands for the process that acts: its steps are there at once.

    Args:
        algorithm: the root algorithm.
        config: the settings of the run.
        steps: the experience ``[T, B, ...]``.
    """

    def __init__(self, algorithm, config, steps):
        config.unroll_queue_size = steps.step_type.shape[0]
        self.unroller = AsyncUnroller(algorithm, config, start=self._start)
        for t in range(steps.step_type.shape[0]):
            step = map_structure(lambda leaf, t=t: leaf[t], steps)
            assert self.unroller._queue.put((step, (), torch.tensor(1)), self, 1.0)
        self.unroller._queue._next = 0  # now it reads

    def _start(self, side):
        return self

    def send(self, rows):
        self.unroller._started = _Started(rows, (), is_transformed=False)

    def is_alive(self):
        return True


@pytest.mark.parametrize("takes", [
    [(9, 0)],
    [(4, 0), (5, 0)],
    [(4, 1), (1, 1), (4, 0)],
])
def test_the_trainer_updates_statistics_once_for_each_step_it_takes(scripted_env, make_config, takes):
    config = make_config(unroll_length=8, whole_replay_buffer_training=False)
    expected = make(scripted_env(), config)
    expected.unroll(8)  # has seen 9 time steps, also that to which the last action led
    algorithm = make(scripted_env(), config)
    unroller = ScriptedProcess(algorithm, config, scripted_steps(scripted_env(), 9)).unroller
    for num_steps, num_look_ahead in takes:
        unroller.gather_unroll_results(num_steps, num_steps, num_look_ahead)
    found, wanted = statistics(algorithm), statistics(expected)
    assert int(found["_members.1._normalizer._num_updates"]) == 9
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


def test_what_acts_gets_the_statistics_with_the_parameters(scripted_env, make_config):
    config = make_config(unroll_length=2, unroll_parameter_update_period=1, whole_replay_buffer_training=False)
    algorithm, acting = make(scripted_env(), config), make(scripted_env(), make_config())
    unroller = ScriptedProcess(algorithm, config, scripted_steps(scripted_env(), 2)).unroller
    unroller.run(2, with_last_step=False)
    unroller.after_train_iter(algorithm)
    unroller._parameters.refresh(acting)
    assert int(statistics(acting)["_members.1._normalizer._num_updates"]) == 2
    for name, value in statistics(algorithm).items():
        assert torch.equal(statistics(acting)[name], value), name


def test_statistics_that_follow_the_replay_stay_when_steps_are_taken(scripted_env, make_config):
    config = make_config(unroll_length=2, whole_replay_buffer_training=False)
    algorithm = make(scripted_env(), config, [ObservationNormalizer])
    before = statistics(algorithm)
    steps = scripted_steps(scripted_env(), 2)
    ScriptedProcess(algorithm, config, steps).unroller.run(2, with_last_step=False)
    assert all(torch.equal(before[name], value) for name, value in statistics(algorithm).items())


def test_a_process_that_has_just_started_is_noticed():
    class Connection:
        """The message comes after the first look."""
        num_looks = 0

        def poll(self, timeout=0):
            self.num_looks += 1
            return self.num_looks == 2

        def recv(self):
            assert self.num_looks == 2
            return _Started("rows", (), False)

    attached = []
    unroller = object.__new__(AsyncUnroller)
    unroller._connection, unroller._started = Connection(), None
    unroller._process = types.SimpleNamespace(is_alive=lambda: True)
    unroller._queue = types.SimpleNamespace(attach=attached.append)
    unroller._attach(wait=False)
    assert not attached
    unroller._attach(wait=True)
    assert attached == ["rows"]
