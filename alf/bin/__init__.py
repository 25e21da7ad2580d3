"""Commands: each parses its flags and calls a trainer."""
