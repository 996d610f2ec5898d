"""Play, score and film the agent of any run.

    python -m agents.watch results/Breakout/dqn-1
    python -m agents.watch results/Breakout/dqn-1 --games 30 --checkpoint last --no-film
    python -m agents.watch results/Pong/ppo-1 --greedy       # the likeliest action, where its evaluations draw one

Prints the mean return over whole games with its 95% interval (bootstrap), adds a line with every score to the
run's watch.jsonl and writes videos/*.mp4. The games are others than those that chose the best checkpoint. Of a run of
agents.recurrent_attention it prints the validation error and draws the glimpses, in videos/saccades.gif and .png.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

import envs
import runs
from runs import checkpoint
from runs.ranges import Count, NonNegative
from vision import backbones

EVALUATION_SEED = 1_000_000  # added to a run's seed: games that training never saw
WATCH_SEED = 2_000_000  # and games that no evaluation in training saw


@dataclasses.dataclass(frozen=True)
class Config:
    folder: Annotated[Path, tyro.conf.Positional]  # a run's folder
    games: Count = 30  # whole games to play
    checkpoint: Literal["best", "last"] = "best"  # by evaluation return, or the latest saved
    seed: int = 1  # of the games and of exploration
    greedy: bool = False  # the likeliest or best action always, whatever the run's own evaluations do
    device: str = "auto"  # auto, cpu, cuda, mps
    film: bool = True  # write a game as mp4, which begins as the first one did
    film_seconds: NonNegative = 120.0  # at most, of film


# (N, ...) the present, and the step that led there (None at the start) -> (N,) actions
Policy = Callable[[Tensor, envs.Transition | None], Tensor]


def play(policy: Policy, world: envs.World, games: int) -> dict[str, list[float]]:
    """Play whole games to their ends, an equal share in each world, and return their scores.

    Taking the first `games` to finish would favour short ones; so each world plays its own share.

    Returns:
        {"return": [...], "length": [...]}, games entries each.
    """
    share = [games // world.count + (n < games % world.count) for n in range(world.count)]
    scores: list[list[tuple[float, int]]] = [[] for _ in range(world.count)]
    came = None
    while any(len(done) < wanted for done, wanted in zip(scores, share, strict=True)):
        came = world.step(policy(world.observation, came))
        finished = world.finished
        for n, total, length in zip(
            world.finished_worlds, finished["episode/return"], finished["episode/length"], strict=True
        ):
            if len(scores[n]) < share[n]:
                scores[n].append((total, length))
    flat = [score for done in scores for score in done]
    return {"return": [total for total, _ in flat], "length": [length for _, length in flat]}


def evaluate(
    policy: Policy,
    name: str,
    games: int,
    seed: int,
    device: torch.device,
    **options: object,
) -> dict[str, float]:
    """Whole, unclipped games in worlds of their own: "eval/return" and its spread."""
    world = envs.make(name, min(games, 16), seed=EVALUATION_SEED + seed, device=device, evaluation=True, **options)
    try:
        scores = play(policy, world, games)
    finally:
        world.close()
    returns = np.asarray(scores["return"])
    return {
        "eval/return": float(returns.mean()),
        "eval/median": float(np.median(returns)),
        "eval/std": float(returns.std(ddof=1)) if games > 1 else 0.0,
        "eval/length": float(np.mean(scores["length"])),
        "eval/games": games,
    }


def interval(scores: list[float]) -> tuple[float, float]:
    """95% interval of the mean: percentile bootstrap with a fixed seed."""
    values = np.asarray(scores)
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def film(
    policy: Policy,
    name: str,
    path: Path,
    seconds: float,
    seed: int,
    device: torch.device,
    **options: object,
) -> tuple[float, bool]:
    """Play one game and write it as mp4, at most `seconds` of film long.

    Returns:
        Its return as far as it went, and whether it came to its end.
    """
    import imageio.v3 as imageio

    world = envs.make(name, 1, seed=seed, device=device, evaluation=True, **options)
    try:
        frames, total, ended, came = [], 0.0, False, None
        while not ended and len(frames) < seconds * world.frames_per_second:
            frame = world.render()[0]
            action = policy(world.observation, came)
            looked = policy.looked(world.observation) if hasattr(policy, "looked") else None
            frames.append(frame if looked is None else light(frame, looked[0].float().cpu().numpy()))
            came = world.step(action)
            total += came.reward.item()
            ended = bool(world.finished["episode/return"])
        frames.append(world.render()[0])
    finally:
        world.close()
    scale = max(1, 420 // frames[0].shape[0])
    large = np.stack([frame.repeat(scale, 0).repeat(scale, 1) for frame in frames])
    even = large[:, : large.shape[1] // 2 * 2, : large.shape[2] // 2 * 2]  # as the codec wants it
    path.parent.mkdir(exist_ok=True)
    imageio.imwrite(path, even, fps=world.frames_per_second, codec="libx264", macro_block_size=2)
    return total, ended


def light(frame: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8, dark where an agent did not look: weights (h, w) over its own, smaller or larger view.

    The brightest place keeps its colours.
    """
    down, across = (np.arange(long) * short // long for long, short in zip(frame.shape, weights.shape, strict=False))
    seen = 0.25 + 0.75 * weights[down[:, None], across] / max(weights.max(), 1e-8)
    return (frame * seen[:, :, None]).astype(np.uint8)


def assess(run: runs.Run, policy: Callable[[], Policy], backbone: backbones.Backbone, **options: object) -> None:
    """Evaluate a run's agent as its config says; of the best so far, keep the eyes and a film.

    policy: makes the policy to play with, its randomness from the start each time. options: of envs.make.
    """
    config = run.config
    where = dict(device=run.device, **options)
    if not run.record(evaluate(policy(), config.env, config.evaluate_games, config.seed, **where)):
        return
    backbones.save(backbone, run.folder / "backbone.safetensors")
    if config.film_seconds:
        path = run.folder / "videos" / f"step-{run.step + run.stride:012d}.mp4"
        film(policy(), config.env, path, config.film_seconds, EVALUATION_SEED + config.seed, **where)
        run.show(path)


def described(folder: Path) -> tuple[ModuleType, object]:
    """The program that plays what a run's agent has learned, and the config it was trained with.

    Raises RunError where there is no run.
    """
    if not (folder / "config.json").exists():
        known = sorted(str(path.parent) for path in Path("results").glob("*/*/config.json"))
        raise runs.RunError(
            f"{folder} is no run's folder. "
            + ("Runs here: " + ", ".join(known[:8]) if known else "There are none in results/ yet.")
        )
    about = json.loads((folder / "config.json").read_text())
    program = importlib.import_module(about.get("player", about["program"]))
    known = {field.name for field in dataclasses.fields(program.Config)}
    return program, program.Config(**{key: value for key, value in about["config"].items() if key in known})


def main(config: Config) -> None:
    folder = config.folder
    program, trained = described(folder)
    if config.greedy:
        usual = {"evaluate_greedy": True, "evaluate_epsilon": 0.0}  # of policy gradients, of Q-learning
        known = {key: value for key, value in usual.items() if hasattr(trained, key)}
        if not known:
            raise runs.RunError(f"{folder} takes no chances when it is watched: leave --greedy out")
        trained = dataclasses.replace(trained, **known)
    device = runs.prepare(config.device, config.seed)
    state = saved(folder, config.checkpoint)
    if hasattr(program, "watch"):  # what it learned from is no world with games to score
        program.watch(trained, folder, state, device, config.seed)
        return
    seed = WATCH_SEED + config.seed
    world = envs.make(
        trained.env,
        min(config.games, 16),
        seed=seed,
        device=device,
        evaluation=True,
        **program.options(trained),
    )
    protocol = f", protocol {world.protocol}" if world.protocol else ""
    print(
        f"{folder}: {state['which']} weights, of step {state['step']:,}, "
        f"{config.games} games of {world.name}{protocol}",
        flush=True,
    )
    policy = program.load(trained, folder, state["parts"], world, config.seed)
    scores = play(policy, world, config.games)["return"]
    world.close()
    low, high = interval(scores) if config.games > 1 else (None, None)
    line = {"checkpoint": state["which"], "step": state["step"], "games": config.games, "seed": config.seed}
    line |= {"greedy": True} if config.greedy else {}
    line |= {"mean": float(np.mean(scores)), "low": low, "high": high, "returns": scores}
    with open(folder / "watch.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    between = f"95% interval {low:.2f} to {high:.2f}  " if config.games > 1 else ""
    print(
        f"return {np.mean(scores):.2f}  {between}"
        f"median {np.median(scores):.1f}  min {min(scores):.1f}  max {max(scores):.1f}",
        flush=True,
    )
    if config.film:
        kind = f"{state['which']}{'-greedy' * config.greedy}"
        path = folder / "videos" / f"watch-{kind}-step-{state['step']:012d}-seed-{config.seed}.mp4"
        policy = program.load(trained, folder, state["parts"], world, config.seed)
        total, ended = film(policy, trained.env, path, config.film_seconds, seed, device, **program.options(trained))
        print(f"filmed a game ({'return' if ended else 'so far'} {total:.1f}): {path}")


def saved(folder: Path, which: str) -> dict:
    """What the best or the last checkpoint of a run holds: {"which": "best", "step": ..., "parts": ...}.

    Without an evaluation there is no best: it is the last then, and says so.
    """
    best = folder / "checkpoint" / "best.pt"
    if which == "best" and best.exists():
        return torch.load(best, map_location="cpu", weights_only=True) | {"which": "best"}
    state = next((state for _, state in checkpoint.intact(folder / "checkpoint")), None)
    if state is None:
        raise runs.RunError(f"{folder} has no checkpoint yet: let it train until its first save")
    return state | {"which": "last"}


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.watch", __doc__)
