"""What tests of algorithms share: an environment whose every time step is known in advance, and small networks."""

import functools

import pytest
import torch

import alf.nest as nest
import alf.summary as summary
from alf.algorithms.config import TrainerConfig
from alf.data_structures import StepType, TimeStep
from alf.environments.alf_environment import AlfEnvironment
from alf.networks import ActorDistributionNetwork, ActorDistributionRNNNetwork, ValueNetwork, ValueRNNNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec

FIRST, MID, LAST = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


class ScriptedEnv(AlfEnvironment):
    """Plays episodes of given lengths, whatever the actions.

    The observation is ``(t, b)``: the number of steps since the start, and the row. Rewards are ``sin(3 t + 5 b)``,
    at FIRST 0. Every second episode of a row ends by a time limit (discount 1), the others terminate (discount 0).

    Args:
        episode_lengths: for each row, the number of time steps of its episodes in turn, repeated for ever.
        ring_rows: time steps alias a ring of so many rows, so that each is overwritten after ``ring_rows - 1`` steps;
            None: fresh tensors.
        reward_dim: size of the reward, 0 for a scalar.
        action_spec: nest of specs.
    """

    def __init__(self, episode_lengths=((4, 3), (5, 2, 6)), ring_rows=None, reward_dim=0,
                 action_spec=BoundedTensorSpec((), torch.int64, 0, 2)):
        self._lengths = [list(lengths) for lengths in episode_lengths]
        self._reward_dim = reward_dim
        self._action_spec = action_spec
        self.num_valid_steps = None if ring_rows is None else ring_rows - 1
        self._ring = [None] * (ring_rows or 0)
        self.reserved = []
        self.actions = []

    is_tensor_based = True
    batched = True

    @property
    def batch_size(self):
        return len(self._lengths)

    def env_info_spec(self):
        return {}

    def observation_spec(self):
        return TensorSpec((2,))

    def action_spec(self):
        return self._action_spec

    def reward_spec(self):
        return TensorSpec((self._reward_dim,) if self._reward_dim else ())

    def reserve_rows(self, num_time_steps):
        self.reserved.append(num_time_steps)

    def time_step_at(self, t):
        """Return the time step after ``t`` steps, without ``prev_action``."""
        step_type, discount, reward = [], [], []
        for b, lengths in enumerate(self._lengths):
            position, episode = t, 0
            while position >= lengths[episode % len(lengths)]:
                position -= lengths[episode % len(lengths)]
                episode += 1
            is_last = position == lengths[episode % len(lengths)] - 1
            step_type.append(FIRST if position == 0 else LAST if is_last else MID)
            discount.append(0.0 if is_last and episode % 2 == 0 else 1.0)
            reward.append(0.0 if position == 0 else float(torch.sin(torch.tensor(3.0 * t + 5.0 * b))))
        B = self.batch_size
        reward = torch.tensor(reward)
        if self._reward_dim:
            reward = torch.stack([reward * (k + 1) for k in range(self._reward_dim)], -1)
        return TimeStep(
            step_type=torch.tensor(step_type, dtype=torch.int32),
            reward=reward,
            discount=torch.tensor(discount),
            observation=torch.stack([torch.full((B,), float(t)), torch.arange(B).float()], -1),
            prev_action=nest.map_structure(lambda spec: spec.zeros((B,)), self._action_spec),
            env_id=torch.arange(B, dtype=torch.int32),
            env_info={})

    def _reset(self):
        self._t = 0
        return self._publish(self.time_step_at(0))

    def _step(self, action):
        self._t += 1
        self.actions.append(action)
        time_step = self.time_step_at(self._t)
        is_first = time_step.is_first()
        mask = nest.map_structure(
            lambda leaf: leaf.detach() * ~is_first.reshape(-1, *(1,) * (leaf.ndim - 1)), action)
        return self._publish(time_step._replace(prev_action=mask))

    def _publish(self, time_step):
        if not self._ring:
            return time_step
        i = self._t % len(self._ring)
        if self._ring[i] is None:
            self._ring[i] = nest.map_structure(torch.clone, time_step)
        else:
            nest.map_structure(lambda row, leaf: row.copy_(leaf), self._ring[i], time_step)
        return self._ring[i]


@pytest.fixture
def scripted_env():
    """The class :class:`ScriptedEnv`."""
    return ScriptedEnv


@pytest.fixture
def make_config(tmp_path):
    """Return a function that makes a TrainerConfig."""
    return functools.partial(TrainerConfig, root_dir=str(tmp_path))


@pytest.fixture
def networks():
    """Constructors of small networks, by whether they are recurrent: ``networks[is_recurrent]``, keyword arguments of
    actor-critic algorithms."""
    return {
        False: dict(
            actor_network_ctor=functools.partial(ActorDistributionNetwork, fc_layer_params=(8,)),
            value_network_ctor=functools.partial(ValueNetwork, fc_layer_params=(8,))),
        True: dict(
            actor_network_ctor=functools.partial(
                ActorDistributionRNNNetwork, fc_layer_params=(8,), lstm_hidden_size=(6,), actor_fc_layer_params=(8,)),
            value_network_ctor=functools.partial(
                ValueRNNNetwork, fc_layer_params=(8,), lstm_hidden_size=(6,), value_fc_layer_params=(8,))),
    }


@pytest.fixture(autouse=True)
def _fixed_seed_and_counter():
    torch.manual_seed(0)
    summary.reset_global_counter()
    yield
    summary.reset_global_counter()


class RecordingWriter:
    """Takes the place of a summary writer and remembers what is written: ``tags[step]``."""

    def __init__(self):
        self.tags = {}
        self.values = {}

    def __getattr__(self, kind):
        if not kind.startswith("add_"):
            raise AttributeError(kind)

        def add(tag, value=None, *args, **kwargs):
            step = summary.get_global_counter()
            self.tags.setdefault(step, []).append(tag)
            self.values[(step, tag)] = value

        return add


@pytest.fixture
def written():
    """A :class:`RecordingWriter`; everything is recorded during the test."""
    writer = RecordingWriter()
    with summary.push_summary_writer(writer), summary.record_if(lambda: True):
        yield writer
