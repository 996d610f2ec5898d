"""RAM: trains the recurrent attention model."""

import runs
from agents.recurrent_attention import ram

runs.launch(ram.train, ram.Config, ram.recipe, "agents.recurrent_attention", ram.__doc__)
