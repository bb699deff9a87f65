"""The live world in lockstep: one process a node, real messages, virtual time, the same results as the simulated world."""
