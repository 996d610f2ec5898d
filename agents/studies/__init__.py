"""Studies of agents: gradient variance, states, recordings of games, world models, representation."""
