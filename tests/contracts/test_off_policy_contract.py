"""What every algorithm that learns from a replay buffer must do, tried on all; a new one joins by a line in `CASES`."""

import functools

import pytest
import torch

import alf.nest as nest
from alf.algorithms.agent import Agent
from alf.algorithms.config import TrainerConfig
from alf.algorithms.ddpg_algorithm import DdpgAlgorithm
from alf.algorithms.dqn_algorithm import DqnAlgorithm
from alf.algorithms.iql_algorithm import IqlAlgorithm
from alf.algorithms.oac_algorithm import OacAlgorithm
from alf.algorithms.qrsac_algorithm import QrsacAlgorithm
from alf.algorithms.r2d2_algorithm import R2d2Algorithm
from alf.algorithms.sac_algorithm import SacAlgorithm
from alf.algorithms.td3_algorithm import Td3Algorithm
from alf.environments.suite_unittest import UnittestEnv
from alf.nest.utils import NestConcat
from alf.networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    ActorNetwork,
    ActorRNNNetwork,
    CriticNetwork,
    CriticRNNNetwork,
    NormalProjectionNetwork,
    QNetwork,
    QRNNNetwork,
    ValueNetwork,
)
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.math_ops import clipped_exp

B = 3
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 3)
CONTINUOUS = BoundedTensorSpec((2, ), torch.float32, -1, 1)
ACTIONS = {"discrete": DISCRETE, "continuous": CONTINUOUS, "mixed": dict(c=CONTINUOUS, d=DISCRETE)}
TARGETS = ("_target", "target_")  # in the names of parameters that follow others

small = dict(fc_layer_params=(8, ))
lstm = dict(lstm_hidden_size=(6, ))
squashed = dict(continuous_projection_net_ctor=functools.partial(
    NormalProjectionNetwork, state_dependent_std=True, scale_distribution=True, std_transform=clipped_exp))


def adam():
    return Adam(lr=1e-2)


def _sac(cls, recurrent=False, mixed=False, **kwargs):
    actor, critic = ((functools.partial(ActorDistributionRNNNetwork, **lstm, **squashed),
                      functools.partial(CriticRNNNetwork, **lstm))
                     if recurrent else (functools.partial(ActorDistributionNetwork, **small, **squashed),
                                        functools.partial(CriticNetwork, joint_fc_layer_params=(8, ))))
    # With a mixed action the Q network is given the continuous part as well.
    combiner = dict(preprocessing_combiner=NestConcat()) if mixed else {}
    q = functools.partial(QRNNNetwork, **lstm) if recurrent else functools.partial(QNetwork, **small, **combiner)
    if cls is SacAlgorithm:
        kwargs["q_network_cls"] = q
    return functools.partial(cls, actor_network_cls=actor, critic_network_cls=critic, actor_optimizer=adam(),
                             critic_optimizer=adam(), alpha_optimizer=adam(), **kwargs)


def _ddpg(cls, recurrent=False, **kwargs):
    actor, critic = ((functools.partial(ActorRNNNetwork, **lstm), functools.partial(CriticRNNNetwork, **lstm))
                     if recurrent else (functools.partial(ActorNetwork, **small),
                                        functools.partial(CriticNetwork, joint_fc_layer_params=(8, ))))
    return functools.partial(cls, actor_network_ctor=actor, critic_network_ctor=critic, actor_optimizer=adam(),
                             critic_optimizer=adam(), **kwargs)


def _iql():
    return functools.partial(
        IqlAlgorithm, actor_network_cls=functools.partial(ActorDistributionNetwork, **small, **squashed),
        critic_network_cls=functools.partial(CriticNetwork, joint_fc_layer_params=(8, )),
        v_network_cls=functools.partial(ValueNetwork, **small), actor_optimizer=adam(), critic_optimizer=adam(),
        value_optimizer=adam())


# name: (makes the constructor, action, size of the reward, settings of the trainer)
CASES = {
    "SAC": (lambda: _sac(SacAlgorithm), "continuous", 1, {}),
    "SAC, discrete": (lambda: _sac(SacAlgorithm), "discrete", 1, {}),
    "SAC, mixed": (lambda: _sac(SacAlgorithm, mixed=True), "mixed", 1, {}),
    "SAC, vector reward": (lambda: _sac(SacAlgorithm), "continuous", 2, {}),
    "SAC, recurrent": (lambda: _sac(SacAlgorithm, recurrent=True), "continuous", 1, dict(mini_batch_length=4)),
    "SAC, priorities": (lambda: _sac(SacAlgorithm, calculate_priority=True), "continuous", 1,
                        dict(priority_replay=True)),
    "OAC": (lambda: _sac(OacAlgorithm), "continuous", 1, {}),
    "QRSAC": (lambda: functools.partial(_sac(QrsacAlgorithm), critic_network_cls=functools.partial(
        CriticNetwork, joint_fc_layer_params=(8, ), output_tensor_spec=TensorSpec((50, )))), "continuous", 1, {}),
    "DDPG": (lambda: _ddpg(DdpgAlgorithm), "continuous", 1, {}),
    "DDPG, recurrent": (lambda: _ddpg(DdpgAlgorithm, recurrent=True), "continuous", 1, dict(mini_batch_length=4)),
    "DDPG, vector reward": (lambda: _ddpg(DdpgAlgorithm), "continuous", 2, {}),
    "DDPG, priorities": (lambda: _ddpg(DdpgAlgorithm, calculate_priority=True), "continuous", 1,
                         dict(priority_replay=True)),
    "TD3": (lambda: _ddpg(Td3Algorithm, policy_update_period=1), "continuous", 1, {}),
    "IQL": (_iql, "continuous", 1, {}),
    "DQN": (lambda: functools.partial(DqnAlgorithm, q_network_cls=functools.partial(QNetwork, **small),
                                      q_optimizer=adam()), "discrete", 1, {}),
    "DQN, priorities": (lambda: functools.partial(DqnAlgorithm, q_network_cls=functools.partial(QNetwork, **small),
                                                  q_optimizer=adam()), "discrete", 1, dict(priority_replay=True)),
    "R2D2": (lambda: functools.partial(
        R2d2Algorithm, q_network_cls=functools.partial(QRNNNetwork, **lstm), burn_in_steps=1, q_optimizer=adam()),
             "discrete", 1, dict(mini_batch_length=4, use_rollout_state=True)),
}


class RandomEnv(UnittestEnv):
    """Random observations; rewards tell nothing."""

    def __init__(self, action_spec, reward_dim):
        super().__init__(B, 4, reward_dim=reward_dim)
        self._action_spec = action_spec

    def observation_spec(self):
        return TensorSpec((4, ))

    def _observe(self, position):
        return torch.rand((B, 4), generator=self._generator)

    def _reward(self, position, action):
        return torch.rand(B, generator=self._generator)


@pytest.fixture(params=CASES)
def make(request, tmp_path):
    """Return a function that makes the algorithm, always the same, with a fresh environment."""
    make_ctor, action, reward_dim, settings = CASES[request.param]

    def make_algorithm(change=lambda ctor: ctor, **more):
        torch.manual_seed(0)
        env = RandomEnv(ACTIONS[action], reward_dim)
        arguments = dict(mini_batch_length=2) | settings | more
        config = TrainerConfig(root_dir=str(tmp_path), unroll_length=6, mini_batch_size=5, replay_buffer_length=30,
                               num_updates_per_train_iter=2, whole_replay_buffer_training=False,
                               clear_replay_buffer=False, **arguments)
        return change(make_ctor())(observation_spec=env.observation_spec(), action_spec=env.action_spec(),
                                   reward_spec=env.reward_spec(), env=env, config=config)

    return make_algorithm


def assert_like(values, specs):
    """Check the structure, shapes and dtypes of a nest of tensors ``[B, ...]``, and that actions are in bounds."""
    nest.assert_same_structure(values, specs)
    for value, spec in zip(nest.flatten(values), nest.flatten(specs), strict=True):
        assert tuple(value.shape) == (B, *spec.shape) and value.dtype == spec.dtype
        if isinstance(spec, BoundedTensorSpec):
            assert (value >= torch.tensor(spec.minimum)).all() and (value <= torch.tensor(spec.maximum)).all()


def test_steps_give_actions_and_states_of_their_specs(make):
    algorithm = make()
    time_step = algorithm._env.current_time_step()
    for kind in ("rollout", "predict"):
        spec = getattr(algorithm, f"{kind}_state_spec")
        step = getattr(algorithm, f"{kind}_step")(time_step, getattr(algorithm, f"get_initial_{kind}_state")(B))
        assert_like(step.output, algorithm.action_spec)
        assert_like(step.state, spec)


def test_specs_of_experience_are_those_of_the_first_unroll(make):
    algorithm = make()
    with pytest.raises(RuntimeError, match="it has made none yet"):
        algorithm.rollout_info_spec  # noqa: B018
    algorithm._env.reset()
    experience = algorithm.unroll(2)
    spec = algorithm.experience_spec
    assert algorithm.rollout_info_spec is spec.rollout_info
    nest.assert_same_structure(spec, experience)
    for leaf, leaf_spec in zip(nest.flatten(experience._replace(rollout_info=())),
                               nest.flatten(spec._replace(rollout_info=())), strict=True):
        assert leaf.shape == (2, B, *leaf_spec.shape) and leaf.dtype == leaf_spec.dtype


def test_iterations_train_all_parameters_but_those_of_targets(make):
    algorithm = make()
    algorithm._env.reset()
    before = {name: p.detach().clone() for name, p in algorithm.named_parameters()}
    for _ in range(3):
        assert algorithm.train_iter() > 0
    for name, p in algorithm.named_parameters():
        assert torch.isfinite(p).all(), name
        if not any(target in name for target in TARGETS):
            assert not torch.equal(p, before[name]), f"{name} has not changed"
    untrained = algorithm.get_unoptimized_parameter_info()
    assert all(any(target in name for target in TARGETS) for name in untrained), untrained


def test_losses_are_finite_and_have_a_row_for_each_step(make):
    algorithm = make()
    given = []
    calc_loss = algorithm.calc_loss
    algorithm.calc_loss = lambda info: (given.append(calc_loss(info)), given[-1])[1]
    algorithm.train_iter()
    length = algorithm._config.mini_batch_length
    for loss_info in given:
        assert loss_info.loss.shape == (length, 5) and torch.isfinite(loss_info.loss).all()
        if algorithm._config.priority_replay:
            assert loss_info.priority.shape == (5, ) and (loss_info.priority >= 0).all()


def test_training_is_the_same_from_the_same_seed(make):
    results = []
    for _ in range(2):
        algorithm = make()
        algorithm.train_iter()
        algorithm.train_iter()
        results.append([p.detach().clone() for p in algorithm.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Called(Exception):
    """Tells that the train step of a subclass was called."""


def _with_own_train_step(ctor):
    """Return what makes an algorithm of a subclass of ``ctor.func`` whose ``train_step`` raises :class:`Called`."""

    class Subclass(ctor.func):

        def update_kind(self):
            return ()

        def train_step(self, inputs, state, rollout_info):
            raise Called

    return functools.partial(Subclass, *ctor.args, **ctor.keywords)


@pytest.mark.parametrize("mode", [None, "trace"])
@pytest.mark.parametrize("change", [
    _with_own_train_step,
    lambda ctor: functools.partial(Agent, rl_algorithm_cls=_with_own_train_step(ctor)),
    lambda ctor: _with_own_train_step(functools.partial(Agent, rl_algorithm_cls=ctor)),
], ids=["alone", "in an Agent", "an Agent"])
def test_a_train_step_that_a_subclass_overrides_is_called(make, change, mode):
    algorithm = make(change, compile=mode)
    told = "cannot be compiled" if mode and change is not _with_own_train_step and any(
        type(module) is R2d2Algorithm for module in algorithm.modules()) else ""
    with pytest.raises(RuntimeError if told else Called, match=told or None):
        algorithm.train_iter()


@pytest.mark.parametrize("enable_amp", [False, True])
def test_traced_updates_are_those_of_plain_pytorch(make, enable_amp):
    results = []
    for mode in (None, "trace"):
        algorithm = make(compile=mode, enable_amp=enable_amp)
        if mode is not None and isinstance(algorithm, R2d2Algorithm):
            with pytest.raises(RuntimeError, match="R2d2Algorithm.* cannot be compiled: where the episodes in a batch"):
                algorithm.train_iter()
            return
        for _ in range(3):
            algorithm.train_iter()
        assert (algorithm._learner.compiled_update is not None) == (mode is not None)
        results.append([*algorithm.state_dict().values(), *algorithm.rollout_state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*[[x for x in r if isinstance(x, torch.Tensor)] for r in results],
                                                 strict=True))


def test_mixed_precision_trains_and_keeps_float32(make):
    algorithm = make(enable_amp=True)
    for _ in range(2):
        assert algorithm.train_iter() > 0
    for leaf in nest.flatten([algorithm.state_dict(), algorithm.rollout_state_dict()]):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            assert leaf.dtype == torch.float32 and torch.isfinite(leaf).all()


def test_state_dict_round_trip_is_exact(make):
    trained, other = make(), make()
    for _ in range(2):
        trained.train_iter()
    state = trained.state_dict()
    other.load_state_dict(state)
    loaded = other.state_dict()
    assert state.keys() == loaded.keys() and any("_optimizers" in key for key in state)
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, loaded[key]), key
    time_step = trained._env.current_time_step()
    actions = [algorithm.eval().predict_step(time_step, algorithm.get_initial_predict_state(B)).output
               for algorithm in (trained, other)]
    for a, b in zip(*map(nest.flatten, actions), strict=True):
        assert torch.equal(a, b)


def test_prediction_is_without_exploration_and_makes_no_graph(make):
    algorithm = make().eval()
    time_step = algorithm._env.current_time_step()
    with torch.no_grad():
        state = algorithm.get_initial_predict_state(B)
        one, two = (algorithm.predict_step(time_step, state) for _ in range(2))
    for a, b in zip(nest.flatten(one.output), nest.flatten(two.output), strict=True):
        assert torch.equal(a, b) and not a.requires_grad


@pytest.mark.parametrize("make_ctor, action, told", [
    (lambda: _ddpg(DdpgAlgorithm), "discrete", "expected continuous actions"),
    (lambda: _ddpg(Td3Algorithm), "mixed", "expected continuous actions"),
    (CASES["DQN"][0], "continuous", "expected a single discrete action"),
    (CASES["R2D2"][0], "continuous", "expected a discrete"),
    (CASES["OAC"][0], "discrete", "continuous actions"),
    (CASES["QRSAC"][0], "discrete", "continuous actions"),
    (CASES["IQL"][0], "discrete", "continuous actions"),
])
def test_an_action_that_an_algorithm_cannot_handle_is_refused(make_ctor, action, told):
    with pytest.raises(ValueError, match=told):
        make_ctor()(observation_spec=TensorSpec((4, )), action_spec=ACTIONS[action])
