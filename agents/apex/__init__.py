"""Ape-X: actors on many cores or machines, and one learner with a prioritized replay memory.

loop.py       Config, recipes, equations and the learner; `python -m agents.apex`
actor.py      Actor: plays with an exploration rate of its own, and computes the priorities of what it has played
messages.py   what an actor sends: steps with every frame once, and priorities
actor_pool.py ActorPool: sends weights to the actors, receives their messages, replaces actors that die
"""

from agents.apex.loop import Config, build, load, recipe, train, world_options

__all__ = ["Config", "build", "load", "recipe", "train", "world_options"]
