"""Programs that need features alone, on the backbone of any run: an agent's, a detector's, an autoencoder's."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch
from PIL import Image

import agents
import runs
from agents import dqn
from agents.studies import export_observations
from vision import backbones
from vision.data import scenes
from vision.interpretation import (
    activations,
    deepdream,
    embedding,
    examples,
    feature_inversion,
    layer_table,
    neighbors,
)

SMALL = dict(wandb="disabled", device="cpu", threads=1)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """The folder of a DQN on Catch after a few steps, and of the observations that it meets."""
    folder = tmp_path_factory.mktemp("agent")
    config = dataclasses.replace(dqn.recipe(dqn.Config(env="Catch")), **SMALL, folder=folder, film_seconds=0.0)
    few = dict(backbone="small", width=0.5, hidden=16, steps=64, learn_start=32, evaluate_every=64, evaluate_games=1)
    dqn.train(dataclasses.replace(config, **few))
    run = next((folder / "Catch").iterdir())
    asked = export_observations.Config(run, observations=40, every=1, images=3, threads=1, out=folder / "seen")
    return run, folder / "seen", export_observations.main(asked)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    detection = importlib.import_module("vision.detection.train")
    few = dict(steps=8, batch=4, evaluate_every=8, width=0.25, channels=32, proposals=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SIZES", (16, 4, 12))
        config = dataclasses.replace(detection.recipe(detection.Config()), **SMALL, **few, folder=folder, name="d")
        detection.train(config)
        yield folder / "shapes" / "d"


def test_observations_are_those_of_the_games(agent):
    run, folder, found = agent
    saved = np.load(folder / "observations.npy")
    assert saved.dtype == np.uint8 and len(saved) == 40 and np.array_equal(saved, found.numpy())
    assert saved.shape[1:] == tuple(backbones.load(run).shape)
    frames = sorted(folder.glob("frame-*.png"))
    assert [each.name for each in frames] == [f"frame-{index:04d}.png" for index in (0, 20, 39)]
    assert np.array_equal(np.asarray(Image.open(frames[0])), saved[0, -1])
    played = agents.load(run, device="cpu")
    world = played.world(1, 1)
    assert np.array_equal(world.observation[0].numpy(), saved[0])
    world.close()


def test_a_frame_in_color_or_of_a_stack():
    observation = torch.arange(6 * 4, dtype=torch.uint8).view(6, 2, 2)
    assert export_observations.newest(observation, 3).tolist() == observation[3:].permute(1, 2, 0).tolist()
    assert export_observations.newest(observation, 1).tolist() == observation[5].tolist()


def test_programs_of_features_take_an_agent(agent, tmp_path, capsys):
    run, folder, _ = agent
    flags = dict(run=str(run), device="cpu", threads=1, files=(folder / "observations.npy",))
    activations.main(activations.Config(**flags, channels=2, patches=3, images=2, folder=tmp_path / "stage"))
    assert all((tmp_path / "stage" / f"{name}.png").exists() for name in ("filters", "maps", "patches"))
    found = neighbors.main(neighbors.Config(**flags, neighbors=2, queries=3, out=tmp_path / "neighbors.png"))
    assert found == {} and (tmp_path / "neighbors.png").exists()
    with pytest.raises(ValueError, match="fewer --queries"):
        neighbors.main(neighbors.Config(**flags, neighbors=20, queries=30, out=tmp_path / "neighbors.png"))
    asked = embedding.Config(**flags, method="pca", grid=5, out=tmp_path / "map.png")
    assert embedding.main(asked) is None and (tmp_path / "map.png").exists()
    layer_table.main(layer_table.Config(str(run)))
    assert "multiply-adds" in capsys.readouterr().out.replace("\n", "")
    frame, common = folder / "frame-0000.png", dict(device="cpu", threads=1, size=20)
    deepdream.main(
        deepdream.Config(
            backbone=str(run), picture=frame, octaves=2, ascent_steps=2, **common, out=tmp_path / "dream.png"
        )
    )
    feature_inversion.main(
        feature_inversion.Config(
            backbone=str(run), files=(frame,), updates=2, **common, out=tmp_path / "inverted.png"
        )
    )
    assert (tmp_path / "dream.png").exists() and (tmp_path / "inverted.png").exists()


def test_programs_of_features_take_a_detector(detector, tmp_path):
    flags = dict(run=str(detector), device="cpu", threads=1)
    about = examples.load(examples.ExampleFlags(**flags))
    assert len(about.images) == 12 and about.images.shape[1:] == about.backbone.shape and about.labels is None
    assert neighbors.main(neighbors.Config(**flags, neighbors=2, queries=3, out=tmp_path / "neighbors.png")) == {}
    asked = embedding.Config(**flags, method="pca", grid=3, out=tmp_path / "map.png")
    assert embedding.main(asked) is None


def test_programs_of_features_take_an_autoencoder(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("vision.data.shapes"), "SIZES", (64, 16, 30))
    train = importlib.import_module("vision.generation.train")
    config = train.recipe(train.Config(model="autoencoder"))
    few = dict(steps=8, batch=4, evaluate_every=8, evaluate_images=8, folder=tmp_path, name="a")
    train.train(dataclasses.replace(config, **SMALL, **few))
    flags = dict(run=str(tmp_path / "shapes" / "a"), device="cpu", threads=1)
    about = examples.load(examples.ExampleFlags(**flags))
    assert len(about.images) == len(about.labels) == 30 and len(about.classes) == 10
    asked = embedding.Config(**flags, method="pca", grid=3, out=tmp_path / "map.png")
    assert 0 <= embedding.main(asked) <= 100
    found = neighbors.main(neighbors.Config(**flags, neighbors=2, queries=3, out=tmp_path / "neighbors.png"))
    assert set(found) == {"pixels", "features"}


def test_images_are_read_as_the_run_has_read_them(tmp_path, monkeypatch):
    """From its --data, in its --format, at its --size."""
    backbones.save(backbones.build("small", (3, 16, 16)), tmp_path / "backbone.safetensors")
    about = dict(program="vision.classification.multi_label", config=dict(data="shapes", format="auto"))
    monkeypatch.setattr(examples.saved, "about", lambda _: about)
    monkeypatch.setattr(scenes, "SIZES", (2, 2, 3))
    asked = examples.ExampleFlags(str(tmp_path), device="cpu", threads=1)
    assert examples.load(asked).images.shape == (3, 3, 16, 16)
    about["config"] = dict(data=str(tmp_path), format="masks")
    with pytest.raises(ValueError, match="format 'masks'"):
        examples.load(asked)
    about |= dict(program="vision.generation", config=dict(data="mnist", data_folder=None, size=20))
    with pytest.raises(ValueError, match="size=20 is for folders"):
        examples.load(asked)


def test_images_are_fitted_to_what_a_backbone_takes():
    gray = torch.full((1, 1, 4, 4), 100, dtype=torch.uint8)
    assert examples.fitted(gray, (4, 4, 4)).unique().tolist() == [100]
    assert examples.fitted(gray, (4, 8, 8)).shape == (1, 4, 8, 8) and examples.fitted(gray, (3, 4, 4)).shape[1] == 3
    red = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 200
    assert examples.fitted(red, (2, 4, 4)).unique().tolist() == [60]  # 0.299 of 200
    assert examples.fitted(red, (3, 4, 4)) is red


def test_errors_say_what_to_do(agent, tmp_path):
    run, folder, _ = agent
    flags = dict(run=str(run), device="cpu", threads=1)

    def load(*files):
        return examples.load(examples.ExampleFlags(**flags, files=files))

    with pytest.raises(ValueError, match="--files.*export_observations"):
        load()
    with pytest.raises(ValueError, match="one .npy file alone"):
        load(folder / "observations.npy", folder / "frame-0000.png")
    with pytest.raises(ValueError, match="no images in"):
        load(tmp_path)
    np.save(tmp_path / "other.npy", np.zeros((2, 5, 7, 7), np.uint8))
    with pytest.raises(ValueError, match="the backbone takes uint8 of"):
        load(tmp_path / "other.npy")
    (tmp_path / "damaged.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "damaged.npy")
    assert len(load(folder).images) == 3, "the images of a folder"
    with pytest.raises(runs.RunError, match="not a run's folder"):
        examples.load(examples.ExampleFlags(str(tmp_path), device="cpu"))
