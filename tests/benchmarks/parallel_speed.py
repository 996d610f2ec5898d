"""Steps per second of one program as 1, 2 and 4 processes that train together (runs/parallel.py).

    python tests/benchmarks/parallel_speed.py --out results/parallel_speed.json

Every count trains the same run for some thousand steps, in turns, and the speed is that of its clock.jsonl from the
first line to the last, without start and evaluation. Where other programs use the cores too, that says little: the
time that the processes spend on the cores a step, all together, is what can be compared there. It is that of a run
less that of one of a third of its steps. The milliseconds of averaging a million gradients are measured beside it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import tyro
from parallel_exchange import GRADIENTS, exchange  # beside this file
from rich.console import Console
from rich.table import Table

from runs import machine, output

ROOT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Config:
    program: str = "agents.pqn"
    flags: str = "--env Pong --worlds 32 --rollout 32 --epochs 2 --minibatches 8 --width 0.5"
    counts: tuple[int, ...] = (1, 2, 4)  # processes
    steps: int = 12_288  # of a run
    every: int = 2_048  # steps between lines of the clock
    windows: int = 3  # runs of each count
    out: Path = Path("results/parallel_speed.json")


def speed(config: Config, count: int, steps: int, folder: Path, name: str) -> tuple[float, float]:
    """Steps per second of a run by a number of processes, and their seconds on the cores."""
    flags = [*config.flags.split(), f"--steps={steps}", f"--log-every={config.every}", "--threads=1"]
    flags += ["--wandb=disabled", "--evaluate-every=0", "--device=cpu", f"--folder={folder}", f"--name={name}"]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, "-m", config.program, *flags]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = next(folder.glob(f"*/{name}/clock.jsonl")).read_text().splitlines()
    first, last = json.loads(clock[0]), json.loads(clock[-1])
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (last["step"] - first["step"]) / max(last["seconds"] - first["seconds"], 1e-9), worked


def main(config: Config) -> None:
    found: dict[int, list[float]] = {count: [] for count in config.counts}
    work: dict[int, list[float]] = {count: [] for count in config.counts}  # milliseconds of the cores a step
    third = config.steps // 3 // config.every * config.every
    with tempfile.TemporaryDirectory() as folder:
        for window in range(config.windows):
            for count in config.counts:
                fast, whole = speed(config, count, config.steps, Path(folder), f"{count}-{window}")
                _, part = speed(config, count, third, Path(folder), f"{count}-{window}-short")
                found[count].append(fast)
                work[count].append(1_000 * (whole - part) / (config.steps - third))
    exchanges = {count: exchange(count) for count in config.counts if count > 1}
    table = Table(title=f"{config.program} {config.flags}")
    for column in ("processes", "steps/s", "ms of the cores a step", "ms to average 4 MB"):
        table.add_column(column, justify="right")
    for count, speeds in found.items():
        wait = f"{1_000 * exchanges[count]:.1f}" if count in exchanges else ""
        table.add_row(str(count), f"{median(speeds):,.0f}", f"{median(work[count]):.2f}", wait)
    Console().print(table)
    state = {"config": {**dataclasses.asdict(config), "out": None}, "steps_per_second": found}
    state |= {"core_milliseconds_a_step": work}
    state |= {"gradient_bytes": 4 * GRADIENTS, "seconds_to_average": exchanges}
    state |= {"hardware": machine.hardware(torch.device("cpu")), "date": time.strftime("%Y-%m-%d")}
    output.write(config.out, json.dumps(state | {"commit": machine.commit()}, indent=1), "--out")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
