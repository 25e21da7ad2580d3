"""The records that environments, algorithms and losses exchange."""

import pickle

import numpy as np
import pytest
import torch

import alf.data_structures as ds
import alf.nest as nest
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

ACTION = BoundedTensorSpec((), torch.int64, 0, 3)
Named = ds.namedtuple("Named", ["b", "a"], default_value=())
Elastic = ds.elastic_namedtuple("Elastic", ["b", "a"])


def test_namedtuple_fills_defaults_from_the_right():
    made = ds.namedtuple("Made", ["x", "y", "z"], default_value=0, default_values=(7, ))
    assert made() == (0, 0, 7) and made(z=1, x=2) == (2, 0, 1)
    assert ds.namedtuple("Made", ["x"])() == (None, )
    with pytest.raises(ValueError, match="namedtuple Made: expected at most 1 defaults, got 2"):
        ds.namedtuple("Made", ["x"], default_values=(1, 2))


def test_namedtuple_is_pickled_by_its_module():
    assert Named.__module__ == __name__
    assert pickle.loads(pickle.dumps(ds.TimeStep(reward=1))) == ds.TimeStep(reward=1)


def test_elastic_namedtuple_reads_missing_fields_as_absent():
    assert Elastic(b=1).no_such_field == () and Elastic(b=1).a == ()
    with pytest.raises(TypeError):
        Elastic(no_such_field=1)


def test_elastic_namedtuple_can_be_copied():
    import copy
    assert copy.deepcopy(Elastic(b=[1])) == Elastic(b=[1])


def test_step_types():
    assert [int(ds.StepType.FIRST), int(ds.StepType.MID), int(ds.StepType.LAST)] == [0, 1, 2]
    assert ds.StepType.FIRST.dtype == np.int32 and ds.StepType(2) is ds.StepType.LAST
    with pytest.raises(ValueError, match="expected 0 .FIRST., 1 .MID. or 2 .LAST., got 3"):
        ds.StepType(3)


def test_kinds_of_time_steps():
    step = ds.TimeStep(step_type=torch.tensor([[0, 1, 2]], dtype=torch.int32))
    assert step.is_first().tolist() == [[True, False, False]]
    assert step.is_mid().tolist() == [[False, True, False]]
    assert step.is_last().tolist() == [[False, False, True]]
    experience = ds.Experience(time_step=step)
    assert torch.equal(experience.is_last(), step.is_last()) and torch.equal(experience.step_type, step.step_type)


def test_absent_fields_have_no_leaves():
    assert nest.flatten(ds.TimeStep(reward=1)) == [1]
    assert ds.AlgStep() == ((), (), ()) and ds.LossInfo().loss == ()


def test_restart_of_a_batch():
    step = ds.restart(torch.ones(3, 2), ACTION, TensorSpec((2, )), batched=True)
    assert step.step_type.tolist() == [0, 0, 0] and step.discount.tolist() == [1, 1, 1]
    assert step.reward.tolist() == [[0, 0]] * 3 and step.prev_action.tolist() == [0, 0, 0]
    assert step.env_id.tolist() == [0, 1, 2]
    dtypes = [leaf.dtype for leaf in (step.step_type, step.reward, step.discount, step.env_id, step.prev_action)]
    assert dtypes == [torch.int32, torch.float32, torch.float32, torch.int32, torch.int64]


def test_restart_without_a_batch_keeps_arrays():
    step = ds.restart({"position": np.zeros(2, np.float32)}, ACTION, env_id=5)
    assert step.step_type.shape == () and isinstance(step.prev_action, np.ndarray) and step.env_id == 5


def test_transition_and_termination():
    observation, action = torch.zeros(2, 3), torch.tensor([1, 2])
    middle = ds.transition(observation, action, torch.tensor([0.5, 1.0]), discount=0.9)
    assert middle.step_type.tolist() == [1, 1] and middle.reward.tolist() == [0.5, 1.0]
    assert middle.discount.tolist() == pytest.approx([0.9, 0.9]) and middle.prev_action is action
    last = ds.termination(observation, action, torch.tensor([[1., 2.], [3., 4.]]), TensorSpec((2, )))
    assert last.step_type.tolist() == [2, 2] and last.discount.tolist() == [0, 0] and last.reward.shape == (2, 2)


def test_time_step_spec_describes_what_is_made():
    observation_spec = TensorSpec((3, ))
    spec = ds.time_step_spec(observation_spec, ACTION, TensorSpec(()))
    step = ds.restart(torch.zeros(2, 3), ACTION, batched=True)
    described = step._replace(env_info=())
    nest.assert_same_structure(spec, described)
    for leaf, leaf_spec in zip(nest.flatten(described), nest.flatten(spec)):
        assert TensorSpec.from_tensor(leaf, from_dim=1) == TensorSpec.from_spec(leaf_spec)


def test_experience_views_its_time_step():
    step = ds.TimeStep(*[name for name in ds.TimeStep._fields])
    experience = ds.make_experience(step, ds.AlgStep(output="action", state="new", info="info"), state="old")
    assert (experience.action, experience.rollout_info, experience.state) == ("action", "info", "old")
    for name in ("step_type", "reward", "discount", "observation", "prev_action", "env_id"):
        assert getattr(experience, name) == name
    assert experience.get_time_step_field("reward") == "reward"
    assert experience.update_time_step_field("reward", 3).time_step.reward == 3


def test_batch_info_is_added_and_cleared():
    experience = ds.add_batch_info(ds.Experience(action=1), batch_info=2, buffer=3)
    assert (experience.batch_info, experience.replay_buffer, experience.rollout_info_field) == (2, 3, "rollout_info")
    assert ds.clear_batch_info(experience) == ds.Experience(action=1)


def test_time_step_to_main_memory():
    step = ds.TimeStep(reward=torch.zeros(2), observation={"a": torch.zeros(1)})
    assert step.cpu().observation["a"].device.type == "cpu" and step.cpu().env_info == ()
