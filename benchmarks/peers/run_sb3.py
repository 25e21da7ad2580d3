"""Jobs for Stable-Baselines3 and, with ``--jax``, for sbx, which has the same interface. See _job.py."""

import sys

import _job

JOBS = ("sac_halfcheetah", "sac_pendulum", "dqn_cart_pole", "ppo_cart_pole", "ppo_halfcheetah", "ppo_pong")


def make_pong(seed: int):
    """Return 8 environments of Pong, preprocessed as DQN did, with four frames stacked; of ale-py, in one process.

    Args:
        seed: of the environments.
    """
    import ale_py
    import gymnasium
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack, VecTransposeImage
    gymnasium.register_envs(ale_py)
    return VecTransposeImage(VecFrameStack(make_atari_env("PongNoFrameskip-v4", n_envs=8, seed=seed), n_stack=4))


def make_model(job: str, seed: int, jax: bool):
    """Return the model of a job.

    Args:
        job: one of JOBS.
        seed: of model and environments.
        jax: sbx rather than Stable-Baselines3.
    """
    import gymnasium
    from stable_baselines3.common.env_util import make_vec_env
    if jax:
        from sbx import DQN, PPO, SAC
        common = {"seed": seed}
    else:
        from stable_baselines3 import DQN, PPO, SAC
        common = {"seed": seed, "device": "cpu"}
    if job == "sac_halfcheetah":
        return SAC("MlpPolicy", gymnasium.make("HalfCheetah-v5"), learning_rate=3e-4, batch_size=256,
                   learning_starts=100, policy_kwargs={"net_arch": [256, 256]}, **common)
    if job == "sac_pendulum":
        return SAC("MlpPolicy", gymnasium.make("Pendulum-v1"), learning_rate=1e-3, batch_size=256,
                   learning_starts=100, policy_kwargs={"net_arch": [256, 256]}, **common)
    if job == "dqn_cart_pole":
        return DQN("MlpPolicy", gymnasium.make("CartPole-v1"), learning_rate=2.3e-3, batch_size=64,
                   buffer_size=100_000, learning_starts=1000, gamma=0.99, target_update_interval=10, train_freq=256,
                   gradient_steps=128, exploration_fraction=0.16, exploration_final_eps=0.04,
                   policy_kwargs={"net_arch": [256, 256]}, **common)
    if job == "ppo_halfcheetah":
        from stable_baselines3.common.vec_env import VecNormalize
        return PPO("MlpPolicy", VecNormalize(make_vec_env("HalfCheetah-v5", n_envs=8, seed=seed)), n_steps=256,
                   batch_size=64, n_epochs=10, **common)
    if job == "ppo_pong":
        return PPO("CnnPolicy", make_pong(seed), n_steps=128, batch_size=256, n_epochs=4, learning_rate=2.5e-4,
                   clip_range=0.1, ent_coef=0.01, policy_kwargs={"share_features_extractor": False}, **common)
    # sbx takes a number only for the range of clipping.
    clip_range = 0.2 if jax else lambda left: 0.2 * left
    return PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=seed), n_steps=32, batch_size=256, n_epochs=20,
               learning_rate=lambda left: 1e-3 * left, clip_range=clip_range, gamma=0.98, gae_lambda=0.8,
               ent_coef=0.0, **common)


def main() -> None:
    """Train and write the marks."""
    jax = "--jax" in sys.argv
    if jax:
        sys.argv.remove("--jax")
    arguments = _job.parse_arguments(JOBS)
    if not jax:
        import torch
        torch.set_num_threads(arguments.threads)
    from stable_baselines3.common.callbacks import BaseCallback
    marks = _job.Marks(arguments)

    class Marking(BaseCallback):
        """Marks each step; training ends when the run is over."""

        def _on_step(self) -> bool:
            if arguments.threshold is not None:
                for info in self.locals["infos"]:
                    if "episode" in info:
                        marks.episode(info["episode"]["r"])
            # PPO counts its epochs.
            each = self.model.n_steps * self.model.n_envs // self.model.batch_size if "ppo" in arguments.job else 1
            return not marks.step(self.num_timesteps, self.model._n_updates * each)

    # The length that schedules of DQN and PPO refer to in RL Zoo.
    total = {"dqn_cart_pole": 50_000, "ppo_cart_pole": 100_000}.get(arguments.job, 1_000_000)
    make_model(arguments.job, arguments.seed, jax).learn(total, callback=Marking())
    marks.write()


if __name__ == "__main__":
    main()
