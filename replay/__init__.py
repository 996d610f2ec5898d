"""What is remembered.

memory.py    Memory: what every memory shares (checks, storage, incremental save and load)
rows.py      RowReplay: uniform replay of whole rows, for vectors and small pictures
frames.py    FrameReplay: uniform replay of stacked frames, every frame stored once
segments.py  the file format of a save
"""

from replay.frames import FrameReplay
from replay.memory import Memory
from replay.rows import RowReplay

MEMORIES = {"rows": RowReplay, "frames": FrameReplay}

__all__ = ["MEMORIES", "FrameReplay", "Memory", "RowReplay"]
