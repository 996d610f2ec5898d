"""COCO's greedy matching of detections and objects, of all images and classes at once.

A group is what one image has of one class. Its detections choose in the order of their scores; the k-th choices of
all groups are made together, for every threshold and every interval of areas: as many steps as the fullest group has
detections, each a few operations on arrays.
"""

from __future__ import annotations

import numpy as np

CELLS = 1 << 22  # of the largest array at a time: groups, intervals, thresholds and objects


def match(
    overlap: np.ndarray, valid: np.ndarray, ignored: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """The object that each detection takes, (N, D, A, T) int16, or -1.

    A detection takes the object that it overlaps most, by the threshold or more, among those that are not taken;
    of equals the last; one that is ignored only where no other is left. A crowd can be taken many times.

    overlap: (N, D, G) of N groups, padded, detections in the order of their scores. valid: (N, G), False where
        padded. ignored: (N, A, G), whether an object counts in each of A intervals of areas. crowd: (N, G).
    thresholds: (T,).
    """
    groups, count, objects = overlap.shape
    found = np.full((groups, count, ignored.shape[1], len(thresholds)), -1, dtype=np.int16)
    part = max(1, CELLS // (ignored.shape[1] * len(thresholds) * max(1, objects)))
    for begin in range(0, groups, part):
        rows = slice(begin, begin + part)
        found[rows] = _match(overlap[rows], valid[rows], ignored[rows], crowd[rows], thresholds)
    return found


def _match(
    overlap: np.ndarray, valid: np.ndarray, ignored: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    groups, count, objects = overlap.shape
    shape = (groups, ignored.shape[1], len(thresholds), objects)
    free = np.broadcast_to(valid[:, None, None], shape).copy()
    least = np.minimum(thresholds, 1 - 1e-10)[None, None, :, None]
    counts = ~ignored[:, :, None]
    found = np.full((groups, count, *shape[1:3]), -1, dtype=np.int16)
    for rank in range(count):
        value = overlap[:, rank, None, None]  # (N, 1, 1, G)
        possible = free & (value >= least)
        if not possible.any():
            continue
        wanted = possible & counts
        wanted = np.where(wanted.any(3, keepdims=True), wanted, possible)
        value = np.where(wanted, value, -1.0)
        last = objects - 1 - value[..., ::-1].argmax(3)
        taken = wanted.any(3)
        found[:, rank] = np.where(taken, last, -1)
        n, a, t = taken.nonzero()
        g = last[n, a, t]
        free[n, a, t, g] = crowd[n, g]
    return found
