"""Dense captioning of drawn scenes, on any backbone: regions of an image, with a sentence about each.

    python -m vision.captioning.dense
    python -m vision.captioning.dense --backbone results/shapes/detection-1      # a detector's backbone

Johnson et al. 2015, "DenseCap: fully convolutional localization networks for dense captioning", arXiv 1511.07571:
region proposals and an LSTM for each region, trained together. Regions are the objects of a scene, and pairs of them.
The score is average precision where place and sentence are right, the mean over IoU of 0.3 to 0.7; the best weights
are tested once, at the end. predictions/ has pictures of them.

Deviations: proposals come from a feature pyramid (Lin et al. 2016) and RoIAlign; a sentence is right where it equals
the region's, since drawn scenes have one, where the paper has thresholds of METEOR.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

import runs
from runs import saved
from runs.flag_types import Count, NonNegative, Positive, Whole
from runs.loss_scaling import LossScaler
from runs.machine import choose, precision
from runs.saved import best_copy
from vision import backbones
from vision.captioning.regions import DenseCaptioner, Described, RegionScenes, compare, scores
from vision.captioning.vocabulary import Vocabulary
from vision.data.boxes_picture import panel
from vision.data.samples import Sample
from vision.detection.data import Batches
from vision.detection.faster_rcnn import Options
from vision.detection.regions import ProposalOptions
from vision.training import optimizers, schedules
from vision.training.estimate import estimate


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    scenes: Count = 8_000  # drawn to train on; a fortieth of them for validation, a twentieth for the test
    size: Count = 96  # pixels, sides of a scene
    backbone: str = "resnet18"  # a name, name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels; None: a half of resnet18's, else as published
    channels: Count = 64  # of the pyramid
    head_width: Count = 256  # units of the dense layers, and numbers of a region's code
    hidden: Count = 128  # units of the LSTM, and of words
    anchor_scale: Positive = 6.0  # sides of anchors, in strides
    regions: Count = 64  # of an image in the loss
    proposals: Count = 100  # of an image
    longest: Count = 12  # words of a sentence at most
    beam: Count = 1  # sentences kept at each word
    steps: Count = 40_000  # scenes shown
    batch: Count = 8  # scenes an update
    learning_rate: NonNegative = 2e-3  # of AdamW, at its highest
    weight_decay: NonNegative = 0.05
    clip: NonNegative = 10.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    evaluate_every: Count = 8_000  # scenes shown between evaluations
    pictures: Whole = 8  # validation scenes drawn at each evaluation
    log_every: Count = 800  # scenes a line of metrics.jsonl
    bf16: bool = True  # maps in bfloat16 where CPU or GPU is fast at it
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)


HALF = 0.5
VOCABULARY = "vocabulary.json"  # in a run's folder
SCORE = runs.Score("eval/map", "max")
TOGETHER = 32  # scenes of an evaluation


def build(config: Config, vocabulary: Vocabulary) -> DenseCaptioner:
    """The network of a config, with pretrained weights where its backbone has some."""
    width = config.width or (HALF if config.backbone == Config.backbone else None)
    options = {} if width is None else {"width": width}
    backbone = backbones.build(config.backbone, (3, config.size, config.size), **options)
    limits = (config.proposals,) * 2
    numbers = Options(
        config.channels, config.head_width, config.anchor_scale, config.regions, most=20,
        proposals=ProposalOptions(before=limits, after=limits),
    )  # fmt: skip
    return DenseCaptioner(backbone, vocabulary, config.hidden, config.longest, numbers)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sizes = (config.scenes, max(1, config.scenes // 40), max(1, config.scenes // 20))
    train, validation, test = (RegionScenes(count, seed, config.size) for seed, count in enumerate(sizes))
    if len(train) < config.batch:
        raise ValueError(f"{len(train)} training scenes are fewer than --batch {config.batch}")
    vocabulary = Vocabulary.of(train.captions())
    model = build(config, vocabulary).to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    optimizer = optimizers.build(
        "adamw", optimizers.groups(model, config.weight_decay, decay_biases=False), config.learning_rate
    )
    batches = Batches(train, None, None, False, config.batch, config.seed, None, device)
    scaler = LossScaler(config.fp16, device)

    def learn(images: Tensor, sizes: list, targets: list) -> dict[str, Tensor]:
        optimizer.zero_grad()
        losses = model.losses(images, sizes, targets)
        total = sum(losses.values())
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        if config.clip:
            losses["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        scaler.step(optimizer)
        losses = {name: value.detach() for name, value in losses.items()}
        return losses | {"loss/train": total.detach()} | scaler.metrics

    note = time_needed(config, model, batches, validation, len(test))
    run = runs.Run(config, "vision.captioning.dense", "shapes", note=note, score=SCORE, unit="images")
    run.track(model=model, optimizer=optimizer, **scaler.parts)
    optimizers.train_mode(model)
    try:
        for step in run.steps(config.steps, stride=config.batch):
            factor = schedules.at(config.schedule, step / config.steps)
            optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
            run.log(learn(*batches.training(step)))
            last = step + config.batch >= config.steps
            if run.due(config.evaluate_every) or last:
                validate(run, model, validation)
                optimizers.train_mode(model)
            if last:
                report(run, model, test)
    finally:
        batches.close()


def time_needed(
    config: Config, model: DenseCaptioner, batches: Batches, validation: Sequence[Sample], test: int
) -> str:
    """About how long a run takes, in a sentence. test: scenes of the test."""
    few = [validation[index] for index in range(min(config.batch, len(validation)))]
    return estimate(
        config, model, lambda trial: sum(trial.losses(*batches.training(0)).values()).backward(),
        lambda trial: evaluate(trial, few, config.beam),
        tried=len(few), validation=len(validation), test=test,
    )  # fmt: skip


def evaluate(
    model: DenseCaptioner, samples: Sequence[Sample], beam: int, shown: int = 0
) -> tuple[dict[str, float], list[tuple[Sample, Described]]]:
    """Scores of what is described in samples, and the first `shown` of them."""
    device, matches, kept = next(model.parameters()).device, [], []
    for begin in range(0, len(samples), TOGETHER):
        part = [samples[index] for index in range(begin, min(begin + TOGETHER, len(samples)))]
        images = torch.stack([sample.image for sample in part]).to(device)
        for sample, described in zip(part, model.describe(images, beam), strict=True):
            matches.append(compare(described, sample.target))
            if len(kept) < shown:
                kept.append((sample, described))
    return scores(matches), kept


def validate(run: runs.Run, model: DenseCaptioner, samples: Sequence[Sample]) -> None:
    """Evaluate on the validation scenes, save the best backbone, and draw regions with their sentences."""
    with run.side_task("evaluation", needed=True):
        found, shown = evaluate(model, samples, run.config.beam, run.config.pictures)
    if run.log_evaluation({f"eval/{name}": value for name, value in found.items()}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(VOCABULARY) as path:
            model.vocabulary.save(path)
    if shown:
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            draw([(sample.image, described) for sample, described in shown], path)


def report(run: runs.Run, model: DenseCaptioner, samples: Sequence[Sample]) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        found, _ = evaluate(model, samples, run.config.beam)
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/images": len(samples), "test/of_step": step})
    words = f"map {found['map']:.3f}, {found['place_map']:.3f} of places alone, {found['exact']:.1f}% exact"
    run.bar.say(f"test of {len(samples):,} scenes, weights of step {step:,}: {words}")


def draw(shown: Sequence[tuple[Tensor, Described]], path: Path, least: float = 0.5) -> None:
    """Draw images (3, H, W) uint8 with the regions of `least` score, numbered, and their sentences below."""
    from matplotlib.figure import Figure

    columns = min(4, len(shown))
    figure = Figure(figsize=(3.2 * columns, 3.8 * -(-len(shown) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (image, (found, captions)) in zip(axes, shown, strict=False):
        rows = [row for row in range(len(found)) if found.scores[row] >= least]
        own = found[torch.tensor(rows, dtype=torch.int64)]
        panel(axis, image, own.boxes, torch.arange(len(rows)), [str(row + 1) for row in range(len(rows))])
        lines = [f"{number} {captions[row]}" for number, row in enumerate(rows, start=1)]
        axis.set_title("\n".join(lines), fontsize=7, loc="left", parse_math=False, y=-0.02, verticalalignment="top")
    figure.savefig(path, dpi=100, format="png")


class Trained(NamedTuple):
    """A run's network: load(run).describe(images)."""

    config: Config
    model: DenseCaptioner  # of the best evaluation

    def describe(self, images: Tensor) -> list[Described]:
        """Regions of images (N, 3, H, W) uint8 with a sentence each, best first."""
        return self.model.describe(images.to(next(self.model.parameters()).device), self.config.beam)


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config and network, that of the best evaluation. Raises RunError where there is no such run."""
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(Config, folder, "vision.captioning.dense", VOCABULARY)
    known = config.backbone in backbones.BACKBONES
    own = dataclasses.replace(config, backbone=config.backbone if known else str(folder))
    model = build(own, Vocabulary.load(folder / VOCABULARY))
    model.load_state_dict(parts["model"])
    return Trained(config, model.to(device, memory_format=torch.channels_last).eval())


if __name__ == "__main__":
    runs.launch(train, Config, None, "vision.captioning.dense", __doc__)
