"""Studies of classification: range test, grid and random, ablation, architecture search, transfer, retrieval."""

import dataclasses
import json
import random

import pytest
import torch

from runs.files import RunError
from vision import backbones, data
from vision.backbones import cells
from vision.classification import (
    ablation_study,
    architecture_search,
    classifier,
    features,
    grid_and_random,
    rate_range,
    retrieval,
    short_fit,
    stage_features,
    stage_probe,
    transfer_study,
)
from vision.classification import train as classification
from vision.data import shapes as drawn_shapes
from vision.training import sampling

SMALL = dict(data="shapes", backbone="small", stem="cifar", steps=256, batch=64, threads=1, device="cpu")


@pytest.fixture(autouse=True)
def shapes(monkeypatch):
    sets = data.Sets(
        *(drawn_shapes.draw(n, side=16, seed=part) for part, n in enumerate((320, 100, 100))),
        tuple(drawn_shapes.SHAPES),
    )
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: sets)
    return sets


# Short trainings and their file


def test_a_short_fit_is_the_programs_training(tmp_path, shapes):
    """The same weights as a run of vision.classification by the same flags."""
    config = classification.Config(
        **SMALL, folder=tmp_path, wandb="disabled", evaluate_every=256, augment="flip", mixup=0.2, test=False,
        max_weight_norm=1.0, schedule="halve", halve_every=0.4,
    )  # fmt: skip
    classification.train(config)
    saved = max((tmp_path / "shapes" / "classification-1" / "checkpoint").glob("0*.pt"))
    whole = torch.load(saved, weights_only=True)["parts"]["model"]
    model, losses = short_fit.fit(config, shapes, torch.device("cpu"))
    assert len(losses) == 4 and all(torch.equal(value, whole[key]) for key, value in model.state_dict().items())
    lengths = [weight.flatten(1).norm(dim=1).max() for weight in model.parameters() if weight.dim() > 1]
    assert max(lengths) <= 1 + 1e-5


def test_rows_survive_being_cut(tmp_path):
    path = tmp_path / "deep" / "rows.jsonl"
    assert short_fit.rows(path) == []
    short_fit.append(path, {"a": 1, "b": 2})
    short_fit.append(path, {"a": 2, "b": 2})
    with open(path, "a") as file:
        file.write('{"a": 3, "b"')  # killed while it wrote
    assert short_fit.rows(path, {"a": 2}) == [{"a": 2, "b": 2}]
    short_fit.append(path, {"a": 4})
    assert [row["a"] for row in short_fit.rows(path)] == [1, 2, 4]
    for damage in ("[1]\n", '{"a": \n', "\x00\n"):
        path.write_text('{"a": 1}\n' + damage)
        with pytest.raises(ValueError, match="rows.jsonl, line 2, is no result: remove the line"):
            short_fit.rows(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunError, match="could not write .*rows.jsonl: Is a directory"):
        short_fit.rows(path)


# Range test, grid and random


def test_range_test_by_hand():
    """A loss that falls until a rate of 0.1, fastest at about 0.01, and explodes after it."""
    logs = torch.linspace(-4, 0, 81)
    losses = 1 - torch.sigmoid((logs + 2) * 4) + 5 * (logs + 1).clamp(min=0) ** 2
    found = rate_range.read_off(10**logs, losses, 0.0)
    assert found.steepest == pytest.approx(0.01, rel=0.13) and found.tenth == pytest.approx(0.01, rel=0.3)
    assert torch.allclose(rate_range.smooth(torch.tensor([1.0, 3.0]), 0.5), torch.tensor([1.0, 7 / 3]).double())
    with pytest.raises(ValueError, match="finite for 1 updates"):
        rate_range.read_off(10**logs, torch.tensor([1.0, torch.nan, 1.0]), 0.9)


def test_range_test_ends_where_the_loss_explodes(tmp_path):
    config = rate_range.Config(**SMALL, updates=40, lowest=1e-3, highest=1e4, out=tmp_path / "rates.png")
    found = rate_range.main(config)
    assert len(found.rates) < 40 and found.rates[0] == pytest.approx(1e-3)
    assert found.rates[3] / found.rates[2] == pytest.approx(1e7 ** (1 / 39), rel=1e-6)
    assert (tmp_path / "rates.png").stat().st_size > 5_000
    with pytest.raises(ValueError, match="--highest 0.001 is not above"):
        rate_range.main(dataclasses.replace(config, highest=1e-3))


def test_grid_and_random_points():
    points = grid_and_random.grid(2, (1e-4, 1.0), (1e-2, 1.0))
    assert [(round(x, 6), round(y, 4)) for x, y in points] == [
        (0.001, 0.0316), (0.001, 0.3162), (0.1, 0.0316), (0.1, 0.3162)
    ]  # fmt: skip
    drawn = grid_and_random.draw_points(9, (1e-4, 1.0), (1e-2, 1.0), 1)
    assert len({x for x, _ in drawn}) == 9 and all(1e-4 <= x <= 1 and 1e-2 <= y <= 1 for x, y in drawn)


def test_grid_and_random_goes_on_where_it_was(tmp_path, monkeypatch):
    config = grid_and_random.Config(**SMALL, side=2, repeats=1, out=tmp_path / "both.png")
    first = grid_and_random.main(config)
    assert first.keys() == {"grid", "random 1"} and (tmp_path / "both.png").stat().st_size > 5_000
    page = (tmp_path / "both.md").read_text()
    assert all(f"{best:.2f}%" in page for best in first.values()) and "![Grid against random search" in page
    assert "    python -m vision.classification.grid_and_random" in page and ", commit " in page
    monkeypatch.setattr(short_fit, "fit", None)  # nothing is left to fit
    assert grid_and_random.main(config) == first
    with pytest.raises(ValueError, match="no range above 0"):
        grid_and_random.main(dataclasses.replace(config, rates=(1.0, 0.1)))


# Ablation


def test_ablation_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    asked = ablation_study.Config(**SMALL | {"steps": 64}, shots=10, seeds=2, out=tmp_path / "ablation.png")
    config = dataclasses.replace(asked, only="dropout,flip,average pool,stochastic pool", backbone="lenet5")
    ablation_study.main(config)
    said = capsys.readouterr().out
    rows = short_fit.rows(tmp_path / "ablation.jsonl")
    assert len(rows) == 10 and {row["seed"] for row in rows} == {1, 2}
    assert [row["variation"] for row in rows[:5]] == [
        "baseline",
        "dropout",
        "average pool",
        "stochastic pool",
        "flip",
    ]
    assert "to the baseline +0.00 ± 0.00" in said and (tmp_path / "ablation.png").stat().st_size > 5_000
    by_seed = {(row["variation"], row["seed"]): row["accuracy"] for row in rows}
    worth = ablation_study.summary(ablation_study.study(config, torch.device("cpu")))
    mean = (by_seed["flip", 1] - by_seed["baseline", 1] + by_seed["flip", 2] - by_seed["baseline", 2]) / 2
    assert worth["flip"].difference[0] == pytest.approx(mean) and worth["baseline"].difference == (0, 0)
    page = (tmp_path / "ablation.md").read_text()
    assert "| flip | augmentation | `--augment flip` |" in page and f"{mean:+.2f} ± " in page
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert len(record["trials"]) == 10 and record["trials"][0].keys() >= {"variation", "seed", "accuracy"}
    assert record["command"].startswith("python -m vision.classification.ablation_study") and record["hardware"]
    no_pool = dataclasses.replace(config, only="average pool", backbone="small", seeds=1, out=tmp_path / "x.png")
    ablation_study.main(no_pool)
    assert "average pool: left out: small cannot be built" in capsys.readouterr().out
    monkeypatch.setattr(short_fit, "fit", None)  # nothing is left to fit
    ablation_study.main(config)
    with pytest.raises(ValueError, match="unknown variation 'dropuot': did you mean 'dropout'"):
        ablation_study.main(dataclasses.replace(config, only="dropuot"))
    with pytest.raises(ValueError, match="no --part 2 of 2"):
        ablation_study.main(dataclasses.replace(config, part=2, parts=2))


def test_ablation_has_every_choice(capsys):
    recipe = ablation_study.recipe(ablation_study.Config(data="shapes"))
    ablation_study.main(dataclasses.replace(recipe, list=True))
    said = capsys.readouterr().out
    every = ablation_study.variations(recipe)
    assert recipe.backbone == "lenet5" and recipe.augment == "none" and recipe.weight_decay == 0
    assert all(name in said for name in every) and len(every) > 40
    for name, flags in every.items():
        if name != "baseline":
            assert any(getattr(recipe, key) != value for key, value in flags.items()), name
    halves = [list(ablation_study.trials(dataclasses.replace(recipe, parts=2, part=part))) for part in (0, 1)]
    assert len(halves[0]) + len(halves[1]) == 3 * len(every)


def test_every_variation_of_the_ablation_is_trained(shapes):
    """One update of each by its flags."""
    recipe = ablation_study.recipe(ablation_study.Config(data="shapes"))
    plain = dataclasses.replace(recipe, width=0.25, batch=20, steps=20, device="cpu")
    for name, flags in ablation_study.variations(plain).items():
        model, losses = short_fit.fit(dataclasses.replace(plain, **flags), shapes, torch.device("cpu"))
        assert losses.isfinite().all(), name
        dropped = {module.p for module in model.backbone.modules() if isinstance(module, torch.nn.Dropout)}
        assert dropped == {flags.get("body_dropout", 0.0)}, name


# Architecture search


def test_cells_by_hand():
    text = "conv3|none,conv1|skip,none,pool"
    assert cells.text(cells.parse(text)) == text
    assert cells.live(cells.parse(text)) == [(0, 1), (1, 2), (0, 3), (2, 3)]
    assert cells.live(cells.parse("none|none,conv1|none,none,skip")) == []  # no path from the input
    assert cells.live(cells.parse("conv3|none,none|skip,none,none")) == [(0, 3)]  # node 1 leads nowhere
    torch.manual_seed(0)
    backbone = backbones.build("cell_network", (3, 16, 16), cell="none|none,none|skip,none,none", width=0.5)
    assert not any("conv3" in name for name, _ in backbone.named_modules())
    x = torch.rand(2, 3, 16, 16)
    maps = backbone.eval()(x)
    assert torch.equal(maps[0], backbone.stages[0][:3](x))  # the cell is the identity
    pooled = cells.Cell(4, cells.parse("none|none,none|pool,none,none"), cells.CellOptions())
    assert pooled(torch.full((1, 4, 5, 5), 3.0)).unique().item() == 3  # a mean of what is inside
    for wrong, said in {"conv3": "nodes with 1, 2 and 3", "conv5|skip,skip|skip,skip,skip": "'conv5' is no"}.items():
        with pytest.raises(ValueError, match=said):
            cells.parse(wrong)
    generator = random.Random(0)
    for _ in range(50):
        cell = cells.draw_cell(generator)
        child = cells.mutate(cell, generator)
        changed = sum(a != b for a, b in zip(cells.parse(cell).values(), cells.parse(child).values(), strict=True))
        assert changed == 1 and cells.live(cells.parse(child))


def test_evolution_lets_the_oldest_die_and_changes_the_best(monkeypatch):
    """On a worth that counts conv3 edges, evolution finds a better cell than it began with and than random search."""
    worth = {name: number for number, name in enumerate(("none", "pool", "skip", "conv1", "conv3"))}
    config = architecture_search.Config(population=8, sample=3)
    found = {"random": [], "evolution": []}
    for seed in range(5):
        generator = random.Random(seed)
        for method, proposals in (
            ("evolution", architecture_search.evolution(config, generator)),
            ("random", architecture_search.drawing(generator)),
        ):
            cell, values = next(proposals), []
            for _ in range(60):
                values.append(sum(worth[name] for name in cells.parse(cell).values()))
                cell = proposals.send(float(values[-1]))
            found[method].append((max(values[:8]), max(values)))
    assert all(last > first for first, last in found["evolution"])
    best = [sum(last for _, last in found[method]) for method in ("random", "evolution")]
    assert best[0] < best[1]


@pytest.mark.slow
def test_architecture_search_ends_with_a_backbone(tmp_path, monkeypatch):
    asked = dict(SMALL, backbone="cell_network", width=0.25, learning_rate=0.1)
    config = architecture_search.Config(**asked, trials=3, population=2, sample=2, seeds=1, out=tmp_path / "nas.png")
    first = architecture_search.main(config)
    rows = short_fit.rows(tmp_path / "nas.jsonl")
    assert 3 <= len(rows) <= 6 and first.keys() == {"random", "evolution"}
    backbone = backbones.load(tmp_path / "nas.safetensors")
    assert backbone.spec["name"] == "cell_network" and backbone.spec["cell"] in {row["cell"] for row in rows}
    assert (tmp_path / "nas.png").stat().st_size > 5_000
    page = (tmp_path / "nas.md").read_text()
    assert (
        f"| {first['evolution'][0]:.2f}% |" in page and "Evolution's best is better than the best of as many" in page
    )
    assert architecture_search.main(config) == first
    assert short_fit.rows(tmp_path / "nas.jsonl") == rows


# Features, retrieval, transfer


def test_probes_and_retrieval(tmp_path, shapes, capsys):
    found = stage_probe.main(
        stage_probe.Config("small", shots=10, images=50, epochs=2, device="cpu", threads=1, out=tmp_path / "s.png")
    )
    assert len(found["shapes"]) == 2 and (tmp_path / "s.png").stat().st_size > 5_000
    assert f"| shapes | 2 | 32 at 8 x 8 | {found['shapes'][1]:.2f}% |" in (tmp_path / "s.md").read_text()
    common = dict(device="cpu", threads=1, evaluate=40, out=tmp_path / "r.png", neighbors=3, queries=3)
    measured = retrieval.main(retrieval.Config("small", **common))
    assert 0 <= measured <= 100 and (tmp_path / "r.png").stat().st_size > 5_000
    assert retrieval.precision(torch.tensor([[1, 2], [3, 3]]), torch.tensor([1, 3])) == 75
    assert sampling.one_of_each(torch.tensor([2, 0, 0, 1, 2]), 4).tolist() == [1, 3, 0, 2]
    with pytest.raises(ValueError, match="no --stage 2 of 2: from 0 to 1"):
        retrieval.main(retrieval.Config("small", stage=2, **common))
    backbone = stage_features.load("small", (3, 16, 16))
    one, two = stage_features.extract(backbone, shapes.test.images[:3], side=2)
    assert one.shape == (3, 16 * 4) and two.shape == (3, 32 * 4)
    maps = backbone(shapes.test.images[:3])
    assert torch.allclose(one.view(3, 16, 2, 2)[:, :, 0, 0], maps[0][:, :, :8, :8].mean((2, 3)), atol=1e-5)
    backbones.save(backbone, tmp_path / "backbone.safetensors")  # as the features of classical classifiers too
    vectors = features.extract(shapes.test.images[:3], str(tmp_path / "backbone.safetensors"))
    assert torch.allclose(vectors, maps[-1].mean((2, 3)), atol=1e-5)


def test_saved_backbones_read_gray_and_color_images(tmp_path):
    """airbench: its first convolution has as many filters as a patch has numbers, and cannot be adapted."""
    torch.manual_seed(0)
    path = tmp_path / "backbone.safetensors"
    backbones.save(backbones.build("airbench", (3, 32, 32), width=0.25), path)
    gray = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    one, three = (features.extract(images, str(path)) for images in (gray, gray.expand(-1, 3, -1, -1)))
    assert torch.equal(one, three)
    color = torch.tensor([10, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    assert stage_features.with_channels(color, 1).item() == round(0.299 * 10 + 0.587 * 100 + 0.114 * 200)
    with pytest.raises(ValueError, match="2 channels cannot be converted to 3"):
        stage_features.with_channels(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), 3)


def test_a_query_finds_itself(shapes):
    found = retrieval.embed(retrieval.Config("pixels"), shapes.test.images, torch.device("cpu"))
    _, index = retrieval.nearest_neighbors.nearest(found[:5], found, 1)
    assert index.flatten().tolist() == [0, 1, 2, 3, 4]


def test_classes_are_reused_by_their_names():
    torch.manual_seed(0)
    old, new = (classifier.build("lenet5", (3, 16, 16), n) for n in (3, 4))
    before = new.head.state_dict()["classifier.3.weight"].clone()
    assert classifier.reuse_classes(new, old, ("cat", "ship", "dog", "car"), ("dog", "cat", "bird")) == ["cat", "dog"]
    after, given = new.head.state_dict(), old.head.state_dict()
    assert torch.equal(after["classifier.0.weight"], given["classifier.0.weight"])
    assert torch.equal(after["classifier.3.weight"][[0, 2]], given["classifier.3.weight"][[1, 0]])
    assert torch.equal(after["classifier.3.bias"][2], given["classifier.3.bias"][0])
    assert torch.equal(after["classifier.3.weight"][[1, 3]], before[[1, 3]])
    with pytest.raises(ValueError, match="none of the classes"):
        classifier.reuse_classes(new, old, ("a", "b", "c", "d"), ("dog", "cat", "bird"))
    other = classifier.build("small", (3, 16, 16), 3)
    with pytest.raises(ValueError, match="the heads differ at"):
        classifier.reuse_classes(new, other, ("cat", "ship", "dog", "car"), ("dog", "cat", "bird"))


def test_a_run_hands_on_its_classes(tmp_path, shapes, monkeypatch):
    """A run on all ten shapes, and one on five of them that starts with the first's classifier weights."""
    common = dict(SMALL, folder=tmp_path, wandb="disabled", evaluate_every=256, test=False)
    classification.train(classification.Config(**common))
    keep = (0, 2, 4, 6, 8)
    parts = [data.Labeled(*(field[part.labels % 2 == 0] for field in part)) for part in shapes[:3]]
    five = data.Sets(
        *(data.Labeled(part.images, part.labels // 2) for part in parts), tuple(shapes.classes[i] for i in keep)
    )
    folder = str(tmp_path / "shapes" / "classification-1")
    trained = classification.load(folder).models[0].head.state_dict()
    config = classification.Config(**common | dict(backbone=folder, stem=None, reuse_classes=True))
    model = classification.prepare(config, five, torch.device("cpu"))
    weight = model.head.state_dict()["fc.weight"]
    assert torch.equal(weight, trained["fc.weight"][list(keep)])


def test_transfer_study_has_every_way_in_every_case(tmp_path, shapes, capsys):
    torch.manual_seed(0)
    file = tmp_path / "backbone.safetensors"
    backbones.save(backbones.build("small", (3, 16, 16), stem="cifar"), file)
    config = transfer_study.Config(
        str(file), similar="shapes", different="shapes", little=5, much=10, steps=64, batch=32, seeds=1, images=50,
        device="cpu", threads=1, out=tmp_path / "transfer.png",
    )  # fmt: skip
    table = transfer_study.main(config)
    assert list(table) == ["little, similar", "much, similar", "little, different", "much, different"]
    assert all(figures.keys() == set(transfer_study.WAYS) for figures in table.values())
    assert (tmp_path / "transfer.png").stat().st_size > 5_000
    rows = [json.loads(line) for line in (tmp_path / "transfer.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all(row["accuracy"]["stage"] == 1 for row in rows)
    line = " | ".join(f"{table['much, different'][way]:.2f}" for way in transfer_study.WAYS)
    assert f"| much, different | shapes, 10 a class | {line} | 1 |" in (tmp_path / "transfer.md").read_text()
    assert transfer_study.main(config) == table
