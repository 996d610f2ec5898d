"""Replay memories, and the rollout buffer of on-policy agents.

memory.py         Memory: what every memory shares (checks, storage, n-step windows, incremental save and load)
row_replay.py     RowReplay: uniform replay of whole rows, for vectors and small pictures
frame_replay.py   FrameReplay: uniform replay of stacked frames, every frame stored once
prioritized.py    PrioritizedReplay: prioritized replay over either of them
sum_tree.py       SumTree: the sum tree of its priorities
rollout.py        Rollout: T steps of N worlds, and minibatches of them, for A2C, PPO and PQN
episodes.py       Episodes: the first episode of each of N worlds, for REINFORCE
segments.py       the file format of a save
mapping.py        storage on a disk instead of in RAM
"""

from replay.frame_replay import FrameReplay
from replay.memory import Memory
from replay.prioritized import PrioritizedBatch, PrioritizedReplay
from replay.row_replay import RowReplay
from replay.sum_tree import SumTree

MEMORIES = {"rows": RowReplay, "frames": FrameReplay}

__all__ = ["MEMORIES", "PrioritizedBatch", "FrameReplay", "Memory", "PrioritizedReplay", "SumTree", "RowReplay"]
