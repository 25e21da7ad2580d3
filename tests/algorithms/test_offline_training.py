"""Training from stored buffers: what an update is given, when online experience joins in, and that losses are added."""

import functools
import types

import pytest
import torch

import alf
import alf.nest as nest
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent
from alf.algorithms.bc_algorithm import BcAlgorithm
from alf.algorithms.data_transformer import FrameStacker, RewardScaling
from alf.algorithms.iql_algorithm import IqlAlgorithm
from alf.algorithms.off_policy_algorithm import OffPolicyAlgorithm
from alf.data_structures import AlgStep, BasicRLInfo, BasicRolloutInfo, Experience, LossInfo, TimeStep
from alf.experience_replayers.offline_dataset import OfflineBufferError, write_offline_buffer
from alf.networks import ActorDistributionNetwork, ActorDistributionRNNNetwork, CriticNetwork, ValueNetwork
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.checkpoint_utils import Checkpointer

CONTINUOUS = BoundedTensorSpec((1,), torch.float32, -1, 1)


def store(path, num_envs=2, num_steps=12, action_dim=1):
    """Write episodes of 4 steps. An observation is (100 + t, env), the action there (10 env + t) / 100."""
    t, env = torch.meshgrid(torch.arange(num_steps), torch.arange(num_envs), indexing="xy")
    kind = t % 4
    step_type = torch.where(kind == 0, 0, torch.where(kind == 3, 2, 1)).int()
    write_offline_buffer(str(path), Experience(
        time_step=TimeStep(
            step_type=step_type,
            reward=t.float() * (kind != 0),
            discount=torch.where(kind == 3, 0.0, 1.0),
            observation=torch.stack([100.0 + t, env.float()], -1)),
        action=((10 * env + t) / 100).unsqueeze(-1).expand(*t.shape, action_dim).clone()))
    return str(path)


class Recorder(OffPolicyAlgorithm):
    """Remembers what each update was given. Each batch has a constant loss: 1 online, 10 offline."""

    def __init__(self, observation_spec, action_spec, reward_spec=TensorSpec(()), env=None, config=None, **kwargs):
        super().__init__(observation_spec, action_spec, train_state_spec=(), reward_spec=reward_spec, env=env,
                         config=config, **kwargs)
        self._weight = torch.nn.Parameter(torch.tensor(0.0))
        self.updates = []  # of each: its batches
        self._batches = []
        self.offline_infos = []

    def rollout_step(self, inputs, state):
        action = torch.zeros(len(inputs.step_type), 1)
        return AlgStep(output=action, info=BasicRLInfo(action=action))

    def train_step(self, inputs, state, rollout_info):
        return AlgStep(info=(inputs, rollout_info))

    def train_step_offline(self, inputs, state, rollout_info, pre_train=False):
        self._batches.append("pre_train" if pre_train else "offline")
        return AlgStep(info=(inputs, rollout_info))

    def calc_loss(self, info):
        self._batches.append("online")
        assert bool((info[0].observation[..., 0] < 100).all())
        return LossInfo(loss=self._weight * torch.ones(info[0].step_type.shape))

    def calc_loss_offline(self, info, pre_train=False):
        assert self._batches[-1] == ("pre_train" if pre_train else "offline")
        self.offline_infos.append(info)
        return LossInfo(loss=10 * self._weight * torch.ones(info[0].step_type.shape))

    def after_update(self, root_inputs, info):
        self.updates.append((self._batches, float(self._weight.detach())))
        self._batches = []


@pytest.fixture
def config(make_config, tmp_path):
    """Return a function that makes the settings of a run with a stored buffer."""
    path = store(tmp_path / "buffer.safetensors")
    return functools.partial(
        make_config, offline_buffer_dir=path, whole_replay_buffer_training=False, clear_replay_buffer=False,
        mini_batch_length=2, mini_batch_size=5, unroll_length=3, num_updates_per_train_iter=2)


def make(env, config, cls=Recorder, **kwargs):
    kwargs = kwargs or dict(optimizer=alf.optimizers.SGD(lr=0.1))
    return cls(observation_spec=env.observation_spec(), action_spec=env.action_spec(), reward_spec=env.reward_spec(),
               env=env, config=config, **kwargs)


@pytest.fixture
def env(scripted_env):
    return scripted_env(action_spec=CONTINUOUS)


def test_purely_offline_never_acts(env, config, monkeypatch):
    monkeypatch.setattr(env, "reset", lambda: pytest.fail("acted"))
    algorithm = make(env, config(unroll_length=0))
    assert algorithm.has_offline
    for _ in range(3):
        assert algorithm.train_iter() == 2 * 5
    assert [batches for batches, _ in algorithm.updates] == [["offline"]] * 6
    assert env.actions == []


def test_an_update_is_given_stored_sequences_with_their_actions(env, config):
    algorithm = make(env, config(unroll_length=0, mini_batch_length=3))
    for _ in range(10):
        algorithm.train_iter()
    seen = set()
    for inputs, info in algorithm.offline_infos:
        assert inputs.step_type.shape == (3, 5)
        t, row = inputs.observation[..., 0] - 100, inputs.observation[..., 1]
        torch.testing.assert_close(info.action.squeeze(-1), (10 * row + t) / 100)
        torch.testing.assert_close(inputs.step_type.float(), torch.tensor([0.0, 1, 1, 2])[t.long() % 4])
        follows = inputs.step_type[:-1] != 2
        assert bool((t[1:] - t[:-1] == 1)[follows].all()) and bool((row[1:] == row[:-1])[follows].all())
        seen |= {(int(a), int(b)) for a, b in zip(t.flatten(), row.flatten())}
    assert seen == {(t, b) for t in range(12) for b in range(2)}


def test_online_experience_joins_after_and_every_so_many_updates(env, config):
    algorithm = make(env, config(rl_train_after_update_steps=3, rl_train_every_update_steps=2))
    for _ in range(4):
        algorithm.train_iter()
    pre_train, offline, both = ["pre_train"], ["offline"], ["offline", "online"]
    assert [batches for batches, _ in algorithm.updates] == [
        pre_train, pre_train, pre_train, offline, both, offline, both, offline]
    # One step each, with learning rate 0.1, on losses of 10 and 10 + 1 times the weight.
    steps = [-1.0, -1, -1, -1, -1.1, -1, -1.1, -1]
    torch.testing.assert_close(torch.tensor([weight for _, weight in algorithm.updates]), torch.tensor(steps).cumsum(0))


def test_losses_at_the_end_of_episodes_do_not_count(env, config):
    algorithm = make(env, config(unroll_length=0))
    seen = []
    algorithm.calc_loss_offline = lambda info, pre_train: seen.append(info) or LossInfo(
        loss=algorithm._weight * (info[0].step_type == 2))
    algorithm.train_iter()
    assert any(bool((inputs.step_type == 2).any()) for inputs, _ in seen)
    assert float(algorithm._weight.detach()) == 0.0


def test_online_experience_joins_when_enough_is_collected(env, config):
    algorithm = make(env, config(initial_collect_steps=10))
    for _ in range(3):
        algorithm.train_iter()  # collects 6 steps
    assert [batches for batches, _ in algorithm.updates] == [["offline"]] * 2 + [["offline", "online"]] * 4


def test_a_resumed_run_goes_on_counting_updates(env, config):
    settings = config(rl_train_after_update_steps=3)
    algorithm = make(env, settings)
    algorithm.train_iter()
    resumed = make(env, settings)
    resumed.load_rollout_state_dict(algorithm.rollout_state_dict())
    resumed.train_iter()
    assert [batches for batches, _ in resumed.updates] == [["pre_train"], ["offline", "online"]]


def test_the_stored_buffer_is_in_no_checkpoint(env, config):
    alf.config("ReplayBuffer", enable_checkpoint=True)
    state = make(env, config(unroll_length=0)).rollout_state_dict()
    assert all(leaf.numel() < 2 for leaf in nest.flatten(state) if isinstance(leaf, torch.Tensor))


def test_data_transformers_are_applied_to_stored_steps(env, config):
    settings = config(unroll_length=0)
    settings.data_transformer = RewardScaling(observation_spec=env.observation_spec(), scale=0.5)
    algorithm = make(env, settings)
    algorithm.train_iter()
    for inputs, _ in algorithm.offline_infos:
        torch.testing.assert_close(inputs.reward, 0.5 * (inputs.observation[..., 0] - 100) * (inputs.step_type != 0))


def test_frames_are_stacked_from_the_stored_buffer(env, config):
    settings = config(unroll_length=0)
    settings.data_transformer = FrameStacker(observation_spec=env.observation_spec(), stack_size=2)
    algorithm = make(env, settings)
    for _ in range(5):
        algorithm.train_iter()
    for inputs, _ in algorithm.offline_infos:
        earlier, now = inputs.observation[..., 0], inputs.observation[..., 2]
        torch.testing.assert_close(now - earlier, (inputs.step_type != 0).float())


def test_settings_of_the_online_buffer_are_not_those_of_stored_steps(env, config):
    alf.config("ReplayBuffer", state_interval=10, record_episodic_return=True, keep_episodic_info=False)
    settings = config(unroll_length=0)
    settings.data_transformer = FrameStacker(observation_spec=env.observation_spec(), stack_size=2)
    algorithm = make(env, settings)
    assert algorithm.train_iter() == 2 * 5
    _, batch_info = algorithm._offline.sample()
    assert batch_info.discounted_return == ()
    assert bool((batch_info.positions % 10 != 0).any())


def test_an_algorithm_without_an_offline_step_learns_as_from_its_own_experience(env, config):
    class Plain(OffPolicyAlgorithm):
        def train_sequence(self, inputs, rollout_info, state=()):
            self.given = rollout_info
            return inputs

        def calc_loss(self, info):
            return LossInfo(loss=weight * info.reward)

    weight = torch.nn.Parameter(torch.tensor(1.0))
    algorithm = make(env, config(unroll_length=0), Plain, train_state_spec=(), optimizer=alf.optimizers.SGD(lr=0.1))
    algorithm._weight = weight
    algorithm.train_iter()
    assert isinstance(algorithm.given, BasicRLInfo) and float(weight.detach()) < 1.0


@pytest.mark.parametrize("in_agent", [False, True])
def test_an_offline_step_that_a_subclass_overrides_is_called(env, config, in_agent):
    class Called(Exception):
        pass

    def with_own_step(cls):
        class Subclass(cls):
            def train_step_offline(self, time_step, state, rollout_info, pre_train=False):
                raise Called

        return Subclass

    plain = functools.partial(iql(), epsilon_greedy=0.0)
    with_step = functools.partial(with_own_step(IqlAlgorithm), *plain.args, **plain.keywords)
    cls, rl = (with_own_step(Agent), plain) if in_agent else (Agent, with_step)
    algorithm = make(env, config(unroll_length=0), cls, rl_algorithm_cls=rl)
    with pytest.raises(Called):
        algorithm.train_iter()


def iql(recurrent=False):
    actor = ActorDistributionRNNNetwork if recurrent else ActorDistributionNetwork
    return functools.partial(IqlAlgorithm, actor_network_cls=actor, critic_network_cls=CriticNetwork,
                             v_network_cls=ValueNetwork, actor_optimizer=alf.optimizers.Adam(lr=0.01),
                             critic_optimizer=alf.optimizers.Adam(lr=0.01),
                             value_optimizer=alf.optimizers.Adam(lr=0.01))


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("unroll_length", [0, 3])
def test_iql_trains_offline_and_hybrid(env, config, recurrent, unroll_length):
    torch.manual_seed(0)
    algorithm = make(env, config(unroll_length=unroll_length), iql(recurrent), epsilon_greedy=0.0)
    before = {name: p.detach().clone() for name, p in algorithm.named_parameters()}
    for _ in range(2):
        algorithm.train_iter()
    after = dict(algorithm.named_parameters())
    assert all(bool(p.isfinite().all()) for p in after.values())
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"_actor_network", "_critic_networks", "_value_network", "_target_critic_networks"}


@pytest.mark.parametrize("recurrent", [False, True])
def test_what_a_run_kept_in_its_checkpoint_is_trained_on(env, make_config, tmp_path, recurrent):
    alf.config("ReplayBuffer", enable_checkpoint=True)
    settings = dict(whole_replay_buffer_training=False, clear_replay_buffer=False, mini_batch_length=2,
                    mini_batch_size=5)
    config = make_config(unroll_length=3, replay_buffer_length=8, priority_replay=True, use_rollout_state=True,
                         **settings)
    run = make(env, config, iql(recurrent), epsilon_greedy=0.0, calculate_priority=True)
    for _ in range(4):
        run.train_iter()
    acted = torch.stack(env.actions)  # of steps 0 to 11, of which the last 8 are kept
    rollout = types.SimpleNamespace(state_dict=run.rollout_state_dict, load_state_dict=run.load_rollout_state_dict)
    Checkpointer(str(tmp_path / "train" / "algorithm"), algorithm=run, rollout=rollout).save(4)
    learner = make(env, make_config(unroll_length=0, offline_buffer_dir=str(tmp_path), **settings))
    for _ in range(20):
        learner.train_iter()
    seen = set()
    for inputs, info in learner.offline_infos:
        t, row = inputs.observation[..., 0].long(), inputs.observation[..., 1].long()
        torch.testing.assert_close(info.action, acted[t, row])
        seen |= set(zip(t.flatten().tolist(), row.flatten().tolist()))
    assert seen == {(t, b) for t in range(4, 12) for b in range(2)}


def test_an_agent_gives_its_algorithm_what_is_stored(env, config):
    agent = make(env, config(), Agent, rl_algorithm_cls=Recorder, optimizer=alf.optimizers.SGD(lr=0.1))
    given = agent.offline_rollout_info(torch.zeros(1))
    assert isinstance(given, BasicRolloutInfo) and isinstance(given.rl, BasicRLInfo)
    for _ in range(2):
        agent.train_iter()
    rl = agent._rl_algorithm
    assert [batches for batches, _ in rl.updates] == [["offline", "online"]] * 4
    assert float(rl._weight.detach()) == pytest.approx(-0.1 * 11 * 4)
    inputs, info = rl.offline_infos[0]
    t, row = inputs.observation[..., 0] - 100, inputs.observation[..., 1]
    torch.testing.assert_close(info.action.squeeze(-1), (10 * row + t) / 100)


def test_an_agent_trains_behavioral_cloning(env, config):
    agent = make(env, config(unroll_length=0), Agent, rl_algorithm_cls=BcAlgorithm,
                 optimizer=alf.optimizers.SGD(lr=0.1))
    before = [p.detach().clone() for p in agent.parameters()]
    agent.train_iter()
    assert any(not torch.equal(p, q) for p, q in zip(agent.parameters(), before))


def test_a_buffer_of_another_environment_is_refused_with_file_and_field(env, config, tmp_path):
    path = store(tmp_path / "other.safetensors", action_dim=2)
    told = r"other.safetensors(.|\n)*action: expected float32\[1\], got float32\[2\]"
    with pytest.raises(OfflineBufferError, match=told):
        make(env, config(offline_buffer_dir=path))


def test_a_buffer_shorter_than_a_sequence_is_refused(env, config, tmp_path):
    path = store(tmp_path / "short.safetensors", num_envs=1, num_steps=4)
    with pytest.raises(ValueError, match="mini_batch_length: expected at most the 4 steps .*short.safetensors.*got 5"):
        make(env, config(offline_buffer_dir=path, mini_batch_length=5))


def test_an_on_policy_algorithm_is_refused(env, config, networks):
    with pytest.raises(ValueError, match="offline_buffer_dir: ActorCriticAlgorithm learns from the graph of its"):
        make(env, config(), ActorCriticAlgorithm, **networks[False])


@pytest.mark.parametrize("settings,told", [
    (dict(whole_replay_buffer_training=True), "whole_replay_buffer_training: expected False with offline_buffer_dir"),
    (dict(mini_batch_size=None), "mini_batch_size: expected a number with offline_buffer_dir"),
    (dict(mini_batch_length=None), "mini_batch_length: expected a number with offline_buffer_dir"),
    (dict(unroll_length=0, replay_ratio=1.0), "replay_ratio: expected None, because nothing is collected"),
    (dict(unroll_length=0, offline_buffer_dir=None), "unroll_length: expected a number > 0"),
])
def test_settings_that_contradict_each_other_are_refused(config, settings, told):
    with pytest.raises(ValueError, match=told):
        config(**settings)
