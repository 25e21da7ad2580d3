"""The native extensions given what nobody should give them: an exception says so; nothing beyond an array is read."""

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

replay = pytest.importorskip("alf._replay")
pool = pytest.importorskip("alf._parallel_env")
envs = pytest.importorskip("alf._envs")
exchange = pytest.importorskip("alf._exchange")


def test_extensions_are_the_instrumented_ones_where_these_are_asked_for():
    expected = os.environ.get("ALF_SANITIZED")
    if not expected:
        pytest.skip("not run under a sanitizer")
    for module in (replay, pool, envs, exchange):
        assert module.__file__.startswith(expected), module.__file__


class TestExchange:

    @pytest.fixture
    def memory(self):
        descriptor = os.memfd_create("alf-test")
        os.ftruncate(descriptor, exchange.num_bytes(2, 4096))
        yield descriptor
        os.close(descriptor)

    def member(self, descriptor, **changes):
        return exchange.Member(**{**dict(descriptor=descriptor, rank=0, num_members=2, capacity=4096, spin_seconds=0.0,
                                         timeout_seconds=0.3), **changes})

    def test_wrong_ranks_and_sizes_are_refused(self, memory):
        for rank in (-1, 2, 2**40):
            with pytest.raises(IndexError, match="no such rank"):
                self.member(memory, rank=rank)
        for capacity in (0, -64, 100):
            with pytest.raises((ValueError, RuntimeError)):
                self.member(memory, capacity=capacity)

    def test_what_is_no_row_of_numbers_is_refused(self, memory):
        member = self.member(memory)
        wrong_types = [np.ones(3, np.int64), np.ones(3, np.float16), [1.0], None, torch.ones(3)]
        for numbers in (*wrong_types, np.ones((4, 4)).T[:2]):
            with pytest.raises(TypeError):
                member.sum(numbers)
        for copied in (np.ones(3), np.ones(8, np.uint8)[::2], b"bytes"):
            with pytest.raises(TypeError):
                member.copy_from(0, copied)
        read_only = np.ones(3)
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match="not writeable"):
            member.sum(read_only)
        for root in (-1, 2):
            with pytest.raises(IndexError, match="no such rank"):
                member.copy_from(root, np.zeros(3, np.uint8))

    def test_what_is_no_memory_is_refused(self):
        with pytest.raises(RuntimeError, match="mmap: "):
            self.member(2**20)

    def test_who_does_not_come_is_named(self, memory):
        with pytest.raises(RuntimeError, match="process 1 did not come within 0 s"):
            self.member(memory).sum(np.ones(3))

    def test_who_has_ended_is_named(self, memory):
        child = os.fork()
        if child == 0:
            self.member(memory, rank=1)
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(RuntimeError, match="process 1 has ended"):
            self.member(memory, timeout_seconds=60.0).sum(np.ones(3))

    def test_a_signal_ends_the_waiting(self, memory):
        with pytest.raises(ZeroDivisionError):
            signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            self.member(memory, timeout_seconds=60.0).copy_from(1, np.zeros(12, np.uint8))


def counts(positions, sizes):
    return torch.tensor([positions, sizes, positions])


class TestTrees:

    @pytest.mark.parametrize("kind", ["SumTree", "MinTree", "MaxTree"])
    @pytest.mark.parametrize("capacity", [0, -1, -2**40])
    def test_capacity_below_one_is_refused(self, kind, capacity):
        with pytest.raises(ValueError, match=f"capacity: expected >= 1, got {capacity}"):
            getattr(replay, kind)(capacity)

    @pytest.mark.parametrize("index", [-1, 17, 2**62, -2**63])
    def test_index_beyond_the_leaves_is_refused(self, index):
        tree = replay.SumTree(17)
        with pytest.raises(IndexError, match=r"indices\[1\]: expected 0 to 16, got"):
            tree.set(torch.tensor([3, index]), torch.ones(2, dtype=torch.float64))
        with pytest.raises(IndexError):
            tree.get(torch.tensor([3, index]))
        assert tree.summary() == 0

    def test_arguments_of_other_dtypes_sizes_and_kinds_are_refused(self):
        tree = replay.SumTree(17)
        with pytest.raises(ValueError, match="values: expected 2 elements, got 1"):
            tree.set(torch.tensor([0, 1]), torch.ones(1, dtype=torch.float64))
        for indices in (torch.tensor([0.0]), torch.tensor([0], dtype=torch.int32), torch.arange(8)[::2], np.arange(2),
                        [0], None, torch.tensor([1, 0]).to_sparse()):
            with pytest.raises(TypeError, match="indices: expected a contiguous tensor"):
                tree.get(indices)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
           st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=5))
    def test_any_values_and_bounds_find_a_leaf_or_raise(self, values, bounds):
        tree = replay.SumTree(40)
        tree.set(torch.arange(len(values)), torch.tensor(values, dtype=torch.float64))
        try:
            found = tree.find(torch.tensor(bounds, dtype=torch.float64))
        except ValueError as error:
            assert "not positive" in str(error) or "negative" in str(error)
        else:
            assert ((found >= 0) & (found < 40)).all()


class TestPriorities:

    def test_sizes_that_do_not_fit_are_refused(self):
        for priorities, stored, interval in (
            (torch.zeros(0, dtype=torch.float64), torch.zeros(3, 0, dtype=torch.int64), 1),
            (torch.zeros(7, dtype=torch.float64), counts([0, 0], [0, 0]), 1),
            (torch.zeros(8, dtype=torch.float64), counts([0, 0], [0, 0]), 0),
            (torch.zeros(8, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.int64), 1),
        ):
            with pytest.raises(ValueError, match="expected"):
                replay.Priorities(priorities, stored, interval)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(-3, 4), st.integers(-2**62, 2**62), st.floats()), max_size=6))
    def test_any_update_is_made_or_refused(self, updates):
        stored = counts([9, 3], [4, 3])
        priorities = replay.Priorities(torch.ones(8, dtype=torch.float64), stored, 1)
        priorities.synchronize(1, 0)
        env_ids, positions, values = zip(*updates) if updates else ((), (), ())
        arguments = (torch.tensor(env_ids, dtype=torch.int64), torch.tensor(positions, dtype=torch.int64),
                     torch.tensor(values, dtype=torch.float64))
        try:
            priorities.update(*arguments)
        except IndexError as error:
            assert "expected 0 to" in str(error)
        assert np.isfinite(priorities.synchronize(1, 0))

    @pytest.mark.parametrize("interval", [0, -2])
    def test_starts_at_no_interval_are_refused(self, interval):
        with pytest.raises(ValueError, match="interval: expected >= 1"):
            replay.count_starts(counts([9], [4]), 1, 0, interval, 0)
        with pytest.raises(ValueError, match="interval: expected >= 1"):
            replay.locate_starts(torch.tensor([0]), counts([9], [4]), 1, 0, interval, 0)


class TestRowStore:

    @staticmethod
    def make(num_rows=8, num_slots=4, num_envs=2, offset=0, interval=1, length=4, row_bytes=16):
        rows = torch.zeros(num_rows, row_bytes, dtype=torch.uint8)
        store = replay.RowStore([(rows, num_slots, interval, False)], [(0, offset, torch.zeros(2))], 0,
                                torch.zeros(3, num_envs, dtype=torch.int64), length)
        return store, rows

    @pytest.mark.parametrize("wrong", [{"num_rows": 7}, {"num_slots": 0}, {"num_slots": 5}, {"offset": 9},
                                       {"interval": 0}, {"length": 5}, {"length": 0}, {"row_bytes": 4}])
    def test_rings_that_do_not_hold_what_is_said_are_refused(self, wrong):
        with pytest.raises(ValueError, match="expected"):
            self.make(**wrong)

    @pytest.mark.parametrize("env_ids", [[0, 2], [-1, 0], [2**62, 1]])
    def test_environment_that_does_not_exist_is_refused_and_nothing_stored(self, env_ids):
        store, rows = self.make()
        with pytest.raises(IndexError, match="env_ids"):
            store.append(torch.ones(2, 2), False, torch.tensor(env_ids))
        assert not rows.any()
        with pytest.raises(IndexError, match="env_ids"):
            store.read([0], torch.tensor(env_ids), torch.tensor([0, 0]))

    @pytest.mark.parametrize("value", [
        torch.ones(3, 2), torch.ones(2, 3), torch.ones(2, 2, 1), torch.ones(2), torch.ones(2, 2, dtype=torch.float64),
        torch.ones(2, 4)[:, ::2], np.ones((2, 2), np.float32), None, [torch.ones(2, 2)],
        torch.ones(2, 2).to_sparse(), torch.ones(2, 2, device="meta"),
    ])
    def test_what_is_no_plain_row_is_left_to_python(self, value):
        store, rows = self.make()
        assert store.append(value, False, None) == -1
        assert not rows.any()

    def test_plan_without_a_class_is_refused(self):
        rows = torch.zeros(8, 16, dtype=torch.uint8)
        with pytest.raises(TypeError, match="plan: expected the class of a nest"):
            replay.RowStore([(rows, 4, 1, False)], [(0, 0, torch.zeros(2))], (0, [0], None),
                            torch.zeros(3, 2, dtype=torch.int64), 4)

    def test_leaf_without_elements_is_stored_and_read(self):
        rows = torch.zeros(8, 16, dtype=torch.uint8)
        leaves = [(0, 0, torch.zeros(0)), (0, 0, torch.zeros(2))]
        store = replay.RowStore([(rows, 4, 1, False)], leaves, (list, [0, 1], None),
                                torch.zeros(3, 2, dtype=torch.int64), 4)
        assert store.append([torch.zeros(2, 0), torch.tensor([[1., 2.], [3., 4.]])], False, None) == 1
        empty, full = store.read([0, 1], torch.tensor([1, 0]), torch.tensor([0, 0]))
        assert empty.shape == (2, 0) and full.tolist() == [[3., 4.], [1., 2.]]

    def test_positions_and_leaves_that_do_not_exist_are_refused(self):
        store, _ = self.make()
        where = torch.tensor([0])
        with pytest.raises(IndexError, match="positions: expected >= 0"):
            store.read([0], where, torch.tensor([-1]))
        with pytest.raises(IndexError):
            store.read([1], where, where)
        with pytest.raises(ValueError, match="same shape"):
            store.read([0], where, torch.tensor([0, 0]))
        with pytest.raises(ValueError, match="length: expected >= 1"):
            store.read_sequences(where, where, -1, False)


class TestPool:

    def test_control_lines_of_another_size_or_place_are_refused(self):
        block = np.zeros(64 * 6, np.uint8)
        start = -block.ctypes.data % 64
        for lines in (block[start:start + 64], block[start:start + 120].reshape(2, 60),
                      block[start + 8:start + 72].reshape(1, 64), block[start:start + 128].reshape(2, 64)[:, ::2],
                      block[start:start + 256].reshape(2, 128)[:, :64]):
            with pytest.raises(ValueError, match="64 bytes per worker"):
                pool.Signals(lines, 0.0)
        signals = pool.Signals(block[start:start + 128].reshape(2, 64), 0.0)
        for worker in (2, 2**40):
            with pytest.raises(IndexError):
                signals.post(worker, 1)
            with pytest.raises(IndexError):
                signals.next(worker, 0.0)
        with pytest.raises(IndexError):
            signals.wait_all([1, 1, 1], 0.0)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(min_size=64, max_size=64))
    def test_garbage_in_a_control_line_neither_hangs_nor_crashes(self, garbage):
        block = np.zeros(128, np.uint8)
        start = -block.ctypes.data % 64
        lines = block[start:start + 64].reshape(1, 64)
        lines[0] = np.frombuffer(garbage, np.uint8)
        signals = pool.Signals(lines, 0.0)
        assert -1 <= signals.next(0, 0.001) < 2**32
        signals.wait(0, 5, 0.001)
        assert signals.wait_all([7], 0.001) in (0, -1, -2, -3)
        signals.finish(0, True)
        try:
            signals.post(0, 3)
        except RuntimeError as error:
            assert "too many commands" in str(error)

    @pytest.mark.parametrize("rows", [(2, 0, 3), (-1, 0, 3), (0, -1, 3), (0, 0, 4), (0, 2, 1)])
    def test_rows_beyond_the_blocks_are_refused(self, rows):
        keeper = pool.RowKeeper(np.zeros((2, 3), np.int32), [np.zeros((2, 3, 2), np.float32)],
                                [np.zeros((3, 2), np.float32)], [np.zeros((2, 3, 5), np.float32)])
        for method in (keeper.begin, keeper.finish):
            with pytest.raises(IndexError, match="rows outside"):
                method(*rows)

    @pytest.mark.parametrize("changes", [
        {"step_type": np.zeros((2, 3), np.int64)}, {"step_type": np.zeros(6, np.int32)},
        {"actions": [np.zeros((3, 1), np.float32)]}, {"actions": [np.zeros((2, 2), np.float32)]},
        {"checked": [np.zeros((2, 2, 5), np.float32)]}, {"checked": [np.zeros((1, 3, 5), np.float32)]},
        {"checked": [np.zeros((2, 3, 5), np.float32)[..., ::2]]}, {"checked": [np.zeros(2, np.float32)]},
    ])
    def test_blocks_that_do_not_fit_each_other_are_refused(self, changes):
        blocks = {"step_type": np.zeros((2, 3), np.int32), "prev_actions": [np.zeros((2, 3, 2), np.float32)],
                  "actions": [np.zeros((3, 2), np.float32)], "checked": [np.zeros((2, 3, 5), np.float32)]}
        with pytest.raises(ValueError, match="RowKeeper"):
            pool.RowKeeper(**(blocks | changes))


class TestBatches:

    @staticmethod
    def make(name="CartPole", size=3, observation=4):
        batch = envs.Batch(name, size, 0.99, 10)
        blocks = [np.zeros((2, size), np.int32), np.zeros((2, size), np.float32), np.zeros((2, size), np.float32),
                  np.zeros((2, size, observation), np.float32), np.zeros((2, size), np.int64)]
        return batch, blocks

    def test_a_step_before_there_are_blocks_is_refused(self):
        batch, _ = self.make()
        for call in (batch.reset, batch.advance, lambda: batch.step(torch.zeros(3, dtype=torch.int64))):
            with pytest.raises(RuntimeError, match="attach"):
                call()

    @pytest.mark.parametrize("place", range(5))
    def test_block_of_another_shape_or_dtype_is_refused(self, place):
        batch, blocks = self.make()
        for wrong in (blocks[place][:, :2], blocks[place].astype(np.int16), np.zeros((), np.float32),
                      np.zeros((0, *blocks[place].shape[1:]), blocks[place].dtype)):
            changed = list(blocks)
            changed[place] = wrong
            with pytest.raises(ValueError, match="expected"):
                batch.attach(*changed)

    def test_kind_of_action_block_is_that_of_the_environment(self):
        batch, blocks = self.make()
        with pytest.raises(ValueError, match="prev_action"):
            batch.attach(*blocks[:4], np.zeros((2, 3, 1), np.float32))

    @pytest.mark.parametrize("action", [
        torch.zeros(2, dtype=torch.int64), torch.zeros(3), torch.zeros(3, 1, dtype=torch.int64), np.zeros(3), None,
        torch.zeros(6, dtype=torch.int64)[::2], torch.zeros(3, dtype=torch.int64, device="meta")])
    def test_action_of_another_kind_is_left_to_python(self, action):
        batch, blocks = self.make()
        batch.attach(*blocks)
        batch.reset()
        assert batch.step(action) == -1

    @pytest.mark.parametrize("field, value", [
        ("state", np.zeros((3, 3))), ("state", np.full((3, 4), np.nan)), ("state", np.full((3, 4), 1e300)),
        ("random", np.zeros((3, 3), np.int64)), ("step_type", np.full((3, 1), 7)), ("num_steps", np.full((3, 1), -1)),
        ("has_next_random", "no numbers")])
    def test_state_that_cannot_be_is_refused_as_a_whole(self, field, value):
        batch, blocks = self.make("Acrobot", observation=6)
        batch.attach(*blocks)
        batch.reset()
        before = batch.get_state()
        with pytest.raises(ValueError, match=field):
            batch.set_state(before | {field: value})
        after = batch.get_state()
        assert all(np.array_equal(before[name], after[name]) for name in before)
