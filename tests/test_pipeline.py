"""Stages on several devices: balanced by hand, equal maps and gradients, pieces of a batch, and a second device."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vision import backbones
from vision.backbones import pipeline
from vision.classification import classifier

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("lenet5", "vgg11_bn", "resnet20", "densenet_bc_100_12", "squeezenet1_1", "googlenet", "nature", "airbench")


def test_chains_are_balanced_by_hand():
    assert pipeline.balanced([1, 1, 1, 1], 2) == [0, 0, 1, 1]
    assert pipeline.balanced([5, 1, 1, 1], 2) == [0, 1, 1, 1]
    assert pipeline.balanced([1, 2, 3, 4, 5], 3) == [0, 0, 0, 1, 2]  # 6, 4, 5
    assert pipeline.balanced([3.0], 1) == [0] and pipeline.balanced([0, 0, 9], 3) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 parts cannot be split over 3"):
        pipeline.balanced([1, 1], 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_split_backbone_is_the_backbone(name):
    shape = (4, 84, 84) if name == "nature" else (3, 64, 64)
    torch.manual_seed(1)
    try:
        whole = backbones.build(name, shape)
    except ValueError:
        whole = backbones.build(name, shape := (3, 32, 32))
    torch.manual_seed(1)
    split = backbones.build(name, shape)
    first, second = pipeline.place(split, ["cpu", "cpu"])
    assert first is not second and {first, second} <= set(split.modules())
    images = torch.randint(256, (5, *shape), dtype=torch.uint8)
    results = []
    for model, pieces in ((whole, 1), (split, 2)):
        model.eval()
        maps = pipeline.micro_batched(model, images, pieces)
        sum(each.square().mean() for each in maps).backward()
        results.append((maps, {key: weight.grad for key, weight in model.named_parameters()}))
    (one, grads), (other, others) = results
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(one, other, strict=True))
    assert grads.keys() == others.keys(), "the weights keep their names"
    for key, value in grads.items():
        if value is not None:
            torch.testing.assert_close(value, others[key], rtol=1e-3, atol=1e-5)


def test_pieces_of_nested_results_are_joined():
    images = torch.arange(10.0).reshape(5, 2)
    found = pipeline.micro_batched(lambda x: {"a": [x, x.sum(1)], "b": (x + 1,)}, images, 3)
    assert torch.equal(found["a"][0], images) and torch.equal(found["a"][1], images.sum(1))
    assert torch.equal(found["b"][0], images + 1)


def test_a_classifier_learns_over_two_devices(tmp_path):
    """In a process of its own, with a device that is not the CPU (tests/stand_in.py): what is mixed fails there."""
    (tmp_path / "two_devices.py").write_text(
        """
import torch
from vision.backbones import pipeline
from vision.classification import classifier

torch.manual_seed(1)
model = classifier.build("resnet20", (3, 32, 32), 10, None, stem="cifar", width=0.25)
pipeline.place(model.backbone, ["cpu", "standin"])
assert {weight.device.type for weight in model.backbone.parameters()} == {"cpu", "standin"}
model.head.to("standin")
images, labels = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8)
loss = torch.nn.functional.cross_entropy(pipeline.micro_batched(model, images, 2), labels.to("standin"))
loss.backward()
first, last = next(model.backbone.parameters()), next(model.head.parameters())
assert first.grad.device.type == "cpu" and last.grad.device.type == "standin"
print("trained", float(loss))
"""
    )
    command = [sys.executable, "-m", "tests.stand_in", "two_devices"]
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert "trained" in done.stdout, done.stdout[-800:] + done.stderr[-2_000:]
    torch.manual_seed(1)
    model = classifier.build("resnet20", (3, 32, 32), 10, None, stem="cifar", width=0.25)
    images = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    model.train()
    loss = torch.nn.functional.cross_entropy(pipeline.micro_batched(model, images, 2), torch.arange(8))
    assert float(done.stdout.split("trained")[1].split()[0]) == pytest.approx(loss.item(), rel=0.2)
