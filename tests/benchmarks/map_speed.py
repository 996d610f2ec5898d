"""Seconds of COCO's average precision against pycocotools, on random boxes or masks: add, match, accumulate.

    python tests/benchmarks/map_speed.py
    python tests/benchmarks/map_speed.py --kind masks --images 200

pycocotools begins with its objects and detections as lists in memory, masks as RLE; ours with tensors. Both count the
time from there to the twelve figures, which are checked to be equal.
"""

import argparse
import contextlib
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import test_detection_metrics as cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kind", choices=["boxes", "masks"], default="boxes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, there = cases.scenes(0, images=options.images, most=20, sides=(4, 100))
    count = sum(len(scores) for _, _, scores in found)
    truth, results = cases.as_coco(found, there, options.kind)
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        stats = cases.pycocotools_stats(truth, results, options.kind)
    theirs = time.process_time() - began
    began = time.process_time()
    ours = cases.evaluated(found, there, options.kind).results()
    seconds = time.process_time() - began
    assert np.allclose([ours[name] for name in cases.NAMES["boxes"]], stats, atol=1e-6)
    print(f"{options.images:,} images, {count:,} detections, {options.kind}: ", end="")
    print(f"{seconds:.2f} s, pycocotools {theirs:.2f} s of one core ({theirs / seconds:.1f} times)")


if __name__ == "__main__":
    main()
