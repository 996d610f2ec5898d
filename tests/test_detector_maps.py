"""Maps that detectors read: grids over images of any shape, and wide enough for large objects."""

import dataclasses

import pytest
import torch

from vision import backbones
from vision.data import scenes
from vision.data.samples import Target
from vision.detection import clusters, detector, faster_rcnn, regions, ssd, train, yolo
from vision.ops import anchors


def test_maps_of_networks_without_padding_are_grids_over_the_image():
    """DQN's network leaves 20, 9 and 7 places of 84 pixels in strides of 4, 8 and 8, of which 21, 10 and 10 would
    fit: the last of them needs 3 more, a border of 12 pixels a side, with which there are 26, 12 and 10.
    """
    nature = backbones.build("nature", (3, 84, 84))
    found = detector.align(nature, (84, 84))
    assert found.border == (12, 12, 12, 12)
    assert [down for down, _ in found.parts] == [slice(2, 23), slice(1, 11), slice(0, 10)]
    assert [tuple(each.shape[2:]) for each in detector.Detector(nature).features(torch.zeros(1, 3, 84, 168))] == [
        (21, 42), (10, 21), (10, 21),
    ]  # fmt: skip
    assert detector.align(backbones.build("resnet20", (3, 32, 32)), (96, 64)) is None
    nature.set_mean_observation(torch.zeros(3, 84, 84, dtype=torch.uint8))  # takes no other size
    assert detector.align(nature, (84, 84)) is None


@pytest.mark.parametrize("name", ["nature", "alexnet", "resnet20", "impala"])
def test_places_of_maps_see_the_pixels_of_their_strides(name):
    """The places that a bright pixel changes are around the pixel, wherever it is, to within half a stride and the
    rounding of a receptive field's ends.
    """
    torch.manual_seed(0)
    model = detector.Detector(backbones.build(name, (3, 224, 224))).eval()
    blank = torch.full((1, 3, 224, 320), 0.5)
    for down, along in ((64, 71), (107, 160), (150, 250)):
        changed = blank.clone()
        changed[:, :, down, along] = 1
        with torch.no_grad():
            pairs = zip(model.features(blank), model.features(changed), model.backbone.strides, strict=True)
        for before, after, stride in list(pairs)[:2]:
            rows, columns = ((before - after).abs().amax((0, 1)) > 1e-7).nonzero(as_tuple=True)
            for places, pixel in ((rows, down), (columns, along)):
                middle = (places.min() + places.max() + 1) / 2 * stride
                assert abs(middle - pixel - 0.5) <= stride


@pytest.mark.parametrize("name", ["yolo", "faster_rcnn"])
def test_what_is_predicted_depends_on_what_is_far_off(name):
    """A place of DQN's last map sees 36 pixels, and the convolution behind it 52: rows of bricks have 288."""
    torch.manual_seed(0)
    backbone = backbones.build("nature", (3, 160, 160))
    options = {"yolo": yolo.Options(160, 16, 2, stride=8), "faster_rcnn": faster_rcnn.Options(16, 16, 1.5)}
    model = {"yolo": yolo.YOLO, "faster_rcnn": faster_rcnn.FasterRCNN}[name](backbone, 2, options[name]).eval()
    images = torch.rand(1, 3, 160, 160).requires_grad_()
    found = model.predict(images)[1] if name == "yolo" else model.rpn.head(model.maps(images)[:2])[0][1]
    middle = found.view(1, 20, 20, -1)[0, 10, 10].sum()
    (gradient,) = torch.autograd.grad(middle, images)
    seen = gradient.abs().amax((0, 1, 2)).nonzero()
    assert seen.min() < 40 and seen.max() > 120


def test_ssd_reads_what_is_around_and_has_default_boxes_of_the_training_boxes_shapes():
    """Rows of 48 x 4 and dots of 2 x 4 of 64 x 96 pixels: each place of the finest map has a box of either shape."""
    backbone = backbones.build("nature", (3, 96, 96))
    model = ssd.SSD(backbone, 2, ssd.Options(96, 8, clusters=2, top_down=True))
    model.set_shapes(torch.tensor([[48 / 64, 4 / 96], [2 / 64, 4 / 96]]))
    images = torch.rand(1, 3, 96, 64).requires_grad_()
    places, logits, _ = model.predict(images)
    sizes = (places[:, 2:] - places[:, :2])[: 12 * 8 * 6].view(12 * 8, 6, 2)
    assert sizes[:, 4:].allclose(torch.tensor([[2.0, 4.0], [48.0, 4.0]]))
    (gradient,) = torch.autograd.grad(logits[0, : 12 * 8 * 6].view(12, 8, -1)[6, 4].sum(), images)
    seen = gradient.abs().amax((0, 1, 3)).nonzero()
    assert seen.max() - seen.min() > 60  # its own map and the convolution behind it: 52
    keys = ssd.SSD(backbone, 2, ssd.Options(96, 8)).state_dict()
    assert not any("top_down" in key or "shapes" in key for key in keys)


def test_anchors_of_the_training_boxes_shapes_are_where_they_are_dense_enough():
    """Sides of 6, 12 and 24 pixels at strides of 4, 8 and 16: a ball of 4 x 8 is on the first level, rows of 288 x 12
    and cars of 16 x 16 are on the second, nothing is on the third; of an image of 32 x 64 there are 128 and 2 x 32.
    """
    sides, options = [(6.0,), (12.0,), (24.0,)], regions.ProposalOptions(before=(5, 5), after=(4, 4))
    network = regions.ProposalNetwork(8, (4, 8, 16), sides, options, clusters=3).eval()
    network.set_shapes(torch.tensor([[4.0, 8], [288, 12], [16, 16]]))
    assert network.levels == [[0], [1, 2], []]
    again = regions.ProposalNetwork(8, (4, 8, 16), sides, options, clusters=3)
    again.load_state_dict(network.state_dict())
    assert again.levels == network.levels
    maps = [torch.rand(2, 8, 32 // stride, 64 // stride) for stride in (4, 8, 16)]
    target = Target(boxes=torch.tensor([[10.0, 4, 14, 12]]), labels=torch.zeros(1).long())
    found, losses = network(maps, [(32, 64)] * 2, [target] * 2)
    assert [len(each) <= 4 for each in found] == [True] * 2 and all(each.isfinite() for each in losses.values())
    counts = []
    network._losses = lambda places, scores, offsets, targets: counts.extend(
        (len(places), scores.shape, offsets.shape)
    )
    network(maps, [(32, 64)] * 2, [target] * 2)
    assert counts == [192, (2, 192), (2, 192, 4)]
    (dense,) = anchors.at_places([(1, 2)], [8], [torch.tensor([[-2.0, -4, 2, 4]])])
    assert dense.tolist() == [[-2, -4, 2, 4], [6, -4, 10, 4]]


def test_clusters_differ_where_most_boxes_are_alike():
    """Of 90 rows, five paddles and five balls three clusters are the three shapes. Pixels are those of resizing."""
    sizes = torch.tensor([[288.0, 12]] * 90 + [[32, 8]] * 5 + [[4, 8]] * 5)
    assert clusters.cluster(sizes, 3).tolist() == [[4, 8], [32, 8], [288, 12]]
    few = scenes.Scenes(2, seed=1)
    parts, pixels = clusters.shapes_of(few), clusters.shapes_of(few, lambda size: (2 * size[0], 3 * size[1]))
    assert pixels.allclose(parts * torch.tensor([3 * 128.0, 2 * 128]))


def test_shapes_of_images_are_kept_where_they_are_not_stretched():
    """YOLO's cells and SSD's default boxes of 64 x 96 pixels: centers are half a stride off the edges, along and
    down, also of SSD's coarse maps, whose places are not square.
    """
    backbone = backbones.build("resnet20", (3, 64, 64), width=0.25)
    images = torch.zeros(1, 3, 64, 96)
    found, _, _ = yolo.YOLO(backbone, 2, yolo.Options(64, 16, 2, stride=4)).predict(images)
    assert found.shape == (1, 16 * 24 * 2, 4)
    places = ssd.SSD(backbone, 2, ssd.Options(64, 8)).predict(images)[0]
    middles = (places[:, :2] + places[:, 2:]) / 2
    assert middles.amin(0).tolist() == pytest.approx([2, 2]) and middles.amax(0).tolist() == pytest.approx([94, 62])
    for name in ("yolo", "ssd", "faster_rcnn"):
        config = train.recipe(train.Config(model=name))
        asked = dataclasses.replace(config, backbone="nature", width=None, size=64, stretch=False)
        assert not train.build(asked, detector.Objects(2)).fixed_size
