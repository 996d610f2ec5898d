"""Applies a trained image transformation network to image files and films.

    python -m vision.image_to_image predict results/photographs/style-1 photo.jpg
    python -m vision.image_to_image predict results/photographs/style-1 photo.jpg --size 512 --keep-color
    python -m vision.image_to_image predict results/photographs/style-1 film.mp4         # frame by frame

<out>/<name>.png is the picture, <out>/<name>.mp4 the film. The speed that is printed is the network's alone.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from torch import Tensor

from runs import output, saved
from runs.flag_types import Count, Whole
from runs.machine import choose, precision
from runs.printing import printable
from runs.threads import choose as count_threads
from vision.data.image_ops import with_colors_of
from vision.generation import plots
from vision.image_to_image import data, tasks, train
from vision.interpretation.pictures import as_bytes

FILMS = (".mp4", ".gif", ".webm", ".mov", ".avi", ".mkv")  # suffixes
FPS = 25  # of films that do not say it


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]  # image files and films
    out: Path = Path("transformed")  # folder of the results
    size: Whole = 0  # pixels of the shorter side that images are resized to; 0: as they are
    keep_color: bool = False  # style transfer: take only the luminance of the result, the colors of the image
    frames: Count = 10_000  # of a film at most
    device: str = "auto"  # auto, cpu, cuda, mps
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start


class Trained(NamedTuple):
    """A run's network: load(run).predict(images)."""

    config: train.Config
    model: tasks.TransformationModel  # of the best evaluation

    @torch.no_grad()
    def predict(self, images: Sequence[Tensor | str | Path], keep_color: bool = False) -> list[Tensor]:
        """Pictures (3, H, W) uint8 made of images (3, h, w) uint8 of any sizes, or of files.

        Super-resolution enlarges them, colorization takes their luminance alone. keep_color: take only the
        luminance of the result, and the colors of the image (Gatys et al. 2016, arXiv 1606.05897). Raises
        ValueError for images that are too small, and where colors of another size are to be kept.
        """
        given = [each if isinstance(each, Tensor) else data.read(Path(each), 0) for each in images]
        return [self._made(image, keep_color) for image in given]

    def _made(self, image: Tensor, keep_color: bool) -> Tensor:
        pixels = image[None].to(next(self.model.parameters()).device).float() / 255
        inputs = self.model.inputs(pixels) if self.model.network.factor == 1 else pixels
        made = self.model(inputs).clamp(0, 1)
        if keep_color:
            if made.shape != pixels.shape:
                raise ValueError("the colors of an image can be kept by a network that leaves its size as it is")
            made = with_colors_of(made, pixels)
        return as_bytes(made[0]).cpu()


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config and network, that of the best evaluation.

    Raises RunError where there is no such run, or nothing was saved yet.
    """
    device = choose(str(device))
    config, parts = saved.trained(train.Config, Path(folder), "vision.image_to_image")
    model = train.build(config)
    model.load_state_dict(parts["model"])
    model.autocast = functools.partial(precision, config, device)
    return Trained(config, model.to(device, memory_format=torch.channels_last).eval())


def main(config: Config) -> list[Path]:
    """Transform the files, and print the speed. Returns the paths written."""
    if not config.files:
        raise ValueError("name one or more image files or films after the run's folder")
    count_threads(config.threads)
    trained = load(config.run, config.device)
    written = []
    for path in config.files:
        is_film = path.suffix.lower() in FILMS
        target = config.out / f"{path.stem}.{'mp4' if is_film else 'png'}"
        with output.writing(target, "--out"):
            if is_film:
                count, seconds, size = _film(trained, path, target, config)
            else:
                image = data.read(path, config.size)
                began = time.monotonic()
                (made,) = trained.predict([image], config.keep_color)
                count, seconds, size = 1, time.monotonic() - began, tuple(made.shape[1:])
                plots.write(made.permute(1, 2, 0).numpy(), target)
        print(printable(f"{target}: {size[0]} x {size[1]}, {count / seconds:.1f} a second"), flush=True)
        written.append(target)
    return written


def _film(trained: Trained, path: Path, target: Path, config: Config) -> tuple[int, float, tuple[int, int]]:
    """Write a film of a film's frames. Returns how many, the seconds of the network, and their size."""
    import imageio.v3 as imageio
    from imageio.v2 import get_writer

    count, seconds, size = 0, 0.0, (0, 0)
    fps = imageio.immeta(path).get("fps") or FPS
    with get_writer(target, fps=fps, codec="libx264", macro_block_size=2) as film:
        for frame in imageio.imiter(path):
            if count == config.frames:
                break
            image = data.resized(torch.from_numpy(frame[..., :3].copy()).permute(2, 0, 1), config.size)
            began = time.monotonic()
            (made,) = trained.predict([image], config.keep_color)
            seconds, count = seconds + time.monotonic() - began, count + 1
            size = tuple(side // 2 * 2 for side in made.shape[1:])  # as the film's format wants it
            film.append_data(made[:, : size[0], : size[1]].permute(1, 2, 0).numpy())
    return count, max(seconds, 1e-9), size
