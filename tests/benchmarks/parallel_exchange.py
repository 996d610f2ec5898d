"""The time to average the gradients of a million weights over processes: `exchange`, for parallel_speed.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from runs import parallel

ROOT = Path(__file__).resolve().parents[2]

GRADIENTS = 1_000_000  # weights in float32
TIMES = 30


def exchange(count: int) -> float:
    """Seconds of an average over a number of processes: the median."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__]
    done = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parallel.join(torch.device("cpu"))
    network = torch.nn.Linear(1_000, GRADIENTS // 1_000, bias=False)
    network.weight.grad = torch.randn_like(network.weight)
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        parallel.average(network)
        found.append(time.perf_counter() - began)
    if parallel.rank() == 0:
        print(median(found), flush=True)
    parallel.leave()


if __name__ == "__main__":
    main()
