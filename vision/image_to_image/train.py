"""Image transformation networks: fast style transfer, super-resolution, colorization.

    python -m vision.image_to_image                                 # super-resolution of drawn shapes: no download
    python -m vision.image_to_image --task style --data path/to/photographs --style painting.jpg
    python -m vision.image_to_image --task style --data path/to/photographs --style painting.jpg \\
        --features results/cifar10/classification-1
    python -m vision.image_to_image --task super_resolution --data path/to/photographs --factor 4
    python -m vision.image_to_image --task colorization --data cifar10
    python -m vision.image_to_image predict results/photographs/style-1 photo.jpg film.mp4

Johnson et al. 2016, "Perceptual losses for real-time style transfer and super-resolution" (arXiv 1603.08155), with
the instance normalization of Ulyanov et al. 2016 (arXiv 1607.08022): a network is trained once, and then transforms
any picture in one forward pass. Perceptual losses compare the feature maps of a second, frozen network: --features,
by default VGG-16 trained on ImageNet. Super-resolution and colorization compare pixels; --content-weight adds the
features. Colorization: CS231n, lecture 12; Zhang et al. 2016 (arXiv 1603.08511) say why a squared error of pixels
gives pale colors.

A run's folder is called after its task. The score is the weighted loss of validation pictures (style), PSNR
(super-resolution) or the squared error (colorization). The weights of the best evaluation are tested once, at the
end. samples/ has pictures at each evaluation, videos/ a film.

Deviations from the paper: those of network.py, perceptual.py and tasks.py; pictures are mirrored at random.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import runs
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from runs.saved import best_copy
from vision.data.sets import set_name
from vision.generation import plots
from vision.image_to_image import data, network, tasks
from vision.image_to_image.perceptual import PerceptualLoss, roughness
from vision.interpretation import features
from vision.training import optimizers, schedules


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    task: Literal["style", "super_resolution", "colorization"] = "super_resolution"
    data: str = "shapes"  # a folder of image files, or a named image set
    data_folder: str | None = None  # of a named set's files; None: its usual place
    size: Whole = 0  # pixels of the shorter side that files are resized to; 0: as they are
    crop: Whole = 0  # pixels, side of a random square to train on; 0: the whole picture
    style: tuple[Path, ...] = ()  # pictures of the style, whose Gram matrices are averaged
    style_size: Count = 256  # pixels of their shorter side
    features: str = "vgg16:imagenet"  # of the perceptual losses: a run's folder, or name:weights
    content_stages: tuple[int, ...] = (1,)  # of the features' backbone, from 0 or from the end
    style_stages: tuple[int, ...] = ()  # none: the first four
    pixel_weight: NonNegative = 0.0  # of the mean squared error of pixels
    content_weight: NonNegative = 0.0  # of the feature reconstruction loss
    style_weight: NonNegative = 0.0  # of the style reconstruction loss
    variation_weight: NonNegative = 0.0  # of total variation per pixel
    factor: Count = 4  # super_resolution: of the enlargement, a power of 2
    width: Positive = 1.0  # times the channels: style and colorization 32, 64, 128; super_resolution 64
    blocks: Whole = 5  # residual ones
    norm: Literal[network.NORMS] = "instance"
    steps: Count = 40_000  # pictures shown
    batch: Count = 4  # pictures an update
    learning_rate: NonNegative = 1e-3  # of Adam, at its highest
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    clip: NonNegative = 0.0  # norm of the gradient, at most; 0: not clipped
    evaluate_every: Count = 4_000  # pictures shown between evaluations
    evaluate_images: Count = 100  # validation pictures at most, the first
    samples: Whole = 4  # pictures drawn at each evaluation, the first of validation
    log_every: Count = 400  # pictures shown a line of metrics.jsonl
    bf16: bool = True  # calculate in bfloat16 where CPU or GPU is fast at it; losses and weights stay float32
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise ValueError(f"--factor {self.factor}: pictures are enlarged by powers of 2, as 2, 4 and 8")
        if self.task == "style" and not self.style:
            raise ValueError("--task style needs a picture: --style painting.jpg")
        if not any((self.pixel_weight, self.content_weight, self.style_weight)):
            raise ValueError("nothing to learn: --pixel-weight, --content-weight and --style-weight are all 0")


PIXELS = dict(pixel_weight=1.0, blocks=4)
RECIPES: dict[str, dict] = {  # by task
    "style": dict(content_weight=1.0, style_weight=10.0, variation_weight=0.1, width=0.5),
    "super_resolution": PIXELS | dict(norm="none", batch=16),
    "colorization": PIXELS | dict(norm="batch", batch=32),
}
SMALL = dict(steps=200_000, evaluate_every=20_000, evaluate_images=500, samples=8, log_every=4_000)  # named sets
FOLDER = {
    "style": dict(size=256, crop=128),
    "super_resolution": dict(crop=96),
    "colorization": dict(size=128, crop=96),
}
WIDTHS = {"style": (32, 64, 128), "super_resolution": (64,), "colorization": (32, 64, 128)}  # of --width 1
TASKS = {"style": tasks.Stylizer, "super_resolution": tasks.SuperResolver, "colorization": tasks.Colorizer}


def recipe(asked: Config) -> Config:
    """The recipe of the task, and of a named set's small images or a folder's pictures."""
    numbers = RECIPES[asked.task] | (FOLDER[asked.task] if Path(asked.data).is_dir() else SMALL)
    if asked.task == "super_resolution" and not Path(asked.data).is_dir():
        numbers |= dict(factor=2)
    return Config(**{"task": asked.task, "data": asked.data} | numbers)


def build(config: Config) -> tasks.TransformationModel:
    """The network of a config, for its task."""
    widths = [max(1, round(config.width * each)) for each in WIDTHS[config.task]]
    inputs, outputs = (1, 2) if config.task == "colorization" else (3, 3)
    factor = config.factor if config.task == "super_resolution" else 1
    return TASKS[config.task](
        network.TransformationNetwork(inputs, outputs, widths, config.blocks, config.norm, factor)
    )


def perceptual_loss(config: Config, device: torch.device) -> PerceptualLoss | None:
    """The perceptual loss of a config, with the features that it names; None where only pixels are compared."""
    if not config.content_weight and not config.style_weight:
        return None
    backbone = features.frozen(config.features).to(device, memory_format=torch.channels_last)
    pictures = config.style if config.style_weight else ()
    styles = [data.read(path, config.style_size)[None].to(device).float() / 255 for path in pictures]
    autocast = functools.partial(precision, config, device)
    return PerceptualLoss(backbone, config.content_stages, config.style_stages, styles, autocast)


def losses(config: Config, perceptual: PerceptualLoss | None, made: Tensor, true: Tensor) -> dict[str, Tensor]:
    """The parts of the loss by name, and their weighted sum as "loss"; scalars.

    made, true: pictures (B, 3, H, W), floats; true from 0 to 1.
    """
    parts = perceptual(made, true) if perceptual else {}
    if config.pixel_weight:
        parts["pixels"] = (made - true).square().mean()
    if config.variation_weight:
        parts["variation"] = roughness(made)
    weights = {name: getattr(config, f"{name.removesuffix('s')}_weight") for name in parts}
    return parts | {"loss": sum(weights[name] * value for name, value in parts.items())}


def train(config: Config) -> None:
    config.validate()
    device = runs.prepare(config.device, config.seed, config.threads)
    config = dataclasses.replace(config, name=config.name or f"{config.task}-{config.seed}")
    pictures = data.load(config.data, config.size, config.data_folder)
    if len(pictures.train) < config.batch:
        raise ValueError(f"{len(pictures.train)} training pictures are fewer than --batch {config.batch}")
    model = build(config).to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    perceptual = perceptual_loss(config, device)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    scaler = LossScaler(config.fp16, device)
    batches = data.Batches(pictures.train, config.crop, config.batch, config.seed, device)

    def learn(true: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        made, true = model(model.inputs(true)), model.crop(true)
        found = losses(config, perceptual, made, true)
        scaler.scale(found["loss"]).backward()
        scaler.unscale_(optimizer)
        metrics = {f"loss/{name}": value.detach() for name, value in found.items() if name != "loss"}
        if config.clip:
            metrics["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        scaler.step(optimizer)
        return metrics | {"loss/train": found["loss"].detach()} | scaler.metrics

    try:
        if perceptual:
            perceptual.measure(batches.at(0))
        run = runs.Run(
            config, "vision.image_to_image", set_name(config.data), note=described(config, model),
            score=model.score, unit="images", follow_up="python -m vision.image_to_image predict",
        )  # fmt: skip
        run.track(model=model, optimizer=optimizer, **scaler.parts)
        model.train()
        for step in run.steps(config.steps, stride=config.batch):
            factor = schedules.at(config.schedule, step / config.steps, config.warm_up)
            optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
            run.log(learn(batches.at(step)))
            last = step + config.batch >= config.steps
            if run.due(config.evaluate_every) or last:
                validate(run, model, perceptual, pictures.validation)
                model.train()
            if last:
                test(run, model, perceptual, pictures.test)
                plots.film_samples(run)
    finally:
        batches.close()


def described(config: Config, model: tasks.TransformationModel) -> str:
    """The task, the number of weights and the kind of loss, for the start line."""
    weights = sum(each.numel() for each in model.parameters())
    by = f"features of {config.features}" if config.content_weight or config.style_weight else "pixels"
    return f"{config.task.replace('_', ' ')}, {weights:,} weights, by {by}"


@torch.no_grad()
def evaluate(
    config: Config,
    model: tasks.TransformationModel,
    perceptual: PerceptualLoss | None,
    pictures: Sequence[Tensor],
    count: int,
) -> dict[str, float]:
    """Mean losses and scores of the first pictures (3, H, W) uint8, and scores of the baseline without a network."""
    model.eval()
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    for true in data.stacked(pictures, count, config.batch):
        true = true.to(device)
        inputs = model.inputs(true)
        made, true = model(inputs), model.crop(true)
        found = losses(config, perceptual, made, true)
        scores = model.scores(made, true)
        scores |= {f"baseline_{name}": value for name, value in model.scores(model.baseline(inputs), true).items()}
        found |= {name: value.mean() for name, value in scores.items()}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + len(true) * value.item()
    return {name: value / count for name, value in sums.items()}


def validate(
    run: runs.Run, model: tasks.TransformationModel, perceptual: PerceptualLoss | None, pictures: Sequence[Tensor]
) -> None:
    """Evaluate on validation pictures, each (3, H, W) uint8, and draw some."""
    config = run.config
    count = min(len(pictures), config.evaluate_images)
    with run.side_task("evaluation", needed=True):
        found = evaluate(config, model, perceptual, pictures, count)
    run.log_evaluation({f"eval/{name}": value for name, value in found.items()} | {"eval/images": count})
    if config.samples:
        with run.side_task("picture"), run.writing(f"samples/{run.step + run.stride:012d}.png") as path:
            plots.write(drawn(model, data.squares(pictures, config.samples, model.network.factor)), path)


@torch.no_grad()
def drawn(model: tasks.TransformationModel, true: Tensor) -> Tensor:
    """A grid of pictures (N, 3, H, W): rows of the baseline without a network, the output, and the ground truth.

    Style transfer has no ground truth. Returns an array (H', W', 3) uint8.
    """
    model.eval()
    inputs = model.inputs(true.to(next(model.parameters()).device))
    rows = [model.baseline(inputs), model(inputs)] + [true] * (type(model) is not tasks.Stylizer)
    return plots.grid(torch.cat([each.float().cpu() for each in rows]), len(true))


def test(
    run: runs.Run, model: tasks.TransformationModel, perceptual: PerceptualLoss | None, pictures: Sequence[Tensor]
) -> None:
    """Test the weights of the best evaluation, once, on pictures (3, H, W) uint8."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        found = evaluate(run.config, model, perceptual, pictures, len(pictures))
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/images": len(pictures), "test/of_step": step})
    words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    run.bar.say(f"test of {len(pictures):,} pictures, weights of step {step:,}: {words}")
