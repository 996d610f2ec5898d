"""RBM pre-training of a deep autoencoder against none: one picture of errors and reconstructions.

    python -m vision.generation.rbm_pretraining --data mnist

Hinton & Salakhutdinov 2006, doi 10.1126/science.1127647: layers are learned one after the other as restricted
Boltzmann machines by contrastive divergence, unrolled into an autoencoder of logistic units, and fine-tuned by
backpropagation of the cross-entropy. The other autoencoder has the same layers, and begins with random weights. The
picture has the squared error of test images, summed over pixels, against the images shown, the pre-training's
included (an update of an RBM counts as one of its images, though it is cheaper), and both reconstructions.

The figures stand beside the picture, .md and .json.

Deviation: fine-tuning is by --optimizer with batches, the paper has conjugate gradients.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import runs
from runs import output, study_report, suggestions
from runs.flag_types import Count, NonNegative, Positive, Whole
from runs.printing import printable
from vision import data
from vision.generation import plots
from vision.generation.rbm import LINEAR_RATE, MOMENTUM, RATE, RBM, DeepAutoencoder
from vision.training import optimizers
from vision.training.sampling import batch_indices

PROGRAM = "vision.generation.rbm_pretraining"
SHOWN = 10  # test images in the picture


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "shapes"  # or mnist, fashion_mnist, cifar10, cifar100, svhn, or a folder
    data_folder: Path | None = None  # where a set's files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    layers: tuple[int, ...] = (1000, 500, 250)  # units, from the image on
    code: Count = 30  # units of the code
    pretraining: Count = 200_000  # images shown to each RBM
    steps: Count = 400_000  # images shown in fine-tuning
    batch: Count = 100  # images an update
    optimizer: str = "momentum"  # of fine-tuning: of vision/training/optimizers.py
    learning_rate: NonNegative = 0.001  # of it
    momentum: Positive = 0.9  # of momentum and nesterov
    test_images: Count = 2_000  # the first
    points: Count = 20  # tests on each curve
    seed: Whole = 1
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    out: Path = Path("rbm_pretraining.png")  # where the picture goes

    def validate(self) -> None:
        """Raise ValueError for an unknown optimizer, before the layers are pre-trained."""
        if self.optimizer not in optimizers.OPTIMIZERS:
            hint = suggestions.one_of(self.optimizer, optimizers.OPTIMIZERS)
            raise ValueError(f"unknown --optimizer {self.optimizer!r}: {hint}")


def pretrain(config: Config, images: Tensor) -> list[RBM]:
    """A stack of RBMs of images (N, pixels) in [0, 1], each learned on the hidden probabilities of the one before."""
    stack, sizes = [], [*config.layers, config.code]
    for number, hidden in enumerate(sizes):
        last = number == len(sizes) - 1
        rbm = RBM(images.shape[1], hidden, linear=last).to(images.device)
        errors = []
        for step in range(0, config.pretraining, config.batch):
            rows = batch_indices(len(images), step, config.batch, config.seed + number, images.device)
            momentum = MOMENTUM[step >= config.pretraining / 2]
            errors.append(rbm.update(images[rows], LINEAR_RATE if last else RATE, momentum))
        error = torch.stack(errors[-100:]).mean().item()
        print(f"RBM {images.shape[1]} - {hidden}: squared error {error:.2f} of its own inputs", flush=True)
        stack.append(rbm)
        images = torch.cat([rbm.hidden_mean(some) for some in images.split(5_000)])
    return stack


def tune(config: Config, network: DeepAutoencoder, images: Tensor, unseen: Tensor, before: int) -> dict[int, float]:
    """Learn to reconstruct images (N, pixels) by their cross-entropy. Returns the squared errors of unseen ones
    (M, pixels) by the number of images shown.

    before: images that pre-training was shown.
    """
    groups = [{"params": list(network.parameters()), "weight_decay": 0.0}]
    optimizer = optimizers.build(config.optimizer, groups, config.learning_rate, config.momentum)
    found: dict[int, float] = {}
    every = max(1, config.steps // config.points)
    for step in range(0, config.steps, config.batch):
        if step // every != (step - config.batch) // every:
            found[before + step] = squared_error(network, unseen)
        x = images[batch_indices(len(images), step, config.batch, config.seed, images.device)]

        def loss(x: Tensor = x) -> Tensor:
            found = F.binary_cross_entropy_with_logits(network(x), x, reduction="sum") / len(x)
            optimizer.zero_grad()
            optimizers.backward(optimizer, found)
            return found

        optimizer.step(loss)  # a line search evaluates it more than once
    found[before + config.steps] = squared_error(network, unseen)
    return found


@torch.no_grad()
def squared_error(network: DeepAutoencoder, images: Tensor) -> float:
    """The mean squared error of images (N, pixels), summed over pixels."""
    return (network(images).sigmoid() - images).square().sum(1).mean().item()


def draw(config: Config, curves: dict[str, dict[int, float]], rows: list[Tensor]) -> None:
    """Errors against images shown, and images (N, C, H, W) above both reconstructions of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    for name, curve in curves.items():
        left.semilogy(list(curve), list(curve.values()), marker=".", label=name)
    left.set_xlabel("images shown, those of pre-training included")
    left.set_ylabel("squared error of a test image")
    left.legend(fontsize=8)
    right.imshow(plots.grid(torch.cat(rows), len(rows[0])))
    right.axis("off")
    right.set_title("images, " + ", ".join(curves), fontsize=9)
    sizes = "-".join(str(size) for size in (int(np.prod(rows[0].shape[1:])), *config.layers, config.code))
    figure.suptitle(printable(f"autoencoder {sizes}, {config.data}, fine-tuned by {config.optimizer}"), fontsize=10)
    output.draw(config.out, figure, "--out", dpi=110)


def main(config: Config) -> dict[str, dict[int, float]]:
    """Train both, print and draw. Returns the errors by the images shown, for each."""
    config.validate()
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = data.load(config.data, config.data_folder, config.size)
    images = (sets.train.images.to(device) / 255).flatten(1)
    unseen = (sets.test.images[: config.test_images].to(device) / 255).flatten(1)
    sizes = [images.shape[1], *config.layers, config.code]
    shown = sets.test.images[:SHOWN].to(device) / 255
    curves, rows, trials = {}, [shown], []
    for name in ("pre-trained by RBMs", "random weights"):
        torch.manual_seed(config.seed)
        began, before = time.monotonic(), 0
        network = DeepAutoencoder(sizes).to(device)
        if name.startswith("pre"):
            network.unroll(pretrain(config, images))
            before = config.pretraining * (len(sizes) - 1)
        pretrained = time.monotonic() - began
        curves[name] = curve = tune(config, network, images, unseen, before)
        with torch.no_grad():
            rows.append(network(shown.flatten(1)).sigmoid().view(shown.shape))
        first, last = list(curve.values())[0], list(curve.values())[-1]
        tuned = time.monotonic() - began - pretrained
        times = f"{pretrained:.0f} s and {tuned:.0f} s"
        print(f"{name}: squared error {first:.2f} at first, {last:.2f} at the end ({times})", flush=True)
        trials.append(
            {"weights": name, "first_error": first, "last_error": last}
            | {"pretraining_seconds": pretrained, "tuning_seconds": tuned}
            | {"images": list(curve), "squared_error": list(curve.values())}
        )
    draw(config, curves, rows)
    title = f"RBM pre-training of an autoencoder {' - '.join(map(str, sizes))}, {config.data}"
    head = ["weights at first", "squared error after pre-training", "at the end", "pre-training, s", "fine-tuning, s"]
    columns = ("first_error", "last_error", "pretraining_seconds", "tuning_seconds")
    table = [
        [trial["weights"], *(f"{trial[name]:.{2 if 'error' in name else 0}f}" for name in columns)]
        for trial in trials
    ]
    note = (
        f"The squared error of the first {len(unseen):,} test images, summed over pixels; {config.steps:,} images of "
        f"fine-tuning by {config.optimizer}, {config.pretraining:,} for each RBM. One seed."
    )
    study_report.write(config.out, PROGRAM, device, printable(title), head, table, note, trials)
    print(printable(f"written to {config.out}"))
    return curves


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
