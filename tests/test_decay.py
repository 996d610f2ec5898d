"""Speed that does not decay: DQN with a million transitions in its memory trains as fast as with 50,000."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOM = 11 * 2**20  # KiB that must be free: the memory takes 7.2 GB


def free() -> int:
    """KiB of RAM that are free, by Linux; 0 elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


@pytest.mark.slow
@pytest.mark.skipif(free() < ROOM, reason="needs 11 GiB of free RAM (Linux)")
def test_a_full_memory_is_as_fast_as_a_young_one(tmp_path):
    """The median over windows side by side: at most 5% slower."""
    result = tmp_path / "decay.json"
    command = [sys.executable, "tests/benchmarks/dqn_decay.py", "--rounds", "7", "--json", str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    found = json.loads(result.read_text())
    assert found["ratios"]["saccade"]["million"] < 1 / 0.95, found["steps_per_second"]
