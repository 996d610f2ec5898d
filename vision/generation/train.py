"""Generative models of images: autoencoders, variational autoencoders, PixelCNN, PixelRNN, adversarial networks.

    python -m vision.generation                                     # a VAE of drawn shapes: no download
    python -m vision.generation --model vae --data mnist
    python -m vision.generation --model vae --data mnist --posterior iaf --conditional
    python -m vision.generation --model autoencoder --data mnist --backbone mlp
    python -m vision.generation --model dcgan --data mnist          # gan, dcgan, r3gan: see gan.py
    python -m vision.generation --model pixelcnn --data mnist --gated
    python -m vision.generation --model pixelrnn --data mnist --recurrence diagonal
    python -m vision.generation sample results/mnist/vae-1          # reconstruct, complete, log_prob, ... too

The file of each model names its paper. A run's folder is called after the model. The score is that of the model:
nats an image (`likelihood` says whether exact or a bound), the squared error of an image, or FID of samples. Weights
of the best evaluation are tested once, at the end. samples/ has a grid of samples at each evaluation, drawn by the
same seed, reconstructions/ pairs of images, videos/ the samples as a film.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Positive, Share, Whole
from runs.loss_scaling import LossScaler
from runs.machine import precision
from runs.saved import best_copy
from vision import backbones, data
from vision.data.sets import set_name
from vision.generation import plots, posteriors
from vision.generation.autoencoder import Autoencoder
from vision.generation.data import Binarization, Pixels
from vision.generation.gan import DEFAULT_LOSS, AdversarialFlags, build_dcgan, build_gan, build_r3gan
from vision.generation.generator import Generator
from vision.generation.pixelcnn import GatedPixelCNN, PixelCNN
from vision.generation.pixelrnn import RECURRENCES, PixelRNN
from vision.generation.vae import VAE
from vision.training import optimizers, schedules
from vision.training.sampling import batch_indices


@dataclasses.dataclass(frozen=True)
class LatentFlags:
    """Autoencoder and VAE."""

    GROUP: ClassVar[str] = "latents"

    backbone: str = "small"  # the encoder: a name (mlp: fully connected), name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels or units; None: as published
    latents: Count = 32  # numbers of a code
    hidden: Count = 256  # of the dense layers between convolutions and code
    blocks: Whole = 0  # residual blocks of the decoder at each of its sizes
    noise: NonNegative = 0.0  # autoencoder: deviation of noise on inputs (denoising)
    posterior: Literal[posteriors.NAMES] = "gaussian"  # vae: with a normalizing flow, or without
    flows: Count = 2  # layers of the flow
    kl_weight: NonNegative = 1.0  # vae: beta-VAE's; its nats are always with 1


@dataclasses.dataclass(frozen=True)
class PixelFlags:
    """PixelCNN and PixelRNN."""

    GROUP: ClassVar[str] = "pixels"

    features: Count = 32  # between layers; half as many in blocks of PixelCNN and in LSTMs
    layers: Count = 15  # after the first convolution
    kernel: Count = 3  # pixels, side of PixelCNN's masked convolutions, odd
    head_width: Count = 32  # features before the last 1x1 convolution
    gated: bool = False  # pixelcnn: vertical and horizontal stack, with gates
    recurrence: Literal[*RECURRENCES] = "row"  # pixelrnn: Row LSTM, or Diagonal BiLSTM


@dataclasses.dataclass(frozen=True)
class Config(LatentFlags, PixelFlags, AdversarialFlags, runs.Options):
    model: str = "vae"  # one of MODELS
    data: str = "shapes"  # or mnist, fashion_mnist, stacked_mnist, cifar10, cifar100, svhn, or a folder of images
    data_folder: Path | None = None  # where a set's files lie; None: $SACCADE_DATA/<data> or ~/.cache/saccade/<data>
    size: Count | None = None  # pixels, side of the images read from a folder; None: 224
    conditional: bool = False  # the model is given the label
    levels: Count = 256  # values of a pixel that are distinguished; 2: binary
    binarization: Binarization = "dynamic"  # of 2 levels: dynamic, static, threshold
    steps: Count = 2_000_000  # images shown
    batch: Count = 128  # images an update
    optimizer: str = "adam"  # of vision/training/optimizers.py; gan, dcgan, r3gan: adam alone
    learning_rate: NonNegative = 1e-3  # at its highest
    schedule: Literal[schedules.NAMES] = "cosine"  # of the learning rate
    warm_up: Share = 0.0  # share of the steps on which the rate rises from 0
    clip: NonNegative = 0.0  # norm of the gradient, at most; 0: not clipped
    ema_decay: Share = 0.0  # of the averaged weights that are evaluated, an update; 0: the last weights
    evaluate_every: Count = 50_000  # images shown between evaluations
    evaluate_images: Count = 2_000  # validation images at most, the first
    samples: Whole = 64  # in the picture of each evaluation; 0: none is drawn
    log_every: Count = 5_000  # images shown a line of metrics.jsonl
    bf16: bool = True  # learn in bfloat16 where CPU or GPU is fast at it; evaluations are in float32
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        if self.model not in MODELS:
            raise ValueError(f"unknown --model {self.model!r}: {suggestions.one_of(self.model, MODELS)}")
        if self.optimizer not in FIRST_ORDER:
            raise ValueError(f"--optimizer {self.optimizer}: {suggestions.one_of(self.optimizer, FIRST_ORDER)}")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"--levels {self.levels}: pixels of 8 bits have 2 to 256")
        if self.kernel % 2 == 0:
            raise ValueError(
                f"--kernel {self.kernel}: a masked convolution has a pixel in its middle, take an odd one"
            )


FIRST_ORDER = tuple(name for name in optimizers.OPTIMIZERS if name not in optimizers.SECOND_ORDER)
GRAY = ("mnist", "fashion_mnist")  # sets that the field measures binarized
ADVERSARIAL = dict(steps=1_200_000, ema_decay=0.995, schedule="constant", evaluate_every=60_000)
AUTOREGRESSIVE = dict(batch=64, ema_decay=0.999, evaluate_images=500, samples=25, log_every=2_000)
RECIPES: dict[str, dict] = {  # by model
    "autoencoder": dict(steps=1_000_000),
    "vae": dict(learning_rate=2e-3, warm_up=0.02, ema_decay=0.999),
    "gan": ADVERSARIAL | dict(latents=64, hidden=256, learning_rate=2e-4),
    "dcgan": ADVERSARIAL | dict(latents=100, learning_rate=4e-4, batch=64),  # MNIST: digits of 98.0% confidence
    "r3gan": ADVERSARIAL | dict(latents=64, learning_rate=5e-4, loss="relativistic", beta_1=0.0, beta_2=0.99),
    "pixelcnn": AUTOREGRESSIVE
    | dict(steps=700_000, kernel=7, layers=8, batch=16, optimizer="muon", learning_rate=1e-2, clip=1.0, warm_up=0.05),
    "pixelrnn": AUTOREGRESSIVE | dict(steps=500_000, layers=1),  # of the paper's 1 and 7 for MNIST the cheaper one
}
VAE_OF_GRAY = dict(  # MNIST, with --posterior iaf: 87.9 nats of test images
    steps=1_500_000, blocks=1, learning_rate=3e-3, clip=10.0, warm_up=0.05, evaluate_every=100_000
)  # fmt: skip
PENALTY_WEIGHTS = {"wasserstein": 10.0, "relativistic": 1.0}  # by loss; the others have no penalty
BINARY = ("vae", "pixelcnn", "pixelrnn")  # models that see GRAY sets binarized
ABOUT = "images.json"  # shape of images and names of classes, in a run's folder


def recipe(asked: Config) -> Config:
    """The recipe of the model, with binary pixels where the field has them; smaller for drawn shapes."""
    numbers = dict(RECIPES.get(asked.model, {}))
    if asked.model in BINARY and asked.data in GRAY:
        numbers["levels"] = 2
        numbers |= VAE_OF_GRAY if asked.model == "vae" else {}
    if asked.data == "shapes":
        numbers |= dict(steps=200_000, evaluate_every=20_000, evaluate_images=1_000, log_every=2_000)
        if asked.model in ("pixelcnn", "pixelrnn"):
            numbers |= dict(steps=60_000, evaluate_images=200, levels=8)  # 3,072 values an image
    if asked.gated:
        numbers |= dict(features=16, layers=7)  # an image takes about twice as long as without gates
    if asked.backbone == Config.backbone:
        numbers["width"] = 2.0
    numbers["loss"] = asked.loss or numbers.get("loss", DEFAULT_LOSS)
    numbers["penalty_weight"] = PENALTY_WEIGHTS.get(numbers["loss"], 0.0)
    return Config(**{"model": asked.model, "data": asked.data, "backbone": asked.backbone} | numbers)


def build_backbone(config: Config, shape: Sequence[int]) -> backbones.Backbone:
    """The encoder of a config for images (C, H, W)."""
    return backbones.build(config.backbone, shape, **({} if config.width is None else {"width": config.width}))


def build_autoencoder(config: Config, shape: Sequence[int], classes: int) -> Generator:
    """The autoencoder of a config for images (C, H, W)."""
    backbone = build_backbone(config, shape)
    return Autoencoder(backbone, config.levels, classes, config.latents, config.hidden, config.blocks, config.noise)


def build_vae(config: Config, shape: Sequence[int], classes: int) -> Generator:
    """The VAE of a config for images (C, H, W)."""
    return VAE(
        build_backbone(config, shape), config.levels, classes, config.latents, config.hidden, config.blocks,
        config.posterior, config.flows, config.kl_weight,
    )  # fmt: skip


def build_pixelcnn(config: Config, shape: Sequence[int], classes: int) -> Generator:
    """The PixelCNN, gated or not, of a config for images (C, H, W)."""
    kind = GatedPixelCNN if config.gated else PixelCNN
    sizes = (config.features, config.layers, config.kernel, config.head_width)
    return kind(shape, config.levels, classes, *sizes)


def build_pixelrnn(config: Config, shape: Sequence[int], classes: int) -> Generator:
    """The PixelRNN of a config for images (C, H, W)."""
    sizes = (config.features, config.layers, config.recurrence, config.head_width)
    return PixelRNN(shape, config.levels, classes, *sizes)


MODELS: dict[str, Callable[[Config, Sequence[int], int], Generator]] = {  # config, shape (C, H, W), classes or 0
    "autoencoder": build_autoencoder,
    "vae": build_vae,
    "gan": build_gan,
    "dcgan": build_dcgan,
    "r3gan": build_r3gan,
    "pixelcnn": build_pixelcnn,
    "pixelrnn": build_pixelrnn,
}


def build(config: Config, shape: Sequence[int], classes: int) -> Generator:
    """The model of a config for images (C, H, W) of some classes, which only a conditional model has a use for."""
    return MODELS[config.model](config, tuple(shape), classes if config.conditional else 0)


def train(config: Config) -> None:
    config.validate()
    device = runs.prepare(config.device, config.seed, config.threads)
    config = dataclasses.replace(config, name=config.name or f"{config.model}-{config.seed}")
    sets = data.load(config.data, config.data_folder, config.size)
    if len(sets.train.labels) < config.batch:
        raise ValueError(f"{len(sets.train.labels)} training images are fewer than --batch {config.batch}")
    parts = {
        name: Pixels(getattr(sets, name), config.levels, config.binarization, device)
        for name in ("train", "validation", "test")
    }
    model = build(config, sets.train.images.shape[1:], len(sets.classes))
    model = model.to(device, memory_format=model.memory_format)
    model.clip, model.autocast = config.clip, functools.partial(precision, config, device)
    model.scaler = LossScaler(config.fp16, device)
    learners = model.optimizers(config.learning_rate, config.optimizer)
    averaged = copy.deepcopy(model).requires_grad_(False) if config.ema_decay else None
    run = runs.Run(
        config, "vision.generation", set_name(config.data), note=described(config, model), score=model.score,
        unit="images", follow_up="python -m vision.generation sample",
    )  # fmt: skip
    run.track(model=model, **learners, **({"averaged": averaged} if averaged else {}), **model.scaler.parts)
    model.train()
    for step in run.steps(config.steps, stride=config.batch):
        factor = schedules.at(config.schedule, step / config.steps, config.warm_up)
        for learner in learners.values():
            optimizers.set_learning_rate(learner, config.learning_rate * factor)
        rows = batch_indices(len(parts["train"]), step, config.batch, config.seed, device)
        run.log(model.update(*parts["train"].rows(rows), learners) | model.scaler.metrics)
        if averaged:
            optimizers.ema_update(averaged, model, config.ema_decay, step // config.batch)
        last = step + config.batch >= config.steps
        if run.due(config.evaluate_every) or last:
            validate(run, averaged or model, parts["validation"], sets.classes)
            model.train()
        if last:
            test(run, averaged or model, parts["test"])
            plots.film_samples(run)


def described(config: Config, model: Generator) -> str:
    """What is modeled, in a sentence: its nats are those of these pixels."""
    weights = sum(each.numel() for each in model.parameters())
    pixels = f"{config.levels} levels" if config.levels > 2 else f"binary pixels, {config.binarization} binarization"
    return f"{config.model}, {weights:,} weights; {pixels}; likelihood: {model.likelihood}"


def validate(run: runs.Run, model: Generator, part: Pixels, classes: Sequence[str]) -> None:
    """Evaluate on the validation images, save the best, and draw samples and reconstructions."""
    config = run.config
    count = min(len(part), config.evaluate_images)
    model.eval()
    with run.side_task("evaluation", needed=True), torch.no_grad():
        torch.manual_seed(config.seed)
        found = model.measure(part.batches(config.batch, count))
    if run.log_evaluation({f"eval/{name}": value for name, value in found.items()} | {"eval/images": count}):
        with run.writing(ABOUT) as path:
            path.write_text(json.dumps({"shape": list(model.shape), "classes": list(classes)}))
        if hasattr(model, "backbone"):
            with run.writing(backbones.FILENAME) as path:
                backbones.save(model.backbone, path)
    if not config.samples:
        return
    name = f"{run.step + run.stride:012d}.png"
    with run.side_task("picture"), torch.no_grad():
        torch.manual_seed(config.seed)
        with run.writing(f"samples/{name}") as path:
            plots.write(plots.grid(model.sample(config.samples)), path)
        if type(model).reconstruct is not Generator.reconstruct:
            images, labels = next(part.batches(min(config.samples, 40)))
            with run.writing(f"reconstructions/{name}") as path:
                plots.write(plots.paired(images, model.reconstruct(images, labels)), path)


def test(run: runs.Run, model: Generator, part: Pixels) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "averaged" if run.config.ema_decay else "model")
    model.eval()
    with run.side_task("evaluation", needed=True), torch.no_grad():
        torch.manual_seed(run.config.seed)
        found = model.measure(part.batches(run.config.batch))
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/images": len(part), "test/of_step": step})
    words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    run.bar.say(f"test of {len(part):,} images, weights of step {step:,}: {words}")
