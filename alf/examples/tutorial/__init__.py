"""The confs of the tutorial."""
