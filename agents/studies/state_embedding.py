"""A map of the states an agent meets: t-SNE of its last hidden layer, colored by the value it expects, with frames.

    python -m agents.studies.state_embedding results/Breakout/dqn-1
    python -m agents.studies.state_embedding results/Pong/ppo-1 --states 5000 --method pca

Mnih et al. 2015, figure 4: states that the network represents alike lie near each other, because they look alike or
because they are worth alike. The value is the largest action value of a Q-network, and the critic's in actor-critics.
t-SNE: van der Maaten & Hinton 2008, by openTSNE (pip install saccade[embedding]).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import tyro
from torch import Tensor, nn

import agents
import envs
import runs
from agents.evaluation import Policy
from runs import output, study_report
from runs.flag_types import Count, Positive, Whole
from runs.printing import printable
from vision.interpretation import embedding, pictures

PROGRAM = "agents.studies.state_embedding"


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[
        Path, tyro.conf.Positional
    ]  # folder of a run of an agent that sees pictures and has discrete actions
    checkpoint: Literal["best", "last"] = "best"
    states: Count = 3_000  # met in play
    every: Count = 4  # agent steps between two of them: neighbors in time look alike
    method: Literal["tsne", "pca"] = "tsne"
    perplexity: Positive = 30.0  # of t-SNE: about as many neighbors count
    frames: Count = 12  # shown around the map
    seed: Whole = 1  # of the games and the map
    device: str = "cpu"
    threads: Whole = 0  # of torch; 0: as many as cores are free
    out: Path = Path("states.png")  # where the picture goes; beside it its page and record


class States(NamedTuple):
    """States in the order in which they were met."""

    features: Tensor  # (N, D) float32, what enters the layer that gives values or logits
    values: Tensor  # (N,) float32
    frames: Tensor  # (N, C, H, W) uint8, the newest frame of each


class LastLayer:
    """What enters the linear layer of a network that is called last, and what its critic gives, of each call."""

    def __init__(self, network: nn.Module) -> None:
        self.features: Tensor | None = None
        self.critic: Tensor | None = None
        value = getattr(network, "value", None)
        self.handles = [
            layer.register_forward_hook(self._seen)
            for layer in network.modules()
            if hasattr(layer, "in_features") and layer is not value
        ]
        if isinstance(value, nn.Module):
            self.handles.append(value.register_forward_hook(self._valued))

    def _seen(self, layer: nn.Module, inputs: tuple, result: Tensor) -> None:
        self.features = inputs[0]

    def _valued(self, layer: nn.Module, inputs: tuple, result: Tensor) -> None:
        self.critic = result

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()


def collect_states(policy: Policy, world: envs.World, count: int, every: int) -> States:
    """Play one world and keep each `every`-th state, until there are `count`.

    Raises ValueError where observations are no pictures or the policy does not score discrete actions.
    """
    if len(world.observation_shape) != 3 or world.count != 1:
        raise ValueError(f"states of one world of pictures are mapped, not of {world.count} of {world.name}")
    if not hasattr(policy, "scores"):
        raise ValueError("this agent does not score discrete actions, and a map needs what it scores them by")
    layer, transition = LastLayer(policy.network), None
    features, values, frames = [], [], []
    depth = world.observation_shape[0] // world.stack
    try:
        for step in range(count * every):
            observation = world.observation
            action = policy(observation, transition)
            if step % every == 0:
                with torch.inference_mode():
                    scores = policy.scores(observation).float()
                features.append(layer.features.float().reshape(1, -1).cpu())
                values.append(layer.critic.reshape(-1)[:1] if policy.score_kind == "logits" else scores.amax(1))
                frames.append(observation[:, -depth:].cpu())
            transition = world.step(action)
    finally:
        layer.close()
    return States(torch.cat(features), torch.cat(values).float().cpu(), torch.cat(frames))


def farthest_points(points: Tensor, count: int) -> list[int]:
    """Indices of points (N, 2) far from each other: first the farthest from the middle, then from those chosen."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmax())]
    far = (points - points[chosen[0]]).norm(dim=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(far.argmax()))
        far = torch.minimum(far, (points - points[chosen[-1]]).norm(dim=1))
    return chosen


def draw(config: Config, title: str, states: States, points: Tensor) -> None:
    """Write the picture: the map, points (N, 2), and frames of some of its states with their values."""
    from matplotlib.figure import Figure

    shown = farthest_points(points, config.frames)
    columns = 4
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(14, 7), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    drawn = axes.scatter(*points.T.numpy(), s=5, c=states.values.numpy(), cmap="jet")
    left.colorbar(drawn, ax=axes, label="value", shrink=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    panels = right.subplots(rows, columns, squeeze=False).flat
    for number, (index, panel) in enumerate(zip(shown, panels, strict=False), 1):
        axes.annotate(str(number), points[index].numpy(), fontsize=11, fontweight="bold")
        panel.imshow(pictures.in_color(states.frames[index]))
        panel.set_title(f"{number}: value {states.values[index]:.2f}", fontsize=9)
    for panel in right.axes:
        panel.axis("off")
    figure.suptitle(title)
    output.draw(config.out, figure, "--out", dpi=110)


def neighbor_difference(points: Tensor, values: Tensor) -> float:
    """Mean difference in value (N,) between each point (N, 2) and the nearest, over that between two at random."""
    distance = torch.cdist(points, points).fill_diagonal_(float("inf"))
    near = (values - values[distance.argmin(1)]).abs().mean()
    return float(near / (values[:, None] - values).abs().mean().clamp(min=1e-12))


def main(config: Config) -> dict[str, Any]:
    """Play, place and draw. Returns the number of states and how much less the values of neighbors differ."""
    device = runs.prepare(config.device, config.seed, config.threads)
    agent = agents.load(config.run, config.checkpoint, device, config.seed)
    world = agent.world(1, config.seed)
    try:
        states = collect_states(agent.policy, world, config.states, config.every)
    finally:
        world.close()
    if config.method == "pca":
        points = embedding.pca(states.features)
    else:
        points = embedding.tsne(states.features, config.perplexity, config.seed, torch.get_num_threads())
    ratio = neighbor_difference(points, states.values)
    what = f"{'t-SNE' if config.method == 'tsne' else 'PCA'} of {len(points):,} states"
    title = f"{what} of {config.run.name} on {agent.env}, step {agent.step:,}"
    draw(config, printable(title), states, points)
    value = float(states.values.mean())
    head = ["states", "neighbors' difference in value", "mean value"]
    rows = [[f"{len(points):,}", f"{ratio:.3f}", f"{value:.3f}"]]
    note = "Mean difference in value between each point and the nearest, over that between two at random. One seed."
    study_report.write(config.out, PROGRAM, device, printable(title), head, rows, note)
    print(
        printable(
            f"{title}: values of nearest neighbors differ by {ratio:.0%} of those of two states at random; "
            f"written to {config.out}"
        )
    )
    return {"states": len(points), "neighbor_difference": round(ratio, 4), "value": value}


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
