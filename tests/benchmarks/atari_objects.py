"""Objects from console memory: how many boxes hold their object's color, how exact they are, and what memory costs.

    python tests/benchmarks/atari_objects.py
    python tests/benchmarks/atari_objects.py --games Pong Breakout --frames 500 --json results/atari_objects.json
    python tests/benchmarks/atari_objects.py --picture results/atari_objects.png

Every game is played as agents.studies.export_coco plays it, without recording it, and every step is count at.
"boxes" are those that memory alone gives; one holds its object's color if any pixel in it has it. "exact" is the mean
IoU of that box with the smallest around the object's pixels. Then random play with and without ram=True takes turns
in short windows, and its speeds are compared.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from paired import alternate, circumstances, median, ratio, report

import envs
from agents.recording import RandomPlay
from envs import objects
from envs.objects.scene import Box
from runs import output
from vision.data.boxes_picture import panel

STEPS = 16  # vector steps between two looks at the clock
SHOWN = 50  # frames between those that may be drawn
LIMIT = 400  # steps of a game that are count at


def overlap(one: Box, other: Box) -> float:
    """IoU of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    tall = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(tall, 0)
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (total - shared)


def measure(game: str, frames: int) -> tuple[dict[str, object], tuple[np.ndarray, list]]:
    """Boxes, those that hold their object's color, and mean IoU with the objects' pixels, by class and of all; and a
    screen with the objects on it."""
    shown = (np.zeros((210, 160, 3), np.uint8), [])
    held: Counter[str] = Counter()
    total: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    world = envs.make(game, 1, ram=True, threads=1, evaluation=True)
    episode = count = 0
    while count < frames:
        world.reset(1_000 + episode)
        policy = RandomPlay(world, game, 1, episode)
        for _ in range(LIMIT):
            world.step(policy(world.observation, None))
            if len(world.finished_worlds) or count >= frames:
                break
            memory = world.previous_ram if objects.GAMES[game].lag else world.ram
            there = objects.read(game, memory[0].numpy())
            count += 1
            if count % SHOWN == 0 and len(there) >= len(shown[1]):
                shown = (world.screen[0], objects.appearances(there, world.screen[0])[0])
            for item in there:
                seen, holds = objects.appearances([item], world.screen[0])
                total[item.name] += 1
                held[item.name] += holds[0]
                exact[item.name] += overlap(item.box, seen[0].box) if seen else 0
        episode += 1
    world.close()
    known = [name for name in objects.GAMES[game].classes if total[name]]
    classes = {
        name: {
            "boxes": total[name],
            "held": round(held[name] / total[name], 4),
            "exact": round(exact[name] / total[name], 3),
        }
        for name in known
    }
    boxes = total.total()
    found = {
        "frames": count,
        "games": episode,
        "boxes": boxes,
        "held": round(held.total() / boxes, 4),
        "exact": round(exact.total() / boxes, 3),
        "classes": classes,
    }
    return found, shown


def draw(shown: dict[str, tuple[np.ndarray, list]], path: Path) -> None:
    """Draw a screen of each game with its objects."""
    from matplotlib.figure import Figure

    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.6 * rows), layout="constrained")
    for axis, (game, (screen, seen)) in zip(
        figure.subplots(rows, columns, squeeze=False).flat, shown.items(), strict=False
    ):
        boxes = torch.tensor([each.box for each in seen], dtype=torch.float32).view(-1, 4)
        labels = torch.tensor([objects.GAMES[game].classes.index(each.name) for each in seen], dtype=torch.int64)
        panel(axis, torch.from_numpy(screen.copy()).permute(2, 0, 1), boxes, labels, [""] * len(seen))
        axis.set_title(game, fontsize=9)
    output.draw(path, figure, "--picture", dpi=80)


def stepping(game: str, ram: bool):
    """A function that takes STEPS steps of random play in one world; returns how many."""
    world = envs.make(game, 1, ram=ram, threads=1)
    actions = torch.randint(world.actions, (4_096, 1))
    position = 0

    def steps() -> int:
        nonlocal position
        for _ in range(STEPS):
            world.step(actions[position % len(actions)])
            position += 1
        return STEPS

    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(objects.GAMES), help="of envs.objects.GAMES")
    parser.add_argument("--frames", type=int, default=2_000, help="count at of each game (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="windows of each (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.add_argument("--picture", type=Path, help="draw a screen of each game there")
    options = parser.parse_args()
    configuration = circumstances()
    measured = {game: measure(game, options.frames) for game in options.games}
    found = {game: each for game, (each, _) in measured.items()}
    if options.picture:
        draw({game: shown for game, (_, shown) in measured.items()}, options.picture)
    rates = alternate(
        {"with": stepping("Breakout", True), "without": stepping("Breakout", False)}, options.rounds, options.seconds
    )
    cost = ratio(rates, "with", "without")
    print(f"Breakout, steps/s: {median(rates['with']):.0f} with ram=True, {median(rates['without']):.0f} without")
    report(
        f"boxes by console memory, {options.frames:,} frames of each game",
        ["game", "boxes", "hold their color", "IoU with the pixels"],
        [[game, each["boxes"], f"{100 * each['held']:.2f}%", each["exact"]] for game, each in found.items()],
        {"benchmark": "atari_objects", "games": found, "steps_per_second": rates, "ratio": cost} | configuration,
        options.json,
    )


if __name__ == "__main__":
    main()
