"""A self-contained HTML page of what a classifier has learned: every picture of this folder's programs in one file.

The pictures are written by the programs themselves, beside the page, and are in it as data: it opens anywhere,
without a network.
"""

from __future__ import annotations

import base64
import html
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from runs import output
from runs.printing import printable
from vision.data import shapes
from vision.interpretation import (
    activations,
    attribution_scores,
    deepdream,
    embedding,
    explain,
    feature_inversion,
    feature_visualization,
    features,
    layer_table,
    located,
    neighbors,
    saliency_segmentation,
    sanity_check,
    style_transfer,
    subject,
    texture_synthesis,
)
from vision.interpretation.gradients import as_floats
from vision.interpretation.pictures import draw_sheet, save

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:12px}td,th{padding:2px 8px;text-align:left}"
    "tr:nth-child(even){background:#f3f3f3}h2{margin-top:2em}"
)
INVERTED = 4  # images
INVERTED_UPDATES = 200
SCORED, SANITY, DRAWS = 100, 20, 3  # drawn shapes that maps are scored by, of the sanity check, random weights
SEGMENTED = 50  # drawn shapes that GrabCut cuts out
DREAMED = 3  # images
ENLARGED = 3  # times the side of the run's images: that of dreams, textures and style transfers
EVALUATIONS = 100  # of the loss of textures and style transfers


class Section(NamedTuple):
    """A heading, what is seen, the files of its pictures, and a table in HTML."""

    title: str
    text: str
    files: tuple[Path, ...] = ()
    table: str = ""


def write(config: explain.Config) -> Path:
    """Write the page of a run's classifier to --out, with the ending .html, and its pictures into a folder beside it.

    Returns the page's path. Raises RunError where it cannot be written.
    """
    about = subject.load(config)
    page = config.out.with_suffix(".html")
    parts = [f"<h1>{html.escape(printable(config.run))}</h1>"]
    for title, text, files, cells in sections(config, about, page.with_suffix("")):
        parts += [f"<h2>{html.escape(title)}</h2>", f"<p>{html.escape(text)}</p>", cells]
        parts += [f'<img alt="{html.escape(title)}" src="data:image/png;base64,{encoded(file)}">' for file in files]
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
    if about.sets.classes == tuple(shapes.SHAPES):
        yield _scored(config)
    yield _segmented(config, common, folder)
    convolutional = about.model.backbone.any_size and about.shape[0] in (1, 3)
    for stage in range(len(about.model.backbone.channels) if convolutional else 0):
        place = folder / f"stage-{stage}"
        activations.main(activations.Config(**common, stage=stage, searched=1_000, folder=place))
        files = tuple(place / f"{name}.png" for name in ("filters", "maps", "patches")[stage > 0 :])
        text = "Every channel for a few images, and the patches of 1,000 test images that activate channels most."
        yield Section(f"Stage {stage}", text if stage else f"The first layer's filters. {text}", files)
    out = folder / "classes.png"
    feature_visualization.main(feature_visualization.Config(**common, out=out))
    yield Section("Classes", "Images optimized by gradient ascent for the highest score of each class.", (out,))
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
        yield _dreamed(config, about, folder)
        yield _textures(config, about, folder)
        yield _styled(config, about, folder)
    text = "The backbone's layers: sizes, parameters, multiply-adds of an image, and the receptive field in pixels."
    yield Section("Layers", text, table=layers(about))


def _scored(config: explain.Config) -> Section:
    asked = attribution_scores.Config(
        run=config.run, images=SCORED, sanity_images=SANITY, sanity_draws=DRAWS, stage=config.stage, seed=config.seed,
        device=config.device, threads=config.threads,
    )  # fmt: skip
    found = attribution_scores.scored(asked, located.drawn(asked, SCORED))
    text = (
        f"How often a map's largest value is inside of one of {SCORED} drawn shapes (pointing), the share of its sum "
        "and of its largest values there (mass, rank), of maps of zeros, and the sanity check: the rank correlation "
        "with the map once the weights of the output layer, or of all layers, are random, and its 95% interval of "
        f"{SANITY} images and {DRAWS} draws. Empty: shares of constant maps then. A method {sanity_check.RULE}."
    )
    return Section("Attribution scores", text, table=table(found.head, found.rows))


def _segmented(config: explain.Config, common: dict[str, object], folder: Path) -> Section:
    title = "GrabCut by saliency"
    if not importlib.util.find_spec("cv2"):
        return Section(title, "Left out, for OpenCV is not installed: pip install saccade[grabcut]")
    out = folder / "grabcut.png"
    found = saliency_segmentation.main(saliency_segmentation.Config(**common, images=SEGMENTED, out=out))
    text = "The object that a graph cut finds from colors where the saliency is high and where it is low."
    if found:
        text += f" Its mean intersection over union with {SEGMENTED} drawn shapes is {found['grabcut']:.2f}."
    return Section(title, text, (out,))


def _enlarged(about: subject.Subject, count: int) -> torch.Tensor:
    """Test images (count, C, H, W), floats from 0 to 1, ENLARGED times as large as the run's."""
    images = as_floats(about.examples(count)[0])
    return F.interpolate(images, scale_factor=ENLARGED, mode="bilinear").clamp(0, 1)


def _dreamed(config: explain.Config, about: subject.Subject, folder: Path) -> Section:
    images, backbone = _enlarged(about, DREAMED), about.model.backbone
    stages = range(len(backbone.channels))
    rows = []
    for image in images:
        row = [image]
        for stage in stages:
            generator = torch.Generator().manual_seed(config.seed)
            row.append(deepdream.dream(backbone, image[None], deepdream.Config(stage=stage), generator)[0])
        rows.append(row)
    titles = [["image", *(f"stage {stage}" for stage in stages)]] * len(rows)
    draw_sheet(rows, titles, folder / "deepdream.png", side=1.8)
    text = "Images in which a stage's map is amplified: what the stage responds to is added."
    return Section("DeepDream", text, (folder / "deepdream.png",))


def _textures(config: explain.Config, about: subject.Subject, folder: Path) -> Section:
    backbone = about.model.backbone
    stages, side = tuple(range(len(backbone.channels))), ENLARGED * about.shape[1]
    bricks = features.fitted(texture_synthesis.bricks(side // 2, config.seed)[None], backbone).to(about.device)
    rows, left = [], []
    for sample in (bricks, _enlarged(about, 1)):
        found, losses = texture_synthesis.from_gram(backbone, sample, side, stages, EVALUATIONS, config.seed)
        rows.append([sample[0], found[0]])
        start, end = (torch.tensor(losses[when]) for when in ("start", "end"))
        left.append(f"texture: {100 * (end / start).mean():.1f}% of noise's loss")
    draw_sheet(rows, [["sample", words] for words in left], folder / "textures.png", side=2.5)
    text = (
        "Pictures made from noise, with the Gram matrices that all stages have for drawn bricks and a test image. "
        "Colors that the network ignores stay those of the noise."
    )
    return Section("Textures by Gram matrices", text, (folder / "textures.png",))


def _styled(config: explain.Config, about: subject.Subject, folder: Path) -> Section:
    images, backbone = _enlarged(about, 4), about.model.backbone
    side = images.shape[2]
    bricks = features.fitted(texture_synthesis.bricks(side, config.seed)[None], backbone).to(about.device)
    asked = style_transfer.Config(evaluations=EVALUATIONS, style_weight=100.0, seed=config.seed)
    rows, titles = [], []
    for content, style in ((images[:1], bricks), (images[1:2], images[2:3])):
        found, losses = style_transfer.transfer(backbone, content, [style], asked)
        rows.append([content[0], style[0], found[0]])
        titles.append(["content", "style", f"style loss: {100 * losses['end']['style']:.1f}% of the content's"])
    draw_sheet(rows, titles, folder / "style_transfer.png", side=2.5)
    text = (
        "A test image changed until its Gram matrices are near those of another picture, while the maps of the stage "
        "before the last stay near its own. Colors that the network ignores stay those of the test image."
    )
    return Section("Style transfer", text, (folder / "style_transfer.png",))


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
    text = (
        "Images with nearly the same map, stage by stage: what each stage has kept. Percentages are what is left of "
        "the squared distance."
    )
    return Section("Inversion", text, (out,))


def layers(about: subject.Subject) -> str:
    """The layers of a classifier's backbone as an HTML table, see layer_table."""
    head = ("layer", "kind", "window", "before", "after", "width", "parameters", "multiply-adds", "field")
    rows = []
    for row in layer_table.rows(about.model.backbone, about.shape):
        sizes = (" x ".join(map(str, each)) for each in (row.before, row.after))
        cells = (row.name, row.kind, row.window, *sizes, row.formula, f"{row.parameters:,}", f"{row.multiply_adds:,}")
        rows.append((*cells, "all" if row.field is None else row.field))
    return table(head, rows)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in HTML, its cells escaped."""
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def encoded(file: Path) -> str:
    """The bytes of a file in base64."""
    return base64.b64encode(file.read_bytes()).decode()
