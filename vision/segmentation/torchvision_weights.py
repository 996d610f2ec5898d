"""Torchvision's published segmentation networks: files of weights, their keys, and networks built from them.

    model = torchvision_weights.load("fcn_resnet50")                      # fetched once
    model = torchvision_weights.load("files/fcn_resnet101_coco-7ecb50ca.pth")

fcn_resnet50 (mean IoU 60.5 on the images of COCO's val2017 by Pascal VOC's 21 classes), fcn_resnet101 (63.7): the
figures are torchvision's own. Images are to be resized to 520 pixels; the network normalizes them itself.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vision import backbones
from vision.backbones import Preprocessing, published
from vision.segmentation.dilated_fcn import DilatedFCN

FILES = {  # by architecture
    "fcn_resnet50": "fcn_resnet50_coco-1167a1af",
    "fcn_resnet101": "fcn_resnet101_coco-7ecb50ca",
}
AUXILIARY = "aux_classifier."


def load(name: str | Path, auxiliary: bool = False) -> DilatedFCN:
    """A published network by its architecture's name, or from a file, in evaluation mode.

    auxiliary: with the head that only training needs, where the file has it.
    Raises ValueError for another name, and for a file that cannot be fetched or read or has other keys.
    """
    if str(name) in FILES:
        state = published._fetch(str(name), published.File(FILES[str(name)]))
    elif Path(name).is_file():
        state = published._load(Path(name))
    else:
        raise ValueError(f"{name} is no file and no published network: there are {', '.join(FILES)}")
    return from_torchvision(published.named(state, name), auxiliary).eval()


def from_torchvision(state: dict[str, Tensor], auxiliary: bool = False) -> DilatedFCN:
    """The network whose weights torchvision's state dict holds: its depth and classes are read from keys and shapes.

    Raises ValueError where keys or shapes are those of no known network.
    """
    if "classifier.4.weight" not in state or "backbone.layer4.2.conv3.weight" not in state:
        raise ValueError("these keys are of no known network: torchvision's FCNs with ResNet backbones are")
    if not auxiliary:
        state = {key: value for key, value in state.items() if not key.startswith(AUXILIARY)}
    deep = any(key.startswith("backbone.layer3.22.") for key in state)
    preprocessing = Preprocessing(520, 520).spec()
    backbone = backbones.build("resnet101" if deep else "resnet50", (3, 224, 224), preprocessing=preprocessing)
    has_auxiliary = any(key.startswith(AUXILIARY) for key in state)
    model = DilatedFCN(backbone, len(state["classifier.4.weight"]), has_auxiliary)
    own = model.state_dict()
    if missing := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"these keys are of another network: {missing[0]!r} and {len(missing) - 1} more differ")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{key!r} is {tuple(value.shape)}, and here {tuple(own[key].shape)}")
    model.load_state_dict(state)
    return model
