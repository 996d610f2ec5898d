"""Generator: the contract of generative models of images: a loss, samples, and what else a model can do.

A model is a file with a subclass of Generator and a line in MODELS of train.py. It has to have `losses` and `sample`;
what it does not override of `reconstruct`, `complete`, `log_prob` it cannot do, and says so. A model with several
networks that learn against each other overrides `optimizers` and `update`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

import runs
from runs.loss_scaling import LossScaler
from vision.training import optimizers
from vision.training.losses import total_loss

NATS = runs.Score("eval/nats", "min", unit="nats")  # an image, of models with a likelihood
ERROR = runs.Score("eval/squared_error", "min")  # an image, summed over pixels, of models that only reconstruct


class Generator(nn.Module):
    """A generative model of images (C, H, W) whose values are the levels k / (levels - 1) of 0 to 1.

    shape: of an image (C, H, W). levels: values of a pixel, 2 for binary images.
    classes: of a conditional model, 0 for an unconditional one, which ignores labels.
    clip: norm of the gradients at most, 0 for any. autocast: context of an update's losses (mixed precision).
    scaler: of the loss, for float16.
    """

    score: ClassVar[runs.Score] = NATS
    likelihood: ClassVar[Literal["none", "bound", "exact"]] = "none"  # what log_prob returns
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format  # of its weights, the faster one

    def __init__(self, shape: Sequence[int], levels: int = 2, classes: int = 0) -> None:
        super().__init__()
        self.shape, self.levels, self.classes = tuple(shape), levels, classes
        self.clip = 0.0
        self.autocast: Callable[[], AbstractContextManager] = contextlib.nullcontext
        self.scaler = LossScaler(False, torch.device("cpu"))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    # ---- learning ---------------------------------------------------------------------------------------

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of a batch, images (B, C, H, W) float32 and labels (B,): those called loss/... are summed and
        minimized, the others are logged."""
        raise NotImplementedError

    def optimizers(self, rate: float, name: str = "adam") -> dict[str, Optimizer]:
        """What updates the weights, by what it is called in checkpoints. A group's "scale" multiplies its learning
        rate. name: an optimizer of vision/training/optimizers.py; ValueError for what a model cannot learn by."""
        groups = [{"params": list(self.parameters()), "weight_decay": 0.0}]
        return {"optimizer": optimizers.build(name, groups, rate)}

    def update(self, images: Tensor, labels: Tensor, optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
        """Learn from a batch, images (B, C, H, W) and labels (B,). Returns scalars to log, without gradients."""
        (optimizer,) = optimizers.values()
        with self.autocast():
            found = self.losses(images, labels)
            total = total_loss(found)
        found |= {"loss/train": total}
        norm = self.descend(total, self, optimizer)
        if norm is not None:
            found["train/gradient_norm"] = norm
        return {name: value.detach() for name, value in found.items()}

    def descend(self, loss: Tensor, network: nn.Module, optimizer: Optimizer) -> Tensor | None:
        """Update a network by the gradients of a scalar loss. Returns their norm, a scalar, if they are clipped."""
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.clip) if self.clip else None
        self.scaler.step(optimizer)
        return norm

    # ---- evaluation --------------------------------------------------------------------------------------

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What an evaluation averages over images (B, C, H, W) with labels (B,): name -> (B,)."""
        found = -self.log_prob(images, labels)
        return {"nats": found, "bits_per_dim": bits_per_dim(found, images)}

    def measure(self, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The results of an evaluation on batches of images (B, C, H, W) and labels (B,): means of `scores`.

        A model that is judged by its samples, as by FID, overrides it.
        """
        sums, count = {}, 0
        for images, labels in batches:
            for name, value in self.scores(images, labels).items():
                sums[name] = sums.get(name, 0.0) + value.cpu().double().sum().item()
            count += len(images)
        return {name: value / count for name, value in sums.items()}

    # ---- what a trained model does ----------------------------------------------------------------------

    def sample(self, count: int, labels: Tensor | None = None) -> Tensor:
        """New images (count, C, H, W) from 0 to 1. labels: (count,), of a conditional model; None: drawn evenly."""
        raise NotImplementedError

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) as their codes describe them, of the same shape. Raises ValueError where there are no
        codes."""
        raise ValueError(f"{type(self).__name__} has no codes to reconstruct images from")

    def complete(self, images: Tensor, known: Tensor, labels: Tensor | None = None) -> Tensor:
        """In-painting: images (B, C, H, W) whose pixels outside of the mask `known`, (H, W) or (B, H, W) bool, are
        drawn given the others. Raises ValueError where a model cannot."""
        raise ValueError(f"{type(self).__name__} cannot complete images")

    def log_prob(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood (B,) in nats of images (B, C, H, W), or a lower bound of it: `likelihood` says which.

        Raises ValueError where a model has none.
        """
        raise ValueError(f"{type(self).__name__} has no likelihood")

    # ---- labels -----------------------------------------------------------------------------------------

    def drawn_labels(self, count: int, labels: Tensor | None = None) -> Tensor:
        """Labels (count,) int64 on the model's device: those given, or the classes in turn."""
        if labels is None:
            return torch.arange(count, device=self.device) % max(1, self.classes)
        if len(labels) != count:
            raise ValueError(f"{len(labels)} labels for {count} images")
        return labels.to(self.device)

    def condition(self, labels: Tensor | None, count: int) -> Tensor:
        """Labels (count,) as vectors (count, classes), of no length for an unconditional model."""
        if not self.classes:
            return torch.zeros(count, 0, device=self.device)
        if labels is None:
            raise ValueError(f"{type(self).__name__} is conditional: it needs the images' labels")
        return F.one_hot(labels.to(self.device), self.classes).float()


def bits_per_dim(nats: Tensor, images: Tensor) -> Tensor:
    """Nats of images (B, C, H, W) as bits for each value of a pixel's channels, (B,)."""
    return nats / (images[0].numel() * math.log(2))
