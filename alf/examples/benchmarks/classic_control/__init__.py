"""Confs for the classic control tasks, with the settings of RL Zoo."""
