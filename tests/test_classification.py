"""vision.classification: its learning, its resume, its transfer, its sanity checks; search, folds and ensembles."""

import dataclasses
import json
import math
import signal
from pathlib import Path

import pytest
import torch
import tyro
from PIL import Image

import runs
from agents import dqn
from agents.config import build_backbone
from runs.sweep import engine, plan, preview
from tests.test_sweep import Pretended
from vision import backbones, data
from vision.classification import checks, classifier, ensembles, search
from vision.classification import train as classification
from vision.data import shapes as drawn_shapes
from vision.training import losses, sampling

SMALL = dict(backbone="airbench", width=0.125, whiten=True, learning_rate=0.4, weight_decay=1e-3)


@pytest.fixture(autouse=True)
def gradients_are_left_as_they_were():
    flags = torch.is_grad_enabled()
    yield
    assert torch.is_grad_enabled() == flags


@pytest.fixture(scope="module")
def drawings():
    sizes = (2_000, 400, 400)
    return data.Sets(
        *(drawn_shapes.draw(n, side=16, seed=part) for part, n in enumerate(sizes)), tuple(drawn_shapes.SHAPES)
    )


@pytest.fixture(autouse=True)
def shapes(drawings, monkeypatch):
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: drawings)
    return drawings


def config(folder, **changes):
    asked = dict(data="shapes", folder=folder, wandb="disabled", threads=1, steps=1_024, evaluate_every=512)
    return classification.Config(**asked | dict(log_every=512, augment="flip,crop=1") | SMALL | changes)


def train(folder, **changes) -> Path:
    settings = config(folder, **changes)
    classification.train(settings)
    return folder / "shapes" / (settings.name or f"classification-{settings.seed}")


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def outcome(run: Path) -> dict:
    (found,) = (line for line in lines(run) if "test/error" in line)
    return found


def weights(run: Path, part: str = "model") -> dict:
    return torch.load(max((run / "checkpoint").glob("0*.pt")), weights_only=True)["parts"][part]


# Batches


def test_every_epoch_shows_every_image_once():
    cpu = torch.device("cpu")
    first, second = (
        torch.cat([sampling.batch_indices(50, step, 10, 1, cpu) for step in range(begin, begin + 50, 10)])
        for begin in (0, 50)
    )
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not torch.equal(first, second)


def test_folds_share_out_all_images(shapes):
    parts = [sampling.subset(shapes, fold=fold, folds=4) for fold in range(4)]
    assert all(len(part.validation.labels) == 600 and len(part.train.labels) == 1_800 for part in parts)
    total = sum(part.validation.images.double().sum() for part in parts)
    assert total == sum(part.images.double().sum() for part in shapes[:2])
    with pytest.raises(ValueError, match="no fold 4 of 4"):
        sampling.subset(shapes, fold=4, folds=4)


def test_shots_are_as_many_of_each_class(shapes):
    few = sampling.subset(shapes, shots=7)
    assert torch.bincount(few.train.labels).tolist() == [7] * 10
    assert not torch.equal(few.train.images, sampling.subset(shapes, shots=7, seed=2).train.images)
    with pytest.raises(ValueError, match="fewer than --shots 900"):
        sampling.subset(shapes, shots=900)


# Learning


def test_samples_are_drawn_from_all_classes(shapes):
    labels, rows = shapes.train.labels.sort()
    ordered = data.Labeled(shapes.train.images[rows], labels)  # as those of a folder
    few = sampling.sample(ordered, 100, seed=1)
    assert few.labels.unique().tolist() == labels.unique().tolist() and len(few.images) == 100
    assert torch.equal(few.labels, sampling.sample(ordered, 100, seed=1).labels)
    assert sampling.sample(ordered, 0, seed=1) is ordered is sampling.sample(ordered, len(labels), seed=1)


def test_learns_shapes(tmp_path, monkeypatch):
    """Ten shapes at any place, of any color, from 4,000 drawings that are each seen twice."""
    sets = data.Sets(
        *(drawn_shapes.draw(n, seed=part) for part, n in enumerate((4_000, 400, 400))), tuple(drawn_shapes.SHAPES)
    )
    monkeypatch.setitem(data.SETS, "shapes", lambda folder: sets)
    found = outcome(train(tmp_path, steps=8_000, evaluate_every=8_000, width=0.25, augment="flip", views=2))
    assert found["test/error"] < 65, found  # 90 by chance
    assert found["test/images"] == 400 and found["test/error_2"] < 65
    folder = tmp_path / "shapes" / "classification-1"
    assert (folder / "backbone.safetensors").exists()
    assert json.loads((folder / "config.json").read_text())["score"] == {
        "metric": "eval/error",
        "better": "min",
        "unit": "%",
    }
    words = {word for line in lines(folder) for word in line}
    assert {word for word in words if word.startswith("eval/")} == {"eval/error", "eval/loss", "eval/images"}


@pytest.mark.parametrize(
    "changes",
    [
        dict(ema_decay=0.9, schedule="plateau", drop_after=1, mixup=0.2, views=10),
        dict(optimizer="adam", learning_rate=1e-3, loss="hinge", dropout=0.5, dropconnect=0.2, l1=1e-5),
        dict(center="image", scale="all", whitening="zca", layers_every=256, init="xavier_uniform,bias=0.01"),
    ],
    ids=["plateau", "adam", "whitened"],
)
def test_resume_is_exact(tmp_path, monkeypatch, changes):
    whole = train(tmp_path, name="whole", **changes)
    steps = runs.Run.steps

    def interrupted(run, total, stride=1):
        for step in steps(run, total, stride):
            if step == 640:
                signal.raise_signal(signal.SIGTERM)
            yield step

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(runs.Run, "steps", interrupted)
        train(tmp_path, name="halves", **changes)
    torch.manual_seed(123)
    halves = train(tmp_path, name="halves", **changes)
    assert (whole / "metrics.jsonl").read_text() == (halves / "metrics.jsonl").read_text()
    for part in ("model", "averaged"):
        ends = [weights(run, part) for run in (whole, halves)]
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_streamed_images_are_the_same(tmp_path, shapes):
    for part in ("train", "val", "test"):
        for number in range(40):
            image, label = (field[number] for field in shapes.train)
            place = tmp_path / "pictures" / part / shapes.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number}.png")
    asked = dict(data=str(tmp_path / "pictures"), size=16, batch=16, steps=96, augment="flip,cutout=4")
    for name, stream in (("whole", False), ("streamed", True)):
        classification.train(config(tmp_path, name=name, stream=stream, **asked))
    whole, streamed = (weights(tmp_path / "pictures" / name) for name in ("whole", "streamed"))
    assert all(torch.equal(weight, streamed[key]) for key, weight in whole.items())
    with pytest.raises(ValueError, match="leave out --stream"):
        classification.train(config(tmp_path, name="few", stream=True, shots=1, **asked))


def test_stops_early(tmp_path):
    run = train(tmp_path, steps=100_000, evaluate_every=256, stop_after=2, learning_rate=1e-9, augment="none")
    found = [line["eval/error"] for line in lines(run) if "eval/error" in line]
    assert 3 <= len(found) < 20 and min(found[-2:]) >= min(found[:-2])
    assert (run / "finished.json").exists() and outcome(run)


def test_what_penalties_do(tmp_path):
    free, bound = (
        weights(train(tmp_path, name=str(l2), l2=l2, weight_decay=0.0, learning_rate=0.05)) for l2 in (0.0, 0.5)
    )
    name = "backbone.stages.2.4.weight"
    assert bound[name].norm() < 0.9 * free[name].norm()


def test_auxiliary_heads_learn_too(shapes):
    settings = dataclasses.replace(classification.Config(), backbone="googlenet", width=None)
    model = classifier.build("googlenet", (3, 64, 64), 10)
    shares = losses.targets(torch.arange(2), 10)
    loss, logits = classification.objective(settings, model, torch.rand(2, 3, 64, 64), shares)
    loss.backward()
    assert logits.shape == (2, 10) and all(weight.grad is not None for weight in model.head.parameters())


def test_recipes_and_their_errors():
    assert classification.recipe(classification.Config(data="mnist")).backbone == "airbench"
    assert classification.recipe(classification.Config(data="cifar10", backbone="resnet18")).batch == 128
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        classification.recipe(classification.Config(data="cifar_10"))
    rates = {
        loss: classification.recipe(classification.Config(data="shapes", backbone="mlp", loss=loss)).learning_rate
        for loss in losses.LOSSES
    }
    assert rates == pytest.approx({"cross_entropy": 0.1, "hinge": 0.01, "squared_hinge": 0.002})
    model = classification.build(classification.Config(backbone="resnet20"), (3, 32, 32), 10)
    assert model.backbone.spec["stem"] == "cifar"
    with pytest.raises(ValueError, match="fewer than --batch"):
        classification.train(config(Path("nowhere"), shots=5))
    for alone in (dict(schedule="snapshots"), dict(snapshots=3)):
        with pytest.raises(ValueError, match="--schedule snapshots and --snapshots M"):
            classification.Config(**alone).validate()


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_the_recipe_fits_the_loss(tmp_path, loss):
    """Each loss starts without diverging on a dense network at its recipe's rate, and falls."""
    numbers = classification.recipe(classification.Config(backbone="mlp", loss=loss))
    where = dict(folder=tmp_path, threads=1, wandb="disabled")
    classification.train(dataclasses.replace(numbers, **where, steps=6_000, evaluate_every=6_000, log_every=2_000))
    run = tmp_path / "shapes" / "classification-1"
    found = [line["loss/train"] for line in lines(run) if "loss/train" in line]
    assert found[-1] < losses.at_chance(loss, 10)


# Transfer


def test_transfers_the_backbone_of_a_run(tmp_path):
    first = train(tmp_path, name="first")
    plain = dict(width=None, whiten=False, backbone=str(first))
    second = train(tmp_path, name="second", train="head", **plain)
    backbone = [weights(run) for run in (first, second)]
    best = backbones.load(first).state_dict()
    assert all(torch.equal(value, backbone[1][f"backbone.{key}"]) for key, value in best.items())
    third = weights(train(tmp_path, name="third", train="last-1", layer_decay=0.5, **plain))
    moved = {key.split(".")[1] for key, value in best.items() if not torch.equal(value, third[f"backbone.{key}"])}
    assert moved == {"2"}


def test_transfers_the_backbone_of_an_agent(tmp_path):
    """Those of DQN on frames of one channel, by the file that it leaves, fitted to three."""
    backbone = backbones.build("small", (1, 24, 24), stem="atari")
    folder = tmp_path / "agent"
    folder.mkdir()
    backbones.save(backbone, folder / "backbone.safetensors")
    assert build_backbone(dqn.Config(backbone=str(folder)), _world()).spec == backbone.spec
    plain = dict(width=None, whiten=False, backbone=str(folder), train="head", learning_rate=0.01)
    run = train(tmp_path, **plain)
    pretrained = weights(run)["backbone.stages.0.0.weight"]
    assert pretrained.shape[1] == 3
    torch.testing.assert_close(pretrained.mean(1), backbone.stages[0][0].weight.mean(1) / 3)


def _world():
    class World:
        observation_shape = (1, 24, 24)

    return World


# Checks


def findings(settings, sets):
    torch.manual_seed(1)
    return checks.run_checks(settings, classification.prepare(settings, sets, torch.device("cpu")), sets.train)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_checks_pass(tmp_path, shapes, loss):
    found = findings(config(tmp_path, loss=loss, whiten=False, dropout=0.5), shapes)
    assert len(found) == 4 and all(finding.passed for finding in found), found
    assert found[2].expected.startswith("< 0.01, 100%")  # zero loss: right with a tenth of chance's is not enough


def test_checks_find_a_network_that_cannot_learn(tmp_path, shapes, monkeypatch):
    monkeypatch.setattr(checks, "UPDATES", 30)
    found = findings(config(tmp_path, init="zeros", whiten=False), shapes)
    assert not found[2].passed


def test_checks_find_a_wrong_gradient(tmp_path, shapes, monkeypatch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 1.1

    right = losses.cross_entropy
    monkeypatch.setitem(losses.LOSSES, "cross_entropy", lambda logits, shares: right(Wrong.apply(logits), shares))
    monkeypatch.setattr(checks, "UPDATES", 0)
    assert not findings(config(tmp_path), shapes)[3].passed


def test_check_is_a_command_with_a_status(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        classification.train(config(tmp_path, check=True))
    assert left.value.code == 0 and "passed" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# Search, ensembles


def test_search_narrows_in_the_logarithm():
    (low, high) = search.narrow({"l2": (1e-4, 1.0)}, [{"l2": 1e-2}, {"l2": 1e-1}])["l2"]
    assert low == pytest.approx(10**-2.4) and high == pytest.approx(10**-0.6)
    assert search.narrow({"l2": (1e-4, 1.0)}, [{"l2": 1e-4}, {"l2": 1.0}])["l2"] == pytest.approx((1e-4, 1.0))
    with pytest.raises(ValueError, match="--l2 1 0.1 is not a range"):
        search.search(search.Config(learning_rate=None, l2=(1.0, 0.1)))
    with pytest.raises(ValueError, match="nothing to search"):
        search.search(search.Config(learning_rate=None))


def test_searched_flags_may_begin_with_dashes():
    given = ["--data", "shapes", "--flags", "--batch 64 --augment 'flip,crop'", "--runs", "2"]
    assert search.joined(given) == ["--data", "shapes", "--flags=--batch 64 --augment 'flip,crop'", "--runs", "2"]
    assert tyro.cli(search.Config, args=search.joined(given)).flags == "--batch 64 --augment 'flip,crop'"
    assert search.joined(["--flags"]) == ["--flags"]


def test_search_is_a_sweep_a_round_by_hand(tmp_path, monkeypatch, capsys):
    """Six points, then four between the two best: an error is the distance from 1e-2 in decades, and above 1e-1 a run
    diverges."""
    executors = []

    class Executor(Pretended):
        def start(self, key, command, *rest):
            if float(dict(word.lstrip("-").split("=", 1) for word in command if "=" in word)["learning-rate"]) > 0.1:
                self.faults[key, 1] = "diverge"
            super().start(key, command, *rest)

    def executor(*given):
        executors.append(
            Executor(lambda flags, step: abs(math.log10(float(flags["learning-rate"])) + 2), None, "min")
        )
        return executors[-1]

    def shown(name, commands):
        kinds = {"learning_rate": "float"}
        return [preview.Preview({"steps": 900, "command": list(command)}, (), kinds) for command in commands]

    monkeypatch.setattr(search, "Local", executor)
    monkeypatch.setattr(plan, "preview", shown)
    monkeypatch.setattr(engine, "PAUSE", 0)
    monkeypatch.setattr(engine, "POLL_EVERY", 0)
    asked = search.Config(
        flags="--batch 64", learning_rate=(1e-4, 1.0), runs=6, folder=tmp_path, device="cpu", folds=2
    )
    found = search.search(asked)
    said = capsys.readouterr().out
    assert len(found) == 4 and [len(each.starts) for each in executors] == [12, 8]
    assert [error for error, _ in found] == sorted(error for error, _ in found) and found[0][0] < 0.5
    assert "best: python -m vision.classification --data shapes --batch 64 --learning-rate" in said
    said = " ".join(said.split())  # titles are folded
    assert "100.00%" in said and "round 2: 4 points, 60,000 images a run" in said
    folders = sorted(tmp_path.glob("sweeps/*"), key=lambda folder: folder.name[-1])
    one, two = (json.loads((folder / "sweep.json").read_text()) for folder in folders)
    low, high = (two["search"][0][end] for end in ("low", "high"))
    assert (one["search"][0]["low"], one["search"][0]["high"]) == (1e-4, 1.0) and 1e-4 < low < 1e-2 < high < 1.0
    assert {"--batch", "64", "--steps=20000", "--evaluate-every=20000", "--no-test"} <= set(one["flags"])
    assert search.search(asked) == found and not executors[2].starts and not executors[3].starts


@pytest.mark.slow
def test_search_ranks_and_goes_on(tmp_path, capsys):
    asked = search.Config(
        flags="--width 0.125 --batch 64",
        learning_rate=(1e-6, 0.4),
        runs=3,
        steps=512,
        longer=2.0,
        folder=tmp_path,
        threads=1,
        folds=2,
    )
    ranked = search.search(asked)
    assert len(ranked) == 2 and ranked[0][0] <= ranked[1][0]
    finished = [path.parent for path in tmp_path.glob("shapes/classification-*/finished.json")]
    assert len(finished) == 2 * (3 + 2)
    assert not any("test/error" in line for run in finished for line in lines(run))  # the test images choose nothing
    assert search.search(asked) == ranked  # from what lies there
    assert "best: python -m vision.classification --data shapes" in capsys.readouterr().out


def test_ensembles_average_runs_and_snapshots(tmp_path):
    cycles = train(tmp_path, schedule="snapshots", snapshots=2, steps=2_048)
    other = train(tmp_path, name="other")
    assert len(list((cycles / "snapshots").iterdir())) == 2
    assert [model.training for model in classification.load(cycles, "cpu").models] == [False, False]
    scores = ensembles.main(ensembles.Config((cycles, other), threads=1))
    assert len(scores) == 4
    assert scores[2]["error"] == pytest.approx(outcome(other)["test/error"])
    assert scores[3]["loss"] < max(score["loss"] for score in scores[:3])  # the logarithm is concave
    with pytest.raises(runs.RunError, match="not a run's folder"):
        ensembles.main(ensembles.Config((tmp_path,), threads=1))
    with pytest.raises(ValueError, match="name one or more runs"):
        ensembles.main(ensembles.Config((), threads=1))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["airbench", "resnet20"])
def test_compiled_it_learns_the_same(tmp_path, backbone):
    """The network's forward and backward as one compiled graph: losses of the plain ones, and weights near them."""
    changes = dict(backbone=backbone, width=0.125 if backbone == "airbench" else 1.0, whiten=backbone == "airbench")
    changes |= dict(learning_rate=0.05, augment="flip", log_every=128, bf16=False)
    folders = [train(tmp_path / str(compiled), compile=compiled, **changes) for compiled in (False, True)]
    plain, compiled = ([line["loss/train"] for line in lines(run) if "loss/train" in line][:3] for run in folders)
    assert len(plain) == 3 and compiled == pytest.approx(plain, rel=0.01)
    assert outcome(folders[1])["test/error"] == pytest.approx(outcome(folders[0])["test/error"], abs=5)
