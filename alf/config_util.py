"""The configuration system: what conf files and configurable callables use.

Every argument of a callable marked `@configurable` has an address, module path + qualified name + argument,
such as `alf.layers.FC.activation`. A conf file sets it by any unambiguous end of the address,
`alf.config("FC", activation=torch.tanh)`, and a call that leaves the argument out gets that value.
"""

from alf._config._api import (
    config,
    config1,
    define_config,
    get_all_config_names,
    get_config_value,
    get_handled_pre_configs,
    get_inoperative_configs,
    get_operative_configs,
    pre_config,
    validate_pre_configs,
)
from alf._config._conf_files import ConfigModule, import_config, load_config, reset_configs
from alf._config._configurable import configurable
from alf._config._repr import repr_wrapper
from alf._config._save import save_config

__all__ = [
    "ConfigModule",
    "config",
    "config1",
    "configurable",
    "define_config",
    "get_all_config_names",
    "get_config_value",
    "get_handled_pre_configs",
    "get_inoperative_configs",
    "get_operative_configs",
    "import_config",
    "load_config",
    "pre_config",
    "repr_wrapper",
    "reset_configs",
    "save_config",
    "validate_pre_configs",
]
