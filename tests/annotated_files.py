"""Small folders of annotated images, which tests write."""

import json

import numpy as np
from PIL import Image

from vision.data.annotated import problems


def picture(path, size=(60, 40), mode="RGB", exif=None):
    """An image file, wide and high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if mode == "I;16":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path, **({"exif": exif} if exif else {}))
    return path


def coco(folder, images, lines, categories=(1, 2), name="annotations.json"):
    """A COCO file: images by name and id, annotations as (image id, category, box) or dicts."""
    full = [
        dict(id=number, image_id=line[0], category_id=line[1], bbox=line[2]) if isinstance(line, tuple) else line
        for number, line in enumerate(lines, start=1)
    ]
    content = dict(
        images=[dict(id=key, file_name=file, width=60, height=40) for key, file in images.items()],
        annotations=full,
        categories=[dict(id=key, name=f"class {key}") for key in categories],
    )
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def voc(folder, name, objects, size=(60, 40), image=True):
    lines = [
        f"<object><name>{label}</name><difficult>{int(difficult)}</difficult><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False)
        )
        + "</bndbox></object>"
        for label, difficult, box in objects
    ]
    path = folder / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path.write_text(f"<annotation><filename>{name}.png</filename>{size}{''.join(lines)}</annotation>")
    if image:
        picture(folder / "JPEGImages" / f"{name}.png")


def kinds(sets):
    return problems.count(sets.problems)
