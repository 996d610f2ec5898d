"""Agents: programs that learn to act, `python -m agents.<name> --env <world>`.

dqn.py                 deep Q-learning (Mnih et al. 2015), Double DQN as a flag
rainbow/               its improvements, together (Hessel et al. 2018) or one alone
apex/                  actors on many cores or machines, and one learner (Horgan et al. 2018)
pqn.py                 Q-learning without replay or target network (Gallici et al. 2024)
r2d2.py                recurrent Q-learning from stored sequences (Kapturowski et al. 2019)
reinforce.py           REINFORCE: policy gradients from whole episodes (Williams 1992)
a2c.py                 advantage actor-critic (Mnih et al. 2016)
ppo.py                 proximal policy optimization (Schulman et al. 2017), with an LSTM by --lstm-units
soft_attention.py      PPO with soft spatial attention (Mott et al. 2019)
hard_attention.py      PPO that sees an image through small patches and chooses where (Mnih et al. 2014)
recurrent_attention/   RAM and DRAM: images classified in a few glimpses (Mnih et al. 2014, Ba et al. 2015)
tabular/               dynamic programming, Q-learning, SARSA and Monte-Carlo control
watch.py               plays, scores and films the agent of any run
studies/               gradient variance; t-SNE of an agent's states; attribution maps against a game's objects;
                       games as labeled images; world models; pretraining, probing and transfer of backbones

Modules that programs share:
config.py              flags of world, backbone and evaluation; building a world and its backbone
optimization.py        precision, optimizer, target networks, compiling
q_learning.py          flags, epsilon-greedy policies and replay memories of the Q-learning programs
returns.py             discounted and n-step returns, generalized advantage estimation, value rescaling
networks/              actor-critic and Q-networks, action distributions, LSTM, normalization
evaluation.py          whole games, their scores and bootstrap intervals
film.py                videos of games
loading.py             agents.load(run) and agents.play(run); export.py: agents as ONNX files
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def _prefer_ours(*rooms: str) -> None:
    """Import this project's rooms before a folder of such a name (envs/ is a common one) in the current directory.

    `python -m` searches that directory first. Nothing is imported where there is no such folder.
    """
    root = str(Path(__file__).resolve().parent.parent)
    for room in rooms:
        ours = importlib.machinery.PathFinder.find_spec(room, [root])
        if room in sys.modules or ours is None:
            continue
        found = importlib.util.find_spec(room)
        if found is None or found.origin is None or not Path(found.origin).samefile(ours.origin):
            sys.modules[room] = module = importlib.util.module_from_spec(ours)
            ours.loader.exec_module(module)


# Before torch starts its threads: a thread that waits for its fellows sleeps instead of spinning on, so that the
# emulator's threads, or another program, can have the core. It spins for some microseconds first, as long as it takes
# from one operation to the next: waking up takes longer.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_prefer_ours("runs", "replay", "envs", "vision")  # in the order in which they import each other

__all__ = ["Agent", "load", "play"]


def __getattr__(name: str) -> Any:
    """Import on first use: a program that imports this package needs nothing of all agents."""
    if name in ("Agent", "load", "play"):
        return getattr(importlib.import_module("agents.loading"), name)
    raise AttributeError(f"module 'agents' has no attribute {name!r}")
