"""When running statistics are updated."""

from alf.utils import common


class UpdateMode:
    """Tells whether statistics are to be updated now."""

    def __init__(self, name: str, update_mode: str):
        if update_mode not in ("replay", "rollout"):
            raise ValueError(f"{name}.update_mode: expected 'replay' or 'rollout', got {update_mode!r}.")
        self.is_rollout = update_mode == "rollout"  # at each unroll step
        self._is_frozen = False

    def follow_rollout(self) -> None:
        """Update in the rollout, whatever was asked for: there is no replay."""
        self.is_rollout = True

    def freeze(self) -> None:
        """Never update: that is done in another process."""
        self._is_frozen = True

    def __call__(self) -> bool:
        if self._is_frozen:
            return False
        return common.is_rollout() if self.is_rollout else common.is_replay() or common.is_pretrain()
