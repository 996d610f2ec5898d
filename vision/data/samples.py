"""Samples of vision data sets: an image of its own size and its target; and batches of samples of one size.

    sample = Sample(image, Target(boxes=boxes, labels=labels))     # image (C, H, W) uint8
    batch = Batch.of([sample, other])                              # images (N, C, H, W), all boxes in one tensor
    batch.boxes[batch.image_index == 1]                            # those of the second image
    sample, other = batch.samples()

Coordinates are continuous, in pixels: column i covers x from i to i + 1, so that an image spans (0, 0) to (W, H).
Fields without annotations are None; an image without objects has boxes (0, 4). Transforms are in transforms.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

IGNORE = 255  # in a semantic mask: a pixel without a class, or outside of the image; losses and scores skip it
INSTANCES = ("boxes", "labels", "masks", "keypoints", "crowd", "area")  # one row an object


@dataclasses.dataclass(frozen=True)
class Target:
    """The annotations of an image. K is the number of its objects, H and W are the image's height and width."""

    label: int | None = None  # class of the whole image
    boxes: Tensor | None = None  # (K, 4) floats: left, top, right, bottom
    labels: Tensor | None = None  # (K,) int64: class of each object
    masks: Tensor | None = None  # (K, H, W) bool: pixels of each object
    keypoints: Tensor | None = (
        None  # (K, P, 3) floats: x, y, visibility (0 not labeled, 1 hidden, 2 visible, as COCO)
    )
    semantic: Tensor | None = None  # (H, W) int64: class of each pixel, IGNORE where there is none
    captions: tuple[str, ...] | None = None
    crowd: Tensor | None = None  # (K,) bool: neither learned nor scored: COCO's crowds, VOC's difficult objects
    area: Tensor | None = None  # (K,) floats, square pixels as annotated; geometric transforms drop it


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image (C, H, W), uint8 or floats in [0, 1], and its target.

    Raises ValueError, which names the field, for a shape or type other than Target's, for objects without boxes, and
    for boxes whose right is left of their left, or bottom above their top.
    """

    image: Tensor
    target: Target = Target()

    def __post_init__(self) -> None:
        _check_images("image", self.image, "(C, H, W)")
        target = self.target
        count = None if target.boxes is None else len(target.boxes)
        _check_fields(target, count, tuple(self.image.shape[1:]), ())
        if target.boxes is not None and not bool((target.boxes[:, 2:] >= target.boxes[:, :2]).all()):
            wrong = next(box for box in target.boxes.tolist() if not (box[2] >= box[0] and box[3] >= box[1]))
            raise ValueError(f"boxes are (left, top, right, bottom), not {wrong}")


@dataclasses.dataclass(frozen=True)
class Batch:
    """N samples whose images are of one size, for operations on all of them at once.

    The M objects of all images lie in one tensor a field, in the images' order.
    Raises ValueError, which names the field, for a shape or type other than these.
    """

    images: Tensor  # (N, C, H, W) uint8, or floats in [0, 1]
    label: Tensor | None = None  # (N,) int64
    image_index: Tensor | None = None  # (M,) int64, ascending: the image that each object is in
    boxes: Tensor | None = None  # (M, 4)
    labels: Tensor | None = None  # (M,)
    masks: Tensor | None = None  # (M, H, W) bool
    keypoints: Tensor | None = None  # (M, P, 3)
    semantic: Tensor | None = None  # (N, H, W) int64
    captions: tuple[tuple[str, ...], ...] | None = None  # N of them
    crowd: Tensor | None = None  # (M,) bool
    area: Tensor | None = None  # (M,)

    def __post_init__(self) -> None:
        _check_images("images", self.images, "(N, C, H, W)")
        count = None if self.boxes is None else len(self.boxes)
        _check_fields(self, count, tuple(self.images.shape[2:]), (len(self.images),))
        if (self.boxes is None) != (self.image_index is None):
            raise ValueError("boxes and image_index come together: which image each box is in")
        if self.image_index is not None:
            _check("image_index", self.image_index, (count,), torch.int64)

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """The batch of samples, on their device.

        Raises ValueError where there are none, where sizes differ, or where some lack a field that others have.
        """
        if sizes := {tuple(sample.image.shape) for sample in samples}:
            if len(sizes) > 1:
                listed = ", ".join(map(str, sorted(sizes)))
                raise ValueError(
                    f"images of one batch are of one size, not of {listed}: crop, resize or pad them first"
                )
        else:
            raise ValueError("a batch has at least one sample")
        images = torch.stack([sample.image for sample in samples])
        found: dict[str, list] = {}
        for field in dataclasses.fields(Target):
            values = [getattr(sample.target, field.name) for sample in samples]
            missing = sum(value is None for value in values)
            if 0 < missing < len(values):
                raise ValueError(f"{missing} of {len(values)} samples have no {field.name}, and the others have")
            if not missing:
                found[field.name] = values
        packed = {name: torch.cat(found[name]) for name in INSTANCES if name in found}
        if "boxes" in found:
            counts = torch.tensor([len(boxes) for boxes in found["boxes"]], device=images.device)
            packed["image_index"] = torch.arange(len(samples), device=images.device).repeat_interleave(counts)
        if "label" in found:
            packed["label"] = torch.tensor(found["label"], device=images.device)
        if "semantic" in found:
            packed["semantic"] = torch.stack(found["semantic"])
        return cls(images, captions=tuple(found["captions"]) if "captions" in found else None, **packed)

    def samples(self) -> list[Sample]:
        """The samples of the batch, in its order: the inverse of `of`."""
        count = len(self.images)
        parts: dict[str, Sequence] = {}
        if self.image_index is not None:
            counts = torch.bincount(self.image_index, minlength=count).tolist()
            parts = {name: getattr(self, name).split(counts) for name in INSTANCES if getattr(self, name) is not None}
        if self.label is not None:
            parts["label"] = self.label.tolist()
        parts |= {name: value for name in ("semantic", "captions") if (value := getattr(self, name)) is not None}
        return [
            Sample(image, Target(**{name: values[row] for name, values in parts.items()}))
            for row, image in enumerate(self.images)
        ]

    def to(self, device: str | torch.device) -> Self:
        """Every tensor on that device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **{name: value.to(device) for name, value in tensors.items()})


def boxes_of_masks(masks: Tensor) -> Tensor:
    """The smallest boxes (K, 4) float32 around masks (K, H, W) bool; (0, 0, 0, 0) around an empty one."""
    ends = []
    for axis in (1, 2):  # over rows: which columns there are
        line = masks.any(axis)  # (K, W), then (K, H)
        place = torch.arange(line.shape[1], device=masks.device)
        first = torch.where(line, place, line.shape[1]).amin(1)
        ends.append((first, torch.where(line, place + 1, 0).amax(1)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], 1).float() * masks.flatten(1).any(1, keepdim=True)


def _check_images(name: str, images: Tensor, shape: str) -> None:
    if images.dim() != shape.count(",") + 1 or 0 in images.shape[-3:]:
        raise ValueError(f"{name} is {shape}, not {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"{name} is of torch.uint8 or floats, not of {images.dtype}")


def _check_fields(fields: Target | Batch, count: int | None, size: tuple[int, int], images: tuple[int, ...]) -> None:
    """Check shapes and types of the annotations of a sample (images: ()) or a batch (images: (N,)) of size (H, W)."""
    if count is None:
        if strange := [name for name in INSTANCES if getattr(fields, name) is not None]:
            raise ValueError(f"{strange[0]} are of objects, and there are no boxes: see boxes_of_masks")
    else:
        _check("boxes", fields.boxes, (count, 4), None)
        _check("labels", fields.labels, (count,), torch.int64)
        _check("masks", fields.masks, (count, *size), torch.bool)
        _check("keypoints", fields.keypoints, (count, "P", 3), None)
        _check("crowd", fields.crowd, (count,), torch.bool)
        _check("area", fields.area, (count,), None)
    _check("semantic", fields.semantic, (*images, *size), torch.int64)
    if images:
        _check("label", fields.label, images, torch.int64)


def _check(name: str, value: Tensor | None, shape: tuple[int | str, ...], dtype: torch.dtype | None) -> None:
    """Raises ValueError for another shape, where a letter stands for any length, or type (None: any floats)."""
    if value is None:
        return
    fits = value.dim() == len(shape) and all(
        isinstance(wanted, str) or wanted == has for wanted, has in zip(shape, value.shape, strict=True)
    )
    if not fits:
        wanted = str(shape).replace("'", "")  # letters without their quotes
        raise ValueError(f"{name} has shape {wanted}, not {tuple(value.shape)}")
    if not (value.is_floating_point() if dtype is None else value.dtype == dtype):
        raise ValueError(f"{name} is of {'floats' if dtype is None else dtype}, not of {value.dtype}")
