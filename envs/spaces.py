"""Which of Gymnasium's spaces a world supports, and hints for the others."""

import math

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

LARGEST_ONE_HOT = 10_000  # states; a memory of 100,000 transitions of these takes 8 GB


def is_picture(space: Space) -> bool:
    """Whether a space is of uint8 in two or three dimensions."""
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def check_observations(name: str, space: Space) -> None:
    """Raise ValueError, with a hint, for observations that are neither a vector nor a picture."""
    if is_picture(space) or (isinstance(space, Box) and len(space.shape) == 1 and space.shape[0] > 0):
        return
    if isinstance(space, Discrete):
        if space.n <= LARGEST_ONE_HOT:
            return
        hint = (
            f"as vectors with a single 1 these would be {4 * space.n:,} bytes each, twice a transition: "
            "wrap it so that the parts of a state are seen instead, e.g. row and column, or the digits of its number "
            "(gymnasium.wrappers.TransformObservation)"
        )
    elif isinstance(space, Box) and len(space.shape) in (2, 3):
        hint = (
            "a picture has bytes. gymnasium.wrappers.TransformObservation makes them of values from 0 to 1, by (env, "
            f"lambda x: (255 * x).astype('uint8'), gymnasium.spaces.Box(0, 255, {space.shape}, 'uint8')). "
            "If it is not a picture, flatten=True (--env-kwargs flatten=True) makes a vector of it"
        )
    elif isinstance(space, Box) and len(space.shape) == 4 and space.dtype == np.uint8:
        hint = "leave gymnasium.wrappers.FrameStackObservation out and say stack=4: frames are stacked here"
    elif isinstance(space, Dict | Tuple | MultiDiscrete | MultiBinary | Box):
        hint = "flatten=True (--env-kwargs flatten=True) makes a vector of it: gymnasium.wrappers.FlattenObservation"
    else:
        hint = "wrap it: gymnasium.wrappers.TransformObservation, with numbers of one length"
    raise ValueError(f"{name} observes {space}, and a world needs a vector or a picture: {hint}")


def check_actions(name: str, space: Space) -> None:
    """Raise ValueError, with a hint, for actions that are neither discrete nor a vector of numbers."""
    if isinstance(space, Discrete) or (isinstance(space, Box) and len(space.shape) == 1):
        return
    if isinstance(space, MultiDiscrete) and space.nvec.ndim == 1:
        hint = (
            f"gymnasium.wrappers.TransformAction(env, lambda a: np.unravel_index(a, {space.nvec.tolist()}), "
            f"gymnasium.spaces.Discrete({math.prod(space.nvec.tolist())})) numbers all of its combinations"
        )
    elif isinstance(space, Box):
        hint = "gymnasium.wrappers.TransformAction(env, lambda a: a.reshape(shape), space) makes a vector of it"
    else:
        hint = "gymnasium.wrappers.TransformAction, to Discrete actions or a Box of one dimension, helps"
    raise ValueError(f"{name} acts by {space}, and a world needs Discrete actions or a vector of numbers: {hint}")


def has_channels_last(name: str, shape: tuple[int, ...], channels_last: bool | None) -> bool:
    """Whether pictures (A, B, C) have channels last: the smaller of the first and the last axis, unless given.

    Raises ValueError where that cannot be known.
    """
    if channels_last is not None:
        return channels_last
    first, middle, last = shape
    if first == last or middle < min(first, last):
        raise ValueError(
            f"{name} observes pictures of {shape}: say which axis has the channels, channels_last=True or False "
            "(--env-kwargs channels_last=True); where they are in the middle, wrap it "
            "(gymnasium.wrappers.TransformObservation with np.moveaxis)"
        )
    return last < first


def scale_of(space: Space) -> tuple[np.ndarray, np.ndarray] | None:
    """Lowest value and range of a vector of integers of 8 or 16 bits, (D,) float32 each; None for other vectors.

    The 128 bytes of an Atari RAM observation are scaled to 0..1, as those of a picture are.
    """
    if not (isinstance(space, Box) and space.dtype.kind in "iu" and space.dtype.itemsize <= 2):
        return None
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return low, np.maximum(high - low, 1)
