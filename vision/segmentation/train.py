"""Semantic segmentation with any backbone: FCN-32s, 16s, 8s, SegNet, U-Net, and the first ideas before them.

    python -m vision.segmentation                                            # drawn scenes of shapes: no download
    python -m vision.segmentation --model unet --backbone resnet18
    python -m vision.segmentation --data results/breakout-coco               # a recorded game
    python -m vision.segmentation --data path/to/camvid --model segnet --backbone vgg16_bn --class-weights median
    python -m vision.segmentation predict results/shapes/segmentation-1 photo.jpg

fcn32s, fcn16s, fcn8s: Long et al. 2015, arXiv 1411.4038. fcn: the same on a dilated backbone, as torchvision has it.
segnet: Badrinarayanan et al. 2015, arXiv 1511.00561. unet: Ronneberger et al. 2015, arXiv 1505.04597.
full_resolution and sliding_window: where CS231n's lecture 11 begins. The score is mean IoU of the validation images;
the best weights are tested once, at the end. Before the first step the run says what is wrong with the data and about
how long it will take. predictions/ has pictures of what was predicted at each evaluation.

Deviation: recipes train with AdamW and a one-cycle schedule; the papers have SGD with momentum.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from rich.console import Console
from torch import Tensor, nn

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from runs.printing import printable
from runs.saved import best_copy
from vision import backbones
from vision.data import annotated
from vision.data.samples import Sample
from vision.data.sets import set_name
from vision.segmentation import data, dilated_fcn, fcn, full_resolution, plots, segnet, sliding_window, unet
from vision.segmentation.evaluation import evaluate
from vision.segmentation.segmenter import Segmenter
from vision.training import optimizers, schedules
from vision.training.estimate import estimate


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = annotated.SHAPES  # shapes, or a folder of images with masks, or of annotated ones with masks
    format: Literal["auto", "masks", "coco", "voc", "yolo"] = "auto"  # of the folder
    model: str = "fcn8s"  # one of MODELS
    backbone: str = "resnet18"  # a name, name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels; None: as published
    stem: str | None = None  # of a new backbone: imagenet, cifar or atari; None: the family's
    size: Count | None = None  # pixels of the shorter side that images are resized to; None: as they are
    crop: Whole = 0  # pixels, side of a random square to train on; 0: the whole image
    upsampling: Literal["bilinear", "learned", "nearest", "bed_of_nails"] = "bilinear"  # fcn32s, fcn16s, fcn8s
    hidden: Count = 512  # channels before the coarsest scores (fcn32s, fcn16s, fcn8s)
    decoder_width: Count = 64  # channels of the decoder at the finest resolution (unet)
    auxiliary: bool = False  # another head on the map before, in training (fcn)
    patch: Count = 32  # pixels, side (sliding_window)
    patches: Count = 64  # of an image in training (sliding_window)
    stride: Count = 4  # pixels between patches in evaluation (sliding_window)
    class_weights: Literal["none", "median", "root"] = "none"  # median frequency balancing, or its square root
    steps: Count = 40_000  # images shown
    batch: Count = 8  # images an update
    optimizer: str = "adamw"  # of vision/training/optimizers.py
    learning_rate: NonNegative = 5e-4  # at its highest
    momentum: Share = 0.9  # of momentum, nesterov and muon; beta_1 of adam and adamw
    weight_decay: NonNegative = 0.05
    clip: NonNegative = 10.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    augment: Literal["none", "flip", "color"] = "flip"  # changes of training images; color: jitter and flip
    evaluate_every: Count = 5_000  # images shown between evaluations
    evaluate_images: Count = 500  # validation images at most, the first
    pictures: Whole = 6  # validation images drawn with what was predicted at each evaluation
    log_every: Count = 500  # images shown a line of metrics.jsonl
    bf16: bool = True  # calculate in bfloat16 where CPU or GPU is fast at it; logits and weights stay float32
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        if self.model not in MODELS:
            raise ValueError(f"unknown --model {self.model!r}: {suggestions.one_of(self.model, MODELS)}")


SMALL = dict(width=0.5, batch=16, learning_rate=2e-3, evaluate_every=4_000, log_every=400, steps=16_000, hidden=128)
RECIPES: dict[str, dict] = {  # by annotated.recipe_key
    annotated.SHAPES: SMALL | dict(backbone="resnet18", stem="atari", decoder_width=16),
    "recording": SMALL
    | dict(backbone="resnet20", decoder_width=8, hidden=32, augment="none", class_weights="root")
    | dict(batch=4, learning_rate=4e-3, steps=8_000, evaluate_every=2_000, log_every=200),
    "folder": dict(size=320, augment="color"),
}
CLASSES = "classes.json"  # names, in the order of their numbers, in a run's folder
SCORE = runs.Score("eval/miou", "max")  # of validation images


def recipe(asked: Config) -> Config:
    """The recipe of the data; of its backbone only where no other one is asked for."""
    numbers = RECIPES[annotated.recipe_key(asked.data)]
    if asked.backbone not in (Config.backbone, numbers.get("backbone")):
        own = ("backbone", "width", "stem") if asked.backbone not in backbones.BACKBONES else ("backbone", "stem")
        numbers = {key: value for key, value in numbers.items() if key not in own} | {"backbone": asked.backbone}
    return Config(**{"data": asked.data, "model": asked.model} | numbers)


def build(config: Config, classes: int, shape: Sequence[int] = (3, 224, 224)) -> Segmenter:
    """The network of a config, with pretrained weights where its backbone has some. shape: of one image (C, H, W)."""
    options = {key: value for key in ("width", "stem") if (value := getattr(config, key)) is not None}
    side = config.patch if config.model == "sliding_window" else None
    backbone = backbones.build(config.backbone, (3, side, side) if side else tuple(shape), **options)
    return MODELS[config.model](config, backbone, classes)


def build_fcn(config: Config, backbone: backbones.Backbone, classes: int, maps: int) -> Segmenter:
    """FCN-32s, 16s or 8s of a config, which read one to three maps."""
    return fcn.FCN(backbone, classes, maps, config.hidden, config.upsampling)


def build_sliding_window(config: Config, backbone: backbones.Backbone, classes: int) -> Segmenter:
    """The sliding-window classifier of a config."""
    return sliding_window.SlidingWindow(backbone, classes, config.patch, config.stride, config.patches)


MODELS: dict[str, Callable[[Config, backbones.Backbone, int], Segmenter]] = {  # config, backbone, classes
    "sliding_window": build_sliding_window,
    "full_resolution": lambda config, backbone, classes: full_resolution.FullResolution(backbone, classes),
    "fcn32s": functools.partial(build_fcn, maps=1),
    "fcn16s": functools.partial(build_fcn, maps=2),
    "fcn8s": functools.partial(build_fcn, maps=3),
    "fcn": lambda config, backbone, classes: dilated_fcn.DilatedFCN(backbone, classes, config.auxiliary),
    "segnet": lambda config, backbone, classes: segnet.SegNet(backbone, classes),
    "unet": lambda config, backbone, classes: unet.UNet(backbone, classes, config.decoder_width),
}


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = data.load(config.data, config.format)
    for note in sets.notes:
        Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
    if len(sets.train) < config.batch:
        raise ValueError(f"{len(sets.train)} training images are fewer than --batch {config.batch}")
    model = build(config, len(sets.classes), shape_of(config, sets.train[0]))
    model = model.to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    weights = None
    if config.class_weights != "none":
        weights = data.median_weights(data.frequencies(sets.train, len(sets.classes))).to(device)
        weights = weights.sqrt() if config.class_weights == "root" else weights
    learned = optimizers.groups(model, config.weight_decay, decay_biases=False)
    optimizer = optimizers.build(config.optimizer, learned, config.learning_rate, config.momentum)
    scaler, change = LossScaler(config.fp16, device), data.augmentation(config.augment)
    batches = data.Batches(sets.train, config.size, config.crop, config.batch, config.seed, change, device)

    def learn(images: Tensor, semantic: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        losses = model.losses(images, semantic, weights)
        total = sum(losses.values())
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        if config.clip:
            losses["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        scaler.step(optimizer)
        losses = {name: value.detach() for name, value in losses.items()}
        return losses | {"loss/train": total.detach()} | scaler.metrics

    try:
        note = time_needed(config, model, batches, sets)
        run = runs.Run(
            config, "vision.segmentation", set_name(config.data), note=note, score=SCORE, unit="images",
            follow_up="python -m vision.segmentation predict",
        )  # fmt: skip
        run.track(model=model, optimizer=optimizer, **scaler.parts)
        optimizers.train_mode(model)
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


def shape_of(config: Config, sample: Sample) -> tuple[int, ...]:
    """The shape (C, H, W) of a training image as the network sees it."""
    if config.crop:
        return (3, config.crop, config.crop)
    tall, wide = sample.image.shape[1:]
    scale = config.size / min(tall, wide) if config.size else 1
    return (3, round(tall * scale), round(wide * scale))


def time_needed(config: Config, model: Segmenter, batches: data.Batches, sets: data.Images) -> str:
    """About how long a run takes, in a sentence."""
    return estimate(
        config, model, lambda trial: sum(trial.losses(*batches.training(0)).values()).backward(),
        lambda trial: evaluate(trial, sets.validation, 1, len(sets.classes), config.size),
        tried=1, validation=min(len(sets.validation), config.evaluate_images), test=len(sets.test),
    )  # fmt: skip


def validate(run: runs.Run, model: Segmenter, sets: data.Images) -> None:
    """Evaluate on the validation images, save the best backbone, and draw what was predicted."""
    config = run.config
    count = min(len(sets.validation), config.evaluate_images)
    with run.side_task("evaluation", needed=True):
        confusion, shown = evaluate(model, sets.validation, count, len(sets.classes), config.size, config.pictures)
    line = {f"eval/{name}": value for name, value in confusion.results().items()}
    if run.log_evaluation(line | {"eval/images": count}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(CLASSES) as path:
            path.write_text(json.dumps({"classes": list(sets.classes)}))
    if shown:
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            plots.draw_predictions(shown, sets.classes, path)


def test(run: runs.Run, model: Segmenter, sets: data.Images) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        confusion, _ = evaluate(model, sets.test, len(sets.test), len(sets.classes), run.config.size)
    results = confusion.results()
    line = {f"test/{name}": value for name, value in results.items()}
    for name, value in zip(sets.classes, confusion.iou().tolist(), strict=True):
        if math.isfinite(value):
            line[f"iou/{name.replace(' ', '_')}"] = value
    run.log_evaluation(line | {"test/images": len(sets.test), "test/of_step": step})
    words = f"mean IoU {results['miou']:.3f}, pixel accuracy {100 * results['pixel_accuracy']:.1f}%"
    run.bar.say(f"test of {len(sets.test):,} images, weights of step {step:,}: {words}")
