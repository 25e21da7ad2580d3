"""Confs with which results of others are measured again."""
