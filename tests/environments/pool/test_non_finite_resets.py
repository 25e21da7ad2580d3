"""Environments that return NaN or infinity are reset, and their episodes end where they were left."""

import functools
import re

import pytest
import torch

import alf.environments.alf_wrappers as alf_wrappers
from alf.data_structures import StepType
from alf.environments._non_finite import NonFinitePolicy
from alf.environments._pool._errors import NonFiniteStepError, TooManyResetsError
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.thread_environment import ThreadEnvironment
from alf.environments.utils import create_environment
from alf.utils.finite import NonFiniteError

FIRST, MID, LAST = (int(t) for t in (StepType.FIRST, StepType.MID, StepType.LAST))
FIELDS = {"nan reward": "reward", "inf observation": r"observation\.count\[0\]"}
PLACES = {
    "main process": {"num_workers": 0},
    "workers": {"num_workers": 2},
    "both": {"num_workers": 1, "main_steps": True},
}


def actions(number, num_envs=4):
    return torch.full((num_envs,), number)


@pytest.fixture
def make(request):
    """Return a function that makes a pool that resets, and closes it after the test."""

    def pool(constructors, **options):
        env = FastParallelEnvironment(constructors, on_non_finite="reset", **options)
        request.addfinalizer(env.close)
        return env

    return pool


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FIELDS)
def test_episode_ends_at_the_time_step_before(toys, make, caplog, fault, place, backend):
    env = make(toys(4, fault=fault, faulty=(2,), fault_step=2), backend=backend, **PLACES[place])
    env.seed([3, 3, 8, 8])  # episodes of at least four steps
    env.reset()
    before = env.step(actions(3))
    known = {name: leaf.clone() for name, leaf in before.observation.items()}
    after = env.step(actions(1))
    assert before.step_type.tolist() == [MID, MID, LAST, MID]  # its neighbours go on
    assert before.reward.tolist() == [3.0, 13.0, 23.0, 33.0]  # what was true stays
    assert before.discount.tolist() == [1.0] * 4  # it was cut off, and has not terminated
    assert all(torch.equal(before.observation[name], known[name]) for name in known)
    assert after.step_type.tolist() == [MID, MID, FIRST, MID]
    assert after.reward.tolist() == [1.0, 11.0, 0.0, 31.0]
    assert after.prev_action.tolist() == [1, 1, 0, 1]
    assert after.observation["count"].flatten().tolist() == [2.0, 2.0, 0.0, 2.0]
    assert env.interrupted_envs == [2] and env.interrupted_envs == []
    assert env.step(actions(1)).reward.tolist() == [1.0, 11.0, 21.0, 31.0]
    assert not env.steps_in_background  # a step that was stored already could not be ended
    warning, = [record.message for record in caplog.records if "It is reset" in record.message]
    value = "nan" if fault == "nan reward" else "inf"
    expected = f"environment 2: {FIELDS[fault]}: expected a finite number, got {value} in step 2"
    assert re.search(expected, warning), warning


@pytest.mark.parametrize("backend", ["native", "python"])
def test_parts_of_the_batch_are_reset_by_themselves(toys, make, backend):
    env = make(toys(4, fault="nan reward", faulty=(1, 2), fault_step=2), num_parts=2, num_workers=1, backend=backend)
    env.seed([3, 3, 8, 8])
    env.reset()
    halves = {}
    for part in (0, 1):
        env.step_async(actions(0, 2), part=part)
        halves[part] = env.step_wait(part)
    for part in (0, 1):  # both are under way, and both have an environment to reset
        env.step_async(actions(0, 2), part=part)
    assert env.step_wait(1).step_type.tolist() == [FIRST, MID]
    assert halves[1].step_type.tolist() == [LAST, MID] and halves[0].step_type.tolist() == [MID, MID]
    assert env.step_wait(0).step_type.tolist() == [MID, FIRST]
    assert halves[0].step_type.tolist() == [MID, LAST]
    assert env.interrupted_envs == [2, 1]


def test_environment_that_checks_itself_is_reset_too(toys, make, caplog):
    """One that raises in the middle of a batch leaves the others to be stepped."""

    class Checked(alf_wrappers.AlfEnvironmentBaseWrapper):
        def _step(self, action):
            time_step = super()._step(action)
            if time_step.reward != time_step.reward:
                raise NonFiniteStepError("toy: reward: expected a finite number, got nan.")
            return time_step

    constructor, = toys(1, fault="nan reward", faulty=(0,), fault_step=2)
    env = make([lambda env_id: Checked(constructor(env_id=env_id))] * 3, num_workers=1)
    env.seed([3, 3, 8])
    env.reset()
    before = env.step(actions(2, 3))
    assert env.step(actions(2, 3)).step_type.tolist() == [FIRST, MID, MID]
    assert before.step_type.tolist() == [LAST, MID, MID]
    assert "environment 0, step 2: toy: reward" in caplog.text


def test_first_observation_that_is_not_finite_is_drawn_again_once(make, caplog):
    for num_bad, works in ((1, True), (2, False)):
        env = make([functools.partial(BadBeginning, num_bad)] * 2, num_workers=0)
        if works:
            assert env.reset().step_type.tolist() == [FIRST, FIRST] and env.interrupted_envs == []
            assert "environment 0: observation" in caplog.text
        else:
            with pytest.raises(NonFiniteStepError, match="environment 0: observation"):
                env.reset()


class BadBeginning(alf_wrappers.AlfEnvironmentBaseWrapper):
    """CartPole, whose first observations are not finite."""

    def __init__(self, num_bad, env_id):
        import alf.environments.suite_gym as suite_gym

        super().__init__(suite_gym.load("CartPole-v1", env_id=env_id))
        self._num_bad = num_bad if env_id == 0 else 0

    def reset_into(self, rows, index):
        step_type = self._env.reset_into(rows, index)
        if self._num_bad:
            self._num_bad -= 1
            rows.observation[0][index] = float("nan")
        return step_type


def test_resets_have_a_budget(toys, make):
    env = make(toys(2, fault="nan reward", faulty=(0, 1), fault_step=1), num_workers=1, max_non_finite_resets=1)
    env.seed(3)
    env.reset()
    with pytest.raises(TooManyResetsError, match=r"environment 1: reward: .* in step 1") as caught:
        env.step(actions(0, 2))
    assert "1 resets within the last 600 seconds, of max_non_finite_resets=1 allowed" in str(caught.value)


def test_batch_that_is_one_environment_is_reset_as_a_whole(toys, make):
    inner = functools.partial(FastParallelEnvironment, toys(2, fault="nan reward", faulty=(1,), fault_step=2),
                              num_workers=0)
    env = make([inner, functools.partial(FastParallelEnvironment, toys(2), num_workers=0)], num_workers=0)
    env.seed([3, 3])
    env.reset()
    before = env.step(actions(0))
    assert env.step(actions(0)).step_type.tolist() == [FIRST, FIRST, MID, MID]
    assert before.step_type.tolist() == [LAST, LAST, MID, MID] and env.interrupted_envs == [0]


def test_time_steps_returned_as_copies_are_ended_too(toys, make, monkeypatch):
    from alf.environments._pool import _ring
    env = make(toys(2, fault="nan reward", faulty=(1,), fault_step=2), num_workers=1)
    get = _ring.TimeStepRing.get

    def copied(ring, part, row):  # as another device does it
        ring.copies = False
        time_step = get(ring, part, row)
        ring.copies = True
        return time_step._replace(step_type=time_step.step_type.clone())

    monkeypatch.setattr(_ring.TimeStepRing, "get", copied)
    env.seed(3)
    env.reset()
    before = env.step(actions(3, 2))
    env.step(actions(3, 2))
    assert before.step_type.tolist() == [MID, LAST]


@pytest.mark.parametrize("without_thread", [False, True])
def test_environment_in_a_thread_is_reset(toys, caplog, without_thread):
    constructor = functools.partial(toys(1, fault="nan reward", faulty=(0,), fault_step=2)[0], env_id=0)
    inner = alf_wrappers.BatchedTensorWrapper(constructor()) if without_thread else ThreadEnvironment(constructor)
    env = alf_wrappers.NonFiniteReset(inner, NonFinitePolicy("reset", 1, 600.0, "test"))
    env.seed(8)
    env.reset()
    before = env.step(actions(3, 1))
    after = env.step(actions(3, 1))
    assert before.step_type.tolist() == [LAST] and before.reward.tolist() == [3.0] and before.discount.tolist() == [1.0]
    assert after.step_type.tolist() == [FIRST] and after.reward.tolist() == [0.0]
    assert env.step(actions(2, 1)).reward.tolist() == [2.0]
    assert "step 2: the environment (ToyEnv): reward: expected a finite number, got nan" in caplog.text
    assert "1 resets within the last 600 seconds" in caplog.text
    assert [int(t) for t in (StepType.FIRST, StepType.MID, StepType.LAST)] == [0, 1, 2]  # what it returned is unharmed
    env.close()


def test_environment_in_a_thread_that_is_not_to_be_reset_raises(toys):
    env = ThreadEnvironment(functools.partial(toys(1, fault="inf observation", faulty=(0,), fault_step=1)[0], env_id=0))
    env.reset()
    with pytest.raises(NonFiniteStepError, match=r"observation\.count\[0, 0\]|observation\.count\[0\].* got inf"):
        env.step(actions(1, 1))
    env.close()


def load_toy(constructor, name, env_id=0):
    return constructor(env_id=env_id)


@pytest.mark.parametrize("kind", [{"nonparallel": True}, {"num_parallel_environments": 2, "num_workers": 1},
                                  {"num_parallel_environments": 2, "num_workers": 0}, {"for_evaluation": True}])
def test_create_environment_passes_it_on(toys, kind):
    constructor, = toys(1, fault="nan reward", faulty=(0,), fault_step=2)
    env = create_environment("toy", functools.partial(load_toy, constructor), seed=8, on_non_finite="reset", **kind)
    env.reset()
    number = env.batch_size
    before = env.step(actions(0, number))
    assert env.step(actions(0, number)).step_type[0] == FIRST and before.step_type[0] == LAST
    env.close()


def test_what_cannot_be_asked_for_is_refused(toys):
    from alf.environments.parallel_environment import ParallelAlfEnvironment
    with pytest.raises(ValueError, match="on_non_finite: expected 'raise' or 'reset', got 'skip'"):
        FastParallelEnvironment(toys(1), on_non_finite="skip")
    with pytest.raises(ValueError, match="create_environment.max_non_finite_resets: expected >= 0, got -1"):
        create_environment(max_non_finite_resets=-1)
    with pytest.raises(ValueError, match="ParallelAlfEnvironment cannot reset a single environment"):
        create_environment("toy", functools.partial(load_toy, toys(1)[0]), on_non_finite="reset",
                           parallel_environment_ctor=ParallelAlfEnvironment)


def test_error_of_a_step_is_caught_as_that_of_training_too():
    assert issubclass(NonFiniteStepError, NonFiniteError) and issubclass(NonFiniteStepError, ValueError)
