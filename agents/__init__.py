"""What decides. Every file is a program: python -m agents.<file> --env <world>

dqn.py    deep Q-learning (Mnih et al. 2015), Double DQN as a switch
watch.py  plays, scores and films the agent of any run
"""

import os

# Before torch starts its threads: a thread that waits for its fellows sleeps instead of spinning, so that the
# emulator's threads, or another program, can have the core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
