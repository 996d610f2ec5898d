"""Bytes, add rates and sample rates of replay.FrameReplay against the memories of SB3 and TorchRL, on 84 x 84 x 4
uint8; and of replay.PrioritizedReplay against cpprb's and TorchRL's, on vectors of 4.

    pip install -e ".[bench]"
    python tests/benchmarks/replay_speed.py
    python tests/benchmarks/replay_speed.py --capacity 200000 --json results/replay_speed.json
    python tests/benchmarks/replay_speed.py --part prioritized --plot results/replay_growth.png

Windows of the memories alternate within one process; all hold the same number of transitions and are
full before they are sampled. SB3's is measured plain and with optimize_memory_usage, TorchRL's is a
TensorDictReplayBuffer over LazyTensorStorage. All samples come as uint8 tensors on the CPU; ours as two views of
the same frames, which the learner copies as it makes them floats. The last line runs agents.dqn with a full memory
and updates of 512 samples, and compares the time of drawing them with the time of learning from them, both inside
its own loop.

The prioritized part draws 512 transitions and sets their priorities anew, in memories of several sizes, all full
and all of random priorities; cpprb's are NumPy arrays, the others' tensors. Its transitions are small, so that
choosing them is what is measured. Its last line is that of agents.rainbow with the frames of the smallest size: the
draw (frames included) and the new priorities, against the learning. --plot draws the time of a draw and its update
over the entries.

TorchRL's priorities need its compiled extension, which only loads beside the PyTorch it was built for; where it does
not, TorchRL is left out of the prioritized part. (That of release 0.14.1 loads neither beside PyTorch 2.12.1 nor
2.13; compiled from TorchRL's sources, `python setup.py build_ext`, it does.)
"""

import argparse
import math
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memories import (
    AT_ONCE,
    PRIORITIZED,
    SHAPE,
    UNIFORM,
    adder,
    bytes_of,
    episode,
    sampler,
    torchrl_prioritizes,
)
from paired import NEVER, alternate, circumstances, command_line, median, ratio, report

import replay
import runs
from replay import FrameReplay, Memory, PrioritizedReplay

MILLION = 1_000_000


def share_of_update(program: str, memory: Memory | PrioritizedReplay, batch: int, updates: int) -> dict:
    """Milliseconds of drawing, of new priorities, and of the learning in between, inside a program's own loop."""
    drawing, configuration, learning = [], [], []
    drawn_at = 0.0
    sample, log, steps = memory.sample, runs.Run.log, runs.Run.steps
    set_priorities = getattr(memory, "update", None)

    def timed_sample(*arguments: object) -> object:
        nonlocal drawn_at
        start = time.perf_counter()
        drawn = sample(*arguments)
        drawn_at = time.perf_counter()
        drawing.append(drawn_at - start)
        return drawn

    def timed_update(*arguments: object) -> None:
        start = time.perf_counter()
        set_priorities(*arguments)
        configuration.append(time.perf_counter() - start)

    def timed_log(run: runs.Run, metrics: dict) -> None:
        if "loss/td" in metrics:
            learning.append(time.perf_counter() - drawn_at - (configuration[-1] if configuration else 0.0))
        log(run, metrics)

    def some_steps(run: runs.Run, *arguments: object, **options: object) -> Iterator[int]:
        for step in steps(run, *arguments, **options):
            if len(learning) == updates:
                return
            yield step

    # The program's own words for memory, log and steps, now timed; nothing runs after it in this process.
    frames = memory.memory if isinstance(memory, PrioritizedReplay) else memory
    replay.FrameReplay = lambda *_, **__: frames
    replay.PrioritizedReplay = lambda *_, **__: memory
    memory.sample, runs.Run.log, runs.Run.steps = timed_sample, timed_log, some_steps
    if set_priorities:
        memory.update = timed_update
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [program] + command_line(
            env="Breakout",
            device="cpu",
            folder=folder,
            worlds=frames.worlds,
            batch=batch,
            learn_every=batch // 8,
            learn_start=0,
            epsilon_steps=0,
            capacity=frames.capacity,
            evaluate_every=NEVER,
            save_every=NEVER,
            wandb="disabled",
        )
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    half = updates // 2  # the first half warms up
    draw, learn = 1e3 * median(drawing[half:]), 1e3 * median(learning[half:])
    reprioritize = 1e3 * median(configuration[half:]) if configuration else 0.0
    return {
        "program": program,
        "batch": batch,
        "sample_ms": draw,
        "update_ms": reprioritize,
        "learn_ms": learn,
        "share": (draw + reprioritize) / learn,
    }


def say_share(share: dict) -> None:
    priorities = f", priorities {share['update_ms']:.2f} ms" if share["update_ms"] else ""
    print(
        f"{share['program']}, batch {share['batch']}: sampling {share['sample_ms']:.2f} ms{priorities}, "
        f"learning {share['learn_ms']:.1f} ms, ratio {share['share']:.4f}"
    )


def uniform(options: argparse.Namespace) -> None:
    """Adds and draws of frames against SB3's, bytes of each, and the share of an update that drawing takes."""
    configuration = circumstances()
    adds: dict[int, dict[str, list[float]]] = {}
    samples: dict[int, dict[str, list[float]]] = {}
    made: dict[str, tuple[object, Callable[[], int]]] = {}
    for worlds in options.at_once:
        made.clear()  # room for the next ones
        made |= {name: make(options.capacity, worlds) for name, make in UNIFORM.items()}
        for _, add in made.values():  # full, and every page touched, before anything is measured
            added = 0
            while added < options.capacity:
                added += add()
        adds[worlds] = alternate({name: add for name, (_, add) in made.items()}, options.rounds, options.seconds)
        # The last of --at-once is what the memories are sampled with.
    for batch in options.batches:
        calls = {name: sampler(memory.sample, batch) for name, (memory, _) in made.items()}
        samples[batch] = alternate(calls, options.rounds, options.seconds)
    sizes = {name: bytes_of(memory) / options.capacity for name, (memory, _) in made.items()}
    ours = made["saccade"][0]
    made.clear()

    large = FrameReplay(MILLION, worlds, stack=SHAPE[0])
    large.add(episode(worlds)[0])  # storage is laid out by the first add, and touched only where written
    gigabytes = large.nbytes / 1e9
    del large
    share = share_of_update("agents.dqn", ours, 512, options.updates) if options.updates else None

    report(
        f"{options.capacity:,} transitions of 84 x 84 x 4, {options.rounds} windows of {options.seconds:g} s",
        [
            "memory",
            "bytes each",
            *(f"adds/s by {n}" for n in adds),
            *(f"draws/s of {n}" for n in samples),
        ],
        [
            [
                name,
                f"{sizes[name]:,.0f}",
                *(f"{median(rates[name]):,.0f}" for rates in adds.values()),
                *(f"{median(rates[name]):,.0f}" for rates in samples.values()),
            ]
            for name in UNIFORM
        ],
        {
            "benchmark": "replay_speed",
            "capacity": options.capacity,
            "seconds": options.seconds,
            "bytes_per_transition": sizes,
            "adds_per_second": adds,
            "samples_per_second": samples,
            "gigabytes_for_a_million": gigabytes,
            "share_of_update": share,
        }
        | configuration,
        options.json,
    )
    print(f"1,000,000 transitions take {gigabytes:.3f} GB")
    if share:
        say_share(share)


def prioritized(options: argparse.Namespace) -> None:
    """Draw and update in memories of every size, all taking turns; and bytes of a million pictures."""
    configuration = circumstances()
    names = [name for name in PRIORITIZED if name != "TorchRL" or torchrl_prioritizes()]
    sizes = sorted(options.sizes)
    calls, kept = {}, []
    for size in sizes:
        for name in names:
            memory, calls[name, size] = PRIORITIZED[name](size, options.batch)
            kept.append(memory)
    rates = alternate(calls, options.rounds, options.seconds)
    kept.clear()
    del calls

    large = PrioritizedReplay(FrameReplay(MILLION, AT_ONCE, stack=SHAPE[0]))
    large.add(episode(AT_ONCE)[0])
    gigabytes = large.nbytes / 1e9
    del large
    share = None
    if options.updates:
        worlds = 16  # as agents.rainbow has
        frames = PrioritizedReplay(FrameReplay(sizes[0], worlds, stack=SHAPE[0]))
        add, added = adder(frames.add, episode(worlds), worlds), 0
        while added < sizes[0]:
            added += add()
        share = share_of_update("agents.rainbow", frames, options.batch, options.updates)

    growth = {name: ratio(rates, (name, sizes[0]), (name, sizes[-1])) for name in names}
    logarithm = math.log(sizes[-1]) / math.log(sizes[0])
    against = {peer: {size: ratio(rates, ("saccade", size), (peer, size)) for size in sizes} for peer in names[1:]}
    report(
        f"draw {options.batch} and update them, {options.rounds} windows of {options.seconds:g} s",
        ["memory", *(f"cycles/s of {size:,}" for size in sizes), "time grows by"],
        [[name, *(f"{median(rates[name, size]):,.0f}" for size in sizes), growth[name]] for name in names],
        {
            "benchmark": "replay_speed prioritized",
            "batch": options.batch,
            "seconds": options.seconds,
            "cycles_per_second": {f"{name} {size}": each for (name, size), each in rates.items()},
            **{f"ratio_to_{peer.lower()}": each for peer, each in against.items()},
            "growth": growth,
            "growth_of_log": logarithm,
            "gigabytes_for_a_million": gigabytes,
            "share_of_update": share,
        }
        | configuration,
        options.json,
    )
    for peer, each in against.items():
        print(f"times {peer}'s rate: " + ", ".join(f"{each[size]:.2f} at {size:,}" for size in sizes))
    print(f"log n grows by {logarithm:.2f} from {sizes[0]:,} to {sizes[-1]:,}")
    print(f"1,000,000 prioritized transitions of 84 x 84 x 4 take {gigabytes:.3f} GB")
    if share:
        say_share(share)
    if options.plot:
        plot_growth(rates, names, sizes, options.batch, options.plot)


def plot_growth(
    rates: dict[tuple[str, int], list[float]], names: list[str], sizes: list[int], batch: int, path: Path
) -> None:
    """A picture of the median time of a cycle, its range over the windows, and log n through our first point."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in names:
        times = [[1e6 / rate for rate in rates[name, size]] for size in sizes]
        (line,) = axes.plot(sizes, [median(each) for each in times], marker="o", label=name)
        axes.fill_between(
            sizes, *zip(*((min(t), max(t)) for t in times), strict=True), color=line.get_color(), alpha=0.15
        )
    begin = median(1e6 / rate for rate in rates["saccade", sizes[0]])
    reference = [begin * math.log(size) / math.log(sizes[0]) for size in sizes]
    axes.plot(sizes, reference, "--", color="gray", label="proportional to log n")
    axes.set(xscale="log", yscale="log", xlabel="entries", ylabel=f"µs per draw of {batch} and update")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.grid(True, which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"drawn in {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=50_000, help="transitions (SB3 and TorchRL need 56 kB each)")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 16], help="transitions of one add")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 512], help="sampled at once")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each (default %(default)s)")
    parser.add_argument("--updates", type=int, default=40, help="of the program of the last line; 0 leaves it out")
    parser.add_argument("--part", choices=["uniform", "prioritized"], default="uniform", help="what to measure")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[100_000, MILLION], help="entries of the prioritized part"
    )
    parser.add_argument("--batch", type=int, default=512, help="of the prioritized part")
    parser.add_argument("--plot", type=Path, help="draw the growth of the prioritized part there")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    if options.part == "uniform":
        uniform(options)
    else:
        prioritized(options)


if __name__ == "__main__":
    main()
