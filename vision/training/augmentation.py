"""Data augmentation by name, mixup, normalization, and test-time augmentation: on batches, on their own device.

    change = augmentation.Augmentation("flip,crop", sets.train.images)     # or "flip,crop=2,cutout=8,jitter=0.4"
    normalize = augmentation.Normalization.of(sets.train.images)           # mean and deviation of the training set
    logits = model(normalize(change(images)))
    logits = torch.stack([model(normalize(view)) for view in augmentation.views(images, 10)]).mean(0)

Images are (B, C, H, W), uint8 or floats in [0, 1], and each gets its own random numbers. The transforms themselves,
which move boxes and masks along too, are in vision/data/transforms.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from runs import suggestions
from vision.data import image_ops, transforms
from vision.data.transforms import Transform

# by name: the transform of a number, and that number for images of a side
OPERATIONS: dict[str, tuple[Callable[[float], Transform], Callable[[int], float]]] = {
    "flip": (transforms.Flip, lambda side: 0.5),  # probability
    "crop": (transforms.RandomCrop, lambda side: side // 8),  # pixels of padding
    "reflect": (lambda padding: transforms.RandomCrop(padding, mode="reflect"), lambda side: side // 8),
    "scaled_crop": (lambda least: transforms.ScaledCrop(least=least), lambda side: 0.08),  # smallest area
    "translate": (transforms.Translate, lambda side: 0.125),  # of the side
    "rotate": (transforms.Rotate, lambda side: 15.0),  # degrees
    # of brightness, contrast, saturation; hue a quarter of it
    "jitter": (lambda strength: transforms.ColorJitter(*[strength] * 3, strength / 4), lambda side: 0.4),
    "lighting": (transforms.Lighting, lambda side: 0.1),  # deviations
    "cutout": (transforms.Cutout, lambda side: side // 2),  # pixels
}


class Augmentation(transforms.Compose):
    """Transforms chosen by their names, for images (B, C, H, W), samples or batches of them (see transforms.py).

    names: such as "flip,crop" or "flip,crop=2,cutout=8", where the number is the transform's own (OPERATIONS);
        "none" for none. images: the training set (N, C, H, W), for its side, its mean color and its principal axes.
    Raises ValueError for a name or number that is none.
    """

    def __init__(self, names: str, images: Tensor) -> None:
        words = [word.strip() for word in names.split(",")] if names.strip() not in ("", "none") else []
        super().__init__([_transform(word, images) for word in words])


def _transform(word: str, images: Tensor) -> Transform:
    """The transform that "name" or "name=number" stands for, with what it has to know of a set."""
    name, equals, value = word.partition("=")
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
    """What a classifier is shown of an image at test time, for its logits to be averaged (Krizhevsky et al. 2012).

    count: 1, the middle; 2, and its mirror image; 5, the middle and four corners; 10, and their mirror images.
    size: side of a view. None: the images' own, and they are padded by a 16th of it with what lies inside their edge.

    Returns:
        (count, B, C, size, size).
    Raises ValueError for another count, and for a size that is larger than the images.
    """
    if count not in (1, 2, 5, 10):
        raise ValueError(f"{count} views: there are 1, 2, 5 or 10 of them")
    shape = tuple(images.shape[2:]) if size is None else (size, size)
    if size is None and count >= 5:
        images = image_ops.pad(images, *(max(1, side // 16) for side in shape), mode="reflect")
    down, along = images.shape[2] - shape[0], images.shape[3] - shape[1]
    if down < 0 or along < 0:
        raise ValueError(f"views of side {size} do not fit into images of {images.shape[2]} x {images.shape[3]}")
    places = [(down // 2, along // 2)]
    if count >= 5:
        places += [(top, left) for top in (0, down) for left in (0, along)]
    found = [images[:, :, top : top + shape[0], left : left + shape[1]] for top, left in places]
    if count in (2, 10):
        found += [view.flip(3) for view in found]
    return torch.stack(found)


class Normalization(nn.Module):
    """images (B, C, H, W) -> floats of mean 0 and deviation 1 in each channel, where `mean` and `std` are the set's.

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
        """Measured of a training set (N, C, H, W), on its device. A channel that never changes has std 1."""
        mean, covariance = image_ops.moments(images)
        std = covariance.diagonal().clamp(min=0).sqrt()
        return cls(mean.tolist(), torch.where(std > 1e-6, std, 1.0).tolist()).to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        scale = 1 / (self.std * 255) if images.dtype == torch.uint8 else 1 / self.std
        shift = self.mean / self.std
        return (images * scale[:, None, None]).sub_(shift[:, None, None])

    def extra_repr(self) -> str:
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"
