"""Checks an environment, or a conf with its environment, before a long run.

``python -m alf.bin.check --env CartPole-v1`` or ``python -m alf.bin.check --conf my_conf.py``. Exit code 0: nothing is
wrong; 1: there are errors.
"""

import functools
import sys

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS


def _define_flags() -> None:
    flags.DEFINE_string("env", None, "Name of the environment to check.")
    flags.DEFINE_string("env_load_fn", "alf.environments.suite_gym.load",
                        "With --env: the function that makes it, as 'module.function'.")
    flags.DEFINE_string("conf", None, "Conf file, or the name of an example: its environment is checked, its algorithm "
                        "is made, and a small part of a training is done.")
    flags.DEFINE_multi_string("conf_param", None, "A value that wins over the conf: 'name=expression'.")
    flags.DEFINE_integer("num_steps", 300, "Random steps to play.", lower_bound=1)
    flags.DEFINE_integer("random_seed", 0, "Seed of environment and actions.")
    flags.register_multi_flags_validator(
        ["env", "conf"], lambda values: (values["env"] is None) != (values["conf"] is None),
        "expected either --env NAME or --conf FILE")


def main(_) -> None:
    """Read the flags, check, and end with 1 if there are errors."""
    import torch
    torch.set_num_threads(1)
    with _command.preparing():
        if FLAGS.conf is None:
            _check_env(_load_fn(FLAGS.env_load_fn), FLAGS.env)
        else:
            _check_conf(_command.conf_file())
    print("nothing is wrong")


def _load_fn(path: str):
    """Return the function at a dotted path.

    Raises:
        ValueError: if there is none.
    """
    import importlib
    module, _, name = path.rpartition(".")
    sys.path.insert(0, "")
    found = getattr(importlib.import_module(module), name, None) if module else None
    if not callable(found):
        raise ValueError(f"--env_load_fn: expected 'module.function', got {path!r}, where there is no such function.")
    return found


def _check_env(load_fn, name) -> None:
    """Check an environment that ``load_fn`` makes and tell how it resumes; leave with 1 if there are errors."""
    from alf.environments.env_checker import check_environment

    marked = load_fn
    while isinstance(marked, functools.partial) and not hasattr(marked, "batched"):
        marked = marked.func

    def load():
        return load_fn(name, batch_size=2) if getattr(marked, "batched", False) else load_fn(name, env_id=0)

    findings = check_environment(load, FLAGS.num_steps, FLAGS.random_seed)
    for finding in findings:
        print(finding)
    num_errors = sum(finding.severity == "error" for finding in findings)
    print(f"environment {name}: {num_errors} errors, {len(findings) - num_errors} warnings in {FLAGS.num_steps} "
          "random steps")
    if num_errors:
        sys.exit(1)
    env = load()
    env.reset()
    resumes = "goes on from exactly where it was" if env.get_state() is not None else (
        "begins new episodes, for the environment does not give its state")
    env.close()
    print(f"a run that resumes {resumes}")


def _check_conf(conf: str) -> None:
    """Check the environment of a conf; then make its algorithm and train a little, in a temporary directory."""
    import tempfile

    from alf.bin._dry_run import told_specs
    from alf.config_helpers import close_env, environment_made_by, get_env, parse_config, use_random_seed
    from alf.config_util import get_config_value
    from alf.environments.utils import create_environment

    def make_env():
        names = get_config_value("create_environment.env_name")
        for name in names if isinstance(names, (list, tuple)) else [names]:
            _check_env(get_config_value("create_environment.env_load_fn"), name)
        return create_environment(nonparallel=True, seed=FLAGS.random_seed)

    use_random_seed(FLAGS.random_seed)
    try:
        with environment_made_by(make_env), tempfile.TemporaryDirectory() as root_dir:
            parse_config(conf, FLAGS.conf_param)
            print(told_specs(get_env()))
            _train_a_little(root_dir, conf)
    finally:
        close_env()


def _train_a_little(root_dir: str, conf: str) -> None:
    """Make the algorithm as the trainer does, in one environment, and go on until the first update."""
    from alf.algorithms.config import TrainerConfig
    from alf.bin._dry_run import told_optimizers, told_replay
    from alf.config_util import get_config_value
    from alf.trainers.policy_trainer import RLTrainer

    config = TrainerConfig(root_dir=root_dir, conf_file=conf)
    # One environment gives few steps; what is asked for is one unroll and one update, in this process.
    config.initial_collect_steps, config.num_updates_per_train_iter, config.replay_ratio = 0, 1, None
    if config.async_unroll:
        config.async_unroll, config.unroll_length = False, config.unroll_length or config.sampled_length
    algorithm = RLTrainer(config).algorithm
    print("\n".join(told_optimizers(algorithm)))
    num_learned = num_iterations = 0
    while not num_learned and num_iterations < 2 + config.sampled_length:
        num_learned = algorithm.train_iter()
        num_iterations += 1
    if not num_learned:
        raise RuntimeError(f"{algorithm.name}: nothing was learned in {num_iterations} iterations of one environment, "
                           f"with unroll_length={config.unroll_length} and mini_batch_length={config.sampled_length}.")
    print(f"update: learned {num_learned} steps in iteration {num_iterations}")
    num_environments = get_config_value("create_environment.num_parallel_environments")
    print(told_replay(config, algorithm, num_environments))


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
