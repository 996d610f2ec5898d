"""Pretraining of an agent's backbone: to classify RAM variables, as an autoencoder, or on photographs.

    python -m agents.studies.representation.collect --env Pong --agent results/Pong/pqn-1
    python -m agents.studies.representation.pretrain --method memory --seed 1
    python -m agents.studies.representation.pretrain --method autoencoder --seed 1
    python -m agents.studies.representation.pretrain --method photographs --seed 1
    python -m agents.dqn --env Pong --backbone results/representation/Pong-memory-1 --norm layer

Each writes a folder that any agent or vision task takes as --backbone:
    memory       classifies the game's RAM variables (Anand et al. 2019): a softmax over bins for each variable
    autoencoder  reconstructs the frames from the last map by transposed convolutions. A pixel's error is divided by
                 its standard deviation over the frames, so that a small ball counts as much as the field
    photographs  classifies CIFAR-10's photographs, made gray and 84 x 84: a small stand-in for ImageNet. The same
                 picture fills every frame of the stack
Only games of the training split of `collect.split` are used, so that probes can be tested on the others.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from agents.studies.representation import collect
from agents.studies.representation.collect import STACK, LabeledFrames
from runs import machine, output
from runs.flag_types import Count, NonNegative, Positive, Whole
from vision import backbones, data


class RamClassifier(nn.Module):
    """Observations (B, C, 84, 84) -> logits (B, sum of bins) of all variables, from a backbone's last map."""

    def __init__(self, backbone: backbones.Backbone, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.last = nn.Linear(backbone.output_size(), outputs)

    def forward(self, observation: Tensor) -> Tensor:
        return self.last(self.backbone(observation)[-1].flatten(1))


class Decoder(nn.Module):
    """The last map of a backbone with three stages -> pictures (B, C, 84, 84): the transposed nature network.

    Raises ValueError for another number of stages."""

    def __init__(self, backbone: backbones.Backbone) -> None:
        super().__init__()
        if len(backbone.channels) != 3:
            raise ValueError(f"the decoder needs three stages, {backbone.spec['name']} has {len(backbone.channels)}")
        self.backbone = backbone
        one, two, three = backbone.channels
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(three, two, 3, 1),  # 7 -> 9
            nn.ReLU(),
            nn.ConvTranspose2d(two, one, 4, 2),  # 9 -> 20
            nn.ReLU(),
            nn.ConvTranspose2d(one, backbone.shape[0], 8, 4),  # 20 -> 84
        )

    def forward(self, observation: Tensor) -> Tensor:
        return self.decoder(self.backbone(observation)[-1])


def ram_loss(logits: Tensor, label: Tensor, bins: list[int]) -> Tensor:
    """Mean over variables of the cross-entropy in nats, a scalar. logits: (B, sum of bins), label: (B, V)."""
    each = zip(logits.float().split(bins, 1), label.unbind(1), strict=True)
    return torch.stack([F.cross_entropy(one, row) for one, row in each]).mean()


def new_backbone(config: Config) -> backbones.Backbone:
    """The backbone that is to learn, initialized by the global generator."""
    return backbones.build(config.backbone, (STACK, 84, 84), width=config.width, norm=config.norm)


def fit(config: Config, model: nn.Module, rows: int, loss_of: Callable[[Tensor], Tensor]) -> list[float]:
    """Train on `rows` rows in batches; loss_of takes the chosen ones (B,). Returns the mean loss of each epoch."""
    updates = config.epochs * -(-rows // config.batch)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, updates, pct_start=0.1)
    epochs = []
    for epoch in range(config.epochs):
        losses = []
        for batch in torch.randperm(rows).split(config.batch):
            with machine.precision(config, batch.device):
                loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        epochs.append(float(torch.stack(losses).mean()))
        print(f"epoch {epoch + 1} of {config.epochs}: loss {epochs[-1]:.4f}", flush=True)
    return epochs


@dataclasses.dataclass(frozen=True)
class Config:
    method: Literal["memory", "autoencoder", "photographs"]
    frames: Path = Path(
        "results/representation/Pong.safetensors"
    )  # that agents.studies.representation.collect wrote; photographs need none
    folder: Path | None = None  # to write; None: beside the frames, <game>-<method>-<seed>
    seed: int = 1
    backbone: str = "nature"
    width: Positive = 0.5  # channels of the backbone, times its family's
    norm: Literal["none", "layer"] = "layer"  # before every ReLU
    epochs: Count = 8
    batch: Count = 64
    learning_rate: NonNegative = 1e-3  # AdamW, one cycle
    bf16: bool = True  # autocast
    photographs: Count = 20_000  # of CIFAR-10's training set
    data: Path | None = None  # CIFAR-10's folder; None: $SACCADE_DATA/cifar10 or ~/.cache/saccade/cifar10
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start


def photographs(config: Config) -> tuple[nn.Module, int, Callable[[Tensor], Tensor]]:
    """A classifier of CIFAR-10, the number of its images, and the loss of rows (B,), for `fit`."""
    train = data.load("cifar10", config.data).train
    model = RamClassifier(new_backbone(config), 10)

    def loss_of(rows: Tensor) -> Tensor:
        gray = train.images[rows].float().mean(1, keepdim=True)
        gray = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, gray.flip(3), gray)
        large = F.interpolate(gray, (84, 84), mode="bilinear")
        pictures = large.round().to(torch.uint8).expand(-1, STACK, -1, -1)
        return F.cross_entropy(model(pictures).float(), train.labels[rows])

    return model, min(config.photographs, len(train.images)), loss_of


def frame_model(config: Config) -> tuple[str, nn.Module, int, Callable[[Tensor], Tensor]]:
    """The game; a model of its frames, the number of rows, and the loss of rows (B,), for `fit`."""
    played, about = LabeledFrames.load(config.frames)
    rows = collect.split(played, seed=0).train
    if config.method == "memory":
        known = collect.labels(played, about["env"], rows)
        model = RamClassifier(new_backbone(config), sum(known.bins))

        def classification_loss(batch: Tensor) -> Tensor:
            return ram_loss(model(played.stacks(rows[batch])), known.label[rows[batch]], known.bins)

        return about["env"], model, len(rows), classification_loss
    model = Decoder(new_backbone(config))
    some = played.frame[rows[:: max(1, len(rows) // 2000)]].float() / 255
    mean, spread = some.mean(0), some.std(0).clamp(min=0.02)

    def reconstruction_loss(batch: Tensor) -> Tensor:
        stacks = played.stacks(rows[batch])
        return F.mse_loss(model(stacks).float(), (stacks.float() / 255 - mean) / spread)

    return about["env"], model, len(rows), reconstruction_loss


def train(config: Config) -> tuple[Path, list[float]]:
    """Pretrain a backbone and save it. Returns its folder and the loss of every epoch."""
    device = runs.prepare("cpu", config.seed, config.threads)
    if config.method == "photographs":
        game, (model, rows, loss_of) = "any", photographs(config)
    else:
        game, model, rows, loss_of = frame_model(config)
    model.to(memory_format=torch.channels_last)
    losses = fit(config, model, rows, loss_of)
    folder = config.folder or config.frames.parent / f"{game}-{config.method}-{config.seed}"
    with output.writing(folder / "backbone.safetensors", "--folder"):
        backbones.save(model.backbone, folder / "backbone.safetensors")
    about = {"config": json.loads(json.dumps(dataclasses.asdict(config), default=str)), "rows": rows, "loss": losses}
    about |= machine.circumstances("agents.studies.representation.pretrain", device)
    output.write(folder / "pretraining.json", json.dumps(about, indent=1) + "\n", "--folder")
    print(f"backbone in {folder}: --backbone {folder} takes it")
    return folder, losses


if __name__ == "__main__":
    runs.launch(train, Config, None, "agents.studies.representation.pretrain", __doc__)
