"""A representation learner in SacAlgorithm: who trains it, what target critics see, and that it is told everything."""

import functools

import pytest
import torch
from torch import nn

import alf.nest as nest
from alf.algorithms._training.sequences import step_at_once
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.sac_algorithm import SacAlgorithm, SacInfo
from alf.data_structures import AlgStep, LossInfo, TimeStep
from alf.networks import ActorDistributionNetwork, CriticNetwork, NormalProjectionNetwork
from alf.optimizers import SGD
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

OBSERVATION = TensorSpec((3,))
ACTION = BoundedTensorSpec((2,), torch.float32, -1, 1)


def make_algorithm(repr_alg_ctor, observation_spec=OBSERVATION, cls=SacAlgorithm, **kwargs):
    squashed = functools.partial(NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True)
    return cls(
        observation_spec,
        ACTION,
        actor_network_cls=functools.partial(
            ActorDistributionNetwork, fc_layer_params=(8,), continuous_projection_net_ctor=squashed),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8,)),
        target_entropy=-1.0,
        repr_alg_ctor=repr_alg_ctor,
        **kwargs)


def make_batch(num_steps=2, batch_size=6):
    torch.manual_seed(0)
    outer = (num_steps, batch_size)
    time_step = TimeStep(
        step_type=torch.ones(outer, dtype=torch.int32),
        reward=torch.randn(outer),
        discount=(torch.rand(outer) > 0.2).float(),
        observation=torch.randn(outer + OBSERVATION.shape),
        prev_action=ACTION.sample(outer))
    return time_step, SacInfo(action=ACTION.sample(outer))


@pytest.fixture
def fixed_noise(monkeypatch):
    """Noise that is a function of the row it is for, so that it does not depend on how rows are batched."""
    monkeypatch.setattr(dist_utils.DiagMultivariateNormal, "_noise",
                        lambda self, sample_shape: torch.sin(1000 * self.loc.detach()))


class LinearRepresentation(Algorithm):
    """Multiplies the observation by a weight, whose square is its loss."""

    def __init__(self, observation_spec, action_spec, reward_spec, config, debug_summaries):
        super().__init__(config=config)
        self.w = nn.Parameter(torch.tensor(2.0))
        self.output_spec = observation_spec

    def predict_step(self, inputs, state):
        return AlgStep(output=self.w * inputs.observation, state=state)

    def rollout_step(self, inputs, state):
        return self.predict_step(inputs, state)

    def train_step(self, inputs, state, rollout_info=None):
        return self.predict_step(inputs, state)._replace(info=self.w.square().expand(inputs.step_type.shape))

    def calc_loss(self, info):
        return LossInfo(loss=info, extra=info)


def test_representation_is_trained_by_the_critics_and_its_own_loss(fixed_noise):
    algorithm = make_algorithm(LinearRepresentation)
    time_step, rollout_info = make_batch()
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, rollout_info))
    gradient = torch.autograd.grad(loss.loss.mean(), algorithm._repr_alg.w)[0]
    w = algorithm._repr_alg.w
    values, _ = algorithm._critic_networks((w * time_step.observation[0], rollout_info.action[0]))
    target = values - (values.detach() - _targets(algorithm, time_step, rollout_info).unsqueeze(-1))
    critic_loss = (values - target.detach()).square().sum() / 12
    expected = torch.autograd.grad(critic_loss + w.square(), w)[0]
    torch.testing.assert_close(gradient, expected)


def _targets(algorithm, time_step, rollout_info):
    info = step_at_once(algorithm.train_step, time_step, rollout_info, algorithm.get_initial_train_state(1))
    reward = time_step.reward[1] + 0.99 * time_step.discount[1] * (info.entropy_reward + info.critic.target_critic)[1]
    return reward.detach()


def test_target_critics_see_a_slow_copy_of_the_representation():
    algorithm = make_algorithm(LinearRepresentation, target_update_tau=0.5)
    with torch.no_grad():
        algorithm._repr_alg.w.fill_(4.0)
    algorithm.after_update((), SacInfo())
    assert algorithm._target_repr_alg.w.item() == 3.0
    time_step, rollout_info = make_batch()
    info = algorithm.train_sequence(time_step, rollout_info)
    assert info.critic.target_critic.shape == (2, 6) and algorithm._target_repr_alg.w.grad is None


class Recorder(LinearRepresentation):
    """Notes what it is told; its infos tell where they were made."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = []

    def rollout_step(self, inputs, state):
        self.calls.append("rollout_step")
        return self.predict_step(inputs, state)._replace(info=torch.full(inputs.step_type.shape, 1.0))

    def preprocess_experience(self, root_inputs, rollout_info, batch_info):
        self.calls.append("preprocess_experience")
        assert (rollout_info == 1).all() and rollout_info.shape == root_inputs.step_type.shape
        assert batch_info.env_ids.shape == root_inputs.step_type.shape[:1]
        return root_inputs, rollout_info + 1

    def train_step(self, inputs, state, rollout_info=None):
        self.calls.append("train_step")
        assert (rollout_info == 2).all()
        return self.predict_step(inputs, state)._replace(info=self.w.square().expand(inputs.step_type.shape))

    def calc_loss(self, info):
        self.calls.append("calc_loss")
        return LossInfo(loss=info, scalar_loss=10 * self.w, extra=info)

    def after_update(self, root_inputs, info):
        self.calls.append("after_update")
        assert info.shape == root_inputs.step_type.shape

    def after_train_iter(self, root_inputs, rollout_info):
        self.calls.append("after_train_iter")
        assert (rollout_info == 1).all()


def test_learner_is_told_everything_in_an_iteration(scripted_env, make_config):
    env = scripted_env(action_spec=ACTION)
    config = make_config(unroll_length=3, mini_batch_length=2, mini_batch_size=4, num_updates_per_train_iter=2,
                         whole_replay_buffer_training=False, clear_replay_buffer=False)
    algorithm = make_algorithm(Recorder, env.observation_spec(), env=env, config=config,
                               critic_optimizer=SGD(lr=0.0))
    algorithm.add_optimizer(SGD(lr=0.01), [algorithm._repr_alg])
    algorithm.train_iter()
    update = ["preprocess_experience", "train_step", "calc_loss", "after_update"]
    assert algorithm._repr_alg.calls == 3 * ["rollout_step"] + 2 * update + ["after_train_iter"]
    assert algorithm._repr_alg.w.item() < 2.0


def test_scalar_loss_of_the_learner_is_added():
    algorithm = make_algorithm(Recorder)
    time_step, rollout_info = make_batch()
    loss = algorithm.calc_loss(algorithm.train_sequence(time_step, rollout_info._replace(repr=torch.full((2, 6), 2.0))))
    assert loss.scalar_loss.item() == 20.0 and loss.extra.repr.shape == (2, 6)


class LeavesOutTheLastStep(LinearRepresentation):

    def preprocess_experience(self, root_inputs, rollout_info, batch_info):
        return nest.map_structure(lambda leaf: leaf[:, :-1], (root_inputs, rollout_info))


def test_steps_that_the_learner_leaves_out_are_cut_from_all_infos():
    algorithm = make_algorithm(LeavesOutTheLastStep)
    time_step, rollout_info = make_batch(num_steps=6, batch_size=4)  # here batch-major: 6 sequences of 4 steps
    inputs, info = algorithm.preprocess_experience(time_step, rollout_info._replace(repr=torch.ones(6, 4)), ())
    assert inputs.step_type.shape == info.repr.shape == (6, 3)
    torch.testing.assert_close(info.action, rollout_info.action[:, :3])


def test_experience_is_preprocessed_by_a_learner_or_a_subclass_only():
    class Preprocessor(SacAlgorithm):

        def preprocess_experience(self, root_inputs, rollout_info, batch_info):
            return root_inputs, rollout_info

    assert not make_algorithm(None).preprocesses_experience
    assert make_algorithm(LinearRepresentation).preprocesses_experience
    assert make_algorithm(None, cls=Preprocessor).preprocesses_experience


def test_learner_knows_that_it_learns_off_policy():
    algorithm = make_algorithm(LinearRepresentation)
    assert algorithm._repr_alg.on_policy is False and algorithm._target_repr_alg.on_policy is False
