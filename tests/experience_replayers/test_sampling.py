"""How sequences are drawn: proportions, priorities, recent data, errors."""

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec
from alf.utils import native_replay

SPEC = {"value": TensorSpec((), torch.int64)}


def filled(steps_of_each, max_length=100, **kwargs):
    """Return a buffer whose environments have stored these numbers of steps."""
    buffer = ReplayBuffer(SPEC, len(steps_of_each), max_length, **kwargs)
    for env, num_steps in enumerate(steps_of_each):
        for step in range(num_steps):
            buffer.add_batch({"value": torch.tensor([1000 * env + step])}, torch.tensor([env]))
    return buffer


def frequencies(buffer, batch_size, length, num_batches):
    """Return how often each start was drawn, by (environment, position), over the number of sequences."""
    counts = {}
    for _ in range(num_batches):
        _, info = buffer.get_batch(batch_size, length)
        for at in zip(info.env_ids.tolist(), info.positions.tolist()):
            counts[at] = counts.get(at, 0) + 1
    return {at: count / (num_batches * batch_size) for at, count in counts.items()}


@pytest.mark.parametrize("with_replacement", [False, True])
def test_starts_of_all_environments_are_equally_likely(implementation, with_replacement):
    buffer = filled([3, 12, 0, 25], max_length=20, with_replacement=with_replacement)
    found = frequencies(buffer, 4, 2, 5000)
    assert set(found) == {(0, p) for p in range(2)} | {(1, p) for p in range(11)} | {(3, p) for p in range(5, 24)}
    chi_square = sum((share * 32 - 1)**2 for share in found.values()) / 32 * 20000
    assert chi_square < 62  # 31 degrees of freedom: p = 0.001


@pytest.mark.parametrize("num_starts, batch_size", [(1000, 30), (40, 30), (30, 30)])
def test_no_start_comes_twice_without_replacement(implementation, num_starts, batch_size):
    buffer = filled([num_starts // 2, num_starts - num_starts // 2], max_length=500)
    for _ in range(20):
        _, info = buffer.get_batch(batch_size, 1)
        assert len(set(zip(info.env_ids.tolist(), info.positions.tolist()))) == batch_size


def test_starts_come_equally_often_when_there_are_too_few(implementation):
    found = frequencies(filled([3]), 7, 1, 1)
    assert sorted(round(share * 7) for share in found.values()) == [2, 2, 3]


def test_the_part_that_is_recent_is_not_rounded_down(implementation):
    buffer = filled([200], recent_data_ratio=0.29, recent_data_steps=50)
    for _ in range(5):
        _, info = buffer.get_batch(100, 1)  # 100 * 0.29 is 28.999999999999996
        assert all(position >= 150 for position in info.positions[:29].tolist())


@pytest.mark.parametrize("batch_size", [10, 40])
def test_part_of_the_batch_is_recent(implementation, batch_size):
    buffer = filled([60, 130], recent_data_ratio=0.3, recent_data_steps=5)
    for _ in range(20):
        _, info = buffer.get_batch(batch_size, 3)
        starts = list(zip(info.env_ids.tolist(), info.positions.tolist()))
        assert len(set(starts)) == batch_size
        recent = {(0, p) for p in range(53, 58)} | {(1, p) for p in range(123, 128)}
        assert len(recent & set(starts[:int(0.3 * batch_size)])) == min(int(0.3 * batch_size), 10)
    assert len(frequencies(buffer, 50, 3, 300)) == 58 + 98


def test_same_seed_gives_same_batches_in_both_implementations(monkeypatch):
    if native_replay.extension() is None:
        pytest.skip("alf._replay is not built")

    def draw():
        torch.manual_seed(3)
        drawn = []
        for kwargs in ({}, {"with_replacement": True}, {"recent_data_ratio": 0.5, "recent_data_steps": 4},
                       {"prioritized_sampling": True}, {"prioritized_sampling": True, "recent_data_ratio": 0.4}):
            buffer = filled([30, 120], **kwargs)
            for _ in range(3):
                _, info = buffer.get_batch(20, 2)
                if "prioritized_sampling" in kwargs:
                    buffer.update_priority(info.env_ids, info.positions, torch.rand(20) * 5)
                    drawn.append(info.importance_weights)
                drawn += [info.env_ids, info.positions]
        return drawn

    native = draw()
    monkeypatch.setattr(native_replay, "_native", None)
    assert all(torch.equal(a, b) for a, b in zip(native, draw(), strict=True))


def test_starts_are_drawn_in_proportion_to_priority(implementation):
    buffer = filled([10, 110], prioritized_sampling=True, num_earliest_frames_ignored=2)
    starts = [(0, p) for p in range(2, 9)] + [(1, p) for p in range(12, 109)]
    priorities = torch.arange(len(starts)) % 5
    env_ids, positions = torch.tensor(starts).T
    buffer.update_priority(env_ids, positions, priorities)
    found = frequencies(buffer, 50, 2, 2000)
    expected = {at: float(p / priorities.sum()) for at, p in zip(starts, priorities) if p > 0}
    assert set(found) == set(expected)
    for at, share in expected.items():
        assert found[at] == pytest.approx(share, rel=0.25)
    _, info = buffer.get_batch(200, 2)
    for env, position, weight in zip(info.env_ids.tolist(), info.positions.tolist(), info.importance_weights.tolist()):
        assert weight == pytest.approx(expected[env, position] * len(starts))


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_importance_weights_are_probabilities(implementation, ratio):
    buffer = filled([20], prioritized_sampling=True, recent_data_ratio=ratio, recent_data_steps=3,
                    with_replacement=True)
    buffer.update_priority(torch.zeros(20, dtype=torch.int64), torch.arange(20), torch.arange(20) + 1.0)
    found = frequencies(buffer, 20, 1, 3000)
    _, info = buffer.get_batch(400, 1)
    for position, weight in zip(info.positions.tolist(), info.importance_weights.tolist()):
        assert found[0, position] == pytest.approx(weight / 20, rel=0.15)


class PriorityModel:
    """What a prioritized buffer with these priorities would draw from."""

    def __init__(self, num_environments):
        self.priorities = [{} for _ in range(num_environments)]
        self.next = [0] * num_environments
        self.largest = 1.0

    def weights(self, length, ignored, interval):
        return {(env, p): value for env, steps in enumerate(self.priorities) for i, (p, value) in
                enumerate(sorted(steps.items())) if i >= ignored and p % interval == 0 and p + length - 1 in steps}


@hypothesis.settings(max_examples=60, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_priorities_are_those_of_stored_starts(implementation, data):
    num_environments, max_length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    interval = data.draw(st.integers(1, min(3, max_length)))
    ignored = data.draw(st.integers(0, min(1, max_length - 1)))
    spec = {"value": TensorSpec((), torch.int64), "state": TensorSpec(())}
    buffer = ReplayBuffer(spec, num_environments, max_length, num_earliest_frames_ignored=ignored,
                          prioritized_sampling=True, state_field="state", state_interval=interval)
    model = PriorityModel(num_environments)
    values = st.integers(0, 8).map(float)  # sums of these are exact
    for _ in range(data.draw(st.integers(1, 8))):
        kind = data.draw(st.sampled_from(["add", "add_some", "update", "clear", "sample"]))
        if kind in ("add", "add_some"):
            num_steps = data.draw(st.integers(1, 10)) if kind == "add" else 1
            envs = list(range(num_environments))
            if kind == "add_some":
                envs = sorted(data.draw(st.sets(st.sampled_from(envs), min_size=1)))
            given_ = data.draw(st.none() | st.lists(values, min_size=num_steps * len(envs),
                                                    max_size=num_steps * len(envs)))
            priorities = None if given_ is None else torch.tensor(given_).view(num_steps, len(envs))
            steps = {"value": torch.zeros(num_steps, len(envs), dtype=torch.int64),
                     "state": torch.zeros(num_steps, len(envs))}
            if kind == "add":
                buffer.add_steps(steps, priorities=priorities)
            else:
                buffer.add_batch({name: value[0] for name, value in steps.items()}, torch.tensor(envs),
                                 priorities=None if priorities is None else priorities[0])
            largest = model.largest
            for t in range(num_steps):
                for i, env in enumerate(envs):
                    value = largest if priorities is None else float(priorities[t, i])
                    model.priorities[env][model.next[env]] = value
                    model.next[env] += 1
                    model.largest = max(model.largest, value)
                    model.priorities[env] = dict(sorted(model.priorities[env].items())[-max_length:])
        elif kind == "update" and max(model.next):
            where = [(env, p) for env, end in enumerate(model.next) for p in range(end)]
            chosen = data.draw(st.lists(st.sampled_from(where), max_size=6))  # stored, overwritten or twice
            new = data.draw(st.lists(values, min_size=len(chosen), max_size=len(chosen)))
            env_ids, positions = torch.tensor(chosen, dtype=torch.int64).view(-1, 2).T
            buffer.update_priority(env_ids, positions, torch.tensor(new))
            for (env, p), value in zip(chosen, new):
                if p in model.priorities[env]:
                    model.priorities[env][p] = value
                model.largest = max(model.largest, value)
        elif kind == "clear":
            env = data.draw(st.integers(0, num_environments - 1))
            buffer.clear(torch.tensor([env]))
            model.priorities[env] = {}
        else:
            length = data.draw(st.integers(1, max_length))
            weights = model.weights(length, ignored, interval)
            total = sum(weights.values())
            if not weights or total == 0:
                with pytest.raises(ValueError, match="nothing can be drawn" if weights else "batch_length"):
                    buffer.get_batch(1, length)
                continue
            _, info = buffer.get_batch(16 * len(weights), length)
            drawn = list(zip(info.env_ids.tolist(), info.positions.tolist()))
            for at, weight in zip(drawn, info.importance_weights.tolist()):
                assert weight == pytest.approx(weights[at] / total * len(weights))
            # stratified: of n draws, what has the share s comes n * s times, give or take less than two
            for at, value in weights.items():
                assert abs(drawn.count(at) - len(drawn) * value / total) < 2
    assert buffer.initial_priority == model.largest


def test_new_steps_get_the_largest_priority_so_far(implementation):
    buffer = filled([2], prioritized_sampling=True, initial_priority=0.5)
    assert buffer.initial_priority == 0.5
    buffer.update_priority(torch.tensor([0]), torch.tensor([1]), torch.tensor([3.0]))
    buffer.add_batch({"value": torch.tensor([7])})
    buffer.update_priority(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.25]))
    _, info = buffer.get_batch(300, 1)
    shares = {p: (info.positions == p).float().mean().item() for p in range(3)}
    assert shares == pytest.approx({0: 0.5 / 3.75, 1: 0.25 / 3.75, 2: 3 / 3.75}, abs=0.01)


@pytest.mark.parametrize("value, told", [(-1.0, "-1.0"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_impossible_priorities_are_refused(implementation, value, told):
    buffer = filled([5], prioritized_sampling=True)
    priorities = torch.tensor([1.0, 2.0, value])
    with pytest.raises(ValueError, match=f"priorities: expected finite numbers >= 0, got {told} at index 2"):
        buffer.update_priority(torch.zeros(3, dtype=torch.int64), torch.arange(3), priorities)
    with pytest.raises(ValueError, match=f"got {told} at index 2"):
        buffer.add_steps({"value": torch.zeros(3, 1, dtype=torch.int64)}, priorities=priorities.view(3, 1))
    assert buffer.total_size == 5  # nothing was stored


def test_errors_tell_what_was_expected(implementation):
    buffer = filled([5, 3], prioritized_sampling=True, max_length=10, num_earliest_frames_ignored=1)
    zeros = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match="positions below 5, the next one of environment 0, got 5 at index 0"):
        buffer.update_priority(zeros, zeros + 5, torch.ones(1))
    with pytest.raises(ValueError, match="at least batch_length=5 steps after the num_earliest_frames_ignored=1 .* "
                       "got 3 to 5 steps in 2 environments, of which each can keep max_length=10"):
        buffer.get_batch(4, 5)
    with pytest.raises(ValueError, match="batch_size and batch_length of at least 1, got 0 and 2"):
        buffer.get_batch(0, 2)
    with pytest.raises(ValueError, match=r"priorities: expected shape \[2\], got \[3\]"):
        buffer.add_batch({"value": torch.zeros(2, dtype=torch.int64)}, priorities=torch.ones(3))
    buffer.update_priority(torch.tensor([0] * 5 + [1] * 3), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2]), torch.zeros(8))
    with pytest.raises(ValueError, match="priorities of the 6 starts of sequences of 1 steps sum to 0"):
        buffer.get_batch(4, 1)
    with pytest.raises(RuntimeError, match="samples uniformly. Set prioritized_sampling=True"):
        filled([5]).update_priority(zeros, zeros, torch.ones(1))
