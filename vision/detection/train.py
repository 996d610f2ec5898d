"""Object detection with any backbone: Faster R-CNN, SSD and YOLO, trained from scratch or from a backbone.

    python -m vision.detection                                          # drawn scenes of shapes: no download
    python -m vision.detection --model ssd --backbone resnet18
    python -m vision.detection --data path/to/bccd --format voc --model faster_rcnn
    python -m vision.detection --data path/to/coco --backbone resnet50:imagenet
    python -m vision.detection predict results/shapes/detection-1 photo.jpg

Faster R-CNN: Ren et al. 2015, arXiv 1506.01497, with the pyramid of Lin et al. 2016, arXiv 1612.03144. SSD: Liu
et al. 2015, arXiv 1512.02325. YOLO: Redmon & Farhadi 2016, arXiv 1612.08242. The score is COCO's average precision of
the validation images; the best weights are tested once, at the end. Before the first step the run says what is wrong
with the data and about how long it will take. predictions/ has pictures of what was found at each evaluation.

Deviation: recipes train with AdamW and a one-cycle schedule, which on small data from scratch needs no warm-up of the
regression; the papers have SGD with momentum.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from torch import nn

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.machine import precision
from runs.printing import printable
from runs.progress import duration
from vision import backbones
from vision.detection import data, detector, faster_rcnn, plots, ssd, yolo
from vision.detection.detector import Detector
from vision.detection.evaluation import evaluate
from vision.detection.metrics import count_errors
from vision.training import optimizers, schedules


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = data.SHAPES  # shapes, or a folder of annotated images
    format: Literal["auto", "coco", "voc", "yolo"] = "auto"  # of the folder's annotations
    model: str = "faster_rcnn"  # or ssd, yolo: one of MODELS
    backbone: str = "resnet18"  # a name, name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels; None: as published
    fix_norms: bool | None = None  # keep the backbone's batch norms as they are; None: those of a pretrained one
    size: Count | None = None  # pixels of the shorter side, for ssd and yolo of both; None: 800, 300, 416
    longest: Count | None = None  # pixels of the longer side, at most (faster_rcnn)
    channels: Count = 256  # of the pyramid (faster_rcnn), of further maps (ssd), of the last ones (yolo)
    head_width: Count = 1024  # units of the box head (faster_rcnn)
    regions: Count = 512  # of an image in the loss (faster_rcnn)
    proposals: Count = 1000  # of an image (faster_rcnn)
    anchor_scale: Positive = 8.0  # sides of anchors, in strides (faster_rcnn)
    anchors: Whole = 5  # shapes of boxes (yolo); 0: version 1
    steps: Count = 40_000  # images shown
    batch: Count = 8  # images an update
    optimizer: str = "adamw"  # of vision/training/optimizers.py
    learning_rate: NonNegative = 5e-4  # at its highest
    momentum: Share = 0.9  # of momentum and nesterov; beta_1 of adam and adamw
    weight_decay: NonNegative = 0.05
    clip: NonNegative = 10.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    augment: Literal["none", "flip", "ssd"] = (
        "flip"  # changes of training images; ssd: color, expansion, IoU crop, flip
    )
    evaluate_every: Count = 5_000  # images shown between evaluations
    evaluate_images: Count = 500  # validation images at most, the first
    pictures: Whole = 8  # validation images drawn with what was found at each evaluation
    log_every: Count = 500  # images shown a line of metrics.jsonl
    bf16: bool = True  # maps in bfloat16 where CPU or GPU is fast at it; boxes and weights stay float32

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        if self.model not in MODELS:
            raise ValueError(f"unknown --model {self.model!r}: {suggestions.one_of(self.model, MODELS)}")


SMALL = dict(batch=16, learning_rate=2e-3, evaluate_every=4_000, log_every=400, steps=16_000)
RECIPES: dict[str, dict[str, dict]] = {  # by data, then by model
    data.SHAPES: {
        "faster_rcnn": SMALL
        | dict(width=0.5, channels=64, head_width=256, regions=64, proposals=200, anchor_scale=6.0),
        "ssd": SMALL | dict(width=0.5, channels=64, size=128),
        "yolo": SMALL | dict(width=0.5, channels=128, size=128),
    },
    "folder": {
        "faster_rcnn": dict(channels=128, head_width=512, regions=256, size=320, longest=533),
        "ssd": dict(augment="ssd", size=300),
        "yolo": dict(augment="ssd", size=320, channels=256),
    },
}
CLASSES = "classes.json"  # names, in the order of labels, in a run's folder
SCORE = runs.Score("eval/map", "max")  # of validation images, IoU 0.50 to 0.95
NATIVE = {"faster_rcnn": 800, "ssd": 300, "yolo": 416}  # pixels, the papers' and torchvision's


def recipe(asked: Config) -> Config:
    """The recipe of the data and the model."""
    numbers = RECIPES.get(asked.data, RECIPES["folder"]).get(asked.model, {})
    if asked.backbone not in backbones.BACKBONES:
        numbers = {key: value for key, value in numbers.items() if key != "width"}
    return Config(**{"data": asked.data, "model": asked.model, "backbone": asked.backbone} | numbers)


def side(config: Config) -> int | None:
    """Pixels that images are resized to; None: drawn scenes as they are, where nothing else is asked for."""
    if config.size is None and config.data == data.SHAPES and config.model == "faster_rcnn":
        return None
    return config.size or NATIVE.get(config.model, 800)


def build(config: Config, classes: int) -> Detector:
    """The detector of a config for color images, with pretrained weights where its backbone has some."""
    length = side(config) or NATIVE.get(config.model, 800)
    options = {} if config.width is None else {"width": config.width}
    backbone = backbones.build(config.backbone, (3, length, length), **options)
    pretrained = config.backbone not in backbones.BACKBONES
    if pretrained if config.fix_norms is None else config.fix_norms:
        detector.fix_norms(backbone)
    return MODELS[config.model](config, backbone, classes, length)


def build_faster_rcnn(config: Config, backbone: backbones.Backbone, classes: int, size: int) -> Detector:
    """Faster R-CNN of a config."""
    limits = (config.proposals,) * 2
    proposals = faster_rcnn.regions.ProposalOptions(before=limits, after=limits)
    options = faster_rcnn.Options(config.channels, config.head_width, config.anchor_scale, config.regions)
    return faster_rcnn.FasterRCNN(backbone, classes, options._replace(proposals=proposals))


def build_ssd(config: Config, backbone: backbones.Backbone, classes: int, size: int) -> Detector:
    """SSD of a config."""
    return ssd.SSD(backbone, classes, ssd.Options(size, config.channels))


def build_yolo(config: Config, backbone: backbones.Backbone, classes: int, size: int) -> Detector:
    """YOLO of a config."""
    return yolo.YOLO(backbone, classes, yolo.Options(size, config.channels, config.anchors))


MODELS: dict[str, Callable[[Config, backbones.Backbone, int, int], Detector]] = {  # config, backbone, classes, size
    "faster_rcnn": build_faster_rcnn,
    "ssd": build_ssd,
    "yolo": build_yolo,
}


def loader(config: Config, model: Detector, samples: data.Sequence, device: torch.device) -> data.Loader:
    """The training batches of a config."""
    change = data.augmentation(config.augment)
    return data.Loader(
        samples, side(config), config.longest, model.fixed_size, config.batch, config.seed, change, device
    )


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = data.load(config.data, config.format)
    for note in sets.notes:
        Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
    if len(sets.train) < config.batch:
        raise ValueError(f"{len(sets.train)} training images are fewer than --batch {config.batch}")
    model = build(config, len(sets.classes)).to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    if isinstance(model, yolo.YOLO):
        model.set_anchors(shapes_of(sets.train).to(device))
    optimizer = optimizers.build(
        config.optimizer,
        optimizers.groups(model, config.weight_decay, decay_biases=False),
        config.learning_rate,
        config.momentum,
    )
    batches = loader(config, model, sets.train, device)

    def learn(images: torch.Tensor, sizes: list, targets: list) -> dict[str, torch.Tensor]:
        optimizer.zero_grad()
        losses = model.losses(images, sizes, targets)
        total = sum(losses.values())
        total.backward()
        if config.clip:
            losses["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        return {name: value.detach() for name, value in losses.items()} | {"loss/train": total.detach()}

    note = estimate(config, model, batches, sets)
    run = runs.Run(
        config, "vision.detection", world_name(config), note=note, score=SCORE, unit="images",
        follow_up="python -m vision.detection predict",
    )  # fmt: skip
    run.track(model=model, optimizer=optimizer)
    optimizers.train_mode(model)
    try:
        for step in run.steps(config.steps, stride=config.batch):
            factor = schedules.at(config.schedule, step / config.steps, config.warm_up)
            optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
            run.log(learn(*batches.training(step)))
            last = step + config.batch >= config.steps
            if run.due(config.evaluate_every) or last:
                validate(run, model, sets)
                optimizers.train_mode(model)
            if last:
                test(run, model, sets)
    finally:
        batches.close()


def estimate(config: Config, model: Detector, batches: data.Loader, sets: data.Images) -> str:
    """About how long a run takes, in a sentence: measured by two updates, whose gradients are thrown away, and one
    batch of an evaluation. The generators are left as they were.
    """
    trial = copy.deepcopy(model)
    device = next(trial.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        optimizers.train_mode(trial)
        for _ in range(2):
            began = time.monotonic()
            images, sizes, targets = batches.training(0)
            sum(trial.losses(images, sizes, targets).values()).backward()
        update = time.monotonic() - began
        began = time.monotonic()
        trial.eval().detect(images, sizes)
        found = (time.monotonic() - began) / config.batch
    evaluations = math.ceil(config.steps / config.evaluate_every)
    images = min(len(sets.validation), config.evaluate_images) * evaluations + len(sets.test)
    seconds = update * config.steps / config.batch + found * images
    return f"about {duration(seconds)}: {config.batch / update:.1f} training images/s, {1 / found:.1f} in evaluations"


def shapes_of(samples: data.Sequence) -> torch.Tensor:
    """Widths and heights (N, 2) of boxes, in parts of their images."""
    found = []
    for index in range(len(samples)):
        target = samples.target(index)
        tall, wide = (
            samples.annotations[index].size if hasattr(samples, "annotations") else samples[index].image.shape[1:]
        )
        found.append((target.boxes[:, 2:] - target.boxes[:, :2]) / torch.tensor([wide, tall]))
    sizes = torch.cat(found)
    if not len(sizes):
        raise ValueError("the training images have no objects")
    return sizes


def world_name(config: Config) -> str:
    """The name of the folder of a data set's runs."""
    return Path(config.data).resolve().name


def validate(run: runs.Run, model: Detector, sets: data.Images) -> None:
    """Evaluate on the validation images, save the best backbone, and draw what was found."""
    config = run.config
    count = min(len(sets.validation), config.evaluate_images)
    with run.side_task("evaluation", needed=True):
        evaluator, shown = evaluate(config, model, sets, sets.validation, count, side(config), config.pictures)
    results = {name: value for name, value in evaluator.results().items() if value >= 0}
    line = {f"eval/{name}": value for name, value in results.items()}
    line |= {f"errors/{kind}": number for kind, number in count_errors(evaluator).items()}
    if run.log_evaluation(line | {"eval/images": count}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(CLASSES) as path:
            path.write_text(json.dumps({"classes": list(sets.classes)}))
    if shown:
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            plots.draw_predictions(shown, sets.classes, path)


def test(run: runs.Run, model: Detector, sets: data.Images) -> None:
    """Test the weights of the best evaluation, once."""
    best = run.best_state()
    model = copy.deepcopy(model)
    model.load_state_dict(best["parts"]["model"])
    with run.side_task("evaluation", needed=True):
        evaluator, _ = evaluate(run.config, model, sets, sets.test, len(sets.test), side(run.config))
    results = {name: value for name, value in evaluator.results().items() if value >= 0}
    line = {f"test/{name}": value for name, value in results.items()}
    run.log_evaluation(line | {"test/images": len(sets.test), "test/of_step": best["step"]})
    words = ", ".join(f"{name} {results[name]:.3f}" for name in ("map", "map_50") if name in results)
    run.bar.say(f"test of {len(sets.test):,} images, weights of step {best['step']:,}: {words}")
