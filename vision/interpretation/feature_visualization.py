"""Images that excite a class or a neuron most, by gradient ascent; and fooling images.

    python -m vision.interpretation.feature_visualization results/shapes/classification-1        # every class
    python -m vision.interpretation.feature_visualization results/shapes/classification-1 --stage 1 --channels 0 1 2 3
    python -m vision.interpretation.feature_visualization results/shapes/classification-1 --fool

Simonyan et al. 2013 climb a class's score with an L2 penalty, Yosinski et al. 2015 add blur and clip small pixels and
small contributions to gray, Mordvintsev et al. 2015 shift the image at random before each step (jitter); all are
flags (vision/interpretation/gradient_ascent.py). A neuron is taken in the middle of its map. --fool
changes test images until the network takes each for the next class, and shows the change ten times enlarged.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

import runs
from runs.flag_types import Count, Whole
from runs.printing import printable
from vision.interpretation import attribution, pictures, subject
from vision.interpretation.gradient_ascent import GRAY, AscentFlags, ascend, fooling_images
from vision.interpretation.gradients import as_floats, recorded

NOISE = 0.05  # deviation of the pixels at the start
COLUMNS = 5
ENLARGED = 10  # times, the change of a fooling image


@dataclasses.dataclass(frozen=True)
class Config(AscentFlags, subject.SubjectFlags):
    stage: int | None = None  # whose channels are maximized, from 0; None: the classes
    channels: tuple[int, ...] = ()  # of the stage; none: the first ones
    images: Count = 10  # classes, channels or fooling images shown, at most
    side: Whole = 0  # pixels of the image; 0: those that the run has seen
    fool: bool = False  # fooling images instead
    out: Path = Path("feature_visualization.png")  # where the picture goes


def of_classes(
    model: subject.Classifier, classes: Tensor, shape: tuple[int, ...], config: AscentFlags, seed: int
) -> Tensor:
    """Images (B, *shape) from 0 to 1 with high scores of classes (B,)."""
    generator = torch.Generator().manual_seed(seed)
    start = (GRAY + NOISE * torch.randn(len(classes), *shape, generator=generator)).to(classes.device)
    return ascend(lambda images: model(images).gather(1, classes[:, None])[:, 0], start, config, generator)


def of_channels(
    model: subject.Classifier, stage: int, channels: Tensor, shape: tuple[int, ...], config: AscentFlags, seed: int
) -> Tensor:
    """Images (B, *shape) from 0 to 1 that excite the channels (B,) of a stage's map at its middle.

    As long as one of them is zero there, ReLUs let gradients pass that would raise them, for a dead one has none.
    """
    generator = torch.Generator().manual_seed(seed)
    start = (GRAY + NOISE * torch.randn(len(channels), *shape, generator=generator)).to(channels.device)

    def neurons(images: Tensor) -> Tensor:
        with recorded(model, stage) as maps:
            model(images)
            rows, columns = (side // 2 for side in maps[0].shape[2:])
            return maps[0][:, :, rows, columns].gather(1, channels[:, None])[:, 0]

    rectified = any(isinstance(module, attribution.RELUS) for module in model.modules())

    def score(images: Tensor) -> Tensor:
        found = neurons(images)
        if rectified and (found <= 0).any():
            with attribution.relu_backward(
                model, lambda gradient, active: gradient.where(active, gradient.clamp(min=0))
            ):
                return neurons(images)
        return found

    return ascend(score, start, config, generator)


def draw_fooled(config: Config, about: subject.Subject) -> None:
    """The picture of --fool: an image, what it was changed to, and the change enlarged."""
    images, labels = about.examples(config.images)
    wanted = (labels + 1) % len(about.sets.classes)
    found, steps = fooling_images(about.model, images, wanted)
    before, names = as_floats(images), about.sets.classes
    shares = [about.model(each).softmax(1) for each in (before, found)]
    rows, titles = [], []
    for row in range(len(images)):
        change = found[row] - before[row]
        rows.append([images[row], found[row], 0.5 + ENLARGED * change])
        guesses = [f"{names[share[row].argmax()]} {100 * share[row].max():.0f}%" for share in shares]
        titles.append([*guesses, f"{steps[row]} steps, mean {255 * change.abs().mean():.1f} of 255"])
    pictures.draw_sheet(rows, titles, config.out, side=1.9)
    reached = int((steps >= 0).sum())
    print(
        f"{reached} of {len(steps)} images were made into another class, by a median of {int(steps.median())} steps"
    )


def main(config: Config) -> None:
    about = subject.load(config)
    if config.fool:
        return draw_fooled(config, about)
    shape = (about.shape[0], *[config.side or side for side in about.shape[1:]])
    if config.stage is None:
        chosen = torch.arange(min(config.images, len(about.sets.classes)), device=about.device)
        images = of_classes(about.model, chosen, shape, config, config.seed)
        shares = about.model(images).softmax(1)
        titles = [f"{about.sets.classes[i]} {100 * shares[i, i]:.0f}%" for i in chosen.tolist()]
    else:
        channels = about.model.backbone.channels
        if not 0 <= config.stage < len(channels):
            raise ValueError(f"there is no --stage {config.stage}: from 0 to {len(channels) - 1}")
        numbers = config.channels or tuple(range(min(config.images, channels[config.stage])))
        if wrong := [number for number in numbers if not 0 <= number < channels[config.stage]]:
            raise ValueError(
                f"stage {config.stage} has no channel {wrong[0]}: from 0 to {channels[config.stage] - 1}"
            )
        chosen = torch.tensor(numbers, device=about.device)
        images = of_channels(about.model, config.stage, chosen, shape, config, config.seed)
        titles = [f"stage {config.stage}, channel {number}" for number in numbers]
    starts = range(0, len(images), COLUMNS)
    rows, words = ([list(each[i : i + COLUMNS]) for i in starts] for each in (images, titles))
    pictures.draw_sheet(rows, words, config.out)
    print(printable(f"written to {config.out}"))
    return None


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.feature_visualization", __doc__)
