"""Pictures of captions: an image, what is written about it, and where attention lay at each word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from runs.printing import printable
from vision.captioning.evaluation import Caption

WORDS = 14  # drawn of a sentence at most


def draw_captions(shown: Sequence[tuple[Tensor, Caption]], path: Path) -> None:
    """Draw images (3, H, W) uint8 with their captions: a row each, and a panel for each word."""
    from matplotlib.figure import Figure

    attended = any(caption.weights is not None for _, caption in shown)
    most = max((len(caption.text.split()) for _, caption in shown), default=1) if attended else 0
    columns = 1 + min(most, WORDS)
    figure = Figure(figsize=(1.5 * columns + 1.5 * (not attended), 1.8 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for row, (image, caption) in zip(axes, shown, strict=True):
        for axis in row:
            axis.axis("off")
        picture = image.permute(1, 2, 0).numpy()
        row[0].imshow(picture)
        row[0].set_title(printable(_wrapped(caption.text)), fontsize=6, parse_math=False)
        if caption.weights is None:
            continue
        for axis, word, weights in zip(row[1:], caption.text.split(), caption.weights, strict=False):
            gray = picture.mean(2, keepdims=True).repeat(3, 2) / 255
            shade = F.interpolate(weights[None, None], picture.shape[:2], mode="bilinear")[0, 0]
            shade = (shade / shade.max().clamp(min=1e-9)).numpy()[..., None]
            axis.imshow((0.25 + 0.75 * shade) * gray, vmin=0, vmax=1)
            axis.set_title(printable(word), fontsize=8, parse_math=False)
    figure.savefig(path, dpi=100, format="png")


def _wrapped(text: str, width: int = 24) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f"{word} "
    return "\n".join(lines)
