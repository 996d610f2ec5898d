"""Operators of detection: values by hand and of torchvision 0.28, gradients, and a loop that says what NMS means."""

import importlib

import pytest
import torch
from torch import nn
from torchvision_oracle import import_torchvision

from vision.ops import anchors, boxes, matching, nms, pyramid, roi

A = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 5.0, 9.0]])
B = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 3.0, 1.0]])


def random_boxes(count, side=100.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner, size = torch.rand(2, count, 2, generator=generator, dtype=dtype) * side
    return torch.cat([corner, corner + size / 3], 1)


def test_iou_and_giou_by_hand():
    """Boxes of 4 and 4 that share 1; boxes of 1 and 1, two apart, in a hull of 3; a line, which has no area."""
    assert boxes.iou(A, B).tolist() == [[pytest.approx(1 / 7), 0], [0, 0], [0, 0]]
    assert boxes.giou(A, B)[0, 0].item() == pytest.approx(1 / 7 - 2 / 9)  # of a hull of 9, 7 are covered
    assert boxes.giou(A, B)[1, 1].item() == pytest.approx(-1 / 3)
    assert boxes.giou(A[:2], A[:2]).diagonal().tolist() == [1, 1]
    assert boxes.iou(A[2:], A[2:]).item() == 0 and boxes.giou(A[2:], A[2:]).isfinite().all()
    assert torch.equal(boxes.iou(A[None].expand(3, 3, 4), B[None].expand(3, 2, 4))[1], boxes.iou(A, B))
    assert boxes.iou(A[:0], B).shape == (0, 2)
    torch.testing.assert_close(boxes.paired_giou(A[:2], B), boxes.giou(A[:2], B).diagonal())


def test_offsets_by_hand_and_back():
    """A box of 20 x 40 about (30, 40) and its anchor of 10 x 10 about (25, 35): half an anchor away on both axes."""
    anchor, box = torch.tensor([[20.0, 30.0, 30.0, 40.0]]), torch.tensor([[20.0, 20.0, 40.0, 60.0]])
    expected = torch.tensor([[0.5, 0.5, 2.0, 4.0]])
    expected[:, 2:] = expected[:, 2:].log()
    torch.testing.assert_close(boxes.encode(box, anchor), expected)
    torch.testing.assert_close(boxes.encode(box, anchor, (10, 10, 5, 5)), expected * torch.tensor([10, 10, 5, 5]))
    some, other = random_boxes(50), random_boxes(50, seed=1)
    torch.testing.assert_close(boxes.decode(boxes.encode(some, other, (10, 10, 5, 5)), other, (10, 10, 5, 5)), some)
    huge = boxes.decode(torch.tensor([[0.0, 0.0, 99.0, 0.0]]), anchor)
    assert (huge[0, 2] - huge[0, 0]).item() == pytest.approx(625)  # 62.5 times 10
    assert boxes.clip(torch.tensor([[-5.0, 2.0, 50.0, 90.0]]), (30, 40)).tolist() == [[0, 2, 40, 30]]


def test_gradients_of_boxes():
    one, other = random_boxes(4, dtype=torch.float64), random_boxes(4, seed=3, dtype=torch.float64)
    one.requires_grad_()
    for function in (boxes.iou, boxes.giou, boxes.encode, boxes.decode):
        given = one if function is not boxes.decode else (one / 100).detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, other), (given,))
    disjoint = torch.tensor([[0.0, 0, 1, 1]], requires_grad=True)
    boxes.giou(disjoint, B[1:]).sum().backward()
    assert disjoint.grad[0, 2] > 0, "boxes that do not touch are drawn together"


def suppressed_by_a_loop(found, scores, threshold):
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    overlap = boxes.iou(found, found)
    for index in order:
        if all(overlap[index, other] <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_nms_is_what_a_loop_leaves(threshold, monkeypatch):
    """Over several blocks, with equal scores, equal boxes, chains and groups."""
    monkeypatch.setattr(nms, "BLOCK", 16)
    monkeypatch.setattr(nms, "LARGEST", 1 << 9)
    for seed, side in enumerate((20, 60, 300)):
        generator = torch.Generator().manual_seed(seed)
        found = random_boxes(90, side, seed).round()
        found = torch.cat([found, found[:10]])
        scores = (torch.rand(100, generator=generator) * 20).round() / 20
        assert nms.nms(found, scores, threshold).tolist() == suppressed_by_a_loop(found, scores, threshold)
        groups = torch.randint(-2, 5, (100,), generator=generator) ** 3
        kept = nms.batched_nms(found, scores, groups, threshold)
        expected = [
            rows[index].item()
            for group in groups.unique()
            for rows in [(groups == group).nonzero()[:, 0]]
            for index in suppressed_by_a_loop(found[rows], scores[rows], threshold)
        ]
        assert sorted(kept.tolist()) == sorted(expected) and scores[kept].diff().le(0).all()


def test_nms_by_hand():
    """IoU 1/3 of neighbors: at exactly the threshold nothing is suppressed; a suppressed box suppresses none."""
    row = torch.tensor([[0.0, 0, 2, 1], [1, 0, 3, 1], [2, 0, 4, 1], [3, 0, 5, 1]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert nms.nms(row, scores, 0.3).tolist() == [0, 2]
    assert nms.nms(row, scores, float(boxes.iou(row[:1], row[1:2]))).tolist() == [0, 1, 2, 3]
    assert nms.batched_nms(row, scores, torch.tensor([0, 1, 1, 0]), 0.3).tolist() == [0, 1, 3]
    assert nms.nms(row[:0], scores[:0], 0.3).shape == (0,)
    assert nms.batched_nms(row[:0], scores[:0], torch.zeros(0, dtype=torch.int64), 0.3).shape == (0,)


def test_roi_align_has_torchvisions_values():
    """torchvision 0.28's of arange(2 * 3 * 8 * 8), aligned, two samples a side."""
    maps = torch.arange(2.0 * 3 * 8 * 8).view(2, 3, 8, 8)
    found = torch.tensor([[0.0, 0, 4, 4], [1, 1, 6.5, 7]])
    pooled = roi.roi_align(maps, found, torch.tensor([0, 1]), (2, 2), aligned=True)
    assert pooled.shape == (2, 3, 2, 2)
    assert pooled[0, 0].tolist() == [[4.5, 6.5], [20.5, 22.5]]
    assert pooled[1, 0].tolist() == [[209.875, 212.625], [233.875, 236.625]]
    assert roi.roi_align(maps, found[:0], torch.zeros(0, dtype=torch.int64), (2, 2)).shape == (0, 3, 2, 2)


def test_roi_align_by_hand():
    """On a map of x: the middle of each bin; a sample more than a step outside counts as 0, a nearer one as the edge;
    one too small is a step wide unless it is aligned; as many samples as steps where none are asked for."""
    maps = torch.arange(8.0).expand(1, 1, 8, 8)
    image = torch.tensor([0])
    assert roi.roi_align(maps, torch.tensor([[2.0, 2, 6, 6]]), image, (1, 2)).tolist() == [[[[3, 5]]]]
    assert roi.roi_align(maps, torch.tensor([[16.0, 16, 48, 48]]), image, (1, 2), 1 / 8).tolist() == [[[[3, 5]]]]
    assert roi.roi_align(maps, torch.tensor([[7.0, 0, 11, 4]]), image, (1, 1), samples=4).item() == 7 / 4
    assert roi.roi_align(maps, torch.tensor([[3.0, 3, 3, 3]]), image, (1, 1), samples=1).item() == 3.5
    assert roi.roi_align(maps, torch.tensor([[3.0, 3, 3, 3]]), image, (1, 1), samples=1, aligned=True).item() == 2.5
    squares = maps**2
    wide, asked = torch.tensor([[0.0, 0, 6, 6]]), torch.tensor([[0.0, 0, 3, 3]])
    both = roi.roi_align(squares, torch.cat([wide, asked]), torch.tensor([0, 0]), (2, 2), samples=0)
    torch.testing.assert_close(both[:1], roi.roi_align(squares, wide, image, (2, 2), samples=3))
    torch.testing.assert_close(both[1:], roi.roi_align(squares, asked, image, (2, 2), samples=2))


def test_roi_pool_by_hand():
    """Corners (1, 1) and (4, 3) of 4 x 3 places; a bin outside of the map is 0."""
    maps = torch.arange(36.0).view(1, 1, 6, 6)
    image = torch.tensor([0])
    assert roi.roi_pool(maps, torch.tensor([[1.0, 1, 4, 3]]), image, (1, 2)).tolist() == [[[[20, 22]]]]
    assert roi.roi_pool(maps, torch.tensor([[1.0, 1, 4, 3]]), image, (2, 2)).tolist() == [[[[14, 16], [20, 22]]]]
    assert roi.roi_pool(maps, torch.tensor([[2.4, 2.5, 9.0, 9.0]]), image, (1, 1), 0.5).item() == 35
    assert roi.roi_pool(maps, torch.tensor([[4.0, 4, 9, 9]]), image, (1, 2)).tolist() == [[[[35, 0]]]]


@pytest.mark.parametrize("pool", [roi.roi_align, roi.roi_pool])
def test_gradients_of_pooling(pool):
    maps = torch.randperm(2 * 2 * 4 * 5, generator=torch.Generator().manual_seed(0)).double().view(2, 2, 4, 5)
    found, image = random_boxes(5, 4.0, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    assert torch.autograd.gradcheck(lambda x: pool(x, found, image, (3, 2), 0.9), (maps.requires_grad_(),))


def test_a_region_is_pooled_from_the_level_of_its_size():
    """Sides of 112, 224, 448 are of strides 8, 16, 32 (Lin et al. 2016, equation 1), for any strides there are."""
    sides = torch.tensor([1.0, 111, 112, 223, 224, 448, 5000])
    found = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    assert roi.pyramid_levels(found, (4, 8, 16, 32)).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert roi.pyramid_levels(found, (8, 16)).tolist() == [0, 0, 0, 0, 1, 1, 1]
    maps = [torch.full((2, 1, 64 // n, 64 // n), float(n)) for n in (1, 2, 4)]
    pooled = roi.pyramid_align(maps, (4, 8, 16), found[1:6], torch.tensor([0, 1, 0, 1, 0]), (2, 2))
    assert pooled[:, 0, 0, 0].tolist() == [1, 2, 2, 4, 4] and pooled.shape == (5, 1, 2, 2)


def test_anchors_by_hand():
    """Those of torchvision: whole corners, height to width 1/2, 1, 2, place by place."""
    cells = anchors.cell_anchors((32.0,), (0.5, 1.0, 2.0))
    assert cells.tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    (level,) = anchors.pyramid_anchors([(2, 3)], [8], [(32.0,)])
    assert level.shape == (18, 4) and torch.equal(level[3:6], cells + torch.tensor([8, 0, 8, 0]))
    assert torch.equal(level[9:12], cells + torch.tensor([0, 8, 0, 8]))
    with pytest.raises(ValueError, match="1 maps, 2 strides and 1 levels"):
        anchors.pyramid_anchors([(2, 3)], [8, 16], [(32.0,)])


def test_ssd300_has_8732_default_boxes():
    maps = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
    scales, ratios = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
    found = anchors.default_boxes(maps, (8, 16, 32, 64, 100, 300), (300, 300), scales, ratios)
    assert found.shape == (8732, 4) and (found[:, 2:] - found[:, :2]).max() == 300 and found[:, 0].min() < 0
    center, side = boxes.to_center(found[4 * 38 * 20 + 4 * 20]).split(2)
    torch.testing.assert_close(center, torch.tensor([164.0, 164.0]))
    torch.testing.assert_close(side, torch.tensor([21.0, 21.0]))
    wide = boxes.to_center(found[4 * 38 * 20 + 4 * 20 + 2])[2:]
    torch.testing.assert_close(wide, torch.tensor([21 * 2**0.5, 21 / 2**0.5]))


def test_matching_by_hand():
    overlap = torch.tensor([[0.8, 0.5, 0.1, 0.0, 0.2], [0.1, 0.6, 0.2, 0.0, 0.2]])
    assert matching.match(overlap, 0.7, 0.3).tolist() == [0, -2, -1, -1, -1]
    assert matching.match(overlap, 0.7, 0.3, best_too=True).tolist() == [0, 1, -1, -1, -1]
    assert matching.match(overlap[:0], 0.7, 0.3).tolist() == [-1] * 5
    assert matching.match(overlap * 0, 0.7, 0.3, best_too=True).tolist() == [-1] * 5
    assert matching.best_of_each(overlap / 2, 0.3).tolist() == [0, 1, -1, -1, -1]
    assert matching.best_of_each(overlap[:0], 0.5).tolist() == [-1] * 5


def test_samples_are_as_many_as_there_are():
    matched = torch.tensor([0] * 10 + [-1] * 100 + [-2] * 7)
    positives, negatives = matching.sample(matched, 32, 0.25, torch.Generator().manual_seed(0))
    assert len(positives) == 8 and len(negatives) == 24 and (matched[negatives] == -1).all()
    assert len(set(positives.tolist())) == 8 and (matched[positives] >= 0).all()
    positives, negatives = matching.sample(matched[9:12], 32, 0.25)
    assert (len(positives), len(negatives)) == (1, 2)


def test_pyramid_adds_the_coarser_map():
    """With lateral weights of one, 3x3 weights that copy: each map is the sum of itself and all coarser ones."""
    network = pyramid.FeaturePyramid((1, 1), width=1)
    for block in (*network.inner_blocks, *network.layer_blocks):
        nn.init.zeros_(block[0].weight)
        block[0].weight.data[0, 0, block[0].kernel_size[0] // 2, block[0].kernel_size[1] // 2] = 1
    fine, coarse = torch.arange(15.0).view(1, 1, 3, 5), torch.tensor([[[[100.0, 200, 300], [400, 500, 600]]]])
    first, second, third = network([fine, coarse])
    repeated = torch.tensor([[100, 100, 200, 200, 300], [100, 100, 200, 200, 300], [400, 400, 500, 500, 600]])
    assert torch.equal(first[0, 0], fine[0, 0] + repeated) and torch.equal(second, coarse)
    assert third.tolist() == [[[[100, 300]]]]
    assert list(network.state_dict())[:2] == ["inner_blocks.0.0.weight", "inner_blocks.0.0.bias"]


@pytest.fixture(scope="module")
def torchvision():
    """The test is skipped where torchvision is not installed."""
    try:
        return import_torchvision()
    except ImportError:
        pytest.skip("torchvision is not installed")


def test_values_are_torchvisions(torchvision, monkeypatch):
    """Its RoIAlign in Python does not know of samples outside of the map: regions lie inside."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    theirs = torchvision.ops
    maps, found = torch.randn(2, 16, 30, 40), random_boxes(50, 160.0) + 8
    image = torch.arange(50) % 2
    rows = torch.cat([image[:, None].float(), found], 1)
    for aligned in (False, True):
        for samples in (1, 2, 3):
            expected = theirs.roi_align(maps, rows, (7, 5), 1 / 8, samples, aligned)
            ours = roi.roi_align(maps, found, image, (7, 5), 1 / 8, samples, aligned)
            torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    other = random_boxes(30, seed=1)
    torch.testing.assert_close(boxes.iou(found, other), theirs.box_iou(found, other))
    torch.testing.assert_close(boxes.giou(found, other), theirs.generalized_box_iou(found, other))
    coder = importlib.import_module("torchvision.models.detection._utils").BoxCoder((10.0, 10.0, 5.0, 5.0))
    torch.testing.assert_close(
        boxes.encode(found[:30], other, (10, 10, 5, 5)), coder.encode_single(found[:30], other), atol=1e-4, rtol=1e-4
    )


def test_coarser_maps_and_their_sum_by_hand():
    """A stride of 8 goes on to 16 and 32, not beyond; a kernel of ones sums what is there, borders being zeros. Of
    maps of 4, 2 and 1 places the finest gets its own number, that of its pair and that of all.
    """
    further = pyramid.CoarserMaps(1, 8, 1, coarsest=32)
    assert further.strides == [16, 32] and further.channels == [1, 1]
    assert pyramid.CoarserMaps(3, 32, 4, coarsest=32).strides == [] and not pyramid.CoarserMaps(3, 64, 4, 32).layers
    with torch.no_grad():
        for layer in further.layers:
            layer.weight.fill_(1)
        two, one = further(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]))
        assert two.tolist() == [[[[3.0, 9.0]]]] and one.tolist() == [[[[12.0]]]]
        total = pyramid.TopDown((1, 1, 1), width=1)
        for layer in total.inner_blocks:
            layer.weight.fill_(1)
        found = total([torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.tensor([[[[10.0, 20.0]]]]), one * 0 + 100])
    assert found.tolist() == [[[[111.0, 112.0, 123.0, 124.0]]]]
