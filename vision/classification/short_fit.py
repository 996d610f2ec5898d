"""Short training of a classifier in memory, for studies that compare many, and the file that keeps their results.

    model, losses = short_fit.fit(config, sets, device)            # with every flag of vision.classification
    found = short_fit.validate(config, model, sets.validation)     # error and accuracy in percent, loss in nats
    short_fit.append(path, {"variation": "dropout", "seed": 1} | found)

There is no run, folder or checkpoint: a study that is stopped goes on with its next trial, see `rows`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runs import output
from runs.loss_scaling import LossScaler
from runs.machine import precision
from vision import data
from vision.classification import train as classification
from vision.classification.classifier import Classifier
from vision.classification.objective import objective
from vision.training import augmentation, losses, optimizers, sampling, schedules


def fit(
    config: classification.Config,
    sets: data.Sets,
    device: torch.device,
    model: Classifier | None = None,
    rate: Callable[[int], float] | None = None,
    stop: Callable[[int, Tensor], bool] | None = None,
) -> tuple[Classifier, Tensor]:
    """Train a classifier on `sets.train` for config.steps images, as vision.classification does, without its
    evaluations and what depends on them, its moving average and its streaming.

    model: None: a new one of the config. rate: the learning rate at a step, in images, instead of the schedule's.
    stop: of the step and the loss so far, whether to end; it may wait for the device.
    Returns the model and the loss of every update, (updates,) float32 on the CPU.
    Raises ValueError where there are fewer training images than a batch has.
    """
    torch.manual_seed(config.seed)
    train = data.Labeled(*(field.to(device) for field in sets.train))
    count = len(train.labels)
    if count < config.batch:
        raise ValueError(f"{count} training images are fewer than --batch {config.batch}")
    model = classification.prepare(config, sets, device) if model is None else model
    groups = optimizers.groups(model, config.weight_decay, config.decay_biases, config.layer_decay, config.bias_scale)
    optimizer = optimizers.build(config.optimizer, groups, config.learning_rate, config.momentum)
    scaler, change = LossScaler(config.fp16, device), augmentation.Augmentation(config.augment, train.images)
    halvings, found = config.steps / (config.halve_every * count), []
    optimizers.train_mode(model)
    for step in range(0, config.steps, config.batch):
        progress = step / config.steps
        factor = schedules.at(config.schedule, progress, config.warm_up, config.snapshots, halvings)
        optimizers.set_learning_rate(optimizer, rate(step) if rate else config.learning_rate * factor)
        rows = sampling.batch_indices(count, step, config.batch, config.seed, device)
        images, labels, mix = change(train.images[rows]), train.labels[rows], None
        if config.mixup:
            images, labels, *mix = augmentation.mixup(images, labels, config.mixup)
        shares = losses.targets(labels, len(sets.classes), config.smoothing, mix)

        def closure(images: Tensor = images, shares: Tensor = shares) -> Tensor:
            optimizer.zero_grad()
            with precision(config, device):
                loss, _ = objective(config, model, images, shares)
            optimizers.backward(optimizer, scaler.scale(loss))
            return loss

        found.append(scaler.step(optimizer, closure).detach())
        if config.max_weight_norm:
            optimizers.constrain_norms(model, config.max_weight_norm)
        if stop and stop(step, found[-1]):
            break
    return model, torch.stack(found).float().cpu()


def validate(config: classification.Config, model: Classifier, part: data.Labeled) -> dict[str, float]:
    """Error and accuracy in percent, and loss in nats, on a part of the data. A model that diverged has an error of
    100 and no loss (None)."""
    device = next(model.parameters()).device
    images, labels = (field.to(device) for field in part)
    probability = classification.probabilities(config, model, images)
    if not bool(torch.isfinite(probability).all()):
        return {"error": 100.0, "accuracy": 0.0, "loss": None}
    return classification.score(probability, labels)


def trial(config: classification.Config, sets: data.Sets, device: torch.device) -> dict[str, Any]:
    """Fit and validate one config: its figures, the mean loss of the last tenth of training, and seconds, of the
    clock and of the processor: less, where other programs had the cores too."""
    began, worked = time.perf_counter(), time.process_time()
    model, curve = fit(config, sets, device)
    last = curve[-max(1, len(curve) // 10) :].mean().item()
    figures = validate(config, model, sets.validation)
    return figures | {
        "train_loss": last if math.isfinite(last) else None,
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
    }


def rows(path: Path, keys: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The results that are kept in a file, one JSON object a line, of which those with these keys' values; none where
    there is no file. A last line that was cut short is removed.

    Raises RunError where the file cannot be read, ValueError for a line that is no JSON object.
    """
    if not path.exists():
        return []
    with output.writing(path, "--out"):
        text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        output.write(path, text, "--out")
    found = [_row(path, number, line) for number, line in enumerate(text.splitlines(), 1)]
    return [row for row in found if all(row.get(key) == value for key, value in (keys or {}).items())]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}, is no result: remove the line, or choose another place with --out")
    return row


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a result to the file, on the disk before this returns."""
    with output.writing(path, "--out"), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def described(config: classification.Config, *but: str) -> dict[str, Any]:
    """What makes a trial, JSON-able: all flags but a study's own (`but`) and those of where and how it runs."""
    left = {*but, *(field.name for field in dataclasses.fields(classification.runs.Options)), "data_folder", "check"}
    left |= {"evaluate_every", "views", "test", "compile"}
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {key: json.loads(json.dumps(value, default=str)) for key, value in values.items() if key not in left}
