"""Tabular methods: `python -m agents.tabular`.

q_learning.py           the program: dynamic programming, Q-learning, SARSA, Monte-Carlo control
dynamic_programming.py  value iteration, policy iteration and the exact model that they need
plots.py                values, action values and policy drawn on the map of a world
"""

from agents.tabular.q_learning import Config, load, recipe, train, world_options

__all__ = ["Config", "load", "recipe", "train", "world_options"]
