"""Hindsight experience replay: what was achieved becomes what was desired, https://arxiv.org/abs/1707.01495."""

from typing import Any, Callable, Tuple

import torch
from torch import Tensor

import alf.nest as nest
from alf.algorithms.data_transformer._base import DataTransformer, field_specs
from alf.algorithms.data_transformer._rewards import l2_dist_close_reward_fn
from alf.config_util import configurable
from alf.data_structures import Experience, TimeStep

_OBSERVATION = "time_step.observation"


def relabeled_rewards(rewards: Tensor, goal_rewards: Tensor, is_relabeled: Tensor) -> Tensor:
    """Return ``rewards`` with those of relabeled rows replaced; of a vector reward, its first component.

    Args:
        rewards: ``[B, T]`` or ``[B, T, R]``.
        goal_rewards: ``[B, T]``: rewards of the new goals.
        is_relabeled: bool ``[B, T]``.
    """
    if rewards.ndim == 2:
        return torch.where(is_relabeled, goal_rewards.to(rewards.dtype), rewards)
    first = relabeled_rewards(rewards[..., 0], goal_rewards, is_relabeled)
    return torch.cat([first.unsqueeze(-1), rewards[..., 1:]], dim=-1)


@configurable
class HindsightExperienceTransformer(DataTransformer):
    """Gives sampled sequences, with some probability, a goal that their own episode reached, and its rewards.

    The new goal of a sequence is the achieved goal of a step of the episode of its first row, drawn uniformly with the
    strategies of Section 4.5 of https://arxiv.org/abs/1707.01495. For an episode that is not finished yet, the newest
    stored step counts as its end. All rows of that episode get the new goal; rows of the next episode, if the
    sequence goes on there, keep theirs. The reward of row t belongs to the action at row t - 1: for rows t >= 1 with a
    new goal it becomes ``reward_fn(achieved_goal_t, new_goal)``. Of a vector reward only the first component is that
    of the goal; the others stay. Discounts stay: reaching a goal does not end an episode. A sequence whose first row
    is a LAST stays as it is, for no transition begins there.

    It reads stored goals from the replay buffer, so in ``data_transformer_ctor`` it comes before all that change
    observations or rewards.
    """

    reads_replay_buffer = True
    needs_stored_data = True
    needs_samples = True

    def __init__(
        self,
        observation_spec,
        her_proportion: float = 0.8,
        achieved_goal_field: str = "time_step.observation.achieved_goal",
        desired_goal_field: str = "time_step.observation.desired_goal",
        reward_fn: Callable[[Tensor, Tensor], Tensor] = l2_dist_close_reward_fn,
        strategy: str = "future",
    ):
        """
        Args:
            observation_spec: nest of specs of the observation, which stays as it is.
            her_proportion: probability that a sequence gets a new goal; 0.8 is 4 new goals for 1 original.
            achieved_goal_field: dotted path of the achieved goal in Experience.
            desired_goal_field: dotted path of the desired goal in Experience.
            reward_fn: called with achieved goals ``[B, T, n]`` and goals ``[B, T, n]``; returns rewards ``[B, T]``.
            strategy: ``future``: goals from the steps after the first row to the end of the episode; ``episode``:
                from any stored step of the episode.
        """
        if not 0 <= her_proportion <= 1:
            raise ValueError(
                "HindsightExperienceTransformer.her_proportion: expected 0 <= her_proportion <= 1, got "
                f"{her_proportion}."
            )
        if strategy not in ("future", "episode"):
            raise ValueError(
                f"HindsightExperienceTransformer.strategy: expected 'future' or 'episode', got {strategy!r}."
            )
        achieved, desired = (
            _goal_spec(name, field, observation_spec)
            for name, field in (
                ("achieved_goal_field", achieved_goal_field),
                ("desired_goal_field", desired_goal_field),
            )
        )
        if achieved.shape != desired.shape:
            raise ValueError(
                f"HindsightExperienceTransformer: an achieved goal becomes a desired one, so they need one shape; got "
                f"{tuple(achieved.shape)} of '{achieved_goal_field}' and {tuple(desired.shape)} of "
                f"'{desired_goal_field}'."
            )
        super().__init__(observation_spec, state_spec=())
        self._her_proportion = her_proportion
        self._achieved_goal_field = achieved_goal_field
        self._desired_goal_field = desired_goal_field
        self._reward_fn = reward_fn
        self._strategy = strategy

    @property
    def changed_fields(self) -> Tuple[str, ...]:
        """The desired goal."""
        return (self._desired_goal_field,)

    def transform_timestep(self, timestep: TimeStep, state) -> Tuple[TimeStep, Any]:
        return timestep, state

    def transform_experience(self, experience: Experience) -> Experience:
        """Return the experience, leaves ``[B, T, ...]``, with the new goals and their rewards.

        Raises:
            ValueError: the experience does not tell where in the replay buffer it comes from.
        """
        info, buffer = experience.batch_info, experience.replay_buffer
        if info == () or buffer == ():
            raise ValueError(
                "HindsightExperienceTransformer.transform_experience: the experience has no batch_info or no "
                "replay_buffer, so goals of its episodes cannot be found. It is for off-policy training from a replay "
                "buffer."
            )
        env_ids, positions = info.env_ids, info.positions
        steps_to_end = buffer.steps_to_episode_end(positions, env_ids)  # [B]
        is_chosen = torch.rand(positions.shape, device=positions.device) < self._her_proportion
        is_chosen = is_chosen & (steps_to_end > 0)
        new_goal = buffer.get_field(
            self._achieved_goal_field, env_ids, self._goal_positions(buffer, positions, env_ids, steps_to_end)
        )  # [B, n]

        goal = nest.get_field(experience, self._desired_goal_field)  # [B, T, n]
        achieved = nest.get_field(experience, self._achieved_goal_field)
        T = experience.step_type.shape[1]
        row = torch.arange(T, device=positions.device)
        is_relabeled = is_chosen.unsqueeze(1) & (row <= steps_to_end.unsqueeze(1))  # [B, T]
        is_relabeled, row = is_relabeled.to(goal.device), row.to(goal.device)
        mask = is_relabeled.view(is_relabeled.shape + (1,) * (goal.ndim - 2))
        goal = torch.where(mask, new_goal.to(goal.device).unsqueeze(1), goal)

        goal_rewards = self._reward_fn(achieved, goal)
        if goal_rewards.shape != is_relabeled.shape:
            raise ValueError(
                f"HindsightExperienceTransformer.reward_fn: expected rewards of shape {tuple(is_relabeled.shape)} for "
                f"goals of shape {tuple(goal.shape)}, got {tuple(goal_rewards.shape)}."
            )
        reward = relabeled_rewards(experience.reward, goal_rewards, is_relabeled & (row > 0))
        experience = nest.set_field(experience, self._desired_goal_field, goal)
        return experience.update_time_step_field("reward", reward)

    def _goal_positions(self, buffer, positions: Tensor, env_ids: Tensor, steps_to_end: Tensor) -> Tensor:
        """Return where the new goals are, int64 ``[B]``; where no step is left, the position itself."""
        if self._strategy == "future":
            first = positions + 1
        else:
            first = buffer.get_episode_begin_position(positions, env_ids)
        last = positions + steps_to_end
        # In float64 a product with a number below 1 stays below any count that fits into memory.
        fraction = torch.rand(positions.shape, dtype=torch.float64, device=positions.device)
        return torch.minimum(first + (fraction * (last - first + 1)).to(torch.int64), last)


def _goal_spec(name: str, field: str, observation_spec):
    """Return the spec of the tensor at the dotted path ``field`` of Experience."""
    is_inside = field == _OBSERVATION or field.startswith(_OBSERVATION + ".")
    if not is_inside:
        raise ValueError(
            f"HindsightExperienceTransformer.{name}: expected a path that begins with '{_OBSERVATION}', got {field!r}."
        )
    path = field[len(_OBSERVATION) + 1 :]
    return field_specs("HindsightExperienceTransformer", observation_spec, [path])[0][1]
