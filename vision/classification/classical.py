"""Image classification without training convolutions: nearest neighbors, linear models, two-layer network.

    python -m vision.classification.classical                                           # softmax on drawn shapes
    python -m vision.classification.classical --data cifar10 --method knn --metric l1   # k by cross-validation
    python -m vision.classification.classical --data cifar10 --method svm --search 8    # random search
    python -m vision.classification.classical --data cifar10 --method two-layer --features hog+color
    python -m vision.classification.classical --data cifar10 --method svm --features results/cifar10/classification-1

On raw pixels, on histograms of gradients and hues, or on the features of a pretrained network (features.py). Linear
models are those of vision/classification/linear: SVMs of one against all and of Weston & Watkins, with the margin's
violation or its square (l2-svm); softmax and logistic regression; perceptron; Adaline (squared error by SGD), least
squares in closed form, absolute and Huber's error of targets 1 and -1; and the best of random models.

The k of nearest neighbors is selected by k-fold cross-validation on training and validation images, which are then
all neighbors; learning rate and weight decay are selected on the validation images. The test images are evaluated
once, at the end.

The folder <folder>/<data>/<method>-...-<seed> gets result.json (figures, config, command, hardware, commit) and
pictures: accuracy against k, the templates of a linear classifier or of the first layer, the search.

Sources: CS231n, assignment 1; the hinge of Weston & Watkins 1999, "Support vector machines for multi-class pattern
recognition"; momentum of Nesterov 1983 as Sutskever et al. 2013; random search of Bergstra & Bengio 2012; dropout of
Srivastava et al. 2014. The fits take minutes in all and need no checkpoints; they are not a runs.Run.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

import runs
from runs import machine, output
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.printing import compact_json
from vision import data
from vision.backbones.standardization import Center, Scale, Standardization
from vision.classification import features, linear, nearest_neighbors, plots
from vision.classification.flags import PreprocessingFlags
from vision.training import losses, optimizers, schedules

LOSSES = {  # by method, trained by SGD: the loss of its scores (linear/objectives.py)
    "svm": "weston_watkins",
    "l2-svm": "weston_watkins_squared",
    "one-vs-all-svm": "one_vs_all_hinge",
    "one-vs-all-l2-svm": "one_vs_all_squared_hinge",
    "softmax": "softmax",
    "logistic": "logistic",
    "perceptron": "perceptron",
    "adaline": "squared",
    "absolute": "absolute",
    "huber": "huber",
    "two-layer": "softmax",
}


@dataclasses.dataclass(frozen=True)
class Config(PreprocessingFlags):
    data: str = "shapes"  # shapes, mnist, fashion_mnist, cifar10, cifar100, svhn, or an image folder
    data_folder: Path | None = None  # where its files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    method: Literal["knn", *LOSSES, "least-squares", "random", "random-local"] = "softmax"
    features: str = "pixels"  # pixels, hog, color, hog+color, or a pretrained backbone: a run's folder
    center: Center = "image"  # subtract the mean of each pixel or feature
    scale: Scale = "all"  # divide by the deviation of all pixels together: differences in contrast are information
    images: Whole = 0  # training images, drawn at random; 0: all of them
    metric: nearest_neighbors.Metric = "l2"  # knn: sum of absolute differences, or of squares
    neighbors: tuple[int, ...] = (1, 3, 5, 8, 10, 12, 15, 20, 50, 100)  # knn: k to choose from
    folds: Count = 5  # knn: of the cross-validation
    fold_images: Whole = 5_000  # knn: images in all folds together, drawn at random; 0: all of them
    memory: Positive = 256.0  # knn: MiB of distances at a time
    epochs: Count = 10  # passes over the training images
    batch: Count = 200  # images an update
    learning_rate: NonNegative = 1e-3  # SGD with Nesterov's momentum, at the start; ends at 0 along a half cosine
    momentum: Share = 0.9  # of SGD
    decay: NonNegative = 1e-3  # L2: half of this times the squared weights is added to the loss; biases are free
    l1: NonNegative = 0.0  # L1: this times the sum of |w| is added too; with decay the elastic net
    margin: Positive = 1.0  # of the SVMs
    delta: Positive = 1.35  # huber: residuals up to it count squared
    tries: Count = 1_000  # random, random-local: models that are tried
    tried_images: Count = 2_000  # random, random-local: training images by which they are judged
    hidden: Count = 500  # two-layer: units between its layers
    dropout: Share = 0.0  # two-layer: probability that a hidden unit is left out
    flip: bool = False  # learn from horizontally flipped images, too: twice as many in an epoch
    search: Whole = 0  # random tries of learning rate and decay, log-uniform, before the final fit
    search_factor: Positive = 10.0  # they are up to so many times larger or smaller than those above
    search_epochs: Count = 2  # passes of a try
    seed: int = 1  # of everything random
    folder: Path = Path("results")  # folder of results
    name: str | None = None  # of the result's folder; <method>-<features>-<seed> unless given
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    note: str = ""  # a sentence about the result


PIXELS = {
    "svm": dict(learning_rate=1e-3, decay=0.3),
    "softmax": dict(learning_rate=3e-3, decay=0.01),
    "two-layer": dict(learning_rate=0.02, decay=1e-3, epochs=15, hidden=500, dropout=0.2, flip=True),
}
RATES = {  # of SGD, times softmax's: the slopes of these losses are larger, or their residuals are
    **dict.fromkeys(("l2-svm", "adaline", "huber", "one-vs-all-l2-svm"), 0.1),
    **dict.fromkeys(("one-vs-all-svm", "logistic", "perceptron", "absolute"), 0.3),
}
FEATURES = {
    "svm": dict(learning_rate=1e-2, decay=1e-3),
    "softmax": dict(learning_rate=3e-2, decay=1e-4),
    "two-layer": dict(learning_rate=0.1, decay=3e-4, epochs=20, hidden=1_000, dropout=0.4, flip=True),
}
DIGITS = ("mnist", "svhn")  # flipped digits are other digits or none


def recipe(asked: Config) -> Config:
    """The recipe of a method, features and data."""
    pixels = asked.features == "pixels"
    numbers = PIXELS if pixels else FEATURES
    known = numbers.get(asked.method) or dict(learning_rate=numbers["softmax"]["learning_rate"])
    if asked.method in RATES:
        known = known | dict(learning_rate=known["learning_rate"] * RATES[asked.method])
    known = known | ({} if pixels else {"scale": "each"})
    if asked.data in DIGITS:
        known = known | {"flip": False}
    return dataclasses.replace(Config(), method=asked.method, features=asked.features, data=asked.data, **known)


def build(config: Config, inputs: int, classes: int) -> nn.Module:
    """A linear classifier or a net of two layers, (B, inputs) -> (B, classes)."""
    if config.method != "two-layer":
        model = nn.Linear(inputs, classes)
        nn.init.normal_(model.weight, std=1e-3)
        nn.init.zeros_(model.bias)
        return model
    first, second = nn.Linear(inputs, config.hidden), nn.Linear(config.hidden, classes)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    nn.init.normal_(second.weight, std=config.hidden**-0.5)
    nn.init.zeros_(first.bias)
    nn.init.zeros_(second.bias)
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(config.dropout), second)


class Inputs:
    """A data set as vectors: inputs (N, D), bytes or floats, labels (N,), and their standardization, measured on
    these inputs unless it is given. On images "channel" means a color."""

    def __init__(
        self, labeled: data.Labeled, config: Config, device: torch.device, scale: Standardization | None = None
    ) -> None:
        images, self.labels = labeled.images.to(device), labeled.labels.to(device)
        self.inputs = features.extract(images, config.features)
        self.shape = images.shape[1:] if config.features == "pixels" else self.inputs.shape[1:]
        if scale is None:
            scale = config.standardization(self.shape) or Standardization(self.shape)
            scale = scale.to(device).fit(self.inputs.unflatten(1, self.shape))
        self.scale = scale

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, D) float32, scaled, and labels (B,)."""
        return self.scale(self.inputs[rows].unflatten(1, self.shape)).flatten(1), self.labels[rows]


def fit(config: Config, train: Inputs, validation: Inputs, classes: int) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train by SGD. Returns the model, and of every epoch the mean loss and the accuracy in percent.

    Raises ValueError where there is no epoch, or the loss is no longer finite.
    """
    if config.epochs < 1:
        raise ValueError(f"nothing is learned in {config.epochs} epochs: choose 1 or more")
    torch.manual_seed(config.seed)
    device = train.labels.device
    model = build(config, train.inputs.shape[1], classes).to(device)
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    biases = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": weights, "weight_decay": config.decay}, {"params": biases}]
    optimizer = torch.optim.SGD(groups, config.learning_rate, config.momentum, nesterov=config.momentum > 0)
    objective = linear.Objective(LOSSES[config.method], margin=config.margin, delta=config.delta)
    total, step, curve = config.epochs * math.ceil(len(train) / config.batch), 0, []
    hidden = not Console().is_terminal
    for epoch in track(range(1, config.epochs + 1), "epochs", transient=True, disable=hidden):
        model.train()
        lost = right = torch.zeros((), device=device)
        for rows in torch.randperm(len(train), device=device).split(config.batch):
            optimizers.set_learning_rate(optimizer, config.learning_rate * schedules.cosine(step / total))
            inputs, labels = train.batch(rows)
            scores = model(inputs)
            loss = objective.data(scores, objective.targets(labels, classes, scores))
            if config.l1:
                loss = loss + losses.penalty(weights, config.l1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lost, right = lost + loss.detach() * len(rows), right + (scores.argmax(1) == labels).sum()
            step += 1
        line = {"epoch": epoch, "loss": lost.item() / len(train), "train": 100 * right.item() / len(train)}
        if not math.isfinite(line["loss"]):
            raise ValueError(f"the loss became {line['loss']} in epoch {epoch}: try a smaller --learning-rate")
        curve.append(line | {"validation": accuracy(model, validation)})
    return model, curve


@torch.inference_mode()
def accuracy(model: nn.Module, seen: Inputs) -> float:
    """Accuracy on a set's images, in percent."""
    model.eval()
    right = 0
    for rows in torch.arange(len(seen), device=seen.labels.device).split(1_000):
        inputs, labels = seen.batch(rows)
        right += (model(inputs).argmax(1) == labels).sum().item()
    return 100 * right / len(seen)


def search(config: Config, train: Inputs, validation: Inputs, classes: int) -> list[dict[str, float]]:
    """Random search: short fits with other learning rates and decays, the first with the config's.

    A fit that diverges is worth 0. Bergstra & Bengio 2012.
    """
    generator = torch.Generator().manual_seed(config.seed)
    tries = []
    for number in range(config.search + 1):
        drawn = config.search_factor ** (2 * torch.rand(2, generator=generator).double() - 1)
        rate, decay = (1.0, 1.0) if number == 0 else drawn.tolist()
        tried = {"learning_rate": config.learning_rate * rate, "decay": config.decay * decay}
        try:
            _, curve = fit(
                dataclasses.replace(config, epochs=config.search_epochs, **tried), train, validation, classes
            )
            worth = curve[-1]["validation"]
        except ValueError:
            worth = 0.0
        tries.append(tried | {"validation": worth})
        print(f"try {number}: learning rate {tried['learning_rate']:.2g}, decay {tried['decay']:.2g}: {worth:.2f}%")
    return tries


def solved(config: Config, train: Inputs, classes: int) -> tuple[nn.Linear, dict[str, float]]:
    """A linear model without SGD, and what was chosen: least squares in closed form, or the best of random ones by
    the SVM's loss on some of the training images, which is the baseline that learning has to beat."""
    if config.method == "least-squares":
        objective = linear.Objective("squared", config.l1, config.decay)
        rows = (train.batch(rows) for rows in torch.arange(len(train)).split(2_000))
        parts = ((x.cpu().double(), objective.targets(y.cpu(), classes, x.cpu().double())) for x, y in rows)
        weight, bias = linear.normal_equations(parts, config.decay)
        chosen = {"decay": config.decay}
    else:
        objective = linear.Objective("weston_watkins", config.l1, config.decay, config.margin)
        generator = torch.Generator().manual_seed(config.seed)
        rows = torch.randperm(len(train), generator=generator)[: config.tried_images]
        inputs, labels = train.batch(rows.to(train.labels.device))
        targets, local = objective.targets(labels, classes, inputs), config.method == "random-local"
        weight, bias, loss, _ = linear.random_parameters(objective, inputs, targets, config.tries, generator, local)
        chosen = {"tries": config.tries, "loss": loss}
    model = nn.Linear(weight.shape[1], classes).to(train.labels.device)
    with torch.no_grad():
        model.weight.copy_(weight)
        model.bias.copy_(bias)
    return model, chosen


def learn(config: Config, sets: data.Sets, device: torch.device, folder: Path) -> dict[str, Any]:
    """Search (with --search), fit, test and plot a linear classifier or a two-layer network. Returns its figures."""
    known = sets.train
    if config.flip:
        known = data.Labeled(torch.cat([known.images, known.images.flip(3)]), known.labels.repeat(2))
    train = Inputs(known, config, device)
    validation, test = (Inputs(part, config, device, train.scale) for part in (sets.validation, sets.test))
    classes, found = len(sets.classes), {}
    if config.search:
        tries = search(config, train, validation, classes)
        best = max(tries, key=lambda tried: tried["validation"])
        config = dataclasses.replace(config, learning_rate=best["learning_rate"], decay=best["decay"])
        found = {"search": tries}
        plots.draw_search(tries, folder / "search.png")
    if config.method in LOSSES:
        model, curve = fit(config, train, validation, classes)
        found |= {"chosen": {"learning_rate": config.learning_rate, "decay": config.decay}, "curve": curve}
    else:
        model, chosen = solved(config, train, classes)
        found |= {"chosen": chosen}
    found |= {"validation": accuracy(model, validation), "test": accuracy(model, test)}
    if config.features == "pixels":
        first = model if isinstance(model, nn.Linear) else model[0]
        shape, names = sets.train.images.shape[1:], sets.classes if first is model else None
        plots.draw_templates(first.weight.detach().cpu().unflatten(1, shape), names, folder / "templates.png")
    return found


def nearest_neighbor(config: Config, sets: data.Sets, device: torch.device, folder: Path) -> dict[str, Any]:
    """Nearest neighbors: select k by cross-validation, test and plot. Returns the figures."""
    if min(config.neighbors, default=0) < 1:
        raise ValueError(f"cannot ask {config.neighbors} neighbors: choose --neighbors of 1 or more")
    both = (sets.train, sets.validation)
    known = Inputs(data.Labeled(*(torch.cat(part) for part in zip(*both, strict=True))), config, device)
    test = Inputs(sets.test, config, device, known.scale)
    alike = config.scale in ("none", "all") and config.whitening == "none"
    if known.inputs.dtype != torch.uint8 or not alike:  # else distances are the same in bytes, up to a factor
        for part in (known, test):
            batches = torch.arange(len(part), device=device).split(2_000)
            part.inputs = torch.cat([part.batch(rows)[0] for rows in batches])
    ks, found = sorted(config.neighbors), {}
    if len(ks) > 1:
        generator = torch.Generator().manual_seed(config.seed)
        rows = torch.randperm(len(known), generator=generator)[: config.fold_images or None].to(device)
        folded = known.inputs[rows], known.labels[rows]
        scores = nearest_neighbors.cross_validate(*folded, ks, config.folds, config.metric, config.memory, generator)
        mean = scores.mean(0)
        ks = [ks[int(mean.argmax())]]
        found = {"cross_validation": dict(zip(map(str, sorted(config.neighbors)), scores.T.tolist(), strict=True))}
        plots.draw_folds(
            found["cross_validation"], folder / "k.png", f"{config.data}, {config.metric}, {config.features}"
        )
        found["validation"] = mean.max().item()
    _, index = nearest_neighbors.nearest(test.inputs, known.inputs, ks[0], config.metric, config.memory)
    (right,) = nearest_neighbors.accuracies(known.labels[index], test.labels, ks, len(sets.classes))
    return {"chosen": {"k": ks[0]}, **found, "test": right, "examples": len(known)}


def subsample(sets: data.Sets, count: int, seed: int) -> data.Sets:
    """The sets with `count` of their training images, drawn at random; with all of them for 0."""
    if not 0 <= count <= len(sets.train.labels):
        raise ValueError(f"cannot take {count} of {len(sets.train.labels)} training images with --images")
    rows = torch.randperm(len(sets.train.labels), generator=torch.Generator().manual_seed(seed))[: count or None]
    return sets if count == 0 else sets._replace(train=data.Labeled(*(field[rows] for field in sets.train)))


def main(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = subsample(data.load(config.data, config.data_folder), config.images, config.seed)
    what = f"knn-{config.metric}" if config.method == "knn" else config.method
    name = config.name or f"{what}-{re.sub(r'[^a-z0-9+.]+', '-', config.features.lower())}-{config.seed}"
    folder = config.folder / Path(config.data).resolve().name / name
    about = machine.circumstances("vision.classification.classical", device)
    began, worked = time.perf_counter(), time.process_time()
    found = (nearest_neighbor if config.method == "knn" else learn)(config, sets, device, folder)
    result = {
        "data": config.data,
        "method": config.method,
        "features": config.features,
        "seed": config.seed,
        "test": found.pop("test"),  # percent right
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(
            time.process_time() - worked, 1
        ),  # less than `seconds` where other programs used the cores
        **found,
        "config": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        **about,
        "date": datetime.now(UTC).date().isoformat(),
        "note": config.note,
    }
    output.write(folder / "result.json", compact_json(result) + "\n", "--folder")
    chosen = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in result["chosen"].items())
    by = "by cross-validation" if config.method == "knn" else "on validation"
    validated = f", {result['validation']:.2f}% {by}" if "validation" in result else ""
    print(f"{what} on {config.features} of {config.data}, {chosen}: {result['test']:.2f}% of test images{validated}")
    print(f"{result['seconds']} s, {result['processor_seconds']} s of the processor; written to {folder}")


if __name__ == "__main__":
    runs.launch(main, Config, recipe, "vision.classification.classical", __doc__)
