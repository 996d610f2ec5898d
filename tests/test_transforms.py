"""Transforms: boxes, masks, keypoints and semantic masks move with the image: by hand, over random compositions."""

import dataclasses
import math

import pytest
import torch

from vision.data import image_ops, transforms, warps
from vision.data.samples import IGNORE, Batch, Sample, Target, boxes_of_masks
from vision.data.transforms import (
    ColorJitter,
    Compose,
    Cutout,
    Flip,
    Lighting,
    Pad,
    RandomCrop,
    Resize,
    Rotate,
    ScaledCrop,
    Translate,
)
from vision.data.warps import LensDistortion, RandomMix, Shear, ShortSide, Stretch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rectangles(boxes, tall, wide, channels=1):
    """An image whose k-th object is the rectangle of its box, painted 50 * (k + 1), with everything that says so."""
    masks = torch.zeros(len(boxes), tall, wide, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    semantic = torch.zeros(tall, wide, dtype=torch.int64)
    for k, mask in enumerate(masks):
        semantic[mask] = k + 1
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    corners = torch.stack([boxes[:, :2], boxes[:, 2:]], 1)  # of each box, as its keypoints
    keypoints = torch.cat([corners, torch.tensor([2.0, 1.0]).view(1, 2, 1).expand(len(boxes), 2, 1)], 2)
    image = (semantic * 50).to(torch.uint8).expand(channels, tall, wide).clone()
    return Sample(image, Target(3, boxes, torch.arange(len(boxes)), masks, keypoints, semantic, ("rectangles",)))


@pytest.fixture
def sample():
    """(1, 6, 8): a rectangle of 2 x 3 pixels, and one pixel in the corner at the right of the bottom."""
    return rectangles([[1, 2, 4, 4], [7, 5, 8, 6]], 6, 8)


def agrees(found):
    """Whether image, semantic mask, masks and boxes of rectangles still say the same."""
    target = found.target
    assert torch.equal(found.image[0].long(), torch.where(target.semantic == IGNORE, 0, target.semantic * 50))
    for mask, label in zip(target.masks, target.labels.tolist(), strict=True):
        assert torch.equal(mask, target.semantic == label + 1)
    assert torch.equal(boxes_of_masks(target.masks), target.boxes)


def test_flip_by_hand(sample):
    found = Flip(1.0)(sample)
    assert torch.equal(found.image, sample.image.flip(2))
    assert found.target.boxes.tolist() == [[4, 2, 7, 4], [0, 5, 1, 6]]
    assert found.target.keypoints[0].tolist() == [[7, 2, 2], [4, 4, 1]]
    assert found.target.label == 3 and found.target.captions == ("rectangles",)
    agrees(found)
    found = Flip(1.0, vertical=True)(sample)
    assert torch.equal(found.image, sample.image.flip(1))
    assert found.target.boxes.tolist() == [[1, 2, 4, 4], [7, 0, 8, 1]]
    agrees(found)
    swapped = Flip(1.0, pairs=[(0, 1)])(sample).target.keypoints
    assert swapped[0].tolist() == [[4, 4, 1], [7, 2, 2]]
    untouched = Flip(0.0, pairs=[(0, 1)])(sample)
    assert torch.equal(untouched.target.keypoints, sample.target.keypoints)


def test_flip_of_some_of_a_batch(sample):
    """Every object follows the image that it is in."""
    batch = Flip(0.5)(Batch.of([sample] * 20), generator())
    mirrored, plain = Flip(1.0)(sample), sample
    count = 0
    for found in batch.samples():
        wanted = plain if torch.equal(found.image, plain.image) else mirrored
        count += wanted is mirrored
        assert torch.equal(found.image, wanted.image) and torch.equal(found.target.boxes, wanted.target.boxes)
        assert torch.equal(found.target.masks, wanted.target.masks)
    assert 5 < count < 15


def test_pad_by_hand(sample):
    found = Pad((8, 0), multiple=5)(sample)
    assert found.image.shape == (1, 10, 10) and torch.equal(found.image[:, :6, :8], sample.image)
    assert torch.equal(found.target.boxes, sample.target.boxes)
    assert found.target.semantic[6:].unique().tolist() == [IGNORE] == found.target.semantic[:, 8:].unique().tolist()
    agrees(found)
    assert Pad(multiple=2)(sample).image.shape == (1, 6, 8)


def test_resize_by_hand(sample):
    found = Resize((12, 24))(sample)
    assert found.target.boxes.tolist() == [[3, 4, 12, 8], [21, 10, 24, 12]]
    assert found.target.keypoints[0].tolist() == [[3, 4, 2], [12, 8, 1]]
    assert torch.equal(found.target.masks, sample.target.masks.repeat_interleave(2, 1).repeat_interleave(3, 2))
    assert torch.equal(boxes_of_masks(found.target.masks), found.target.boxes)
    assert Resize(3)(sample).image.shape == (1, 3, 4) and Resize(12, longest=10)(sample).image.shape == (1, 8, 10)
    halved = Resize((3, 4))(Sample(torch.full((3, 6, 8), 77, dtype=torch.uint8)))
    assert halved.image.unique().tolist() == [77]
    floats = torch.rand(1, 3, 20, 30, generator=generator())
    by_bytes = Resize((9, 13))((floats * 255).round().byte())
    assert (Resize((9, 13))(floats) * 255 - by_bytes).abs().max() < 1.6


def test_resize_is_resample_of_the_whole_image():
    images = torch.rand(2, 3, 20, 30, generator=generator())
    zero, one = torch.zeros(2), torch.ones(2)
    found = image_ops.resample(images, zero, zero, 20 * one, 30 * one, (9, 41))
    assert torch.allclose(Resize((9, 41))(images), found, atol=1e-5)


def test_rotation_by_a_quarter_is_exact(monkeypatch):
    """Counterclockwise about the middle of a square: (x, y) becomes (y, 8 - x)."""
    sample = rectangles([[1, 2, 4, 4], [7, 5, 8, 6]], 8, 8)
    monkeypatch.setattr(transforms, "uniform", lambda images, generator: torch.ones(len(images)))
    found = Rotate(90.0)(sample)
    assert torch.equal(found.image, sample.image.rot90(1, (1, 2)))
    assert torch.equal(found.target.masks, sample.target.masks.rot90(1, (1, 2)))
    assert torch.equal(found.target.semantic, sample.target.semantic.rot90(1, (0, 1)))
    assert torch.allclose(found.target.boxes, torch.tensor([[2.0, 4.0, 4.0, 7.0], [5.0, 0.0, 6.0, 1.0]]), atol=1e-5)
    assert torch.allclose(found.target.keypoints[0], torch.tensor([[2.0, 7.0, 2.0], [4.0, 4.0, 1.0]]), atol=1e-5)


def test_rotation_takes_the_hull_and_cuts_it(monkeypatch):
    """By 45 degrees a square of side 2 about the middle becomes one of side 2 * sqrt(2) on its corner; what lies in
    the corners of the image is outside."""
    sample = rectangles([[3, 3, 5, 5], [0, 0, 1, 1]], 8, 8)
    monkeypatch.setattr(transforms, "uniform", lambda images, generator: torch.ones(len(images)))
    found = Rotate(45.0)(sample).target
    half = math.sqrt(2)
    assert torch.allclose(found.boxes, torch.tensor([[4 - half, 4 - half, 4 + half, 4 + half]]), atol=1e-5)
    assert found.labels.tolist() == [0] and found.masks.shape == (1, 8, 8) and found.keypoints.shape == (1, 2, 3)
    assert found.semantic[0, 0] == IGNORE and found.semantic[4, 4] == 1


def test_windows_by_hand(monkeypatch, sample):
    """Moved up by 2 and right by 1."""
    places = iter((2 + 2, 2 - 1))  # of the window, in images with 2 pixels around them
    monkeypatch.setattr(transforms, "integers", lambda images, count, generator: torch.tensor([next(places)]))
    found = RandomCrop(2)(sample)
    assert found.target.boxes.tolist() == [[2, 0, 5, 2]]  # the other one left at the right
    assert torch.equal(found.image[0, :4, 1:], sample.image[0, 2:, :7])
    assert found.target.semantic[4:].unique().tolist() == [IGNORE] == found.target.semantic[:, :1].unique().tolist()
    agrees(found)


def test_reflection_shows_no_object_twice(monkeypatch):
    monkeypatch.setattr(transforms, "integers", lambda images, count, generator: torch.tensor([0]))
    sample = rectangles([[0, 0, 3, 3]], 6, 8)
    found = RandomCrop(2, mode="reflect")(sample)
    assert torch.equal(found.target.semantic * 50, found.image[0].long())  # reflected as the image is
    assert found.target.boxes.tolist() == [[2, 2, 5, 5]]
    assert torch.equal(boxes_of_masks(found.target.masks), found.target.boxes)


def test_crops_of_a_size_pad_what_is_smaller(sample):
    found = RandomCrop(0, size=(4, 10))(sample, generator())
    assert found.image.shape == (1, 4, 10) and found.target.semantic.shape == (4, 10)
    assert found.target.semantic[:, 8:].unique().tolist() == [IGNORE]
    agrees(found)


def test_scaled_crop_of_everything_is_a_resize():
    sample = rectangles([[1, 2, 4, 4], [7, 5, 8, 6]], 8, 8)  # square: with an aspect of 1 so is the window
    found = ScaledCrop((12, 16), least=1.0, aspect=1.0)(sample)
    wanted = Resize((12, 16))(sample)
    assert (found.image.int() - wanted.image).abs().max() <= 1
    for name in ("boxes", "masks", "keypoints", "semantic"):
        assert torch.equal(getattr(found.target, name), getattr(wanted.target, name)), name


def test_unlabeled_keypoints_stay_unlabeled(sample):
    hidden = dataclasses.replace(sample.target, keypoints=torch.zeros(2, 4, 3))
    for change in (Flip(1.0), Translate(0.5), Resize((12, 16)), Rotate(180.0)):
        assert not change(Sample(sample.image, hidden), generator()).target.keypoints.any()


GEOMETRY = [
    lambda: Flip(),
    lambda: Flip(vertical=True),
    lambda: RandomCrop(3),
    lambda: RandomCrop(3, mode="reflect"),
    lambda: RandomCrop(0, (20, 37)),
    lambda: Translate(0.3),
    lambda: ScaledCrop((31, 26), 0.2),
    lambda: Resize(33, longest=60),
    lambda: Pad(multiple=16),
    lambda: Rotate(40.0),
    lambda: Stretch(1.2),
    lambda: Shear(30.0),
    lambda: LensDistortion(0.3),
    lambda: ShortSide((24, 20), (25, 30)),
    lambda: RandomMix([Rotate(40.0), Shear(20.0), Flip(1.0)], 1),
]


@pytest.mark.parametrize("seed", range(40))
def test_masks_stay_in_their_boxes(seed):
    """Random compositions: the box of a moved mask lies in the moved box, up to 2 pixels, because masks take the
    nearest pixel and a pixel may be enlarged by the next step."""
    chance = generator(seed)
    count = int(torch.randint(0, 5, (), generator=chance))
    corner = torch.randint(0, 20, (count, 2), generator=chance)
    extent = torch.randint(3, 12, (count, 2), generator=chance)
    sample = rectangles(torch.cat([corner, corner + extent], 1).tolist(), 32, 40, channels=3)
    chosen = torch.randint(len(GEOMETRY), (3,), generator=chance).tolist()
    change = Compose([*(GEOMETRY[k]() for k in chosen), ColorJitter(0.2, 0.2, 0.2, 0.1), Cutout(4)])
    found = change(sample, generator(seed))
    tall, wide = found.image.shape[1:]
    target = found.target
    assert len(target.boxes) == len(target.labels) == len(target.masks) == len(target.keypoints) <= count
    assert target.masks.shape[1:] == target.semantic.shape == (tall, wide)
    low, high = target.boxes[:, :2], target.boxes[:, 2:]
    assert (low >= 0).all() and (high <= torch.tensor([wide, tall])).all() and (high > low).all()
    seen = target.masks.flatten(1).any(1)
    tight = boxes_of_masks(target.masks)[seen]
    loose = target.boxes[seen]
    assert (tight[:, :2] + 2 >= loose[:, :2]).all() and (tight[:, 2:] - 2 <= loose[:, 2:]).all()
    points = target.keypoints[target.keypoints[..., 2] > 0]
    assert (points[:, :2] >= 0).all() and (points[:, :2] <= torch.tensor([wide, tall])).all()
    again = change([sample, sample], generator(seed))  # the same numbers give the same, and so does a batch of one
    assert torch.equal(again[0].image, found.image) and torch.equal(again[0].target.boxes, target.boxes)
    batch = change(Batch.of([sample]), generator(seed)).samples()[0]
    assert torch.equal(batch.image, found.image) and torch.equal(batch.target.masks, target.masks)


@pytest.mark.parametrize("make", GEOMETRY)
def test_one_step_keeps_masks_in_boxes_exactly(make):
    """The center of every pixel of a moved mask lies in the moved box."""
    change, chance = make(), generator(1)
    for _ in range(20):
        sample = rectangles([[3, 4, 17, 12], [20, 18, 33, 30]], 32, 40)
        target = change(sample, chance).target
        for mask, (left, top, right, bottom) in zip(target.masks, target.boxes.tolist(), strict=True):
            y, x = (line + 0.5 for line in mask.nonzero().T)
            assert ((x >= left - 1e-3) & (x <= right + 1e-3) & (y >= top - 1e-3) & (y <= bottom + 1e-3)).all()


def test_lists_of_samples_of_several_sizes():
    samples = [rectangles([[1, 1, 5, 5]], 16, 20), rectangles([[2, 3, 9, 9]], 12, 30)]
    found = Compose([Resize(16), Pad((16, 40))])(samples)
    assert {tuple(each.image.shape) for each in found} == {(1, 16, 40)}
    assert Batch.of(found).boxes[1].tolist() == pytest.approx([2 * 4 / 3, 4, 12, 12])


def test_color_leaves_targets(sample):
    axes = torch.eye(1)
    for change in (ColorJitter(), Lighting(axes, 1.0), Cutout(3, 1.0)):
        found = change(sample, generator())
        assert found.image.dtype == torch.uint8 and not torch.equal(found.image, sample.image)
        for name in ("boxes", "masks", "keypoints", "semantic"):
            assert torch.equal(getattr(found.target, name), getattr(sample.target, name))


def test_stretch_and_shear_by_hand():
    """About the center (10, 8) of 20 x 16: a point 4 to the right and 2 down."""
    sample = rectangles([[10, 8, 14, 10]], 16, 20)
    batch = Batch.of([sample])
    wide = warps.linear(batch, torch.tensor([[[2.0, 0.0], [0.0, 0.5]]]))
    assert wide.boxes[0].tolist() == pytest.approx([10, 8, 18, 9], abs=1e-4)
    assert boxes_of_masks(wide.masks)[0].tolist() == [10, 8, 18, 9]
    slanted = warps.linear(batch, torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]))
    assert slanted.boxes[0].tolist() == pytest.approx([10, 8, 15, 10], abs=1e-4)
    with pytest.raises(ValueError, match="a stretch of 0.5 is below 1"):
        Stretch(0.5)
    with pytest.raises(ValueError, match="a shear of 45"):
        Shear(45)


@pytest.mark.parametrize("k", [0.3, -0.3, 0.0])
def test_lens_distortion_by_hand(k):
    """What is seen at radius r lay at r (1 + k r^2), where 1 is the corner: points go the other way."""
    seen = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, -0.7], [0.3, 0.4]])  # of the half diagonal, 10 pixels
    middle = torch.tensor([8.0, 6.0])
    old = seen * (1 + k * seen.square().sum(1, keepdim=True)) * 10 + middle
    keypoints = torch.cat([old, torch.full((4, 1), 2.0)], 1)[None]
    boxes = torch.tensor([[0.0, 0.0, 16.0, 12.0]])
    batch = Batch(torch.rand(1, 1, 12, 16), image_index=torch.tensor([0]), boxes=boxes, keypoints=keypoints)
    found = warps.distort(batch, torch.tensor([k]))
    inside = found.keypoints[0, :, 2] > 0
    assert inside[[0, 1, 3]].all()
    assert torch.allclose(found.keypoints[0, inside, :2], (seen * 10 + middle)[inside], atol=1e-3)
    if k == 0:
        assert torch.allclose(found.images, batch.images, atol=1e-5) and torch.equal(found.boxes, boxes)
    with pytest.raises(ValueError, match="not from 0 to below 1/3"):
        LensDistortion(0.4)


def test_short_side_windows_by_hand(monkeypatch):
    """An image of 20 x 40 to a short side of 40, of which the window of 10 x 30 is a quarter and three eighths."""
    monkeypatch.setattr(warps, "uniform", lambda images, *shape, generator: torch.tensor([[0.0, 1.0]]))
    sample = rectangles([[30, 2, 35, 4]], 20, 40)
    found = ShortSide((10, 30), (40, 40))(sample)
    assert found.image.shape == (1, 10, 30) and found.target.boxes[0].tolist() == pytest.approx([10, 4, 20, 8])
    with pytest.raises(ValueError, match="a window of 30 x 30 does not fit into an image of 20 x 40"):
        ShortSide((30, 30), (25, 40))(sample)


def test_selected_images_keep_their_objects():
    one, two = rectangles([[1, 1, 5, 5], [2, 2, 6, 6]], 16, 20), rectangles([[3, 3, 9, 9]], 16, 20)
    batch = Batch.of([one, two])
    assert warps.select(batch, torch.tensor([1, 0])).boxes[0].tolist() == [3, 3, 9, 9]
    assert warps.select(batch, torch.tensor([0])).boxes.tolist() == one.target.boxes.tolist()


def test_a_mix_of_what_moves_and_what_does_not_keeps_all_objects():
    """An object's area is not known any more after a change of geometry, and so is dropped for all of a batch."""
    samples = [rectangles([[2, 3, 12, 9]], 16, 20, channels=3) for _ in range(6)]
    with_area = [
        dataclasses.replace(each, target=dataclasses.replace(each.target, area=torch.tensor([60.0])))
        for each in samples
    ]
    found = RandomMix([Flip(1.0), ColorJitter()], 1)(Batch.of(with_area), generator())
    assert found.area is None and found.image_index.tolist() == list(range(6))
    flipped = found.boxes[:, 0] == 8
    assert flipped.sum() == 3 and (found.boxes[~flipped, 0] == 2).all()
