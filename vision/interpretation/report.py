"""A self-contained HTML page of what a classifier has learned: every picture of this folder's programs in one file.

The pictures are written by the programs themselves, beside the page, and are in it as data: it opens anywhere,
without a network.
"""

from __future__ import annotations

import base64
import html
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runs import output
from runs.printing import printable
from vision.interpretation import (
    activations,
    embedding,
    explain,
    feature_inversion,
    feature_visualization,
    layer_table,
    neighbors,
    subject,
)
from vision.interpretation.pictures import save

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:12px}td,th{padding:2px 8px;text-align:left}"
    "tr:nth-child(even){background:#f3f3f3}h2{margin-top:2em}"
)
INVERTED = 4  # images
INVERTED_UPDATES = 200


class Section(NamedTuple):
    """A heading, what the pictures show, and their files."""

    title: str
    text: str
    files: tuple[Path, ...]


def write(config: explain.Config) -> Path:
    """Write the page of a run's classifier to --out, with the ending .html, and its pictures into a folder beside it.

    Returns the page's path. Raises RunError where it cannot be written.
    """
    about = subject.load(config)
    page = config.out.with_suffix(".html")
    parts = [f"<h1>{html.escape(printable(config.run))}</h1>"]
    for title, text, files in sections(config, about, page.with_suffix("")):
        parts += [f"<h2>{html.escape(title)}</h2>", f"<p>{html.escape(text)}</p>"]
        parts += [f'<img alt="{html.escape(title)}" src="data:image/png;base64,{encoded(file)}">' for file in files]
    parts += ["<h2>Layers</h2>", table(about)]
    body = "\n".join(parts)
    whole = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<title>{html.escape(printable(config.run))}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
    output.write(page, whole, "--out")
    print(printable(f"written to {page}"))
    return page


def sections(config: explain.Config, about: subject.Subject, folder: Path) -> Iterator[Section]:
    """Run the programs, one after the other, with their pictures in a folder; yields what they have drawn."""
    common = dict(run=config.run, device=config.device, threads=config.threads, seed=config.seed)
    explain_out = folder / "explanations.png"
    asked = dict(files=config.files, images=config.images, stage=config.stage, of=config.of, methods=config.methods)
    explain.main(explain.Config(**common, **asked, out=explain_out))
    yield Section("Attribution", "Which pixels the predicted class's score depends on, by method.", (explain_out,))
    convolutional = about.model.backbone.any_size and about.shape[0] in (1, 3)
    for stage in range(len(about.model.backbone.channels) if convolutional else 0):
        place = folder / f"stage-{stage}"
        activations.main(activations.Config(**common, stage=stage, searched=1_000, folder=place))
        files = tuple(place / f"{name}.png" for name in ("filters", "maps", "patches")[stage > 0 :])
        text = "Every channel for a few images, and the patches of 1,000 test images that activate channels most."
        yield Section(f"Stage {stage}", text if stage else f"The first layer's filters. {text}", files)
    out = folder / "classes.png"
    feature_visualization.main(feature_visualization.Config(**common, out=out))
    yield Section("Classes", "Images climbed by gradient ascent to the highest score of each class.", (out,))
    out = folder / "fooling.png"
    feature_visualization.main(feature_visualization.Config(**common, fool=True, images=4, out=out))
    text = "An image, what the network takes for the next class, and ten times the change."
    yield Section("Fooling images", text, (out,))
    out = folder / "neighbors.png"
    neighbors.main(neighbors.Config(**common, out=out))
    yield Section("Neighbors", "The nearest training images of test images, by pixels and by features.", (out,))
    out, method = folder / "embedding.png", "tsne" if importlib.util.find_spec("openTSNE") else "pca"
    count = min(1_000, len(about.sets.test.images))
    method = method if count >= 3 * embedding.Config.perplexity else "pca"
    embedding.main(embedding.Config(**common, method=method, images=count, out=out))
    name = "t-SNE" if method == "tsne" else "PCA"
    yield Section("Map of features", f"Test images by {name} of the last features.", (out,))
    if convolutional:
        yield _inverted(config, about, folder)


def _inverted(config: explain.Config, about: subject.Subject, folder: Path) -> Section:
    images, files = about.examples(INVERTED)[0], []
    for number, image in enumerate(images):
        files.append(folder / f"image-{number}.png")
        save(image, files[-1])
    options = dict(device=config.device, threads=config.threads, seed=config.seed, size=about.shape[1])
    out = folder / "inversion.png"
    feature_inversion.main(
        feature_inversion.Config(
            backbone=config.run, files=tuple(files), updates=INVERTED_UPDATES, out=out, **options
        )
    )
    return Section("Inversion", "Images with the same map, stage by stage: what each stage has kept.", (out,))


def table(about: subject.Subject) -> str:
    """The layers of a classifier's backbone as an HTML table, see layer_table."""
    head = ("layer", "kind", "window", "before", "after", "width", "parameters", "multiply-adds", "field")
    lines = ["".join(f"<th>{name}</th>" for name in head)]
    for row in layer_table.rows(about.model.backbone, about.shape):
        sizes = (" x ".join(map(str, each)) for each in (row.before, row.after))
        cells = (row.name, row.kind, row.window, *sizes, row.formula, f"{row.parameters:,}", f"{row.multiply_adds:,}")
        field = "all" if row.field is None else row.field
        lines.append("".join(f"<td>{html.escape(str(cell))}</td>" for cell in (*cells, field)))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def encoded(file: Path) -> str:
    """The bytes of a file in base64."""
    return base64.b64encode(file.read_bytes()).decode()
