"""When running statistics are updated."""

from alf.utils import common


class UpdateMode:
    """Tells whether statistics are to be updated now."""

    def __init__(self, name: str, update_mode: str):
        if update_mode not in ("replay", "rollout"):
            raise ValueError(f"{name}.update_mode: expected 'replay' or 'rollout', got {update_mode!r}.")
        self._is_rollout = update_mode == "rollout"

    def follow_rollout(self) -> None:
        """Update in the rollout, whatever was asked for: there is no replay."""
        self._is_rollout = True

    def __call__(self) -> bool:
        return common.is_rollout() if self._is_rollout else common.is_replay() or common.is_pretrain()
