"""Trains as a conf says: ``python -m alf.bin.train --conf my_conf.py --root_dir out``. The same again resumes."""

from typing import List, Optional

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS


def _define_flags() -> None:
    _command.define_run_flags("Conf file, or the name of an example. May be left out to resume a run.")
    flags.adopt_module_key_flags(_command)
    flags.DEFINE_bool("force_torch_deterministic", True, "Use deterministic algorithms of PyTorch where there are any.")
    flags.DEFINE_integer("num_threads", 1, "Threads of PyTorch; one is quickest for small networks.", lower_bound=1)


def train(root_dir: str, conf: str, conf_params: Optional[List[str]]) -> None:
    """Train a run, or go on with it.

    Args:
        root_dir: its directory.
        conf: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
    """
    from alf.algorithms.config import TrainerConfig
    from alf.config_helpers import close_env, parse_config, use_random_seed
    from alf.trainers import _run_directory
    from alf.trainers.policy_trainer import RLTrainer

    try:
        with _command.preparing():
            _run_directory.check_belongs_to(root_dir, conf)
            earlier = _run_directory.read_run(root_dir)
            if earlier is not None:
                use_random_seed(earlier["seed"])
            parse_config(conf, conf_params)
            trainer = RLTrainer(TrainerConfig(root_dir=root_dir, conf_file=conf))
        trainer.train()
    finally:
        close_env()


def main(_) -> None:
    """Read the flags and train."""
    import torch

    from alf.utils.common import keep_freed_memory

    torch.set_num_threads(FLAGS.num_threads)
    keep_freed_memory()
    if FLAGS.force_torch_deterministic:
        # The same as use_deterministic_algorithms(True, warn_only=True), which takes a second to import the compiler.
        torch.set_deterministic_debug_mode("warn")
        torch.backends.cudnn.benchmark = False
    train(_command.root_dir(), _command.conf_file(), FLAGS.conf_param)


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
