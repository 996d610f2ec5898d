"""SIFT and visual words: key points, invariance of descriptors, k-means, histograms, the program."""

import math
import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from vision import data
from vision.classification import bag_of_words, sift, visual_words
from vision.data import shapes as drawn_shapes

ROOTS = [Path(os.environ.get("SACCADE_DATA", "/nowhere")), Path(__file__).parents[2] / "shared" / "data"]
PHOTOGRAPHS = next((each / "style_transfer" for each in ROOTS if (each / "style_transfer").is_dir()), None)


def blobs(places, side=64, sigma=4.0):
    """An image (1, 1, side, side) of bright Gaussian blobs at places (x, y), of white on dark gray."""
    y, x = (torch.arange(side) + 0.5 for _ in range(2))
    light = sum((-((x[None] - px) ** 2 + (y[:, None] - py) ** 2) / (2 * sigma**2)).exp() for px, py in places)
    return (40 + 200 * light.clamp(max=1)).round().to(torch.uint8)[None, None]


def textured(seed=0, side=48):
    """A smooth random image (1, 1, side, side)."""
    torch.manual_seed(seed)
    light = sift.blur(torch.randn(1, 1, side, side), 2.0)
    return ((light - light.min()) / (light.max() - light.min()) * 255).round().to(torch.uint8)


def test_a_blob_is_found_where_it_is_at_its_scale():
    """The difference of Gaussians answers most to a blob of about its own sigma, at the blob's middle."""
    points, descriptors = sift.detect(blobs([(24.0, 36.0)]))
    strongest = (points.scale - 4.0).abs().argmin()
    assert points.x[strongest].item() == pytest.approx(24, abs=0.3)
    assert points.y[strongest].item() == pytest.approx(36, abs=0.3)
    assert points.scale[strongest].item() == pytest.approx(4, rel=0.35)
    assert descriptors.shape == (len(points.x), 128)
    nothing, none = sift.detect(torch.full((2, 3, 32, 32), 99, dtype=torch.uint8))
    assert len(nothing.x) == 0 and none.shape == (0, 128)


def test_a_gradient_by_hand():
    """A ramp along x: every gradient points to 0 degrees, so all 16 cells have only the first of 8 directions."""
    ramp = (torch.arange(32.0) * 6).to(torch.uint8).expand(1, 1, 32, 32)
    points, found = sift.dense(ramp, step=100, cell=4)
    assert points.x.tolist() == points.y.tolist() == [8.0]
    cells = found.view(16, 8)
    assert (cells[:, 0] > 0.1).all() and cells[:, 1:].abs().max() < 1e-5
    assert found.norm().item() == pytest.approx(1, abs=1e-5)
    turned = sift.dense(ramp.mT.contiguous(), step=100, cell=4)[1].view(16, 8)
    assert (turned[:, 2] > 0.1).all()  # 90 degrees, downwards
    flat = torch.full((1, 1, 32, 32), 7, dtype=torch.uint8)
    assert not sift.dense(flat, step=100, cell=4)[1].any()
    with pytest.raises(ValueError, match="smaller than a descriptor of 4 x 10"):
        sift.dense(flat, cell=10)


def test_descriptors_do_not_depend_on_light():
    image = (textured() // 2 + 20).float()
    one = sift.dense(image.to(torch.uint8), 8, 4)[1]
    other = sift.dense((image * 1.5 + 10).round().to(torch.uint8), 8, 4)[1]
    assert (one * other).sum(1).min() > 0.98


def test_turned_points_keep_their_descriptors():
    """An image and the same turned by 90 degrees: a point's orientation turns with it, its descriptor stays. Of 65
    pixels every octave is symmetric, which of 64 it is not."""
    image = textured(side=65)
    points, found = sift.detect(image, double=False)
    turned, others = sift.detect(image.rot90(-1, (2, 3)), double=False)  # clockwise: (x, y) -> (65 - y, x)
    assert len(points.x) == len(turned.x) > 5
    close = 0
    for i in range(len(points.x)):
        far = (turned.x - (65 - points.y[i])).square() + (turned.y - points.x[i]).square()
        angle = (turned.angle - points.angle[i] - math.pi / 2 + math.pi).remainder(2 * math.pi) - math.pi
        far = far + 100 * angle.square()
        best = far.argmin()
        close += far[best] < 0.5 and (found[i] @ others[best]) > 0.98
    assert close >= 0.9 * len(points.x)


def test_enlarged_points_keep_their_descriptors():
    """The same image at twice its size: most descriptors have their nearest neighbor at twice their place."""
    image = textured(side=64)
    larger = F.interpolate(image.float(), scale_factor=2, mode="bicubic").clamp(0, 255).round().to(torch.uint8)
    points, found = sift.detect(image)
    others, described = sift.detect(larger)
    nearest = (found @ described.T).argmax(1)
    right = ((others.x[nearest] / 2 - points.x).abs() < 2) & ((others.y[nearest] / 2 - points.y).abs() < 2)
    assert right.float().mean() > 0.6


@pytest.mark.skipif(PHOTOGRAPHS is None, reason="no style_transfer: name the folder above it in $SACCADE_DATA")
def test_photographs_have_many_points():
    from vision.data.image_files import read_image

    file = sorted(path for path in PHOTOGRAPHS.rglob("*.jp*g"))[0]
    points, descriptors = sift.detect(read_image(file, 96)[None])
    assert len(points.x) > 20 and descriptors.norm(dim=1).min() > 0.99


# Visual words


def test_kmeans_finds_clusters_and_never_gets_worse():
    torch.manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    vectors = (middles[:, None] + 0.5 * torch.randn(3, 50, 2)).flatten(0, 1)
    centers, costs = visual_words.kmeans(vectors, 3, 20, torch.Generator().manual_seed(1))
    assert torch.cdist(middles, centers).amin(1).max() < 0.4
    assert all(b <= a + 1e-6 for a, b in zip(costs, costs[1:], strict=False))
    by_hand = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    centers, _ = visual_words.kmeans(by_hand, 2, 10, torch.Generator().manual_seed(0))
    assert sorted(centers.flatten().tolist()) == [0.5, 11.0]
    same, _ = visual_words.kmeans(torch.ones(5, 2), 3, 5, torch.Generator().manual_seed(0))
    assert same.shape == (3, 2)
    with pytest.raises(ValueError, match="2 vectors cannot have 3 clusters"):
        visual_words.kmeans(torch.ones(2, 2), 3)


def test_histograms_by_hand():
    """Two images of 8 x 8: three words of the first, in its quarters; the second has none."""
    points = sift.KeyPoints(
        torch.tensor([0, 0, 0]), torch.tensor([1.0, 7.0, 2.0]), torch.tensor([1.0, 1.0, 6.0]), *2 * [torch.ones(3)]
    )
    found = visual_words.histograms(torch.tensor([1, 1, 0]), points, 2, 2, (8, 8), levels=2)
    whole, quarters = [1, 2], [0, 1, 0, 1, 1, 0, 0, 0]
    assert torch.allclose(found[0], (torch.tensor([*whole, *quarters]) / 6).sqrt())
    assert not found[1].any() and found[0].norm().item() == pytest.approx(1)


@pytest.mark.parametrize("points", ["dense", pytest.param("detected", marks=pytest.mark.slow)])
def test_the_program(tmp_path, monkeypatch, points):
    sets = data.Sets(
        *(drawn_shapes.draw(n, seed=part) for part, n in enumerate((40, 10, 10))), tuple(drawn_shapes.SHAPES)
    )
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: sets)
    config = bag_of_words.Config(
        images=0, points=points, words=12, sample=500, step=8, iterations=3, epochs=2, device="cpu", threads=1,
        decays=(1e-4,), out=tmp_path / "words.png",
    )  # fmt: skip
    assert 0 <= bag_of_words.main(config) <= 100
    assert (tmp_path / "words.png").stat().st_size > 5_000
    assert f"| {points} SIFT | 12 | 2 | 40 |" in (tmp_path / "words.md").read_text()
