"""Is not Python."""

import alf

alf.config("TrainerConfig",
x = = 3
