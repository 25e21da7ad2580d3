"""Trainers: the loops that train, evaluate and play, and what they write and show."""
