"""What tests/benchmarks/gpu.py measures, a job at a time: python gpu_jobs.py JOBS.json REPORT.jsonl

Every job writes a line when it begins and one with its result when it ends, so that whoever started this process
knows what was going on when it hung or died. After an error of the device, which nothing here survives, it ends.
"""

import contextlib
import dataclasses
import faulthandler
import gc
import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv

import envs
import runs
from envs import Transition
from replay import FrameReplay, PrioritizedReplay
from runs import trace
from runs.log import Log
from vision import data
from vision.classification import train as classification

NEVER = 10**9  # steps
TOP = 15  # kernels and operations listed of a profile
WORLDS: dict[str, envs.World] = {}  # open worlds, used again by the next job: loading a ROM takes 0.1 s
make_world = envs.make


class Report:
    """Lines of JSON in a file: {"job", "event", "time", ...}."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, job: str, event: str, **more: Any) -> None:
        """Append a line, at once."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"job": job, "event": event, "time": time.time()} | more) + "\n")


def wait(device: torch.device) -> None:
    """Until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(call: Callable[[], int], seconds: float, device: torch.device, warm_up: int = 3) -> dict[str, float]:
    """Work a second, and milliseconds a call; each call returns how much work it was."""
    for _ in range(warm_up):
        call()
    wait(device)
    work, calls, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(8):
            work, calls = work + call(), calls + 1
    wait(device)
    took = time.perf_counter() - began
    return {"per_second": work / took, "ms_a_call": 1000 * took / calls}


def kept_world(name: str, count: int = 1, seed: int = 1, device: Any = "cpu", **options: Any) -> envs.World:
    """envs.make, but a world that an earlier job had is handed out as it is: its games go on."""
    key = repr((name, count, str(device), sorted(options.items())))
    if key not in WORLDS:
        if len(WORLDS) >= 4:
            del WORLDS[next(iter(WORLDS))]
        WORLDS[key] = make_world(name, count, seed=seed, device=device, **options)
        WORLDS[key].close = lambda: None  # a program that has used it up does not end it
    return WORLDS[key]


# the jobs: each returns numbers


def emulator(device: torch.device, seconds: float, worlds: int, game: str = "Breakout") -> dict[str, float]:
    """A world alone: random actions, observations on the device; steps/s of all its games."""
    world = kept_world(game, worlds, device=device)

    def step() -> int:
        world.step(torch.randint(world.actions, (worlds,), device=device))
        return worlds

    return rate(step, seconds, device)


def bare_emulator(device: torch.device, seconds: float, worlds: int, threads: int, game: str) -> dict[str, float]:
    """ALE's vector environment by itself, its games started by random no-ops and played by chance; steps/s."""
    emulators = AtariVectorEnv(game, num_envs=worlds, num_threads=threads, autoreset_mode="SameStep", noop_max=31)
    emulators.reset(seed=1)
    draw = np.random.default_rng(1)

    def step() -> int:
        emulators.step(draw.integers(emulators.single_action_space.n, size=worlds, dtype=np.int32))
        return worlds

    return rate(step, seconds, device)


def memory(device: torch.device, seconds: float, capacity: int, worlds: int, batch: int) -> dict[str, Any]:
    """A full memory on the device: seconds to fill it, draws of `batch`, uniform, of three steps and prioritized."""
    frames = FrameReplay(capacity, worlds, 4, device=device)
    stored = PrioritizedReplay(frames, 0.5)
    reel = torch.randint(256, (worlds, 64, 84, 84), dtype=torch.uint8, device=device)
    zeros = torch.zeros(worlds, device=device)
    began = time.perf_counter()
    for step in range(capacity // worlds):
        at = step % 60
        last = torch.zeros(worlds, dtype=torch.bool, device=device) if at < 59 else torch.ones_like(zeros).bool()
        seen, then = reel[:, at : at + 4], reel[:, at + 1 : at + 5]
        stored.add(Transition(seen, zeros.long(), zeros, 1 - last.float(), then, last))
    wait(device)
    result: dict[str, Any] = {"fill_seconds": time.perf_counter() - began, "gigabytes": stored.nbytes / 1e9}
    error = torch.rand(batch, device=device)

    def prioritized() -> int:
        drawn = stored.sample(batch, 3)
        stored.update(drawn.index, error)
        return batch

    calls = {
        "uniform": lambda: len(frames.sample(batch).action),
        "three_steps": lambda: len(frames.sample(batch, 3).action),
        "prioritized_and_updated": prioritized,
    }
    for name, call in calls.items():
        result[name] = rate(call, seconds, device)
    return result


class Timed:
    """A run's iterations that end by the clock, counted after some that learned; or when their profile is written."""

    def __init__(self, device: torch.device, seconds: float, warm_up: int, profile: int) -> None:
        self.device, self.seconds, self.warm_up, self.profile = device, seconds, warm_up, profile
        self.result: dict[str, float] = {}
        self.plain = runs.Run.steps

    def __call__(self, run: runs.Run, total: int, stride: int = 1) -> Iterator[int]:
        inner, learned, began, first = self.plain(run, total, stride), 0, None, 0
        entered = time.perf_counter()
        for step in inner:
            learned += has_learned(run)
            if self.profile:
                if (run.folder / "profile/profile.txt").exists():
                    inner.close()
                    return
            elif began is None and learned > self.warm_up:
                wait(self.device)
                began, first = time.perf_counter(), step
                self.result["warm_up_seconds"] = began - entered
            elif began is not None and time.perf_counter() - began > self.seconds:
                wait(self.device)
                took = time.perf_counter() - began
                iterations = (step - first) // stride
                self.result |= {"per_second": (step - first) / took, "ms_an_iteration": 1000 * took / iterations}
                if self.device.type == "cuda":
                    self.result["gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
                inner.close()
                return
            yield step


def has_learned(run: runs.Run) -> bool:
    log: Log = run._log
    return log.learned


def train(
    device: torch.device, seconds: float, program: str, flags: dict[str, Any], warm_up: int = 8, profile: int = 0
) -> dict[str, Any]:
    """A program's own loop, without evaluations and checkpoints: steps/s; with `profile`, where their time goes."""
    module = importlib.import_module(program)
    common = dict(wandb="disabled", evaluate_every=NEVER, save_every=float(NEVER), log_every=2_000, profile=profile)
    if hasattr(module.Config, "film_seconds"):
        common |= dict(film_seconds=0.0, evaluate_first=0)
    asked = ("env", "only", "data", "backbone", "images", "model", "task")
    chosen = {key: flags[key] for key in asked if key in flags}
    config = getattr(module, "recipe", lambda config: config)(module.Config(**chosen))
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, device=str(device), folder=Path(folder), **common | flags)
        timed = Timed(device, seconds, warm_up, profile)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with mock.patch.object(runs.Run, "steps", lambda *given, **named: timed(*given, **named)):
            with mock.patch.object(envs, "make", kept_world):
                module.train(config)
        return timed.result | (read_profile(Path(folder)) if profile else {})


def read_profile(folder: Path) -> dict[str, Any]:
    """Of a profile: its page, and the kernels (on a CPU the operations) that took most, in ms."""
    place = next(folder.glob("*/*/profile"))
    events = [e for e in json.loads((place / "trace.json").read_text())["traceEvents"] if e.get("ph") == "X"]
    sums = {name: sum(kinds.values()) / 1000 for name, kinds in trace.operations(events, trace.spans(events)).items()}
    top = dict(sorted(sums.items(), key=lambda item: -item[1])[:TOP])
    return {"page": (place / "profile.txt").read_text(), "top_ms": top}


def images(
    device: torch.device, seconds: float, side: int, count: int, flags: dict[str, Any], warm_up: int = 8
) -> dict[str, Any]:
    """vision.classification's own loop on random images of a side: images/s."""
    pictures = torch.randint(256, (count, 3, side, side), dtype=torch.uint8)
    labels = torch.arange(count) % 10
    part = data.Labeled(pictures, labels)
    sets = data.Sets(part, data.Labeled(pictures[:64], labels[:64]), part, tuple("0123456789"))
    with mock.patch.object(classification, "images_of", lambda config: sets):
        return train(device, seconds, "vision.classification.train", {"data": "cifar10"} | flags, warm_up)


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "emulator": emulator,
    "bare emulator": bare_emulator,
    "memory": memory,
    "train": train,
    "images": images,
}


def main() -> None:
    faulthandler.enable()
    jobs, report = json.loads(Path(sys.argv[1]).read_text()), Report(Path(sys.argv[2]))
    for job in jobs:
        report.write(job["name"], "begin")
        try:
            result = JOBS[job["kind"]](torch.device(job["device"]), job["seconds"], **job["numbers"])
        except Exception as error:
            traceback.print_exc()
            WORLDS.clear()  # one of them may be in the middle of a step
            words = f"{type(error).__name__}: {error}".strip()
            report.write(job["name"], "end", status="failed", error=words[:2_000])
            if "CUDA" in words or "cuda" in words:  # the context may be lost, and memory is
                sys.stderr.flush()
                raise SystemExit(3) from None
            continue
        report.write(job["name"], "end", status="passed", result=result)
        if torch.cuda.is_initialized():
            gc.collect()
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
