"""torchvision as an oracle of tests and a peer of benchmarks, also beside a torch without CUDA."""

import importlib
import sys
from types import ModuleType

import torch

LIBRARIES = []  # a declaration lives as long as its library


def import_torchvision() -> ModuleType:
    """torchvision. Its published wheels miss their compiled operators beside a torch without CUDA, and must know of
    them before they can be imported: nms and RoIAlign cannot be called then. Raises ImportError where it is not
    installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        LIBRARIES.append(library)
        for name in [name for name in sys.modules if name.startswith("torchvision.")] + ["torchvision"]:
            sys.modules.pop(name, None)  # what came of the first attempt
        return importlib.import_module("torchvision")
