"""Ensembles: the averaged probabilities of several classifiers, or of one run's snapshots.

    python -m vision.classification.ensembles results/cifar10/classification-1 results/cifar10/classification-2
    python -m vision.classification.ensembles results/cifar10/cycles         # a run with --schedule snapshots

A run counts with the weights that were best on its validation images; a snapshot ensemble (Huang et al. 2017, "Train
1, get M for free", arXiv 1704.00109) with those at the end of each of its cycles, `--snapshots M` of them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

import runs
from runs.flag_types import Whole
from vision.classification import train as classification


@dataclasses.dataclass(frozen=True)
class Config:
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional]  # of runs of vision.classification, on the same data
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    views: Literal[1, 2, 5, 10, 50] = 1  # of each image: see vision.classification
    validation: bool = False  # score on the first run's validation images instead of the test's


def average(members: list[Tensor]) -> Tensor:
    """The mean of probabilities (N, classes)."""
    return torch.stack(members).mean(0)


def main(config: Config) -> list[dict[str, float]]:
    """Print the scores of each member and of the ensemble. Returns them, the ensemble's last.

    Raises ValueError where there are no runs, and for runs on other data.
    """
    if not config.folders:
        raise ValueError("name one or more runs' folders")
    device = runs.prepare(config.device, 1, config.threads)
    table, found, scores, names, first = Table("member", "error", "loss"), [], [], [], None
    for folder in config.folders:
        settings, sets, models = classification.load(folder, device)
        first = first or (settings.data, sets)
        if settings.data != first[0]:
            raise ValueError(f"{folder} has learned {settings.data}, and the first run {first[0]}")
        part = first[1].validation if config.validation else first[1].test  # the first's: folds differ
        images, labels = (field.to(device) for field in part)
        for number, model in enumerate(models, 1):
            found.append(classification.probabilities(settings, model, images, config.views))
            names.append(f"{folder}, cycle {number}" if len(models) > 1 else str(folder))
    for name, probability in zip([*names, f"all {len(found)}"], [*found, average(found)], strict=True):
        scores.append(classification.score(probability, labels))
        table.add_row(name, f"{scores[-1]['error']:.2f}%", f"{scores[-1]['loss']:.4f}")
    Console().print(table)
    return scores


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.classification.ensembles", __doc__)
