"""How long a run takes, before it begins: by hand, by a clock that only what is timed moves on."""

import dataclasses
import re
import time

import pytest
import torch

from vision.captioning import dense, vqa
from vision.captioning import train as captioning
from vision.detection import train as detection
from vision.segmentation import train as segmentation
from vision.sequences import train as sequences
from vision.training.estimate import estimate


@dataclasses.dataclass
class Config:
    steps: int = 1_000
    batch: int = 10
    evaluate_every: int = 300


def test_by_hand(monkeypatch):
    """100 updates of 2 s, four evaluations of 50 images and a test of 100, of which 6 take 3 s: 200 s and 150 s."""
    seconds, calls = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout()).eval()
    before, generator = network[0].weight.clone(), torch.get_rng_state()

    def update(trial):
        assert trial is not network and trial.training
        torch.nn.init.normal_(trial[0].weight)
        seconds[0] += 2.0 if calls else 60.0  # the first one does not count
        calls.append("update")

    def evaluate(trial):
        seconds[0] += 3.0
        calls.append("evaluate")

    counts = dict(tried=6, validation=50, test=100, unit="scenes")
    found = estimate(Config(), network, update, evaluate, **counts)
    assert found == "about 6 min: 5 training scenes/s, 2 in evaluations" and calls[-1] == "evaluate"

    def fit(trial):
        seconds[0] += 12.0  # of 6 scenes, where a run has 50 before each of four evaluations: 400 s

    found = estimate(Config(), network, update, evaluate, **counts, fit=fit, fitted=50)
    assert found == "about 12 min: 5 training scenes/s, 2 in evaluations"
    assert torch.equal(network[0].weight, before) and not network.training and network[0].weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)


PROGRAMS = {
    "captioning": (captioning, dict(scenes=80), "images"),
    "vqa": (vqa, dict(scenes=80), "questions"),
    "dense": (dense, dict(scenes=40), "images"),
    "sequences": (sequences, dict(task="order"), "sequences"),
    "segmentation": (segmentation, {}, "images"),
    "detection": (detection, dict(width=0.25, size=64), "images"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_it_before_it_begins(name, monkeypatch, tmp_path):
    """With the generator that the run then begins with as without it."""
    program, changes, unit = PROGRAMS[name]
    recipe = getattr(program, "recipe", lambda asked: asked)(program.Config(**changes))
    config = dataclasses.replace(recipe, **changes, folder=tmp_path, wandb="disabled", device="cpu", threads=1)
    notes, states = [], []

    class Begun(Exception):
        pass

    def begin(*_, note, **__):
        notes.append(note)
        states.append(torch.get_rng_state())
        raise Begun

    for own in (program.time_needed, lambda *_: "nothing"):
        monkeypatch.setattr(program, "time_needed", own)
        monkeypatch.setattr(program.runs, "Run", begin)
        with pytest.raises(Begun):
            program.train(config)
    assert re.search(rf"about \S+ (s|min|h): \S+ training {unit}/s, \S+ in evaluations$", notes[0])
    assert torch.equal(*states) and "nothing" in notes[1]
