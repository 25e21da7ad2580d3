"""The process pool under FastParallelEnvironment: shared layout, signals, hosts, workers, placement."""
