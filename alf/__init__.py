"""alf: reinforcement learning from one Python conf file.

The face of the package: its public names, each imported when it is first used, so that ``import alf`` costs next to
nothing.
"""

import difflib
import functools
import importlib
import importlib.util
import pkgutil
import sys
import types

__version__ = "0.1.0"

# Where each public name lives: "module" is the module itself, "module:name" a name in it.
_NAMES = {
    "AlgStep": "alf.data_structures:AlgStep",
    "BoundedTensorSpec": "alf.tensor_specs:BoundedTensorSpec",
    "Experience": "alf.data_structures:Experience",
    "LossInfo": "alf.data_structures:LossInfo",
    "NestedBoundedTensorSpec": "alf.tensor_specs:NestedBoundedTensorSpec",
    "NestedTensorSpec": "alf.tensor_specs:NestedTensorSpec",
    "StepType": "alf.data_structures:StepType",
    "TensorSpec": "alf.tensor_specs:TensorSpec",
    "TimeStep": "alf.data_structures:TimeStep",
    "close_env": "alf.config_helpers:close_env",
    "config": "alf.config_util:config",
    "config1": "alf.config_util:config1",
    "configurable": "alf.config_util:configurable",
    "define_config": "alf.config_util:define_config",
    "device": "alf.device_ctx:device",
    "get_action_spec": "alf.config_helpers:get_action_spec",
    "get_all_config_names": "alf.config_util:get_all_config_names",
    "get_config_value": "alf.config_util:get_config_value",
    "get_default_device": "alf.device_ctx:get_default_device",
    "get_env": "alf.config_helpers:get_env",
    "get_handled_pre_configs": "alf.config_util:get_handled_pre_configs",
    "get_inoperative_configs": "alf.config_util:get_inoperative_configs",
    "get_observation_spec": "alf.config_helpers:get_observation_spec",
    "get_operative_configs": "alf.config_util:get_operative_configs",
    "get_raw_observation_spec": "alf.config_helpers:get_raw_observation_spec",
    "get_reward_spec": "alf.config_helpers:get_reward_spec",
    "import_config": "alf.config_util:import_config",
    "load_config": "alf.config_util:load_config",
    "math": "alf.utils.math_ops",
    "namedtuple": "alf.data_structures:namedtuple",
    "nn": "alf.networks",
    "parse_config": "alf.config_helpers:parse_config",
    "pre_config": "alf.config_util:pre_config",
    "repr_wrapper": "alf.config_util:repr_wrapper",
    "reset_configs": "alf.config_util:reset_configs",
    "save_config": "alf.config_util:save_config",
    "set_default_device": "alf.device_ctx:set_default_device",
    "validate_pre_configs": "alf.config_util:validate_pre_configs",
}

__all__ = ["__version__", *sorted(_NAMES)]


def __getattr__(name: str):
    where = _NAMES.get(name)
    if where is None:
        return _import_submodule(sys.modules[__name__], name)
    module_name, _, attribute = where.partition(":")
    module = importlib.import_module(module_name)
    value = getattr(module, attribute) if attribute else module
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__():
    return sorted({*__all__, *_submodules(sys.modules[__name__])})


def _submodules(package: types.ModuleType) -> list:
    return [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]


def _import_submodule(package: types.ModuleType, name: str) -> types.ModuleType:
    """Return ``package.name``, a module that nobody has imported yet: confs write ``alf.utils.dist_utils.f`` at once.

    Raises:
        AttributeError: if there is none, naming the nearest names.
    """
    full_name = f"{package.__name__}.{name}"
    if not name.startswith("__") and importlib.util.find_spec(full_name) is not None:
        return importlib.import_module(full_name)
    known = [] if name.startswith("_") else {*dir(package), *_submodules(package)}
    nearest = difflib.get_close_matches(name, known, n=2)
    hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
    raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}.{hint}", name=name, obj=package)


class _Package(types.ModuleType):
    """A package whose submodules are imported when they are first reached as attributes."""

    def __setattr__(self, name: str, value) -> None:
        # The import system binds each submodule here, whoever imports it; packages among them become lazy likewise.
        is_submodule = isinstance(value, types.ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if is_submodule and hasattr(value, "__path__"):
            vars(value).setdefault("__getattr__", functools.partial(_import_submodule, value))
            value.__class__ = _Package
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
