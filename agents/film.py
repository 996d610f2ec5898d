"""Films of games, as an agent plays them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import envs
from runs import files

HEIGHT, WIDTH = 420, 1_280  # pixels, up to which small frames are enlarged
LARGEST = 1_920  # pixels of either side: larger frames are subsampled
SMALLEST = 16  # pixels of either side that the codec requires


def film(
    policy: Callable[..., torch.Tensor],
    name: str,
    path: Path,
    seconds: float,
    seed: int,
    device: torch.device,
    draw: Callable[[np.ndarray, torch.Tensor], np.ndarray] | None = None,
    **options: object,
) -> tuple[float, bool]:
    """Play one game and write it as mp4, at most `seconds` of film long.

    draw: what is shown of a frame (H, W, 3) uint8 and the observation (1, ...) that the policy has just acted on.
        None: the frame, darkened where an agent with attention attends little.

    Returns:
        Its return so far, and whether it ended.

    Raises:
        ValueError: the world renders no pictures; also what render() and the encoder raise. No file is left then.
    """
    world = envs.make(name, 1, seed=seed, device=device, evaluation=True, **options)
    try:
        frames, total, ended, transition, seen = [], 0.0, False, None, 0
        while not ended and seen < seconds * world.frames_per_second:
            frame, seen = world.render()[0], seen + 1
            action = policy(world.observation, transition)
            attends = draw is None and hasattr(policy, "attention")
            attention = policy.attention(world.observation) if attends else None
            if (shown := picture(frame)) is not None:
                if attention is not None:
                    shown = shade_by_attention(shown, attention[0].float().cpu().numpy())
                frames.append(shown if draw is None else draw(shown, world.observation))
            transition = world.step(action)
            total += transition.reward.item()
            ended = bool(world.finished["episode/return"])
        frames.append(picture(world.render()[0]))
    finally:
        world.close()
    write([frame for frame in frames if frame is not None], path, world.frames_per_second)
    return total, ended


def write(frames: Sequence[np.ndarray], path: Path, frames_per_second: float) -> None:
    """Write frames (H, W, 3) uint8 as mp4; a file of that name is complete.

    Raises ValueError where there are none; also what the encoder raises. No file is left then.
    """
    import imageio.v3 as imageio

    whole = stacked(frames)
    partial = files.new(path.with_name(f".{path.stem}.partial{path.suffix}"))
    try:
        imageio.imwrite(partial, whole, fps=frames_per_second, codec="libx264", macro_block_size=2)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def picture(frame: Any) -> np.ndarray | None:
    """The result of render() as (H, W, 3) uint8, from color, gray or RGBA; None from None.

    Raises ValueError for anything else.
    """
    if frame is None:
        return None
    array = np.asarray(frame)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size or array.dtype.kind not in "uif":
        raise ValueError(f"render() gave no picture, but {array.dtype} of shape {array.shape}")
    array = np.broadcast_to(array, (*array.shape[:2], 3)) if array.shape[2] == 1 else array[:, :, :3]
    return array if array.dtype == np.uint8 else np.nan_to_num(array).clip(0, 255).astype(np.uint8)


def stacked(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames (H, W, 3) uint8 of any sizes as a film (T, H', W', 3): enlarged or subsampled, padded with black.

    Raises ValueError where there are none.
    """
    if not frames:
        raise ValueError("render() gave no picture in the whole game")
    height, width = (max(frame.shape[side] for frame in frames) for side in (0, 1))
    thin = -(-max(height, width) // LARGEST)
    height, width = -(-height // thin), -(-width // thin)
    scale = max(1, min(HEIGHT // height, WIDTH // width))
    down, across = (max(scale * side + scale * side % 2, SMALLEST) for side in (height, width))
    film = np.zeros((len(frames), down, across, 3), np.uint8)
    for canvas, frame in zip(film, frames, strict=True):
        large = frame[::thin, ::thin].repeat(scale, 0).repeat(scale, 1)
        canvas[: large.shape[0], : large.shape[1]] = large
    return film


def shade_by_attention(frame: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8, darkened where an agent attends little. weights: (h, w), of any resolution.

    The place with the largest weight keeps its colors.
    """
    down, across = (np.arange(long) * short // long for long, short in zip(frame.shape, weights.shape, strict=False))
    seen = 0.25 + 0.75 * weights[down[:, None], across] / max(weights.max(), 1e-8)
    return (frame * seen[:, :, None]).astype(np.uint8)
