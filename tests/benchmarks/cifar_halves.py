"""CIFAR-10 cut in two by its classes, as folders of images: a backbone learns on one half and is tried on the other.

    python tests/benchmarks/cifar_halves.py results/halves
    python -m vision.classification --data results/halves/first --size 32 --backbone airbench
    python -m vision.classification --data results/halves/second --size 32 --shots 100 \\
        --backbone results/first/classification-1 --train head

The commands that were run, with all their flags, are in runs/published/classification/README.md.
"""

import sys
from pathlib import Path

from PIL import Image

from vision import data

FIRST = ("airplane", "bird", "cat", "deer", "truck")  # classes; the other five are the second half


def main(folder: Path) -> None:
    """Write first/ and second/, each with train/, validation/ and test/ and a folder a class in them."""
    sets = data.load("cifar10")
    for part in ("train", "validation", "test"):
        images, labels = getattr(sets, part)
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            name = sets.classes[label]
            place = folder / ("first" if name in FIRST else "second") / part / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number:05d}.png", compress_level=1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name the folder to write to: python tests/benchmarks/cifar_halves.py results/halves")
    main(Path(sys.argv[1]))
