"""Predictions of a world model many steps ahead: their errors, and films of dreams beside the game."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from agents.studies.world_model import pong
from agents.studies.world_model.model import WorldModel
from agents.studies.world_model.recording import Recording

GAMES: dict[str, Callable[[Tensor, Tensor, Tensor], dict[str, float]]] = {"Pong": pong.measure}  # besides errors
PIXELS = 336  # height of a film's frames, about


@torch.no_grad()
def dream(
    model: WorldModel,
    frames: Tensor,
    action: Tensor,
    steps: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Frames (steps, B, C, H, W) from 0 to 1 that follow those of games (context, B, C, H, W) uint8, as dreamed.

    action: (context - 1 + steps, B), of each step from the first frame on. temperature: of the draws; 0: what is most
    probable.
    """
    state = None
    for frame, chosen in zip(frames, action, strict=False):
        found, state = model.predict(model.encode(frame), chosen, state)
    shown = []
    for step in range(steps):
        z = found.draw(temperature, generator)
        shown.append(model.decode(z))
        if step + 1 < steps:
            found, state = model.predict(z, action[len(frames) + step], state)
    return torch.stack(shown)


@torch.no_grad()
def errors(
    model: WorldModel, part: Recording, horizons: tuple[int, ...], context: int, count: int, game: str
) -> dict[str, float]:
    """Squared errors of frames, summed over pixels from 0 to 1 and averaged over `count` places in recorded games.

    Returns by name: "reconstruction" of the frame one step ahead from its own latents, the least that a prediction
    through latents can have; for each horizon h "dream/h", h steps ahead by the recorded actions after `context`
    frames, and "copy/h" of the last frame that was seen; and what GAMES has for the game, as "ball_near/h".
    """
    starts = part.starts(context + max(horizons) - 1)
    chosen = starts[torch.linspace(0, len(starts) - 1, min(count, len(starts))).long()]
    window = part.windows(chosen, context + max(horizons) - 1)
    dreamed = dream(model, window.frame[:context], window.action, max(horizons))
    real = window.frame[context:].float() / 255
    seen = window.frame[context - 1].float() / 255

    def error(frames: Tensor, others: Tensor) -> float:
        return float((frames - others).square().sum((1, 2, 3)).mean())

    found = {"reconstruction": error(model.decode(model.encode(window.frame[context])), real[0])}
    for horizon in horizons:
        found[f"dream/{horizon}"] = error(dreamed[horizon - 1], real[horizon - 1])
        found[f"copy/{horizon}"] = error(seen, real[horizon - 1])
        if game in GAMES:
            more = GAMES[game](dreamed[horizon - 1], real[horizon - 1], seen)
            found |= {f"{name}/{horizon}": value for name, value in more.items()}
    return found


def film(
    model: WorldModel, part: Recording, context: int, steps: int, temperature: float, seed: int
) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8: a recorded game, and its dream from the same frames with the same actions.

    The left half is the game; the right one the reconstructed frames that the dream begins with, then the dream.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = part.starts(context + steps - 1)
    one = starts[torch.randint(len(starts), (1,), generator=generator)]
    window = part.windows(one, context + steps - 1)
    with torch.no_grad():
        begun = torch.stack([model.decode(model.encode(each)) for each in window.frame[:context]])
        dreamed = dream(model, window.frame[:context], window.action, steps, temperature, generator)
    made, real = (each[:, 0].cpu() for each in (torch.cat([begun, dreamed]), window.frame.float() / 255))
    pairs = torch.cat([real, torch.ones(*real.shape[:3], 4), made], 3)
    pixels = (pairs.clamp(0, 1) * 255).round().byte()
    scale = max(1, PIXELS // pixels.shape[2])
    large = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3).expand(-1, 3, -1, -1)
    return list(large.permute(0, 2, 3, 1).numpy())
