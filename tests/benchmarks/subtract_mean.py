"""What --subtract-mean does to the first updates: units of the dense layers that are still alive, values that differ.

    python tests/benchmarks/subtract_mean.py
    python tests/benchmarks/subtract_mean.py --games Pong Breakout --seeds 2 --json results/center.json

agents.rainbow trains for a few hundred updates, as it is: with every component off (DQN), and with all of them by the
paper's network (no layer norms, sigma 0.5), with and without --subtract-mean. Then, on 256 observations of random
play: the share of hidden units in the dense layers that are above 0 in any of them, and how far the values of states
lie apart (their standard deviation).
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from paired import circumstances, report
from torch import Tensor, nn

import envs
from agents.config import world_options
from agents.loading import load_checkpoint
from agents.rainbow import loop as rainbow
from runs.groups import interval

BEFORE = 5_000  # steps of random play before the first update


class Seen(NamedTuple):
    """What a network says of the observations that are looked at."""

    alive: float  # share of hidden units above 0 anywhere
    spread: float  # standard deviation of the values of states


def config_of(agent: str, game: str, seed: int, subtract_mean: bool, updates: int, folder: Path) -> rainbow.Config:
    plain = rainbow.recipe(rainbow.Config(only="rainbow" if agent == "rainbow" else "double", env=game))
    steps = BEFORE + updates * plain.learn_every
    short = dict(steps=steps, learn_start=BEFORE, capacity=2 * steps, evaluate_every=0)
    network = dict(double=agent == "rainbow", norm="none", sigma=0.5, subtract_mean=subtract_mean)
    name = f"{agent}-{'centered' if subtract_mean else 'plain'}-{seed}"
    place = dict(seed=seed, folder=folder, name=name, device="cpu", wandb="disabled")
    return dataclasses.replace(plain, **short, **network, **place)


def learned(config: rainbow.Config) -> Seen:
    """What the network is like after a short training."""
    rainbow.train(config)
    world = envs.make(config.env, 32, seed=config.seed, **world_options(config))
    network = rainbow.build(config, world).eval()
    network.load_state_dict(load_checkpoint(config.folder / world.name / config.name, "last")["parts"]["online"])
    generator, shown = torch.Generator().manual_seed(config.seed), []
    for step in range(200):
        world.step(torch.randint(world.actions, (world.count,), generator=generator))
        if step % 25 == 24:
            shown.append(world.observation.clone())
    world.close()
    return style(network, torch.cat(shown))


@torch.no_grad()
def style(network: rainbow.RainbowNetwork, observation: Tensor) -> Seen:
    features = network.backbone(observation)[-1].permute(0, 2, 3, 1).flatten(1)
    streams = [stream for stream in (network.advantage, network.value) if stream is not None]
    hidden = torch.cat([nn.Sequential(*stream[:-1])(features) for stream in streams], 1)
    return Seen((hidden > 0).any(0).float().mean().item(), network(observation).max(1).values.std().item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["Pong"])
    parser.add_argument("--agents", nargs="+", default=["dqn", "rainbow"], choices=["dqn", "rainbow"])
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        for game in options.games:
            for agent in options.agents:
                for subtract_mean in (False, True):
                    each = [
                        learned(config_of(agent, game, seed + 1, subtract_mean, options.updates, Path(folder)))
                        for seed in range(options.seeds)
                    ]
                    subtracted = {name: interval([getattr(one, name) for one in each]) for name in Seen._fields}
                    words = [f"{mean:.3f} ± {half:.3f}" for mean, half in subtracted.values()]
                    rows.append([game, agent, "yes" if subtract_mean else "no", *words])
                    found.append({"game": game, "agent": agent, "center": subtract_mean} | subtracted)
    asked = {name: getattr(options, name) for name in ("updates", "seeds")}
    columns = ["game", "agent", "--subtract-mean", "units alive", "spread of values"]
    title = f"After {options.updates} updates, {options.seeds} seeds"
    report(title, columns, rows, circumstances() | asked | {"found": found}, options.json)


if __name__ == "__main__":
    main()
