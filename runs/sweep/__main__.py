"""Sweep: run many training runs, over programs, worlds, seeds and hyperparameters, on one machine or a Ray cluster.

    python -m runs.sweep dqn rainbow ppo --env Pong Breakout --seeds 5
    python -m runs.sweep dqn --env CartPole --search learning_rate=1e-5:1e-2:log epsilon=0.01,0.1 --trials 20
    python -m runs.sweep ppo --env CartPole --search learning_rate=1e-4:1e-2:log --trials 30 --sampler tpe
    python -m runs.sweep vision.classification --data shapes --seeds 3 -- --backbone resnet20 --steps 50000
    python -m runs.sweep dqn rainbow ppo --env Pong Breakout --seeds 5 --ray auto --folder /shared/results

Flags behind `--` are for all runs. Each run is the ordinary program in a process of its own, in an ordinary run's
folder: as many at once as cores and memory allow. A sweep that is stopped goes on by the same command: no run is done
twice, and those that were begun go on from their checkpoints. A run that is killed is started again; one that fails
is named, with the last line of its log, and the others go on; the same command tries it again.

A search draws points from ranges (flag=low:high, flag=low:high:log) and lists (flag=a,b,c): every combination
(--sampler grid; a range then says how many values: flag=low:high:log:4), random ones (Bergstra & Bengio 2012), or
Bayesian ones by Optuna (tpe: Bergstra et al. 2011; gp: a Gaussian process). A point's score is the mean over seeds
(with --folds, over folds of cross-validation too) of the last evaluations, and a point at which a loss diverges is
worse than any other; each program and world is searched by itself. --early-stopping asha stops poor runs at rungs (Li
et al. 2018); they keep their checkpoints, and go on where they turn out to be good after all.

With --ray the runs are on the nodes of a Ray cluster, which have to share --folder; a run whose node dies goes on
elsewhere, from its last checkpoint.

The sweep's own folder is <folder>/sweeps/<name>: sweep.json, trials.jsonl and the logs of the runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from runs import flag_types, flags
from runs.files import RunError
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.printing import printable
from runs.sweep import local, plan, ray_cluster, wandb_sweep
from runs.sweep.asha import EarlyStopping
from runs.sweep.engine import Sweep
from runs.sweep.local import Local
from runs.sweep.ray_cluster import RayCluster
from runs.sweep.record import Record
from runs.sweep.samplers import Sampler
from runs.sweep.table import LiveTable, closing, results


@dataclasses.dataclass(frozen=True)
class Config:
    programs: Annotated[tuple[str, ...], tyro.conf.Positional]  # dqn rainbow ppo vision.classification ...
    env: tuple[str, ...] = ()  # worlds of agents; none: each program's own
    data: tuple[str, ...] = ()  # data sets of programs of vision
    seeds: Count = 1  # runs of every point
    seed: Whole = 1  # the first of them, and the search's own
    folds: Whole = 0  # of cross-validation: a run of every point for each, which leaves it out; 0: none
    search: tuple[str, ...] = ()  # flag=low:high, flag=low:high:log, flag=a,b,c
    sampler: Literal["auto", "grid", "random", "tpe", "gp"] = (
        "auto"  # auto: grid for lists without --trials, else random
    )
    trials: Whole = 0  # points of a search in each program and world; 0: all of a grid
    early_stopping: Literal["none", "asha"] = "none"  # of poor runs
    eta: Count = 3  # ASHA: one run of eta goes on at a rung, which lie a factor of eta apart
    first_rung: Share = 1 / 9  # ASHA: of a run's steps
    minutes: NonNegative = 0.0  # of all commands of this sweep; then the runs are saved. 0: no limit
    jobs: Whole = 0  # runs at once; 0: one for every core, or GPU
    memory_gb: NonNegative = 0.0  # GB that a run needs; 0: as much as the largest one like it has had
    retries: Whole = 1  # how often a run that was killed is started again
    ray: str | None = None  # run on a Ray cluster: auto, host:port, or local for one of this machine alone
    cpus: Count = 1  # of a run, with --ray
    gpus: NonNegative | None = None  # of a run, with --ray; None: 1 where the cluster has any
    folder: Path = Path("results")  # of all runs
    name: str | None = None  # of the sweep; None: made from what it runs
    wandb_sweep: Path | None = None  # write the sweep as a W&B sweep definition to this file, .yaml, and run nothing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep of a command line. Returns the exit status: 0, 1 where a run has failed, 130 after a signal."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, more = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    config = flags.parse(Config, "runs.sweep", __doc__, args=own)
    try:
        flag_types.check(config)
        return sweep(config, more)
    except (ValueError, OSError, RunError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(printable(error))}", highlight=False, soft_wrap=True)
        return 2


def sweep(config: Config, more: Sequence[str] = ()) -> int:
    """Run a sweep. more: flags of all runs. Returns the exit status.

    Raises ValueError or RunError where it cannot start.
    """
    if not config.programs:
        raise ValueError("name the programs to run: python -m runs.sweep dqn ppo --env Catch")
    if config.env and config.data:
        raise ValueError("--env is for agents and --data for vision: sweep each by itself")
    if not config.ray and (config.cpus > 1 or config.gpus is not None):
        raise ValueError("--cpus and --gpus are for --ray: on one machine --jobs shares out its cores and GPUs")
    if config.eta < 2:
        raise ValueError(f"--eta {config.eta}: it takes 2 or more")
    worlds = [(flag, name) for flag in ("env", "data") for name in dict.fromkeys(getattr(config, flag))]
    seeds = range(config.seed, config.seed + config.seeds)
    table = LiveTable()
    planned = plan.make(
        config.programs, worlds, seeds, config.search, more, str(config.folder), config.name, config.folds
    )
    if config.early_stopping != "none" and not planned.dimensions:
        raise ValueError("--early-stopping compares the points of a search: give --search")
    if config.folds and (config.early_stopping != "none" or config.wandb_sweep):
        raise ValueError("--folds takes neither --early-stopping, which compares runs of one seed, nor --wandb-sweep")
    listed = all(each.values or each.count for each in planned.dimensions)
    kind = config.sampler if config.sampler != "auto" else "grid" if listed and not config.trials else "random"
    sampler = Sampler(kind, planned.dimensions, config.trials, config.seed)
    stopping = {"eta": config.eta, "first_rung": config.first_rung} if config.early_stopping == "asha" else {}
    if config.wandb_sweep:
        for path in wandb_sweep.write(config.wandb_sweep, planned, sampler, *stopping.values()):
            table.say(f"W&B sweep: wandb sweep {path}   then, on any machine: wandb agent <the id that it prints>")
        return 0
    searched = sampler.state() if planned.dimensions else {}
    record = Record(config.folder / "sweeps" / planned.name, planned.state() | searched | stopping)
    try:
        early = EarlyStopping(planned, record, config.first_rung, config.eta) if stopping else None
        with executor_of(config, more, record, table.say) as executor:
            running = Sweep(
                planned, sampler, executor, record, early, config.retries, config.minutes, table.say, table.show
            )
            count = sampler.count * len(planned.studies) * len(planned.repeats)
            table.say(
                f"sweep {planned.name}: {count} runs, {executor.jobs} at once with {executor.threads} threads each\n"
                f"folder {record.folder}"
            )
            with table.opened():
                whole = running.run()
        for shown in results(running):
            table.terminal.print(shown)
        for line in closing(running):
            table.say(line)
    finally:
        record.close()
    return 130 if running.interrupted else 0 if whole or running.spent else 1


def executor_of(
    config: Config, more: Sequence[str], record: Record, say: Callable[[str], None]
) -> contextlib.AbstractContextManager[Local | RayCluster]:
    """The executor that starts the runs, as a context: this machine, or a Ray cluster. more: flags of all runs."""
    devices = [each.partition("=")[2] or following for each, following in zip(more, [*more[1:], ""], strict=True)
               if each.partition("=")[0] == "--device"]  # fmt: skip
    if not config.ray:
        return contextlib.nullcontext(Local(config.jobs, config.memory_gb, () if devices else local.gpus()))
    gpus = 0.0 if config.gpus is None and devices == ["cpu"] else config.gpus
    return ray_cluster.opened(
        config.ray, config.folder, record.folder / "nodes",
        jobs=config.jobs, cpus=config.cpus, gpus=gpus, memory=config.memory_gb, say=say,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
