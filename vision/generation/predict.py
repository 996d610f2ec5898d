"""Samples, reconstructions, completions, likelihoods and latent traversals of a trained generative model.

python -m vision.generation sample results/mnist/vae-1 --count 100 --label 3      # --label: conditional models
python -m vision.generation reconstruct results/mnist/vae-1                       # of test images, in pairs
python -m vision.generation complete results/mnist/pixelcnn-1                     # from the upper half
python -m vision.generation log_prob results/mnist/vae-1 --importance 100
python -m vision.generation interpolate results/mnist/vae-1                       # between test images
python -m vision.generation traverse results/mnist/vae-1                          # one latent at a time
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import tyro
from torch import Tensor

from runs import output, saved, study_report
from runs.flag_types import Count, Positive, Share, Whole
from runs.machine import choose
from runs.printing import printable
from vision import backbones, data
from vision.generation import plots, train
from vision.generation.autoencoder import latent_line, traversal
from vision.generation.data import Pixels
from vision.generation.generator import Generator

COMMANDS = ("sample", "reconstruct", "complete", "log_prob", "interpolate", "traverse")


@dataclasses.dataclass(frozen=True)
class Config:
    command: Annotated[Literal[COMMANDS], tyro.conf.Positional]  # what to make
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    count: Count = 64  # images; pairs to interpolate between, or latents to traverse
    label: Whole | None = None  # sample: of all images, by a conditional model; None: the classes in turn
    known: Share = 0.5  # complete: the part of an image, from its top, that is given
    steps: Count = 10  # interpolate, traverse: images a row
    reach: Positive = 3.0  # traverse: values of a latent, from -reach to reach deviations (of a VAE: of its prior)
    importance: Whole = 0  # log_prob of a VAE: samples of the importance-weighted bound; 0: the ELBO
    out: Path | None = None  # picture, <command>.png if not given; of log_prob .md and .json, if given
    seed: Whole = 1
    batch: Count = 100  # images at once
    device: str = "auto"  # auto, cpu, cuda, mps


class Trained(NamedTuple):
    """A run's model: load(run).sample(16). Images are (N, C, H, W) float32 from 0 to 1, on the CPU."""

    config: train.Config
    classes: tuple[str, ...]
    model: Generator  # of the best evaluation

    @torch.no_grad()
    def sample(self, count: int, labels: Tensor | None = None, seed: int = 1) -> Tensor:
        """New images (count, C, H, W). labels: (count,), of a conditional model; None: the classes in turn."""
        with seeded(self.model.device, seed):
            return self.model.sample(count, labels).cpu()

    @torch.no_grad()
    def reconstruct(self, images: Tensor, labels: Tensor | None = None, seed: int = 1) -> Tensor:
        """Images (B, C, H, W) by way of their codes. Raises ValueError where the model has none."""
        with seeded(self.model.device, seed):
            return self.model.reconstruct(images.to(self.model.device), labels).cpu()

    @torch.no_grad()
    def complete(self, images: Tensor, known: Tensor, labels: Tensor | None = None, seed: int = 1) -> Tensor:
        """Images (B, C, H, W) whose pixels outside of `known`, (H, W) or (B, H, W) bool, are drawn given the others.

        Raises ValueError where the model cannot.
        """
        place = self.model.device
        with seeded(place, seed):
            return self.model.complete(images.to(place), known.to(place), labels).cpu()

    @torch.no_grad()
    def log_prob(self, images: Tensor, labels: Tensor | None = None, seed: int = 1) -> Tensor:
        """Log-likelihood (B,) in nats of images (B, C, H, W) of the levels that the model was trained on; a lower
        bound where `likelihood` is "bound". Raises ValueError where there is none."""
        with seeded(self.model.device, seed):
            return self.model.log_prob(images.to(self.model.device), labels).cpu()

    @property
    def likelihood(self) -> str:
        """What log_prob is: "exact", a "bound", or "none"."""
        return self.model.likelihood

    def pixels(self, part: str = "test") -> Pixels:
        """A part of the data that it was trained on, as it sees images."""
        config = self.config
        sets = data.load(config.data, config.data_folder, config.size)
        return Pixels(getattr(sets, part), config.levels, config.binarization, "cpu")


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A context in which the global generators begin with a seed, and after which they are as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, class names and model, that of the best evaluation.

    Raises RunError where there is no such run, or nothing was saved yet.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(train.Config, folder, "vision.generation", train.ABOUT)
    about = json.loads((folder / train.ABOUT).read_text())
    known = config.backbone in backbones.BACKBONES  # a pretrained one is saved here
    own = config if known else dataclasses.replace(config, backbone=str(folder), width=None)
    model = train.build(own, about["shape"], len(about["classes"]))
    model.load_state_dict(parts["averaged" if config.ema_decay else "model"])
    return Trained(config, tuple(about["classes"]), model.to(device).eval())


def main(config: Config) -> Tensor:
    """Write a picture, or print nats. Returns the images (N, C, H, W), or the nats (N,) of log_prob."""
    trained = load(config.run, config.device)
    model, count = trained.model, config.count
    if config.command == "sample":
        labels = None if config.label is None else torch.full((count,), config.label)
        if labels is not None and config.label >= model.classes:
            raise ValueError(f"--label {config.label}: this model has {model.classes} classes to choose from")
        found = trained.sample(count, labels, config.seed)
        picture = plots.grid(found)
    elif config.command == "reconstruct":
        images, labels = next(trained.pixels().batches(count))
        found = trained.reconstruct(images, labels, config.seed)
        picture = plots.paired(images, found)
    elif config.command == "complete":
        images, labels = next(trained.pixels().batches(count))
        known = torch.zeros(images.shape[2:], dtype=torch.bool)
        known[: round(config.known * len(known))] = True
        found = trained.complete(images, known, labels, config.seed)
        picture = plots.paired(torch.where(known, images, 0.5), found)
    elif config.command == "log_prob":
        return nats(config, trained)
    else:
        found = latent_rows(config, trained)
        picture = plots.grid(found, config.steps)
    path = config.out or Path(f"{config.command}.png")
    with output.writing(path, "--out"):
        plots.write(picture, path)
    print(printable(f"{len(found)} images in {path}"))
    return found


def nats(config: Config, trained: Trained) -> Tensor:
    """The nats (N,) of the first test images, printed: exact, a bound, or the importance-weighted bound."""
    found = []
    for images, labels in trained.pixels().batches(config.batch, config.count):
        if config.importance:
            if not hasattr(trained.model, "importance_log_prob"):
                raise ValueError(f"--importance: {trained.config.model} has no importance-weighted bound")
            with seeded(trained.model.device, config.seed), torch.no_grad():
                place = trained.model.device
                some = trained.model.importance_log_prob(images.to(place), labels, config.importance)
            found.append(-some.cpu())
        else:
            found.append(-trained.log_prob(images, labels, config.seed))
    found = torch.cat(found)
    mean, dims = found.mean().item(), math.prod(trained.model.shape)
    kind = f"importance-weighted bound of {config.importance} samples" if config.importance else trained.likelihood
    error = found.std().item() / math.sqrt(len(found)) if len(found) > 1 else 0.0
    bits = mean / dims / math.log(2)
    print(f"{mean:.2f} ± {error:.2f} nats, {bits:.4f} bits/dim ({kind}), {len(found):,} test images")
    if config.out:
        title = f"Log-likelihood of {trained.config.model} on {trained.config.data}"
        row = [kind, f"{len(found):,}", f"{mean:.2f} ± {error:.2f}", f"{bits:.4f}"]
        figures = dict(nats=mean, standard_error=error, bits_per_dim=bits, images=len(found), kind=kind)
        study_report.write(
            config.out.with_suffix(".json"), "vision.generation", trained.model.device, printable(title),
            ["likelihood", "test images", "nats, with the standard error", "bits/dim"], [row],
            f"Of {train.described(trained.config, trained.model)}.", [figures],
        )  # fmt: skip
    return found


@torch.no_grad()
def latent_rows(config: Config, trained: Trained) -> Tensor:
    """Rows of decoded images (rows * steps, C, H, W): lines between two test images' codes, or traversals of the
    latents of one, those first whose codes vary most among test images.

    Raises ValueError for a model without codes.
    """
    model, steps = trained.model, config.steps
    if not hasattr(model, "decode"):
        raise ValueError(f"{trained.config.model} has no codes to {config.command}")
    count = min(config.count, 10)
    images, labels = next(trained.pixels().batches(max(2 * count, 100)))
    images, labels = images.to(model.device), labels.to(model.device)
    codes = model.encode(images, labels)
    if config.command == "interpolate":
        lines = [latent_line(codes[2 * row], codes[2 * row + 1], steps) for row in range(count)]
        chosen = labels[: 2 * count : 2].repeat_interleave(steps)
        return model.decode(torch.cat(lines), chosen).cpu()
    which = codes.var(0).argsort(descending=True)[:count]
    reach = torch.linspace(-config.reach, config.reach, steps, device=codes.device)
    values = reach.expand(len(which), steps)
    if model.likelihood != "bound":  # codes without a prior have deviations of their own
        values = codes.mean(0)[which][:, None] + codes.std(0)[which][:, None] * values
    rows = traversal(codes[0], which, values).flatten(0, 1)
    return model.decode(rows, labels[:1].expand(len(rows))).cpu()
