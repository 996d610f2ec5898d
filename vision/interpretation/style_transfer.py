"""Neural style transfer: the content of one picture in the style of others.

    python -m vision.interpretation.style_transfer vgg19:imagenet photograph.jpg painting.jpg
    python -m vision.interpretation.style_transfer results/cifar10/classification-1 photograph.jpg one.jpg two.jpg \\
        --style-shares 0.7 0.3 --keep-color luminance

Gatys et al. 2015 (arXiv 1508.06576): the picture whose maps are near those of the content, and whose Gram matrices
are near those of the styles, found by L-BFGS on its pixels. Several styles are mixed by their shares. --keep-color
keeps the photograph's colors (Gatys et al. 2016, arXiv 1606.05897): by transferring the luminance alone, or by giving
the style the mean and covariance of the photograph's colors first. Beside the picture lie a sheet, and a page and a
record with the losses at the start and at the end.

Deviations from the paper:
1. Any backbone's stages take the place of VGG-19's layers, with its own pools; the paper's features are
   vgg19:imagenet, or a file of those weights.
2. Gram matrices are divided by the number of places, so that style pictures may have another size.
3. A stage's style loss is divided by that of the photograph, its content loss by half the squared length of the
   photograph's map: one ratio of weights then suits every backbone, and says what part of the way was gone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

import runs
from runs import study_report
from runs.flag_types import Count, NonNegative
from runs.printing import printable
from vision import backbones
from vision.data.image_ops import GRAY, with_colors_of
from vision.interpretation import features, gram, pictures

PROGRAM = "vision.interpretation.style_transfer"
PARTS = ("content", "style")
NOTE = (
    "Losses at the start and at the end: of the content in percent of half the squared length of the photograph's "
    "maps, of the style in percent of the photograph's own style loss, means over stages. What is left is in percent "
    "of the start. One seed."
)


@dataclasses.dataclass(frozen=True)
class Config(features.FeatureFlags):
    backbone: Annotated[str, tyro.conf.Positional] = "vgg19:imagenet"  # a run's folder, or name:weights
    content: Annotated[Path | None, tyro.conf.Positional] = None  # the photograph
    styles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # the paintings
    style_shares: tuple[float, ...] = ()  # of the styles; none: equal ones
    content_stages: tuple[int, ...] = (-2,)  # of the backbone, from 0 or from the end
    style_stages: tuple[int, ...] = ()  # none: all of them
    content_weight: NonNegative = 1.0  # of the content's loss
    style_weight: NonNegative = 10.0  # of the mean of the stages' style losses
    start: Literal["content", "noise"] = "content"  # what the pixels are at first
    keep_color: Literal["no", "luminance", "covariance"] = "no"  # of the photograph
    evaluations: Count = 400  # of the losses and their gradient
    out: Path = Path("style_transfer.png")  # where the picture goes; beside it a sheet of all of them


def transfer(
    backbone: backbones.Backbone,
    content: Tensor,
    styles: Sequence[Tensor],
    config: Config,
    say: Callable[[int, float], None] = lambda *_: None,
) -> tuple[Tensor, dict[str, dict[str, float]]]:
    """A picture (1, C, H, W) with the content of one and the styles of others, and its losses, by part, at the
    "start" and at the "end".

    content: (1, C, H, W), and styles (1, C, h, w), floats from 0 to 1. The losses: "content", as a part of half the
    squared length of the content's maps, and "style", as a part of the content's own style loss, means over stages.
    Raises ValueError where the shares are not as many as the styles.
    """
    shares = config.style_shares or (1 / len(styles),) * len(styles)
    if len(shares) != len(styles):
        raise ValueError(f"--style-shares has {len(shares)} numbers for {len(styles)} styles")
    at_content, at_style = (features.stages(each, backbone) for each in (config.content_stages, config.style_stages))
    wanted = [gram.textures(backbone, style, at_style) for style in styles]
    with torch.no_grad():
        own = backbone(content)
        sizes = [gram.content_loss(own[stage], torch.zeros_like(own[stage])).sum() for stage in at_content]

    def stage_style(maps: Sequence[Tensor]) -> list[Tensor]:
        return [
            sum(
                share * gram.style_loss(maps[s], targets[n]).sum()
                for share, targets in zip(shares, wanted, strict=True)
            )
            for n, s in enumerate(at_style)
        ]

    firsts = [loss.clamp(min=1e-12) for loss in stage_style(own)]

    def losses(picture: Tensor) -> tuple[Tensor, Tensor]:
        maps = backbone(picture)
        parts = [gram.content_loss(maps[s], own[s]).sum() / size for s, size in zip(at_content, sizes, strict=True)]
        textures = [loss / first for loss, first in zip(stage_style(maps), firsts, strict=True)]
        return sum(parts) / len(parts), sum(textures) / len(textures)

    def weighted(picture: Tensor) -> Tensor:
        content_part, style_part = losses(picture)
        return config.content_weight * content_part + config.style_weight * style_part

    noise = torch.rand(content.shape, generator=torch.Generator().manual_seed(config.seed)).to(content)
    start = content if config.start == "content" else noise
    found, _ = gram.optimize(weighted, start, config.evaluations, say)
    with torch.no_grad():
        parts = {
            when: dict(zip(PARTS, [loss.item() for loss in losses(picture)], strict=True))
            for when, picture in (("start", start), ("end", found))
        }
    return found, parts


def luminance(picture: Tensor) -> Tensor:
    """The luminance (B, 3, H, W), three equal channels, of a picture (B, 3, H, W)."""
    weights = torch.tensor(GRAY, device=picture.device, dtype=picture.dtype)
    return torch.einsum("bchw,c->bhw", picture, weights)[:, None].expand(-1, 3, -1, -1)


def match_colors(style: Tensor, content: Tensor) -> Tensor:
    """The style (1, 3, h, w) with the mean and covariance of the content's colors (1, 3, H, W), not clamped.

    Gatys et al. 2016, section 4.1, by square roots of the covariances (image analogies): one linear map of colors.
    """
    pixels = [each[0].flatten(1).double().cpu() for each in (style, content)]
    means = [each.mean(1, keepdim=True) for each in pixels]
    roots = []
    for each in pixels:
        values, vectors = torch.linalg.eigh(each.cov() + 1e-8 * torch.eye(3, dtype=torch.float64))
        roots.append(vectors @ values.sqrt().diag() @ vectors.T)
    matched = roots[1] @ torch.linalg.inv(roots[0]) @ (pixels[0] - means[0]) + means[1]
    return matched.to(style.device, style.dtype).view(style.shape)


def main(config: Config) -> None:
    if config.content is None or not config.styles:
        raise ValueError("name a backbone, the picture of the content, and one picture or more of a style")
    backbone, device = features.load(config)
    began = time.process_time()
    content = features.read(config.content, config, backbone)
    styles = [features.read(path, config, backbone) for path in config.styles]
    if config.keep_color != "no" and backbone.shape[0] != 3:
        raise ValueError("--keep-color is for a backbone that sees colors")
    seen, seen_styles = content, styles
    if config.keep_color == "luminance":
        seen, seen_styles = luminance(content), [luminance(style) for style in styles]
    elif config.keep_color == "covariance":
        seen_styles = [match_colors(style, content).clamp(0, 1) for style in styles]
    found, losses = transfer(
        backbone,
        seen,
        seen_styles,
        config,
        lambda step, loss: print(f"{step} evaluations: loss {loss:.4f}", flush=True),
    )
    seconds = time.process_time() - began
    found = with_colors_of(found, content) if config.keep_color == "luminance" else found
    print(
        f"distance of the content: {100 * losses['end']['content']:.1f}% of its squared length; "
        f"style loss: {100 * losses['end']['style']:.2f}% of the photograph's"
    )
    pictures.save(found[0], config.out)
    sheet = config.out.with_name(f"{config.out.stem}_sheet{config.out.suffix}")
    titles = [["content", *(f"style {path.stem}" for path in config.styles), f"by {Path(config.backbone).name}"]]
    pictures.draw_sheet([[content[0], *(style[0] for style in styles), found[0]]], titles, sheet, side=3)
    write_record(config, device, backbone.spec["name"], content.shape[2:], losses, seconds)
    print(printable(f"written to {config.out} and {sheet}"))


def write_record(
    config: Config,
    device: torch.device,
    backbone: str,
    size: Sequence[int],
    losses: dict[str, dict[str, float]],
    seconds: float,
) -> None:
    """Write the page and the record beside the picture: losses of `transfer`, settings, seconds of the processor."""
    left = {part: losses["end"][part] / max(losses["start"][part], 1e-12) for part in PARTS}
    rows = []
    for part in PARTS:  # from the photograph the content's loss can only rise from 0
        start, end = (losses[when][part] for when in ("start", "end"))
        rows.append([part, f"{100 * start:.2f}%", f"{100 * end:.2f}%", f"{100 * left[part]:.2f}%" if start else "–"])
    names = ("content_weight", "style_weight", "start", "keep_color", "evaluations", "seed")
    settings = {name: getattr(config, name) for name in names}
    files = {"content": config.content.name, "styles": [path.name for path in config.styles]}
    record = files | {"backbone": backbone, "size": list(size)} | settings
    record |= {"losses": losses, "left": {p: left[p] if losses["start"][p] else None for p in PARTS}}
    record |= {"seconds": round(seconds, 1)}
    title = f"Style transfer: {config.content.stem} in the style of {', '.join(path.stem for path in config.styles)}"
    head = ["loss", "start", "end", "left"]
    start = "noise" if config.start == "noise" else "the photograph"
    note = f"{NOTE} Start: {start}; features of {backbone}; {seconds:.0f} s of the processor."
    study_report.write(config.out, PROGRAM, device, printable(title), head, rows, note, [record])


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
