"""What every algorithm must do, tried on all; a new algorithm joins by a line in `ALGORITHMS`."""

import functools

import pytest
import torch

import alf.nest as nest
from alf.algorithms.actor_critic_algorithm import ActorCriticAlgorithm
from alf.algorithms.agent import Agent
from alf.algorithms.config import TrainerConfig
from alf.algorithms.ppo_algorithm import PPOAlgorithm
from alf.data_structures import LossInfo, TimeStep
from alf.environments.suite_unittest import UnittestEnv
from alf.layers import FC
from alf.nest.utils import NestConcat
from alf.networks import (
    ActorDistributionNetwork,
    ActorDistributionRNNNetwork,
    EncodingNetwork,
    ValueNetwork,
    ValueRNNNetwork,
)
from alf.optimizers import Adam
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils import dist_utils

B = 3
DISCRETE = BoundedTensorSpec((), torch.int64, 0, 3)
CONTINUOUS = BoundedTensorSpec((2,), torch.float32, -1, 1)
VECTOR, IMAGE = TensorSpec((4,)), TensorSpec((3, 12, 12))

ACTIONS = {"discrete": DISCRETE, "continuous": CONTINUOUS, "mixed": dict(c=CONTINUOUS, d=DISCRETE)}
OBSERVATIONS = {
    "vector": (VECTOR, lambda: {}),
    "image": (IMAGE, lambda: dict(conv_layer_params=((4, 3, 2),))),
    "dict": (dict(image=IMAGE, vector=VECTOR), lambda: dict(
        input_preprocessors=dict(image=EncodingNetwork(IMAGE, conv_layer_params=((4, 3, 2),), fc_layer_params=(5,)),
                                 vector=FC(4, 5)),
        preprocessing_combiner=NestConcat())),
}


def _actor_critic(cls, observation, recurrent):
    arguments = OBSERVATIONS[observation][1]
    actor, value = ((ActorDistributionRNNNetwork, ValueRNNNetwork) if recurrent else
                    (ActorDistributionNetwork, ValueNetwork))
    extra = dict(lstm_hidden_size=(6,)) if recurrent else dict(fc_layer_params=(8,))
    return functools.partial(cls, actor_network_ctor=functools.partial(actor, **extra, **arguments()),
                             value_network_ctor=functools.partial(value, **extra, **arguments()))


def _agent_of(cls, observation, recurrent):
    return functools.partial(Agent, rl_algorithm_cls=_actor_critic(cls, observation, recurrent))


# name: called with the name of the observation and whether networks are recurrent, returns the constructor
ALGORITHMS = {
    "A2C": functools.partial(_actor_critic, ActorCriticAlgorithm),
    "PPO": functools.partial(_actor_critic, PPOAlgorithm),
    "Agent of A2C": functools.partial(_agent_of, ActorCriticAlgorithm),
    "Agent of PPO": functools.partial(_agent_of, PPOAlgorithm),
}
# observation, action, recurrent, size of the reward: each value of each kind at least once
SETTINGS = [
    ("vector", "discrete", False, 1),
    ("vector", "continuous", True, 1),
    ("image", "discrete", True, 1),
    ("image", "continuous", False, 2),
    ("dict", "mixed", False, 1),
    ("dict", "mixed", True, 2),
    ("vector", "mixed", False, 2),
]


class RandomEnv(UnittestEnv):
    """Random observations of any spec; rewards tell nothing."""

    def __init__(self, observation_spec, action_spec, reward_dim):
        self._observation = observation_spec
        super().__init__(B, 4, reward_dim=reward_dim)
        self._action_spec = action_spec

    def observation_spec(self):
        return self._observation

    def _observe(self, position):
        return nest.map_structure(lambda spec: torch.rand((B, *spec.shape), generator=self._generator),
                                  self._observation)

    def _reward(self, position, action):
        return torch.rand(B, generator=self._generator)


@pytest.fixture(params=SETTINGS, ids=lambda setting: "-".join(map(str, setting)))
def setting(request):
    return request.param


@pytest.fixture(params=list(ALGORITHMS))
def make(request, setting, tmp_path):
    """Return a function that makes the algorithm, always the same, with a fresh environment."""
    observation, action, recurrent, reward_dim = setting

    def make_algorithm():
        torch.manual_seed(0)
        env = RandomEnv(OBSERVATIONS[observation][0], ACTIONS[action], reward_dim)
        config = TrainerConfig(root_dir=str(tmp_path), unroll_length=4, mini_batch_length=2, mini_batch_size=3,
                               num_updates_per_train_iter=1)
        return ALGORITHMS[request.param](observation, recurrent)(
            observation_spec=env.observation_spec(), action_spec=env.action_spec(), reward_spec=env.reward_spec(),
            env=env, config=config, optimizer=Adam(lr=1e-2))

    return make_algorithm


def assert_like(values, specs):
    """Check the structure, shapes and dtypes of a nest of tensors ``[B, ...]``."""
    nest.assert_same_structure(values, specs)
    for value, spec in zip(nest.flatten(values), nest.flatten(specs)):
        assert tuple(value.shape) == (B, *spec.shape) and value.dtype == spec.dtype


def snapshot(algorithm):
    return [p.detach().clone() for p in algorithm.parameters()]


def test_steps_give_actions_and_states_of_their_specs(make):
    algorithm = make()
    time_step = algorithm._env.current_time_step()
    for kind in ("rollout", "predict"):
        spec = getattr(algorithm, f"{kind}_state_spec")
        state = getattr(algorithm, f"get_initial_{kind}_state")(B)
        assert_like(state, spec)
        step = getattr(algorithm, f"{kind}_step")(time_step, state)
        assert_like(step.output, algorithm.action_spec)
        assert_like(step.state, spec)
        for action, action_spec in zip(nest.flatten(step.output), nest.flatten(algorithm.action_spec)):
            if action_spec.is_discrete:
                assert (action >= 0).all() and (action <= 3).all()


def test_infos_keep_their_structure_from_step_to_step(make):
    algorithm = make()
    state = algorithm.get_initial_rollout_state(B)
    time_step = algorithm._env.current_time_step()
    first = algorithm.rollout_step(time_step, state)
    second = algorithm.rollout_step(algorithm._env.step(first.output), first.state)
    assert isinstance(first.info, type(second.info))
    nest.assert_same_structure(*(dist_utils.distributions_to_params(step.info) for step in (first, second)))


def test_train_step_gives_the_loss_what_it_needs(make):
    algorithm = make()
    if algorithm.on_policy:
        experience = algorithm.unroll(4)
        loss_info = algorithm.calc_loss(experience.rollout_info)
        assert loss_info.loss.shape == (5, B)
    else:
        given = []
        calc_loss = algorithm.calc_loss
        algorithm.calc_loss = lambda info: (given.append(calc_loss(info)), given[-1])[1]
        algorithm.train_iter()
        loss_info = given[0]
        assert loss_info.loss.shape == (2, 3)
    assert isinstance(loss_info, LossInfo)
    assert torch.isfinite(loss_info.loss).all()


def test_an_iteration_trains_all_parameters(make):
    algorithm = make()
    before = snapshot(algorithm)
    assert algorithm.train_iter() == 4 * B
    after = snapshot(algorithm)
    assert all(torch.isfinite(p).all() for p in after)
    for (name, _), old, new in zip(algorithm.named_parameters(), before, after):
        assert not torch.equal(old, new), f"{name} has not changed"
    assert algorithm.get_unoptimized_parameter_info() == []


def test_training_is_the_same_from_the_same_seed(make):
    results = []
    for _ in range(2):
        algorithm = make()
        algorithm.train_iter()
        algorithm.train_iter()
        results.append(snapshot(algorithm))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_state_dict_round_trip_is_exact(make):
    trained, other = make(), make()
    trained.train_iter()
    other.load_state_dict(trained.state_dict())
    state, loaded = trained.state_dict(), other.state_dict()
    assert state.keys() == loaded.keys()
    assert any("_optimizers" in key for key in state)
    flat = [nest.flatten(_sorted(value)) for value in (state, loaded)]
    assert len(flat[0]) == len(flat[1])
    for a, b in zip(*flat):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def _sorted(value):
    """Return nested dictionaries with their keys as strings, so that they can be ordered."""
    if isinstance(value, dict):
        return {str(key): _sorted(child) for key, child in value.items()}
    return [_sorted(child) for child in value] if isinstance(value, (list, tuple)) else value


def test_prediction_needs_no_reward_and_makes_no_graph(make):
    algorithm = make().eval()
    time_step = algorithm._env.current_time_step()
    bare = TimeStep(step_type=time_step.step_type, observation=time_step.observation, reward=time_step.reward,
                    discount=time_step.discount, prev_action=time_step.prev_action, env_id=time_step.env_id)
    with torch.no_grad():
        state = algorithm.get_initial_predict_state(B)
        one, two = (algorithm.predict_step(bare, state) for _ in range(2))
    # epsilon_greedy is 0 by default: the mode of the policy.
    for a, b in zip(nest.flatten(one.output), nest.flatten(two.output)):
        assert torch.equal(a, b) and not a.requires_grad


def test_settings_cover_every_kind():
    observations, actions, recurrent, rewards = map(set, zip(*SETTINGS))
    assert observations == OBSERVATIONS.keys() and actions == ACTIONS.keys()
    assert recurrent == {True, False} and rewards == {1, 2}
