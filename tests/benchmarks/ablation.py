"""What each component of Rainbow adds, on a world cheap enough to say it with intervals.

    python tests/benchmarks/ablation.py
    python tests/benchmarks/ablation.py --env Acrobot --steps 40000 --evaluate-every 4000 --seeds 5 --jobs 4
    python tests/benchmarks/ablation.py --json results/ablation.json --plot results/ablation.png

Every variant is a command that can be typed: DQN, DQN with one component, all of Rainbow, Rainbow without one (the
recipes of agents/rainbow.py and nothing else). Each runs with the same seeds in a folder of its own below --folder,
several at a time and with one thread each; a run that is there already is not run again.

What is compared is the mean of all evaluations of a run (equally spaced: the area under its learning curve), which
says how fast it learned, and the last evaluation. Intervals are 95%, by Student's t over seeds; a difference is taken
seed by seed, to DQN or to Rainbow. Five seeds tell large differences only: an interval that holds 0 says nothing.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from paired import circumstances, report
from rich.progress import track

from agents.rainbow.recipes import COMPONENTS
from runs.groups import interval
from runs.reader import read_run

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = {  # Rainbow less one: its flags
    "double": ["--no-double"],
    "dueling": ["--no-dueling"],
    "prioritized": ["--priority-exponent", "0"],
    "n_step": ["--n-step", "1"],
    "noisy": ["--no-noisy"],
    "c51": ["--distribution", "mean"],
}


def variants() -> dict[str, tuple[str, list[str], str]]:
    """Name -> program, its flags, and the name of what it is compared with."""
    result = {"dqn": ("double", ["--no-double"], "dqn")}  # the same loop and recipe with every switch off
    for program in COMPONENTS:
        if program != "rainbow":
            result[f"+ {program}"] = (program, [], "dqn")
    result["rainbow"] = ("rainbow", [], "rainbow")
    for component, flags in WITHOUT.items():
        result[f"- {component}"] = ("rainbow", flags, "rainbow")
    return result


def run(name: str, seed: int, options: argparse.Namespace) -> list[float]:
    """Evaluations of a variant, trained where it is not there yet. Raises RuntimeError with what it said."""
    program, flags, _ = variants()[name]
    label = name.replace("+ ", "with-").replace("- ", "without-")
    command = [sys.executable, "-m", f"agents.{program}", "--env", options.env, *flags, "--seed", str(seed)]
    command += ["--folder", str(options.folder), "--name", f"{label}-{seed}", "--wandb", "disabled"]
    command += ["--steps", str(options.steps), "--evaluate-every", str(options.evaluate_every)]
    command += ["--evaluate-games", str(options.games), "--film-seconds", "0", "--threads", "1"]
    folders = list(options.folder.glob(f"*/{label}-{seed}"))
    if not folders or read_run(folders[0]).status != "finished":
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        folders = list(options.folder.glob(f"*/{label}-{seed}"))
    return [line["eval/return"] for line in read_run(folders[0]).evaluations]


def summary(curves: dict[str, np.ndarray]) -> dict[str, dict]:
    """Means and half intervals of each variant, from its evaluations (seeds, evaluations)."""
    result = {}
    for name, curve in curves.items():
        area, base = curve.mean(1), curves[variants()[name][2]].mean(1)
        result[name] = {"area": interval(area), "final": interval(curve[:, -1])}
        if variants()[name][2] != name:
            result[name]["difference"] = interval(area - base)
        result[name]["evaluations"] = curve.tolist()
    return result


def plot(result: dict[str, dict], path: Path, title: str) -> None:
    """The differences to DQN and to Rainbow, with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for panel, sign, base in zip(panels, "+-", ("dqn", "rainbow"), strict=True):
        names = [name for name in result if name.startswith(sign) or (sign == "+" and name == "rainbow")]
        values = [
            result[name]["difference"]
            if name != "rainbow"
            else interval(
                np.array(result["rainbow"]["evaluations"]).mean(1) - np.array(result["dqn"]["evaluations"]).mean(1)
            )
            for name in names
        ]
        panel.errorbar([mean for mean, _ in values], range(len(names)), xerr=[half for _, half in values], fmt="o")
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.axvline(0, color="gray", linewidth=0.8)
        panel.set_title(f"against {base}", fontsize=10)
        panel.set_xlabel("mean evaluation, difference", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Catch")
    parser.add_argument("--steps", type=int, default=8_000, help="agent steps a run")
    parser.add_argument("--evaluate-every", type=int, default=1_000, help="steps")
    parser.add_argument("--games", type=int, default=40, help="games an evaluation")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("results/ablation"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    around = circumstances()

    jobs = [(name, seed) for name in variants() for seed in range(1, options.seeds + 1)]
    with ThreadPoolExecutor(options.jobs) as pool:
        each = pool.map(lambda job: run(*job, options), jobs)
        found = dict(zip(jobs, track(each, total=len(jobs), description="runs"), strict=True))
    curves = {name: np.array([found[name, seed] for seed in range(1, options.seeds + 1)]) for name in variants()}
    result = summary(curves)

    rows = []
    for name, numbers in result.items():
        cells = [f"{mean:.2f} ± {half:.2f}" for mean, half in (numbers["area"], numbers["final"])]
        mean, half = numbers.get("difference", (0.0, 0.0))
        rows.append([name, *cells, f"{mean:+.2f} ± {half:.2f}" if "difference" in numbers else ""])
    title = f"{options.env}, {options.steps:,} steps, {options.seeds} seeds"
    columns = ["variant", "mean evaluation", "final evaluation", "difference in the mean"]
    settings = {key: getattr(options, key) for key in ("env", "steps", "evaluate_every", "games", "seeds")}
    report(title, columns, rows, around | settings | {"variants": result}, options.json)
    if options.plot:
        plot(result, options.plot, title)


if __name__ == "__main__":
    main()
