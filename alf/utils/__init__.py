"""Pure tools: mathematics, tensors, specs, distributions, losses, schedules. No algorithms in here."""
