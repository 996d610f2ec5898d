"""Ball and score of Pong, read from frames by plain rules of pixels: what a dream of it is judged by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS, COLUMNS = slice(14, 77), slice(12, 73)  # of the field between the paddles, where all but the ball is background
BACKGROUND = 87 / 255
WINDOW = 5  # pixels, side of the square that a ball fits into
BALL = 200 / 255  # brightness above the background, summed over the square, from which on it is a ball; a whole one
# has 250 to 500 / 255, the more the farther it has flown between the two screens whose maximum a frame is
SCORE = slice(0, 9)  # rows
NEAR = 3.0  # pixels


def ball(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (B, 2) of the ball in pixels, and whether it is visible (B,), of frames (B, 1, 84, 84) from 0 to
    1.

    The ball is the square with most brightness between the paddles, its place the center of that brightness.
    """
    field = (frames[:, :, ROWS, COLUMNS] - BACKGROUND).clamp(min=0)
    sums = F.avg_pool2d(field, WINDOW, 1, WINDOW // 2, divisor_override=1)
    brightness, where = sums.flatten(1).max(1)
    width = field.shape[3]
    rows, columns = (torch.arange(n, device=field.device) for n in field.shape[2:])
    inside_row = (rows - (where // width)[:, None]).abs() <= WINDOW // 2
    inside_column = (columns - (where % width)[:, None]).abs() <= WINDOW // 2
    weight = field[:, 0] * (inside_row[:, :, None] & inside_column[:, None, :])
    total = weight.sum((1, 2)).clamp(min=1e-6)
    row = (weight.sum(2) * rows).sum(1) / total + ROWS.start
    column = (weight.sum(1) * columns).sum(1) / total + COLUMNS.start
    return torch.stack([row, column], 1), brightness >= BALL


def scores(frames: Tensor, known: Tensor) -> Tensor:
    """The left and the right score (B, 2) of frames (B, 1, 84, 84), as indices of the most similar pictures among the
    different ones that `known` (K, 1, 84, 84) shows. Both from 0 to 1."""
    found = []
    for half in (slice(0, 42), slice(42, 84)):
        pictures = known[:, 0, SCORE, half].flatten(1)
        distance = torch.cdist(frames[:, 0, SCORE, half].flatten(1)[None], pictures.unique(dim=0)[None])[0]
        found.append(distance.argmin(1))
    return torch.stack(found, 1)


def measure(dreamed: Tensor, real: Tensor, seen: Tensor) -> dict[str, float]:
    """What a dream of Pong has kept, of dreamed and real frames (B, 1, 84, 84) and the last ones seen before.

    Returns by name: "ball_visible", the share of dreamed frames with a ball where the game shows one; "ball_near",
    the share of these games' frames in which it is also within NEAR pixels of the game's; "ball_distance" between
    both in pixels, mean of the visible ones; "score_equal", the share of frames that show the game's score, and
    "score_copy", of the last frames seen.
    """
    there, (place, visible) = ball(real), ball(dreamed)
    both = there[1] & visible
    distance = (there[0] - place).norm(dim=1)
    shown = there[1].sum().clamp(min=1)
    known = torch.cat([real, seen])
    true = scores(real, known)
    return {
        "ball_visible": float(both.sum() / shown),
        "ball_near": float((both & (distance <= NEAR)).sum() / shown),
        "ball_distance": float((distance * both).sum() / both.sum().clamp(min=1)),
        "score_equal": float((scores(dreamed, known) == true).all(1).float().mean()),
        "score_copy": float((scores(seen, known) == true).all(1).float().mean()),
    }
