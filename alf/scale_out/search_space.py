"""The combinations of a sweep: reads its JSON file, checks it, and names the trials.

A value of a parameter is text that means what it means to ``--conf_param``: a Python expression.
"""

import ast
import dataclasses
import difflib
import itertools
import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

_MAX_NAME_LENGTH = 50
_MODULE_PATH = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
_SEED = "TrainerConfig.random_seed"


class Trial(NamedTuple):
    """One training of a sweep."""
    name: str  # of its directory: 0003r1+lr=0.01
    index: int  # of the combination
    repeat: int
    parameters: Dict[str, str]  # config name -> expression
    seed: Optional[int]  # its random seed; None: as the parameters, the command line or the conf say


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """What the JSON file of a sweep says, checked."""

    parameters: Dict[str, List[str]]  # config name -> expressions of its values
    repeats: int = 1  # trainings of each combination
    max_worker_num: Optional[int] = None  # trainings at the same time; None: one for each GPU, or one
    use_gpu: bool = False  # each training has a GPU for itself
    gpus: Optional[List[int]] = None  # those to use; None: all
    desc: str = ""
    comment: str = ""

    @property
    def varying(self) -> Dict[str, str]:
        """Config names with more than one value, each with the shortest end of it that no other name has."""
        names = [name for name, values in self.parameters.items() if len(values) > 1]
        return {name: _shortest_end(name, names) for name in names}

    def trials(self) -> List[Trial]:
        """Return all trials, in the order to run them: every combination once before any is repeated.

        The last parameter of the file varies quickest. Each repeat has its number as its random seed, the same for all
        combinations, which makes their comparison a paired one.
        """
        abbreviations = _abbreviations(self.varying)
        combinations = list(itertools.product(*self.parameters.values()))
        own_seed = any(_is_seed(name) for name in self.parameters)
        found = []
        for repeat in range(self.repeats):
            for index, values in enumerate(combinations):
                parameters = dict(zip(self.parameters, values, strict=True))
                told = {short: parameters[name] for name, short in abbreviations.items()}
                found.append(Trial(_trial_name(index, repeat, told), index, repeat, parameters,
                                   None if own_seed else repeat))
        return found


def read_search(path: str) -> SearchSpace:
    """Return what the JSON file of a sweep says.

    Args:
        path: of the file.
    Raises:
        FileNotFoundError: if there is none, naming the nearest.
        ValueError: if it does not say what a sweep needs; the text names the place, what is expected and what is there.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"--search_config {path}: no such file.{_nearest_files(path)}")
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"--search_config {path}: cannot be read: {error}.") from None
    try:
        return _checked(said)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error.__cause__


def check_conf_params(space: SearchSpace, conf_params: List[str]) -> None:
    """Refuse values of the command line that contradict a sweep, or that are none.

    Args:
        space: of the sweep.
        conf_params: ``name=expression`` strings, for all trials.
    Raises:
        ValueError: if there is such a value.
    """
    for conf_param in conf_params:
        name, equals, expression = (part.strip() for part in conf_param.partition("="))
        if not equals or not name:
            raise ValueError(f"--conf_param: expected 'name=value', got {conf_param!r}.")
        _evaluated(f"--conf_param {name}", expression)
        if name in space.parameters:
            raise ValueError(f"--conf_param {name}: the search has values for it; leave out one of both.")
        if _is_seed(name) and space.repeats > 1:
            raise ValueError(f"--conf_param {name}: each repeat has a seed of its own, and there are {space.repeats} "
                             "repeats. Leave it out, or set \"repeats\" to 1.")


def seeded(trial: Trial, conf_params: List[str]) -> Trial:
    """Return the trial without a seed of its own if the command line, ``name=expression`` strings, sets one."""
    given = any(_is_seed(conf_param.partition("=")[0].strip()) for conf_param in conf_params)
    return trial._replace(seed=None) if given else trial


def settings(trial: Trial) -> List[str]:
    """Return what makes the trial what it is, as ``name=expression`` strings for ``--conf_param``."""
    seed = {} if trial.seed is None else {_SEED: trial.seed}
    return [f"{name}={expression}" for name, expression in {**seed, **trial.parameters}.items()]


def _without_duplicates(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{', '.join(map(repr, sorted(twice)))} is there twice")
    return dict(pairs)


def _nearest_files(path: str) -> str:
    folder = os.path.dirname(path) or "."
    known = [name for name in os.listdir(folder) if name.endswith(".json")] if os.path.isdir(folder) else []
    return _did_you_mean(os.path.basename(path), known)


def _did_you_mean(name: str, known: List[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f" Did you mean {' or '.join(nearest)}?" if nearest else ""


def _checked(said: Any) -> SearchSpace:
    """Return the search space, or raise ValueError with the place in the file, what is expected and what is there."""
    if not isinstance(said, dict):
        raise ValueError(f"expected an object, {{...}}, got {_told(said)}.")
    known = [field.name for field in dataclasses.fields(SearchSpace)]
    for name in said:
        if name not in known:
            raise ValueError(f"unknown key {name!r}.{_did_you_mean(name, known)} Known are {', '.join(known)}.")
    for name in ("desc", "comment"):
        _expect(isinstance(said.get(name, ""), str), name, "text", said.get(name))
    _expect(isinstance(said.get("use_gpu", False), bool), "use_gpu", "true or false", said.get("use_gpu"))
    for name in ("repeats", "max_worker_num"):
        _expect(_is_whole(said.get(name, 1), 1), name, "a whole number of at least 1", said.get(name))
    _check_gpus(said.get("gpus", [0]))
    parameters = said.get("parameters", {})
    _expect(isinstance(parameters, dict) and bool(parameters), "parameters",
            'an object with at least one name and its values, like {"TrainerConfig.unroll_length": [8, 16]}',
            said.get("parameters"))
    space = SearchSpace(**{**said, "parameters": {name: _expressions(name, v) for name, v in parameters.items()}})
    _check_seeds(space)
    return space


def _expect(holds: bool, where: str, expected: str, got: Any) -> None:
    if not holds:
        raise ValueError(f"{where}: expected {expected}, got {_told(got)}.")


def _told(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value)


def _is_whole(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def _check_gpus(gpus: Any) -> None:
    numbers = isinstance(gpus, list) and bool(gpus) and all(_is_whole(gpu, 0) for gpu in gpus)
    _expect(numbers and len(set(gpus)) == len(gpus), "gpus", "a list of numbers of GPUs, each once, like [0, 1]", gpus)


def _check_seeds(space: SearchSpace) -> None:
    seeds = [name for name in space.parameters if _is_seed(name)]
    if seeds and space.repeats > 1:
        raise ValueError(f"parameters.{seeds[0]}: each repeat has a seed of its own, and there are {space.repeats} "
                         "repeats. Leave it out, or set \"repeats\" to 1.")


def _is_seed(name: str) -> bool:
    return name == "random_seed" or f".{name}".endswith(f".{_SEED}")


def _expressions(name: str, values: Any) -> List[str]:
    """Return the values of a parameter as expressions; ``values`` is a list, or an expression that gives one."""
    where = f"parameters.{name}"
    _expect(bool(name) and "=" not in name, where, "the name of a config", name)
    if isinstance(values, str):
        text, values = values, _evaluated(where, values)
        if not isinstance(values, (list, tuple)):
            raise ValueError(f"{where}: expected a list of values, got {text!r}, which is of type "
                             f"{type(values).__name__}. Put it into brackets: [{text}].")
    _expect(isinstance(values, (list, tuple)) and len(values) > 0, where, "a list of at least one value", values)
    expressions = [value.strip() if isinstance(value, str) else repr(value) for value in values]
    meanings = [_meaning(where, expression) for expression in expressions]
    for i, meaning in enumerate(meanings):
        if meaning in meanings[:i]:
            raise ValueError(f"{where}: the value {expressions[i]} is there twice: {', '.join(expressions)}.")
    return expressions


def _meaning(where: str, expression: str) -> str:
    """Return the same text for expressions that are literals of the same value, like ``1e-3`` and ``0.001``."""
    value = _evaluated(where, expression)
    try:
        return repr(ast.literal_eval(repr(value)))
    except (ValueError, SyntaxError):  # an object
        return expression


def _evaluated(where: str, expression: str) -> Any:
    """Return what ``--conf_param`` makes of an expression; only one that is no literal needs what confs may use."""
    try:
        return ast.literal_eval(expression)
    except (ValueError, SyntaxError):
        pass
    from alf.config_helpers import parse_conf_param
    try:
        return parse_conf_param(f"x={expression}")[1]
    except ValueError as error:
        cause = error.__cause__
        raise ValueError(f"{where}: not a Python expression: {expression!r} ({type(cause).__name__}: {cause}). Strings "
                         f"need quotes of their own: \"'{expression}'\".") from None


def _shortest_end(name: str, names: List[str]) -> str:
    """Return the last parts of a dotted name, as few as no other of ``names`` has."""
    parts = name.split(".")
    for number in range(1, len(parts)):
        end = parts[-number:]
        if sum(other.split(".")[-number:] == end for other in names) == 1:
            return ".".join(end)
    return name


def _abbreviations(labels: Dict[str, str]) -> Dict[str, str]:
    """Return a short form of each label, no two the same: the first letters of its words, as few as it takes."""
    for letters in range(1, max(map(len, labels.values()), default=0) + 1):
        shortened = {name: _shortened(label, letters) for name, label in labels.items()}
        if len(set(shortened.values())) == len(labels):
            return shortened
    return labels


def _shortened(label: str, letters: int) -> str:
    def short(part: str) -> str:
        words = part.split("_")
        return part if len(part) <= 5 else "".join(word[:letters if len(words) > 1 else letters + 2] for word in words)

    return ".".join(map(short, label.split(".")))


def _trial_name(index: int, repeat: int, told: Dict[str, str]) -> str:
    """Return the name of a directory, of letters that every file system takes; what does not fit is left out.

    Of ``torch.tanh`` only ``tanh`` is told.
    """
    name = f"{index:04d}r{repeat}"
    for short, expression in told.items():
        value = re.sub(r"[^A-Za-z0-9.+-]+", "_", _MODULE_PATH.sub("", expression)).strip("_")
        part = f"+{re.sub(r'[^A-Za-z0-9._-]+', '_', short)}={value}"
        if len(name + part) <= _MAX_NAME_LENGTH:
            name += part
    return name
