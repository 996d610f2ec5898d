"""Dense captioning: regions and their sentences, average precision by hand, overfitting, resume, prediction."""

import numpy as np
import pytest
import torch
from test_captioning import stopped_and_resumed

from vision import backbones
from vision.captioning import dense, regions
from vision.captioning.scenes import GRID
from vision.captioning.vocabulary import Vocabulary
from vision.detection import data, detector


def small(**changes):
    """A config that learns with little."""
    few = dict(width=0.25, channels=32, head_width=64, hidden=32, proposals=60, wandb="disabled", device="cpu")
    return dense.Config(**few | dict(size=48, anchor_scale=3.0, bf16=False) | changes)


def test_regions_are_objects_and_neighbors_in_the_sentence():
    scenes = regions.RegionScenes(30, 3, 48)
    assert {len(sample.target.boxes) for sample in scenes} == {1, 3, 5}
    for index, sample in enumerate(scenes):
        own, there = scenes.scenes.target(index), sample.target
        count = len(own.boxes)
        assert torch.equal(there.boxes[:count], own.boxes) and len(there.captions) == len(there.boxes)
        assert there.captions[:count] == tuple(f"a {scenes.scenes.classes[label]}" for label in own.labels.tolist())
        for first in range(count - 1):
            both = there.boxes[count + first]
            assert torch.equal(both[:2], own.boxes[first : first + 2, :2].amin(0))
            assert torch.equal(both[2:], own.boxes[first : first + 2, 2:].amax(0))
            columns = scenes.scenes.cells[index][first : first + 2] % GRID
            relation = "above" if columns[0] == columns[1] else "to the left of"
            assert f" {relation} " in there.captions[count + first]
        assert (count == 2) == (scenes.scenes.sentence(index) in there.captions[1:])


def test_average_precision_by_hand():
    """Two regions; the best found one has the wrong sentence, the second is right, the third comes too late."""
    overlap = np.array([[0.8, 0.0], [0.6, 0.1], [0.65, 0.0], [0.0, 0.4]])
    right = np.array([[False, False], [True, False], [True, False], [False, True]])
    found = regions.Matches(np.array([0.9, 0.8, 0.7, 0.6]), overlap, right)
    assert regions.average_precision([found], 0.5, words=False) == pytest.approx(0.5)  # the first alone
    assert regions.average_precision([found], 0.5, words=True) == pytest.approx(0.5 * 1 / 2)
    assert regions.average_precision([found], 0.3, words=True) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)
    nothing = regions.Matches(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 2), bool))
    assert regions.average_precision([nothing], 0.5, words=True) == 0
    assert regions.average_precision([found, nothing], 0.5, words=False) == pytest.approx(0.25)
    scores = regions.scores([found, nothing])
    assert scores["exact"] == pytest.approx(100 * 2 / 3) and scores["map"] < scores["place_map"]


@pytest.mark.slow
def test_a_batch_is_overfit():
    """Every region of six scenes is found and described rightly."""
    torch.manual_seed(0)
    scenes = regions.RegionScenes(6, 1, 96)
    model = dense.build(small(size=96, head_width=128, hidden=64, regions=64), Vocabulary.of(scenes.captions()))
    detector.fix_norms(model.backbone)
    batch = data.collate(list(scenes))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(450):
        optimizer.param_groups[0]["lr"] = 3e-3 if step < 350 else 5e-4
        optimizer.zero_grad()
        model.train()
        sum(model.losses(batch.images, batch.sizes, batch.targets).values()).backward()
        optimizer.step()
    found, shown = dense.evaluate(model, scenes, beam=2, shown=1)
    assert found["map"] > 0.95 and found["exact"] > 95 and len(shown) == 1


def test_a_run_resumes_and_describes(tmp_path, monkeypatch):
    config = small(
        folder=tmp_path, scenes=40, batch=4, steps=16, evaluate_every=8, log_every=4, save_every=0.0, pictures=2
    )
    lines = stopped_and_resumed(dense.train, config, 12, monkeypatch)
    assert lines["again"] == lines["dense-1"]
    assert all(word in lines["again"] for word in ("loss/words", "eval/map", "test/place_map"))
    folder = tmp_path / "shapes" / "dense-1"
    assert len(list((folder / "predictions").glob("*.png"))) == 2 and (folder / backbones.FILENAME).exists()
    trained = dense.load(folder, "cpu")
    images = torch.stack([sample.image for sample in regions.RegionScenes(2, 5, 48)])
    described = trained.describe(images)
    assert len(described) == 2
    for found, captions in described:
        assert len(found) == len(captions) and (found.scores.diff() <= 0).all()
        assert all(set(caption.split()) <= set(trained.model.vocabulary.words) for caption in captions)
    sure = dense.Described(found, captions)
    dense.draw([(images[1], sure)], tmp_path / "a.png", least=0.0)
    assert (tmp_path / "a.png").exists()
