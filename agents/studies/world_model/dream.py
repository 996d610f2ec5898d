"""Predictions of a world model many steps ahead: their errors, and films of dreams beside the game."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agents.studies.world_model.model import WorldModel
from agents.studies.world_model.recording import Recording


@torch.no_grad()
def dream(
    model: WorldModel,
    frames: Tensor,
    action: Tensor,
    steps: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Frames (steps, B, 1, 84, 84) from 0 to 1 that follow C frames (C, B, 1, 84, 84) uint8 of games, as dreamed.

    action: (C - 1 + steps, B), of each step from the first frame on. temperature: of the draws; 0: what is expected.
    """
    context = len(frames)
    z = torch.stack([model.encode(each)[0] for each in frames], 1)  # (B, C, L)
    found, state = model.predict(z, action[:context].T)
    shown = []
    for step in range(steps):
        z = found.draw(temperature, generator)[:, -1]
        shown.append(model.decode(z))
        if step + 1 < steps:
            found, state = model.predict(z[:, None], action[context + step][:, None], state)
    return torch.stack(shown)


@torch.no_grad()
def errors(
    model: WorldModel, part: Recording, horizons: tuple[int, ...], context: int, count: int
) -> dict[str, float]:
    """Squared errors of frames, summed over pixels from 0 to 1 and averaged over `count` places in recorded games.

    Returns by name: "reconstruction" of the frame one step ahead from its own latents, the least that a prediction
    through latents can have; for each horizon h "dream/h", h steps ahead by the recorded actions after `context`
    frames, and "copy/h" of the last frame that was seen.
    """
    starts = part.starts(context + max(horizons) - 1)
    chosen = starts[torch.linspace(0, len(starts) - 1, min(count, len(starts))).long()]
    window = part.windows(chosen, context + max(horizons) - 1)
    dreamed = dream(model, window.frame[:context], window.action, max(horizons))
    real = window.frame[context:].float() / 255
    seen = window.frame[context - 1].float() / 255

    def error(frames: Tensor, others: Tensor) -> float:
        return float((frames - others).square().sum((1, 2, 3)).mean())

    found = {"reconstruction": error(model.decode(model.encode(window.frame[context])[0]), real[0])}
    for horizon in horizons:
        found[f"dream/{horizon}"] = error(dreamed[horizon - 1], real[horizon - 1])
        found[f"copy/{horizon}"] = error(seen, real[horizon - 1])
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
    device = next(model.parameters()).device
    frames, action = window.frame.to(device), window.action.to(device)
    with torch.no_grad():
        begun = torch.stack([model.decode(model.encode(each)[0]) for each in frames[:context]])
        dreamed = dream(model, frames[:context], action, steps, temperature, generator)
    made = torch.cat([begun, dreamed])[:, 0, 0].cpu()
    pairs = torch.cat([frames[:, 0, 0].cpu().float() / 255, torch.ones(len(made), 84, 4), made], 2)
    pixels = (pairs.clamp(0, 1) * 255).round().byte().numpy()
    large = pixels.repeat(4, 1).repeat(4, 2)
    return [np.repeat(each[:, :, None], 3, 2) for each in large]
