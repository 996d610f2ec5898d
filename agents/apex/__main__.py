"""Ape-X: actors that play on many cores or machines, and one learner (Ray)."""

import runs
from agents.apex import loop

runs.launch(loop.train, loop.Config, loop.recipe, "agents.apex", loop.__doc__)
