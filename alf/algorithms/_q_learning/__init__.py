"""The mathematics of Q-learning as pure functions: targets, projections, losses, exploration rates."""
