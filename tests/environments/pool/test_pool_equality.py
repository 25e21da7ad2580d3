"""Whatever steps the environments, the time steps are those of a serial loop, bit by bit."""

import functools

import pytest
import torch

import alf.environments.suite_gym as suite_gym
from alf.data_structures import StepType
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.parallel_environment import ParallelAlfEnvironment

PLACES = {
    "main": {"num_workers": 0},
    "one worker and main": {"num_workers": 1, "main_steps": True},
    "uneven workers": {"num_workers": 3},
    "automatic": {},
}


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("place", PLACES)
def test_time_steps_equal_those_of_a_serial_loop(toys, record, serial, assert_same, place, backend):
    constructors = toys(5)
    env = FastParallelEnvironment(constructors, backend=backend, **PLACES[place])
    try:
        got = record(env)
    finally:
        env.close()
    assert_same(got, serial(constructors))


@pytest.mark.parametrize("backend", ["native", "python"])
def test_nested_actions_reach_the_environments(toys, record, serial, assert_same, backend):
    constructors = toys(4, nested_action=True)
    env = FastParallelEnvironment(constructors, backend=backend, num_workers=2)
    try:
        got = record(env)
    finally:
        env.close()
    assert_same(got, serial(constructors))


def test_pipe_version_equals_a_serial_loop(toys, record, serial, assert_same):
    constructors = toys(3)
    env = ParallelAlfEnvironment(constructors)
    try:
        got = record(env)
    finally:
        env.close()
    assert_same(got, serial(constructors))


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_other_start_methods_give_the_same_time_steps(start_method):
    suffix = "v1"  # makes the constructor a closure, which only cloudpickle can send
    trajectories = []
    for options in (
        {"num_workers": 0},
        {"num_workers": 2, "start_method": start_method, "start_serially": False},
    ):
        env = FastParallelEnvironment(
            [lambda env_id: suite_gym.load(f"CartPole-{suffix}", env_id=env_id)] * 4, **options
        )
        env.seed(3)
        time_steps = [env.reset()] + [env.step(torch.tensor([0, 1, t % 2, 1])) for t in range(30)]
        trajectories.append([(s.step_type.clone(), s.observation.clone()) for s in time_steps[-3:]])
        env.close()
    for (types_a, obs_a), (types_b, obs_b) in zip(*trajectories):
        assert torch.equal(types_a, types_b) and torch.equal(obs_a, obs_b)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_halves_stepped_by_themselves_equal_the_whole_batch(toys, num_workers):
    whole = FastParallelEnvironment(toys(8), num_workers=0)
    halves = FastParallelEnvironment(toys(8), num_workers=num_workers, num_parts=2)
    try:
        assert torch.equal(whole.reset().observation["noise"], halves.reset().observation["noise"])
        actions = torch.randint(0, 5, (20, 8), generator=torch.Generator().manual_seed(0))
        expected = []
        for action in actions:
            step = whole.step(action)
            expected.append((step.step_type.clone(), step.reward.clone(), step.observation["noise"].clone()))
        halves.step_async(actions[0, :4], part=0)
        for t in range(20):
            halves.step_async(actions[t, 4:], part=1)
            first = [x.clone() for x in _key(halves.step_wait(part=0))]
            if t < 19:
                halves.step_async(actions[t + 1, :4], part=0)
            second = halves.step_wait(part=1)
            for a, b, c in zip(first, _key(second), expected[t]):
                assert torch.equal(torch.cat([a, b]), c)
        # Level again, the whole batch can be stepped in one go.
        assert torch.equal(halves.step(actions[0]).reward, whole.step(actions[0]).reward)
    finally:
        whole.close()
        halves.close()


def _key(step):
    return step.step_type, step.reward, step.observation["noise"]


def test_previous_action_is_that_of_the_step_and_zero_at_first(toys):
    env = FastParallelEnvironment(toys(2), num_workers=0)
    step = env.reset()
    assert step.prev_action.tolist() == [0, 0]
    for _ in range(30):
        step = env.step(torch.tensor([3, 4]))
        expected = torch.where(step.is_first(), torch.zeros(2, dtype=torch.int64), torch.tensor([3, 4]))
        assert torch.equal(step.prev_action, expected)
        assert torch.equal(
            step.reward, torch.where(step.is_first(), torch.zeros(2), torch.tensor([3.0, 14.0]))
        )
    env.close()


def test_first_follows_last_with_the_action_ignored(toys):
    env = FastParallelEnvironment(toys(3, episode_end="termination"), num_workers=1, main_steps=True)
    env.reset()
    before, lasts = None, 0
    for _ in range(40):
        step = env.step(torch.ones(3, dtype=torch.int64))
        types = step.step_type.clone()
        if before is not None:
            assert torch.equal(types == int(StepType.FIRST), before == int(StepType.LAST))
        assert torch.equal(step.discount == 0, types == int(StepType.LAST))
        lasts += int((types == int(StepType.LAST)).sum())
        before = types
    env.close()
    assert lasts > 10


def test_batched_environments_contribute_their_rows():
    from alf.environments.suite_unittest import ActionType, ValueUnittestEnv

    constructor = functools.partial(_make_pair, ValueUnittestEnv, ActionType.Discrete)
    results = []
    for options in ({"num_workers": 0}, {"num_workers": 2}):
        env = FastParallelEnvironment([constructor] * 3, **options)
        assert env.batch_size == 6
        env.reset()
        results.append([env.step(torch.zeros(6, dtype=torch.int64)) for _ in range(2)][-1])
        results[-1] = [results[-1].step_type.clone(), results[-1].reward.clone(), results[-1].env_id.clone()]
        env.close()
    assert all(torch.equal(a, b) for a, b in zip(*results))
    assert results[0][2].tolist() == list(range(6))


def _make_pair(cls, action_type, env_id):
    return cls(batch_size=2, episode_length=3, action_type=action_type)


def test_an_environment_may_keep_its_actions(toys):
    env = FastParallelEnvironment(toys(2, nested_action=True), num_workers=0)
    env.reset()
    for value in (0.25, 0.5):
        env.step({"go": torch.full((2, 2), value), "kind": torch.zeros(2, dtype=torch.int64)})
    kept = env.envs[0].kept_actions
    assert kept[0].tolist() == [0.25, 0.25] and kept[1].tolist() == [0.5, 0.5]
    env.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_interleavings_equal_the_serial_batch(toys, seed):
    """Steps of the whole batch and of its halves, resets, seeds and calls, in random order."""
    generator = torch.Generator().manual_seed(seed)

    def draw(stop):
        return int(torch.randint(0, stop, (), generator=generator))

    options = [{"num_workers": 2}, {"num_workers": 1, "main_steps": True}][seed % 2]
    options |= {"num_parts": 2, "backend": ["native", "python"][seed // 2]}
    env = FastParallelEnvironment(toys(6), **options)
    oracle = FastParallelEnvironment(toys(6), num_workers=0, num_parts=2, backend="python")
    both = (env, oracle)
    results = [[], []]
    try:
        for each in both:
            each.reset()
        for _ in range(150):
            what, action, number = draw(12), torch.randint(0, 5, (6,), generator=generator), draw(1000)
            for each, result in zip(both, results):
                if what == 0:
                    time_step = each.reset()
                elif what == 1:
                    each.seed(number)
                    continue
                elif what == 2:
                    result.append(each.call_envs_with_same_args("whoami"))
                    continue
                elif what < 6:  # both halves, in either order
                    for part in (0, 1):
                        each.step_async(action[3 * part : 3 * part + 3], part=part)
                    halves = {part: each.step_wait(part=part) for part in [(0, 1), (1, 0)][number % 2]}
                    result.append([halves[0].reward.tolist(), halves[1].observation["noise"].tolist()])
                    continue
                else:
                    time_step = each.step(action)
                result.append([time_step.step_type.tolist(), time_step.observation["noise"].tolist()])
        assert len(results[0]) > 100 and results[0] == results[1]
    finally:
        env.close()
        oracle.close()
