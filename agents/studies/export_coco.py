"""Records an Atari game as labeled images in COCO's format: boxes, masks, classes of pixels, one-sentence captions.

    python -m agents.studies.export_coco --env Breakout --frames 20000 --folder results/breakout-coco
    python -m agents.watch results/Breakout/dqn-1 --export-coco results/breakout-coco    # a trained agent's games
    python -m vision.detection --data results/breakout-coco

Objects are read from the console's memory (envs/objects) at eight games: Pong, Breakout, Freeway, Boxing, Seaquest,
MsPacman, Frostbite, SpaceInvaders. Images are the console's own screens, 160 x 210 in color, each a single frame. A
mask has the pixels in and next to an object's box that have its color, and the box in the annotations is the smallest
around them. What memory says is compared with the screen at every frame: less than 97% of boxes that hold their
object's color is an error.

Games are played at random, with actions held for some steps, and in Breakout and Pong every second one by a player
that follows the ball. Parts are made of whole games (eight tenths to train, a tenth each to validate and test), and
no picture is recorded twice. A recording that was stopped goes on with the same command, and ends in the same files;
another one in the same folder is refused. Memory is read from a second console that plays the same game, so that a
step takes about twice the emulation of one without (envs/console_memory.py).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import envs
import runs
from agents.recording import RandomPlay, Recording, Settings
from runs.flag_types import Count, Whole
from runs.printing import printable


@dataclasses.dataclass(frozen=True)
class Config:
    env: str = "Breakout"  # a game of envs.objects.GAMES
    frames: Count = 20_000  # to record
    every: Count = 4  # agent steps between recorded frames, on average
    episode_frames: Whole = 0  # recorded of a game at most; 0: a fortieth of all
    seed: Whole = 1  # of the games and of play
    folder: Path | None = None  # None: results/<env>-coco


def main(config: Config) -> Path:
    """Record, and say how many boxes hold their object's color. Returns the folder."""
    runs.prepare("cpu", config.seed)
    game = envs.atari.canonical(config.env) or config.env
    limit = config.episode_frames or max(1, config.frames // 40)
    folder = config.folder or Path(f"results/{game.lower()}-coco")
    settings = Settings(game, "random", config.frames, config.every, limit, config.seed, {"evaluation": True})
    recording = Recording(folder, settings)
    world = envs.make(game, 1, ram=True, threads=1, **settings.options)
    try:
        recording.run(world, lambda episode: RandomPlay(world, game, config.seed, episode))
    finally:
        world.close()
    print(printable(recording.table()))
    recording.check()
    return folder


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.studies.export_coco", __doc__)
