"""Bytes, add rates and sample rates of replay.FrameReplay against SB3's ReplayBuffer, on 84 x 84 x 4 uint8;
and of replay.PrioritizedReplay against cpprb's, on vectors of 4.

    pip install -e ".[bench]"
    python tests/benchmarks/replay_speed.py
    python tests/benchmarks/replay_speed.py --capacity 200000 --json results/replay_speed.json
    python tests/benchmarks/replay_speed.py --part prioritized

Windows of the three memories alternate within one process; all hold the same number of transitions and are
full before they are sampled. SB3's is measured plain and with optimize_memory_usage. All samples come as
uint8 tensors on the CPU; ours as two views of the same frames, which the learner copies as it makes them
floats. The last line runs agents.dqn with a full memory and updates of 512 samples, and compares the time of
drawing them with the time of learning from them, both inside its own loop.

The prioritized part draws 512 transitions and sets their priorities anew, in memories of several sizes, all full
and all of random priorities; cpprb's are NumPy arrays, ours tensors. Its transitions are small, so that choosing
them is what is measured.
"""

import argparse
import math
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from paired import alternate, circumstances, median, ratio, report

import replay
import runs
from envs import Transition
from replay import FrameReplay, PrioritizedReplay, RowReplay

SHAPE = (4, 84, 84)  # stacked frames of an observation, uint8
EPISODE = 128  # steps; about a life in Breakout
MILLION = 1_000_000


def episode(worlds: int, seed: int = 1) -> list[Transition]:
    """One episode of noise, seen by every world: whole Transitions of (N, ...) CPU tensors."""
    random = np.random.default_rng(seed)
    frames = random.integers(256, size=(worlds, EPISODE + SHAPE[0], *SHAPE[1:]), dtype=np.uint8)
    frames[:, : SHAPE[0] - 1] = 0  # the first stack is padded with black, as ALE's
    stacks = [torch.from_numpy(frames[:, i : i + SHAPE[0]].copy()) for i in range(EPISODE + 1)]
    ends = [i == EPISODE - 1 for i in range(EPISODE)]
    return [
        Transition(
            observation=stacks[i],
            action=torch.from_numpy(random.integers(4, size=worlds)),
            reward=torch.from_numpy(random.random(worlds, dtype=np.float32)),
            discount=torch.full((worlds,), 0.0 if ends[i] else 1.0),
            next_observation=stacks[i + 1],
            last=torch.full((worlds,), ends[i]),
        )
        for i in range(EPISODE)
    ]


def adder(add: Callable, steps: list, worlds: int) -> Callable[[], int]:
    """A call that adds one episode of every world, and returns how many transitions that was."""

    def call() -> int:
        for step in steps:
            add(step)
        return len(steps) * worlds

    return call


def sampler(sample: Callable[[int], object], batch: int) -> Callable[[], int]:
    def call() -> int:
        sample(batch)
        return 1

    return call


def frame_replay(capacity: int, worlds: int) -> tuple[FrameReplay, Callable[[], int]]:
    memory = FrameReplay(capacity, worlds, stack=SHAPE[0])
    return memory, adder(memory.add, episode(worlds), worlds)


def sb3_buffer(capacity: int, worlds: int, optimize: bool) -> tuple[object, Callable[[], int]]:
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    memory = ReplayBuffer(
        capacity,
        spaces.Box(0, 255, SHAPE, np.uint8),
        spaces.Discrete(4),
        device="cpu",
        n_envs=worlds,
        optimize_memory_usage=optimize,
        handle_timeout_termination=not optimize,  # SB3 allows only one of the two
    )
    steps = [
        (
            step.observation.numpy(),
            step.next_observation.numpy(),
            step.action.numpy(),
            step.reward.numpy(),
            step.last.numpy(),
            [{} for _ in range(worlds)],
        )
        for step in episode(worlds)
    ]
    return memory, adder(lambda step: memory.add(*step), steps, worlds)


CONTESTANTS: dict[str, Callable[[int, int], tuple[object, Callable[[], int]]]] = {
    "saccade": frame_replay,
    "SB3": lambda capacity, worlds: sb3_buffer(capacity, worlds, optimize=False),
    "SB3 optimized": lambda capacity, worlds: sb3_buffer(capacity, worlds, optimize=True),
}


def bytes_of(memory: object) -> int:
    if isinstance(memory, FrameReplay):
        return memory.nbytes
    arrays = (value for value in vars(memory).values() if isinstance(value, np.ndarray))
    return sum(array.nbytes for array in arrays)


def share_of_update(memory: FrameReplay, batch: int, updates: int) -> dict[str, float]:
    """Milliseconds of memory.sample(batch) and of the learning that follows, inside agents.dqn's own loop."""
    sampling, learning = [], []
    began = 0.0
    sample, log, steps = memory.sample, runs.Run.log, runs.Run.steps

    def timed_sample(size: int) -> Transition:
        nonlocal began
        start = time.perf_counter()
        drawn = sample(size)
        began = time.perf_counter()
        sampling.append(began - start)
        return drawn

    def timed_log(run: runs.Run, metrics: dict) -> None:
        if "loss/td" in metrics:
            learning.append(time.perf_counter() - began)
        log(run, metrics)

    def some_steps(run: runs.Run, *arguments: object, **options: object) -> Iterator[int]:
        for step in steps(run, *arguments, **options):
            if len(learning) == updates:
                return
            yield step

    # The program's own words for memory, log and steps, now timed; nothing runs after it in this process.
    replay.FrameReplay = lambda *_, **__: memory
    memory.sample, runs.Run.log, runs.Run.steps = timed_sample, timed_log, some_steps
    never = "1000000000"
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["agents.dqn", "--env", "Breakout", "--device", "cpu", "--folder", folder]
        sys.argv += ["--worlds", str(memory.worlds), "--batch", str(batch), "--learn-every", str(batch // 8)]
        sys.argv += ["--learn-start", "0", "--epsilon-steps", "0", "--capacity", str(memory.capacity)]
        sys.argv += ["--evaluate-every", never, "--save-every", never, "--wandb", "disabled"]
        runpy.run_module("agents.dqn", run_name="__main__", alter_sys=True)
    half = updates // 2  # the first half warms up
    drawn, learned = 1e3 * median(sampling[half:]), 1e3 * median(learning[half:])
    return {"batch": batch, "sample_ms": drawn, "learn_ms": learned, "share": drawn / learned}


def uniform(options: argparse.Namespace) -> None:
    """Adds and draws of frames against SB3's, bytes of each, and the share of an update that drawing takes."""
    setting = circumstances()
    adds: dict[int, dict[str, list[float]]] = {}
    samples: dict[int, dict[str, list[float]]] = {}
    for worlds in options.at_once:
        made = {name: make(options.capacity, worlds) for name, make in CONTESTANTS.items()}
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
    del made

    large = FrameReplay(MILLION, worlds, stack=SHAPE[0])
    large.add(episode(worlds)[0])  # storage is laid out by the first add, and touched only where written
    gigabytes = large.nbytes / 1e9
    del large
    share = share_of_update(ours, 512, options.updates) if options.updates else None

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
            for name in CONTESTANTS
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
        | setting,
        options.json,
    )
    print(f"1,000,000 transitions take {gigabytes:.3f} GB")
    if share:
        print(
            f"agents.dqn, batch {share['batch']}: sampling {share['sample_ms']:.1f} ms, "
            f"learning {share['learn_ms']:.1f} ms, ratio {share['share']:.3f}"
        )


# The prioritized part.

EXPONENT, BETA, AT_ONCE = 0.6, 0.4, 8  # AT_ONCE: worlds, and transitions of one add


def prioritized_cycle(capacity: int, batch: int) -> tuple[PrioritizedReplay, Callable[[], int]]:
    """A full memory, and a call that draws from it and sets the priorities of what was drawn."""
    memory = PrioritizedReplay(RowReplay(capacity, AT_ONCE), EXPONENT)
    zeros = torch.zeros(AT_ONCE)
    observation = torch.rand(AT_ONCE, 4)
    step = Transition(observation, zeros.long(), zeros, zeros + 1, observation, zeros.bool())
    for _ in range(capacity // AT_ONCE):
        memory.add(step)
    memory.sample(1)  # from now on all priorities are known
    for index in torch.arange(capacity // AT_ONCE * AT_ONCE).split(1 << 16):
        memory.update(index, torch.rand(len(index)))
    errors = torch.rand(batch)

    def call() -> int:
        memory.update(memory.sample(batch, beta=BETA).index, errors)
        return 1

    return memory, call


def cpprb_cycle(capacity: int, batch: int) -> tuple[object, Callable[[], int]]:
    from cpprb import PrioritizedReplayBuffer

    vector = {"shape": 4, "dtype": np.float32}
    flag = {"dtype": np.bool_}
    fields = {"obs": vector, "act": {"dtype": np.int64}, "rew": {}, "discount": {}, "next_obs": vector, "last": flag}
    memory = PrioritizedReplayBuffer(capacity, fields, alpha=EXPONENT)
    random, many = np.random.default_rng(0), 1000
    for _ in range(-(-capacity // many)):
        observation, zeros = random.random((many, 4), dtype=np.float32), np.zeros(many)
        memory.add(
            obs=observation,
            act=zeros,
            rew=zeros,
            discount=zeros,
            next_obs=observation,
            last=zeros,
            priorities=random.random(many),
        )
    errors = random.random(batch)

    def call() -> int:
        memory.update_priorities(memory.sample(batch, beta=BETA)["indexes"], errors)
        return 1

    return memory, call


def prioritized(options: argparse.Namespace) -> None:
    """Draw and update in memories of every size, all taking turns; and bytes of a million pictures."""
    setting = circumstances()
    calls, kept = {}, []
    for size in options.sizes:
        for name, make in [("saccade", prioritized_cycle), ("cpprb", cpprb_cycle)]:
            memory, calls[name, size] = make(size, options.batch)
            kept.append(memory)
    rates = alternate(calls, options.rounds, options.seconds)
    del kept, calls

    large = PrioritizedReplay(FrameReplay(MILLION, AT_ONCE, stack=SHAPE[0]))
    large.add(episode(AT_ONCE)[0])
    gigabytes = large.nbytes / 1e9
    smallest, biggest = min(options.sizes), max(options.sizes)
    growth = {name: ratio(rates, (name, smallest), (name, biggest)) for name in ("saccade", "cpprb")}
    logarithm = math.log(biggest) / math.log(smallest)
    against = {size: ratio(rates, ("saccade", size), ("cpprb", size)) for size in options.sizes}
    report(
        f"draw {options.batch} and update them, {options.rounds} windows of {options.seconds:g} s",
        ["memory", *(f"cycles/s of {size:,}" for size in options.sizes), "time grows by"],
        [
            [name, *(f"{median(rates[name, size]):,.0f}" for size in options.sizes), growth[name]]
            for name in ("saccade", "cpprb")
        ],
        {
            "benchmark": "replay_speed prioritized",
            "batch": options.batch,
            "seconds": options.seconds,
            "cycles_per_second": {f"{name} {size}": each for (name, size), each in rates.items()},
            "ratio_to_cpprb": against,
            "growth": growth,
            "growth_of_log": logarithm,
            "gigabytes_for_a_million": gigabytes,
        }
        | setting,
        options.json,
    )
    print("times cpprb's rate: " + ", ".join(f"{against[size]:.2f} at {size:,}" for size in options.sizes))
    print(f"log n grows by {logarithm:.2f} from {smallest:,} to {biggest:,}")
    print(f"1,000,000 prioritized transitions of 84 x 84 x 4 take {gigabytes:.3f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capacity", type=int, default=50_000, help="transitions (SB3 needs 56 kB for each)")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 16], help="transitions of one add")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 512], help="sampled at once")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each (default %(default)s)")
    parser.add_argument("--updates", type=int, default=40, help="of agents.dqn for the last line; 0 leaves it out")
    parser.add_argument("--part", choices=["uniform", "prioritized"], default="uniform", help="what to measure")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, MILLION], help="of the prioritized part")
    parser.add_argument("--batch", type=int, default=512, help="of the prioritized part")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    if options.part == "uniform":
        uniform(options)
    else:
        prioritized(options)


if __name__ == "__main__":
    main()
