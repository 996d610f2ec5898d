"""Plots of linear classifiers' templates, of cross-validated k, and of hyperparameter search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from runs import output

SHOWN = 100  # units of a hidden layer, those with the largest weights


def visible(weight: Tensor) -> Tensor:
    """Templates (N, C, H, W) of any size, each scaled to [0, 1]: its smallest weight is black."""
    low, high = (getattr(weight.flatten(1), which)(1)[:, None, None, None] for which in ("amin", "amax"))
    return (weight - low) / (high - low).clamp(min=1e-12)


def draw_templates(weight: Tensor, names: Sequence[str] | None, path: Path) -> None:
    """The weights (N, C, H, W) of the first layer as images, with the classes' names if they have any."""
    from matplotlib.figure import Figure

    if names is None:
        weight = weight[weight.flatten(1).norm(dim=1).argsort(descending=True)[:SHOWN]]
    columns = min(len(weight), 10 if names is None else 5)
    rows = math.ceil(len(weight) / columns)
    size, title = (0.55, 0) if names is None else (1.1, 0.25)
    figure = Figure(figsize=(size * columns, (size + title) * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).flatten()
    for panel in panels:
        panel.axis("off")
    pictures = visible(weight).movedim(1, -1).numpy()
    for panel, picture, name in zip(panels, pictures, names or [""] * len(weight), strict=False):
        panel.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray")
        panel.set_title(name, fontsize=8, pad=2)
    output.draw(path, figure, "--folder", dpi=110)


def draw_folds(scores: dict[str, list[float]], path: Path, title: str) -> None:
    """Accuracy against k: one dot a fold, mean and standard deviation. scores: percent of each fold, by k."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    panel = figure.subplots()
    ks, table = [int(k) for k in scores], np.array(list(scores.values()))
    for fold in table.T:
        panel.scatter(ks, fold, s=10, color="tab:gray")
    panel.errorbar(ks, table.mean(1), table.std(1, ddof=1), capsize=3)
    panel.set_xscale("log")
    panel.set_xticks(ks, [str(k) for k in ks])
    panel.minorticks_off()
    panel.set_xlabel("k")
    panel.set_ylabel("accuracy (%), cross-validation")
    panel.set_title(f"{title}: mean and standard deviation of {table.shape[1]} folds", fontsize=10)
    output.draw(path, figure, "--folder", dpi=110)


def draw_search(tries: list[dict[str, float]], path: Path) -> None:
    """Learning rate against decay: one dot a try, its color the accuracy on validation images."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(5, 3.8), layout="constrained")
    panel = figure.subplots()
    columns = [[tried[key] for tried in tries] for key in ("learning_rate", "decay", "validation")]
    dots = panel.scatter(*columns[:2], c=columns[2], s=60)
    for axis, scale in ((panel.xaxis, panel.set_xscale), (panel.yaxis, panel.set_yscale)):
        scale("log")
        axis.set_minor_formatter(NullFormatter())  # labels between the powers of ten run into each other
    panel.set_xlabel("learning rate")
    panel.set_ylabel("decay")
    figure.colorbar(dots, label="accuracy (%), validation")
    output.draw(path, figure, "--folder", dpi=110)
