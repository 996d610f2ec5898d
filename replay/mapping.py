"""Memory-mapped files without a name, whose disk space is allocated when they are made."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np

BLOCK = 1 << 20  # bytes written at once


def mapped(folder: Path, count: int) -> np.ndarray:
    """`count` bytes (count,) uint8 in a file of the folder that has no name, so that it is gone with the process.

    All of its room is taken now. In a file of holes a disk that fills up later ends the process by SIGBUS.
    Raises OSError where there is not enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, count)
        except (AttributeError, OSError) as error:  # macOS, and file systems that cannot: write it out
            if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            for first in range(0, count, BLOCK):
                file.write(bytes(min(BLOCK, count - first)))
            file.flush()
        return np.memmap(file, np.uint8, "r+", shape=count)
