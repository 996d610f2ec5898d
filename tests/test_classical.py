"""Classifying without convolutions: neighbors, gradients, histograms of gradients and hues, and a run of each."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from matplotlib.colors import rgb_to_hsv, to_rgb
from PIL import Image

from vision import data
from vision.backbones import Standardization
from vision.classification import classical, features, nearest_neighbors, plots
from vision.classification.classical import Config, recipe
from vision.data import shapes as drawn_shapes
from vision.training import losses

DRAWN = tuple(drawn_shapes.SHAPES)


# ---- neighbors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_distances_by_hand(kind):
    queries = torch.tensor([[1, 0], [7, 255]], dtype=kind)
    examples = torch.tensor([[0, 0], [10, 0], [0, 4]], dtype=kind)
    expected = {"l1": [[1, 9, 5], [262, 258, 258]], "l2": [[1, 81, 17], [49 + 255**2, 9 + 255**2, 49 + 251**2]]}
    for metric, by_hand in expected.items():
        found = nearest_neighbors.distances(queries, examples, metric).double()
        torch.testing.assert_close(found, torch.tensor(by_hand).double(), rtol=1e-5, atol=1e-3)


def test_the_metrics_disagree_where_they_should():
    examples, query = torch.tensor([[3, 3], [5, 0]], dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.uint8)
    assert nearest_neighbors.nearest(query, examples, 1, "l1")[1].item() == 1  # 5 against 6
    assert nearest_neighbors.nearest(query, examples, 1, "l2")[1].item() == 0  # 18 against 25


def test_distances_of_bytes_are_exact_up_to_the_farthest():
    black, white = torch.zeros(1, 3072, dtype=torch.uint8), torch.full((1, 3072), 255, dtype=torch.uint8)
    assert nearest_neighbors.distances(black, white, "l1").item() == 3072 * 255
    assert nearest_neighbors.distances(black, white, "l2").item() == 3072 * 255**2


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_bytes_and_chunks_change_nothing(metric):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randint(0, 256, (23, 3072), generator=generator, dtype=torch.uint8)
    examples = torch.randint(0, 256, (600, 3072), generator=generator, dtype=torch.uint8)  # more than a cache's worth
    found = nearest_neighbors.distances(queries, examples, metric)
    slow = (queries[:, None].long() - examples.long()).abs()
    assert torch.equal(found.long(), slow.sum(2) if metric == "l1" else slow.square().sum(2))
    torch.testing.assert_close(
        found.float(), nearest_neighbors.distances(queries.float(), examples.float(), metric), rtol=1e-5, atol=1e-3
    )
    whole = nearest_neighbors.nearest(queries, examples, 7, metric)
    chunked = nearest_neighbors.nearest(
        queries, examples, 7, metric, memory=5 * 600 * 4 / 2**20
    )  # five queries at a time
    assert all(map(torch.equal, whole, chunked))
    assert torch.equal(whole[0], found.sort(1).values[:, :7])


def test_votes_and_ties():
    labels = torch.tensor([[2, 1, 1, 0, 0], [2, 1, 1, 2, 0], [0, 1, 2, 2, 1], [3, 3, 3, 0, 0]])
    assert nearest_neighbors.vote(labels, 4).tolist() == [1, 2, 1, 3]  # of two pairs the one that is met first
    assert nearest_neighbors.vote(labels[:, :2], 4).tolist() == [2, 2, 0, 3]
    truth = torch.tensor([1, 1, 1, 0])
    assert nearest_neighbors.accuracies(labels, truth, (1, 5), 4) == [0, 50]


def test_cross_validation_asks_every_image_once():
    inputs = torch.arange(12, dtype=torch.float32)[:, None]
    generator = torch.Generator().manual_seed(0)
    halves = (inputs[:, 0] >= 6).long()
    separated = inputs + 100 * halves[:, None]
    scores = nearest_neighbors.cross_validate(separated, halves, (1, 3), 4, "l2", 1.0, generator)
    assert scores.shape == (4, 2) and (scores[:, 0] == 100).all()
    alone = nearest_neighbors.cross_validate(inputs, torch.arange(12), (1,), 4, "l1", 1.0, generator)
    assert (alone == 0).all()  # a label that nobody else has is never found: no image is its own neighbor


def test_errors_of_nearest_neighbors():
    few = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="cannot take 5 neighbors of 3 examples: choose from 1 to 3"):
        nearest_neighbors.nearest(few, few, 5)
    with pytest.raises(ValueError, match="unknown metric 'l3'"):
        nearest_neighbors.nearest(few, few, 1, "l3")
    with pytest.raises(ValueError, match="--folds"):
        nearest_neighbors.cross_validate(few, torch.zeros(3).long(), (1,), 1, "l2", 1.0, torch.Generator())


# ---- linear classifiers -------------------------------------------------------------------------------------


def test_losses_of_the_course():
    """Cat, car, frog of CS231n's lecture 3: scores, hinge losses 2.9, 0 and 12.9, softmax 2.04 for the first."""
    scores = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])
    shares = losses.targets(torch.arange(3), 3)
    single = [losses.hinge(scores[i : i + 1], shares[i : i + 1]).item() for i in range(3)]
    assert single == pytest.approx([2.9, 0, 12.9], abs=1e-5)
    assert losses.cross_entropy(scores[:1], shares[:1]).item() == pytest.approx(2.04, abs=5e-3)


@pytest.mark.parametrize("method", ["svm", "softmax"])
def test_gradients_against_closed_formulas_and_numbers(method):
    torch.manual_seed(0)
    model = classical.build(Config(method=method), 4, 3).double()
    inputs, labels = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 2, 1, 0])
    shares = losses.targets(labels, 3).double()
    loss = losses.hinge if method == "svm" else losses.cross_entropy
    torch.nn.init.normal_(model.weight)
    loss(model(inputs), shares).backward()
    scores = model(inputs).detach()
    if method == "softmax":
        slope = scores.softmax(1) - shares
    else:
        slope = ((scores - (scores * shares).sum(1, keepdim=True) + 1 > 0) & (shares == 0)).double()
        slope -= shares * slope.sum(1, keepdim=True)
    torch.testing.assert_close(model.weight.grad, slope.T @ inputs / 6)
    torch.testing.assert_close(model.bias.grad, slope.mean(0))
    for place in [(0, 0), (1, 3), (2, 1)]:
        sides = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                model.weight[place] += step
                sides.append(loss(model(inputs), shares).item())
                model.weight[place] -= step
        assert model.weight.grad[place].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-8)


def test_a_diverging_fit_says_so_and_a_search_goes_on(shapes):
    config = dataclasses.replace(recipe(Config(method="two-layer")), learning_rate=1e9, epochs=2, hidden=8)
    some = classical.Inputs(data.Labeled(*(field[:400] for field in shapes.train)), config, "cpu", None)
    with pytest.raises(ValueError, match="try a smaller --learning-rate"):
        classical.fit(config, some, some, 10)
    tries = classical.search(dataclasses.replace(config, search=1, search_epochs=1), some, some, 10)
    assert len(tries) == 2 and tries[0]["learning_rate"] == 1e9 and 1e8 <= tries[1]["learning_rate"] <= 1e10


# ---- features -----------------------------------------------------------------------------------------------


def edge(across: float, down: float) -> torch.Tensor:
    """A ramp of light, (1, 1, 16, 16) uint8, that rises by so much a pixel to the right and downwards."""
    place = torch.arange(16.0) - 7.5
    return (128 + across * place + down * place[:, None]).round().byte()[None, None]


@pytest.mark.parametrize(
    "image, bin",
    [
        (edge(4, 0), 0),
        (edge(-4, 0), 0),
        (edge(4, 4), 2),
        (edge(0, 4), 4),
        (edge(0, -4), 4),
        (edge(-4, 4), 6),
        (edge(8, -2), 8),
    ],
)
def test_gradients_fall_into_their_bins(image, bin):
    """0, 45, 90, 135 and 166 degrees, where a bin has 20."""
    inner = features.hog(image).unflatten(1, (9, 2, 2))[0, :, 0, 0]  # of the cell that has no border of the image
    assert inner.argmax().item() == bin and inner[bin] == inner.sum()
    across, down = (image[0, 0].float() / 255).diff(dim=1)[:8, :8], (image[0, 0].float() / 255).diff(dim=0)[:8, :8]
    assert inner[bin].item() == pytest.approx(torch.hypot(across, down).mean().item(), rel=1e-5)


def test_an_edge_by_hand():
    """Black left of column 12, white from there: a gradient of 1 in column 11, which is 8 of a cell's 64 pixels."""
    image = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    image[0, :, :, 12:] = 255
    found = features.hog(image).unflatten(1, (9, 4, 4))
    expected = torch.zeros(2, 9, 4, 4)
    expected[0, 0, :, 1] = 8 / 64
    torch.testing.assert_close(found, expected)
    assert features.extract(image, "hog+color").shape == (2, 9 * 16 + 10)


def test_hues_of_pure_colors():
    """A bin has 36 degrees: yellow's hue is 60, lime's 120, cyan's 180, blue's 240, magenta's 300."""
    for name, bin in {"red": 0, "yellow": 1, "lime": 3, "cyan": 5, "blue": 6, "magenta": 8, "gray": 0}.items():
        image = (torch.tensor(to_rgb(name)) * 255).byte()[None, :, None, None].expand(1, 3, 4, 4)
        assert features.hue_histogram(image).tolist() == [[float(k == bin) for k in range(10)]], name
    half = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    half[:, 2, :2] = 200  # dark blue above, black below
    assert features.hue_histogram(half)[0, [0, 6]].tolist() == [0.5, 0.5]


def test_hues_as_matplotlib_has_them():
    images = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    hue = rgb_to_hsv(images.movedim(1, -1).numpy() / 255)[..., 0]
    expected = [np.histogram(each, 10, (0, 1))[0] / 64 for each in hue]
    np.testing.assert_allclose(features.hue_histogram(images).numpy(), np.stack(expected), atol=0.02)


def test_errors_of_features():
    with pytest.raises(ValueError, match="have no hue: use --features pixels or hog"):
        features.extract(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "color")
    with pytest.raises(ValueError, match="smaller than a cell of 8"):
        features.extract(torch.zeros(1, 1, 7, 28, dtype=torch.uint8), "hog")
    with pytest.raises(ValueError, match="unknown features 'sift'"):
        features.extract(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), "sift")


def test_scales():
    scale = Standardization((2,), "image", "each").fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert scale(torch.tensor([[3.0, 5.0], [4.0, 6.0]])).tolist() == [
        [1, 0],
        [2, 1],
    ]  # what never changes keeps its unit
    pixels = Standardization((2,), "image", "all").fit(torch.tensor([[0, 7], [8, 7]], dtype=torch.uint8))
    assert (255 * pixels.mean).tolist() == pytest.approx([4, 7])
    assert 255 / pixels.inverse.item() == pytest.approx(math.sqrt(8))


# ---- programs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shapes():
    return data.Sets(*(drawn_shapes.draw(count, seed=seed) for seed, count in enumerate((5_000, 500, 1_000))), DRAWN)


@pytest.fixture
def run(tmp_path, monkeypatch, shapes):
    """Runs the program with some flags on drawn shapes, fewer than --data shapes has, and reads its result."""
    monkeypatch.setattr(data, "load", lambda name, folder: shapes)

    def run(**changed) -> dict:
        asked = Config(method=changed.get("method", "softmax"), features=changed.get("features", "pixels"))
        config = dataclasses.replace(recipe(asked), folder=tmp_path, device="cpu", threads=1, **changed)
        classical.main(config)
        (path,) = tmp_path.rglob("result.json")
        return json.loads(path.read_text()) | {"files": sorted(each.name for each in path.parent.iterdir())}

    return run


def test_neighbors_learn_shapes(run):
    result = run(method="knn", features="hog", neighbors=(1, 10, 30), fold_images=500)
    assert result["files"] == ["k.png", "result.json"]
    assert result["examples"] == 5_500 and result["test"] > 12  # chance is 10
    folds = result["cross_validation"]
    assert set(folds) == {"1", "10", "30"} and all(len(scores) == 5 for scores in folds.values())
    best = max(folds, key=lambda k: sum(folds[k]))
    assert result["chosen"] == {"k": int(best)}


def test_a_net_on_gradients_learns_shapes(run):
    result = run(method="two-layer", features="hog", epochs=8, hidden=200)
    assert result["files"] == ["result.json"]
    assert result["test"] > 22 and result["curve"][-1]["loss"] < result["curve"][0]["loss"]
    assert (
        result["command"].startswith("python -m vision.classification.classical")
        and result["hardware"]["device"] == "cpu"
    )


def test_a_linear_classifier_is_searched_and_drawn(run):
    result = run(method="svm", search=2, search_epochs=1, epochs=1, images=1_000)
    assert result["files"] == ["result.json", "search.png", "templates.png"]
    best = max(result["search"], key=lambda tried: tried["validation"])
    assert result["chosen"] == {key: best[key] for key in ("learning_rate", "decay")}
    assert len(result["search"]) == 3


def test_the_same_seed_gives_the_same_result(run):
    first, again = (run(method="two-layer", images=600, epochs=2, hidden=20, dropout=0.5) for _ in range(2))
    assert first["curve"] == again["curve"] and first["test"] == again["test"]


def test_templates_are_drawn_whole(tmp_path):
    weight = torch.randn(3, 1, 6, 6)
    seen = plots.visible(weight)
    assert seen.amin((1, 2, 3)).tolist() == [0, 0, 0] and seen.amax((1, 2, 3)).tolist() == [1, 1, 1]
    plots.draw_templates(weight, ("a", "b", "c"), tmp_path / "few.png")
    plots.draw_templates(torch.randn(120, 3, 6, 6), None, tmp_path / "many.png")
    assert Image.open(tmp_path / "many.png").size[0] > Image.open(tmp_path / "few.png").size[0]


def test_recipes():
    assert recipe(Config(data="cifar10", method="two-layer")).flip
    assert not recipe(Config(data="mnist", method="two-layer")).flip  # a mirrored 3 is none
    assert recipe(Config(method="svm")).learning_rate != recipe(Config(method="svm", features="hog")).learning_rate


def test_too_many_images_are_refused():
    with pytest.raises(ValueError, match="cannot take 99 of 10 training images with --images"):
        part = data.Labeled(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.zeros(10).long())
        classical.subsample(data.Sets(part, part, part, ("a",)), 99, 1)


def test_flags_that_ask_for_nothing_are_refused(run):
    with pytest.raises(ValueError, match="--neighbors of 1 or more"):
        run(method="knn", neighbors=(0, 1))
    with pytest.raises(ValueError, match="nothing is learned in 0 epochs"):
        run(epochs=0)
