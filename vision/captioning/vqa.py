"""Visual question answering on drawn scenes, on any backbone: counts, colors, shapes, relations.

    python -m vision.captioning.vqa
    python -m vision.captioning.vqa --backbone results/shapes/captioning-1      # a captioner's backbone

Agrawal et al. 2015, "VQA", arXiv 1505.00468; the network is that of Perez et al. 2017, "FiLM", arXiv 1709.07871, on a
backbone that learns with it. Each scene is asked another question every time. The score is the percentage of
validation questions that are answered rightly; eval/majority is what the most frequent answer to each type of
question would reach. The best weights are tested once, at the end; predictions/ has pictures of them.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs import saved
from runs.flag_types import Count, NonNegative, Positive, Whole
from runs.loss_scaling import LossScaler
from runs.machine import choose, precision
from runs.saved import best_copy
from vision import backbones
from vision.captioning import scenes
from vision.captioning.answering import Answerer
from vision.captioning.questions import ANSWERS, Question, Thing, ask
from vision.captioning.scenes import CLASSES, DescribedScenes
from vision.data.sets import order
from vision.training import optimizers, schedules
from vision.training.estimate import estimate


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    scenes: Count = 20_000  # drawn to train on; a fortieth of them for validation, a twentieth for the test
    backbone: str = "vgg11_bn"  # a name, name:weights, or a run's folder
    width: Positive | None = None  # times a new backbone's channels; None: a quarter of vgg11_bn's, else as published
    train: str = "all"  # trainable weights: all, last-N (head and last N stages), head
    map_stride: Count = 8  # pixels; the backbone's map whose stride is nearest is read
    channels: Count = 64  # of the modulated blocks
    hidden: Count = 64  # units of the question's LSTM, and of the head
    blocks: Count = 3  # that the question modulates
    steps: Count = 960_000  # questions asked
    batch: Count = 64  # questions an update
    learning_rate: NonNegative = 2e-3  # of AdamW, at its highest
    weight_decay: NonNegative = 1e-4
    clip: NonNegative = 5.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal[schedules.NAMES] = "one_cycle"  # of the learning rate
    evaluate_every: Count = 80_000  # questions asked between evaluations
    pictures: Whole = 12  # validation scenes drawn at each evaluation
    log_every: Count = 2_000  # questions a line of metrics.jsonl
    bf16: bool = True  # maps in bfloat16 where CPU or GPU is fast at it
    fp16: bool = False  # float16 in place of bfloat16, on any device, with dynamic loss scaling

    def validate(self) -> None:
        super().validate()
        backbones.check(self.backbone)
        if self.train == "last":
            raise ValueError("--train last: what answers is no single layer; choose all, last-N or head")


SCORE = runs.Score("eval/accuracy", "max", unit="%")
QUARTER = 0.25
ASKED = 4  # questions of each scene of an evaluation
TOGETHER = 250  # questions that are answered at once


class Asked(NamedTuple):
    """Scenes and a question about each."""

    images: Tensor  # (N, 3, H, W) uint8
    questions: list[Question]


def things(data: DescribedScenes, row: int) -> list[Thing]:
    """The objects of a scene."""
    pairs = zip(data.labels[row].tolist(), data.cells[row].tolist(), strict=True)
    return [Thing(*CLASSES[label].split(), cell) for label, cell in pairs if label >= 0]


def training(data: DescribedScenes, step: int, batch: int, seed: int) -> Asked:
    """The batch at a step, counted in questions, which depends only on it and the seed."""
    epoch, number = divmod(step // batch, max(1, len(data) // batch))
    rows = order(len(data), seed, epoch)[number * batch : (number + 1) * batch]
    draw = random.Random(seed * 1_000_003 + step)
    return Asked(data.images[rows], [ask(things(data, row), draw) for row in rows.tolist()])


def held_out(data: DescribedScenes) -> Asked:
    """ASKED questions about each scene, the same every time."""
    draw = random.Random(0)
    rows = torch.arange(len(data)).repeat_interleave(ASKED)
    return Asked(data.images[rows], [ask(things(data, row), draw) for row in rows.tolist()])


def answers_of(questions: Sequence[Question]) -> Tensor:
    """Indices (N,) int64 of the right answers."""
    return torch.tensor([ANSWERS.index(question.answer) for question in questions])


def build(config: Config) -> Answerer:
    """The network of a config, with pretrained weights where its backbone has some."""
    width = config.width or (QUARTER if config.backbone == Config.backbone else None)
    options = {} if width is None else {"width": width}
    backbone = backbones.build(config.backbone, (3, scenes.SIDE, scenes.SIDE), **options)
    model = Answerer(backbone, config.map_stride, config.channels, config.hidden, config.blocks)
    optimizers.set_trainable(model, config.train)
    return model


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    sizes = (config.scenes, max(1, config.scenes // 40), max(1, config.scenes // 20))
    train, validation, test = (DescribedScenes(count, seed) for seed, count in enumerate(sizes))
    if len(train) < config.batch:
        raise ValueError(f"{len(train)} training scenes are fewer than --batch {config.batch}")
    model = build(config).to(device, memory_format=torch.channels_last)
    optimizer = optimizers.build(
        "adamw", optimizers.groups(model, config.weight_decay, decay_biases=False), config.learning_rate
    )
    note = time_needed(config, model, train, held_out(validation), len(test) * ASKED)
    run = runs.Run(config, "vision.captioning.vqa", "shapes", note=note, score=SCORE, unit="questions")
    scaler = LossScaler(config.fp16, device)
    run.track(model=model, optimizer=optimizer, **scaler.parts)

    def learn(images: Tensor, questions: Tensor, answers: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        with precision(config, device):
            logits = model(images, questions)
        loss = F.cross_entropy(logits.float(), answers)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
        scaler.step(optimizer)
        return {"loss/train": loss.detach(), "train/gradient_norm": norm} | scaler.metrics

    optimizers.train_mode(model)
    for step in run.steps(config.steps, stride=config.batch):
        factor = schedules.at(config.schedule, step / config.steps)
        optimizers.set_learning_rate(optimizer, config.learning_rate * factor)
        asked = training(train, step, config.batch, config.seed)
        questions = model.encode([each.text for each in asked.questions])
        run.log(learn(*(each.to(device) for each in (asked.images, questions, answers_of(asked.questions)))))
        last = step + config.batch >= config.steps
        if run.due(config.evaluate_every) or last:
            validate(run, model, held_out(validation))
            optimizers.train_mode(model)
        if last:
            report(run, model, held_out(test))


def time_needed(config: Config, model: Answerer, drawn: DescribedScenes, validation: Asked, test: int) -> str:
    """About how long a run takes, in a sentence. test: questions of the test."""
    device, count = next(model.parameters()).device, min(TOGETHER, len(validation.questions))
    asked = training(drawn, 0, config.batch, config.seed)
    texts = [each.text for each in validation.questions[:count]]

    def update(trial: Answerer) -> None:
        questions, answers = trial.encode([each.text for each in asked.questions]), answers_of(asked.questions)
        with precision(config, device):
            logits = trial(asked.images.to(device), questions.to(device))
        F.cross_entropy(logits.float(), answers.to(device)).backward()

    return estimate(
        config, model, update, lambda trial: answer(config, trial, validation.images[:count], texts),
        tried=count, validation=len(validation.questions), test=test, unit="questions",
    )  # fmt: skip


@torch.no_grad()
def answer(
    config: Config, model: Answerer, images: Tensor, questions: Sequence[str], batch: int = TOGETHER
) -> list[str]:
    """The answers to N questions about images (N, 3, H, W) uint8."""
    device, found = next(model.parameters()).device, []
    model.eval()
    for begin in range(0, len(images), batch):
        with precision(config, device):
            part = model.encode(list(questions[begin : begin + batch])).to(device)
            logits = model(images[begin : begin + batch].to(device), part)
        found += [ANSWERS[number] for number in logits.argmax(1).tolist()]
    return found


def score(asked: Asked, answers: Sequence[str]) -> dict[str, float]:
    """Percentages of right answers: of all, of each type of question, of the most frequent answer to each type."""
    right, total, frequent = Counter(), Counter(), {}
    for question, said in zip(asked.questions, answers, strict=True):
        total[question.kind] += 1
        right[question.kind] += said == question.answer
        frequent.setdefault(question.kind, Counter())[question.answer] += 1
    majority = sum(counts.most_common(1)[0][1] for counts in frequent.values())
    found = {"accuracy": 100 * right.total() / total.total(), "majority": 100 * majority / total.total()}
    return found | {kind.replace(" ", "_"): 100 * right[kind] / total[kind] for kind in sorted(total)}


def validate(run: runs.Run, model: Answerer, asked: Asked) -> None:
    """Evaluate on the validation scenes, save the best backbone, and draw questions with their answers."""
    with run.side_task("evaluation", needed=True):
        said = answer(run.config, model, asked.images, [each.text for each in asked.questions])
    found = score(asked, said)
    if run.log_evaluation({f"eval/{name}": value for name, value in found.items()}):
        with run.writing(backbones.FILENAME) as path:
            backbones.save(model.backbone, path)
    if count := min(run.config.pictures, len(asked.images)):
        with run.side_task("picture"), run.writing(f"predictions/{run.step + run.stride:012d}.png") as path:
            draw(asked, said, count, path)


def report(run: runs.Run, model: Answerer, asked: Asked) -> None:
    """Test the weights of the best evaluation, once."""
    model, step = best_copy(run, model, "model")
    with run.side_task("evaluation", needed=True):
        found = score(asked, answer(run.config, model, asked.images, [each.text for each in asked.questions]))
    line = {f"test/{name}": value for name, value in found.items()}
    run.log_evaluation(line | {"test/questions": len(asked.images), "test/of_step": step})
    words = f"{found['accuracy']:.1f}% accuracy, {found['majority']:.1f}% by the most frequent answers"
    run.bar.say(f"test of {len(asked.images):,} questions, weights of step {step:,}: {words}")


def draw(asked: Asked, answers: Sequence[str], count: int, path: Path) -> None:
    """Draw the first `count` scenes with their questions and what is answered; wrong answers in red."""
    from matplotlib.figure import Figure

    columns = min(4, count)
    figure = Figure(figsize=(3 * columns, 2.6 * -(-count // columns)), layout="constrained")
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, image, question, said in zip(axes[:count], asked.images, asked.questions, answers, strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy())
        right = said == question.answer
        title = f"{question.text}?\n{said}" + ("" if right else f" (is {question.answer})")
        axis.set_title(title, fontsize=7, color="black" if right else "red", parse_math=False)
    figure.savefig(path, dpi=100, format="png")


class Trained(NamedTuple):
    """A run's network: load(run).answer(images, questions)."""

    config: Config
    model: Answerer  # of the best evaluation

    def answer(self, images: Tensor, questions: Sequence[str]) -> list[str]:
        """The answers to N questions about images (N, 3, 48, 48) uint8, one each."""
        return answer(self.config, self.model, images, questions)


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config and network, that of the best evaluation. Raises RunError where there is no such run."""
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(Config, folder, "vision.captioning.vqa", backbones.FILENAME)
    known = config.backbone in backbones.BACKBONES
    model = build(dataclasses.replace(config, backbone=config.backbone if known else str(folder), train="all"))
    model.load_state_dict(parts["model"])
    return Trained(config, model.to(device, memory_format=torch.channels_last).eval())


if __name__ == "__main__":
    runs.launch(train, Config, None, "vision.captioning.vqa", __doc__)
