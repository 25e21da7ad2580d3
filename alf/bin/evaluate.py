"""Measures a trained policy: ``python -m alf.bin.evaluate --root_dir out --num_episodes 100``.

Prints mean and standard deviation, and writes every episode to a JSON file.
"""

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS


def _define_flags() -> None:
    _command.define_run_flags("Conf file; by default that of the run.")
    flags.adopt_module_key_flags(_command)
    _command.define_checkpoint_flag()
    flags.DEFINE_integer("random_seed", 0, "Seed of policy and environments.")
    flags.DEFINE_integer("num_episodes", 100, "Episodes to play.", lower_bound=1)
    flags.DEFINE_integer("num_environments", 10, "Environments to play them in, side by side.", lower_bound=1)
    flags.DEFINE_string("output_file", None, "JSON file; by default <root_dir>/evaluation-<checkpoint>.json.")


def main(_) -> None:
    """Read the flags and evaluate."""
    import json
    import os

    from alf.trainers._acting import acting
    from alf.trainers.policy_trainer import play

    root_dir = _command.root_dir()
    num_environments = min(FLAGS.num_environments, FLAGS.num_episodes)
    with _command.preparing(), acting(root_dir, _command.conf_file(), FLAGS.conf_param, num_environments,
                                      FLAGS.random_seed) as made:
        result = play(
            root_dir,
            made.env,
            made.algorithm,
            checkpoint_step=_command.checkpoint_step(),
            num_episodes=FLAGS.num_episodes,
            render=False)
    returns = result.returns()
    lengths = [episode.length for episode in result.episodes]
    report = {
        "root_dir": root_dir,
        "checkpoint_step": result.checkpoint_step,
        "random_seed": FLAGS.random_seed,
        "num_episodes": len(returns),
        "mean_return": returns.mean(0).tolist(),
        "std_return": returns.std(0).tolist(),
        "mean_length": sum(lengths) / len(lengths),
        "episodes": [{"environment": episode.env_id, "return": episode.episode_return, "length": episode.length}
                     for episode in result.episodes],
    }
    path = FLAGS.output_file or os.path.join(root_dir, f"evaluation-{result.checkpoint_step}.json")
    print(f"checkpoint {result.checkpoint_step}: mean return {report['mean_return']}, standard deviation "
          f"{report['std_return']}, mean length {report['mean_length']:.1f}, {len(returns)} episodes")
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    except OSError as error:
        _command.fail(f"{path}: cannot be written: {error}. Pass another --output_file.", 1)
    print(f"episodes: {path}")


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
