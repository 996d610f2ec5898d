"""What Ape-X's actors, messages and learner cost, and at how many actors the learner is full (agents/apex).

    python tests/benchmarks/apex_scaling.py --out results/apex_scaling.json

Time is that which a process spends on the cores, per step, message or update, so that it holds where other programs
use the cores too. With --clock messages a second, broadcasts and whole pools are measured by the clock as well,
which says something on idle cores only. What a message costs the learner is its unpacking, the memory and Ray. The
learner is the program itself, whose messages were recorded, less what they cost: updates are left, from the
difference of two runs. The model: a learner on one core takes 1 / (message a step + update / learn_every) steps a
second, an actor plays 1 / step, and a link of 10 Gbit/s carries 1.25e9 / bytes a step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import torch
import tyro
from rich.console import Console
from rich.table import Table

from agents import q_learning
from agents.apex import actor_pool, loop, messages
from agents.apex.actor import Actor
from envs import World
from replay import PrioritizedReplay
from runs import machine, output, ray_connection

BROADCASTS = 20
LINK = 1.25e9  # bytes a second of the model's network, 10 Gbit/s


@dataclasses.dataclass(frozen=True)
class Config:
    env: tuple[str, ...] = ("CartPole", "Pong")
    actors: tuple[int, ...] = (1, 2, 4)  # of whole pools
    messages: int = 40  # that an actor plays, and the learner is given again and again
    seconds: float = 10.0  # of each measurement of Ray
    clock: bool = False  # also what only idle cores show
    learner_steps: int = 6_000  # of the longer of two runs of the learner
    out: Path = Path("results/apex_scaling.json")


def core_seconds(function: Callable[[], Any]) -> float:
    """Seconds that this process spends on the cores in a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


class Recorded:
    """A Team whose messages were played before."""

    def __init__(self, played: list[messages.Message]) -> None:
        self.played, self.version, self.lost, self.discarded = itertools.cycle(played), -1, 0, 0

    def publish(self, weights: Any, version: int) -> None:
        """Take the version."""
        self.version = version

    def receive(self, updates: int) -> messages.Message:
        """The next message, as if it had just been played."""
        return next(self.played)._replace(version=updates)


def stored(config: loop.Config, played: list[messages.Message], world: World) -> float:
    """Seconds on the cores that a step costs the learner until it is in the memory."""
    config = dataclasses.replace(config, capacity=20_000)
    memory = PrioritizedReplay(q_learning.build_memory(config, world, None, config.n_step), 0.6)

    def store() -> None:
        for message in played:
            for transition, error in messages.unpack(message, torch.device("cpu")):
                memory.add(transition, error)

    store()
    return core_seconds(store) / (len(played) * config.stride)


def learner(config: loop.Config, played: list[messages.Message], steps: int, learn_every: int) -> float:
    """Seconds on the cores of a run's learner a step, from recorded messages, without start and end."""
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (steps // 3, steps):
            run = dataclasses.replace(
                config, steps=count, learn_every=learn_every, folder=Path(folder), name=f"{count}",
                capacity=20_000, learn_start=config.stride * 4,
            )  # fmt: skip
            loop.open_actor_pool = lambda *_: contextlib.nullcontext(Recorded(played))
            spent.append(core_seconds(lambda run=run: loop.train(run)))
    return (spent[1] - spent[0]) / (steps - steps // 3)


class Echo:
    """An actor that plays nothing: what is left is Ray's own time."""

    def __init__(self, message: messages.Message) -> None:
        self.message = message

    def play(self) -> messages.Message:
        """The message that it was made with."""
        return self.message

    def take(self, weights: Any) -> int:
        """Receive weights."""
        return len(weights)


def echoed(config: Config, message: messages.Message, weights: Any, count: int) -> dict[str, float]:
    """Ray's own costs with `count` actors that play nothing: of a message and of a broadcast of weights."""
    actors = [ray.remote(Echo).remote(message) for _ in range(count)]
    replies = {actor.play.remote(): actor for actor in actors}
    ray.get(list(replies))
    received, began, spent = 0, time.monotonic(), time.process_time()
    while time.monotonic() - began < config.seconds:
        ready, _ = ray.wait(list(replies), timeout=1.0)
        for reply in ready:
            actor = replies.pop(reply)
            ray.get(reply)
            replies[actor.play.remote()] = actor
            received += 1
    clock, spent = time.monotonic() - began, time.process_time() - spent
    broadcasts, shared_core = [], time.process_time()
    for _ in range(BROADCASTS):
        began = time.monotonic()
        shared = ray.put(weights)
        ray.get([actor.take.remote(shared) for actor in actors])
        broadcasts.append(time.monotonic() - began)
    shared_core = (time.process_time() - shared_core) / BROADCASTS
    for actor in actors:
        ray.kill(actor)
    found = {"learner_core_seconds_a_message": spent / received, "learner_core_seconds_a_broadcast": shared_core}
    timed = {"messages_per_second": received / clock, "seconds_of_a_broadcast": statistics.median(broadcasts)}
    return found | (timed if config.clock else {})


def whole(config: Config, asked: loop.Config, count: int) -> float:
    """Steps a second of the clock that a pool's messages bring, without learning."""
    asked = dataclasses.replace(asked, actors=count)
    network = loop.build(asked, Actor(asked, loop.build, 0, 1).world)
    players = actor_pool.ActorPool(ray, asked, loop.build, 1)
    players.publish(messages.weights(network), 0)
    for _ in range(2 * count):
        players.receive(0)
    received, began = 0, time.monotonic()
    while time.monotonic() - began < config.seconds:
        players.receive(0)
        received += 1
    clock = time.monotonic() - began
    players.close()
    return received * asked.stride / clock


def measure(config: Config, env: str) -> dict[str, Any]:
    """All costs of a world by its recipe."""
    shared = dict(device="cpu", wandb="disabled", threads=1, evaluate_every=0, log_every=10**9, film_seconds=0.0)
    asked = dataclasses.replace(loop.recipe(loop.Config(env=env)), **shared)
    actor = Actor(asked, loop.build, 0, 1)
    actor.play(0, None)
    played: list[messages.Message] = []
    spent = core_seconds(lambda: played.extend(actor.play(0, None) for _ in range(config.messages)))
    weights = messages.weights(actor.network)
    message = max(played, key=messages.size)
    ingest = stored(asked, played, actor.world)
    both = learner(asked, played, config.learner_steps, 4)
    found = {
        "actor_core_seconds_a_step": spent / (config.messages * asked.stride),
        "bytes_a_step": sum(map(messages.size, played)) / (config.messages * asked.stride),
        "learner_core_seconds_a_step": ingest,
        "core_seconds_an_update": 4 * (both - ingest),
        "batch": asked.batch, "learn_every": asked.learn_every, "steps_a_message": asked.stride,
        "weights_bytes": sum(value.nbytes for value in weights.values()),
    }  # fmt: skip
    with ray_connection.connected("local", max(config.actors) + 1):
        found["ray"] = {count: echoed(config, message, weights, count) for count in config.actors}
        if config.clock:
            found["steps_per_second_of_a_team"] = {count: whole(config, asked, count) for count in config.actors}
    return found | {"model": model(found)}


def model(found: dict[str, Any]) -> dict[str, float]:
    """Where a learner on one core, and a network, are full, from the costs of one world."""
    ray_seconds = found["ray"][min(found["ray"])]["learner_core_seconds_a_message"] / found["steps_a_message"]
    step = found["learner_core_seconds_a_step"] + ray_seconds
    most = 1 / (step + found["core_seconds_an_update"] / found["learn_every"])
    return {
        "samples_per_second": found["batch"] / found["core_seconds_an_update"],
        "learner_steps_per_second": most,
        "steps_per_second_without_updates": 1 / step,
        "actor_steps_per_second": 1 / found["actor_core_seconds_a_step"],
        "actors_of_a_full_learner": most * found["actor_core_seconds_a_step"],
        "actors_of_a_learner_without_updates": found["actor_core_seconds_a_step"] / step,
        "steps_per_second_of_a_full_link": LINK / found["bytes_a_step"],
        "actors_of_a_full_link": LINK / found["bytes_a_step"] * found["actor_core_seconds_a_step"],
    }


def rows(found: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    """A line of numbers for every world."""
    for env, each in found.items():
        numbers = each["model"]
        yield [
            env,
            f"{1e3 * each['actor_core_seconds_a_step']:.2f}",
            f"{each['bytes_a_step']:,.0f}",
            f"{1e3 * each['learner_core_seconds_a_step']:.3f}",
            f"{1e3 * each['core_seconds_an_update']:.1f}",
            f"{numbers['samples_per_second']:,.0f}",
            f"{numbers['learner_steps_per_second']:,.0f}",
            f"{numbers['actors_of_a_full_learner']:.1f}",
            f"{numbers['actors_of_a_learner_without_updates']:.0f}",
            f"{numbers['actors_of_a_full_link']:,.0f}",
        ]


def main(config: Config) -> None:
    torch.set_num_threads(1)
    found = {env: measure(config, env) for env in config.env}
    table = Table(title="ms of a core")
    for column in ("world", "actor, step", "bytes a step", "learner, step", "update", "samples/s", "steps/s"):
        table.add_column(column, justify="right")
    for column in ("actors", "without updates", "of 10 Gbit/s"):
        table.add_column(column, justify="right")
    for row in rows(found):
        table.add_row(*row)
    Console().print(table)
    state = {"benchmark": "apex_scaling", "config": {**dataclasses.asdict(config), "out": None}, "worlds": found}
    state |= {"hardware": machine.hardware(torch.device("cpu")), "load_average": os.getloadavg()[0]}
    state |= {"versions": {"ray": ray.__version__, "torch": torch.__version__}, "date": time.strftime("%Y-%m-%d")}
    output.write(config.out, json.dumps(state | {"commit": machine.commit()}, indent=1), "--out")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
