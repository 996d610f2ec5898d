"""Multi-label classification with any backbone: which classes of objects are in an image, by image-level labels.

    python -m vision.classification.multi_label                                     # drawn scenes: no download
    python -m vision.classification.multi_label --data results/seaquest-coco        # a recorded game
    python -m vision.classification.multi_label --data path/to/voc2007 --backbone resnet18:imagenet
    python -m vision.interpretation.attribution_scores results/seaquest-coco/multi_label-1    # where it looks

Images come from annotated folders (COCO, VOC, YOLO), of whose boxes it only learns that the class is there; binary
cross-entropy of each class. The score is the mean average precision of validation images, by the rules of Pascal
VOC's classification challenge (Everingham et al. 2010); the best weights are tested once, at the end. Objects that
are difficult (VOC) or crowds (COCO) count neither way. Classes that less than 1% of the training images have, or
lack, are left out, and named: nothing can be learned of what is always there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs import saved
from runs.flag_types import Count, NonNegative, Positive, Share
from runs.machine import choose, precision
from runs.printing import printable
from runs.saved import best_copy
from vision import backbones
from vision.classification import classifier
from vision.classification.classifier import Classifier
from vision.classification.multi_label import data, metrics
from vision.classification.multi_label.max_pooling import MaxPooledHead
from vision.data import annotated
from vision.data.image_files import read_whole
from vision.data.samples import Sample
from vision.data.sets import set_name
from vision.training import optimizers, schedules
from vision.training.estimate import estimate

PROGRAM = "vision.classification.multi_label"


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = annotated.SHAPES  # shapes, or a folder of annotated images
    format: Literal["auto", "coco", "voc", "yolo"] = "auto"  # of the folder
    backbone: str | None = None  # a name, name:weights, or a run's folder; None: the recipe's
    width: Positive | None = None  # times a new backbone's channels; None: as published
    stem: str | None = None  # of a new backbone: imagenet, cifar or atari; None: the family's
    norm: str | None = None  # of a new backbone: none, batch, layer, group or instance; None: the family's
    pooling: Literal["mean", "max"] = "mean"  # of the last map's places: global average or global max pooling
    size: Count | None = None  # pixels, side of squares that images are stretched to; None: as they are, all equal
    steps: Count = 40_000  # images shown
    batch: Count = 16  # images an update
    optimizer: str = "adamw"  # of vision/training/optimizers.py
    learning_rate: NonNegative = 5e-4  # at its highest
    momentum: Share = 0.9  # of momentum, nesterov and muon; beta_1 of adam and adamw
    weight_decay: NonNegative = 0.05
    clip: NonNegative = 10.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    augment: Literal["none", "flip", "color"] = "flip"  # changes of training images; color: jitter and flip
    evaluate_every: Count = 5_000  # images shown between evaluations
    log_every: Count = 500  # images shown a line of metrics.jsonl
    bf16: bool = True  # calculate in bfloat16 where CPU or GPU is fast at it; weights stay float32

    def validate(self) -> None:
        super().validate()
        if self.backbone:
            backbones.check(self.backbone)


SMALL = dict(learning_rate=4e-3, pooling="max", evaluate_every=4_000, log_every=400)
# Objects of games are small, and tell more than what is around them: receptive fields of 18 pixels, 4 pixels apart.
FINE = dict(backbone="nature", stem="cifar", norm="batch", width=0.5)
RECIPES: dict[str, dict] = {  # by annotated.recipe_key
    annotated.SHAPES: SMALL | dict(backbone="resnet20", steps=40_000),
    "recording": SMALL | FINE | dict(steps=12_000, augment="none"),
    "folder": dict(size=224, augment="color"),
}
ABOUT = "classes.json"  # names of the learned classes and shape of an image, in a run's folder
SCORE = runs.Score("eval/map", "max")  # of validation images
AT_ONCE = 32  # images of an evaluation


def recipe(asked: Config) -> Config:
    """The recipe of the data; of its backbone only where no other one is asked for."""
    numbers = dict(backbone="resnet18") | RECIPES[annotated.recipe_key(asked.data)]
    if asked.backbone not in (None, numbers["backbone"]):
        numbers = {key: value for key, value in numbers.items() if key not in FINE} | {"backbone": asked.backbone}
    return Config(data=asked.data, **numbers)


def build(config: Config, shape: Sequence[int], classes: int) -> Classifier:
    """The network of a config for images (C, H, W), with pretrained weights where its backbone has some."""
    options = {key: value for key in ("width", "stem", "norm") if (value := getattr(config, key)) is not None}
    model = classifier.build(str(config.backbone), shape, classes, **options)
    if config.pooling == "max":
        model.head = MaxPooledHead(model.backbone.channels[-1], classes)
    return model


def loss(logits: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy, mean over images and classes, of logits and presence (B, K); NaN counts neither way."""
    known = ~present.isnan()
    each = F.binary_cross_entropy_with_logits(logits.float(), present.nan_to_num(0.0), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = data.load(config.data, config.format)
    for note in sets.notes:
        Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
    if len(sets.train) < config.batch:
        raise ValueError(f"{len(sets.train)} training images are fewer than --batch {config.batch}")
    present = [data.presences(part, len(sets.classes)) for part in sets[:3]]
    learned = data.learnable(present[0])
    names = tuple(sets.classes[label] for label in learned.tolist())
    if not names:
        raise ValueError(f"{config.data} has no class that some of its training images have and others lack")
    if left_out := [name for name in sets.classes if name not in names]:
        words = f"not learned, because nearly all or hardly any training images have it: {', '.join(left_out)}"
        Console(stderr=True).print(printable(words), highlight=False, markup=False, soft_wrap=True)
    present = [part[:, learned] for part in present]
    for part, there in zip(("validation", "test"), present[1:], strict=True):
        if not any(0 < each.nansum() < (~each.isnan()).sum() for each in there.T):
            raise ValueError(f"no class is in some of the {part} images and not in others: nothing can be scored")
    shape = tuple(data.resizing(config.size)(sets.train[0]).image.shape)
    model = build(config, shape, len(names)).to(device, memory_format=torch.channels_last)
    weights = optimizers.groups(model, config.weight_decay, decay_biases=False)
    optimizer = optimizers.build(config.optimizer, weights, config.learning_rate, config.momentum)
    batches = data.Batches(sets.train, present[0], config.size, config.batch, config.seed, config.augment, device)

    def objective(model: Classifier, images: Tensor, present: Tensor) -> Tensor:
        with precision(config, device):
            logits = model(images)
        return loss(logits, present)

    def learn(images: Tensor, present: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        total = objective(model, images, present)
        total.backward()
        lines = {"loss/train": total.detach()}
        if config.clip:
            lines["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        return lines

    try:
        note = estimate(
            config, model, lambda trial: objective(trial, *batches.training(0)).backward(),
            lambda trial: scores(config, trial, [sets.validation[0]]),
            tried=1, validation=len(sets.validation), test=len(sets.test),
        )  # fmt: skip
        run = runs.Run(config, PROGRAM, set_name(config.data), note=note, score=SCORE, unit="images")
        run.track(model=model, optimizer=optimizer)
        optimizers.train_mode(model)
        for step in run.steps(config.steps, stride=config.batch):
            factor = schedules.at(config.schedule, step / config.steps, config.warm_up)
            optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
            run.log(learn(*batches.training(step)))
            last = step + config.batch >= config.steps
            if run.due(config.evaluate_every) or last:
                evaluate(run, model, sets.validation, present[1], names, shape)
                optimizers.train_mode(model)
            if last:
                test(run, model, sets.test, present[2], names)
    finally:
        batches.close()


@torch.inference_mode()
def scores(config: Config, model: Classifier, samples: Sequence[Sample]) -> Tensor:
    """The logits (N, K) on the CPU of N samples, resized as the config says."""
    model.eval()
    device, resize, found = next(model.parameters()).device, data.resizing(config.size), []
    for begin in range(0, len(samples), AT_ONCE):
        rows = range(begin, min(begin + AT_ONCE, len(samples)))
        images = data.stack([resize(samples[row]).image for row in rows]).to(device)
        with precision(config, device):
            found.append(model(images).float().cpu())
    return torch.cat(found)


def measure(
    config: Config, model: Classifier, samples: Sequence[Sample], present: Tensor, names: Sequence[str], part: str
) -> dict[str, float]:
    """Mean average precision and loss of a part of N samples, and the average precision by class.

    present: (N, K). The mean is over the classes that some of the images have and others lack: one at least.
    """
    logits = scores(config, model, samples)
    precisions = dict(zip(names, metrics.by_class(logits, present), strict=True))
    known = {name: value for name, value in precisions.items() if math.isfinite(value)}
    line = {f"{part}/map": sum(known.values()) / len(known), f"{part}/loss": loss(logits, present).item()}
    return line | {f"{part}/ap_{name.replace(' ', '_')}": value for name, value in known.items()}


def evaluate(
    run: runs.Run,
    model: Classifier,
    samples: Sequence[Sample],
    present: Tensor,
    names: Sequence[str],
    shape: Sequence[int],
) -> None:
    """Evaluate on N validation images, of which present (N, K) says which classes are there; save the best backbone.

    shape: (C, H, W) of an image.
    """
    with run.side_task("evaluation", needed=True):
        line = measure(run.config, model, samples, present, names, "eval")
    if run.log_evaluation(line | {"eval/images": len(samples)}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(ABOUT) as path:
            path.write_text(json.dumps({"classes": list(names), "shape": list(shape)}))


def test(run: runs.Run, model: Classifier, samples: Sequence[Sample], present: Tensor, names: Sequence[str]) -> None:
    """Test the weights of the best evaluation, once, on N images whose classes are present (N, K)."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        line = measure(run.config, model, samples, present, names, "test")
    run.log_evaluation(line | {"test/images": len(samples), "test/of_step": step})
    run.bar.say(f"test of {len(samples):,} images, weights of step {step:,}: mean AP {line['test/map']:.3f}")


class Trained(NamedTuple):
    """A run's network: load(run).predict(["a.png"]) names the classes that are in an image."""

    config: Config
    classes: tuple[str, ...]  # the learned ones, in the order of logits
    model: Classifier  # in evaluation mode

    def probabilities(self, images: Sequence[Tensor | str | Path]) -> Tensor:
        """(N, K), of images (C, H, W) uint8 or the paths of their files: whether each class is there."""
        samples = [Sample(each if isinstance(each, Tensor) else read_whole(each)) for each in images]
        return scores(self.config, self.model, samples).sigmoid()

    def predict(self, images: Sequence[Tensor | str | Path]) -> list[list[str]]:
        """The names of the classes that are probably there, of each image (C, H, W) uint8 or its file."""
        found = self.probabilities(images) > 0.5
        return [[name for name, there in zip(self.classes, row, strict=True) if there] for row in found.tolist()]


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, class names and network, that of the best evaluation.

    Raises RunError where there is no such run, or nothing was saved yet.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(Config, folder, PROGRAM, ABOUT)
    about = json.loads((folder / ABOUT).read_text())
    known = config.backbone in backbones.BACKBONES  # a pretrained one is saved here
    own = config if known else dataclasses.replace(config, backbone=str(folder), width=None, stem=None, norm=None)
    model = build(own, about["shape"], len(about["classes"]))
    model.load_state_dict(parts["model"])
    model = model.to(device, memory_format=torch.channels_last).eval()
    return Trained(config, tuple(about["classes"]), model)
