"""Arguments of the published optimizers that are known by name, and not offered yet."""

from typing import Any, Dict

# argument -> the value with which it changes nothing
NOT_OFFERED = {
    "parvi": None,
    "repulsive_weight": 1.0,
    "capacity_ratio": 1.0,
    "min_capacity": 8192,
    "masked_out_value": None,
}


def check_not_offered(optimizer: str, arguments: Dict[str, Any]) -> None:
    """Refuse arguments that would change what an optimizer does in a way that is not offered.

    Args:
        optimizer: its name, for errors.
        arguments: those that it does not know, by name.
    Raises:
        TypeError: for one that the published API does not have either.
        ValueError: for one with another value than the default or None.
    """
    for name, value in arguments.items():
        if name not in NOT_OFFERED:
            raise TypeError(f"{optimizer}: unknown argument {name!r}.")
        if value is not None and value != NOT_OFFERED[name]:
            raise ValueError(f"{optimizer}.{name}: expected the default {NOT_OFFERED[name]!r}, for others are not "
                             f"offered yet, got {value!r}. Leave it out.")
