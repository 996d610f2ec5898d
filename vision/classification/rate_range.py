"""Learning-rate range test: one short training whose rate rises from nearly nothing until the loss explodes.

    python -m vision.classification.rate_range --data cifar10 --backbone resnet20
    python -m vision.classification.rate_range --optimizer adam --lowest 1e-6 --highest 1

Smith 2015, "Cyclical learning rates for training neural networks", arXiv 1506.01186, section 3.3, here with rates
that rise exponentially, by the same factor each update. All flags of vision.classification are those of the training.
The picture shows the loss against the rate. Two rates are marked: where the smoothed loss falls fastest, and a tenth
of that at which it is lowest. Smith reads off its bounds by eye: a rate is too small where the loss hardly falls and
too large where it turns ragged; the highest of a schedule may lie a little below that.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import runs
from runs import output
from runs.flag_types import Count, Positive, Share
from runs.printing import printable
from vision.classification import short_fit
from vision.classification import train as classification
from vision.data.sets import set_name


@dataclasses.dataclass(frozen=True)
class Config(classification.Config):
    lowest: Positive = 1e-5  # learning rate at the start
    highest: Positive = 10.0  # and at the end
    updates: Count = 200  # between them
    loss_decay: Share = 0.9  # kept of the smoothed loss an update
    explosion: Positive = 4.0  # times the lowest smoothed loss: then the test ends
    out: Path = Path("rates.png")  # where the picture goes


class Range(NamedTuple):
    """The result of a range test."""

    rates: Tensor  # (updates,) float64
    losses: Tensor  # (updates,) as they were
    smoothed: Tensor  # (updates,)
    steepest: float  # rate at which the smoothed loss falls fastest
    tenth: float  # of the rate at which it is lowest


def recipe(asked: Config) -> Config:
    """That of vision.classification."""
    found = classification.recipe(asked)
    return Config(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})


def smooth(losses: Tensor, decay: float) -> Tensor:
    """Exponential moving average of losses (N,), bias-corrected: the weights of all losses so far add up to 1."""
    found, total = [], 0.0
    for number, loss in enumerate(losses.tolist(), 1):
        total = decay * total + (1 - decay) * loss
        found.append(total / (1 - decay**number))
    return torch.tensor(found, dtype=torch.float64)


def read_off(rates: Tensor, losses: Tensor, decay: float) -> Range:
    """The rates (low, high) that a curve of rates and losses, both (N,), suggests.

    Raises ValueError where fewer than three losses are finite.
    """
    finite = int(torch.isfinite(losses).long().cumprod(0).sum())
    if finite < 3:
        raise ValueError(f"the loss was finite for {finite} updates: begin with a smaller --lowest")
    rates, losses = rates[:finite].double(), losses[:finite].double()
    smoothed = smooth(losses, decay)
    lowest = int(smoothed.argmin())
    falling = torch.gradient(smoothed, spacing=(rates.log(),))[0][: lowest + 1]
    return Range(rates, losses, smoothed, rates[int(falling.argmin())].item(), rates[lowest].item() / 10)


def measure(config: Config) -> Range:
    """The range test of a config. Raises ValueError where --highest is not above --lowest."""
    if config.highest <= config.lowest:
        raise ValueError(f"--highest {config.highest} is not above --lowest {config.lowest}")
    device = runs.prepare(config.device, config.seed, config.threads)
    factor = math.log(config.highest / config.lowest) / max(1, config.updates - 1)
    config = dataclasses.replace(config, steps=config.updates * config.batch)
    best, smoothed = math.inf, 0.0

    def rate(step: int) -> float:
        return config.lowest * math.exp(factor * (step // config.batch))

    def exploded(step: int, loss: Tensor) -> bool:
        nonlocal best, smoothed
        smoothed = config.loss_decay * smoothed + (1 - config.loss_decay) * loss.item()
        now = smoothed / (1 - config.loss_decay ** (step // config.batch + 1))
        best = min(best, now)
        return not math.isfinite(now) or now > config.explosion * best

    _, losses = short_fit.fit(config, classification.images_of(config), device, None, rate, exploded)
    rates = torch.tensor([rate(number * config.batch) for number in range(len(losses))], dtype=torch.float64)
    return read_off(rates, losses, config.loss_decay)


def draw(found: Range, title: str, path: Path) -> None:
    """Loss against learning rate, with the two rates marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    panel = figure.subplots()
    panel.plot(found.rates, found.losses, color="0.75", linewidth=0.8, label="loss of each update")
    panel.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
    panel.axvline(found.steepest, color="tab:green", linestyle="--", label=f"falls fastest: {found.steepest:.2g}")
    panel.axvline(found.tenth, color="tab:orange", linestyle=":", label=f"a tenth of the lowest's: {found.tenth:.2g}")
    low, high = found.losses.min().item(), found.losses[: max(3, len(found.losses) // 4)].max().item()
    panel.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    panel.set_xscale("log")
    panel.set_xlabel("learning rate")
    panel.set_ylabel("training loss")
    panel.set_title(title, fontsize=10, parse_math=False)
    panel.legend(fontsize=8)
    output.draw(path, figure, "--out", dpi=110)


def main(config: Config) -> Range:
    found = measure(config)
    title = f"{set_name(config.data)}, {config.backbone}, {config.optimizer}, batch {config.batch}"
    draw(found, printable(title), config.out)
    print(
        f"the loss falls fastest at a learning rate of {found.steepest:.2g}, and a tenth of the rate at which it is "
        f"lowest is {found.tenth:.2g}; {len(found.rates)} updates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}"
    )
    print(printable(f"written to {config.out}"))
    return found


if __name__ == "__main__":
    runs.launch(main, Config, recipe, "vision.classification.rate_range", __doc__)
