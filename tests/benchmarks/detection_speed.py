"""Milliseconds of NMS, RoIAlign and RoIPool, of the sizes that Faster R-CNN asks for, in seconds of one core.

python tests/benchmarks/detection_speed.py
"""

import time
from collections.abc import Callable

import torch

from vision.ops import nms, roi

REPEATS = 5


def random_boxes(count: int) -> torch.Tensor:
    """Boxes (count, 4) of up to 270 pixels in 800 x 800."""
    corner, size = torch.rand(2, count, 2) * 800
    return torch.cat([corner, corner + size / 3], 1)


def milliseconds(call: Callable[[], object]) -> float:
    """Of the processor, not of the clock: the mean of some calls after the first."""
    call()
    began = time.process_time()
    for _ in range(REPEATS):
        call()
    return 1e3 * (time.process_time() - began) / REPEATS


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    boxes, scores, levels = random_boxes(8_000), torch.rand(8_000), torch.arange(8_000) // 2_000
    maps = torch.randn(1, 256, 50, 64).contiguous(memory_format=torch.channels_last)
    regions, image = random_boxes(512), torch.zeros(512, dtype=torch.int64)
    learning = maps.clone().requires_grad_()
    for name, call in {
        "NMS of 2,000 boxes": lambda: nms.nms(boxes[:2_000], scores[:2_000], 0.7),
        "NMS of 4 levels of 2,000 boxes": lambda: nms.batched_nms(boxes, scores, levels, 0.7),
        "RoIAlign of 512 regions, 7 x 7 x 256": lambda: roi.roi_align(maps, regions, image, (7, 7), 1 / 16),
        "RoIAlign, forward and backward": lambda: (
            roi.roi_align(learning, regions, image, (7, 7), 1 / 16).sum().backward()
        ),
        "RoIPool of 512 regions, 7 x 7 x 256": lambda: roi.roi_pool(maps, regions, image, (7, 7), 1 / 16),
    }.items():
        print(f"{name:40} {milliseconds(call):7.1f} ms")


if __name__ == "__main__":
    main()
