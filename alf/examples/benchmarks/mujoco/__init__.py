"""Confs for the MuJoCo locomotion tasks, with the settings of the papers."""
