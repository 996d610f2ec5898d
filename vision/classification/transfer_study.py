"""Transfer study: how much of a pretrained backbone to train, with little or much data, similar or different.

    python -m vision.classification.transfer_study results/first/classification-1 --size 32 --similar halves/second

CS231n's table (lecture on transfer learning; Yosinski et al. 2014, arXiv 1411.1792) says: with little and similar
data a linear classifier on the last stage, with much and similar data fine-tune a few layers, with little and
different data a linear classifier on earlier stages, with much and different data fine-tune more layers. Here every
way is tried in each of the four cases: a linear classifier (softmax) on each stage of the frozen backbone, of which
the last and the best earlier one count; fine-tuning of the last stage, and of all; training from scratch. The figures
are accuracies on validation images, which the earlier stage is also chosen by; means over --seeds draws of labels.

`python tests/benchmarks/cifar_halves.py results/halves` makes two sets of five classes of CIFAR-10, one to pretrain
on and a similar one (halves/first and /second). Rows are kept beside the picture, .jsonl, and a page with the table,
.md: the same command goes on from there.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import tyro

import runs
from runs import output, study_report
from runs.flag_types import Count, Positive, Whole
from runs.printing import printable
from vision import backbones, data
from vision.classification import linear_probe, short_fit, stage_features
from vision.classification import train as classification
from vision.classification.classifier import Classifier
from vision.classification.linear_probe import Vectors
from vision.training import sampling

PROGRAM = "vision.classification.transfer_study"
WAYS = ("scratch", "linear, last stage", "linear, earlier stage", "fine-tune last stage", "fine-tune all")


@dataclasses.dataclass(frozen=True)
class Config:
    backbone: Annotated[str, tyro.conf.Positional]  # a run's folder, or a file that backbones.save has written
    similar: str = "shapes"  # image set or folder like that which the backbone was trained on
    different: str = "mnist"  # one that is not
    data_folder: Path | None = None  # where sets' files lie; None: $SACCADE_DATA/<name> or ~/.cache/saccade/<name>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    little: Count = 10  # labeled images a class
    much: Count = 200
    steps: Count = 20_000  # images shown, of fine-tuning and training
    batch: Count = 50  # images an update
    learning_rate: Positive = 0.01  # at its highest, of fine-tuning
    scratch_rate: Positive = 0.05  # of training from scratch
    seeds: Count = 3  # draws of the labels
    images: Whole = 2_000  # validation images, drawn at random; 0: all
    seed: int = 1  # the first
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    out: Path = Path("transfer.png")  # where the picture goes


def cases(config: Config) -> dict[str, tuple[str, int]]:
    """The data set and the labels a class of each of the four cases."""
    return {
        f"{amount}, {likeness}": (getattr(config, likeness), getattr(config, amount))
        for likeness in ("similar", "different")
        for amount in ("little", "much")
    }


def size_of(config: Config, name: str) -> int | None:
    """The side of images of a folder; named sets have their own."""
    return config.size if Path(name).is_dir() else None


def settings(config: Config, name: str, way: str, seed: int) -> classification.Config:
    """The config of a training, by one of the WAYS that train the backbone."""
    scratch = way == "scratch"
    return classification.Config(
        data=name,
        data_folder=config.data_folder,
        size=size_of(config, name),
        backbone=config.backbone,
        train={"fine-tune last stage": "last-1"}.get(way, "all"),
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.scratch_rate if scratch else config.learning_rate,
        weight_decay=5e-4,
        seed=seed,
        device=config.device,
        threads=config.threads,
    )


def measure(
    config: Config, name: str, sets: data.Sets, shots: int, seed: int, device: torch.device
) -> dict[str, float]:
    """Accuracy in percent of every way, on the validation images, and the earlier stage that was best, from 1."""
    sets = sampling.subset(sets, shots, seed=seed)
    few, found, classes = sampling.sample(sets.validation, config.images, seed), {}, len(sets.classes)
    backbone = stage_features.load(config.backbone, sets.train.images.shape[1:]).to(device)
    train, few = (
        data.Labeled(stage_features.with_channels(part.images, backbone.shape[0]), part.labels)
        for part in (sets.train, few)
    )
    sets = sets._replace(train=train, validation=few)
    stages = []
    for own, other in zip(
        *(stage_features.extract(backbone, part.images) for part in (sets.train, few)), strict=True
    ):
        known = Vectors(own, sets.train.labels)
        stages.append(linear_probe.accuracy(known, Vectors(other, few.labels, known.scale), classes, seed=seed))
    found["linear, last stage"] = stages[-1]
    earlier = max(range(len(stages) - 1), key=stages.__getitem__, default=0)
    found["linear, earlier stage"], found["stage"] = stages[earlier], earlier + 1
    for way in ("scratch", "fine-tune last stage", "fine-tune all"):
        asked = settings(config, name, way, seed)
        torch.manual_seed(seed)
        model = classification.prepare(asked, sets, device)
        if way == "scratch":
            model = _with_new_weights(model)
        model, _ = short_fit.fit(asked, sets, device, model)
        found[way] = short_fit.validate(asked, model, few)["accuracy"]
    return found


def _with_new_weights(model: Classifier) -> Classifier:
    """The same classifier with a backbone of new weights."""
    device = next(model.parameters()).device
    renewed = backbones.build(**model.backbone.spec)
    model.backbone.load_state_dict(renewed.state_dict())
    return model.to(device)


def study(config: Config, device: torch.device) -> dict[str, list[dict[str, Any]]]:
    """The rows of every case, one a seed. Measures what the file does not have yet."""
    path, found, loaded = config.out.with_suffix(".jsonl"), {}, functools.cache(data.load)
    about = {key: getattr(config, key) for key in ("backbone", "steps", "batch", "learning_rate", "scratch_rate")}
    for case, (name, shots) in cases(config).items():
        found[case] = []
        for seed in range(config.seed, config.seed + config.seeds):
            asked = {"case": case, "data": name, "shots": shots, "seed": seed, "config": about}
            known = short_fit.rows(path, asked)
            if not known:
                sets = loaded(name, config.data_folder, size_of(config, name))
                known = [asked | {"accuracy": measure(config, name, sets, shots, seed, device)}]
                short_fit.append(path, known[0])
            found[case].append(known[0])
            figures = ", ".join(f"{way} {known[0]['accuracy'][way]:.1f}%" for way in WAYS)
            print(printable(f"{case} ({Path(name).name}, {shots} a class), seed {seed}: {figures}"), flush=True)
    return found


def draw(found: dict[str, list[dict[str, Any]]], config: Config) -> None:
    """A panel a case, a bar a way: the mean over seeds, and a dot a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for (case, rows), panel in zip(found.items(), panels.T.flatten(), strict=True):
        values = [[row["accuracy"][way] for row in rows] for way in WAYS]
        means = [mean(each) for each in values]
        best = max(range(len(WAYS)), key=means.__getitem__)
        colors = ["tab:blue" if place == best else "0.75" for place in range(len(WAYS))]
        panel.barh(range(len(WAYS)), means, color=colors)
        for place, each in enumerate(values):
            panel.plot(each, [place] * len(each), "k.", markersize=4)
            panel.text(1, place, f"{means[place]:.1f}", va="center", fontsize=8)
        stage = ", ".join(str(row["accuracy"]["stage"]) for row in rows)
        panel.set_yticks(range(len(WAYS)), [*WAYS[:2], f"linear, stage {stage}", *WAYS[3:]], fontsize=8)
        panel.invert_yaxis()
        name, shots = cases(config)[case]
        panel.set_title(printable(f"{case}: {Path(name).name}, {shots} labels a class"), fontsize=10)
    for panel in panels[1]:
        panel.set_xlabel("accuracy (%), validation")
    output.draw(config.out, figure, "--out", dpi=110)


def write(found: dict[str, list[dict[str, Any]]], config: Config, device: torch.device) -> None:
    """The page: the picture, and a table of every way in every case."""
    rows = []
    for case, each in found.items():
        name, shots = cases(config)[case]
        values = [study_report.interval([row["accuracy"][way] for row in each]) for way in WAYS]
        stages = ", ".join(str(row["accuracy"]["stage"]) for row in each)
        rows.append(
            (case, f"{Path(name).name}, {shots} a class", *(study_report.plus_minus(*v) for v in values), stages)
        )
    note = (
        f"Accuracy in percent on validation images, mean over {config.seeds} draws of the labels and its 95% "
        "interval (Student's t). The earlier stage was chosen on the same images, which favors it a little."
    )
    title, head = f"Transfer study: {config.backbone}", ("case", "data", *WAYS, "earlier stage")
    trials = [row for each in found.values() for row in each]
    study_report.write(config.out, PROGRAM, device, title, head, rows, note, trials)


def main(config: Config) -> dict[str, dict[str, float]]:
    """Measure, print the table, draw. Returns the mean accuracy of every way in every case."""
    device = runs.prepare(config.device, config.seed, config.threads)
    found = study(config, device)
    table = {case: {way: mean(row["accuracy"][way] for row in rows) for way in WAYS} for case, rows in found.items()}
    for case, figures in table.items():
        best = max(figures, key=figures.get)
        print(f"{case:18} best: {best} ({figures[best]:.1f}%), from scratch {figures['scratch']:.1f}%")
    draw(found, config)
    write(found, config, device)
    print(printable(f"written to {config.out}, its rows and a page beside it"))
    return table


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
