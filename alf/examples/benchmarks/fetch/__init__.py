"""Confs for the Fetch tasks, with hindsight experience replay."""
