"""The configuration engine: addresses, values, the wrapper around configurable callables, conf files.

It stands below everything else and imports the standard library only. `alf.config_util` is its public face.
"""
