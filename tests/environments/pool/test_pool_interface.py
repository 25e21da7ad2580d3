"""Arguments, calls, the ring of time steps, spares, placement."""

import logging
import os

import numpy as np
import pytest
import torch

import alf.environments._pool._backend as backend_module
import alf.progress as progress
from alf.data_structures import StepType
from alf.environments._pool import _placement
from alf.environments.fast_parallel_environment import FastParallelEnvironment
from alf.environments.parallel_environment import ParallelAlfEnvironment


@pytest.fixture(
    params=[{"num_workers": 0}, {"num_workers": 2}, {"num_workers": 1, "main_steps": True}],
    ids=["main", "workers", "both"],
)
def env(request, toys):
    env = FastParallelEnvironment(toys(4), **request.param)
    yield env
    env.close()


def test_time_steps_stay_valid_for_the_promised_number_of_steps(toys):
    env = FastParallelEnvironment(toys(2), num_workers=1)
    env.reserve_rows(6)
    assert env.num_valid_steps == 5
    step = env.reset()
    first = step.observation["noise"].clone()
    for _ in range(env.num_valid_steps):
        env.step(torch.zeros(2, dtype=torch.int64))
        assert torch.equal(step.observation["noise"], first)
    env.step(torch.zeros(2, dtype=torch.int64))
    assert not torch.equal(step.observation["noise"], first)
    with pytest.raises(RuntimeError, match="cannot be reserved after the first reset"):
        env.reserve_rows(7)
    env.close()


def test_ring_is_a_time_major_batch_that_aliases_the_time_steps(env):
    env.reset()
    for t in range(3):
        step = env.step(torch.full((4,), t))
        row = env.ring_row
        assert env.ring.reward[row].data_ptr() == step.reward.data_ptr()
    rewards = [env.ring.prev_action[(env.ring_row - 2 + t) % 4] for t in range(3)]
    assert env.ring.observation["count"].shape == (4, 4, 1) and len(rewards) == 3


def test_step_returns_prebuilt_tensors_that_share_memory(env):
    env.reset()
    pointers = {env.step(torch.zeros(4, dtype=torch.int64)).reward.data_ptr() for _ in range(20)}
    assert len(pointers) == 4


def test_calls_reach_every_environment(env):
    assert env.call_envs_with_same_args("whoami", prefix="no ") == ["no 0", "no 1", "no 2", "no 3"]
    assert env.call_env(2, "metadata") == env.metadata == {"render_modes": ["rgb_array"]}
    assert env.render().tolist() == np.zeros((2, 2, 3)).tolist()
    with pytest.raises(LookupError, match="called in vain") as caught:
        env.call_env(3, "fail")
    if env.placement.num_workers:
        assert "environment 3" in "".join(caught.value.__notes__)
    assert env.reset().env_id.tolist() == [0, 1, 2, 3]


def test_workers_are_other_processes(toys):
    env = FastParallelEnvironment(toys(4), num_workers=1, main_steps=True)
    pids = env.call_envs_with_same_args("pid")
    assert pids == [os.getpid()] * 2 + env.worker_process_ids * 2
    assert env.envs[3].call("pid") == pids[3]
    env.close()


def test_environments_in_workers_may_have_processes_of_their_own(toys):
    env = FastParallelEnvironment(toys(2), num_workers=1)
    assert env.call_env(1, "exit_code_of_child") == 5
    env.close()


def test_progress_reaches_the_workers(toys):
    env = FastParallelEnvironment(toys(2), num_workers=1)
    try:
        progress.update_progress("percent", 0.25)
        env.sync_progress()
        assert env.call_envs_with_same_args("percent") == [0.25, 0.25]
    finally:
        progress.reset_progress()
        env.close()


def test_same_seeds_give_the_same_episodes(env):
    lengths = []
    for _ in range(2):
        env.seed([5, 6, 7, 8])
        lengths.append(env.reset().env_info["length"].clone())
    assert torch.equal(*lengths)
    env.seed(5)
    assert torch.equal(env.reset().env_info["length"], lengths[0])
    with pytest.raises(ValueError, match="expected 4 seeds"):
        env.seed([1, 2])


@pytest.mark.parametrize(
    "action, words",
    [
        (torch.zeros(3, dtype=torch.int64), r"expected shape \(4,\) and dtype torch.int64, got \(3,\)"),
        (torch.zeros(4, 1, dtype=torch.int64), r"got \(4, 1\)"),
        (torch.zeros(4), r"got \(4,\) and torch.float32"),
    ],
)
def test_actions_are_checked(env, action, words):
    env.reset()
    with pytest.raises(ValueError, match=words):
        env.step(action)
    env.step(torch.zeros(4, dtype=torch.int32))  # no loss, no error


def test_nested_action_of_another_structure_is_refused(toys):
    env = FastParallelEnvironment(toys(2, nested_action=True), num_workers=0)
    env.reset()
    with pytest.raises(ValueError, match="expected a nest like the action spec"):
        env.step({"go": torch.zeros(2, 2)})
    env.close()


def test_steps_out_of_turn_are_refused(env):
    with pytest.raises(RuntimeError, match=r"expected reset\(\) before the first step"):
        env.step(torch.zeros(4, dtype=torch.int64))
    env.reset()
    with pytest.raises(RuntimeError, match="expected step_async"):
        env.step_wait()
    env.step_async(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="has not been waited for"):
        env.step_async(torch.zeros(4, dtype=torch.int64))
    assert env.reset().step_type.tolist() == [0] * 4  # a reset gives the outstanding step up


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_parts": 3}, "num_parts: expected a divisor"),
        ({"start_method": "thread"}, "start_method: expected 'fork'"),
        ({"on_worker_death": "ignore"}, "on_worker_death: expected 'raise' or 'restart'"),
        ({"num_workers": -1}, "num_workers: expected None or >= 0"),
        ({"num_spare_envs_for_reload": 4}, "expected at least one environment"),
        ({"backend": "rust"}, "backend: expected 'native', 'python' or None"),
    ],
)
def test_wrong_arguments_are_named(toys, options, words):
    with pytest.raises(ValueError, match=words):
        FastParallelEnvironment(toys(4), **options)


def test_missing_extension_is_told_once_and_replaced(toys, monkeypatch, caplog):
    monkeypatch.setattr(backend_module, "_native", None)
    backend_module._notify_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            env = FastParallelEnvironment(toys(2), num_workers=1)
            env.reset()
            env.close()
    assert caplog.text.count("native extension alf._parallel_env is missing") == 1
    with pytest.raises(ImportError, match="install a C\\+\\+17 compiler|Install a C\\+\\+17 compiler"):
        FastParallelEnvironment(toys(2), backend="native")


@pytest.mark.parametrize(
    "make",
    [
        lambda c: FastParallelEnvironment(c, num_spare_envs_for_reload=2, num_workers=0),
        lambda c: FastParallelEnvironment(c, num_spare_envs_for_reload=2, num_workers=2),
        lambda c: ParallelAlfEnvironment(c, num_spare_envs_for_reload=2),
    ],
    ids=["main", "workers", "pipes"],
)
def test_spares_take_the_place_of_ended_environments(toys, make):
    env = make(toys(4))
    try:
        assert env.batch_size == 2 and env.num_spare_envs_for_reload == 2
        env.seed([0, 1])
        env.reset()
        before, served = None, set()
        for _ in range(40):
            step = env.step(torch.zeros(2, dtype=torch.int64))
            if before is not None:
                assert torch.equal(step.step_type == 0, before == int(StepType.LAST))
            before = step.step_type.clone()
            # The reward of a ToyEnv tells which one it is.
            served |= set((step.reward[step.step_type != 0] / 10).int().tolist())
            assert step.env_id.tolist() == [0, 1]
        assert served == {0, 1, 2, 3}
    finally:
        env.close()


def test_light_environments_stay_in_the_main_process():
    assert _placement.choose(8, 7e-6, num_cores=2, main_may_step=True).num_workers == 0
    assert _placement.choose(128, 7e-6, num_cores=2, main_may_step=True)[:2] == (1, True)
    assert _placement.choose(8, 40e-6, num_cores=2, main_may_step=True)[:2] == (1, True)
    assert _placement.choose(8, 40e-6, num_cores=1, main_may_step=True).num_workers == 0
    assert _placement.choose(1, 1.0, num_cores=8, main_may_step=True).num_workers == 0


def test_heavy_environments_get_all_cores_but_no_more_processes_than_needed():
    assert _placement.choose(32, 1e-3, num_cores=16, main_may_step=True)[:2] == (15, True)
    assert _placement.choose(4, 1e-3, num_cores=16, main_may_step=True).num_hosts == 4
    # 9 environments: 3 processes are as quick as 4, which need 3 rounds as well
    assert _placement.choose(9, 1e-3, num_cores=4, main_may_step=True).num_hosts == 3
    assert _placement.choose(8, None, num_cores=4, main_may_step=True).num_hosts == 4


def test_workers_step_parts_while_the_main_process_acts_unless_a_hand_shake_costs_more():
    assert _placement.choose_beside_acting(4, 40e-6, num_cores=2)[:2] == (1, False)
    assert _placement.choose_beside_acting(4, 7e-6, num_cores=2).num_workers == 0
    assert _placement.choose_beside_acting(4, 1e-3, num_cores=1).num_workers == 0
    # 8 workers step 16 environments as quickly as 15 do.
    assert _placement.choose_beside_acting(16, 1e-3, num_cores=16)[:2] == (8, False)
    assert _placement.choose_beside_acting(1, None, num_cores=4)[:2] == (1, False)


def test_current_time_step_holds_the_latest_of_all_parts(toys):
    with FastParallelEnvironment(toys(4), num_parts=2, num_workers=1) as env:
        env.reset()
        for part in (0, 1):
            env.step_async(torch.ones(2, dtype=torch.int64), part)
        halves = [env.step_wait(part) for part in (0, 1)]
        assert torch.equal(env.current_time_step().reward, torch.cat([half.reward for half in halves]))
        assert env.current_time_step().reward.tolist() == [1, 11, 21, 31]
        env.step_async(torch.ones(2, dtype=torch.int64), 0)
        env.step_wait(0)
        with pytest.raises(RuntimeError, match="different numbers of steps"):
            env.current_time_step()



def test_shares_cover_every_part_evenly():
    shares = _placement.shares_of_hosts(10, 2, 3)
    assert shares == [[(0, 2), (5, 6)], [(2, 4), (6, 8)], [(4, 5), (8, 10)]]


def test_measuring_leaves_the_random_numbers_of_the_process_alone(toys):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(1)
    np.random.seed(1)
    seconds = _placement.measure_step_seconds(toys(1)[0]())
    assert 0 < seconds < 1  # of a step, not of all that it measures
    assert torch.equal(torch.rand(2), expected[0]) and np.array_equal(np.random.rand(2), expected[1])


def test_workers_make_tensors_on_the_cpu_whatever_the_default_device_is(toys):
    torch.set_default_device("meta")  # stands for a GPU, which cannot be used after a fork
    try:
        env = FastParallelEnvironment(toys(2), num_workers=1)
    finally:
        torch.set_default_device(None)
    assert env.call_envs_with_same_args("device_of_new_tensors") == ["cpu", "cpu"]
    env.close()
