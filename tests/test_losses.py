"""Losses, penalties, schedules and initializers: numbers by hand."""

import importlib
import math
import typing

import pytest
import torch
from torch import nn

from vision.backbones.layers import initialization
from vision.training import losses, schedules

LOGITS = torch.tensor([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]])  # cat, car, frog of CS231n's lecture 3
LABELS = torch.tensor([0, 1, 2])


def whole(labels, classes=3):
    return losses.targets(labels, classes)


def test_hinge_by_hand():
    """The lecture's table: 2.9, 0 and 12.9."""
    assert losses.hinge(LOGITS, whole(LABELS)).item() == pytest.approx((2.9 + 0 + 12.9) / 3, abs=1e-5)
    squared = (2.9**2 + 0 + 6.3**2 + 6.6**2) / 3
    assert losses.squared_hinge(LOGITS, whole(LABELS)).item() == pytest.approx(squared, abs=1e-4)


def test_cross_entropy_by_hand_and_as_torch_has_it():
    """The lecture's cat: 24.5 of 24.5 + 164 + 0.18."""
    share = math.exp(3.2) / (math.exp(3.2) + math.exp(5.1) + math.exp(-1.7))
    assert losses.cross_entropy(LOGITS[:1], whole(LABELS[:1])).item() == pytest.approx(-math.log(share))
    for smoothing in (0.0, 0.1):
        ours = losses.cross_entropy(LOGITS, losses.targets(LABELS, 3, smoothing))
        theirs = nn.functional.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
        torch.testing.assert_close(ours, theirs)


def test_targets_by_hand():
    shares = losses.targets(torch.tensor([0, 1]), 4, 0.2, (torch.tensor([1, 1]), torch.tensor([0.75, 0.5])))
    expected = torch.tensor([[0.65, 0.25, 0.05, 0.05], [0.05, 0.85, 0.05, 0.05]])
    torch.testing.assert_close(shares, expected)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_mixed_labels_mix_the_losses(name):
    loss, kept = losses.LOSSES[name], torch.tensor([0.3, 0.3, 0.3])
    mixed = loss(LOGITS, losses.targets(LABELS, 3, 0.0, (LABELS.flip(0), kept)))
    mean = 0.3 * loss(LOGITS, whole(LABELS)) + 0.7 * loss(LOGITS, whole(LABELS.flip(0)))
    torch.testing.assert_close(mixed, mean)


def test_chance():
    assert losses.at_chance("cross_entropy", 10) == pytest.approx(math.log(10))
    assert losses.at_chance("hinge", 10) == losses.at_chance("squared_hinge", 10) == 9


@pytest.mark.parametrize("l1, l2, expected", [(0.1, 0.0, 1.0), (0.0, 0.1, 1.5), (0.1, 0.2, 4.0), (0.0, 0.0, 0.0)])
def test_penalty_by_hand(l1, l2, expected):
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([3.0, -4.0])]  # sum |w| = 10, sum w^2 = 30
    assert losses.penalty(weights, l1, l2).item() == pytest.approx(expected)


def test_l2s_gradient_is_weight_decay():
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    losses.penalty([weight], l2=0.1).backward()
    assert weight.grad.tolist() == pytest.approx([0.1, -0.2])


# Schedules


@pytest.mark.parametrize(
    "name, values",
    {
        "constant": {0.0: 1, 0.9: 1},
        "plateau": {0.0: 1, 0.9: 1},
        "step": {0.0: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1.0: 0.01},
        "cosine": {0.0: 1, 0.5: 0.5, 1.0: 0, 1 / 3: 0.75},
        "one_cycle": {0.0: 0.04, 0.125: 0.52, 0.25: 1, 0.625: 0.5, 1.0: 0},
        "snapshots": {0.0: 1, 0.125: 0.5, 0.25: 1, 0.5: 1, 0.875: 0.5},
    }.items(),
)
def test_schedules_by_hand(name, values):
    found = {progress: schedules.at(name, progress, snapshots=4) for progress in values}
    assert found == pytest.approx(values)


@pytest.mark.parametrize(
    "program",
    ["captioning.dense", "captioning.train", "captioning.vqa", "classification.multi_label.train", "detection.train"]
    + ["generation.train", "image_to_image.train", "segmentation.train"],
)
def test_programs_offer_the_schedules_that_they_follow(program):
    """Those that need no evaluations, halvings or cycles."""
    config = importlib.import_module(f"vision.{program}").Config
    offered = typing.get_args(typing.get_type_hints(config, include_extras=True)["schedule"])
    assert offered == schedules.NAMES


def test_warm_up_by_hand():
    found = [schedules.at("cosine", progress, warm_up=0.2) for progress in (0.0, 0.05, 0.2, 0.6, 1.0)]
    assert found == pytest.approx([0, 0.25, 1, 0.5, 0])


def test_unknown_schedule():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        schedules.at("cosin", 0.0)


def test_plateau_and_early_stopping_by_hand():
    watch = schedules.PlateauSchedule(patience=2, stop=4)
    seen = []
    for loss in (3.0, 2.0, 2.0, 2.5, 1.0, 1.1, 1.2, 1.3, 1.4):
        watch.record(loss)
        seen.append((round(watch.factor, 5), watch.done))
    assert seen == [*[(1, False)] * 3, *[(0.1, False)] * 3, *[(0.01, False)] * 2, (0.001, True)]
    again = schedules.PlateauSchedule(patience=2, stop=4)
    again.load_state_dict(watch.state_dict())
    assert again.done and again.state_dict() == watch.state_dict()
    never = schedules.PlateauSchedule()
    for _ in range(9):
        never.record(1.0)
    assert never.factor == 1 and not never.done


# Initializers


@pytest.mark.parametrize(
    "init, std", {"he": (2 / 400) ** 0.5, "xavier": (2 / 1000) ** 0.5, "small": 0.01, "zeros": 0.0}.items()
)
def test_initializers_have_their_deviation(init, std):
    torch.manual_seed(0)
    layer = nn.Linear(400, 600)
    initialization.initialize(layer, init)
    assert layer.weight.std().item() == pytest.approx(std, rel=0.01)
    assert not layer.bias.any()


def test_whitened_patches_have_covariance_one():
    torch.manual_seed(0)
    images = (torch.rand(200, 3, 4, 4).cumsum(3) * 60).byte()  # neighbors are alike
    layer = nn.Conv2d(3, 24, 2)
    initialization.whiten(layer, images, eps=0.0)
    white = layer(images.float() / 255).transpose(0, 1).flatten(1)[:12]
    torch.testing.assert_close(white.mean(1), torch.zeros(12), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cov(white, correction=0), torch.eye(12), atol=1e-2, rtol=0)
    assert not layer.weight.requires_grad and layer.bias.requires_grad
    with pytest.raises(ValueError, match="24, and this first convolution has 16"):
        initialization.whiten(nn.Conv2d(3, 16, 2), images)
