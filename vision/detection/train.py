"""Object detection with any backbone, from R-CNN to SSD and YOLO, trained from scratch or from a backbone.

    python -m vision.detection                                          # drawn scenes of shapes: no download
    python -m vision.detection --model ssd --backbone resnet18
    python -m vision.detection --data path/to/bccd --format voc --model faster_rcnn
    python -m vision.detection --data path/to/coco --backbone resnet50:imagenet
    python -m vision.detection predict results/shapes/detection-1 photo.jpg

--model localization, sliding_window, overfeat, rcnn, fast_rcnn, faster_rcnn, mask_rcnn, keypoint_rcnn, yolo, ssd,
fcos, or module:Class of one's own; each names its paper and its deviations in its file. The score is COCO's average
precision of the validation images; the best weights are tested once, at the end. Of data in VOC's format voc_map is
VOC's mean average precision besides, by the rule of 2010 to 2012. Before the first step the run says what is wrong
with the data and about how long it will take. predictions/ has pictures of what was found at each evaluation.

Deviation: recipes train with AdamW and a one-cycle schedule, which on small data from scratch needs no warm-up of the
regression; the papers have SGD with momentum.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from typing import Literal

import torch
from rich.console import Console
from torch import nn

import runs
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from runs.printing import printable
from runs.saved import best_copy
from vision import backbones
from vision.data import annotated
from vision.data.sets import set_name
from vision.detection import data, detector, models, plots
from vision.detection.detector import Detector, Objects
from vision.detection.evaluation import Scored, evaluate
from vision.detection.metrics import count_errors, libraries
from vision.detection.metrics.libraries import Library
from vision.detection.models import MODELS
from vision.detection.regions import present
from vision.training import optimizers, schedules
from vision.training.estimate import estimate


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = annotated.SHAPES  # shapes, or a folder of annotated images
    format: Literal["auto", "coco", "voc", "yolo"] = "auto"  # of the folder's annotations
    model: str = "faster_rcnn"  # one of models.py, or module:Class
    backbone: str = "resnet18"  # a name, name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels; None: as published
    train: str = "all"  # trainable weights: all, last-N (detector and last N stages), head (the detector)
    fix_norms: bool | None = None  # keep the backbone's batch norms as they are; None: those of a pretrained one
    size: Count | None = None  # pixels of the shorter side, or of both; None: the detector's own
    stretch: bool = True  # images to squares (yolo, ssd, localization, overfeat); else their shapes are kept
    longest: Count | None = None  # pixels of the longer side, at most (faster_rcnn)
    channels: Count = (
        256  # of the pyramid (faster_rcnn, fcos), of further maps (ssd), of the last ones (yolo, overfeat)
    )
    head_width: Count = 1024  # units of the dense layers (of two stages, of localization)
    regions: Count = 512  # of an image in the loss (of two stages, and of windows)
    proposals: Count = 1000  # of an image (of two stages)
    anchor_scale: Positive = 8.0  # sides of anchors, in strides (faster_rcnn)
    finest: Positive = 0.1  # scale of the finest default boxes, in parts of the image's side (ssd)
    clusters: Whole = 0  # shapes of training boxes: as anchors instead (faster_rcnn), as default boxes besides (ssd)
    top_down: bool = False  # the finest map also gets what coarser ones see (ssd)
    anchors: Whole = 5  # shapes of boxes (yolo; 0: version 1), of windows (sliding_window)
    cell: Count = 32  # pixels, stride of the map that predicts, at most (yolo)
    crop: Count = 64  # pixels, side of warped regions (rcnn, sliding_window)
    steps: Count = 40_000  # images shown
    batch: Count = 8  # images an update
    optimizer: str = "adamw"  # of vision/training/optimizers.py
    learning_rate: NonNegative = 5e-4  # at its highest
    momentum: Share = 0.9  # of momentum, nesterov and muon; beta_1 of adam and adamw
    weight_decay: NonNegative = 0.05
    clip: NonNegative = 10.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    augment: Literal["none", "flip", "ssd"] = (
        "flip"  # changes of training images; ssd: color, expansion, IoU crop, flip
    )
    evaluate_every: Count = 5_000  # images shown between evaluations
    evaluate_images: Count = 500  # validation images at most, the first
    evaluator: Library = "own"  # of boxes and masks; hotcoco and pycocotools, to compare, have to be installed
    pictures: Whole = 8  # validation images drawn with what was found at each evaluation
    log_every: Count = 500  # images shown a line of metrics.jsonl
    bf16: bool = True  # maps in bfloat16 where CPU or GPU is fast at it; boxes and weights stay float32
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        models.find(self.model)
        if self.train == "last":
            raise ValueError("--train last: what detects is no single layer; choose all, last-N or head")


CLASSES = "classes.json"  # names, in the order of labels, in a run's folder
SCORE = runs.Score("eval/map", "max")  # of validation images, IoU 0.50 to 0.95


def recipe(asked: Config) -> Config:
    """The recipe of the data and the model."""
    known = asked.model in MODELS or ":" in asked.model
    recipes = models.find(asked.model).recipes if known else {}
    numbers = recipes.get(annotated.recipe_key(asked.data), recipes.get("folder", {}))
    if asked.backbone != Config.backbone:
        numbers = {key: value for key, value in numbers.items() if key != "backbone"}
    if asked.backbone not in backbones.BACKBONES:
        numbers = {key: value for key, value in numbers.items() if key != "width"}
    return Config(**{"data": asked.data, "model": asked.model, "backbone": asked.backbone} | numbers)


def side(config: Config) -> int | None:
    """Pixels that images are resized to; None: drawn scenes as they are, where nothing else is asked for."""
    model = models.find(config.model)
    if config.size is None and config.data == annotated.SHAPES and model.keeps_scenes:
        return None
    return config.size or model.native


def build(config: Config, objects: Objects) -> Detector:
    """The detector of a config for color images, with pretrained weights where its backbone has some."""
    model = models.find(config.model)
    length = side(config) or model.native
    options = {} if config.width is None else {"width": config.width}
    backbone = backbones.build(config.backbone, (3, length, length), **options)
    pretrained = config.backbone not in backbones.BACKBONES
    if pretrained if config.fix_norms is None else config.fix_norms:
        detector.fix_norms(backbone)
    found = model.of(config, backbone, objects, length)
    found.fixed_size = model.fixed_size and config.stretch
    optimizers.set_trainable(found, config.train)
    return found


def loader(
    config: Config, model: Detector, samples: data.Sequence, device: torch.device, keypoints: int = 0
) -> data.Batches:
    """The training batches of a config."""
    change = data.augmentation(config.augment, keypoints)
    return data.Batches(
        samples, side(config), config.longest, model.fixed_size, config.batch, config.seed, change, device
    )


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    libraries.check(config.evaluator)
    sets = data.load(config.data, config.format)
    for note in sets.notes:
        Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
    if len(sets.train) < config.batch:
        raise ValueError(f"{len(sets.train)} training images are fewer than --batch {config.batch}")
    count = min(len(sets.validation), config.evaluate_images)
    if not any(len(present(sets.validation.target(row))[0]) for row in range(count)):
        raise ValueError(f"none of the first {count} validation images has an object: nothing can be scored")
    model = build(config, sets.objects).to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    model.prepare(sets.train)
    optimizer = optimizers.build(
        config.optimizer,
        optimizers.groups(model, config.weight_decay, decay_biases=False),
        config.learning_rate,
        config.momentum,
    )
    batches = loader(config, model, sets.train, device, sets.keypoints if model.kind == "keypoints" else 0)
    scaler = LossScaler(config.fp16, device)

    def learn(images: torch.Tensor, sizes: list, targets: list) -> dict[str, torch.Tensor]:
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

    note = time_needed(config, model, batches, sets)
    run = runs.Run(
        config, "vision.detection", set_name(config.data), note=note, score=SCORE, unit="images",
        follow_up="python -m vision.detection predict",
    )  # fmt: skip
    run.track(model=model, optimizer=optimizer, **scaler.parts)
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


def time_needed(config: Config, model: Detector, batches: data.Batches, sets: data.Images) -> str:
    """About how long a run takes, in a sentence: reading of its images included."""
    steps, count = itertools.count(0, config.batch), min(config.batch, len(sets.validation))
    few = sets._replace(validation=[sets.validation[index] for index in range(count)])
    resize = data.resizing(side(config), config.longest, model.fixed_size)
    return estimate(
        config, model, lambda trial: sum(trial.losses(*batches.training(next(steps))).values()).backward(),
        lambda trial: evaluate(config, trial, few, few.validation, count, side(config)),
        tried=count, validation=min(len(sets.validation), config.evaluate_images), test=len(sets.test),
        fit=lambda trial: trial.finish(few.validation, resize), fitted=min(len(sets.train), model.fitted),
    )  # fmt: skip


def validate(run: runs.Run, model: Detector, sets: data.Images) -> None:
    """Evaluate on the validation images, save the best backbone, and draw what was found."""
    config = run.config
    count = min(len(sets.validation), config.evaluate_images)
    with run.side_task("evaluation", needed=True):
        model.finish(sets.train, data.resizing(side(config), config.longest, model.fixed_size))
        scored, shown = evaluate(config, model, sets, sets.validation, count, side(config), config.pictures)
    line = {f"eval/{name}": value for name, value in results(scored).items()}
    line |= {f"errors/{kind}": number for kind, number in count_errors(scored[""]).items()}
    if run.log_evaluation(line | {"eval/images": count}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(CLASSES) as path:
            known = {"classes": list(sets.classes), "keypoints": sets.keypoints, "masks": sets.masks}
            path.write_text(json.dumps(known))
    if shown:
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            plots.draw_predictions(shown, sets.classes, path)


def test(run: runs.Run, model: Detector, sets: data.Images) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        scored, _ = evaluate(run.config, model, sets, sets.test, len(sets.test), side(run.config))
    found = results(scored)
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/images": len(sets.test), "test/of_step": step})
    names = ("map", "map_50", "voc_map", "mask_map_50", "keypoint_map_50")
    words = ", ".join(f"{name} {found[name]:.3f}" for name in names if name in found)
    run.bar.say(f"test of {len(sets.test):,} images, weights of step {step:,}: {words}")


def results(scored: Scored) -> dict[str, float]:
    """The metrics of all evaluators; those without objects are left out."""
    found = {f"{kind}{name}": value for kind, each in scored.items() for name, value in each.results().items()}
    return {name: value for name, value in found.items() if value >= 0}
