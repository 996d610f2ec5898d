"""What --centre does to the first updates: units of the dense layers that are still alive, values that differ.

    python tests/benchmarks/centre.py
    python tests/benchmarks/centre.py --games Pong Breakout --seeds 1 --json results/centre.json

An agent's network, as its program builds it (Rainbow's without layer norms and with the paper's noise), learns from
one memory of random play, the same with and without --centre. Then, on 256 observations: the share of hidden units in
the dense layers that are above 0 in any of them, and how far the values of states lie apart (their standard
deviation).
"""

import argparse
import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from paired import circumstances, report
from torch import Tensor, nn

import envs
import runs
from agents import arithmetic, dqn, rainbow, setting
from agents.arithmetic import precision
from agents.n_step import n_step_return
from replay import Memory
from runs.compare import interval


class Held(NamedTuple):
    """What the network says of the observations that are looked at."""

    alive: float  # share of hidden units above 0 anywhere
    spread: float  # standard deviation of the values of states
    loss: float


def config_of(agent: str, game: str, seed: int, centre: bool) -> rainbow.Config:
    recipe = rainbow.recipe("double" if agent == "dqn" else agent, rainbow.Config(env=game))
    double = agent != "dqn" and recipe.double
    network = dict(centre=centre, norm="none", sigma=0.5, double=double)
    return dataclasses.replace(recipe, **network, seed=seed, device="cpu", wandb="disabled")


def played(config: rainbow.Config, steps: int) -> tuple[envs.World, Memory]:
    """A world, and a memory of random play in it."""
    world = envs.make(config.env, config.worlds, seed=config.seed, **setting.options(config))
    memory = dqn.remember(dataclasses.replace(config, capacity=2 * steps), world, None)
    generator = torch.Generator().manual_seed(config.seed)
    for _ in range(steps // world.count):
        memory.add(world.step(torch.randint(world.actions, (world.count,), generator=generator)))
    return world, memory


def learned(config: rainbow.Config, steps: int, updates: int) -> Held:
    """What a network is like after so many updates from random play."""
    device = runs.prepare("cpu", config.seed, config.threads)
    world, memory = played(config, steps)
    torch.manual_seed(config.seed)
    online = rainbow.build(config, world)
    setting.look_around(config, online)
    target = arithmetic.shadow(config, online)
    optimizer = arithmetic.adam(config, online)
    observation = memory.sample(256, config.n_step).observation
    for update in range(updates):
        batch = memory.sample(config.batch, config.n_step)
        reward, discount = batch.reward.sign(), config.discount * batch.discount
        if config.n_step > 1:
            reward, discount = n_step_return(reward, batch.discount, batch.last, config.discount)
        with torch.no_grad(), precision(config, device):
            following, judge = rainbow.look_ahead(config, online, target, batch.next_observation)
            y = rainbow.target_of(config, target, following, judge, reward, discount)
        with precision(config, device):
            prediction = online.predict(batch.observation)
        loss = rainbow.loss_of(config, prediction, batch.action, y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (update + 1) * config.learn_every % config.copy_every == 0:
            target.load_state_dict(online.state_dict())
    return look(online.eval(), observation, loss.item())


@torch.no_grad()
def look(network: rainbow.Network, observation: Tensor, loss: float) -> Held:
    features = network.backbone(observation)[-1].permute(0, 2, 3, 1).flatten(1)
    streams = [stream for stream in (network.advantage, network.value) if stream is not None]
    hidden = torch.cat([nn.Sequential(*stream[:-1])(features) for stream in streams], 1)
    value = network(observation).max(1).values
    return Held((hidden > 0).any(0).float().mean().item(), value.std().item(), loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=["Pong"])
    parser.add_argument("--agents", nargs="+", default=["dqn", "rainbow"], choices=["dqn", *rainbow.ALONE])
    parser.add_argument("--steps", type=int, default=11_200, help="of random play")
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, found = [], []
    for game in options.games:
        for agent in options.agents:
            for centre in (False, True):
                configs = [config_of(agent, game, seed + 1, centre) for seed in range(options.seeds)]
                each = [learned(config, options.steps, options.updates) for config in configs]
                told = {name: interval([getattr(one, name) for one in each]) for name in Held._fields}
                words = [f"{mean:.3f} ± {half:.3f}" for mean, half in told.values()]
                rows.append([game, agent, "yes" if centre else "no", *words])
                found.append({"game": game, "agent": agent, "centre": centre} | told)
    asked = {name: getattr(options, name) for name in ("steps", "updates", "seeds")}
    columns = ["game", "agent", "--centre", "units alive", "spread of values", "loss"]
    title = f"After {options.updates} updates, {options.seeds} seeds"
    report(title, columns, rows, circumstances() | asked | {"found": found}, options.json)


if __name__ == "__main__":
    main()
