"""Algorithms: what acts, what learns, and how the two are put together."""
