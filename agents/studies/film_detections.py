"""Films a game of Atari with the objects that a detector finds in each frame.

    python -m agents.studies.export_coco --env Breakout --folder results/breakout-coco
    python -m vision.detection --data results/breakout-coco
    python -m agents.studies.film_detections results/breakout-coco/detection-1 --env Breakout
    python -m agents.studies.film_detections results/breakout-coco/detection-1 --agent results/Breakout/dqn-1

The game is played at random, as in recordings, or by an agent, from a seed that neither recordings nor training use.
What is drawn are the boxes, and masks where the detector finds them, of --least score, on the console's own screens,
which are what recordings hold. The film is in videos/ of the detector's run, and the time of a frame is printed. It
goes on over lost lives and, where a game ends before the film does, with another one. Films of a run that still
trains are copied to W&B at the run's end; those of a finished run are in its folder only.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

import envs
import runs
from agents import film, loading
from agents.recording import RandomPlay
from envs import objects
from runs import output
from runs.flag_types import Positive, Share
from runs.printing import printable
from runs.progress import Bar
from vision import detection
from vision.data import boxes_picture

SCALE = 3  # times as many pixels along and down, so that names can be read
EPISODE = 1_005  # number of a game: an odd one is played by what follows the ball, where there is one


@dataclasses.dataclass(frozen=True)
class Config:
    detector: Annotated[Path, tyro.conf.Positional]  # folder of a run of vision.detection
    env: str | None = None  # a game of envs.objects.GAMES, played at random; None: that of the agent
    agent: Path | None = None  # folder of a run that plays it
    seconds: Positive = 20.0  # of film
    least: Share = 0.5  # score of what is drawn
    seed: int = 1  # of the game and of play
    device: str = "auto"  # auto, cpu, cuda, mps
    out: Path | None = None  # the film's file; None: videos/ of the detector's run


def main(config: Config) -> Path:
    """Play, detect and film. Returns the film's file."""
    device = runs.prepare(config.device, config.seed)
    trained = detection.load(config.detector, device)
    game, options, program, learned, state = _player(config)
    path = config.out or config.detector / "videos" / f"{game}-seed-{config.seed}.mp4"
    world = envs.make(game, 1, device=device, ram=True, threads=1, **options)
    world.reset(loading.WATCH_SEED + config.seed)
    if program is None:
        policy: Any = RandomPlay(world, game, loading.WATCH_SEED + config.seed, EPISODE)
    else:
        policy = program.load(learned, config.agent, state["parts"], world, config.seed)
    count = max(1, round(config.seconds * world.frames_per_second))
    frames, transition, spent, bar = [], None, 0.0, Bar(count, 0, unit="frames")
    try:
        with torch.inference_mode():
            while len(frames) < count:
                screen = world.screen[0]
                began = time.monotonic()
                (found,) = trained.predict([torch.from_numpy(screen.copy()).permute(2, 0, 1)], config.least)
                spent += time.monotonic() - began
                frames.append(drawn(screen, found, trained.names(found)))
                transition = world.step(policy(world.observation, transition))
                bar.update(len(frames), "")
    finally:
        bar.close()
        world.close()
    with output.writing(path, "--out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        film.write(frames, path, world.frames_per_second)
    print(printable(f"{count} frames of {game}, {1e3 * spent / count:.1f} ms each to detect: {path}"))
    return path


def _player(config: Config) -> tuple[str, dict[str, Any], Any, Any, Any]:
    """The game, the world's options, and the program, config and weights of who plays it, None at random."""
    if config.agent is None:
        if config.env is None:
            raise ValueError("name a game with --env, or who plays it with --agent")
        game, found = envs.atari.canonical(config.env) or config.env, ({"evaluation": True}, None, None, None)
    else:
        program, learned = loading.load_config(config.agent)
        game = envs.atari.canonical(learned.env) or learned.env
        if config.env is not None and (envs.atari.canonical(config.env) or config.env) != game:
            raise ValueError(f"{config.agent} plays {game}, not {config.env}: leave --env out")
        options = {"evaluation": True} | program.world_options(learned)
        found = (options, program, learned, loading.load_checkpoint(config.agent, "best"))
    if game not in objects.GAMES:
        raise ValueError(f"recordings are of {', '.join(objects.GAMES)}, and so are these films: not of {game}")
    return game, *found


def drawn(screen: np.ndarray, found: detection.Detections, names: list[str]) -> np.ndarray:
    """A screen (H, W, 3) uint8, SCALE times as large, with boxes, class names and masks: a color a class."""
    from matplotlib.colors import to_rgb
    from PIL import Image, ImageDraw

    pixels = screen.astype(np.float32)
    inks = [np.array(to_rgb(boxes_picture.COLORS[label % len(boxes_picture.COLORS)])) * 255 for label in found.labels]
    if found.masks is not None:
        for mask, ink in zip(found.masks.numpy(), inks, strict=True):
            pixels[mask] = 0.5 * pixels[mask] + 0.5 * ink
    image = Image.fromarray(pixels.round().astype(np.uint8).repeat(SCALE, 0).repeat(SCALE, 1))
    pen = ImageDraw.Draw(image)
    for box, name, ink in zip((SCALE * found.boxes).round().tolist(), names, inks, strict=True):
        color = tuple(int(value) for value in ink)
        left, top, right, bottom = box[0] - 1, box[1] - 1, box[2], box[3]
        pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=color)
        pen.text((left, top - 11 if top >= 11 else bottom + 1), name, fill=color)
    return np.asarray(image)


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.studies.film_detections", __doc__)
