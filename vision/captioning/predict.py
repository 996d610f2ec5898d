"""Captions of a trained run for image files: text, and pictures of where the network looked at each word.

    python -m vision.captioning predict results/shapes/captioning-1 photo.jpg other.png
    python -m vision.captioning predict results/coco/captioning-1 photo.jpg --beam 5 --out captions

<out>/<name>.png is each image with its caption; <out>/captions.json has them all, as COCO's results do.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from torch import Tensor

from runs import saved
from runs.flag_types import Count
from runs.machine import choose
from runs.printing import printable
from vision import backbones
from vision.captioning import plots, train
from vision.captioning.captioner import Captioner
from vision.captioning.data import resized
from vision.captioning.evaluation import Caption, write
from vision.captioning.vocabulary import Vocabulary
from vision.data.image_files import read_whole


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]  # files
    beam: Count | None = None  # sentences kept at each word; None: the run's
    out: Path = Path("predictions")  # folder of pictures and JSON
    device: str = "auto"  # auto, cpu, cuda, mps


class Trained(NamedTuple):
    """A run's captioner: load(run).predict(images)."""

    config: train.Config
    vocabulary: Vocabulary
    model: Captioner  # of the best evaluation

    def predict(self, images: Sequence[Tensor | str | Path], beam: int | None = None) -> list[str]:
        """A sentence for each of images (3, H, W) uint8 of any sizes, or files."""
        return [caption.text for caption in self.captions(images, beam)]

    def captions(self, images: Sequence[Tensor | str | Path], beam: int | None = None) -> list[Caption]:
        """Sentences with maps (T, h, w) of where each word was looked for, of images (3, H, W) uint8, or files."""
        given = [each if isinstance(each, Tensor) else read_whole(each) for each in images]
        size = self.config.size or train.NATIVE
        given, found = [resized(image, size) for image in given], []
        for begin in range(0, len(given), self.config.batch):
            part = given[begin : begin + self.config.batch]
            found += write(self.model, self.vocabulary, part, size, beam or self.config.beam, self.config.longest)
        return found


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, words and captioner, that of the best evaluation.

    Raises RunError where there is no such run, or nothing was saved yet.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(train.Config, folder, "vision.captioning", train.VOCABULARY)
    vocabulary = Vocabulary.load(folder / train.VOCABULARY)
    known = config.backbone in backbones.BACKBONES
    backbone = config.backbone if known else str(folder)  # a pretrained one is saved here
    model = train.build(dataclasses.replace(config, backbone=backbone, train="all"), vocabulary)
    model.load_state_dict(parts["model"])
    return Trained(config, vocabulary, model.to(device, memory_format=torch.channels_last).eval())


def main(config: Config) -> list[dict[str, str]]:
    """Write pictures and JSON, and print the captions. Returns what the JSON holds."""
    trained = load(config.run, config.device)
    if not config.images:
        raise ValueError("name one or more image files after the run's folder")
    config.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for path in config.images:
        image = read_whole(path)
        (caption,) = trained.captions([image], config.beam)
        plots.draw_captions([(image, caption)], config.out / f"{path.stem}.png")
        lines.append({"file_name": str(path), "caption": caption.text})
        print(printable(f"{path}: {caption.text}"))
    (config.out / "captions.json").write_text(json.dumps(lines, indent=1))
    print(printable(f"pictures and captions.json in {config.out}"))
    return lines
