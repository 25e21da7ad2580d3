"""Shows or records a trained policy: ``python -m alf.bin.play --root_dir out --record_file out.mp4``."""

from absl import flags

from alf.bin import _command

FLAGS = flags.FLAGS


def _define_flags() -> None:
    _command.define_run_flags("Conf file; by default that of the run.")
    _command.define_checkpoint_flag()
    _command.define_deterministic_flag()
    _command.define_not_offered("alg_render", "what algorithms draw is not shown; --render shows the environment")
    _command.define_not_offered("use_alf_snapshot", "runs keep no copy of the code; check out the revision that "
                                "<root_dir>/run.json names")
    flags.adopt_module_key_flags(_command)
    flags.DEFINE_integer("parallel_play", 1, "Environments to play in: one.")
    flags.register_validator("parallel_play", lambda number: number == 1,
                             "not offered: expected 1, for one environment is played; to measure in several, use "
                             "python -m alf.bin.evaluate --num_environments")
    flags.DEFINE_integer("random_seed", None, "Seed; by default a new one every time.")
    flags.DEFINE_integer("num_episodes", 10, "Episodes to play.", lower_bound=1)
    flags.DEFINE_float("sleep_time_per_step", 0.01, "Seconds to wait after each shown step.", lower_bound=0)
    flags.DEFINE_string("record_file", None, "Write an .mp4 instead of showing a window.")
    flags.DEFINE_integer("last_step_repeats", 0, "Show the last frame of an episode so many times more.", lower_bound=0)
    flags.DEFINE_integer("append_blank_frames", 0, "Black frames after each episode of a video.", lower_bound=0)
    flags.DEFINE_bool("render", True, "Show a window.")
    flags.DEFINE_bool("selective_mode", False, "Record only the worst and the best episode.")
    flags.DEFINE_string("ignored_parameter_prefixes", "", "Comma separated prefixes of parameters not to load.")


def _silence_sdl(shows_window: bool) -> None:
    """Keep SDL, with which many environments draw, from greeting, and from looking for a screen that is not needed."""
    import os
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if not shows_window:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def main(_) -> None:
    """Read the flags and play."""
    _silence_sdl(shows_window=FLAGS.render and not FLAGS.record_file)

    _command.heed_deterministic_flag()

    from alf.trainers._acting import acting
    from alf.trainers.policy_trainer import play

    root_dir = _command.root_dir()
    with _command.preparing(), acting(root_dir, _command.conf_file(), FLAGS.conf_param, 1, FLAGS.random_seed) as made:
        result = play(
            root_dir,
            made.env,
            made.algorithm,
            checkpoint_step=_command.checkpoint_step(),
            num_episodes=FLAGS.num_episodes,
            sleep_time_per_step=FLAGS.sleep_time_per_step,
            record_file=FLAGS.record_file,
            last_step_repeats=FLAGS.last_step_repeats,
            append_blank_frames=FLAGS.append_blank_frames,
            render=FLAGS.render,
            selective_mode=FLAGS.selective_mode,
            ignored_parameter_prefixes=[p for p in FLAGS.ignored_parameter_prefixes.split(",") if p])
    print(f"checkpoint {result.checkpoint_step}")
    for i, episode in enumerate(result.episodes):
        print(f"episode {i}: return {episode.episode_return}, length {episode.length}")
    returns = result.returns()
    print(f"mean return {returns.mean(0)}, standard deviation {returns.std(0)}, {len(returns)} episodes")
    if FLAGS.record_file:
        print(f"video: {FLAGS.record_file}")


if __name__ == "__main__":
    _define_flags()
    _command.run(main)
