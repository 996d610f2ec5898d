"""Torchvision's published detectors: files of weights, their keys, and detectors built from them.

    model = torchvision_weights.load("fasterrcnn_resnet50_fpn")                      # fetched once
    model = torchvision_weights.load("files/ssd300_vgg16_coco-b556d3b4.pth")

fasterrcnn_resnet50_fpn (COCO box AP 37.0), maskrcnn_resnet50_fpn (37.9, masks 34.6), keypointrcnn_resnet50_fpn
(54.6, keypoints 65.0), ssd300_vgg16 (25.1): the figures are torchvision's own. Classes are COCO's
category ids less one, 90 with the gaps between them.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from vision import backbones
from vision.backbones import Preprocessing, published
from vision.detection import detector, faster_rcnn, keypoint_rcnn, mask_rcnn, ssd
from vision.detection.detector import Detector

FILES = {  # by architecture
    "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6",
    "maskrcnn_resnet50_fpn": "maskrcnn_resnet50_fpn_coco-bf2d0c1e",
    "keypointrcnn_resnet50_fpn": "keypointrcnn_resnet50_fpn_coco-fc266e95",
    "ssd300_vgg16": "ssd300_vgg16_coco-b556d3b4",
}
OLDER = (  # keys of files before torchvision 0.13, and today's
    (re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"^rpn\.head\.conv\.(weight|bias)$"), r"rpn.head.conv.0.0.\1"),
)
SSD_IMAGES = Preprocessing(300, 300, (0.48235, 0.45882, 0.40784), (1 / 255,) * 3)


def load(name: str | Path) -> Detector:
    """A published detector by its architecture's name, or from a file, in evaluation mode.

    Raises ValueError for another name, and for a file that cannot be fetched or read or has other keys.
    """
    eps = 0.0 if "rcnn_resnet50_fpn" in str(name) else None
    if str(name) in FILES:
        state = published._fetch(str(name), published.File(FILES[str(name)]))
    elif Path(name).is_file():
        state = published._load(Path(name))
    else:
        raise ValueError(f"{name} is no file and no published detector: there are {', '.join(FILES)}")
    return from_torchvision(published.named(state, name), eps).eval()


def from_torchvision(state: dict[str, Tensor], eps: float | None = None) -> Detector:
    """The detector whose weights torchvision's state dict holds, which says what it is by its keys.

    eps: of the norms; None: 1e-5. The published Faster, Mask and Keypoint R-CNN were trained without.
    Raises ValueError where keys or shapes are those of no known detector.
    """
    for pattern, key in OLDER:
        state = {pattern.sub(key, old): value for old, value in state.items()}
    if "backbone.scale_weight" in state:
        classes = len(state["head.classification_head.module_list.0.bias"]) // 4 - 1
        backbone = backbones.build("vgg16", (3, 300, 300), preprocessing=SSD_IMAGES.spec())
        model = ssd.SSD(backbone, classes)
    elif "rpn.head.cls_logits.weight" in state:
        classes = len(state["roi_heads.box_predictor.cls_score.bias"]) - 1
        backbone = backbones.build("resnet50", (3, 224, 224), preprocessing=Preprocessing().spec())
        model = _two_stages(state, backbone, classes)
        detector.fix_norms(backbone)
        for norm in [each for each in backbone.modules() if isinstance(each, nn.BatchNorm2d) and eps is not None]:
            norm.eps = eps
    else:
        raise ValueError(
            "these keys are of no known detector: Faster, Mask, Keypoint R-CNN and SSD of torchvision are"
        )
    own = model.state_dict()
    given = {_own_key(key): value for key, value in state.items()}
    given |= {
        key: value for key, value in own.items() if key.endswith("num_batches_tracked")
    }  # frozen norms have none
    if isinstance(model, ssd.SSD):  # VGG's convolutions stand in the backbone and in the maps made of it
        given = _with_backbone(model, given)
    if missing := sorted(own.keys() ^ given.keys()):
        raise ValueError(f"these keys are of another detector: {missing[0]!r} and {len(missing) - 1} more differ")
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{key!r} is {tuple(value.shape)}, and here {tuple(own[key].shape)}")
    model.load_state_dict(given)
    return model


def _two_stages(state: dict[str, Tensor], backbone: backbones.Backbone, classes: int) -> faster_rcnn.FasterRCNN:
    """The detector of the R-CNN family that the keys are of, with its own weights still."""
    if "roi_heads.mask_predictor.mask_fcn_logits.weight" in state:
        return mask_rcnn.MaskRCNN(backbone, classes)
    if (key := "roi_heads.keypoint_predictor.kps_score_lowres.bias") in state:
        return keypoint_rcnn.KeypointRCNN(backbone, classes, keypoints=len(state[key]))
    return faster_rcnn.FasterRCNN(backbone, classes)


def _own_key(key: str) -> str:
    for theirs, ours in (("backbone.body.", "backbone."), ("backbone.fpn.", "fpn.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if key.startswith(("backbone.features.", "backbone.extra.", "backbone.scale_weight")):
        return "further." + key.removeprefix("backbone.")
    return key


def _with_backbone(model: ssd.SSD, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by both names of layers that the backbone and the maps share."""
    by_storage = {value.data_ptr(): key for key, value in model.state_dict().items() if key.startswith("further.")}
    shared = {key: by_storage.get(value.data_ptr()) for key, value in model.backbone.state_dict().items()}
    return given | {f"backbone.{key}": given[name] for key, name in shared.items() if name in given}


def to_torchvision(model: Detector) -> dict[str, Tensor]:
    """A detector's state dict with torchvision's keys; every tensor has the shape (...) that it has here."""
    found = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked") or (isinstance(model, ssd.SSD) and key.startswith("backbone.")):
            continue
        if key.startswith("backbone."):
            key = "backbone.body." + key.removeprefix("backbone.")
        elif key.startswith("fpn."):
            key = f"backbone.{key}"
        elif key.startswith("further."):
            key = "backbone." + key.removeprefix("further.")
        found[key] = value
    return found
