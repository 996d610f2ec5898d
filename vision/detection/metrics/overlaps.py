"""Overlaps of detections (D) and objects (G) in float64: IoU of boxes and of masks, object keypoint similarity."""

from __future__ import annotations

import numpy as np

# Of COCO's 17 keypoints, nose to ankles: standard deviation of annotators' clicks, in parts of the object's size.
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)


def box_overlaps(found: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU (D, G) of boxes (D, 4) and (G, 4); with a crowd (G,), the part of the detection that lies in it."""
    left, top, right, bottom = (found[:, None, side] for side in range(4))
    x1, y1, x2, y2 = (objects[None, :, side] for side in range(4))
    wide = np.minimum(right, x2) - np.maximum(left, x1)
    tall = np.minimum(bottom, y2) - np.maximum(top, y1)
    shared = np.where((wide > 0) & (tall > 0), wide * tall, 0.0)
    return _ratio(shared, (right - left) * (bottom - top), (x2 - x1) * (y2 - y1), crowd)


def pack(masks: np.ndarray) -> np.ndarray:
    """Masks (K, H, W) bool as bits in words of 64, (K, words) uint64: 38 KB for 640 x 480."""
    bits = np.packbits(masks.reshape(len(masks), masks.shape[1] * masks.shape[2]), axis=1)
    padded = np.zeros((len(masks), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def mask_areas(packed: np.ndarray) -> np.ndarray:
    """Pixels (K,) of packed masks (K, words)."""
    return np.bitwise_count(packed).sum(1, dtype=np.float64)


def mask_overlaps(found: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU (D, G) of packed masks; with a crowd (G,), the part of the detection that lies in it."""
    shared = np.empty((len(found), len(objects)))
    for column, mask in enumerate(objects):  # all pairs at once would take D G H W bits
        shared[:, column] = np.bitwise_count(found & mask).sum(1)
    return _ratio(shared, mask_areas(found)[:, None], mask_areas(objects)[None], crowd)


def keypoint_overlaps(
    found: np.ndarray, objects: np.ndarray, boxes: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Object keypoint similarity (D, G): the mean over labeled keypoints of exp(-d^2 / (2 (2 sigma)^2 area)).

    cocodataset.org, "Keypoint evaluation". found: (D, P, 3). objects: (G, P, 3) with visibility. boxes, areas: of the
    objects. For an object without labeled keypoints, distances count outside of its box, doubled in each direction.
    """
    delta = found[:, None, :, :2] - objects[None, :, :, :2]  # (D, G, P, 2)
    labeled = objects[None, :, :, 2] > 0
    size = boxes[:, 2:] - boxes[:, :2]
    low, high = (boxes[:, :2] - size)[None, :, None], (boxes[:, 2:] + size)[None, :, None]
    place = found[:, None, :, :2]
    outside = np.maximum(0, low - place) + np.maximum(0, place - high)
    none = ~labeled.any(2, keepdims=True)
    square = np.where(none, (outside**2).sum(3), (delta**2).sum(3))
    error = square / (2 * sigmas) ** 2 / (areas[None, :, None] + np.spacing(1)) / 2
    counted = labeled | none
    return (np.exp(-error) * counted).sum(2) / np.maximum(counted.sum(2), 1)


def _ratio(shared: np.ndarray, area: np.ndarray, other: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    union = np.where(crowd[None], area, area + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
