"""Speed of whole detectors beside torchvision's with equal weights: SSD300 with VGG-16, Faster R-CNN with ResNet-50.

    TORCHDYNAMO_DISABLE=1 python tests/benchmarks/detector_speed.py
    TORCHDYNAMO_DISABLE=1 python tests/benchmarks/detector_speed.py --threads 2 --json speed.json

Images a second, one at a time, in turns: inference of one image from pixels to boxes, and for Faster R-CNN an update
(losses, gradients, a step of SGD) too. Weights are random, of the same values in both, and in float32.

torchvision's published wheels miss their compiled operators beside a torch without CUDA. Suppression and RoIAlign are
ours in both: what is compared is the network, the proposals, the matching and the sampling.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from paired import alternate, circumstances, median, ratio, report
from torch import Tensor

import runs
from vision.data.samples import Target
from vision.detection import torchvision_weights
from vision.ops import nms, roi

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from torchvision_oracle import import_torchvision

SIDES = {"ssd300_vgg16": (300, 300), "fasterrcnn_resnet50_fpn": (320, 416)}  # pixels, high and wide
LEAST = {"ssd300_vgg16": {}, "fasterrcnn_resnet50_fpn": {"min_size": 320}}  # so that images keep their size
BOXES = 8  # objects of a training image
CLASSES = 90


def torchvision_detection() -> ModuleType:
    """torchvision.models.detection, with our suppression and RoIAlign, since its own may be missing."""
    import_torchvision()
    boxes, poolers = (importlib.import_module(f"torchvision.ops.{name}") for name in ("boxes", "poolers"))
    boxes.nms = nms.nms

    def roi_align(maps: Tensor, rois: Tensor, *, output_size: tuple, spatial_scale: float, **given: int) -> Tensor:
        regions, image = rois[:, 1:], rois[:, 0].long()
        return roi.roi_align(maps, regions, image, tuple(output_size), spatial_scale, given["sampling_ratio"])

    poolers.roi_align = roi_align
    return importlib.import_module("torchvision.models.detection")


def calls(name: str, detection: ModuleType) -> dict[str, dict[str, Callable[[], int]]]:
    """What is timed, by kind of work and by whose it is: each call works on one image."""
    theirs = getattr(detection, name)(weights=None, weights_backbone=None, **LEAST[name])
    ours = torchvision_weights.from_torchvision(theirs.state_dict())
    image = torch.rand(3, *SIDES[name])
    corner, size = torch.rand(2, BOXES, 2) * torch.tensor(SIDES[name][::-1]) / 2
    boxes, labels = torch.cat([corner, corner + size + 1], 1), torch.randint(CLASSES, (BOXES,))

    @torch.inference_mode()
    def infer(model: torch.nn.Module, given: object) -> int:
        model.eval()
        model(given)
        return 1

    found = {
        "inference": {"saccade": lambda: infer(ours, image[None]), "torchvision": lambda: infer(theirs, [image])}
    }
    if "fasterrcnn" in name:
        optimizers = {id(model): torch.optim.SGD(model.parameters(), 1e-6) for model in (ours, theirs)}

        def update(model: torch.nn.Module, losses: Callable[[], dict[str, Tensor]]) -> int:
            model.train()
            optimizers[id(model)].zero_grad()
            sum(losses().values()).backward()
            optimizers[id(model)].step()
            return 1

        of_ours = (image[None], [SIDES[name]], [Target(boxes=boxes, labels=labels)])
        of_theirs = ([image], [{"boxes": boxes, "labels": labels + 1}])
        found["update"] = {
            "saccade": lambda: update(ours, lambda: ours.losses(*of_ours)),
            "torchvision": lambda: update(theirs, lambda: theirs(*of_theirs)),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is printed (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a window (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    runs.prepare("cpu", 1, options.threads)
    configuration, detection = circumstances(), torchvision_detection()
    version = importlib.import_module("torchvision").__version__
    rows, found = [], {}
    for name in SIDES:
        for work, each in calls(name, detection).items():
            rates = alternate(each, options.rounds, options.seconds)
            times = ratio(rates, "saccade", "torchvision")
            rows.append([name, work, median(rates["saccade"]), median(rates["torchvision"]), times])
            found[f"{name}, {work}"] = {"rates": rates, "ratio": times}
    report(
        f"images a second, {options.threads} threads, torchvision {version}",
        ["detector", "", "saccade", "torchvision", "ratio"],
        rows,
        configuration | {"threads": options.threads, "torchvision": version, "found": found},
        options.json,
    )


if __name__ == "__main__":
    main()
