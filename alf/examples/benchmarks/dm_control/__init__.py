"""Confs for the DeepMind control suite, from states."""
