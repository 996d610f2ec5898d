"""Play, score and film the agent of any run.

    python -m agents.watch results/Breakout/dqn-1
    python -m agents.watch results/Breakout/dqn-1 --games 30 --checkpoint last --no-film
    python -m agents.watch results/Pong/ppo-1 --greedy       # the likeliest action, where its evaluations draw one
    python -m agents.watch /shared/Pong/ppo-1 --out mine     # of a run whose folder cannot be written

Prints the mean return over whole games with its 95% interval (bootstrap), adds a line with every score to the
run's watch.jsonl and writes videos/*.mp4. The games are others than those that chose the best checkpoint. Of a run of
agents.recurrent_attention it prints the validation error and draws the glimpses, in videos/saccades.gif and .png.
What cannot be filmed or kept is said after the result; games that were cut short print the scores so far.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

import envs
import runs
from agents.film import film
from runs import files
from runs import saved as saved_run
from runs.log import finite
from runs.printing import printable
from runs.progress import PLAIN_EVERY, Bar
from runs.ranges import Count, NonNegative
from vision import backbones

EVALUATION_SEED = 1_000_000  # added to a run's seed: games that training never saw
SCORE = runs.Score("eval/return", "max")  # of what `evaluate` finds
COMMAND = "python -m agents.watch"  # plays what is in the run's folder that follows
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
    film_seconds: NonNegative = 120.0  # at most, of film; 0 for none
    import_world: bool = False  # import the package of a world "package:Id" that the folder names: this runs its code
    out: Path | None = None  # folder for watch.jsonl and videos/; None: the run's own


# (N, ...) the present, and the step that led there (None at the start) -> (N,) actions
Policy = Callable[[Tensor, envs.Transition | None], Tensor]


def play(policy: Policy, world: envs.World, games: int, limit: int = 0) -> dict[str, list[float]]:
    """Play whole games to their ends, an equal share in each world, and return their scores.

    Taking the first `games` to finish would favour short ones; so each world plays its own share.
    limit: steps for each game, after which it is cut short and counts as it stands; 0: none.

    Returns:
        {"return": [...], "length": [...]}, games entries each (fewer where one took the time of its next); "cut":
        the returns of those that were cut short.
    """
    flat = sorted(
        (game for ended in episodes(policy, world, games, limit) for game in ended), key=lambda game: game[0]
    )
    return {
        "return": [game[1] for game in flat],
        "length": [game[2] for game in flat],
        "cut": [game[1] for game in flat if not game[3]],
    }


def episodes(
    policy: Policy, world: envs.World, games: int, limit: int = 0
) -> Iterator[list[tuple[int, float, int, bool]]]:
    """Play whole games as `play` does; yields after each step the games that ended in it: the world, the return, the
    length, and whether it came to its own end."""
    missing = [games // world.count + (n < games % world.count) for n in range(world.count)]
    came, steps, most = None, 0, limit * max(missing)
    while any(missing):
        came = world.step(policy(world.observation, came))
        steps += 1
        finished, ended = world.finished, []
        for n, total, length in zip(
            world.finished_worlds, finished["episode/return"], finished["episode/length"], strict=True
        ):
            if missing[n]:
                missing[n] -= 1
                ended.append((n, total, length, True))
        if most and steps == most:
            ended += [(n, *score, False) for n, score in enumerate(world.running) if missing[n]]
            missing = []
        yield ended


def evaluate(
    policy: Policy,
    name: str,
    games: int,
    seed: int,
    device: torch.device,
    limit: int = 0,
    say: Callable[[str], None] = print,
    **options: object,
) -> dict[str, float]:
    """Whole, unclipped games in worlds of their own: SCORE and its spread.

    limit: as `play` takes it; games that were cut short are counted in "eval/cut", if there are any.
    say: takes a line where it takes longer than half a minute.
    """
    world = envs.make(name, min(games, 16), seed=EVALUATION_SEED + seed, device=device, evaluation=True, **options)
    scores: list[tuple[int, float, int, bool]] = []
    told = time.monotonic()
    try:
        for steps, ended in enumerate(episodes(policy, world, games, limit), start=1):
            scores += ended
            if time.monotonic() - told > PLAIN_EVERY:
                told = time.monotonic()
                say(f"evaluating: {len(scores)} of {games} games over after {steps:,} steps of each of {world.count}")
    finally:
        world.close()
    scores.sort(key=lambda game: game[0])
    returns = np.asarray([total for _, total, _, _ in scores])
    cut = sum(not whole for _, _, _, whole in scores)
    return {
        "eval/return": float(returns.mean()),
        "eval/median": float(np.median(returns)),
        "eval/std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "eval/length": float(np.mean([length for _, _, length, _ in scores])),
        "eval/games": len(scores),
        **({"eval/cut": cut} if cut else {}),
    }


def interval(scores: list[float]) -> tuple[float, float]:
    """95% interval of the mean: percentile bootstrap with a fixed seed."""
    values = np.asarray(scores)
    means = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def assess(run: runs.Run, policy: Callable[[], Policy], backbone: backbones.Backbone, **options: object) -> None:
    """Evaluate a run's agent as its config says; of the best so far, keep the eyes and a film.

    policy: makes the policy to play with, its randomness from the start each time. options: of envs.make.
    """
    config, found = run.config, None
    where = dict(device=run.device, **options)
    with run.aside("evaluation"):
        found = evaluate(
            policy(), config.env, config.evaluate_games, config.seed,
            limit=config.evaluate_steps, say=run.bar.say, **where,
        )  # fmt: skip
    if found is None or not run.record(found):
        return
    with run.writing(backbones.FILENAME) as path:
        backbones.save(backbone, path)
    if config.film_seconds and "film" not in run.failed:  # once without, it is not tried again
        path = run.folder / "videos" / f"step-{run.step + run.stride:012d}.mp4"
        with run.aside("film"):
            film(policy(), config.env, path, config.film_seconds, EVALUATION_SEED + config.seed, **where)


def described(folder: Path, import_world: bool = False) -> tuple[ModuleType, object]:
    """The program that plays what a run's agent has learned, and the config it was trained with.

    What the folder says is data: only this project's programs are imported, and the package of a world's
    "package:Id" only where import_world asks for it.

    Raises RunError where there is no run, or none that plays.
    """
    if not (folder / "config.json").exists():
        saved = {path.parent.parent for path in Path("results").glob("*/*/checkpoint/*.pt")}
        known = sorted(printable(path) for path in saved if (path / "config.json").exists())
        raise runs.RunError(
            f"{folder} is no run's folder. "
            + ("Runs here: " + ", ".join(known[:8]) if known else "There are none in results/ yet.")
        )
    about = saved_run.about(folder)
    name = about.get("player", about["program"])
    program = ours(name) if isinstance(name, str) else None
    if program is None:
        raise runs.RunError(
            f"{folder / 'config.json'} names {printable(repr(name))[:60]} as what plays its agent, and that is no "
            "program of this project's agents: nothing of it is imported"
        )
    trained = saved_run.config(program.Config, folder, about)
    world = getattr(trained, "env", "")
    if ":" in world and not import_world:
        package = printable(world.partition(":")[0])
        raise runs.RunError(
            f"the world of this run, {printable(world)}, comes from the package {package!r}, and to import it is to "
            "run its code: --import-world does (from Python import_world=True), if you trust the folder"
        )
    place = about["world"].get("package_folder") if isinstance(about.get("world"), dict) else None
    if ":" in world and isinstance(place, str):
        sys.path.append(place)  # where the run found the package
    return program, trained


def ours(name: str) -> ModuleType | None:
    """The program of that name, "agents.dqn", if it is one of this project's that can play what was learned."""
    if not re.fullmatch(r"agents(\.[a-z0-9_]+)+", name):
        return None
    here = Path(__file__).resolve().parent
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    if found is None or not found.origin or here not in Path(found.origin).resolve().parents:
        return None
    program = importlib.import_module(name)
    plays = hasattr(program, "Config") and (hasattr(program, "load") or hasattr(program, "watch"))
    return program if plays else None


def without_chance(trained: object, folder: Path) -> object:
    """A run's config, with the likeliest or best action always. Raises RunError where that is so already."""
    usual = {"evaluate_greedy": True, "evaluate_epsilon": 0.0}  # of policy gradients, of Q-learning
    known = {key: value for key, value in usual.items() if hasattr(trained, key)}
    if not known:
        raise runs.RunError(f"{folder} takes no chances when it is watched: leave --greedy out")
    return dataclasses.replace(trained, **known)


def main(config: Config) -> None:
    folder = config.folder
    program, trained = described(folder, config.import_world)
    if config.greedy:
        trained = without_chance(trained, folder)
    device = runs.prepare(config.device, config.seed)
    state = saved(folder, config.checkpoint)
    place = config.out or folder
    filmed = config.film and config.film_seconds > 0
    if hasattr(program, "watch"):  # what it learned from is no world with games to score
        draw = program.watch(trained, folder, state, device, config.seed)
        if filmed:
            with optional("picture of its glimpses", place):
                print(printable(f"glimpses at {draw(place / 'videos')}"))
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
        f"{printable(folder)}: {state['which']} weights, of step {state['step']:,}, "
        f"{config.games} games of {world.name}{protocol}",
        flush=True,
    )
    policy = program.load(trained, folder, state["parts"], world, config.seed)
    scores = score(policy, world, config.games, getattr(trained, "evaluate_steps", 0))
    low, high = interval(scores) if config.games > 1 else (None, None)
    line = {"checkpoint": state["which"], "step": state["step"], "games": config.games, "seed": config.seed}
    line |= {"greedy": True} if config.greedy else {}
    line |= {"mean": float(np.mean(scores)), "low": low, "high": high, "returns": scores}
    line |= {"run": str(folder)} if config.out else {}
    with optional(f"line in watch.jsonl{' and no film' if filmed else ''}", place):
        place.mkdir(parents=True, exist_ok=True)
        with files.append(place / "watch.jsonl") as file:
            file.write(json.dumps(finite(line)).encode() + b"\n")
        if filmed:
            kind = f"{state['which']}{'-greedy' * config.greedy}"
            path = place / "videos" / f"watch-{kind}-step-{state['step']:012d}-seed-{config.seed}.mp4"
            policy = program.load(trained, folder, state["parts"], world, config.seed)
            print(f"filming a game, at most {config.film_seconds:g} s of it", file=sys.stderr, flush=True)
            with optional("film", place):
                total, ended = film(
                    policy, trained.env, path, config.film_seconds, seed, device, **program.options(trained)
                )
                print(f"filmed a game ({'return' if ended else 'so far'} {total:.1f}): {printable(path)}")


def score(policy: Policy, world: envs.World, games: int, limit: int = 0) -> list[float]:
    """The returns of whole games, printed; how far they are is shown on the way, and the world closed at the end.

    Whatever cuts the games short (Ctrl-C, an error of the world) is raised when the scores so far are printed.
    """
    bar, ended, steps = Bar(games, 0, unit="games"), [], 0
    try:
        for found in episodes(policy, world, games, limit):
            ended += found
            steps += world.count
            mean = f"return {np.mean([total for _, total, *_ in ended]):.2f} so far  " if ended else ""
            bar.update(len(ended), f"{mean}{steps:,} steps")
    except BaseException:
        bar.close()
        if ended:
            print(
                f"cut short after {len(ended)} of {games} games, of which the short ones end first: not kept\n"
                + in_words([total for _, total, *_ in ended]),
                flush=True,
            )
        raise
    finally:
        bar.close()
        world.close()
    scores = [total for _, total, *_ in sorted(ended, key=lambda game: game[0])]
    print(in_words(scores), flush=True)
    if cut := sum(not whole for *_, whole in ended):
        print(
            f"{cut} of these games were cut short after {limit:,} steps: their returns are those so far", flush=True
        )
    return scores


def in_words(scores: list[float]) -> str:
    """Mean, its interval, and the spread of scores in a line."""
    low, high = interval(scores)
    between = f"95% interval {low:.2f} to {high:.2f}  " if len(scores) > 1 else ""
    return (
        f"return {np.mean(scores):.2f}  {between}"
        f"median {np.median(scores):.1f}  min {min(scores):.1f}  max {max(scores):.1f}"
    )


@contextlib.contextmanager
def optional(what: str, place: Path) -> Iterator[None]:
    """Do without `what` where it cannot be made, and say why on stderr: the scores are printed already."""
    try:
        yield
    except Exception as error:  # a renderer, a codec, a disk: each has errors of its own
        why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else error
        hint = (
            f"; --out FOLDER keeps it elsewhere than in {place}" if isinstance(error, OSError | runs.RunError) else ""
        )
        print(printable(f"no {what} ({why}){hint}"), file=sys.stderr, flush=True)


def saved(folder: Path, which: str) -> dict:
    """What the best or the last checkpoint of a run holds: {"which": "best", "step": ..., "parts": ...}.

    Without an evaluation there is no best: it is the last then, and says so. Raises RunError.
    """
    return saved_run.state(folder, which)


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.watch", __doc__)
