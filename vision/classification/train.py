"""Image classification with any backbone: training from scratch, fine-tuning and transfer learning.

Lectures 2 to 9 of CS231n in one program: losses, penalties, optimizers, schedules, initialization, augmentation, and
transfer from published weights, from another run, or from an agent's backbone.

    python -m vision.classification                                  # drawn shapes: no download
    python -m vision.classification --data mnist
    python -m vision.classification --data cifar10 --backbone resnet18
    python -m vision.classification --data cifar10 --backbone resnet18 --check      # sanity checks, no training
    python -m vision.classification --data cifar10 --shots 100 --backbone results/shapes/classification-1 --train last

Images are bytes on the device, augmented there, and count as x / 255, as for agents, so that a backbone serves both.
With --center, --scale or --whitening the backbone standardizes its inputs itself, by statistics of the training
images, which are saved with its weights. The weights of the best validation error are tested once, at the end; they
are in checkpoint/best.pt, and their backbone in backbone.safetensors. See also vision.classification.search and
.ensembles.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

import runs
from runs import checkpoint, loss_scaling, parallel, saved, suggestions
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import choose, precision
from runs.printing import printable
from runs.saved import best_copy
from vision import backbones, data
from vision.backbones.layers.initialization import initialize, whiten
from vision.classification import checks, classifier
from vision.classification.classifier import Classifier
from vision.classification.flags import BackboneFlags, DataFlags, PreprocessingFlags
from vision.classification.layer_statistics import LayerStatistics
from vision.classification.objective import LossFlags, forward, objective
from vision.data.image_files import read_image
from vision.data.sets import set_name
from vision.training import augmentation, losses, optimizers, sampling, schedules


@dataclasses.dataclass(frozen=True)
class Config(DataFlags, PreprocessingFlags, BackboneFlags, LossFlags, runs.Options):
    steps: Count = 400_000  # images shown
    batch: Count = 128  # images an update
    optimizer: str = "nesterov"  # sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, muon, newton, bfgs, lbfgs
    learning_rate: NonNegative = 0.1  # at its highest
    momentum: Share = 0.9  # of momentum, nesterov and muon; beta_1 of adam and adamw
    weight_decay: NonNegative = 5e-4  # of the optimizer
    decay_biases: bool = True  # weight decay of norms and biases too
    bias_scale: NonNegative = 1.0  # learning rate of norms and biases, times the others'
    layer_decay: NonNegative = 1.0  # learning rate of a stage, times the next one's: below 1 early ones learn slower
    max_weight_norm: NonNegative = 0.0  # length of the weights into a unit, at most; 0: any (max-norm constraint)
    schedule: Literal[schedules.ALL] = "one_cycle"  # of the learning rate: see vision/training/schedules.py
    halve_every: Positive = 5.0  # schedule halve: passes over the training images between its drops
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    drop_after: Count = 3  # plateau: evaluations without a smaller error before the rate drops to a tenth
    snapshots: Whole = (
        0  # schedule snapshots: cycles, each of which ends in a member for vision.classification.ensembles
    )
    stop_after: Whole = 0  # evaluations without a smaller error before the run ends (early stopping); 0: it does not
    ema_decay: Share = 0.0  # of a moving average of the weights, kept an update; what is then evaluated; 0: none
    augment: str = "none"  # such as "flip,crop" or "flip,crop=2,cutout=8": vision/training/augmentation.py
    test: bool = True  # test the weights of the best evaluation, once, at the end
    views: Literal[1, 2, 5, 10, 50] = 1  # of an image in the last test: 2, mirrored; 10, corners too; 50, five sizes
    evaluate_every: Count = 20_000  # images shown between evaluations on validation
    log_every: Count = 10_000  # images shown a line of metrics.jsonl
    layers_every: Whole = 0  # images between measurements of activations, gradients, updates by layer; 0: none
    bf16: bool = True  # calculate in bfloat16 where CPU or GPU is fast at it; weights stay float32
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling
    compile: bool = False  # torch.compile the network
    capture: bool = False  # CUDA: learn becomes a graph of the device, launched whole
    check: bool = False  # the sanity checks of checks.py instead of training

    @property
    def binding(self) -> tuple[str, ...]:
        """Where the learning rate or the end depends on evaluations, so does the run on their interval."""
        return ("evaluate_every",) if self.schedule == "plateau" or self.stop_after else ()

    def validate(self) -> None:
        super().validate()
        if self.backbone:
            backbones.check(self.backbone)
        if (self.schedule == "snapshots") != (self.snapshots > 0):
            raise ValueError("--schedule snapshots and --snapshots M, the number of its cycles, go together")
        if self.capture and self.pool.startswith("fractional"):
            raise ValueError(
                "--capture repeats a step as it was, and fractional pools draw their regions anew in each"
            )
        if self.capture and self.layers_every:
            raise ValueError("--capture launches updates whole, and none can be measured: leave out --layers-every")
        if self.fp16 and self.optimizer in optimizers.SECOND_ORDER:
            raise ValueError(f"--fp16: {self.optimizer} searches along lines, where no update can be left out")
        loss_scaling.check(self, "capture")


COLOR = dict(augment="flip,crop", views=2, steps=1_350_000, evaluate_every=45_000, log_every=9_000)
RECIPES: dict[str, dict] = {  # of any backbone, by data set; COLOR for one that is not here
    "shapes": dict(steps=120_000),
    "mnist": dict(augment="rotate=10,crop=2", steps=440_000, evaluate_every=55_000),
    "fashion_mnist": dict(augment="flip,crop=2", views=2, steps=825_000, evaluate_every=55_000),
    "cifar10": COLOR,
    "cifar100": COLOR,
    "svhn": COLOR | dict(augment="crop", views=1),
}
# Jordan 2024's numbers for half of its batch: there the rate of a mean loss of 1,024 images is 1.5 at its peak.
AIRBENCH = dict(backbone="airbench", whiten=True, momentum=0.85, weight_decay=1.3e-3, bias_scale=64.0, smoothing=0.2)
BACKBONE_RECIPES: dict[str, dict] = {  # where no other backbone is asked for
    "shapes": dict(backbone="airbench", width=0.25, whiten=True, learning_rate=0.4, weight_decay=1e-3, steps=60_000),
    "mnist": dict(backbone="airbench", width=0.25, learning_rate=0.2, weight_decay=1e-3, smoothing=0.1),
    "fashion_mnist": dict(backbone="airbench", width=0.5, learning_rate=0.2, weight_decay=1e-3, smoothing=0.1),
    "cifar10": AIRBENCH | dict(batch=512, learning_rate=0.75, augment="flip,reflect=2", views=10, steps=720_000),
    "cifar100": AIRBENCH | dict(batch=512, learning_rate=0.75, augment="flip,reflect=2", views=10, steps=720_000),
    "svhn": AIRBENCH | dict(batch=512, learning_rate=0.75, augment="reflect=2", steps=720_000),
}
SCORE = runs.Score("eval/error", "min", unit="%")  # of validation images; the test's choose nothing
SAMPLE = 5_000  # training images that whitening is measured on, and colors where images are streamed
FINETUNE = dict(learning_rate=0.01)  # of pretrained backbones
# Times the rate of cross-entropy. With equal logits the gradient at the true class is 1 - 1/C of cross-entropy, C - 1
# of the hinge and twice that of its square, which grows with the violations besides: 10 and 20 times at 10 classes.
LOSS_RATES = {"cross_entropy": 1.0, "hinge": 0.1, "squared_hinge": 0.02}


def recipe(asked: Config) -> Config:
    """The recipe of the data, the backbone and the loss. Raises ValueError for unknown data."""
    if asked.data in data.SETS:
        numbers = RECIPES.get(asked.data, COLOR)
    elif Path(asked.data).is_dir():
        numbers = COLOR
    else:
        hint = suggestions.one_of(asked.data, data.SETS)
        raise ValueError(f"unknown data {asked.data!r}: {hint} (or a folder with a folder of images for every class)")
    fitting = BACKBONE_RECIPES.get(asked.data, dict(backbone="resnet18"))
    if asked.backbone in (None, fitting["backbone"]):
        numbers = numbers | fitting
    elif asked.backbone not in backbones.BACKBONES:
        numbers = numbers | FINETUNE
    rate = numbers.get("learning_rate", Config.learning_rate) * LOSS_RATES[asked.loss]
    return Config(
        **{"data": asked.data, "backbone": asked.backbone, "loss": asked.loss} | numbers | {"learning_rate": rate}
    )


def images_of(config: Config) -> data.Sets:
    """The image data set of a config, or the subset that it asks for."""
    sets = data.load(config.data, config.data_folder, config.size, config.stream)
    return sampling.subset(sets, config.shots, config.fold, config.folds, config.seed)


def build(config: Config, shape: tuple[int, ...], classes: int) -> Classifier:
    """The classifier of a config for images (C, H, W), with pretrained weights where the config names some.

    Raises ValueError for options that the backbone lacks.
    """
    name = str(config.backbone)
    asked = {key: getattr(config, key) for key in ("stem", "width", "norm", "activation", "init")}
    asked["pool"] = None if config.pool == "own" else config.pool
    options = {key: value for key, value in asked.items() if value is not None}
    if name in backbones.BACKBONES and "stem" not in options and max(shape[1:]) <= 64:
        options |= {"stem": "cifar"} if "cifar" in backbones.BACKBONES[name].stems else {}
    model = classifier.build(name, shape, classes, config.dropout, config.dropconnect, config.body_dropout, **options)
    if config.init:
        initialize(model.head, config.init)
    standardization = config.standardization(shape)
    if standardization and model.backbone.spec.get("standardization") != standardization.spec():
        model.backbone.standardize(standardization)
    return model


def prepare(config: Config, sets: data.Sets, device: torch.device) -> Classifier:
    """The classifier of a config, initialized for training, on the device."""
    model = build(config, tuple(sets.train.images.shape[1:]), len(sets.classes))
    if config.standardization(model.backbone.shape):
        model.backbone.normalize.fit(sets.train.images[:SAMPLE] if config.stream else sets.train.images)
    if config.whiten:
        first = next(layer for layer in model.backbone.modules() if isinstance(layer, nn.Conv2d))
        whiten(first, model.backbone.normalize(sets.train.images[:SAMPLE]))
    if config.reuse_classes:
        trained = load(config.backbone, "cpu")
        shared = classifier.reuse_classes(model, trained.models[0], sets.classes, trained.sets.classes)
        print(printable(f"classifier weights of {config.backbone} for {', '.join(shared)}"))
    optimizers.set_trainable(model, config.train)
    return model.to(device, memory_format=torch.channels_last)


@torch.inference_mode()
def probabilities(config: Config, model: Classifier, images: Tensor, views: int = 1, batch: int = 500) -> Tensor:
    """Class probabilities (N, classes) of images (N, C, H, W) uint8, averaged over views (augmentation.views)."""
    model.eval()
    found = []
    for rows in images.split(batch):
        with precision(config, images.device):
            found.append(sum(model(view).float().softmax(1) for view in augmentation.each_view(rows, views)) / views)
    return torch.cat(found)


def score(probability: Tensor, labels: Tensor) -> dict[str, float]:
    """Error and accuracy in percent, and the loss in nats, of probabilities (N, classes) for labels (N,)."""
    right = 100 * ((probability.argmax(1) == labels).sum().item() / len(labels))
    loss = -probability.gather(1, labels[:, None]).clamp(min=1e-9).log().mean().item()
    return {"error": 100 - right, "accuracy": right, "loss": loss}


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets, seed = images_of(config), config.seed
    if config.check:
        raise SystemExit(checks.report(config, prepare(config, sets, device), sets.train))
    train, validation = (data.Labeled(*(field.to(device) for field in part)) for part in sets[:2])
    config = parallel.share(config)
    if parallel.ranks() > 1 and config.optimizer in optimizers.SECOND_ORDER:
        raise ValueError(f"--optimizer {config.optimizer}: it searches along lines, which several processes cannot")
    if len(train.labels) < config.batch:
        raise ValueError(f"{len(train.labels)} training images are fewer than --batch {config.batch}")
    run = runs.Run(config, "vision.classification", set_name(config.data), score=SCORE, unit="images")

    model = prepare(config, sets, device)
    averaged = copy.deepcopy(model).requires_grad_(False) if config.ema_decay else model
    optimizer = optimizers.build(
        config.optimizer,
        optimizers.groups(model, config.weight_decay, config.decay_biases, config.layer_decay, config.bias_scale),
        config.learning_rate,
        config.momentum,
        device if config.capture else None,
    )
    plateau = schedules.PlateauSchedule(config.drop_after if config.schedule == "plateau" else 0, config.stop_after)
    layers = LayerStatistics(model)
    measured = {"layers": layers} if config.layers_every else {}
    scaler = LossScaler(config.fp16, device)
    run.track(model=model, averaged=averaged, optimizer=optimizer, plateau=plateau, **measured, **scaler.parts)

    change = augmentation.Augmentation(config.augment, train.images[:SAMPLE] if config.stream else train.images)
    call = torch.compile(forward) if config.compile else forward
    classes, halvings = len(sets.classes), config.steps / (config.halve_every * len(train.labels))

    def learn(images: Tensor, shares: Tensor, call: Callable = call) -> dict[str, Tensor]:
        logits = None

        def closure() -> Tensor:  # the second-order optimizers call it several times, the others once
            nonlocal logits
            optimizer.zero_grad()
            with precision(config, device):
                loss, logits = objective(config, model, images, shares, call)
            optimizers.backward(optimizer, scaler.scale(loss))
            parallel.average(model)
            return loss

        loss = scaler.step(optimizer, closure)
        if config.max_weight_norm:
            optimizers.constrain_norms(model, config.max_weight_norm)
        right = (logits.detach().argmax(1) == shares.argmax(1)).float().mean()
        return {"loss/train": loss.detach(), "train/accuracy": right} | scaler.metrics

    if config.capture:
        learn = runs.Captured(learn, device)
    optimizers.train_mode(model)
    for step in run.steps(config.steps, stride=config.batch):
        progress = step / config.steps
        factor = schedules.at(config.schedule, progress, config.warm_up, config.snapshots, halvings) * plateau.factor
        optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
        rows = parallel.part(sampling.batch_indices(len(train.labels), step, config.batch, seed, device))
        images, labels, mix = change(train.images[rows]), train.labels[rows], None
        if config.stream:  # read on while this batch is learned from
            train.images.prefetch(
                parallel.part(
                    sampling.batch_indices(len(train.labels), step + config.batch, config.batch, seed, device)
                )
            )
        if config.mixup:
            images, labels, *mix = augmentation.mixup(images, labels, config.mixup)
        shares = losses.targets(labels, classes, config.smoothing, mix)
        if run.due(config.layers_every, first=config.batch):
            with layers.measure(step):
                run.log(learn(images, shares, forward))
            run.log(layers.metrics())
        else:
            run.log(learn(images, shares))
        if config.ema_decay:
            optimizers.ema_update(averaged, model, config.ema_decay, updates=step // config.batch)
        last = step + config.batch >= config.steps
        if run.due(config.evaluate_every) or last:
            plateau.record(parallel.first(evaluate(run, averaged, validation)))
            optimizers.train_mode(model)
        if config.snapshots and run.due(config.steps // config.snapshots):
            snapshot(run, model)
        if plateau.done and not last:
            run.stop()
        if layers.records and (plateau.done or last):
            with run.side_task("picture"):
                layers.draw(run.folder / "layers.png")
        if config.test and (plateau.done or last):
            test(run, averaged, sets.test)


def evaluate(run: runs.Run, model: Classifier, validation: data.Labeled) -> float:
    """Evaluate on the validation images, and save the best backbone so far. Returns the error in percent."""
    with run.side_task("evaluation", needed=True):
        found = score(probabilities(run.config, model, validation.images), validation.labels)
    line = {"eval/error": found["error"], "eval/loss": found["loss"], "eval/images": len(validation.labels)}
    if run.log_evaluation(line):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
    return found["error"]


def test(run: runs.Run, model: Classifier, unseen: data.Labeled) -> None:
    """Test the weights of the best evaluation, once, without and with test-time augmentation (the config's views)."""
    model, step = best_copy(run, model, "averaged")
    images, labels = (field.to(run.device) for field in unseen)
    with run.side_task("evaluation", needed=True):
        found = score(probabilities(run.config, model, images), labels)
        line = {f"test/{word}": value for word, value in found.items()}
        if run.config.views > 1:
            found = score(probabilities(run.config, model, images, run.config.views), labels)
            line |= {f"test/{word}_{run.config.views}": value for word, value in found.items()}
    run.log_evaluation(line | {"test/images": len(labels), "test/of_step": step})
    errors = ", ".join(f"{value:.2f}% ({word})" for word, value in line.items() if "error" in word)
    run.bar.say(f"errors of {len(labels):,} images, weights of step {step:,}: {errors}")


def snapshot(run: runs.Run, model: Classifier) -> None:
    """Save the weights at the end of a cycle."""
    with run.writing(f"snapshots/{run.step + run.stride:012d}.pt") as path:
        checkpoint.save_file({"averaged": model.state_dict()}, path, run.identity)


class Trained(NamedTuple):
    """A run's classifiers: config, data, models = load(run), or load(run).predict(images)."""

    config: Config
    sets: data.Sets
    models: list[Classifier]  # in evaluation mode: of the best evaluation, or snapshots, of which the mean counts

    def probabilities(self, images: Tensor | Sequence[str | Path]) -> Tensor:
        """(N, classes), for images (N, C, H, W) uint8 as the data set has them, or for the paths of N files."""
        shape = self.sets.train.images.shape[1:]
        if not isinstance(images, Tensor):
            if shape[0] != 3 or shape[1] != shape[2]:
                raise ValueError(f"files are read as square images in color, and this run's are {tuple(shape)}")
            images = torch.stack([read_image(path, shape[1]) for path in images])
        if images.dtype != torch.uint8 or images.shape[1:] != shape:
            raise ValueError(
                f"these images are {tuple(images.shape)} of {images.dtype}: the run has learned from "
                f"(N, {', '.join(map(str, shape))}) of torch.uint8"
            )
        images = images.to(next(self.models[0].parameters()).device)
        return torch.stack([probabilities(self.config, model, images) for model in self.models]).mean(0)

    def predict(self, images: Tensor | Sequence[str | Path]) -> list[str]:
        """The class names of N images: (N, C, H, W), or paths, as in `probabilities`."""
        return [self.sets.classes[label] for label in self.probabilities(images).argmax(1).tolist()]


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, its data, and its classifiers: that of the best evaluation, or all of its snapshots.

    The data have to be where the run found them. Raises RunError where there is no such run, or it has not been
    evaluated yet.
    """
    device = choose(str(device))
    folder = Path(folder)
    described = saved.about(folder)
    if described["program"] != "vision.classification":
        raise runs.RunError(f"{folder} is a run of {described['program']}, not of vision.classification")
    config = saved.config(Config, folder, described)
    files = sorted((folder / "snapshots").glob("*.pt")) or [folder / "checkpoint" / "best.pt"]
    if not files[0].exists():
        raise runs.RunError(f"{folder} was not evaluated yet: let it train until its first evaluation")
    sets = images_of(config)
    backbone = (
        config.backbone if config.backbone in backbones.BACKBONES else str(folder)
    )  # a pretrained one is saved here
    models = []
    for file in files:
        state = saved.weights(file, described.get("id"))
        model = build(
            dataclasses.replace(config, backbone=backbone), tuple(sets.train.images.shape[1:]), len(sets.classes)
        )
        model.load_state_dict(state.get("parts", state)["averaged"])
        models.append(model.to(device, memory_format=torch.channels_last).eval())
    return Trained(config, sets, models)
