"""Jobs for CleanRL, whose scripts are run as they are, from a checkout. See _job.py.

Settings that scripts have no option for stay theirs: networks of 120 and 84 and a squared error in DQN, which updates
after each second step rather than 128 times after each 256; 0.2 for the clipping range of PPO all the time. The
scripts are of Gymnasium before 1.0, so their vector environment is given what it had then.
"""

import os
import runpy
import sys

import _job

#: Name of the script and its options, by job. Schedules refer to the lengths of RL Zoo.
JOBS = {
    "sac_halfcheetah": ("sac_continuous_action", {
        "env-id": "HalfCheetah-v5", "total-timesteps": 1_000_000, "learning-starts": 100, "batch-size": 256,
        "buffer-size": 1_000_000, "policy-lr": 3e-4, "q-lr": 3e-4, "policy-frequency": 1}),
    "dqn_cart_pole": ("dqn", {
        "env-id": "CartPole-v1", "total-timesteps": 50_000, "learning-starts": 1000, "batch-size": 64,
        "buffer-size": 100_000, "learning-rate": 2.3e-3, "gamma": 0.99, "train-frequency": 2,
        "target-network-frequency": 256, "exploration-fraction": 0.16, "end-e": 0.04}),
    "ppo_cart_pole": ("ppo", {
        "env-id": "CartPole-v1", "total-timesteps": 100_000, "num-envs": 8, "num-steps": 32, "num-minibatches": 1,
        "update-epochs": 20, "learning-rate": 1e-3, "gamma": 0.98, "gae-lambda": 0.8, "ent-coef": 0.0,
        "no-clip-vloss": None}),
}


def command_line(job: str, seed: int) -> list:
    """Return name and options of the script that does a job, as words.

    Args:
        job: one of JOBS.
        seed: of the run.
    """
    script, options = JOBS[job]
    words = [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    return [script, f"--seed={seed}", "--no-cuda", *words]


def watch_environments(watch) -> None:
    """Let the vector environments that are made from now on be counted, and reset as they did before Gymnasium 1.0.

    Args:
        watch: counts.
    """
    import gymnasium
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    class Watched(SyncVectorEnv):
        """Resets in the step that ends an episode, and tells the last observation by its former name."""

        def __init__(self, env_fns):
            super().__init__(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)

        def step(self, actions):
            made = super().step(actions)
            infos = made[-1]
            if "final_obs" in infos:
                infos["final_observation"] = infos.pop("final_obs")
                del infos["final_info"]  # another layout; it was for logs
            watch.count_steps(self.num_envs)
            return made

    gymnasium.vector.SyncVectorEnv = Watched


def main() -> None:
    """Run the script and write the marks."""
    arguments = _job.parse_arguments(JOBS, "checkout")
    script, *options = command_line(arguments.job, arguments.seed)
    path = os.path.join(arguments.checkout, "cleanrl", f"{script}.py")
    import _watch
    import torch

    torch.set_num_threads(arguments.threads)
    marks = _job.Marks(arguments)
    watch_environments(_watch.Watch(marks))
    sys.path.insert(0, arguments.checkout)
    sys.argv = [path, *options]
    try:
        runpy.run_path(path, run_name="__main__")
    except _watch.Over:
        marks.write()


if __name__ == "__main__":
    main()
