"""Data augmentation by name, mixup, normalization, and test-time augmentation: on batches, on their own device.

    change = augmentation.Augmentation("flip,crop", sets.train.images)     # or "flip,crop=2,cutout=8,jitter=0.4"
    change = augmentation.Augmentation("flip,2of(rotate stretch=1.2 shear lens noise)", images)   # a random mix
    change = augmentation.Augmentation("flip,my_module:Blur=3", images)    # a transform of one's own
    normalize = augmentation.Normalization.of(sets.train.images)           # mean and deviation of the training set
    logits = model(normalize(change(images)))
    logits = torch.stack([model(normalize(view)) for view in augmentation.views(images, 10)]).mean(0)

Images are (B, C, H, W), uint8 or floats in [0, 1], and each gets its own random numbers. The transforms themselves,
which move boxes and masks along too, are in vision/data/transforms.py and warps.py.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runs import suggestions
from vision.data import image_ops, transforms, warps
from vision.data.transforms import Transform

SCALES = (224, 256, 384, 480, 640)  # short sides at test time, for views of 224: He et al. 2015, section 3.4


# by name: the transform of a number, and that number for images of a side
OPERATIONS: dict[str, tuple[Callable[[float], Transform], Callable[[int], float]]] = {
    "flip": (transforms.Flip, lambda side: 0.5),  # probability
    "vertical_flip": (lambda probability: transforms.Flip(probability, vertical=True), lambda side: 0.5),
    "crop": (transforms.RandomCrop, lambda side: side // 8),  # pixels of padding
    "reflect": (lambda padding: transforms.RandomCrop(padding, mode="reflect"), lambda side: side // 8),
    "scaled_crop": (lambda least: transforms.ScaledCrop(least=least), lambda side: 0.08),  # smallest area
    "short_side": (  # pixels of the longest short side; the shortest is in the proportion of 256 to 480
        lambda longest: warps.ShortSide(None, (round(longest * 256 / 480), longest)),
        lambda side: round(side * 480 / 224),
    ),
    "translate": (transforms.Translate, lambda side: 0.125),  # of the side
    "rotate": (transforms.Rotate, lambda side: 15.0),  # degrees
    "stretch": (warps.Stretch, lambda side: 1.25),  # largest factor of width and of height
    "shear": (warps.Shear, lambda side: 15.0),  # degrees
    "lens": (warps.LensDistortion, lambda side: 0.2),  # of the radius at the corners
    # of brightness, contrast, saturation; hue a quarter of it
    "jitter": (lambda strength: transforms.ColorJitter(*[strength] * 3, strength / 4), lambda side: 0.4),
    "lighting": (transforms.Lighting, lambda side: 0.1),  # deviations
    "noise": (warps.Noise, lambda side: 0.05),  # deviation, where white is 1
    "cutout": (transforms.Cutout, lambda side: side // 2),  # pixels
}


class Augmentation(transforms.Compose):
    """Transforms chosen by their names, for images (B, C, H, W), samples or batches of them (see transforms.py).

    names: such as "flip,crop" or "flip,crop=2,cutout=8", where the number is the transform's own (OPERATIONS);
        "2of(rotate shear=10 lens)" for two rounds of a random one of these (warps.RandomMix); "module:name" or
        "module:name=number" for a transform of one's own, a transforms.Transform or what makes one (of the number);
        "none" for none. images: the training set (N, C, H, W), for its side, its mean color and its principal axes.
    Raises ValueError for a name or number that is none.
    """

    def __init__(self, names: str, images: Tensor) -> None:
        words = [word.strip() for word in names.split(",")] if names.strip() not in ("", "none") else []
        super().__init__([_transform(word, images) for word in words])


def _mix(word: str, images: Tensor) -> Transform | None:
    """The random mix that "2of(rotate shear=10)" stands for; None for another word."""
    match = re.fullmatch(r"(\d+)of\((.*)\)", word)
    if not match:
        return None
    if not int(match[1]) or not match[2].split():
        raise ValueError(f"{word!r}: a random mix is of one round or more, of one transform or more")
    return warps.RandomMix([_transform(name, images) for name in match[2].split()], int(match[1]))


def _own(name: str, number: str) -> Transform:
    """A user's transform, `module:name`, called with its number if it is no transform yet."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no transform {name!r}: {error}") from error
    if not isinstance(found, Transform):
        try:
            found = found(*[float(number)] if number else [])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}={number}: {error}" if number else f"{name}: {error}") from error
    if not isinstance(found, Transform):
        raise ValueError(f"{name} is no vision.data.transforms.Transform, and makes none: it gives {found!r}")
    return found


def _transform(word: str, images: Tensor) -> Transform:
    """The transform named by "name" or "name=number"; images: the training set, for its colors and its size."""
    if (mix := _mix(word, images)) is not None:
        return mix
    name, equals, value = word.partition("=")
    if ":" in name:
        return _own(name, value)
    if name not in OPERATIONS:
        raise ValueError(f"unknown augmentation {name!r}: {suggestions.one_of(name, OPERATIONS)}")
    build, usual = OPERATIONS[name]
    whole = isinstance(usual(32), int)
    try:
        number = (int if whole else float)(value) if equals else usual(min(images.shape[2:]))
    except ValueError:
        raise ValueError(f"{word!r}: {name} takes {'a whole number' if whole else 'a number'}") from None
    if number < 0:
        raise ValueError(f"{word!r}: {name} takes no negative number")
    if name == "cutout":
        return build(number, image_ops.moments(images)[0].float().to(images.device))
    return build(image_ops.principal_axes(images), number) if name == "lighting" else build(number)


def mixup(
    images: Tensor, labels: Tensor, alpha: float = 1.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each image mixed with another one of the batch (Zhang et al. 2018, equation 1).

        images, first, second, weight = mixup(images, labels)
        loss = (weight * cross_entropy(logits, first) + (1 - weight) * cross_entropy(logits, second)).mean()

    images may be normalized ones. labels: (B,). alpha: of the Beta(alpha, alpha) that weights come from.

    Returns:
        Images (B, C, H, W), both labels (B,), and the weight (B,) float32 of the first.
    """
    other = torch.randperm(len(images), generator=generator, device=images.device)
    shares = torch.full((len(images), 2), float(alpha), device=images.device)
    weight = torch._sample_dirichlet(shares, generator=generator)[:, 0]  # as torch.distributions.Beta
    share = weight[:, None, None, None]
    floats = images.float() if images.dtype == torch.uint8 else images
    mixed = torch.lerp(floats[other], floats, share.to(floats.dtype))
    return image_ops.as_type(mixed, images), labels, labels[other], weight


def views(images: Tensor, count: int, size: int | None = None) -> Tensor:
    """Crops and mirror images for test-time augmentation, whose logits are averaged (Krizhevsky et al. 2012).

    count: 1, the center crop; 2, with its mirror image; 5, the center and four corners; 10, with mirror images; 50,
        these ten of the image at five scales, whose short sides are SCALES for views of 224 (He et al. 2015).
    size: side of a crop. None: that of the images, which are padded by a 16th of it with a reflection;
        but 50 views are of the enlarged images themselves.

    Returns:
        (count, B, C, size, size).
    Raises ValueError for another count, and for a size that is larger than the images.
    """
    return torch.stack(list(each_view(images, count, size)))


def each_view(images: Tensor, count: int, size: int | None = None) -> Iterator[Tensor]:
    """The views of `views`, one after the other, (B, C, size, size) each: 50 need not be in memory at once."""
    if count not in (1, 2, 5, 10, 50):
        raise ValueError(f"{count} views: there are 1, 2, 5, 10 or 50 of them")
    if count == 50:
        side = min(images.shape[2:]) if size is None else size
        for scale in SCALES:
            larger = resize(images, round(side * scale / SCALES[0]))
            yield from each_view(larger, 10, side)
        return
    shape = tuple(images.shape[2:]) if size is None else (size, size)
    if size is None and count >= 5:
        images = image_ops.pad(images, *(max(1, side // 16) for side in shape), mode="reflect")
    down, along = images.shape[2] - shape[0], images.shape[3] - shape[1]
    if down < 0 or along < 0:
        raise ValueError(f"views of side {size} do not fit into images of {images.shape[2]} x {images.shape[3]}")
    places = [(down // 2, along // 2)]
    if count >= 5:
        places += [(top, left) for top in (0, down) for left in (0, along)]
    for mirrored in (False, True)[: 2 if count in (2, 10) else 1]:
        for top, left in places:
            view = images[:, :, top : top + shape[0], left : left + shape[1]]
            yield view.flip(3) if mirrored else view


def resize(images: Tensor, short: int) -> Tensor:
    """images (B, C, H, W) with a short side of that many pixels, bilinear with antialiasing."""
    tall, wide = images.shape[2:]
    size = tuple(max(1, round(side * short / min(tall, wide))) for side in (tall, wide))
    if size == (tall, wide):
        return images
    found = F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return image_ops.as_type(found, images)


class Normalization(nn.Module):
    """Images (B, C, H, W) to floats: (images - mean) / std in each channel.

    mean, std: one for each channel, where white is 1. Raises ValueError for a std that is not above 0.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        if min(std) <= 0:
            raise ValueError(f"a standard deviation is above 0, not {min(std)}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """With the mean and deviation of a training set (N, C, H, W), on its device; a constant channel has std 1."""
        mean, covariance = image_ops.moments(images)
        std = covariance.diagonal().clamp(min=0).sqrt()
        return cls(mean.tolist(), torch.where(std > 1e-6, std, 1.0).tolist()).to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        scale = 1 / (self.std * 255) if images.dtype == torch.uint8 else 1 / self.std
        shift = self.mean / self.std
        return (images * scale[:, None, None]).sub_(shift[:, None, None])

    def extra_repr(self) -> str:
        """Mean and standard deviation, for print."""
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
