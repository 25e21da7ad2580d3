"""Environments: the interface, adapters to Gymnasium and to native batches, wrappers, suites and the pool."""
