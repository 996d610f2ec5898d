"""Variance of REINFORCE's gradient by credit and baseline: the effect of each step of variance reduction.

    python -m agents.studies.gradient_variance --env CartPole
    python -m agents.studies.gradient_variance --env Catch --stages 0 8000 40000

agents/reinforce.py trains a policy for as many steps as each stage says. Then it plays many episodes without
learning, and each episode gives one estimate of the gradient by every estimator: the return of the whole episode, or
the reward to go, less each of the baselines. All of them estimate the same gradient (--discount is 1, and time limits
end the sum), so that the estimator with the smaller variance is the better one. The result, as a table, a picture and
JSON, is the variance summed over all weights of the policy, with a 95% interval (bootstrap over episodes), and the
number of episodes whose mean is as precise as that of 100 episodes without variance reduction.

The constant baseline is the mean over the other measured episodes, the moving one the mean over episodes that were
played just before, the learned one the critic that was trained with the policy.
Source: Sutton & Barto 2018, sections 13.3 and 13.4; Greensmith et al. 2004, "Variance reduction techniques for
gradient estimates in reinforcement learning".
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import envs
import runs
from agents import reinforce
from agents.loading import load_checkpoint
from agents.networks import actor_critic
from envs import Transition, World
from replay.episodes import Episodes
from runs import machine, output
from runs.flag_types import Share
from runs.printing import compact_json

ESTIMATORS = [  # credit and baseline, from no variance reduction to all
    ("return", "none"),
    ("return", "constant"),
    ("reward_to_go", "none"),
    ("reward_to_go", "constant"),
    ("reward_to_go", "moving"),
    ("reward_to_go", "learned"),
]


@dataclasses.dataclass(frozen=True)
class Config:
    env: str = "CartPole"  # the world
    stages: tuple[int, ...] = (0, 20_000, 60_000)  # agent steps of training before each measurement
    episodes: int = 400  # measured at each stage
    discount: Share = 1.0  # of the return, per step; below 1 the two credits estimate different gradients
    seed: int = 1
    folder: Path = Path("results")  # for the training runs and <world>/variance-<seed>/


def collect_episodes(
    network: actor_critic.ActorCritic, world: World, episodes: int, seed: int
) -> tuple[Transition, Tensor]:
    """Play M whole episodes: every field (T, M, ...), and which steps are theirs, (T, M) bool."""
    records: list[tuple[Transition, Tensor]] = []
    for k in range(math.ceil(episodes / world.count)):
        world.reset(seed + k)
        played = Episodes(Transition)
        while not played.complete:
            with torch.inference_mode():
                action = network.head.sample(network(world.observation)[0])
            played.add(world.step(network.head.environment_action(action)), action)
        records.append(played.take())
    max_steps = max(len(used) for _, used in records)

    def join(fields: list[Tensor]) -> Tensor:
        padded = [torch.cat([each, each.new_zeros(max_steps - len(each), *each.shape[1:])]) for each in fields]
        return torch.cat(padded, 1)[:, :episodes]

    record = Transition(*(join(list(field)) for field in zip(*(record for record, _ in records), strict=True)))
    return record, join([used for _, used in records])


def gradients(network: actor_critic.ActorCritic, record: Transition, used: Tensor, weight: Tensor) -> Tensor:
    """Each episode's estimate of the policy's gradient, sum over its steps of weight * grad log pi, (M, P).

    record: (T, M, ...). used: (T, M) bool. weight: (K, T, M), by K estimators; then (K, M, P).
    """
    weights = [w for name, w in network.named_parameters() if not name.startswith(("value", "critic_encoder"))]
    result = []
    for m in range(used.shape[1]):
        kept = used[:, m]
        parameters, _ = network(record.observation[kept, m])
        log_prob = network.head.log_prob(parameters, record.action[kept, m])
        estimates = []
        for row in weight[:, kept, m]:
            pieces = torch.autograd.grad(log_prob @ row, weights, retain_graph=True)
            estimates.append(torch.cat([piece.flatten() for piece in pieces]))
        result.append(torch.stack(estimates))
    return torch.stack(result, 1)


def total_variance(gradient: Tensor) -> tuple[float, float, float]:
    """Sum over weights of the variance over episodes of gradient (M, P), and its 95% interval by bootstrap."""
    squared_deviation = (
        (gradient - gradient.mean(0)).square().sum(1).double().numpy() * len(gradient) / (len(gradient) - 1)
    )
    drawn = np.random.default_rng(0).choice(squared_deviation, (2_000, len(squared_deviation))).mean(1)
    return float(squared_deviation.mean()), *(float(x) for x in np.percentile(drawn, [2.5, 97.5]))


def measure(
    config: Config, network: actor_critic.ActorCritic, world: World, asked: reinforce.Config
) -> dict[str, tuple]:
    """The variance of every estimator for a policy, {"reward_to_go, none": (variance, low, high), ...}."""
    before, before_used = collect_episodes(network, world, min(config.episodes, 64), 10_000 * config.seed)
    record, used = collect_episodes(network, world, config.episodes, 10_000 * config.seed + 5_000)
    with torch.no_grad():
        value = torch.stack([network(step)[1] for step in record.observation])
    weights = []
    for credit, baseline in ESTIMATORS:
        by = dataclasses.replace(asked, credit=credit, baseline=baseline, discount=config.discount)
        zeros = torch.zeros(used.shape[1])
        weight = reinforce.step_returns(by, record.reward, used, zeros)
        earlier = reinforce.step_returns(by, before.reward, before_used, torch.zeros(before_used.shape[1]))
        moving = earlier.sum() / before_used.sum()
        weights.append((weight - reinforce.baselines(by, weight, used, value, moving)) * used)
    found = gradients(network, record, used, torch.stack(weights))
    return {
        f"{credit}, {baseline}": total_variance(each)
        for (credit, baseline), each in zip(ESTIMATORS, found, strict=True)
    }


def draw(result: dict[str, dict[str, tuple]], path: Path, title: str) -> None:
    """Draw bars of the variance, a group for each stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panel = figure.subplots()
    names = list(next(iter(result.values())))
    for k, name in enumerate(names):
        place = np.arange(len(result)) + (k - len(names) / 2) * 0.13
        rows = np.array([stage[name] for stage in result.values()])
        spread = np.abs(rows[:, 1:].T - rows[:, 0])
        panel.bar(place, rows[:, 0], 0.12, yerr=spread, label=name.replace("_", " "), capsize=2)
    panel.set_yscale("log")
    panel.set_xticks(range(len(result)), [f"after {int(stage):,} steps" for stage in result])
    panel.set_ylabel("variance of one episode's gradient")
    panel.set_title(title, fontsize=11)
    panel.legend(fontsize=8, ncols=2)
    output.draw(path, figure, "--folder", dpi=130)


def main(config: Config) -> None:
    if config.episodes < 2:
        raise ValueError(f"--episodes {config.episodes}: a variance is of 2 or more")
    device = runs.prepare("cpu", config.seed, 1)
    asked = reinforce.recipe(reinforce.Config(env=config.env))
    asked = dataclasses.replace(
        asked, seed=config.seed, folder=config.folder, wandb="disabled", film_seconds=0.0, anneal_lr=False
    )
    world = envs.make(config.env, 16, seed=config.seed + 1000, device=device, **reinforce.world_options(asked))
    result: dict[str, dict[str, tuple]] = {}
    for steps in config.stages:
        torch.manual_seed(config.seed)
        network = actor_critic.build(asked, world)
        if steps:
            trained = dataclasses.replace(
                asked, steps=steps, discount=config.discount, name=f"variance-{steps}-{config.seed}"
            )
            trained = dataclasses.replace(trained, evaluate_every=steps)
            with contextlib.suppress(runs.Finished):  # a run of the same flags exists already
                reinforce.train(trained)
            network.load_state_dict(
                load_checkpoint(config.folder / world.name / trained.name, "last")["parts"]["network"]
            )
            torch.manual_seed(config.seed)  # the same draws, whether it was trained now or by an earlier command
        result[str(steps)] = measure(config, network, world, asked)
    folder = config.folder / world.name / f"variance-{config.seed}"
    about = {"env": world.name, "episodes": config.episodes, "discount": config.discount, "seed": config.seed}
    about |= machine.circumstances("agents.studies.gradient_variance", device)
    output.write(folder / "variance.json", compact_json(about | {"variance": result}) + "\n", "--folder")
    draw(
        result, folder / "variance.png", f"{world.name}: variance of the policy gradient, {config.episodes} episodes"
    )

    table = Table(title=f"{world.name}: variance of one episode's gradient, and episodes as good as 100 plain ones")
    for column in ("credit, baseline", *(f"{int(stage):,} steps" for stage in result)):
        table.add_column(column, justify="left" if column.startswith("credit") else "right")
    for name in next(iter(result.values())):
        plain = [stage["return, none"][0] for stage in result.values()]
        cells = [
            f"{stage[name][0]:.3g} [{stage[name][1]:.3g}, {stage[name][2]:.3g}]  {100 * stage[name][0] / base:.0f}"
            for stage, base in zip(result.values(), plain, strict=True)
        ]
        table.add_row(name.replace("_", " "), *cells)
    Console().print(table)
    print(f"written to {folder}")


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.studies.gradient_variance", __doc__)
