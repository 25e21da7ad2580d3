"""The public names keep their arguments, order, defaults, methods and config addresses: confs and code rely on them.

`contract_signatures.json` holds what users rely on. What is not built yet may only become less.
"""

import functools
import importlib
import importlib.util
import inspect
import json
import math
import pathlib

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import alf
from alf.config_util import get_all_config_names

SIGNATURES = json.loads(pathlib.Path(__file__).with_name("contract_signatures.json").read_text())

# what differs on purpose -> why
DIFFERENCES = {
    "alf.utils.common.PeriodicReset.post_processings: default": "the published default is a type where a value belongs",
}


def is_built(module: str) -> bool:
    """Return whether a module exists, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


BUILT = [module for module in SIGNATURES if is_built(module)]


def parameters_of(member) -> dict:
    """Return the parameters of a function, or of the constructor of a class, by name; stars belong to the name."""
    if inspect.isclass(member):
        constructor = member.__init__ if member.__init__ is not object.__init__ else member.__new__
        takes_none = constructor in (object.__new__, nn.Module.__init__)
        parameters = [] if takes_none else list(inspect.signature(constructor).parameters.values())[1:]
    else:
        parameters = list(inspect.signature(member).parameters.values())
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return {stars.get(parameter.kind, "") + parameter.name: parameter for parameter in parameters}


def without_additions(parameters: dict, expected: list) -> list:
    """Return the names without those that are ours: keyword-only, or after what was promised and with a default."""
    names = list(parameters)
    promised_end = max((i for i, name in enumerate(names) if name in expected), default=-1)
    return [
        name for i, (name, parameter) in enumerate(parameters.items())
        if name in expected or not (parameter.kind is inspect.Parameter.KEYWORD_ONLY or i > promised_end and
                                    (name.startswith("*") or parameter.default is not inspect.Parameter.empty))
    ]


def same_default(text: str, default, module) -> bool:
    """Return whether `default` is what the source text `text` means."""
    names = {"alf": alf, "torch": torch, "nn": nn, "np": np, "math": math, "functools": functools,
             "partial": functools.partial, "F": nn.functional, "ts": alf.tensor_specs, "td": torch.distributions,
             "cv2": cv2, **vars(alf.data_structures), **vars(alf.tensor_specs), **vars(module)}
    try:
        expected = eval(text, names)
    except Exception:  # a name of a module that is organised otherwise here: compare what it is called
        return text.split(".")[-1].strip("()") in (getattr(default, "__name__", None), type(default).__name__)
    if expected is default or repr(expected) == repr(default):
        return True
    if isinstance(expected, (tuple, list)) and isinstance(default, (tuple, list)):
        return tuple(expected) == tuple(default)
    if isinstance(expected, (bool, int, float, str)):
        return type(expected) in (int, float) and type(default) in (int, float) and expected == default
    return callable(expected) and getattr(expected, "__name__", expected) == getattr(default, "__name__", default)


def configured_paths() -> set:
    """Return the paths of all configurable callables that have arguments."""
    return {name.rpartition(".")[0] for name in get_all_config_names()}


def compare(path: str, promised: dict, member, module, paths: set) -> list:
    """Return the differences of one class or function, each as `path: what`."""
    found = []
    if promised["args"] is not None:
        expected = [argument[0] for argument in promised["args"]]
        parameters = parameters_of(member)
        got = without_additions(parameters, expected)
        if got != expected:
            found.append(f"{path}: arguments: expected {expected}, got {got}")
        for name, *default in promised["args"]:
            if name in parameters and (default or parameters[name].default is not inspect.Parameter.empty):
                value = parameters[name].default
                if not default or value is inspect.Parameter.empty or not same_default(default[0], value, module):
                    found.append(f"{path}.{name}: default: expected {default[0] if default else 'none'}, got {value!r}")
        if any(not name.startswith("*") for name in expected) and promised["configurable"] != (path in paths):
            found.append(f"{path}: configurable: expected {promised['configurable']}, got {path in paths}")
    for name, expected in promised.get("methods", {}).items():
        method = inspect.getattr_static(member, name, None)
        if inspect.isfunction(method) or isinstance(method, (staticmethod, classmethod)):
            function = method if inspect.isfunction(method) else method.__func__
            skip = 0 if isinstance(method, staticmethod) else 1
            parameters = dict(list(parameters_of(function).items())[skip:])
            got = without_additions(parameters, expected)
            if [name.lstrip("*") for name in got] != [name.lstrip("*") for name in expected]:
                found.append(f"{path}.{name}: method arguments: expected {expected}, got {got}")
    return found


@functools.cache
def differences(module_name: str) -> dict:
    """Return the differences of a module by their key, which is `path: what`."""
    module = importlib.import_module(module_name)
    paths = configured_paths()
    found = []
    for name, promised in SIGNATURES[module_name].items():
        if hasattr(module, name):
            found += compare(f"{module_name}.{name}", promised, getattr(module, name), module, paths)
    return {": ".join(told.split(": ")[:2]): told for told in found}


@pytest.mark.parametrize("module", BUILT)
def test_module_keeps_its_signatures(module):
    unexpected = [told for key, told in differences(module).items() if key not in DIFFERENCES]
    assert not unexpected, "\n" + "\n".join(unexpected)


def test_every_deliberate_difference_is_one():
    found = {key for module in BUILT for key in differences(module)}
    assert set(DIFFERENCES) <= found


def missing_names(module_name: str) -> list:
    """Return the classes, functions and methods of a module that do not exist yet."""
    module = importlib.import_module(module_name)
    missing = []
    for name, promised in SIGNATURES[module_name].items():
        if not hasattr(module, name):
            missing.append(f"{module_name}.{name}")
        else:
            member = getattr(module, name)
            missing += [f"{module_name}.{name}.{method}" for method in promised.get("methods", {})
                        if not hasattr(member, method)]
    return missing


def test_no_more_is_missing_than_before():
    modules = [module for module in SIGNATURES if module not in BUILT]
    names = [name for module in BUILT for name in missing_names(module)]
    assert len(modules) <= 68, modules
    assert len(names) <= 57, names


def test_comparison_sees_each_kind_of_difference():
    class Ours:
        def __init__(self, first, second=2, third=None, *, fourth=None):
            pass

        def method(self, one, two):
            pass

    def told(**change):
        signature = {"args": [["first"], ["second", "2"]], "configurable": False, **change}
        return compare("p", signature, Ours, alf, set())

    assert told() == []
    assert told(args=[["second", "2"], ["first"]])[0].startswith("p: arguments")
    assert told(args=[["first"], ["second", "3"]]) == ["p.second: default: expected 3, got 2"]
    assert told(args=[["first"]]) == [] and told(args=[["second"]])[0].startswith("p: arguments")
    assert told(methods={"method": ["one"]})[0].startswith("p.method: method arguments")
    assert told(configurable=True) == ["p: configurable: expected True, got False"]
