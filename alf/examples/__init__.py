"""Conf files to start from; each says at its head what it trains and what to expect."""
