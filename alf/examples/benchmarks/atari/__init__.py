"""Confs for Atari games."""
