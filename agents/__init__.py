"""What decides. A file is a program, unless it says that it is none: python -m agents.<file> --env <world>

tabular.py   value and policy iteration, Q-learning, SARSA and Monte-Carlo control over tables; no program: the
             model that is planned with, planning.py
dqn.py       deep Q-learning (Mnih et al. 2015), Double DQN as a switch
rainbow.py   its improvements together (Hessel et al. 2018) or alone, each with its equation in a file of its own:
             double.py dueling.py prioritized.py n_step.py noisy.py c51.py qr_dqn.py iqn.py munchausen.py
r2d2.py      recurrent Q-learning from sequences (Kapturowski et al. 2019), also where frames are missing
recurrent_attention.py   images read in a few glimpses (Mnih et al. 2014); no programs: its network and loss,
             glimpses.py, its pictures, saccades.py
dram.py      two digits in one image, one after the other (Ba et al. 2015)
pqn.py       Q-learning without replay or target network (Gallici et al. 2024)
reinforce.py the policy gradient from whole episodes (Williams 1992), its steps of variance reduction as switches
a2c.py       the same every few steps, with a learned value (Mnih et al. 2016)
ppo.py       several steps from the same experience, held back (Schulman et al. 2017); --lstm-units remembers
attention.py an agent that attends softly to single frames (Mott et al. 2019), and shows where
gaze.py      an agent that sees sharply only where it points its eye (Mnih et al. 2014)
variance.py  how much noise each estimator of the policy gradient has
frames.py    plays for frames of an Atari game and, beside each, what the console's memory says
eyes.py      eyes trained on such frames before any agent: on the memory, as an autoencoder, on photographs
probe.py     what eyes know: the memory, or which game a frame is of, by a linear layer
shared_eyes.py   the study that compares them, in DQN and elsewhere; its picture and page: eyes_page.py, no program
setting.py   no program: the flags for world and eyes, and what they mean
recurrent.py no program: the LSTM of agents that remember, and the state they carry from step to step
arithmetic.py no program: precision, optimizer, compiling
policies.py  no program: the networks and the distributions over actions that the policy gradients share
watch.py     plays, scores and films the agent of any run
loading.py   no program: agents.load(run) and agents.play(run), the same from Python
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
    if name in __all__:
        return getattr(importlib.import_module("agents.loading"), name)
    raise AttributeError(f"module 'agents' has no attribute {name!r}")
