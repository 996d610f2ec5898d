"""What is remembered, and what it was worth.

memory.py       Memory: what every memory shares (checks, storage, n-step windows, incremental save and load)
rows.py         RowReplay: uniform replay of whole rows, for vectors and small pictures
frames.py       FrameReplay: uniform replay of stacked frames, every frame stored once
prioritized.py  PrioritizedReplay: draws from either of them by surprise
priorities.py   Priorities: the sum tree that it draws with
segments.py     the file format of a save
mapping.py      storage on a disk instead of in RAM
"""

from replay.frame_replay import FrameReplay
from replay.memory import Memory
from replay.prioritized import PrioritizedBatch, PrioritizedReplay
from replay.row_replay import RowReplay
from replay.sum_tree import SumTree

MEMORIES = {"rows": RowReplay, "frames": FrameReplay}

__all__ = ["MEMORIES", "PrioritizedBatch", "FrameReplay", "Memory", "PrioritizedReplay", "SumTree", "RowReplay"]
