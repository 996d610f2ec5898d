"""Linear probes: a linear classifier on every stage of a frozen backbone, for one or several data sets.

    python -m vision.classification.stage_probe results/cifar10/classification-1 --data cifar10 mnist
    python -m vision.classification.stage_probe resnet18:imagenet --data cifar10 --shots 100

Which stage is best for what: early stages hold edges and colors, which serve any images, late ones what tells apart
the classes that the backbone was trained on (Yosinski et al. 2014, "How transferable are features in deep neural
networks?", arXiv 1411.1792; Alain & Bengio 2016, arXiv 1610.01644). The maps of a stage are averaged over --side^2
places; the classifier is softmax regression, and its accuracy is that on the validation images.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro

import runs
from runs import output, study_report
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision import data
from vision.classification import linear_probe, stage_features
from vision.classification.linear_probe import Vectors
from vision.training import sampling

PROGRAM = "vision.classification.stage_probe"


@dataclasses.dataclass(frozen=True)
class Config:
    backbone: Annotated[str, tyro.conf.Positional]  # a run's folder, name:weights, or a name, with random weights
    data: tuple[str, ...] = ("shapes",)  # image sets or folders, each with its own line
    data_folder: Path | None = None  # where a set's files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    shots: Whole = 100  # labeled training images a class; 0: all
    images: Whole = 2_000  # validation images, drawn at random; 0: all
    side: Count = 1  # places along a side that maps are averaged to
    epochs: Count = 20  # of the classifier
    seed: int = 1  # of images and classifier
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    out: Path = Path("stages.png")  # where the picture goes


def probe(config: Config, name: str, device: torch.device) -> tuple[list[str], list[float]]:
    """The stages of a backbone, as "64 at 16 x 16", and the accuracy of a linear classifier on each, in percent."""
    sets = sampling.subset(data.load(name, config.data_folder), config.shots, seed=config.seed)
    shape = tuple(sets.train.images.shape[1:])
    torch.manual_seed(config.seed)  # of a new backbone
    backbone = stage_features.load(config.backbone, shape).to(device)
    few = sampling.sample(sets.validation, config.images, config.seed)
    train, known = (
        stage_features.extract(backbone, images, config.side) for images in (sets.train.images, few.images)
    )
    found = []
    for stage, other in zip(train, known, strict=True):
        vectors = Vectors(stage, sets.train.labels)
        validation = Vectors(other, few.labels, vectors.scale)
        found.append(
            linear_probe.accuracy(vectors, validation, len(sets.classes), epochs=config.epochs, seed=config.seed)
        )
    maps = backbone.imagine((backbone.shape[0], *shape[1:]))
    return [f"{each.shape[1]} at {each.shape[2]} x {each.shape[3]}" for each in maps], found


def draw(table: dict[str, tuple[list[str], list[float]]], config: Config) -> None:
    """Accuracy by stage, a line a data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    panel = figure.subplots()
    for name, (stages, accuracies) in table.items():
        panel.plot(range(1, len(stages) + 1), accuracies, marker="o", label=printable(Path(name).name))
    longest = max((stages for stages, _ in table.values()), key=len)
    panel.set_xticks(range(1, len(longest) + 1), [str(number) for number in range(1, len(longest) + 1)])
    panel.set_xlabel("stage, fine to coarse")
    panel.set_ylabel("accuracy (%), linear classifier")
    panel.set_title(printable(f"{config.backbone}, {config.shots or 'all'} labels a class"), fontsize=10)
    panel.legend(fontsize=8)
    output.draw(config.out, figure, "--out", dpi=110)


def main(config: Config) -> dict[str, list[float]]:
    """Probe, print and draw. Returns the accuracies by data set."""
    table, device = {}, runs.prepare(config.device, config.seed, config.threads)
    for name in config.data:
        table[name] = stages, accuracies = probe(config, name, device)
        for number, (stage, accuracy) in enumerate(zip(stages, accuracies, strict=True), 1):
            print(printable(f"{name:12} stage {number}, {stage:16} {accuracy:6.2f}%"), flush=True)
        best = max(range(len(stages)), key=accuracies.__getitem__)
        print(printable(f"{name:12} best: stage {best + 1} of {len(stages)}"))
    draw(table, config)
    rows = [
        (Path(name).name, str(number), stage, f"{accuracy:.2f}%")
        for name, (stages, accuracies) in table.items()
        for number, (stage, accuracy) in enumerate(zip(stages, accuracies, strict=True), 1)
    ]
    note = f"Accuracy of a linear classifier on validation images, {config.shots or 'all'} labels a class, one seed."
    title, head = f"Linear probes of the stages of {config.backbone}", ("data", "stage", "channels", "accuracy")
    study_report.write(config.out, PROGRAM, device, title, head, rows, note)
    print(printable(f"written to {config.out}, and a page beside it"))
    return {name: accuracies for name, (_, accuracies) in table.items()}


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
