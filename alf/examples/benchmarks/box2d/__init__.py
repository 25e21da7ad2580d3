"""Confs for the Box2D tasks, with the settings of RL Zoo."""
