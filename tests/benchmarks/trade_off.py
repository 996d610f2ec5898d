"""How often to learn, from how many samples, and how often to copy the target: which reaches a score soonest?

    python tests/benchmarks/trade_off.py
    python tests/benchmarks/trade_off.py --env CartPole --score 475 --seconds 120
    python tests/benchmarks/trade_off.py --json results/trade_off.json --plot results/trade_off.png

Trains agents.dqn with every mixture of samples learned from per agent step, batch and steps between target copies,
one run after another, until an evaluation reaches --score or --seconds have passed; the learning rate stays the
recipe's, without annealing, and exploration falls as in the recipe. What is compared is the run's own clock, with its
evaluations and without starting Python. Leave the machine alone meanwhile.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
from paired import NEVER, circumstances, report
from rich.progress import track

from runs.reader import read_run

ROOT = Path(__file__).resolve().parents[2]
RATIOS = (2, 8, 32)  # samples learned from per agent step
BATCHES = (32, 128, 512)  # samples an update
COPIES = (100, 500, 2_000)  # agent steps between target copies


def soonest(ratio: int, batch: int, target_update_every: int, seed: int, options: argparse.Namespace) -> float | None:
    """Seconds until the score, or None where the time was not enough. Raises RuntimeError with what the run said."""
    name = f"ratio-{ratio}-batch-{batch}-copy-{target_update_every}-{seed}"
    command = [sys.executable, "-m", "agents.dqn", "--env", options.env, "--name", name, "--seed", str(seed)]
    command += ["--folder", str(options.folder), "--wandb", "disabled", "--film-seconds", "0", "--threads", "1"]
    command += [
        "--batch",
        str(batch),
        "--learn-every",
        str(batch // ratio),
        "--target-update-every",
        str(target_update_every),
    ]
    command += ["--steps", str(NEVER), "--no-anneal-lr", "--evaluate-every", str(options.evaluate_every)]
    command += ["--log-every", str(options.evaluate_every)]
    program = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    found, passed = None, 0.0
    while found is None and passed < options.seconds and program.poll() is None:
        time.sleep(0.2)
        for metrics in options.folder.glob(f"*/{name}/metrics.jsonl"):  # the last file that a run begins with
            run = read_run(metrics.parent)
            passed = run.seconds or 0.0
            reached = [line["step"] for line in run.evaluations if line["eval/return"] >= options.score]
            ticks = [tick["seconds"] for tick in run.clock if reached and tick["step"] >= reached[0]]
            found = min(ticks, default=None)
    if program.poll() is not None:
        raise RuntimeError(f"{' '.join(command)}\n{program.stderr.read().decode()[-2000:]}")
    program.send_signal(signal.SIGKILL)
    program.wait()
    return found if found is not None and found <= options.seconds else None


def plot(found: dict[tuple[int, int, int], list[float | None]], options: argparse.Namespace, title: str) -> None:
    """A panel a batch; in each the median seconds for every ratio and copy, where most seeds got there."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(BATCHES), sharey=True)
    for panel, batch in zip(panels, BATCHES, strict=True):
        table = np.array([[typical(found[ratio, batch, copies]) for ratio in RATIOS] for copies in COPIES])
        image = panel.imshow(table, cmap="viridis_r", vmin=0, vmax=options.seconds)
        for (row, column), seconds in np.ndenumerate(table):
            text = "not in time" if np.isnan(seconds) else f"{seconds:.0f} s"
            panel.text(
                column, row, text, ha="center", va="center", color="black", fontsize=8, backgroundcolor="white"
            )
        panel.set_xticks(range(len(RATIOS)), RATIOS)
        panel.set_yticks(range(len(COPIES)), COPIES)
        panel.set_xlabel("samples per agent step", fontsize=9)
        panel.set_title(f"batches of {batch}", fontsize=10)
    panels[0].set_ylabel("steps between target copies", fontsize=9)
    figure.colorbar(image, ax=panels, label="seconds", shrink=0.8)
    figure.suptitle(title, fontsize=11)
    figure.savefig(options.plot, dpi=130)


def typical(seconds: list[float | None]) -> float:
    """The median, where more than half of the seeds got there; else nan."""
    middle = median(float("inf") if each is None else each for each in seconds)
    return middle if middle < float("inf") else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Catch")
    parser.add_argument("--score", type=float, default=0.9, help="of an evaluation")
    parser.add_argument("--seconds", type=float, default=40.0, help="a run at most")
    parser.add_argument("--evaluate-every", type=int, default=1_000, help="agent steps")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("results/trade_off"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    around = circumstances()
    grid, seeds = list(product(RATIOS, BATCHES, COPIES)), range(1, options.seeds + 1)
    found = {point: [] for point in grid}
    for point, _ in track([(point, seed) for seed in seeds for point in grid], description="runs"):
        found[point].append(soonest(*point, len(found[point]) + 1, options))
    rows = [
        [*point, ", ".join("–" if each is None else f"{each:.1f}" for each in seconds), typical(seconds)]
        for point, seconds in sorted(found.items(), key=lambda pair: np.nan_to_num(typical(pair[1]), nan=1e9))
    ]
    title = f"{options.env}: seconds to an evaluation of {options.score:g}, {options.seeds} seeds"
    columns = ["samples a step", "batch", "steps a copy", "seconds", "median"]
    settings = {key: getattr(options, key) for key in ("env", "score", "seconds", "evaluate_every", "seeds")}
    points = [
        dict(samples_per_step=ratio, batch=batch, target_update_every=copies, seconds=seconds)
        for (ratio, batch, copies), seconds in found.items()
    ]
    report(title, columns, rows, around | settings | {"points": points}, options.json)
    if options.plot:
        plot(found, options, title)


if __name__ == "__main__":
    main()
