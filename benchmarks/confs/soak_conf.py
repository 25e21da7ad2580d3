"""PPO on CartPole-v1 with everything on that writes or runs beside: evaluation, many summaries, videos, checkpoints."""

import numpy as np

import alf
from alf.algorithms.agent import Agent
from alf.examples import ppo_conf  # noqa: F401


class FilmedAgent(Agent):
    """An agent that writes a video whenever a summary is written."""

    def summarize_rollout(self, experience):
        """Write the summaries of an agent, and 16 frames of noise: noise is what compresses least.

        Args:
            experience: of the unroll.
        """
        super().summarize_rollout(experience)
        if alf.summary.should_record_summaries():
            alf.summary.video("film", np.random.default_rng(1).integers(0, 256, (1, 16, 3, 48, 64), dtype=np.uint8))


alf.config("create_environment", env_name="CartPole-v1", num_parallel_environments=8, num_workers=2)
alf.config("ActorDistributionNetwork", fc_layer_params=(32, ))
alf.config("ValueNetwork", fc_layer_params=(32, ))
alf.config("Agent", optimizer=alf.optimizers.Adam(lr=1e-3))
alf.config(
    "TrainerConfig",
    algorithm_ctor=FilmedAgent,
    unroll_length=32,
    mini_batch_size=64,
    num_iterations=10**9,
    num_checkpoints=10**7,  # every 100 iterations
    num_checkpoints_to_keep=5,
    summary_interval=20,
    summarize_first_interval=False,
    summarize_grads_and_vars=True,
    summarize_action_distributions=True,
    debug_summaries=True,
    evaluate=True,
    eval_interval=100,
    num_eval_episodes=5)
