"""ReplayBuffer: storing of odd data, devices of processes and checkpoints, memory, errors."""

import copy
import logging
import multiprocessing
import time
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch

import alf.nest as nest
from alf.data_structures import Experience, TimeStep
from alf.experience_replayers import _memory
from alf.experience_replayers.replay_buffer import ReplayBuffer
from alf.tensor_specs import TensorSpec
from alf.utils import native_replay
from alf.utils.checkpoint_utils import Checkpointer

SPEC = Experience(
    time_step=TimeStep(step_type=TensorSpec((), torch.int32), reward=TensorSpec(()), discount=TensorSpec(()),
                       observation=TensorSpec((4, )), env_id=TensorSpec((), torch.int32)),
    rollout_info={"rl": TensorSpec((2, ))},
    state=TensorSpec((3, )))


def steps(*outer):
    """Return random steps without episode ends."""
    def leaf(spec):
        return torch.randn(*outer, *spec.shape) if spec.dtype.is_floating_point else torch.ones(outer, dtype=spec.dtype)

    return nest.map_structure(leaf, SPEC)


def assert_equal(got, expected):
    for a, b in zip(nest.flatten(got), nest.flatten(expected), strict=True):
        assert torch.equal(a, b)


Plain = namedtuple("Plain", ["b", "a"])


@pytest.mark.parametrize("spec", [
    TensorSpec((3, )),
    [TensorSpec(()), (TensorSpec((2, )), )],
    Plain(b=TensorSpec(()), a={"y": TensorSpec((2, ), torch.float16), "x": TensorSpec((1, ), torch.int8)}),
    OrderedDict(z=TensorSpec(()), a=TensorSpec((0, )), b=TensorSpec((300, ), torch.float64), c=()),
    TensorSpec((2, ), torch.bfloat16),
], ids=["tensor", "list", "plain namedtuple", "ordered dictionary", "bfloat16"])
def test_any_nest_can_be_stored(implementation, spec):
    buffer = ReplayBuffer(spec, 2, 5)
    data = nest.map_structure(lambda s: (10 * torch.randn(3, 2, *s.shape)).to(s.dtype), spec)
    buffer.add_steps(data)
    got, info = buffer.get_batch(1, 3)
    nest.assert_same_structure(got, data)
    assert type(got) is type(data)
    assert_equal(got, nest.map_structure(lambda leaf: leaf[:, info.env_ids].transpose(0, 1), data))


def test_data_that_lie_oddly_in_memory_are_stored_all_the_same(implementation):
    spec = {"x": TensorSpec((4, 3)), "y": TensorSpec(())}
    buffer = ReplayBuffer(spec, 2, 8)
    data = {"x": torch.randn(3, 4, 2, 5, requires_grad=True).permute(3, 2, 1, 0),  # inner dimensions swapped
            "y": torch.randn(2, 10)[:, ::2].T}
    buffer.add_steps(data)
    buffer.add_batch({"x": torch.ones(4, 3).expand(2, 4, 3), "y": torch.tensor(2.0).expand(2)})
    got, _ = buffer.gather_all()
    assert torch.equal(got["x"][:, :5], data["x"].transpose(0, 1).detach())
    assert torch.equal(got["y"][:, :5], data["y"].T)
    assert bool((got["x"][:, 5] == 1).all()) and bool((got["y"][:, 5] == 2).all())
    assert not got["x"].requires_grad


def test_a_batch_lies_time_major_and_is_the_readers_own(implementation):
    buffer = ReplayBuffer(SPEC, 2, 8)
    buffer.add_steps(steps(8, 2))
    batch, info = buffer.get_batch(5, 3)
    time_major = batch.time_step.observation.transpose(0, 1)
    if implementation == "native":
        assert time_major.is_contiguous()
    else:  # a view of whole rows
        assert time_major.stride(0) == 5 * time_major.stride(1)
    before = batch.time_step.observation.clone()
    buffer.add_steps(steps(8, 2))
    assert torch.equal(batch.time_step.observation, before)
    nest.map_structure(lambda leaf: leaf.zero_(), batch)
    assert_equal(buffer.get_field("time_step.observation", info.env_ids, info.positions + 8), buffer.get_batch(
        1, 1)[1].replay_buffer.get_field("time_step", info.env_ids, info.positions + 8).observation)


@pytest.mark.parametrize("state_interval", [1, 2])
def test_a_batch_may_be_asked_for_time_major(implementation, state_interval):
    buffer = ReplayBuffer(SPEC, 2, 8, state_field="state", state_interval=state_interval)
    buffer.add_steps(steps(8, 2))
    torch.manual_seed(1)
    batch, info = buffer.get_batch(5, 3)
    torch.manual_seed(1)
    time_major, same_info = buffer.get_batch(5, 3, time_major=True)
    assert time_major.state.shape == (1, 5, 3) and time_major.step_type.shape == (3, 5)
    assert_equal(time_major, nest.map_structure(lambda leaf: leaf.transpose(0, 1), batch))
    assert torch.equal(same_info.positions, info.positions)


def test_wrong_data_are_refused_by_name(implementation):
    buffer = ReplayBuffer(SPEC, 2, 8)
    good = steps(2)
    with pytest.raises(ValueError, match=r"'time_step.observation': expected torch.float32 \[2, 4\], got torch.float32 "
                       r"\[2, 5\]"):
        buffer.add_batch(good._replace(time_step=good.time_step._replace(observation=torch.zeros(2, 5))))
    with pytest.raises(ValueError, match=r"'time_step.reward': expected torch.float32 \[2\], got torch.float64 \[2\]"):
        buffer.add_batch(good._replace(time_step=good.time_step._replace(reward=torch.zeros(2, dtype=torch.float64))))
    with pytest.raises(ValueError, match=r"expected torch.float32 \[1, 2\], got torch.float32 \[2, 2\]"):
        buffer.add_batch(good, env_ids=torch.tensor([1]))
    with pytest.raises(RuntimeError, match="Different types!|Keys are different!"):
        buffer.add_batch(good._replace(rollout_info={"other": torch.zeros(2, 2)}))
    with pytest.raises(ValueError, match=r"env_ids: expected each environment once, got \[1, 1\]"):
        buffer.add_batch(good, env_ids=torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="env_ids: expected 0 to 1, got 2"):
        buffer.add_batch(good, env_ids=torch.tensor([0, 2]))
    assert buffer.total_size == 0


def test_questions_about_what_is_not_stored_are_refused(implementation):
    buffer = ReplayBuffer(SPEC, 2, 4, state_field="state", state_interval=2)
    buffer.add_steps(steps(6, 2))
    one = torch.tensor([1])
    with pytest.raises(ValueError, match="in environment 1 are 2 to 5, got 1"):
        buffer.get_field("time_step.reward", one, one)
    with pytest.raises(ValueError, match="in environment 1 are 2 to 5, got 6"):
        buffer.steps_to_episode_end(one + 5, one)
    with pytest.raises(ValueError, match=r"multiples of state_interval=2, got \[3\]"):
        buffer.get_field("state", one, one + 2)
    assert buffer.get_field("state", one, one + 3).shape == (1, 3)
    with pytest.raises(LookupError, match="nothing"):
        buffer.get_field("time_step.nothing", one, one + 3)
    with pytest.raises(ValueError, match="gather_all: expected state_interval=1, got 2"):
        buffer.gather_all()
    without = ReplayBuffer(SPEC, 2, 4, keep_episodic_info=False)
    without.add_steps(steps(2, 2))
    with pytest.raises(RuntimeError, match="Set ReplayBuffer.keep_episodic_info=True"):
        without.get_episode_begin_position(one, one)


@pytest.mark.parametrize("kwargs, told", [
    (dict(max_length=0), "max_length: expected at least 1, got 0"),
    (dict(num_earliest_frames_ignored=8), "num_earliest_frames_ignored: expected 0 to max_length - 1 = 7, got 8"),
    (dict(recent_data_ratio=1.5), "recent_data_ratio: expected 0 to 1, got 1.5"),
    (dict(state_interval=3), "state_interval: expected 1 without .* got 3.*TrainerConfig.use_rollout_state=True"),
    (dict(max_length=10.5), "max_length: expected a whole number, got 10.5"),
    (dict(max_length="8"), "max_length: expected a whole number, got '8'"),
    (dict(recent_data_steps=float("nan")), "recent_data_steps: expected a whole number, got nan"),
    (dict(reward_clip=(1, -1)), r"reward_clip: expected None or \(minimum, maximum\), got \(1, -1\)"),
    (dict(allow_multiprocess=True, prioritized_sampling=True), "expected False with prioritized_sampling=True"),
    (dict(prioritized_sampling=True, initial_priority=-1.0), "initial_priority: expected finite numbers >= 0"),
])
def test_impossible_arguments_are_refused(kwargs, told):
    with pytest.raises(ValueError, match=told):
        ReplayBuffer(SPEC, 2, **{"max_length": 8, **kwargs})


def test_whole_floats_are_counts():
    buffer = ReplayBuffer(SPEC, 2, max_length=8.0)
    assert type(buffer.max_length) is int and buffer.max_length == 8
    buffer.add_steps(steps(4, 2))
    assert buffer.get_batch(3.0, 2.0)[0].step_type.shape == (3, 2)
    for arguments, told in (((2.5, 2), "batch_size: .* got 2.5"), ((2, 1.5), "batch_length: .* got 1.5")):
        with pytest.raises(ValueError, match=told):
            buffer.get_batch(*arguments)


def test_specs_that_cannot_be_stored_are_refused():
    with pytest.raises(TypeError, match="nest of TensorSpecs, got int at 'a'"):
        ReplayBuffer({"a": 3}, 2)
    with pytest.raises(ValueError, match="at least one TensorSpec"):
        ReplayBuffer({"a": ()}, 2)
    with pytest.raises(ValueError, match="need a leaf 'time_step.step_type' or 'step_type'"):
        ReplayBuffer({"a": TensorSpec(())}, 2, keep_episodic_info=True)


def test_missing_extension_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(native_replay, "_native", None)
    native_replay._notify_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        ReplayBuffer(SPEC, 2, 8)
        ReplayBuffer(SPEC, 2, 8)
    assert sum("alf._replay is missing" in record.message for record in caplog.records) == 1


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_too_much_memory_is_refused_with_what_fits(monkeypatch):
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 10 * 2**20)
    image = {"image": TensorSpec((3, 84, 84), torch.uint8)}
    with pytest.raises(MemoryError) as told:
        ReplayBuffer(image, 4, 1000, name="frames")
    assert "frames: 21168 bytes a step x 4 environments x max_length=1000 = 80.7 MiB" in str(told.value)
    assert "only 10.0 MiB are available on cpu. At most max_length=123 fits." in str(told.value)
    ReplayBuffer(image, 4, 123)


@pytest.mark.parametrize("kwargs, beside", [
    (dict(keep_episodic_info=False), 0),
    (dict(), 24),
    (dict(record_episodic_return=True, keep_episodic_info=False), 24 + 4),
    (dict(prioritized_sampling=True), 24 + 8 + 8 + 16 / 15),
])
def test_what_is_kept_beside_steps_counts(monkeypatch, kwargs, beside):
    row = sum(-(-spec.numel * spec.dtype.itemsize // 8) * 8 for spec in nest.flatten(SPEC))  # parts begin at 8 bytes
    assert ReplayBuffer(SPEC, 2, 10, **kwargs).bytes_per_step == pytest.approx(row + beside)
    monkeypatch.setattr(_memory, "available_bytes", lambda device: 100 * (row + beside) + 1)
    ReplayBuffer(SPEC, 1, 100, **kwargs)
    with pytest.raises(MemoryError, match="At most max_length=100 fits"):
        ReplayBuffer(SPEC, 1, 101, **kwargs)


def test_bytes_of_episodes_and_returns_are_those_of_their_arrays():
    buffer = ReplayBuffer(SPEC, 2, 1000, record_episodic_return=True)
    arrays = [value for part in (buffer._episodes, buffer._returns) for value in vars(part).values()
              if getattr(value, "shape", ()) == (2, 1000) and isinstance(value, np.ndarray)]
    num_bytes = sum(array.nbytes for array in arrays)
    assert _memory.bytes_beside_steps(False, True, True) * 2000 == num_bytes


def test_the_limit_of_a_control_group_counts(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    (tmp_path / "max").write_text("3000000\n")
    (tmp_path / "current").write_text("1000000\n")
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "_CGROUP_LIMITS", ((tmp_path / "max", tmp_path / "current"), ))
    assert _memory.available_bytes("cpu") == 2000000
    (tmp_path / "max").write_text("max\n")
    assert _memory.available_bytes("cpu") == 5000 * 1024
    (tmp_path / "meminfo").unlink()
    assert _memory.available_bytes("cpu") is None


def test_memory_is_taken_when_it_is_written():
    def resident_bytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident_bytes()
    buffer = ReplayBuffer({"frame": TensorSpec((84, 84), torch.uint8)}, 4, 20000)  # 564 MB
    buffer.add_steps({"frame": torch.zeros(100, 4, 84, 84, dtype=torch.uint8)})
    assert resident_bytes() - before < 50e6


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class Holder:
    """Keeps a buffer in its state, as an algorithm does."""

    def __init__(self, buffer):
        self._buffer = buffer

    def state_dict(self):
        return {"_replay_buffer": dict(self._buffer.state_dict())}

    def load_state_dict(self, state):
        self._buffer.load_state_dict(state["_replay_buffer"])


@pytest.mark.parametrize("num_steps", [3, 8, 21])
@pytest.mark.parametrize("prioritized", [False, True])
def test_loaded_contents_go_on_as_if_nothing_had_been(implementation, tmp_path, num_steps, prioritized):
    def make():
        return ReplayBuffer(SPEC, 2, 8, prioritized_sampling=prioritized, state_field="state", state_interval=2,
                            enable_checkpoint=True)

    buffer, other = make(), make()
    buffer.add_steps(steps(num_steps, 2))
    buffer.add_batch(steps(1), torch.tensor([1]))
    if prioritized:
        buffer.update_priority(torch.tensor([0, 1]), torch.tensor([num_steps - 1] * 2), torch.tensor([3.0, 0.25]))
    Checkpointer(str(tmp_path), holder=Holder(buffer)).save(1)
    other.add_steps(steps(5, 2))
    other.get_episode_begin_position(torch.tensor([4]), torch.tensor([0]))
    Checkpointer(str(tmp_path), holder=Holder(other)).load()
    more = steps(4, 2)
    for each in (buffer, other):
        each.add_steps(more)
    assert torch.equal(buffer.get_current_position(), other.get_current_position())
    assert buffer.initial_priority == other.initial_priority
    for _ in range(5):
        state = torch.get_rng_state()
        batch, info = buffer.get_batch(6, 2)
        torch.set_rng_state(state)
        again, again_info = other.get_batch(6, 2)
        assert_equal(again, batch)
        assert torch.equal(info.positions, again_info.positions) and torch.equal(info.env_ids, again_info.env_ids)
        if prioritized:
            assert torch.equal(info.importance_weights, again_info.importance_weights)
        for question in ("get_episode_begin_position", "steps_to_episode_end", "get_disc_0_begin_position"):
            assert torch.equal(getattr(buffer, question)(info.positions, info.env_ids),
                               getattr(other, question)(info.positions, info.env_ids))


def test_names_in_a_checkpoint_are_paths():
    buffer = ReplayBuffer(SPEC, 2, 8, enable_checkpoint=True)
    buffer.add_steps(steps(3, 2))
    state = buffer.state_dict()
    assert set(state) == {"_current_size", "_current_pos", "time_step|step_type", "time_step|reward",
                          "time_step|discount", "time_step|observation", "time_step|env_id", "rollout_info|rl", "state"}
    assert state["time_step|observation"].shape == (2, 3, 4)


def test_a_shorter_buffer_loads_the_latest_steps(implementation):
    long, short = (ReplayBuffer(SPEC, 2, length, enable_checkpoint=True) for length in (10, 4))
    data = steps(13, 2)
    long.add_steps(data)
    short.load_state_dict(long.state_dict())
    got, info = short.gather_all()
    assert info.positions.tolist() == [9, 9]
    assert_equal(got, nest.map_structure(lambda leaf: leaf[9:].transpose(0, 1), data))


def test_contents_are_saved_and_loaded_only_if_enabled():
    full, off = ReplayBuffer(SPEC, 2, 8, enable_checkpoint=True), ReplayBuffer(SPEC, 2, 8)
    full.add_steps(steps(3, 2))
    assert off.state_dict() == {}
    off.load_state_dict(full.state_dict())
    assert off.total_size == 0
    full.load_state_dict({})
    assert full.total_size == 6


def test_contents_of_another_kind_are_refused_by_name():
    full = ReplayBuffer(SPEC, 2, 8, enable_checkpoint=True)
    full.add_steps(steps(3, 2))
    state = full.state_dict()
    renamed = {("other" if key == "state" else key): value for key, value in state.items()}
    with pytest.raises(RuntimeError, match=r"missing \['state'\], unexpected \['other'\]"):
        full.load_state_dict(renamed)
    with pytest.raises(RuntimeError, match=r"'state': expected torch.float32 \[3\], got torch.float32 \[4\]"):
        full.load_state_dict({**state, "state": torch.zeros(2, 3, 4)})
    with pytest.raises(RuntimeError, match=r"contents of 3 environments, got \[2\]"):
        ReplayBuffer(SPEC, 3, 8, enable_checkpoint=True).load_state_dict(state)


def test_a_copy_is_independent(implementation):
    buffer = ReplayBuffer(SPEC, 2, 8, prioritized_sampling=True)
    buffer.add_steps(steps(3, 2))
    other = copy.deepcopy(buffer)
    other.add_steps(steps(4, 2))
    assert (buffer.total_size, other.total_size) == (6, 14)
    assert other.get_batch(14, 1)[1].positions.max() == 6


# ---- several processes -----------------------------------------------------------------------------------------------

MANY = {"number": TensorSpec((), torch.int64), "image": TensorSpec((2000, ), torch.int64), "step_type": TensorSpec(
    (), torch.int32)}


def _numbered(first, num_steps, num_environments):
    """Return steps that are full of their own position, with episodes of ten steps."""
    number = torch.arange(first, first + num_steps).unsqueeze(1).expand(-1, num_environments).contiguous()
    return {"number": number, "image": number.unsqueeze(-1).expand(-1, -1, 2000).contiguous(),
            "step_type": (number % 10 != 0).int()}


def _read(buffer, results, time_major):
    torch.set_num_threads(1)
    results.put("ready")
    wrong, positions = 0, set()
    while True:
        stopped = bool(buffer._stopped)
        batch, info = buffer.get_batch(8, 2, time_major)
        expected = info.positions.unsqueeze(1) + torch.arange(2)
        if time_major:
            expected = expected.T
        wrong += int((batch["number"] != expected).sum()) + int((batch["image"] != expected.unsqueeze(-1)).sum())
        positions.update(info.positions.tolist())
        if stopped:
            begins = buffer.get_episode_begin_position(info.positions, info.env_ids)
            earliest = buffer.get_earliest_position(info.env_ids)
            wrong += int((begins != torch.maximum(info.positions // 10 * 10, earliest)).sum())
            break
    results.put((wrong, len(positions), max(positions)))


@pytest.mark.parametrize("time_major", [False, True])
def test_a_reader_in_another_process_never_sees_overwritten_steps(time_major):
    buffer = ReplayBuffer(MANY, 2, 30, allow_multiprocess=True)
    buffer.add_steps(_numbered(0, 30, 2))
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    reader = torch.multiprocessing.get_context("spawn").Process(target=_read, args=(buffer, results, time_major))
    reader.start()
    assert results.get(timeout=60) == "ready"
    first, end = 30, time.monotonic() + 2
    while time.monotonic() < end:
        buffer.add_steps(_numbered(first, 3, 2))
        first += 3
        time.sleep(0.0005)  # the reader must find some steps that stay until they are read
    buffer.stop()
    wrong, num_positions, largest = results.get(timeout=60)
    reader.join(30)
    assert reader.exitcode == 0
    assert wrong == 0
    assert largest > first - 40 and num_positions > 30
