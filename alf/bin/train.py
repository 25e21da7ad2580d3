"""Trains as a conf says: ``python -m alf.bin.train --conf my_conf.py --root_dir out``. The same command again resumes."""

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS


def _define_flags() -> None:
    _command.define_run_flags("Conf file, or the name of an example. May be left out to resume a run.")
    flags.DEFINE_bool("force_torch_deterministic", True, "Use deterministic algorithms of PyTorch where there are any.")
    flags.DEFINE_integer("num_threads", None, "Threads of PyTorch; by default one, which is quickest for small networks.")


def train(root_dir: str, conf: str, conf_params: list) -> None:
    """Train a run.

    Args:
        root_dir: its directory.
        conf: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
    """
    from alf.algorithms.config import TrainerConfig
    from alf.config_helpers import close_env, parse_config
    from alf.trainers import _run_directory
    from alf.trainers.policy_trainer import RLTrainer

    _run_directory.check_belongs_to(root_dir, conf)
    try:
        parse_config(conf, conf_params)
        RLTrainer(TrainerConfig(root_dir=root_dir, conf_file=conf)).train()
    finally:
        close_env()


def main(_) -> None:
    """Read the flags and train."""
    import torch

    from alf.trainers import _run_directory
    from alf.utils import common

    root_dir = common.abs_path(FLAGS.root_dir)
    conf = _command.resolve_conf(FLAGS.conf) if FLAGS.conf else _run_directory.conf_of_run(root_dir)
    torch.set_num_threads(FLAGS.num_threads or 1)
    if FLAGS.force_torch_deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    train(root_dir, conf, FLAGS.conf_param)


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
