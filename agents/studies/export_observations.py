"""Writes what an agent sees in its games as files: for programs of vision that are shown images.

    python -m agents.studies.export_observations results/Pong/dqn-1
    python -m vision.interpretation.activations results/Pong/dqn-1 --files observations/observations.npy
    python -m vision.interpretation.deepdream results/Pong/dqn-1 observations/frame-0000.png

observations.npy has every `--every`-th observation, (N, C, H, W) uint8, as its backbone takes them, with all frames
of a stack; frame-*.png are the newest frames of some of them, spread evenly over the games.
"""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

import agents
import envs
import runs
from agents.evaluation import Policy
from runs import output
from runs.flag_types import Count, Whole
from runs.printing import printable

PROGRAM = "agents.studies.export_observations"
SPREAD = 12  # images of frames


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # folder of a run of an agent that sees pictures
    observations: Count = 2_000  # of its games
    every: Count = 4  # agent steps between two of them
    images: Whole = SPREAD  # of them, also as .png; 0: none
    seed: Whole = 1  # of the games
    device: str = "cpu"
    threads: Whole = 0  # of torch; 0: as many as cores are free
    out: Path = Path("observations")  # the folder


@torch.inference_mode()
def collect(policy: Policy, world: envs.World, count: int, every: int) -> Tensor:
    """Every `every`-th observation (count, C, H, W) uint8 of one world that a policy plays in.

    Raises ValueError where its observations are no pictures of bytes.
    """
    if len(world.observation_shape) != 3 or world.observation.dtype != torch.uint8 or world.count != 1:
        raise ValueError(
            f"observations of one world of pictures are exported: those of {world.count} of {world.name} are "
            f"{world.observation.dtype} of shape {tuple(world.observation_shape)}"
        )
    found, transition = [], None
    for step in range(count * every):
        if step % every == 0:
            found.append(world.observation.cpu().clone())
        transition = world.step(policy(world.observation, transition))
    return torch.cat(found)


def newest(observation: Tensor, depth: int) -> np.ndarray:
    """The newest frame, (H, W, 3) or (H, W) uint8, of an observation (C, H, W); depth: channels of a frame."""
    frame = observation[-depth:].numpy()
    return frame.transpose(1, 2, 0) if depth == 3 else frame[-1]


def main(config: Config) -> Tensor:
    """Play, and write the files. Returns the observations (N, C, H, W)."""
    device = runs.prepare(config.device, config.seed, config.threads)
    agent = agents.load(config.run, device=device, seed=config.seed)
    world = agent.world(1, config.seed)
    try:
        found = collect(agent.policy, world, config.observations, config.every)
        depth = world.observation_shape[0] // world.stack
    finally:
        world.close()
    file = io.BytesIO()
    np.save(file, found.numpy())
    output.write(config.out / "observations.npy", file.getvalue(), "--out")
    for index in torch.linspace(0, len(found) - 1, min(config.images, len(found))).round().long().tolist():
        picture = io.BytesIO()
        Image.fromarray(newest(found[index], depth)).save(picture, format="png")
        output.write(config.out / f"frame-{index:04d}.png", picture.getvalue(), "--out")
    shape = " x ".join(map(str, found.shape[1:]))
    print(printable(f"{len(found):,} observations of {shape} in {config.out / 'observations.npy'}"))
    return found


if __name__ == "__main__":
    runs.launch(main, Config, None, PROGRAM, __doc__)
