"""Trains a conf with every combination of some values: ``python -m alf.bin.grid_search --search_config search.json``.

``--conf`` and ``--root_dir`` are those of the train command, whose other flags go on to each training. The same command
again runs what has not finished. Exit code 0: all have; 1: some have not; 2: a mistake.
"""

import sys
from typing import List

from absl import flags

from alf.bin import _command, train

FLAGS = flags.FLAGS

_OF_ONE_TRAINING = ("dry_run", "profile")


def _define_flags() -> None:
    train.define_flags()
    flags.adopt_module_key_flags(_command)
    flags.adopt_module_key_flags(train)
    flags.DEFINE_string("search_config", None, "JSON file that names the values to combine; see docs/sweeps.md.")
    flags.DEFINE_float("stall_seconds", 600.0, "End a training none of whose processes has used the processor for that "
                       "long; 0: never.", lower_bound=0)
    flags.DEFINE_float("trial_timeout_seconds", 0.0, "End a training that takes longer than that; 0: never.",
                       lower_bound=0)
    flags.register_validator("search_config", bool, "expected the JSON file of the values to combine")
    flags.register_validator("conf", bool, "expected the conf to train with each combination")
    for name in _OF_ONE_TRAINING:
        flags.register_validator(name, lambda value: value is None or value is False,
                                 "expected nothing: it is for a training by itself, with the train command")


def _passed_on() -> List[str]:
    """Return the flags of the train command that were given, but for those that are not the same for all trials."""
    return [FLAGS[flag.name].serialize() for flag in FLAGS.get_flags_for_module(train.__name__)
            if FLAGS[flag.name].present and flag.name not in _OF_ONE_TRAINING]


def main(_) -> None:
    """Read the flags, run the trials, and end with the exit code."""
    from alf.scale_out import _trial_records, search_space, trials
    from alf.scale_out._bound_process import bound_command
    from alf.trainers import _run_directory

    root_dir, conf_params = _command.root_dir(), FLAGS.conf_param or []
    with _command.preparing():
        conf = _command.conf_file()
        space = search_space.read_search(FLAGS.search_config)
        search_space.check_conf_params(space, conf_params)
        slots = trials.find_slots(space)
    all_trials = [search_space.seeded(trial, conf_params) for trial in space.trials()]

    def command(trial, folder):
        settings = [*conf_params, *search_space.settings(trial)]
        return bound_command("alf.bin.train", "--root_dir", folder, "--conf", conf, *_passed_on(),
                             *(f"--conf_param={setting}" for setting in settings))

    with _run_directory.locked(root_dir):
        _trial_records.begin_sweep(root_dir, space, conf, conf_params)
        limits = trials.Limits(FLAGS.stall_seconds, FLAGS.trial_timeout_seconds)
        sys.exit(trials.run_sweep(root_dir, space, all_trials, command, slots, limits))


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
