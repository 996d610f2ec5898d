"""Tabular methods: dynamic programming, Q-learning, SARSA and Monte-Carlo control."""

import runs
from agents.tabular import q_learning

runs.launch(q_learning.train, q_learning.Config, q_learning.recipe, "agents.tabular", q_learning.__doc__)
