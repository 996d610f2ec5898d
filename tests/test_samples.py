"""Samples and batches: shapes named in errors, and nothing lost between the two."""

import dataclasses

import pytest
import torch

from vision.data.samples import Batch, Sample, Target, boxes_of_masks

IMAGE = torch.zeros(3, 4, 6, dtype=torch.uint8)
BOXES = torch.tensor([[0.0, 0.0, 2.0, 3.0], [1.0, 1.0, 6.0, 4.0]])


def sample(count, seed=0):
    """An image (3, 4, 6) with `count` objects and every field."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 2
    return Sample(
        torch.randint(256, (3, 4, 6), generator=generator, dtype=torch.uint8),
        Target(
            label=seed,
            boxes=torch.cat([corner, corner + 1], 1),
            labels=torch.arange(count),
            masks=torch.rand(count, 4, 6, generator=generator) < 0.5,
            keypoints=torch.rand(count, 5, 3, generator=generator),
            crowd=torch.arange(count) == 1,
            area=torch.rand(count, generator=generator),
            semantic=torch.randint(5, (4, 6), generator=generator),
            captions=("a shape", f"number {seed}"),
        ),
    )


def same(one, other):
    """Whether two samples are equal, field by field."""
    fields = [(getattr(one.target, f.name), getattr(other.target, f.name)) for f in dataclasses.fields(Target)]
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in [(one.image, other.image), *fields]
    )


def test_a_batch_gives_its_samples_back():
    """One of them has no objects."""
    samples = [sample(2, 0), sample(0, 1), sample(3, 2)]
    batch = Batch.of(samples)
    assert batch.images.shape == (3, 3, 4, 6) and batch.image_index.tolist() == [0, 0, 2, 2, 2]
    assert batch.label.tolist() == [0, 1, 2] and batch.keypoints.shape == (5, 5, 3)
    assert all(same(a, b) for a, b in zip(samples, batch.samples(), strict=True))
    assert all(same(a, b) for a, b in zip(samples, batch.to("cpu").samples(), strict=True))
    assert same(Batch.of([Sample(IMAGE)]).samples()[0], Sample(IMAGE))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("boxes", torch.zeros(2, 5), r"boxes has shape \(2, 4\), not \(2, 5\)"),
        ("boxes", torch.zeros(2, 4, dtype=torch.int64), "boxes is of floats, not of torch.int64"),
        (
            "boxes",
            torch.tensor([[3.0, 0.0, 2.0, 1.0]] * 2),
            r"left, top, right, bottom\), not \[3.0, 0.0, 2.0, 1.0\]",
        ),
        ("boxes", torch.tensor([[0.0, 0.0, float("nan"), 1.0]] * 2), r"not \[0.0, 0.0, nan, 1.0\]"),
        ("boxes", None, "labels are of objects, and there are no boxes"),
        ("labels", torch.zeros(3, dtype=torch.int64), r"labels has shape \(2,\), not \(3,\)"),
        ("labels", torch.zeros(2), "labels is of torch.int64, not of torch.float32"),
        ("masks", torch.zeros(2, 6, 4, dtype=torch.bool), r"masks has shape \(2, 4, 6\), not \(2, 6, 4\)"),
        ("keypoints", torch.zeros(2, 17, 2), r"keypoints has shape \(2, P, 3\), not \(2, 17, 2\)"),
        ("semantic", torch.zeros(4, 5, dtype=torch.int64), r"semantic has shape \(4, 6\), not \(4, 5\)"),
        ("semantic", torch.zeros(4, 6, dtype=torch.uint8), "semantic is of torch.int64, not of torch.uint8"),
    ],
)
def test_a_wrong_field_is_named(field, value, message):
    right = Target(boxes=BOXES, labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        Sample(IMAGE, dataclasses.replace(right, **{field: value}))
    Sample(IMAGE, right)


def test_a_wrong_image_is_named():
    with pytest.raises(ValueError, match=r"image is \(C, H, W\), not \(4, 6\)"):
        Sample(IMAGE[0])
    with pytest.raises(ValueError, match="image is of torch.uint8 or floats, not of torch.int64"):
        Sample(IMAGE.long())
    with pytest.raises(ValueError, match=r"images is \(N, C, H, W\), not \(3, 4, 6\)"):
        Batch(IMAGE)
    with pytest.raises(ValueError, match="boxes and image_index come together"):
        Batch(IMAGE[None], boxes=BOXES)
    with pytest.raises(ValueError, match=r"label has shape \(1,\), not \(2,\)"):
        Batch(IMAGE[None], label=torch.zeros(2, dtype=torch.int64))


def test_what_makes_no_batch_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        Batch.of([])
    with pytest.raises(ValueError, match=r"one size, not of \(3, 4, 5\), \(3, 4, 6\)"):
        Batch.of([Sample(IMAGE), Sample(IMAGE[:, :, :5])])
    with pytest.raises(ValueError, match="1 of 2 samples have no label, and the others have"):
        Batch.of([Sample(IMAGE, Target(label=1)), Sample(IMAGE)])


def test_boxes_of_masks_by_hand():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    masks[1, 0, 0] = masks[1, 3, 5] = True
    assert boxes_of_masks(masks).tolist() == [[2, 1, 5, 3], [0, 0, 6, 4], [0, 0, 0, 0]]
    assert boxes_of_masks(masks[:0]).shape == (0, 4)
