"""Counting episodes without a preference for short ones."""

import numpy as np
import torch

from alf.data_structures import AlgStep, StepType, TimeStep
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.trainers._episodes import Episode, EpisodeCounter, run_episodes
from alf.trainers.evaluator import evaluate, told_results

F, M, L = int(StepType.FIRST), int(StepType.MID), int(StepType.LAST)


def test_every_environment_has_its_share_of_episodes():
    counter = EpisodeCounter(num_envs=2, num_episodes=3)
    # Environment 0 has episodes of 1 step, environment 1 one of 4 steps. Rewards at FIRST belong to nothing.
    steps = [([F, F], [9, 9]), ([L, M], [1, 10]), ([F, M], [9, 10]), ([L, M], [2, 10]), ([F, L], [9, 10]),
             ([L, F], [3, 9])]
    active = [counter.count(np.array(types), np.array(rewards, np.float32)).tolist() for types, rewards in steps]
    assert counter.episodes == [Episode(0, 1, 1.0), Episode(0, 1, 2.0), Episode(1, 4, 40.0)]
    assert active == [[True, True]] * 4 + [[False, True], [False, False]]
    assert counter.done


def test_vector_rewards_have_vector_returns():
    counter = EpisodeCounter(num_envs=1, num_episodes=1)
    for step_type, reward in ((F, [5, 5]), (M, [1, 2]), (L, [10, 20])):
        counter.count(np.array([step_type]), np.array([reward], np.float32))
    assert counter.episodes == [Episode(0, 2, [11.0, 22.0])]


class _Lengths:
    """Environment ``i`` has episodes of ``lengths[i]`` steps with reward 1."""

    def __init__(self, lengths):
        self._lengths = np.array(lengths)
        self.batch_size = len(lengths)

    def time_step_spec(self):
        spec = TensorSpec((), torch.float32)
        return TimeStep(step_type=TensorSpec((), torch.int32), reward=spec, discount=spec, observation=spec,
                        prev_action=self.action_spec(), env_id=TensorSpec((), torch.int64))

    def action_spec(self):
        return BoundedTensorSpec((), torch.int64, 0, 1)

    def env_info_spec(self):
        return ()

    def reset(self):
        self._t = np.zeros_like(self._lengths)
        return self._time_step()

    def step(self, action):
        assert action.shape == (self.batch_size, )
        self._t = np.where(self._t == self._lengths, 0, self._t + 1)
        return self._time_step()

    def _time_step(self):
        step_type = np.where(self._t == 0, F, np.where(self._t == self._lengths, L, M))
        return TimeStep(
            step_type=torch.as_tensor(step_type, dtype=torch.int32),
            reward=torch.as_tensor(self._t > 0, dtype=torch.float32),
            discount=torch.ones(self.batch_size),
            observation=torch.as_tensor(self._t, dtype=torch.float32),
            prev_action=torch.zeros(self.batch_size, dtype=torch.int64),
            env_id=torch.arange(self.batch_size),
            env_info=())


class _Policy(torch.nn.Module):
    """Counts its steps in its state, to see that the state begins anew in each episode."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def get_initial_predict_state(self, batch_size):
        return torch.zeros(batch_size)

    def get_initial_transform_state(self, batch_size):
        return ()

    def transform_timestep(self, time_step, state):
        return time_step, state

    def predict_step(self, inputs, state):
        assert not self.training and not torch.is_grad_enabled()
        assert torch.equal(state, inputs.observation)
        return AlgStep(output=torch.zeros_like(inputs.step_type, dtype=torch.int64), state=state + 1)


def test_policy_state_begins_anew_with_every_episode():
    policy = _Policy().train()
    episodes = run_episodes(_Lengths([3, 5]), policy, 4)
    assert episodes == [Episode(0, 3, 3.0), Episode(1, 5, 5.0)] * 2
    assert policy.training


def test_metrics_of_an_evaluation_count_the_same_episodes():
    metrics = evaluate(_Lengths([2, 8]), _Policy(), 4)
    results = {metric.name: metric.result() for metric in metrics}
    assert float(results["AverageReturn"]) == 5.0  # (2 + 8 + 2 + 8) / 4; without shares 2s would prevail
    assert float(results["AverageEpisodeLength"]) == 5.0
    assert int(results["NumberOfEpisodes"]) == 4
    assert told_results(metrics) == "return 5.0, length 5.0, 4 episodes"
