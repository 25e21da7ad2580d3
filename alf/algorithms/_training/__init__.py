"""The parts of training that an algorithm owns: parameters and optimizers, unroll, sequences, update."""
