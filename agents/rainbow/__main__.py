"""Rainbow: all improvements of deep Q-learning, or one alone (--only c51)."""

import runs
from agents.rainbow import loop

runs.launch(loop.train, loop.Config, loop.recipe, "agents.rainbow", loop.__doc__)
