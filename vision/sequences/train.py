"""Recurrent networks on sequences: vanilla RNN, LSTM and GRU on text, sums, films and more, in four shapes.

    python -m vision.sequences                                  # characters of Python's language reference
    python -m vision.sequences --text path/to/novel.txt
    python -m vision.sequences --task hello --cell rnn          # CS231n's example: h, e, l, l, o
    python -m vision.sequences --task order                     # many to one
    python -m vision.sequences --task numerals                  # one to many: 305 -> three hundred five
    python -m vision.sequences --task sums                      # encoder and decoder: 123+456 -> 579
    python -m vision.sequences --task films                     # a class for each frame
    python -m vision.sequences sample results/reference/sequences-1 --prompt "The "

After Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks". The score is the cross-entropy of
held-out sequences in nats a symbol; the best weights are tested once, at the end. samples/ has what the network says
at each evaluation. Text is read in windows whose states are carried on, while gradients end at each window's first
character: truncated back-propagation through time (Williams & Peng 1990). Gradients are clipped by their norm
(Pascanu et al. 2012, arXiv 1211.5063).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from runs import suggestions
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.saved import best_copy
from vision import backbones
from vision.data.sets import set_name
from vision.sequences.network import SequenceNetwork
from vision.sequences.recurrent import States, detach
from vision.sequences.tasks import IGNORE, TASKS, Batch, Task
from vision.training import schedules
from vision.training.estimate import estimate


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    task: str = "text"  # text, hello, order, numerals, sums, films
    text: Path | None = None  # task text: a file; None: Python's language reference
    data: str = "drawn"  # task films: drawn, or a folder of annotated images
    track: str | None = None  # task films: the class whose motion is asked for; None: the folder's only one
    size: Count = 84  # task films: pixels, sides that recorded frames are stretched to
    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    hidden: Count = 128  # of each layer
    layers: Count = 1
    dropout: Share = 0.0  # of the outputs of each layer
    backbone: str = "small"  # of the frames: a name, name:weights, or a run's folder
    length: Count = 40  # characters of a window, letters, digits of a number, or frames
    truncate: Whole = 0  # steps that gradients go back within a sequence; 0: to its first
    steps: Count = 100_000  # sequences shown; of text: windows
    batch: Count = 50  # sequences an update
    learning_rate: NonNegative = 2e-3  # of Adam, at its highest
    clip: NonNegative = 5.0  # norm of the gradient, at most; 0: not clipped
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"  # of the learning rate
    temperature: NonNegative = 0.7  # of the samples of a text; 0: the likeliest character
    evaluate_every: Count = 20_000  # sequences shown between evaluations
    log_every: Count = 2_000  # sequences shown a line of metrics.jsonl

    def validate(self) -> None:
        super().validate()
        if self.task not in TASKS:
            raise ValueError(f"unknown --task {self.task!r}: {suggestions.one_of(self.task, TASKS)}")
        if self.text is not None and self.task != "text":
            raise ValueError(f"--text is for --task text, not for {self.task}")
        backbones.check(self.backbone)


RECIPES: dict[str, dict[str, Any]] = {
    "text": dict(
        hidden=256, length=64, batch=20, learning_rate=4e-3, steps=50_000, evaluate_every=5_000, log_every=500
    ),
    "hello": dict(hidden=3, batch=1, steps=300, evaluate_every=100, log_every=10, learning_rate=0.1, length=4),
    "order": dict(hidden=64, steps=100_000, batch=50),
    "numerals": dict(hidden=128, steps=400_000, learning_rate=4e-3, evaluate_every=40_000, log_every=4_000),
    "sums": dict(hidden=128, length=3, batch=100, steps=800_000, evaluate_every=100_000, log_every=10_000),
    "films": dict(hidden=64, length=16, batch=16, steps=8_000, evaluate_every=1_600, log_every=160),
}
SCORE = runs.Score("eval/nats", "min", unit="nats")  # a symbol, of the validation part
LONGEST = 64  # symbols of a generated answer


def recipe(asked: Config) -> Config:
    """The recipe of the task."""
    chosen = {name: getattr(asked, name) for name in ("task", "text", "data")}
    return Config(**chosen | RECIPES.get(asked.task, {}))


def build(config: Config, task: Task) -> SequenceNetwork:
    """The network of a config for a task."""
    frames = isinstance(task.inputs, tuple) and isinstance(task.inputs[0], int)
    backbone = backbones.build(config.backbone, task.inputs) if frames else None
    inputs = config.hidden if frames else task.inputs
    return SequenceNetwork(
        task.shape, inputs, task.outputs, config.cell, config.hidden, config.layers, config.dropout, config.truncate,
        task.end, backbone,
    )  # fmt: skip


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy () in nats of logits (B, U, symbols) for targets (B, U), of which IGNORE counts nothing."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)


class Carried:
    """The states that are carried from a batch to the next, part of a run's checkpoints: None before the first.

    digest: of the text that is read; "" for other tasks. A checkpoint of another text is refused with a RunError.
    """

    def __init__(self, device: torch.device, digest: str) -> None:
        self.states: States | None = None
        self.device, self.digest = device, digest

    def state_dict(self) -> dict[str, Any]:
        return {"states": self.states, "digest": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["digest"] != self.digest:
            raise runs.RunError(
                f"this run read another text, of SHA-256 {state['digest'][:12]} and not {self.digest[:12]}: put it "
                "back (the language reference is that of the Python that began the run), or choose another --name"
            )
        states = state["states"]
        self.states = states and [tuple(each.to(self.device) for each in layer) for layer in states]


def train(config: Config) -> None:
    device = runs.prepare(config.device, config.seed, config.threads)
    config.validate()
    task = TASKS[config.task](config)
    network = build(config, task).to(device)
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    carried = Carried(device, getattr(task, "digest", ""))
    note = "; ".join(filter(None, (described(task), time_needed(config, network, task))))
    run = runs.Run(
        config, "vision.sequences", world_name(config), note=note, score=SCORE, unit="sequences",
        follow_up="python -m vision.sequences sample",
    )  # fmt: skip
    run.track(carried=carried, network=network, optimizer=optimizer)  # the text is compared first

    def learn(inputs: Tensor, targets: Tensor, states: States | None) -> tuple[dict[str, Tensor], States]:
        optimizer.zero_grad()
        logits, states = network(inputs, targets, states)
        loss = loss_of(logits, targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip or math.inf)
        optimizer.step()
        return {"loss/train": loss.detach(), "train/gradient_norm": norm}, detach(states)

    network.train()
    for step in run.steps(config.steps, stride=config.batch):
        factor = schedules.at(config.schedule, step / config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        batch = task.training(step)
        before = None if batch.begins else carried.states
        metrics, states = learn(batch.inputs.to(device), batch.targets.to(device), before)
        carried.states = states if task.streamed else None
        run.log(metrics)
        last = step + config.batch >= config.steps
        if run.due(config.evaluate_every) or last:
            evaluate(run, network, task)
            network.train()
        if last:
            test(run, network, task)


def world_name(config: Config) -> str:
    """The name of the folder of a task's runs."""
    if config.task == "text":
        return "reference" if config.text is None else config.text.stem
    return set_name(config.data) if config.task == "films" and config.data != "drawn" else config.task


def described(task: Task) -> str | None:
    """What is read, in a sentence, where that depends on the machine."""
    if not hasattr(task, "digest"):
        return None
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in task.parts.items())
    return f"{len(task.inputs)} characters; {sizes}; SHA-256 {task.digest[:12]}"


def time_needed(config: Config, network: SequenceNetwork, task: Task) -> str:
    """About how long a run takes, in a sentence."""
    batch, held_out = task.training(0), next(iter(task.held_out("validation")))
    counts = {part: sum(len(each.inputs) for each in task.held_out(part)) for part in ("validation", "test")}

    def update(trial: SequenceNetwork) -> None:
        inputs, targets = batch.inputs.to(trial.device), batch.targets.to(trial.device)
        loss_of(trial(inputs, targets, None)[0], targets).backward()

    return estimate(
        config, network, update, lambda trial: measure(trial, task, [held_out]),
        tried=len(held_out.inputs), unit="sequences", **counts,
    )  # fmt: skip


@torch.no_grad()
def measure(network: SequenceNetwork, task: Task, batches: Iterable[Batch]) -> dict[str, float]:
    """Nats a symbol, accuracy in percent where the right symbols before are read, and, of networks that generate, the
    exact-match accuracy in percent of the sequences that they generate."""
    network.eval()
    nats, right, count, exact, sequences, states = 0.0, 0, 0, 0, 0, None
    for batch in batches:
        inputs, targets = batch.inputs.to(network.device), batch.targets.to(network.device)
        logits, states = network(inputs, targets, None if batch.begins or not task.streamed else states)
        asked = targets != IGNORE
        nats += F.cross_entropy(logits[asked].float(), targets[asked], reduction="sum").item()
        right += (logits.argmax(2) == targets)[asked].sum().item()
        count += asked.sum().item()
        if network.decoder is not None:
            texts = ("".join(task.outputs[each] for each in row if each != IGNORE) for row in targets.tolist())
            said = network.generate(inputs, targets.shape[1])
            exact += sum(text.partition(task.end)[0] == each for text, each in zip(texts, said, strict=True))
            sequences += len(said)
    found = {"nats": nats / count, "accuracy": 100 * right / count}
    return found | ({"exact": 100 * exact / sequences} if sequences else {})


def evaluate(run: runs.Run, network: SequenceNetwork, task: Task) -> None:
    """Evaluate on the validation part, and write down what the network says."""
    with run.side_task("evaluation", needed=True):
        found = measure(network, task, task.held_out("validation"))
    run.log_evaluation({f"eval/{name}": value for name, value in found.items()})
    with run.side_task("sample"), run.writing(f"samples/{run.step + run.stride:012d}.txt") as path:
        said = task.show(network.eval(), torch.Generator().manual_seed(run.config.seed))
        path.write_text(f"{said}\n", encoding="utf-8")


def test(run: runs.Run, network: SequenceNetwork, task: Task) -> None:
    """Test the weights of the best evaluation, once."""
    network, step = best_copy(run, network, "network")
    with run.side_task("evaluation", needed=True):
        found = measure(network, task, task.held_out("test"))
    run.log_evaluation({f"test/{name}": value for name, value in found.items()} | {"test/of_step": step})
    words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    run.bar.say(f"test, weights of step {step:,}: {words}")
