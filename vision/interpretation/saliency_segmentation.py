"""GrabCut segmentation initialized by a classifier's saliency map: objects cut out without one labeled pixel.

    python -m vision.interpretation.saliency_segmentation results/shapes/classification-1
    python -m vision.interpretation.saliency_segmentation results/cifar10/classification-1 cat.jpg --method gradcam

Simonyan et al. 2013, section 3.2: the colors of the object are learned from pixels whose saliency is above the 95th
percentile of the image's, those of the background from pixels below the 30th, and a graph cut decides the others.
The cut is GrabCut (Rother et al. 2004), by OpenCV: pip install saccade[grabcut]. For drawn shapes, whose pixels
are known, it prints the mean intersection over union, beside that of the pixels above the map's mean.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

import runs
from runs import output, study_report
from runs.flag_types import Count
from runs.printing import printable
from vision.data import shapes
from vision.interpretation import explain, pictures, subject

OBJECT, BACKGROUND = 0.95, 0.30  # quantiles of the saliency
DRAWN_SEED = 2_000  # of shapes that no training and no test has seen


@dataclasses.dataclass(frozen=True)
class Config(subject.SubjectFlags):
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # images; none: drawn shapes, or test images
    method: str = "saliency"  # of vision.interpretation
    images: Count = 100  # drawn shapes that are scored
    shown: Count = 8  # on the picture, at most
    rounds: Count = 5  # of GrabCut
    out: Path = Path("saliency_segmentation.png")  # where the picture goes; of shapes its page and record too


def grabcut(image: Tensor, heat: Tensor, rounds: int = 5) -> Tensor:
    """The object's mask (H, W) bool in an image (C, H, W) uint8, initialized with a map (H, W), not negative.

    Pixels that are neither surely object nor surely background begin as background where their value is below the
    mean. A map of one value says nothing: the mask is empty.
    Raises ValueError without OpenCV.
    """
    try:
        import cv2
    except ImportError as error:
        raise ValueError("GrabCut needs OpenCV: pip install saccade[grabcut]") from error
    heat = heat.detach().float().cpu()
    if heat.min() == heat.max():
        return torch.zeros(heat.shape, dtype=torch.bool)
    low, high = (torch.quantile(heat, q) for q in (BACKGROUND, OBJECT))
    sure = (heat >= high) & (heat > low)
    sure = sure if sure.any() else heat == heat.max()  # most of the map is at its largest value
    mask = np.where(heat > heat.mean(), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[(heat <= low).numpy()] = cv2.GC_BGD
    mask[sure.numpy()] = cv2.GC_FGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    pixels = np.ascontiguousarray(pictures.in_color(image))
    cv2.setRNGSeed(1)  # its k-means draws at random
    cv2.grabCut(pixels, mask, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return torch.from_numpy((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))


def iou(found: Tensor, wanted: Tensor) -> float:
    """Intersection over union of two masks (H, W) bool; 1 of two empty ones."""
    union = (found | wanted).sum().item()
    return (found & wanted).sum().item() / union if union else 1.0


def main(config: Config) -> dict[str, float]:
    """Segment, draw and, of shapes, score. Returns the scores: mean IoU of GrabCut and of the map itself."""
    about = subject.load(config)
    known = about.sets.classes == tuple(shapes.SHAPES) and not config.files
    masks = None
    if known:
        (images, labels), masks = shapes.draw_with_masks(config.images, about.shape[1], DRAWN_SEED + config.seed)
        images, labels = images.to(about.device), labels.to(about.device)
    elif config.files:
        images, labels = about.read(config.files), None
    else:
        images, labels = about.examples(config.shown)
    if config.method not in (methods := explain.applicable(about.model, images)):
        raise ValueError(f"unknown --method {config.method!r}: this network has {', '.join(methods)}")
    maps = explain.maps(config.method, about.model, images, labels).cpu()
    found = [grabcut(image.cpu(), heat, config.rounds) for image, heat in zip(images, maps, strict=True)]
    shown = range(min(config.shown, len(images)))
    rows = [
        ("image", [pictures.in_color(images[n]) for n in shown]),
        (config.method, [pictures.overlay(pictures.in_color(images[n]), maps[n].numpy()) for n in shown]),
        ("GrabCut", [pictures.in_color(images[n]) * found[n].numpy()[..., None] for n in shown]),
    ]
    _draw(config.out, rows)
    if masks is None:
        print(printable(f"{len(images)} images; written to {config.out}"))
        return {}
    pairs = list(zip(found, maps, masks.cpu(), strict=True))
    result = {
        "grabcut": float(np.mean([iou(cut, mask) for cut, _, mask in pairs])),
        "map": float(np.mean([iou(heat > heat.mean(), mask) for _, heat, mask in pairs])),
    }
    title = f"GrabCut initialized with {config.method}"
    rows = [["GrabCut", f"{result['grabcut']:.3f}"], ["pixels above the map's mean", f"{result['map']:.3f}"]]
    note = f"Mean intersection over union of {len(images)} drawn shapes that no training has seen, one seed."
    program = "vision.interpretation.saliency_segmentation"
    study_report.write(config.out, program, about.device, title, ["mask", "mean IoU"], rows, note, [result])
    print(
        printable(
            f"mean IoU of {len(images)} shapes: {result['grabcut']:.3f} by GrabCut, {result['map']:.3f} of pixels "
            f"above the map's mean; written to {config.out}"
        )
    )
    return result


def _draw(path: Path, rows: list[tuple[str, list[np.ndarray]]]) -> None:
    from matplotlib.figure import Figure

    columns = len(rows[0][1])
    figure = Figure(figsize=(1.5 * columns, 1.7 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for (name, row), line in zip(rows, axes, strict=True):
        for picture, panel in zip(row, line, strict=True):
            panel.imshow(picture)
            panel.set_xticks([])
            panel.set_yticks([])
        line[0].set_ylabel(name)
    output.draw(path, figure, "--out", dpi=110)


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.interpretation.saliency_segmentation", __doc__)
