"""What confs of Fetch tasks with hindsight experience replay have in common; imported by confs that name a task.

Rewards are -1 until the goal is reached and 0 while the hand or the object stays there. ``Metrics/is_success`` is the
rate of episodes that end at the goal.
"""

from functools import partial

import alf
from alf.algorithms.data_transformer import HindsightExperienceTransformer, ObservationNormalizer
from alf.environments import suite_robotics
from alf.nest.utils import NestConcat

alf.config('create_environment', env_load_fn=suite_robotics.load, num_parallel_environments=4)
alf.config('suite_robotics.load', concat_desired_goal=False)

# New goals are stored positions, so they come before all are normalized.
alf.config(
    'TrainerConfig',
    data_transformer_ctor=[
        partial(HindsightExperienceTransformer, her_proportion=0.8),
        partial(ObservationNormalizer, clipping=5.0)
    ])

# Positions and goal side by side in one vector.
alf.config('CriticNetwork', observation_preprocessing_combiner=NestConcat())

alf.config('OneStepTDLoss', gamma=0.98)
