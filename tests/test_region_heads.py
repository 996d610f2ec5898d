"""Heads of masks and keypoints, YOLO's loss without a loop: values by hand, and the loop written out here."""

import pytest
import torch
from torch.nn import functional as F

from vision import backbones
from vision.data import scenes
from vision.data.samples import Sample, Target
from vision.detection import data, detector, keypoint_rcnn, mask_rcnn, regions, torchvision_weights, yolo
from vision.ops import boxes, masks


def test_masks_are_cut_from_boxes_and_pasted_back():
    """A rectangle in a box: its share of the grid, and the same pixels again; half a pixel is none."""
    mask = torch.zeros(1, 12, 16, dtype=torch.bool)
    mask[0, 2:8, 4:12] = True
    whole = torch.tensor([[0.0, 0, 16, 12]])
    cut = masks.crop(mask, torch.tensor([[4.0, 2, 12, 8], [0, 2, 8, 8]]), torch.tensor([0, 0]), 4)
    assert cut[0, 1:3, 1:3].min() == 1  # interior; at the edge the interpolation sees what lies outside
    torch.testing.assert_close(cut[1, 1], torch.tensor([0.0, 0, 1, 1]), atol=0.26, rtol=0)
    again = masks.paste(masks.crop(mask, whole, torch.tensor([0]), 96), whole, (12, 16))
    assert torch.equal(again, mask)
    full = masks.paste(torch.ones(2, 28, 28), torch.tensor([[4.0, 2, 12, 8], [3.6, 2, 11.4, 8]]), (12, 16))
    assert torch.equal(full[0], mask[0])
    assert full[1].nonzero().amin(0).tolist() == [2, 4] and full[1].nonzero().amax(0).tolist() == [7, 10]
    assert masks.paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), (12, 16)).shape == (0, 12, 16)


def test_keypoints_lie_in_places_of_a_grid():
    points = torch.tensor([[[10.0, 20, 2], [17.9, 27.9, 1], [18, 28, 2], [9.9, 20, 2], [12, 22, 0]]])
    places = keypoint_rcnn.grid_places(points, torch.tensor([[10.0, 20, 18, 28]]), 8)
    assert places.tolist() == [[0, 63, 63, -1, -1]]  # the last place holds the far edge; outside, unlabeled: none
    logits = torch.full((1, 1, 8, 8), -5.0)
    logits[0, 0, 3, 5] = 5.0
    found = keypoint_rcnn.from_heatmaps(logits, torch.tensor([[10.0, 20, 26, 28]]))
    torch.testing.assert_close(found[0, 0, :2], torch.tensor([10 + 5.5 * 2, 20 + 3.5]), atol=0.6, rtol=0)
    assert keypoint_rcnn.from_heatmaps(logits[:0], torch.zeros(0, 4)).shape == (0, 1, 3)


def test_extreme_points_of_masks():
    """An L of pixels: the middle of its outermost columns and rows, and its centroid."""
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[0, 1:5, 2] = True
    mask[0, 4, 2:6] = True  # 7 pixels
    left, top, right, bottom, center = scenes.extreme_points(mask)[0, :, :2].tolist()
    assert left == [2, 3] and top == [2.5, 1] and right == [6, 4.5] and bottom == [4, 5]
    assert center == pytest.approx([(4 * 2.5 + 3.5 + 4.5 + 5.5) / 7, (1.5 + 2.5 + 3.5 + 4 * 4.5) / 7])
    mirrored = data.augmentation("flip", 5)
    generator = torch.Generator().manual_seed(0)
    target = Target(
        boxes=torch.tensor([[2.0, 1, 6, 5]]), labels=torch.tensor([0]), keypoints=scenes.extreme_points(mask)
    )
    sample = Sample(mask.byte().expand(3, -1, -1), target)
    flipped = next(each for _ in range(20) if (each := mirrored(sample, generator)).image[0, 1, 2] == 0)
    torch.testing.assert_close(flipped.target.keypoints, scenes.extreme_points(flipped.image[:1].bool()))


def test_parameters_of_mask_and_keypoint_rcnn_are_torchvisions():
    """maskrcnn_resnet50_fpn of 91 classes and keypointrcnn_resnet50_fpn of 2, background included."""
    with torch.device("meta"):
        network = mask_rcnn.MaskRCNN(backbones.build("resnet50", (3, 224, 224)), 90)
        pose = keypoint_rcnn.KeypointRCNN(backbones.build("resnet50", (3, 224, 224)), 1)
    for model, count in ((network, 44_401_393), (pose, 59_137_258)):
        detector.fix_norms(model.backbone)
        assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == count
    keys = torchvision_weights.to_torchvision(network)
    assert keys["roi_heads.mask_head.3.0.weight"].shape == (256, 256, 3, 3)
    assert keys["roi_heads.mask_predictor.conv5_mask.weight"].shape == (256, 256, 2, 2)
    assert keys["roi_heads.mask_predictor.mask_fcn_logits.weight"].shape == (91, 256, 1, 1)
    keys = torchvision_weights.to_torchvision(pose)
    assert keys["roi_heads.keypoint_head.14.weight"].shape == (512, 512, 3, 3)
    assert keys["roi_heads.keypoint_predictor.kps_score_lowres.weight"].shape == (512, 17, 4, 4)


def loop_over_images(model, images, targets):
    """YOLO's losses, image by image and as the papers write them."""
    found, confidence, classes = model.predict(images)
    tall, wide = images.shape[-2:]
    side = round((found.shape[1] // model.count) ** 0.5)
    box = score = label = 0
    weights = model.options.weights or (yolo.VERSION_2 if model.options.anchors else yolo.VERSION_1)
    for number, target in enumerate(targets):
        objects, labels, crowds = regions.present(target)
        scale = objects.new_tensor([wide, tall] * 2)
        objects, crowds = objects / scale, crowds / scale
        corners = boxes.from_center(found[number]).detach()
        own, quiet = confidence[number].sigmoid(), torch.ones(found.shape[1], dtype=torch.bool)
        for crowd in crowds:
            inside, area = boxes.intersection(corners, crowd[None])[:, 0], boxes.area(corners)
            quiet &= (inside < 0.5 * area) | (area == 0)  # a box without area lies in no crowd
        taken = {}
        for place, (cx, cy, w, h) in enumerate(boxes.to_center(objects).tolist()):
            overlap = boxes.iou(objects[place][None], corners)[0]
            quiet &= overlap < model.options.ignored
            cell = (int(cy * side) * side + int(cx * side)) * model.count
            if model.options.anchors:
                shapes = model.shapes.tolist()
                fit = [min(w, a) * min(h, b) / (w * h + a * b - min(w, a) * min(h, b)) for a, b in shapes]
                row, weight = cell + max(range(model.count), key=lambda k: fit[k]), 2 - w * h
            else:
                row, weight = cell + overlap[cell : cell + model.count].argmax().item(), 1
            taken[place] = row
            x, y, width, height = found[number, row]
            middle = ((x - cx) * side) ** 2 + ((y - cy) * side) ** 2
            if model.options.anchors:
                extent = (width / w).log() ** 2 + (height / h).log() ** 2
                label = label + F.cross_entropy(classes[number, row], labels[place])
            else:
                extent = (width.sqrt() - w**0.5) ** 2 + (height.sqrt() - h**0.5) ** 2
                share = F.one_hot(labels[place], model.classes)
                label = label + (classes[number, row].softmax(0) - share).square().sum()
            box = box + weight * (middle + extent)
            score = score + weights.object * (own[row] - overlap[row]) ** 2
        quiet[list(taken.values())] = False
        score = score + weights.no_object * own[quiet].square().sum()
    count = len(targets)
    return {
        "loss/boxes": weights.coordinates * box / count,
        "loss/confidence": score / count,
        "loss/classes": label / count,
    }


@pytest.mark.parametrize("anchors", [5, 0])
def test_yolos_loss_equals_a_loop_over_images(anchors):
    """With crowds, an image without objects, and two objects in one cell; gradients too."""
    torch.manual_seed(0)
    backbone = backbones.build("resnet20", (3, 64, 64), width=0.5)
    model = yolo.YOLO(backbone, 10, yolo.Options(64, 32, anchors)).eval()
    torch.nn.init.normal_(model.last.weight, std=0.3)
    none = Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    two = torch.tensor([[4.0, 4, 40, 30], [5, 4, 41, 31], [20, 20, 60, 60], [0, 0, 9, 9]])
    crowd = torch.tensor([False, False, True, False])
    targets = [Target(boxes=two, labels=torch.tensor([1, 2, 3, 4]), crowd=crowd), none]
    targets += [scenes.Scenes(1, seed=3, side=64)[0].target]
    images = torch.rand(3, 3, 64, 64)
    found, expected = model.losses(images, [], targets), loop_over_images(model, images, targets)
    gradients = []
    for losses in (found, expected):
        model.zero_grad()
        sum(losses.values()).backward()
        gradients.append(model.last.weight.grad.clone())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*gradients)
