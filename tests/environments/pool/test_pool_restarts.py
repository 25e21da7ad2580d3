"""Lost workers are replaced, and the episodes they were in end where they were left."""

import os
import re
import signal
import time

import numpy as np
import psutil
import pytest
import torch

from alf.data_structures import StepType
from alf.environments._pool._errors import NonFiniteStepError, WorkerDiedError
from alf.environments._pool._restarts import RestartBudget
from alf.environments.fast_parallel_environment import FastParallelEnvironment

FIRST, MID, LAST = (int(t) for t in (StepType.FIRST, StepType.MID, StepType.LAST))


def make(constructors, **options):
    settings = {"num_workers": 2, "on_worker_death": "restart", "step_timeout_seconds": 20, **options}
    return FastParallelEnvironment(constructors, **settings)


def kill(process_id):
    """End a process, and wait until it has ended without taking its exit code."""
    os.kill(process_id, signal.SIGKILL)
    while psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def step_until_error(env, limit=40):
    env.seed(0)
    env.reset()
    for _ in range(limit):
        env.step(torch.full((env.batch_size,), 2))


@pytest.mark.parametrize("backend", ["native", "python"])
@pytest.mark.parametrize("fault", ["kill", "exit", "raise", "system exit", "hang"])
def test_lost_episodes_end_at_the_time_step_before(toys, tmp_path, caplog, fault, backend):
    constructors = toys(4, fault=fault, faulty=(2,), fault_step=2, marker=str(tmp_path / "done"))
    env = make(constructors, backend=backend, step_timeout_seconds=0.5 if fault == "hang" else 20)
    try:
        env.seed([3, 3, 8, 8])  # episodes of at least four steps
        first = env.reset()
        before = env.step(torch.full((4,), 3))
        assert before.step_type.tolist() == [MID] * 4
        known = {name: leaf.clone() for name, leaf in before.observation.items()}
        after = env.step(torch.full((4,), 1))
        assert first.step_type.tolist() == [FIRST] * 4
        assert before.step_type.tolist() == [MID, MID, LAST, LAST]
        assert before.reward.tolist() == [3.0, 13.0, 23.0, 33.0]  # what was true stays
        assert before.discount.tolist() == [1.0] * 4
        assert all(torch.equal(before.observation[name], known[name]) for name in known)
        assert after.step_type.tolist() == [MID, MID, FIRST, FIRST]
        assert after.reward.tolist() == [1.0, 11.0, 0.0, 0.0]
        assert after.prev_action.tolist() == [1, 1, 0, 0]
        assert after.observation["count"].flatten().tolist() == [2.0, 2.0, 0.0, 0.0]
        assert env.interrupted_envs == [2, 3] and env.interrupted_envs == []
        assert env.step(torch.full((4,), 1)).reward[2:].tolist() == [21.0, 31.0]
        assert "whose last action was" in caplog.text and "environments 2-3" in caplog.text
    finally:
        env.close()


def test_episode_that_had_ended_is_not_changed(toys, tmp_path):
    env = make(toys(2, fault="kill in reset", marker=str(tmp_path / "done")), num_ring_rows=16)
    try:
        env.seed(0)
        rows = [env.reset()] + [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(12)]
        step_type = torch.stack([row.step_type for row in rows])
        assert os.path.exists(tmp_path / "done") and env.interrupted_envs == []
        assert ((step_type[:-1] == LAST) == (step_type[1:] == FIRST)).all()
    finally:
        env.close()


def test_episode_lost_at_its_first_step_starts_no_transition(toys, tmp_path):
    env = make(toys(2, fault="kill", fault_step=1, marker=str(tmp_path / "done")))
    try:
        env.seed(0)
        first = env.reset()
        assert env.step(torch.zeros(2, dtype=torch.int64)).step_type.tolist() == [MID, FIRST]
        assert first.step_type.tolist() == [FIRST, LAST]
    finally:
        env.close()


@pytest.mark.parametrize("backend", ["native", "python"])
def test_parts_of_the_batch_end_their_episodes_when_they_are_stepped_next(toys, backend):
    env = make(toys(4), num_parts=2, num_workers=1, backend=backend)
    action = torch.zeros(2, dtype=torch.int64)
    try:
        env.seed([3, 3, 8, 8])
        env.reset()
        env.step_async(action, part=0)
        half_0 = env.step_wait(part=0)
        env.step_async(action, part=1)
        half_1 = env.step_wait(part=1)
        kill(env.worker_process_ids[0])
        env.step_async(action, part=1)
        assert env.step_wait(part=1).step_type.tolist() == [FIRST, FIRST]
        assert half_1.step_type.tolist() == [LAST, LAST] and half_0.step_type.tolist() == [MID, MID]
        env.step_async(action, part=0)
        assert env.step_wait(part=0).step_type.tolist() == [FIRST, FIRST]
        assert half_0.step_type.tolist() == [LAST, LAST]
        assert sorted(env.interrupted_envs) == [0, 1, 2, 3]
    finally:
        env.close()


def test_time_steps_returned_as_copies_are_ended_too(toys, tmp_path, monkeypatch):
    from alf.environments._pool import _ring
    env = make(toys(4, fault="exit", faulty=(2,), fault_step=2, marker=str(tmp_path / "done")))
    get = _ring.TimeStepRing.get

    def copied(ring, part, row):  # as another device does it
        ring.copies = False
        time_step = get(ring, part, row)
        ring.copies = True
        return time_step._replace(step_type=time_step.step_type.clone())

    monkeypatch.setattr(_ring.TimeStepRing, "get", copied)
    try:
        env.seed([3, 3, 8, 8])
        env.reset()
        before = env.step(torch.full((4,), 3))
        after = env.step(torch.full((4,), 3))
        assert before.step_type.tolist() == [MID, MID, LAST, LAST]
        assert after.step_type.tolist() == [MID, MID, FIRST, FIRST]
    finally:
        env.close()


def test_worker_lost_between_steps_is_replaced_by_a_call(toys):
    env = make(toys(4))
    try:
        env.seed([3, 3, 8, 8])
        env.reset()
        time_step = env.step(torch.zeros(4, dtype=torch.int64))
        kill(env.worker_process_ids[1])
        assert env.call_envs_with_same_args("whoami") == ["env0", "env1", "env2", "env3"]
        assert env.get_state() is None  # there is nothing to go on from
        assert env.step(torch.zeros(4, dtype=torch.int64)).step_type.tolist() == [MID, MID, FIRST, FIRST]
        assert time_step.step_type.tolist() == [MID, MID, LAST, LAST]
    finally:
        env.close()


def test_new_episodes_are_not_those_of_the_beginning(toys, tmp_path):
    env = make(toys(2, fault="kill", fault_step=1, marker=str(tmp_path / "done")))
    try:
        env.seed(0)
        begin = env.reset().observation["noise"].clone()
        again = env.step(torch.zeros(2, dtype=torch.int64))
        assert again.step_type[1] == FIRST and not torch.equal(again.observation["noise"][1], begin[1])
    finally:
        env.close()


def test_restarts_have_a_budget(toys):
    env = make(toys(2, fault="exit", fault_step=1), max_restarts=2)
    with pytest.raises(WorkerDiedError, match=r"2 restarts within the last 600 seconds, of max_restarts=2 allowed"):
        step_until_error(env)
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()
    assert env.get_state() is None


def test_end_of_a_worker_is_noticed_if_something_else_has_waited_for_it(toys):
    env = FastParallelEnvironment(toys(2), num_workers=1)
    env.reset()
    os.kill(env.worker_process_ids[0], signal.SIGKILL)
    os.waitpid(env.worker_process_ids[0], 0)
    with pytest.raises(WorkerDiedError, match="something else in this program has waited for it"):
        env.step(torch.zeros(2, dtype=torch.int64))


def test_budget_is_given_back_with_time():
    now = [0.0]
    budget = RestartBudget(2, 100.0, clock=lambda: now[0])
    assert budget.take()
    now[0] = 60.0
    assert budget.take() and not budget.take()
    now[0] = 101.0  # the first is forgotten, the second not
    assert budget.take() and not budget.take()
    assert budget.num_restarts == 3


def test_all_workers_killed_at_once_is_not_answered_by_restarts(toys):
    env = make(toys(4))
    env.reset()
    for process_id in env.worker_process_ids:
        os.kill(process_id, signal.SIGKILL)
    with pytest.raises(WorkerDiedError, match="probably out of memory") as caught:
        env.step(torch.zeros(4, dtype=torch.int64))
    message = str(caught.value)
    assert "All workers were killed at once" in message
    for line in (r"worker 0: [1-9]\d* MiB", r"worker 1: [1-9]\d* MiB", r"main process: \d+ MiB", r"free now: \d+ MiB"):
        assert re.search(line, message), message


def test_constructor_that_fails_again_is_told(toys, tmp_path):
    env = make(toys(2, fault="exit then construct", fault_step=1, marker=str(tmp_path / "done")))
    with pytest.raises(WorkerDiedError, match="could not be made again: KeyError") as caught:
        step_until_error(env)
    assert isinstance(caught.value.__cause__, KeyError)


def test_action_that_is_not_finite_restarts_nothing(toys):
    env = make(toys(2, nested_action=True))
    try:
        env.reset()
        workers = env.worker_process_ids
        go = torch.full((2, 2), float("inf"))
        with pytest.raises(NonFiniteStepError, match="action.go"):
            env.step({"go": go, "kind": torch.zeros(2, dtype=torch.int64)})
        assert env.worker_process_ids == workers
    finally:
        env.close()


def test_no_environment_stays_in_the_main_process_where_workers_are_to_be_replaced(toys):
    env = FastParallelEnvironment(toys(2), on_worker_death="restart")
    try:
        assert not env.placement.main_steps and len(env.worker_process_ids) >= 1
    finally:
        env.close()
    for options in ({"num_workers": 0}, {"num_workers": 1, "main_steps": True}, {"blocking": True}):
        with pytest.raises(ValueError, match="'restart' needs all environments in workers"):
            FastParallelEnvironment(toys(2), on_worker_death="restart", **options)


def test_returns_and_advantages_do_not_reach_across_the_gap(toys, tmp_path):
    from alf.utils import value_ops
    env = make(toys(2, fault="kill", fault_step=3, marker=str(tmp_path / "done")), num_ring_rows=16)
    try:
        env.seed([0, 8])
        rows = [env.reset()] + [env.step(torch.full((2,), 4)) for _ in range(7)]
        step_type, reward, discount = (torch.stack([getattr(row, name)[1:] for row in rows])
                                       for name in ("step_type", "reward", "discount"))
        gap = 2  # the third step of environment 1 was lost
        assert step_type[: gap + 2, 0].tolist() == [FIRST, MID, LAST, FIRST]
        values = torch.arange(1.0, 9.0).unsqueeze(1)
        advantages = value_ops.generalized_advantage_estimation(reward, values, step_type, discount, td_lambda=0.9)
        returns = value_ops.discounted_return(reward, values, step_type, discount)
        assert advantages[gap] == 0 and returns[gap] == values[gap]
        # What lies behind the gap changes nothing before it.
        for tensor in (reward, values):
            tensor[gap + 1:] += 1000.0
        again = value_ops.generalized_advantage_estimation(reward, values, step_type, discount, td_lambda=0.9)
        assert torch.equal(advantages[: gap + 1], again[: gap + 1])
        assert torch.equal(returns[: gap + 1],
                           value_ops.discounted_return(reward, values, step_type, discount)[: gap + 1])
        np.testing.assert_allclose(returns[0, 0], 14.0 + 14.0 + 3.0)  # two true rewards, and the value where it ends
    finally:
        env.close()
