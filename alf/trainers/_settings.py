"""What a run was made of, as texts in TensorBoard."""

import os
from typing import Any, Dict, List, Tuple

from alf import config_util, summary
from alf.algorithms.algorithm import Algorithm
from alf.algorithms.config import TrainerConfig
from alf.trainers import _run_directory
from alf.utils import git_utils


def read_code_snapshots(config: TrainerConfig) -> Dict[str, str]:
    """Return the texts of ``TrainerConfig.code_snapshots``, by path as it is given.

    Args:
        config: the settings of the run.
    Raises:
        ValueError: if there is no such file, or it is not a text.
    """
    package = os.path.dirname(os.path.abspath(config_util.__file__))
    folders = [package, os.path.dirname(os.path.abspath(config.conf_file)), os.getcwd()]
    texts = {}
    for path in config.code_snapshots or ():
        found = [file for file in (os.path.join(folder, path) for folder in folders) if os.path.isfile(file)]
        if not found:
            raise ValueError(f"TrainerConfig.code_snapshots: expected files, got {path!r}, which is in none of "
                             f"{', '.join(dict.fromkeys(folders))}. Correct the path, or leave it out.")
        try:
            with open(found[0], encoding="utf-8") as file:
                texts[path] = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"TrainerConfig.code_snapshots: {found[0]} cannot be read as a text: {error}. Leave it "
                             "out.") from error
    return texts


def summarize_settings(config: TrainerConfig, algorithm: Algorithm, code_snapshots: Dict[str, str]) -> None:
    """Write configs, command line, seed, optimizers with their parameters, revision and difference of the code.

    Args:
        config: the settings of the run.
        algorithm: the root algorithm, once it has trained: only then is everything built that the configs build.
        code_snapshots: what :func:`read_code_snapshots` returned.
    """
    with summary.record_if(lambda: True):
        summary.text("config/operative_config", _as_table(config_util.get_operative_configs()))
        summary.text("config/inoperative_config", _as_table(config_util.get_inoperative_configs()))
        summary.text("commandline", _as_code(_run_directory.command_line()))
        summary.text("seed", str(config.random_seed))
        summary.text("optimizers", _as_code("\n\n".join(
            f"{info['optimizer']}\n  " + "\n  ".join(info["parameters"]) for info in algorithm.get_optimizer_info())))
        summary.text("unoptimized_parameters",
                     _as_code("\n".join(algorithm.get_unoptimized_parameter_info()) or "none"))
        for name, code in _run_directory.repositories().items():
            summary.text(f"{name}/revision", git_utils.get_revision(code) or "not a git checkout")
            summary.text(f"{name}/diff", _as_code(git_utils.get_diff(code)))
        for path, text in code_snapshots.items():
            summary.text(f"code/{path}", _as_code(text))


def _as_code(text: str) -> str:
    return "    " + text.replace("\n", "\n    ")


def _as_table(configs: List[Tuple[str, Any]]) -> str:
    """Return configs as a Markdown table, as TensorBoard shows it."""
    rows = [f"| `{name}` | `{_told_value(value)}` |" for name, value in configs]
    return "\n".join(["| config | value |", "| --- | --- |", *rows]) if rows else "none"


def _told_value(value: Any) -> str:
    return repr(value).replace("|", "\\|").replace("\n", " ").replace("`", "'")
