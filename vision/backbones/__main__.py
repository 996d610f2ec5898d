"""The zoo as a table: parameters, multiply-adds, maps, smallest image and paper of every backbone.

    python -m vision.backbones
    python -m vision.backbones --stem cifar --shape 3 32 32 --classes 10
    python -m vision.backbones --draw resnet18 --file resnet18.png
    python -m vision.backbones --update    # after a change of a backbone: measure all again, a quarter of a minute

Parameters and multiply-adds are of the classifier of --classes classes, with its paper's head, for one image of
--shape; nothing is calculated for it (the meta device), and so no weights are made. What the first command and
"--stem cifar --shape 3 32 32 --classes 10" print was measured before, and is kept in table.json; any other row is
measured, and comes as soon as it is. Rows have 80 columns; maps are channels at height, fine to coarse, in a line of
their own.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import textwrap
from pathlib import Path

import runs
from runs import output, suggestions
from vision.backbones import BACKBONES, table

PAPER = re.compile(r"[A-Z][\w&.' -]*? et al\. \d{4}|[A-Z]\w+ & [A-Z]\w+ \d{4}|arXiv [\d.]+|doi \S+[\w)]")

WIDTH, INDENT = 80, " " * 4  # of a terminal, columns


@dataclasses.dataclass(frozen=True)
class Config:
    shape: tuple[int, int, int] = (3, 224, 224)  # of one image
    stem: str = "imagenet"  # imagenet, cifar or atari; a family without it is left out
    classes: int = 1000
    only: tuple[str, ...] = ()  # names; all of them unless given
    draw: str = ""  # the name of one architecture, to be drawn as a picture
    file: Path = Path("backbone.png")  # where the picture goes
    update: bool = False  # measure every backbone again, and write the rows that come with the program


def describe(name: str, config: Config) -> dict[str, object]:
    """What the table says of a backbone. Raises ValueError where it cannot see such images."""
    found = table.find(name, config.shape, config.stem, config.classes)
    return found | {"paper": next(iter(PAPER.findall(inspect.getdoc(BACKBONES[name]) or "")), "")}


def draw(name: str, found: dict[str, object], path: Path) -> None:
    """The maps as blocks: as high as they are wide in places, as long as the root of their channels."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panel = figure.subplots()
    left, highest = 0.0, max(height for _, height, _ in found["maps"])
    for (channels, height, width), stride in zip(found["maps"], found["strides"], strict=True):
        long = channels**0.5 * highest / 40
        panel.add_patch(Rectangle((left, -height / 2), long, height, facecolor="#56B4E9", edgecolor="black"))
        panel.text(left + long / 2, highest * 0.56, f"{channels}\n{height} x {width}", ha="center", fontsize=8)
        panel.text(left + long / 2, -highest * 0.56, f"stride {stride}", ha="center", va="top", fontsize=8)
        left += long + highest / 12
    panel.set_xlim(-highest / 20, left)
    panel.set_ylim(-0.7 * highest, 0.75 * highest)
    panel.set_axis_off()
    parameters, giga = found["parameters"], found["multiply_adds"] / 1e9
    panel.set_title(f"{name}: {parameters:,} parameters, {giga:.3f} G multiply-adds, {found['paper']}", fontsize=10)
    output.draw(path, figure, "--file", dpi=130)


def check(config: Config) -> None:
    """Raises ValueError for a name that is not a backbone's, and for a folder that cannot be written into."""
    for name in (*config.only, *([config.draw] if config.draw else [])):
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}: {suggestions.one_of(name, BACKBONES)}")
    if config.draw and (config.file.is_dir() or not os.access(config.file.absolute().parent, os.W_OK)):
        raise ValueError(f"{config.file} cannot be written: name another place with --file")


def row(name: str, config: Config) -> list[str]:
    """A backbone's lines of the table, of at most 80 columns."""
    try:
        found = describe(name, config)
    except ValueError as error:
        return textwrap.wrap(f"{name:20} {error}", WIDTH, subsequent_indent=INDENT)
    paper = textwrap.shorten(str(found["paper"]), WIDTH - 57, placeholder="...")
    maps = " ".join(f"{channels}@{height}" for channels, height, _ in found["maps"])
    giga = found["multiply_adds"] / 1e9
    first = f"{name:20} {found['parameters']:>12,} {giga:>10.3f} {found['smallest']:>8}  {paper}"
    return [first.rstrip(), *textwrap.wrap(maps, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)]


def main(config: Config) -> None:
    check(config)
    if config.update:
        print(f"measured {table.update()} rows, written to {table.FILE}")
        return
    if config.draw:
        draw(config.draw, describe(config.draw, config), config.file)
        print(f"drawn in {config.file}")
        return
    sides = "x".join(map(str, config.shape))
    print(f"classifiers of {config.classes} classes for {sides}, stem {config.stem}")
    if table.FILE.exists() and not table.stored():
        print("measured now, because the backbones' code has changed: --update keeps what is measured")
    print(f"{'name':20} {'parameters':>12} {'G mult-adds':>11} {'smallest':>7}  paper", flush=True)
    for name in config.only or BACKBONES:
        print("\n".join(row(name, config)), flush=True)


if __name__ == "__main__":
    runs.launch(main, Config, None, "vision.backbones", __doc__)
