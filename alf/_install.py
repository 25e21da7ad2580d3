"""How to install the packages that only some parts need."""


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra of ``pyproject.toml``, from an index or from a checkout."""
    return f"pip install 'alf-rl[{extra}]', or in a checkout: pip install -e '.[{extra}]'"
