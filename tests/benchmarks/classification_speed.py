"""Training images/s of vision.classification against a plain loop, on the same network.

    python tests/benchmarks/classification_speed.py
    python tests/benchmarks/classification_speed.py --backbones resnet18 airbench --threads 2 --json speed.json

The other contestant is what one writes first: images normalized to float32 beforehand, NCHW, an eager forward and
backward pass in float32, torch's SGD with momentum and nn.CrossEntropyLoss, and no augmentation at all. Ours deals
rows of a set of bytes, flips and crops them, and trains in channels_last under bfloat16, as the program does. Windows
alternate within one process. "data" is the share of a step in which images are picked, augmented and labels made.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch
from paired import alternate, circumstances, median, ratio, report
from torch import nn

import runs
from runs.machine import precision
from vision import data
from vision.classification import train as classification
from vision.training import augmentation, losses, optimizers, sampling

IMAGES = 5_000  # of random pixels, 32 x 32
CPU = torch.device("cpu")


class Ours:
    """A step of vision.classification on random images."""

    def __init__(self, config: classification.Config) -> None:
        self.config = config
        labels = torch.randint(10, (IMAGES,))
        images = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
        self.set = data.Labeled(images, labels)
        names = tuple("0123456789")
        self.model = classification.prepare(config, data.Sets(self.set, self.set, self.set, names), CPU)
        groups = optimizers.groups(self.model, config.weight_decay, bias_scale=config.bias_scale)
        self.optimizer = optimizers.build(config.optimizer, groups, 1e-3, config.momentum)
        self.change = augmentation.Augmentation(config.augment, images)
        self.step, self.data_seconds, self.seconds = 0, 0.0, 0.0
        optimizers.train_mode(self.model)

    def __call__(self) -> int:
        start = time.perf_counter()
        rows = sampling.batch_indices(IMAGES, self.step, self.config.batch, 1, CPU)
        images = self.change(self.set.images[rows])
        shares = losses.targets(self.set.labels[rows], 10, self.config.smoothing)
        self.data_seconds += time.perf_counter() - start
        self.optimizer.zero_grad()
        with precision(self.config, CPU):
            loss, _ = classification.objective(self.config, self.model, images, shares)
        loss.backward()
        self.optimizer.step()
        self.step += self.config.batch
        self.seconds += time.perf_counter() - start
        return self.config.batch


def plain(config: classification.Config) -> Callable[[], int]:
    """The loop that one writes first."""
    model = classification.build(config, (3, 32, 32), 10)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
    images, labels, criterion = torch.randn(IMAGES, 3, 32, 32), torch.randint(10, (IMAGES,)), nn.CrossEntropyLoss()

    def step() -> int:
        rows = torch.randint(IMAGES, (config.batch,))
        loss = criterion(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return config.batch

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18"])
    parser.add_argument("--batch", type=int, default=128, help="images an update (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: one a core")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    runs.prepare("cpu", 1, options.threads)
    configuration = circumstances()
    rows, rates, ratios, shares = [], {}, {}, {}
    for name in options.backbones:
        asked = classification.Config(data="cifar10", backbone=name)
        config = dataclasses.replace(classification.recipe(asked), batch=options.batch)
        ours = Ours(config)
        rates[name] = alternate({"saccade": ours, "plain": plain(config)}, options.rounds, options.seconds)
        ratios[name], shares[name] = ratio(rates[name], "saccade", "plain"), ours.data_seconds / ours.seconds
        medians = [f"{median(rates[name][who]):,.1f}" for who in ("saccade", "plain")]
        rows.append([name, *medians, ratios[name], f"{shares[name]:.1%}"])
    report(
        f"training images/s, 32 x 32, batch {options.batch}, {options.rounds} windows of {options.seconds:g} s",
        ["", "saccade", "plain float32", "ratio", "data"],
        rows,
        {"benchmark": "classification_speed", "batch": options.batch}
        | {"images_per_second": rates, "ratios": ratios, "data_share": shares}
        | configuration,
        options.json,
    )


if __name__ == "__main__":
    main()
