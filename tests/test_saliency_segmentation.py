"""GrabCut initialized with a saliency map: a square in noise, what a map of one value gives, a run on shapes."""

import dataclasses

import pytest
import torch

from vision.classification import train as classification
from vision.interpretation import saliency_segmentation as segmentation

pytest.importorskip("cv2")


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A red square on green noise, (3, 40, 40) uint8, and its mask."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 60, (3, 40, 40), generator=generator, dtype=torch.uint8)
    image[1] += 120
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[10:25, 12:30] = True
    image[0][mask] = 220
    image[1][mask] = 20
    return image, mask


def test_a_square_is_found_from_a_part_of_it():
    image, mask = scene()
    rows, columns = torch.meshgrid(torch.arange(40) - 16, torch.arange(40) - 19, indexing="ij")
    heat = torch.exp(-(rows**2 + columns**2) / 128)  # highest within it, and not zero around it
    found = segmentation.grabcut(image, heat)
    assert found.dtype == torch.bool and segmentation.iou(found, mask) > 0.95
    assert segmentation.iou(heat > heat.mean(), mask) < 0.8
    assert torch.equal(found, segmentation.grabcut(image, heat)), "the same again"


def test_what_is_surely_background_is_in_no_mask():
    """An object of the same color at the other side of the picture, where the map is lowest."""
    image, mask = scene()
    image[:, 32:38, 32:38] = image[:, 11:17, 13:19]
    heat = mask.float() + torch.arange(40 * 40).reshape(40, 40).flip(0, 1) / 1e6
    found = segmentation.grabcut(image, heat)
    assert found[12:23, 14:28].all() and not found[32:38, 32:38].any()


def test_a_map_of_one_value_finds_nothing():
    image, _ = scene()
    assert not segmentation.grabcut(image, torch.ones(40, 40)).any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_maps_that_are_mostly_of_one_value_are_cut(value):
    image, mask = scene()
    heat = torch.full((40, 40), value)
    heat[14:17, 15:18] = 1 - value
    assert segmentation.grabcut(image, heat).shape == mask.shape


def test_iou_by_hand():
    one, other = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert segmentation.iou(one, other) == 1.0
    one[:2], other[1:3] = True, True
    assert segmentation.iou(one, other) == pytest.approx(1 / 3)


def test_the_program_scores_shapes(tmp_path, capsys):
    asked = classification.Config(data="shapes", backbone="lenet5")
    small = dict(steps=256, batch=32, wandb="disabled", folder=tmp_path, name="r", device="cpu")
    classification.train(dataclasses.replace(classification.recipe(asked), **small))
    shown = segmentation.Config(str(tmp_path / "shapes/r"), device="cpu", images=6, out=tmp_path / "cut.png")
    found = segmentation.main(shown)
    assert set(found) == {"grabcut", "map"} and all(0 <= value <= 1 for value in found.values())
    assert (tmp_path / "cut.png").read_bytes().startswith(b"\x89PNG") and "mean IoU of 6" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown --method 'x'"):
        segmentation.main(dataclasses.replace(shown, method="x"))
