"""Studies of agents: gradient variance, representation."""
