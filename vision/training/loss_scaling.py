"""Loss scaling: what half precision loses of small gradients, and how a scaled loss keeps them, on one picture.

    python -m vision.training.loss_scaling
    python -m vision.training.loss_scaling --backbone vgg11_bn --updates 400 --batches 400 --device cuda

Micikevicius et al. 2017, "Mixed Precision Training", arXiv 1710.03740. float16 has no number between 0 and 2^-24, and
less than its 11 bits of precision below 2^-14: gradients there are lost. A loss multiplied by a large number has
gradients as many times larger; they are divided by it in float32 before the update, the number is halved where one
overflows and doubled after many updates without (torch.amp.GradScaler). bfloat16 has float32's range and needs none.

The same network learns the same batches from the same weights in float32, in float16 without and with scaling, and in
bfloat16. On the picture: the gradients of the first update by their size, and the losses. Underflow is the share of
gradients that are not 0 in float32 and 0 in the other format.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs import output, study_report
from runs.flag_types import Count, Positive, Whole
from runs.printing import printable
from vision import backbones, data
from vision.training import sampling

FORMATS = {"float32": None, "float16": torch.float16, "float16, scaled": torch.float16, "bfloat16": torch.bfloat16}
SMALLEST, NORMAL = -24, -14  # exponents of 2: float16's smallest number, and the smallest of full precision
COLORS = {"float32": "#000000", "float16": "#D55E00", "float16, scaled": "#0072B2", "bfloat16": "#009E73"}


@dataclasses.dataclass(frozen=True)
class Config:
    data: str = "shapes"  # of vision.classification
    backbone: str = "resnet20"
    width: Positive = 0.25
    updates: Count = 60  # without hardware for float16 a CPU takes a good part of a second for each
    batch: Count = 32
    batches: Count = 1  # that are learned in turn; one batch can be overfitted within the updates
    learning_rate: Positive = 0.05  # of SGD with momentum 0.9
    loss_weight: Positive = 1e-5  # times the loss, as weights of its parts are: small gradients, the same minimum
    scale: Positive = 65_536.0  # of the loss at first
    seed: Whole = 1
    device: str = "auto"
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free
    out: Path = Path("loss_scaling.png")  # where the picture goes; beside it its page and record


class Learned(NamedTuple):
    """What a format has learned."""

    losses: list[float]  # of each update, nats
    gradients: Tensor  # (G,) float32, of all weights, at the first update
    scale: float  # of the loss, at the end


class Network(nn.Module):
    """A backbone and its head: images (B, C, H, W) uint8 -> logits (B, classes)."""

    def __init__(self, backbone: backbones.Backbone, classes: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, backbone.head(classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def learn(config: Config, model: nn.Module, form: str, batches: list[tuple[Tensor, Tensor]]) -> Learned:
    """Train a model in a format, a batch an update: images (B, C, H, W) uint8 and labels (B,)."""
    device = batches[0][0].device
    scaled = form == "float16, scaled"
    scaler = torch.amp.GradScaler(device.type, init_scale=config.scale, enabled=scaled)
    rate = config.learning_rate / config.loss_weight  # by which a smaller loss leads to the same update
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    values: list[float] = []
    first = torch.zeros(0)
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        kind = FORMATS[form]
        with torch.autocast(device.type, kind or torch.bfloat16, enabled=kind is not None):
            logits = model(images)
        loss = config.loss_weight * F.cross_entropy(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if not values:
            first = torch.cat([w.grad.flatten().float().cpu() for w in model.parameters()])
        scaler.step(optimizer)
        scaler.update()
        values.append(loss.item() / config.loss_weight)
    return Learned(values, first, scaler.get_scale() if scaled else 1.0)


def underflow(wanted: Tensor, found: Tensor) -> float:
    """The share of gradients (G,) that are not 0 in `wanted` and 0 in `found`."""
    there = wanted != 0
    return ((found == 0) & there).sum().item() / max(there.sum().item(), 1)


def draw(config: Config, results: dict[str, Learned], shares: dict[str, float]) -> None:
    """Write the picture: sizes of the first update's gradients, (G,) of each format, and losses by update."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.arange(-45, 1)
    for form in ("float32", "float16", "float16, scaled"):
        sizes = results[form].gradients.abs()
        sizes = sizes[sizes > 0].log2().numpy()
        label = f"{form}: {shares[form]:.1%} underflow" if form != "float32" else form
        left.hist(sizes, bins, histtype="step", label=label, color=COLORS[form], linewidth=1.6)
    for exponent, words in ((SMALLEST, "smallest"), (NORMAL, "full precision")):
        left.axvline(exponent, color="#999999", linestyle=":", linewidth=1)
        left.annotate(
            f" float16's {words}", (exponent, 0.98), xycoords=("data", "axes fraction"), fontsize=8, va="top"
        )
    left.set_xlabel("log2 of a gradient, first update")
    left.set_ylabel("weights")
    left.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.93))
    for form, result in results.items():
        right.plot(_smooth(result.losses), label=form, color=COLORS[form])
    right.set_xlabel("update")
    right.set_ylabel("loss, nats (mean of 10)")
    right.legend(fontsize=8)
    figure.suptitle(f"{config.backbone} on {config.data}, loss x {config.loss_weight:g}")
    output.draw(config.out, figure, "--out", dpi=110)


def _smooth(values: list[float]) -> np.ndarray:
    width = min(10, len(values))
    return np.convolve(values, np.ones(width) / width, mode="valid")


def main(config: Config) -> dict[str, dict[str, float]]:
    """Learn in each format, draw and write. Returns {format: {"underflow", "loss", "scale"}}."""
    device = runs.prepare(config.device, config.seed, config.threads)
    backbones.check(config.backbone)
    sets = data.load(config.data)
    train, shape = sets.train, tuple(sets.train.images.shape[1:])
    stem = {"stem": "cifar"} if "cifar" in backbones.BACKBONES[config.backbone].stems else {}
    model = Network(backbones.build(config.backbone, shape, width=config.width, **stem), len(sets.classes)).to(device)
    batches, cpu = [], torch.device("cpu")
    for update in range(config.updates):
        shown = update % config.batches * config.batch
        rows = sampling.batch_indices(len(train.labels), shown, config.batch, config.seed, cpu)
        batches.append((train.images[rows].to(device), train.labels[rows].to(device)))
    results = {form: learn(config, copy.deepcopy(model), form, batches) for form in FORMATS}
    wanted = results["float32"].gradients
    shares = {form: underflow(wanted, result.gradients) for form, result in results.items()}
    draw(config, results, shares)
    found = {
        form: {"underflow": shares[form], "loss": float(np.mean(result.losses[-10:])), "scale": result.scale}
        for form, result in results.items()
    }
    head = ["format", "underflow", "loss", "scale of the loss at the end"]
    rows = [[form, f"{n['underflow']:.2%}", f"{n['loss']:.3f}", f"{n['scale']:,.0f}"] for form, n in found.items()]
    note = (
        f"Gradients of the first update that are 0 and would not be in float32; mean loss of the last ten of "
        f"{config.updates} updates, nats. One seed."
    )
    title = f"Loss scaling: {config.backbone} on {config.data}, loss x {config.loss_weight:g}"
    trials = [{"format": form} | numbers for form, numbers in found.items()]
    study_report.write(config.out, "vision.training.loss_scaling", device, title, head, rows, note, trials)
    for form, numbers in found.items():
        print(printable(f"{form:>16}: {numbers['underflow']:6.2%} underflow, loss {numbers['loss']:.3f} at the end"))
    print(printable(f"written to {config.out}"))
    return found


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.training.loss_scaling", __doc__)
