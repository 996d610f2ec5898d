"""Drawn scenes of shapes as files: images, boxes, masks, classes of pixels and captions in COCO's format.

    python -m vision.data export --folder results/shapes-coco
    python -m vision.data export --folder results/shapes-coco --train 200 --validation 20 --test 20 --side 96

For programs that read files, and for those of others; ours draw the same scenes by `--data shapes`. A folder that
holds anything is not overwritten, but for an export by the same flags that was stopped: it is begun again. Games are
recorded by agents.studies.export_coco.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import runs
from runs import files, output
from runs.flag_types import Count, Whole
from vision.data.annotated.coco_writer import FRAMES, CocoWriter, Instance
from vision.data.samples import Sample
from vision.data.scenes import SIDE, SIZES, Scenes

UNFINISHED = "unfinished.json"  # the flags, until everything is written
NUMBERS = ("no", "one", "two", "three", "four", "five")  # a scene has up to five shapes


@dataclasses.dataclass(frozen=True)
class Config:
    folder: Path = Path("results/shapes-coco")  # where the files go
    train: Count = SIZES[0]  # scenes
    validation: Count = SIZES[1]
    test: Count = SIZES[2]
    side: Count = SIDE  # pixels
    seed: Whole = 0  # added to those of the three parts: 0, 1, 2


def main(config: Config) -> None:
    """Write the scenes. Raises RunError where the folder holds anything else, or cannot be written."""
    begin(config)
    with output.writing(config.folder / FRAMES, "--folder"):
        writer = CocoWriter(config.folder, Scenes.classes)
        counts = (config.train, config.validation, config.test)
        for seed, (part, count) in enumerate(zip(("train", "val", "test"), counts, strict=True)):
            for number, sample in enumerate(Scenes(count, config.seed + seed, config.side)):
                picture = sample.image.permute(1, 2, 0).contiguous().numpy()
                writer.add(part, f"{number:06d}", picture, instances(sample), [sentence(sample)])
        for part, (images, objects) in writer.finish().items():
            print(f"{part}: {images:,} images, {objects:,} objects")
        (config.folder / UNFINISHED).unlink()
    print(f"written to {config.folder}")


def begin(config: Config) -> None:
    """Note the flags in a new folder, or find them there. Raises RunError where it holds anything else."""
    marker = config.folder / UNFINISHED
    flags = json.dumps(dataclasses.asdict(config) | {"folder": ""})
    within = (path for path in config.folder.rglob("*") if not path.is_dir())
    held = next((path for path in within if not files.UNFINISHED.fullmatch(path.name)), None)
    if held and not (marker.is_file() and marker.read_text(encoding="utf-8", errors="replace") == flags):
        raise runs.RunError(
            f"{config.folder} is not empty, it has {held.relative_to(config.folder)}: nothing there is overwritten; "
            "choose another --folder"
        )
    output.write(marker, flags, "--folder")


def instances(sample: Sample) -> list[Instance]:
    """The objects of a scene, each with the part of its mask that is within its box."""
    target, found = sample.target, []
    for box, label, mask in zip(target.boxes.int().tolist(), target.labels.tolist(), target.masks, strict=True):
        left, top, right, bottom = box
        found.append(Instance(label, (left, top, right, bottom), mask[top:bottom, left:right].numpy()))
    return found


def sentence(sample: Sample) -> str:
    """What is in a scene: "One circle and two stars."."""
    counts = Counter(sample.target.labels.tolist())
    words = [
        f"{NUMBERS[count]} {Scenes.classes[label]}{'s' if count > 1 and Scenes.classes[label][-1] != 's' else ''}"
        for label, count in sorted(counts.items())
    ]
    text = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "nothing"
    return f"{text[0].upper()}{text[1:]}."


def launch() -> None:
    """Run the export with the flags of the command line."""
    runs.launch(main, Config, None, "vision.data export", __doc__)
