"""Images in which the pixels of the explained class are known: drawn shapes, or annotated images with boxes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import runs
from runs import saved
from vision.classification import multi_label
from vision.classification.classifier import Classifier
from vision.classification.multi_label import data as multi_label_data
from vision.data import shapes
from vision.data.samples import Target
from vision.interpretation import localization, subject

MEDIAN = 200  # training images whose median stands in the place of objects
AT_ONCE = 32  # images
DRAWN_SEED = 1_000  # of shapes that no training and no test has seen


class Located(NamedTuple):
    """N images, the class of each that is explained, and where that is."""

    model: Classifier  # in evaluation mode
    images: Tensor  # (N, C, H, W) uint8
    classes: Tensor  # (N,) int64, outputs of the model
    masks: Tensor  # (N, H, W) bool
    names: tuple[str, ...]  # of the model's outputs
    frequency: Tensor | None  # (K, H, W), how many training images have the class at a pixel; None: not known
    dependent: Tensor | None  # (N,) bool, whether the model finds the class by its objects; None: not known
    device: torch.device
    about: str  # what the images are, in a sentence


def load(config: subject.SubjectFlags, count: int) -> Located:
    """The images of a run of vision.classification on shapes, or of vision.classification.multi_label.

    count: of images, at most. Raises ValueError where the pixels of the classes are not known.
    """
    program = saved.about(Path(config.run))["program"]
    return boxes(config, count) if program == multi_label.PROGRAM else drawn(config, count)


def drawn(config: subject.SubjectFlags, count: int) -> Located:
    """New drawn shapes, of which those that the classifier recognizes are explained.

    Raises ValueError for a run with other images, and where none is recognized.
    """
    about = subject.load(config)
    if about.sets.classes != tuple(shapes.SHAPES):
        raise ValueError(
            "the pixels of classes are known of drawn shapes and annotated images alone: give a run of "
            "vision.classification with --data shapes, or of vision.classification.multi_label"
        )
    (images, labels), masks = shapes.draw_with_masks(count, about.shape[1], DRAWN_SEED + config.seed)
    images, labels, masks = (each.to(about.device) for each in (images, labels, masks))
    right = (about.model(images).argmax(1) == labels).nonzero()[:, 0]
    if not len(right):
        raise ValueError(f"the classifier recognizes none of {count} drawn shapes: nothing can be explained")
    words = f"{len(right)} of {count} drawn shapes, those that are classified rightly"
    found = (images[right], labels[right], masks[right])
    return Located(about.model, *found, about.sets.classes, None, None, about.device, words)


def boxes(config: subject.SubjectFlags, count: int) -> Located:
    """Test images of a multi-label classifier, evenly spaced, each as often as learned classes are in it.

    Every class that is in the image is explained, whether the classifier finds it or not (Zhang et al. 2016). A class
    is dependent on its objects where the classifier finds it, and does not without the pixels in their boxes, in
    whose place are the medians of the training images.
    """
    device = runs.prepare(config.device, config.seed, config.threads)
    trained = multi_label.load(config.run, device)
    sets = multi_label_data.load(trained.config.data, trained.config.format)
    labels = [sets.classes.index(name) for name in trained.classes]
    resize = multi_label_data.resizing(trained.config.size)
    images, outputs, masks = [], [], []
    for row in torch.linspace(0, len(sets.test) - 1, min(count, len(sets.test))).round().long().unique().tolist():
        sample = resize(sets.test[row])
        for output, label in enumerate(labels):
            mask = mask_of(sample.target, label, tuple(sample.image.shape[1:]))
            if mask.any():
                images.append(sample.image)
                outputs.append(output)
                masks.append(mask)
    if not images:
        raise ValueError(f"no class of {', '.join(trained.classes)} is in the test images: nothing can be explained")
    size, frequency = masks[0].shape, torch.zeros(len(labels), *masks[0].shape)
    for row in range(len(sets.train)):
        target = sets.train.target(row)
        tall, wide = multi_label_data.size_of(sets.train, row)
        scale = torch.tensor([size[1] / wide, size[0] / tall] * 2)
        scaled = Target(boxes=target.boxes * scale, labels=target.labels, crowd=target.crowd)
        frequency += torch.stack([mask_of(scaled, label, size) for label in labels])
    few = torch.linspace(0, len(sets.train) - 1, min(MEDIAN, len(sets.train))).round().long().unique().tolist()
    background = multi_label_data.stack([resize(sets.train[row]).image for row in few]).median(0).values
    words = f"{len(images)} pairs of a test image and a class in it, {size[1]} x {size[0]} pixels"
    chosen, inside = torch.tensor(outputs, device=device), torch.stack(masks).to(device)
    model, stacked = trained.model.requires_grad_(False), multi_label_data.stack(images).to(device)
    dependent = found_by_objects(model, stacked, chosen, inside, background.to(device))
    return Located(model, stacked, chosen, inside, trained.classes, frequency.to(device), dependent, device, words)


@torch.inference_mode()
def found_by_objects(model: Classifier, images: Tensor, classes: Tensor, masks: Tensor, background: Tensor) -> Tensor:
    """Whether a multi-label classifier finds the class of each image (N, C, H, W), and not without its objects, (N,).

    classes: (N,). masks: (N, H, W) bool, of the objects, in whose place is the background (C, H, W).
    """
    found = []
    for rows in torch.arange(len(images), device=images.device).split(AT_ONCE):
        without = torch.where(masks[rows, None], background, images[rows])
        there, hidden = (model(each).gather(1, classes[rows, None])[:, 0] for each in (images[rows], without))
        found.append((there > 0) & (hidden <= 0))
    return torch.cat(found).clone()


def mask_of(target: Target, label: int, size: tuple[int, int] | torch.Size) -> Tensor:
    """The pixels (H, W) bool in boxes of a class's objects that are neither crowds nor difficult."""
    chosen = target.labels == label
    if target.crowd is not None:
        chosen &= ~target.crowd
    return localization.box_masks(target.boxes[chosen], tuple(size)).any(0)
