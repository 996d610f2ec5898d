"""Training images/s of agents.recurrent_attention against the same model with its glimpses cut out one by one.

    python tests/benchmarks/ram_speed.py
    python tests/benchmarks/ram_speed.py --tasks MNIST Cluttered --json results/ram_speed.json

The other contestant is the model as it is straightforwardly written: for every glimpse each image of the batch is
padded and sliced at its location in Python, and pooled scale by scale; scenes with distractors are made image by
image as well, and all is calculated in fp32. Networks, loss, optimizer and batch are the same, and so are the images:
drawn digits, repeated to 55,000. Windows alternate within one process. "glimpses" compares the retinas alone,
"scenes" the making of scenes.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from paired import alternate, circumstances, median, ratio, report
from torch import Tensor
from torch.nn import functional as F

import runs
from agents.recurrent_attention import model, ram
from envs import glimpse
from vision.training import sampling

TASKS = ["MNIST", "Translated", "Cluttered", "Cluttered100"]


class LoopRetina(glimpse.Retina):
    """A retina that visits the images of a batch one after the other."""

    def prepare(self, images: Tensor) -> Tensor:
        return images

    def style(self, images: Tensor, location: Tensor, smooth: bool = False) -> Tensor:
        return torch.cat([self.patch(images, location, self.patch_size * 2**k, 2**k) for k in range(self.scales)], 1)

    def patch(self, images: Tensor, location: Tensor, side: int, factor: int) -> Tensor:
        extent = torch.tensor([self.width, self.height])
        start = (0.5 * ((location + 1.0) * extent)).round().long()  # in the padded image: the window's corner
        padded = F.pad(images, (side // 2,) * 4)
        patches = []
        for n in range(len(images)):
            x, y = start[n]
            patches.append(padded[n, :, y : y + side, x : x + side])
        return F.avg_pool2d(torch.stack(patches), factor)


class LoopScenes(glimpse.Scenes):
    """Scenes made one after the other."""

    def paint(self, rows: Tensor, uniform: Tensor) -> Tensor:
        made, (_, tall, wide), piece = [], self.shape, glimpse.PIECE
        height, width = self.images.shape[2:]
        for row in rows:
            scene = torch.zeros(self.shape)
            top, left = torch.randint(tall - height + 1, ()), torch.randint(wide - width + 1, ())
            scene[:, top : top + height, left : left + width] = self.images[row] / 255
            for _ in range(self.task.distractors):
                other = torch.randint(len(self), ())
                up, along = torch.randint(height - piece + 1, ()), torch.randint(width - piece + 1, ())
                top, left = torch.randint(tall - piece + 1, ()), torch.randint(wide - piece + 1, ())
                there = scene[:, top : top + piece, left : left + piece]
                there += self.images[other, :, up : up + piece, along : along + piece] / 255
            made.append(scene.clamp(max=1))
        return torch.stack(made)


def trainer(config: ram.Config, scenes: type[glimpse.Scenes], retina: type[glimpse.Retina]) -> dict[str, Callable]:
    """What is timed, by name; each does its work for one batch and returns how many images it was for."""
    images, labels = (part.repeat(11, *[1] * (part.dim() - 1)) for part in glimpse.glyphs(5_000))
    world = scenes(images, labels, glimpse.TASKS["Plain" if config.env == "MNIST" else config.env])
    network = ram.build(config, world)
    network.retina = retina(world.shape, config.patch_size, config.scales)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
    device = torch.device("cpu")
    step = 0

    def batch() -> tuple[Tensor, Tensor]:
        nonlocal step
        rows = sampling.batch_indices(len(world), step, config.batch, 1, device)
        step += config.batch
        return world.paint(rows, torch.rand(len(rows), world.draws)), world.labels[rows, None]

    images, label = batch()
    sample_noise = network.sample_noise(config.batch, device)

    def style() -> int:
        with torch.no_grad():
            maps = network.retina.prepare(images)
            for _ in range(config.glimpses):
                network.retina.style(maps, sample_noise[0])
        return config.batch

    def train() -> int:
        images, label = batch()
        rollout = network(network.retina.prepare(images), network.sample_noise(config.batch, device))
        reward = model.classification_reward(rollout.logits, label, config.reward)
        chosen = rollout.log_prob, rollout.baseline
        loss, _ = model.hybrid_loss(rollout.logits, label, reward, *chosen, 1.0, config.glimpses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return config.batch

    return {"training": train, "glimpses": style, "scenes": lambda: len(batch()[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--batch", type=int, default=ram.Config.batch, help="images an update (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    runs.prepare("cpu", 1, 1)
    configuration = circumstances()
    rows, rates, ratios = [], {}, {}
    for task in options.tasks:
        config = dataclasses.replace(ram.recipe(ram.Config(env=task)), batch=options.batch)
        ours = trainer(config, glimpse.Scenes, glimpse.Retina)
        plain = dataclasses.replace(config, bf16=False)
        loops = trainer(plain, glimpse.Scenes if task == "MNIST" else LoopScenes, LoopRetina)
        for part in ours:
            calls = {"saccade": ours[part], "loop": loops[part]}
            found = alternate(calls, options.rounds, options.seconds)
            rates[f"{task} {part}"], ratios[f"{task} {part}"] = found, ratio(found, "saccade", "loop")
            rows.append([f"{task} {part}", *(f"{median(found[n]):,.0f}" for n in calls), ratios[f"{task} {part}"]])
    report(
        f"images/s, batch {options.batch}, {options.rounds} windows of {options.seconds:g} s",
        ["", "saccade", "a loop a glimpse", "ratio"],
        rows,
        {"benchmark": "ram_speed", "batch": options.batch, "images_per_second": rates, "ratios": ratios}
        | configuration,
        options.json,
    )


if __name__ == "__main__":
    main()
