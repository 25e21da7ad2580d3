"""The mathematics of off-policy actor-critic algorithms as pure functions, and the weights of the entropy."""
