"""Stored buffers: what is written is read, rings are put in order of time, and what is wrong is told by field."""

import functools
import struct
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import save_file

import alf.nest as nest
from alf.data_structures import Experience, TimeStep, time_step_spec
from alf.environments._spaces import tensor_spec_from_gym_space
from alf.experience_replayers import _minari
from alf.experience_replayers.offline_dataset import (
    OfflineBufferError,
    load_offline_experience,
    named_leaves,
    read_offline_steps,
    write_offline_buffer,
)
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.checkpoint_utils import Checkpointer

OBSERVATION = {"position": TensorSpec((2,)), "image": BoundedTensorSpec((1, 2, 2), torch.uint8, 0, 255)}
ACTION = BoundedTensorSpec((1,), torch.float32, -1.0, 1.0)
SPEC = Experience(time_step=time_step_spec(OBSERVATION, ACTION, TensorSpec(())), action=ACTION)


def episodes(lengths, first=0):
    """Return whole episodes of given numbers of steps ``[1, sum(lengths), ...]``; observations and actions count on."""
    step_type = torch.cat([torch.tensor([0] + [1] * (n - 2) + [2], dtype=torch.int32) for n in lengths])
    count = torch.arange(first, first + len(step_type), dtype=torch.float32)
    discount = torch.where(step_type == 2, 0.0, 1.0)
    experience = Experience(
        time_step=TimeStep(
            step_type=step_type,
            reward=count * (step_type != 0),
            discount=discount,
            observation={"position": torch.stack([count, -count], -1),
                         "image": torch.full((len(count), 1, 2, 2), 7, dtype=torch.uint8)},
            prev_action=torch.cat([torch.zeros(1), count[:-1]]).unsqueeze(-1) * (step_type != 0).unsqueeze(-1) / 100,
            env_id=torch.full_like(step_type, 3)),
        action=count.unsqueeze(-1) / 100)
    return nest.map_structure(lambda leaf: leaf.unsqueeze(0), experience)


def counts(experience):
    """Return what the observations count."""
    return experience.observation["position"][:, 0].tolist()


def assert_equal(a, b):
    nest.map_structure(lambda x, y: torch.testing.assert_close(x, y, rtol=0, atol=0), a, b)


def without(experience, *fields):
    return experience._replace(time_step=experience.time_step._replace(**{name: () for name in fields}))


def test_what_is_written_is_read(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    experience = episodes([4, 3])
    write_offline_buffer(path, experience)
    assert_equal(load_offline_experience([path], SPEC), nest.map_structure(lambda leaf: leaf[0], experience))


def test_names_are_paths_in_the_experience():
    assert set(named_leaves(SPEC)) == {
        "action", "time_step|discount", "time_step|env_id", "time_step|observation|image",
        "time_step|observation|position", "time_step|prev_action", "time_step|reward", "time_step|step_type"}


def test_a_ring_is_read_oldest_first_and_what_was_cut_becomes_first_and_last(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    # Steps 2 to 9 in a ring of 8: steps 8 and 9 have overwritten 0 and 1. Episodes: 0-3, 4-7, 8-11.
    steps = episodes([4, 4, 4])
    ring = nest.map_structure(lambda leaf: torch.cat([leaf[:, 8:10], leaf[:, 2:8]], 1), steps)
    write_offline_buffer(path, ring, current_size=[8], current_pos=[10])
    experience = load_offline_experience([path], SPEC)
    assert counts(experience) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert experience.step_type.tolist() == [0, 2, 0, 1, 1, 2, 0, 2]
    # The cut at the end is no termination.
    assert experience.discount.tolist() == [1, 0, 1, 1, 1, 0, 1, 1]


def test_position_modulo_length_means_the_same(tmp_path):
    paths = [str(tmp_path / f"{i}.safetensors") for i in range(2)]
    for path, position in zip(paths, (10, 2)):
        write_offline_buffer(path, episodes([4, 4]), current_size=[5], current_pos=[position])
    read = [load_offline_experience([path], SPEC) for path in paths]
    assert_equal(*read)
    assert counts(read[0]) == [5, 6, 7, 0, 1]


def test_nothing_is_learned_from_one_environment_to_the_next(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    rows = [episodes([6]), episodes([6], first=50)]
    both = nest.map_structure(lambda *leaves: torch.cat(leaves), *rows)
    write_offline_buffer(path, both, current_size=[3, 1], current_pos=[3, 2])
    experience = load_offline_experience([path], SPEC)
    assert counts(experience) == [0, 1, 2, 51]
    assert experience.step_type.tolist() == [0, 1, 2, 2]


def test_a_length_limit_keeps_the_newest_steps_of_each_environment(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    both = nest.map_structure(lambda *leaves: torch.cat(leaves), episodes([6]), episodes([6], first=50))
    write_offline_buffer(path, both)
    assert counts(load_offline_experience([path], SPEC, max_length=2)) == [4, 5, 54, 55]


def test_several_buffers_follow_one_another(tmp_path):
    paths = [str(tmp_path / f"{i}.safetensors") for i in range(2)]
    write_offline_buffer(paths[0], episodes([3]))
    write_offline_buffer(paths[1], episodes([4], first=50))
    assert counts(load_offline_experience(paths, SPEC)) == [0, 1, 2, 50, 51, 52, 53]


def test_previous_actions_and_environments_are_told_from_the_rest(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    experience = episodes([4, 3])
    write_offline_buffer(path, without(experience, "prev_action", "env_id"))
    read = load_offline_experience([path], SPEC)
    torch.testing.assert_close(read.prev_action, experience.prev_action[0], rtol=0, atol=0)
    assert read.env_id.tolist() == [0] * 7


def test_the_newest_checkpoint_of_a_run_is_read_and_damage_is_told(tmp_path):
    class Rollout:
        def __init__(self):
            self.experience = episodes([4])

        def state_dict(self):
            tensors = {name: leaf for name, leaf in named_leaves(self.experience).items()}
            return {"credit": 0.0, "_replay_buffer": {**tensors, "_current_size": torch.tensor([4]),
                                                      "_current_pos": torch.tensor([4])}}

        def load_state_dict(self, state):
            raise AssertionError("only read")

    rollout = Rollout()
    checkpointer = Checkpointer(str(tmp_path / "train" / "algorithm"), algorithm=torch.nn.Linear(1, 1), rollout=rollout)
    first = checkpointer.save(1)
    rollout.experience = episodes([4], first=20)
    second = checkpointer.save(2)
    for location in (tmp_path, tmp_path / "train" / "algorithm", second):
        assert counts(load_offline_experience([str(location)], SPEC)) == [20, 21, 22, 23]
    kept_in_the_newest = "ckpt-1: expected one replay buffer, got none. A run keeps it in its newest checkpoint"
    with pytest.raises(OfflineBufferError, match=kept_in_the_newest):
        load_offline_experience([first], SPEC)
    file = tmp_path / "train" / "algorithm" / "ckpt-2" / "rollout-replay_buffer.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(OfflineBufferError, match=kept_in_the_newest):
        load_offline_experience([str(tmp_path)], SPEC)
    with pytest.raises(OfflineBufferError, match="rollout-replay_buffer.safetensors has .* bytes, .* were written"):
        load_offline_experience([second], SPEC)


def test_a_run_that_did_not_keep_its_buffer_says_how_to(tmp_path):
    Checkpointer(str(tmp_path), algorithm=torch.nn.Linear(1, 1)).save(1)
    told = r"ckpt-1: expected one replay buffer, got none.*enable_checkpoint=True"
    with pytest.raises(OfflineBufferError, match=told):
        load_offline_experience([str(tmp_path)], SPEC)


@pytest.mark.parametrize("change,told", [
    (lambda e: e.update_time_step_field("observation.position", e.observation["position"][..., :1]),
     r"time_step\|observation\|position: expected float32\[2\], got float32\[1\]"),
    (lambda e: e.update_time_step_field("observation.image", e.observation["image"].float()),
     r"time_step\|observation\|image: expected uint8\[1, 2, 2\], got float32\[1, 2, 2\]"),
    (lambda e: e._replace(action=()), r"action: expected float32\[1\], got nothing"),
    (lambda e: e.update_time_step_field("reward", e.reward / 0),
     r"time_step\|reward: 7 of its 7 values are not finite"),
    (lambda e: e.update_time_step_field("discount", e.discount + 1),
     r"time_step\|discount: expected values from 0 to 1"),
    (lambda e: e.update_time_step_field("step_type", e.step_type + 1),
     r"step_type: expected 0 .* got values from 1 to 3"),
    (lambda e: e.update_time_step_field("step_type", torch.where(e.step_type == 0, 1, e.step_type).int()),
     r"step_type: expected 0 \(FIRST\) after 2 \(LAST\), got 1 in step 4"),
])
def test_a_field_that_does_not_fit_is_told_with_its_file(tmp_path, change, told):
    path = str(tmp_path / "buffer.safetensors")
    write_offline_buffer(path, change(episodes([4, 3])))
    with pytest.raises(OfflineBufferError, match=told) as error:
        load_offline_experience([path], SPEC)
    assert path in str(error.value)


def test_discrete_actions_out_of_bounds_are_refused(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    spec = BoundedTensorSpec((), torch.int64, 0, 1)
    experience = episodes([4])._replace(action=torch.tensor([[0, 1, 2, 0]]))
    write_offline_buffer(path, without(experience, "prev_action"))
    expected = Experience(time_step=time_step_spec(OBSERVATION, spec, TensorSpec(())), action=spec)
    with pytest.raises(OfflineBufferError, match="action: expected values from 0 to 1, got 0 to 2"):
        load_offline_experience([path], expected)


def test_continuous_actions_out_of_bounds_are_refused(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    experience = episodes([4, 3])._replace(action=torch.tensor([1.5, 0, -2.5, 9, 1.000005, -1, 9]).view(1, 7, 1))
    write_offline_buffer(path, experience)
    with pytest.raises(OfflineBufferError) as told:
        load_offline_experience([path], SPEC)
    assert ("action: expected actions in the bounds of the spec, -1.0 to 1.0 (usually normalised to [-1, 1]); in 2 of "
            "5 steps they are outside, the farthest is -2.5") in str(told.value)


def test_observations_and_actions_of_last_steps_may_be_out_of_bounds(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    write_offline_buffer(path, episodes([4])._replace(action=torch.tensor([1.000005, 0, -1, 9]).view(1, 4, 1)))
    observation = OBSERVATION | {"position": BoundedTensorSpec((2,), torch.float32, -1.0, 1.0)}
    spec = Experience(time_step=time_step_spec(observation, ACTION, TensorSpec(())), action=ACTION)
    assert counts(load_offline_experience([path], spec)) == [0, 1, 2, 3]


def test_tensors_of_different_lengths_are_refused(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    experience = episodes([4])
    told = r"action: expected a shape that begins with \(1, 4\).*got \(1, 3, 1\)"
    with pytest.raises(OfflineBufferError, match=told):
        write_offline_buffer(path, experience._replace(action=experience.action[:, :3]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_file_that_was_cut_off_is_told(tmp_path, keep):
    path = tmp_path / "buffer.safetensors"
    write_offline_buffer(str(path), episodes([4]))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OfflineBufferError, match="buffer.safetensors: cannot be read"):
        load_offline_experience([str(path)], SPEC)


def test_a_changed_byte_is_told(tmp_path):
    path = tmp_path / "buffer.safetensors"
    write_offline_buffer(str(path), episodes([4]))
    content = bytearray(path.read_bytes())
    header = struct.unpack("<Q", content[:8])[0]
    content[8 + header + 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(OfflineBufferError, match="does not match its checksum"):
        load_offline_experience([str(path)], SPEC)


def test_a_file_of_another_program_needs_no_checksum(tmp_path):
    from safetensors.torch import save_file
    path = str(tmp_path / "buffer.safetensors")
    save_file(named_leaves(episodes([4])), path)
    assert counts(load_offline_experience([path], SPEC)) == [0, 1, 2, 3]


def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path):
    path = str(tmp_path / "ckpt-100-replay_buffer")
    experience = episodes([4])
    state = {f"_replay_buffer.{name}": leaf for name, leaf in named_leaves(experience).items()}
    torch.save({"algorithm": state}, path)
    with pytest.raises(OfflineBufferError, match="pickles, which can run code, and are not read") as error:
        load_offline_experience([path], SPEC)
    # The way that the message tells works.
    code = str(error.value).partition("convert it once: ")[2].removesuffix(".")
    target = str(tmp_path / "buffer.safetensors")
    import safetensors.torch
    exec(code.replace("'buffer.safetensors'", repr(target)), {"torch": torch, "path": path, "safetensors": safetensors})
    assert_equal(load_offline_experience([target], SPEC), nest.map_structure(lambda leaf: leaf[0], experience))


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(OfflineBufferError, match="there is no .*nowhere"):
        load_offline_experience([str(tmp_path / "nowhere")], SPEC)


@pytest.mark.parametrize("name", ["_current_size", "_current_pos"])
@pytest.mark.parametrize("value", [
    torch.tensor([float("nan")] * 2), torch.tensor([2.5] * 2), torch.tensor([float("inf")] * 2),
    torch.ones(2, dtype=torch.bool), torch.tensor([-2**63] * 2)], ids=lambda value: str(value.tolist()))
def test_counts_that_are_no_whole_numbers_are_told_with_file_and_field(tmp_path, name, value):
    path = tmp_path / "counts.safetensors"
    tensors = {"time_step|step_type": torch.ones(2, 4, dtype=torch.int32), "action": torch.zeros(2, 4, 2), name: value}
    save_file(tensors, path)
    with pytest.raises(OfflineBufferError, match=f"counts.safetensors: {name}: expected whole numbers from 0"):
        read_offline_steps(str(path), SPEC)


def test_a_format_without_a_checksum_is_told(tmp_path):
    path = tmp_path / "unsealed.safetensors"
    save_file({"action": torch.zeros(2, 4, 2)}, path, metadata={"format": "alf-replay-buffer"})
    with pytest.raises(OfflineBufferError, match="unsealed.safetensors: .* checksum 'sha256' beside it"):
        read_offline_steps(str(path), SPEC)


def test_an_empty_buffer_is_told(tmp_path):
    path = str(tmp_path / "buffer.safetensors")
    write_offline_buffer(path, episodes([4]), current_size=[0], current_pos=[0])
    with pytest.raises(OfflineBufferError, match="there are no steps in it"):
        load_offline_experience([path], SPEC)


# ---- Minari ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def minari_dataset(tmp_path, monkeypatch):
    """Make a dataset of three episodes with 3, 2 and 4 transitions, of which the second is truncated."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    minari = pytest.importorskip("minari")
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    def recorded(episode, num_transitions):
        last = num_transitions - 1
        return EpisodeBuffer(
            id=episode,
            observations={"position": [np.array([t, episode], np.float64) for t in range(num_transitions + 1)],
                          "image": [np.full((1, 2, 2), t, np.uint8) for t in range(num_transitions + 1)]},
            actions=[np.float32([t]) for t in range(num_transitions)],
            rewards=[10.0 * (t + 1) for t in range(num_transitions)],
            terminations=[t == last and episode != 1 for t in range(num_transitions)],
            truncations=[t == last and episode == 1 for t in range(num_transitions)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that author, code and so on are not given
        minari.create_dataset_from_buffers(
            "counting/test-v0",
            buffer=[recorded(episode, n) for episode, n in enumerate((3, 2, 4))],
            observation_space=spaces.Dict({"position": spaces.Box(-np.inf, np.inf, (2,), np.float64),
                                           "image": spaces.Box(0, 255, (1, 2, 2), np.uint8)}),
            action_space=spaces.Box(np.float32([0]), np.float32([4])))


def test_minari_episodes_end_with_their_last_observation(minari_dataset):
    experience = load_offline_experience(["minari:counting/test-v0"], SPEC)
    assert experience.step_type.tolist() == [0, 1, 1, 2, 0, 1, 2, 0, 1, 1, 1, 2]
    assert experience.discount.tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert experience.reward.tolist() == [0, 10, 20, 30, 0, 10, 20, 0, 10, 20, 30, 40]
    assert experience.observation["position"].tolist() == [
        [t, e] for e, n in enumerate((3, 2, 4)) for t in range(n + 1)]
    assert experience.observation["image"].dtype == torch.uint8
    # Actions 0 to 4 of the dataset are -1 to 1 of the algorithm.
    assert experience.action.squeeze(-1).tolist() == [-1, -0.5, 0, 0, -1, -0.5, 0, -1, -0.5, 0, 0.5, 0]
    assert experience.prev_action.squeeze(-1).tolist() == [0, -1, -0.5, 0, 0, -1, -0.5, 0, -1, -0.5, 0, 0.5]


def test_a_length_limit_keeps_the_last_minari_episodes(minari_dataset):
    read = functools.partial(load_offline_experience, ["minari:counting/test-v0"], SPEC)
    assert read(max_length=8).observation["position"][:, 1].unique().tolist() == [1, 2]
    assert read(max_length=7).observation["position"][:, 1].unique().tolist() == [2]
    assert read(max_length=1).observation["position"][:, 1].unique().tolist() == [2]


def test_minari_observations_of_another_structure_are_told(minari_dataset):
    spec = Experience(time_step=time_step_spec(TensorSpec((2,)), ACTION, TensorSpec(())), action=ACTION)
    with pytest.raises(OfflineBufferError, match="observations: expected one array .* got a dict"):
        load_offline_experience(["minari:counting/test-v0"], spec)


def test_a_missing_minari_dataset_is_told_with_those_that_are_there(minari_dataset):
    with pytest.raises(OfflineBufferError, match="no Minari dataset 'counting/other-v0'.*counting/test-v0"):
        load_offline_experience(["minari:counting/other-v0"], SPEC)


def test_without_minari_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(OfflineBufferError, match=r"minari, which is not installed.*pip install 'alf-rl\[offline\]'"):
        read_offline_steps("minari:counting/test-v0", SPEC)


@pytest.mark.parametrize("where", ["action", "observation"])
def test_minari_parts_of_tuples_are_read(where):
    box, discrete = spaces.Box(-2, 2, (1,)), spaces.Discrete(3)
    pair, values = spaces.Tuple((box, discrete)), (np.zeros((5, 1), np.float32), np.arange(5) % 3)
    action_space = pair if where == "action" else discrete
    observation_space = box if where == "action" else pair

    class Episode(types.SimpleNamespace):

        def __len__(self):
            return 4

    episode = Episode(
        terminations=np.array([0, 0, 0, 1], bool), rewards=np.ones(4, np.float32),
        actions=tuple(value[:4] for value in values) if where == "action" else values[1][:4],
        observations=values[0] if where == "action" else values)
    specs = [tensor_spec_from_gym_space(space) for space in (observation_space, action_space)]
    spec = Experience(time_step=time_step_spec(*specs, TensorSpec(())), action=specs[1])
    steps = _minari._episode_steps("minari:x", episode, spec, action_space)
    prefix = "action" if where == "action" else "time_step.observation"
    assert steps[f"{prefix}.0"].shape == (5, 1) and steps[f"{prefix}.1"].tolist()[:4] == [0, 1, 2, 0]
