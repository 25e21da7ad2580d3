"""Trains as a conf says: ``python -m alf.bin.train --conf my_conf.py --root_dir out``. The same again resumes."""

import gc
import sys
from typing import List, Optional

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS

_UNUSED_VALUES = 3  # exit code


def define_flags() -> None:
    """Define the flags of this command, which others that train take over."""
    _command.define_run_flags("Conf file, or the name of an example. May be left out to resume a run.",
                              needs_root_dir=False)
    _command.define_deterministic_flag()
    _command.define_not_offered("store_snapshot", "no copy of the code is kept; its revision and what differs from it "
                                "are in the summaries, alf/revision and alf/diff")
    flags.DEFINE_integer("num_threads", 1, "Threads of PyTorch; one is quickest for small networks.", lower_bound=1)
    _command.define_optional_count("profile", "Tell where the time goes, and write it to <root_dir>/profile: of N "
                                   "iterations after a warm-up, or of about ten seconds. Training goes on.")
    flags.adopt_module_key_flags(_command)
    flags.DEFINE_bool("dry_run", False, "Make everything and train a little in a temporary directory; tell specs, "
                      "parameters, memory, disk, speed and duration of the run.")
    flags.DEFINE_enum("distributed", "none", ["none", "multi-gpu", "multi-cpu", "ray"], "Train in several processes, "
                      "each with its share of environments and mini batches: one for each GPU of this machine, "
                      "--num_processes on its CPUs, or where a Ray cluster has room for them.")
    flags.DEFINE_integer("num_processes", None, "Processes that train together, with --distributed; by default as "
                         "many as there are GPUs or, with Ray, places.", lower_bound=1)
    flags.DEFINE_integer("max_restarts", None, "With --distributed: how often all processes start again from the last "
                         "checkpoint when one was killed or its machine is lost; by default 0, with Ray 3.",
                         lower_bound=0)
    flags.DEFINE_string("ray_address", None, "Address of the Ray cluster, 'auto' on one of its machines; by default "
                        "one of this machine alone, for this training.")
    flags.DEFINE_float("distributed_timeout_seconds", 1800.0, "End the training if one of its processes lets the "
                       "others wait so long, longer than an evaluation or a checkpoint takes.", lower_bound=1.0)
    flags.DEFINE_bool("strict", False, f"End with exit code {_UNUSED_VALUES} if values of the conf were not used.")
    flags.register_multi_flags_validator(
        ["root_dir", "conf", "dry_run"], lambda values: values["root_dir"] or (values["dry_run"] and values["conf"]),
        "train needs --root_dir DIR (not needed with --dry_run --conf CONF)")
    for name in ("num_processes", "max_restarts"):
        flags.register_multi_flags_validator(
            ["distributed", name], lambda values, name=name: values["distributed"] != "none" or values[name] is None,
            f"--{name} is for several processes: expected --distributed with it")
    flags.register_multi_flags_validator(
        ["distributed", "ray_address"],
        lambda values: values["distributed"] == "ray" or values["ray_address"] is None,
        "--ray_address expects --distributed=ray")
    flags.register_multi_flags_validator(
        ["distributed", "dry_run"], lambda values: values["distributed"] == "none" or not values["dry_run"],
        "--dry_run makes a run in one process: expected no --distributed with it")


def train(root_dir: str, conf: str, conf_params: Optional[List[str]], profile: Optional[int] = None) -> None:
    """Train a run, or go on with it.

    Args:
        root_dir: its directory.
        conf: path of the conf.
        conf_params: ``name=expression`` strings that win over the conf.
        profile: iterations to profile; 0: those of about ten seconds; None: no profile.
    """
    from alf.algorithms.config import TrainerConfig
    from alf.config_helpers import close_env, parse_config, use_random_seed
    from alf.trainers import _run_directory
    from alf.trainers.policy_trainer import RLTrainer
    from alf.utils.per_process_context import PerProcessContext

    _collect_garbage_from_now()
    rank = PerProcessContext().ddp_rank
    try:
        with _command.preparing():
            if rank <= 0:
                _run_directory.check_belongs_to(root_dir, conf)
            earlier = _run_directory.read_run(root_dir)
            if earlier is not None:
                use_random_seed(earlier["seed"])
            elif rank >= 0:
                use_random_seed(_seed_of_all(rank))
            parse_config(conf, conf_params)
            trainer = RLTrainer(TrainerConfig(root_dir=root_dir, conf_file=conf), rank)
        if profile is not None and rank <= 0:
            trainer.profile(profile or None)
        trainer.train()
    finally:
        close_env()


def _join_others() -> None:
    """Become one of the processes that train together or, if there are none, start them and end as they do."""
    with _command.preparing():
        from alf.scale_out import processes

        if processes.is_member():
            processes.join(FLAGS.distributed, FLAGS.distributed_timeout_seconds)
        else:
            sys.exit(processes.run_together(FLAGS.distributed, FLAGS.num_processes, _command.root_dir(),
                                            FLAGS.max_restarts, FLAGS.ray_address))


def _seed_of_all(rank: int) -> int:
    """Return the seed from which each process makes its own, if the conf sets none."""
    from alf.config_helpers import drawn_seed
    from alf.utils import distributed

    return int(distributed.total([drawn_seed() if rank == 0 else 0])[0])


def _collect_garbage_from_now() -> None:
    """Begin to collect garbage, and leave what was imported out of it: it stays.

    This must be before anything is made: processes that are forked collect garbage or not as this one does.
    """
    gc.freeze()
    gc.enable()


def _tell_unused() -> None:
    """Leave with an exit code of its own if values of the conf were not used; of several processes the first tells."""
    from alf.config_util import get_inoperative_configs
    from alf.utils.per_process_context import PerProcessContext

    if PerProcessContext().ddp_rank > 0:
        return
    unused = get_inoperative_configs(places=True)
    if unused:
        print("\n".join(["error: --strict: the conf sets values that nothing has used:",
                         *(f"  {name} = {value!r}  ({place})" for name, value, place in unused),
                         "Remove them, or see why what they are for was not made."]), file=sys.stderr, flush=True)
        sys.exit(_UNUSED_VALUES)


def main(_) -> None:
    """Read the flags and train."""
    from alf.trainers._signals import heed_while_starting

    heed_while_starting()
    if FLAGS.distributed != "none":
        _join_others()
    gc.disable()  # a hundred thousand objects are imported, none of them garbage, and looked through again and again
    import torch

    from alf.utils.common import keep_freed_memory

    torch.set_num_threads(FLAGS.num_threads)
    keep_freed_memory()
    _command.heed_deterministic_flag()
    if FLAGS.dry_run:
        from alf.bin._dry_run import dry_run

        _collect_garbage_from_now()
        dry_run(_command.conf_file(), FLAGS.conf_param)
    else:
        train(_command.root_dir(), _command.conf_file(), FLAGS.conf_param, FLAGS.profile)
    if FLAGS.strict:
        _tell_unused()


if __name__ == "__main__":
    define_flags()
    _command.run(main)
