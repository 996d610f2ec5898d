"""Helpers for replaying games: storable actions, checksums of observations, random bits from counters."""

import zlib

import numpy as np
import torch
from torch import Tensor


def mix(key: np.ndarray) -> np.ndarray:
    """uint64 (...) -> uint64 (...) of random bits: SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom
    number generators", figure 16)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def checksums(observation: Tensor) -> list[int]:
    """CRC-32 of each world's observation, of (N, ...)."""
    return [zlib.crc32(row) for row in observation.cpu().contiguous().numpy()]


def storable(tape: np.ndarray) -> Tensor:
    """Actions (N, ...) as a tensor that torch can save: unsigned integers of 16 and 32 bits become int32."""
    return torch.from_numpy(tape.astype(np.int32) if tape.dtype in (np.uint16, np.uint32) else tape)
