"""Pictures of images with boxes, names and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from runs.printing import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (
    *("tab:red", "tab:green", "tab:orange", "tab:cyan", "tab:pink"),
    *("tab:olive", "tab:blue", "tab:purple", "tab:brown", "tab:gray"),
)


def panel(
    axis: Axes,
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    names: Sequence[str],
    masks: Tensor | None = None,
    dashed: bool = False,
) -> None:
    """Draw an image (C, H, W) uint8 with K boxes (K, 4) on a panel of a figure: a color a class.

    labels: (K,) classes. names: K words beside the boxes. masks: (K, H, W) bool. dashed: with dashed white lines, as
    what was annotated beside what was found.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    picture = image.permute(1, 2, 0).numpy()
    picture = (picture.repeat(3, 2) if picture.shape[2] == 1 else picture[..., :3]).astype(np.float32) / 255
    colors = ["white" if dashed else COLORS[label % len(COLORS)] for label in labels.tolist()]
    for row, color in enumerate(colors if masks is not None else ()):
        inside = masks[row].numpy()
        picture[inside] = 0.5 * picture[inside] + 0.5 * np.array(to_rgb(color))
    axis.imshow(picture, interpolation="nearest")
    for (left, top, right, bottom), name, color in zip(boxes.tolist(), names, colors, strict=True):
        style = {"edgecolor": color, "linewidth": 1.2, "linestyle": ":" if dashed else "-", "fill": False}
        axis.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **style))
        if name:
            plate = {"facecolor": color, "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
            words = {"fontsize": 6, "color": "white", "verticalalignment": "bottom", "parse_math": False}
            axis.text(left, top, printable(name), bbox=plate, clip_on=True, **words)
    axis.axis("off")
