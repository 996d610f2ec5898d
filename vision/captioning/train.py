"""Image captioning on any backbone: CNN and LSTM, without attention, with soft or with hard attention.

    python -m vision.captioning                                       # drawn scenes of shapes: no download
    python -m vision.captioning --model hard
    python -m vision.captioning --data path/to/coco --backbone resnet50:imagenet
    python -m vision.captioning predict results/shapes/captioning-1 photo.jpg
    python -m vision.captioning.vqa                                   # questions about the scenes

plain: Vinyals et al. 2014, "Show and tell", arXiv 1411.4555. soft and hard: Xu et al. 2015, "Show, attend and tell",
arXiv 1502.03044, with its doubly stochastic penalty and its REINFORCE. Sentences are found by beam search. The score
is BLEU-4 of the validation images; the best weights are tested once, at the end. eval/exact is the percentage of
captions that equal a reference word by word, eval/pointing that of named objects on which attention lies.
predictions/ has pictures of where the network looked at each word.

Deviations: the backbone learns with the decoder, where the papers freeze it at first; the places of a map carry their
coordinates.
"""

from __future__ import annotations

import dataclasses
import functools
import math
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
from vision.captioning import attention, data, plots
from vision.captioning.captioner import Captioner
from vision.captioning.decoders import DECODERS
from vision.captioning.evaluation import Caption, evaluate
from vision.captioning.vocabulary import Vocabulary
from vision.data import annotated
from vision.data.sets import set_name
from vision.training import optimizers, schedules
from vision.training.estimate import estimate
from vision.training.losses import total_loss


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    data: str = annotated.SHAPES  # shapes, or a folder of images with captions in COCO's format
    scenes: Count = 20_000  # shapes: drawn to train on; a fortieth of them for validation, a twentieth for the test
    overfit: Whole = 0  # images that are trained on, validated and tested alike, as a check; 0: the data's parts
    model: str = "soft"  # attention: soft, hard, or plain for none
    backbone: str | None = None  # a name, name:weights, or a run's folder; None: the recipe's
    width: Positive | None = None  # times a new backbone's channels; None: as published
    stem: str | None = None  # of a new backbone; None: the family's
    train: str = "all"  # trainable weights: all, last-N (decoder and last N stages), head (the decoder)
    size: Count | None = 224  # pixels, sides that images are stretched to; None: as they are
    map_stride: Count = 16  # pixels; the backbone's map whose stride is nearest is read
    pool: Count = 1  # places of that map, along and down, that are merged into one
    features: Count = 256  # of each place
    hidden: Count = 256  # units of the LSTM, and of words
    dropout: Share = 0.3  # of words and of the output
    doubly_stochastic: NonNegative = 1.0  # weight of the penalty of places that are seen more or less than once
    reinforce: NonNegative = 1.0  # hard: weight of REINFORCE
    exploration: NonNegative = 0.01  # hard: weight of the entropy of attention in it
    least: Count = 1  # occurrences of a word that is known
    longest: Count = 20  # words of a sentence at most
    beam: Count = 3  # sentences kept at each word
    steps: Count = 200_000  # images shown
    batch: Count = 32  # images an update
    learning_rate: NonNegative = 1e-3  # of AdamW, at its highest
    weight_decay: NonNegative = 1e-4
    clip: NonNegative = 5.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    evaluate_every: Count = 20_000  # images shown between evaluations
    evaluate_images: Count = 500  # validation images at most, the first
    pictures: Whole = 8  # validation images drawn at each evaluation
    log_every: Count = 2_000  # images shown a line of metrics.jsonl
    bf16: bool = True  # maps in bfloat16 where CPU or GPU is fast at it
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        if self.backbone:
            backbones.check(self.backbone)
        if self.train == "last":
            raise ValueError("--train last: what writes is no single layer; choose all, last-N or head")
        if self.model not in DECODERS:
            raise ValueError(f"unknown --model {self.model!r}: {suggestions.one_of(self.model, DECODERS)}")


RECIPES: dict[str, dict] = {
    annotated.SHAPES: dict(
        backbone="vgg11_bn", width=0.25, size=None, map_stride=4, pool=2, features=64, hidden=64, dropout=0.0,
        doubly_stochastic=0.0, reinforce=0.1, exploration=0.0, longest=14, learning_rate=3e-3, schedule="cosine",
        steps=120_000, evaluate_every=8_000, evaluate_images=200, log_every=640,
    ),
    "recording": dict(
        backbone="vgg11_bn", width=0.25, size=160, map_stride=8, features=64, hidden=128, dropout=0.0,
        doubly_stochastic=0.0, longest=40, learning_rate=2e-3, schedule="cosine", steps=24_000,
        evaluate_every=4_000, evaluate_images=200, log_every=640,
    ),
    "folder": {},
}  # fmt: skip
NATIVE = 48  # pixels of the drawn scenes
VOCABULARY = "vocabulary.json"  # in a run's folder
SCORE = runs.Score("eval/bleu4", "max")  # of validation images, by beam search


def recipe(asked: Config) -> Config:
    """The recipe of the data; of its backbone only where none is asked for."""
    numbers = dict(backbone="resnet18") | RECIPES[annotated.recipe_key(asked.data)]
    if asked.backbone:
        numbers = {key: value for key, value in numbers.items() if key != "width"} | {"backbone": asked.backbone}
    return Config(data=asked.data, **numbers)


def build(config: Config, vocabulary: Vocabulary) -> Captioner:
    """The captioner of a config for color images, with pretrained weights where its backbone has some."""
    side = config.size or NATIVE
    options = {name: value for name in ("width", "stem") if (value := getattr(config, name)) is not None}
    backbone = backbones.build(str(config.backbone), (3, side, side), **options)
    decoder = DECODERS[config.model](len(vocabulary), config.features, config.hidden, config.dropout)
    model = Captioner(backbone, decoder, config.map_stride, vocabulary.start, config.pool)
    optimizers.set_trainable(model, config.train)
    return model


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sets = data.load(config.data, config.overfit, config.scenes)
    for note in sets.notes:
        Console(stderr=True).print(printable(note), highlight=False, markup=False, soft_wrap=True)
    if len(sets.train) < config.batch:
        raise ValueError(f"{len(sets.train)} training images are fewer than --batch {config.batch}")
    vocabulary = Vocabulary.of(sets.captions(), config.least)
    model = build(config, vocabulary).to(device, memory_format=torch.channels_last)
    model.autocast = functools.partial(precision, config, device)
    optimizer = optimizers.build(
        "adamw", optimizers.groups(model, config.weight_decay, decay_biases=False), config.learning_rate
    )
    batches = data.Batches(sets.train, vocabulary, config.size, config.batch, config.longest, config.seed, device)
    options = attention.Options(config.doubly_stochastic, config.reinforce, config.exploration)
    baseline, scaler = attention.Baseline(config.longest, device), LossScaler(config.fp16, device)

    def learn(images: Tensor, words: Tensor, targets: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        found = model.losses(images, words, targets, baseline, options)
        total = total_loss(found)
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        found["train/gradient_norm"] = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
        scaler.step(optimizer)
        found = {name: value.detach() for name, value in found.items()}
        return found | {"loss/train": total.detach()} | scaler.metrics

    note = f"{len(vocabulary)} words; {time_needed(config, model, batches, sets)}"
    run = runs.Run(
        config, "vision.captioning", set_name(config.data), note=note, score=SCORE, unit="images",
        follow_up="python -m vision.captioning predict",
    )  # fmt: skip
    run.track(model=model, optimizer=optimizer, baseline=baseline, **scaler.parts)
    optimizers.train_mode(model)
    try:
        for step in run.steps(config.steps, stride=config.batch):
            factor = schedules.at(config.schedule, step / config.steps)
            optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
            run.log(learn(*batches.training(step)))
            last = step + config.batch >= config.steps
            if run.due(config.evaluate_every) or last:
                validate(run, model, vocabulary, sets)
                optimizers.train_mode(model)
            if last:
                test(run, model, vocabulary, sets)
    finally:
        batches.close()


def time_needed(config: Config, model: Captioner, batches: data.Batches, sets: data.Images) -> str:
    """About how long a run takes, in a sentence."""
    device, images = next(model.parameters()).device, batches.training(0)[0]

    def update(trial: Captioner) -> None:
        baseline = attention.Baseline(config.longest, device)
        total_loss(trial.losses(*batches.training(0), baseline, attention.Options())).backward()

    return estimate(
        config, model, update, lambda trial: trial.eval().write(images, config.beam, config.longest),
        tried=len(images), validation=min(len(sets.validation), config.evaluate_images), test=len(sets.test),
    )  # fmt: skip


def options_of(config: Config) -> tuple[int | None, int, int, int]:
    """What an evaluation needs: size of images, width of the beam, longest sentence, images at once."""
    return config.size, config.beam, config.longest, config.batch


def validate(run: runs.Run, model: Captioner, vocabulary: Vocabulary, sets: data.Images) -> None:
    """Evaluate on the validation images, save the best backbone, and draw where the network looked."""
    config = run.config
    count = min(len(sets.validation), config.evaluate_images)
    with run.side_task("evaluation", needed=True):
        found, shown = evaluate(
            model, vocabulary, sets.validation, sets.classes, count, options_of(config), config.pictures
        )
    if run.log_evaluation({f"eval/{name}": value for name, value in found.items()} | {"eval/images": count}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
        with run.writing(VOCABULARY) as path:
            vocabulary.save(path)
    if shown:
        pictures: list[tuple[Tensor, Caption]] = [(sample.image, caption) for sample, caption in shown]
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            plots.draw_captions(pictures, path)


def test(run: runs.Run, model: Captioner, vocabulary: Vocabulary, sets: data.Images) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        found, _ = evaluate(model, vocabulary, sets.test, sets.classes, len(sets.test), options_of(run.config))
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/images": len(sets.test), "test/of_step": step})
    names = [name for name in ("bleu4", "cider_d", "exact", "pointing") if name in found]
    words = ", ".join(f"{name} {found[name]:.3g}" for name in names)
    run.bar.say(f"test of {len(sets.test):,} images, weights of step {step:,}: {words}")
