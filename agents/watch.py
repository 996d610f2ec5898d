"""Play, score and film the agent of any run.

    python -m agents.watch results/Breakout/dqn-1
    python -m agents.watch results/Breakout/dqn-1 --games 30 --checkpoint last --no-film
    python -m agents.watch results/Pong/ppo-1 --greedy       # the likeliest action, where its evaluations draw one
    python -m agents.watch /shared/Pong/ppo-1 --out mine     # of a run whose folder cannot be written
    python -m agents.watch results/Pong/dqn-1 --explain perturbation --games 1      # what it attends to, in the film
    python -m agents.watch results/Pong/ppo-1 --export-coco results/pong-coco    # labeled images of its games

Prints the mean return over whole games with its 95% interval (bootstrap), adds a line with every score to the
run's watch.jsonl and writes videos/*.mp4. The games are not those by which the best checkpoint was chosen. For a run
of agents.recurrent_attention it prints the validation error and draws the glimpses, in videos/saccades.gif and .png.
With --explain the film shows which pixels the best action's score depends on, and beside them the Q-values or the
policy: by gradients (saliency, gradcam), or by what changes when a place is blurred (perturbation: Greydanus et al.
2018) or covered (occlusion); or where an agent with soft attention has attended (attention).
With --export-coco it records the agent's games as labeled images instead, see agents.studies.export_coco.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

import envs
import runs
from agents.evaluation import Policy, bootstrap_interval, episodes
from agents.film import film
from agents.loading import WATCH_SEED, load_checkpoint, load_config, without_exploration
from runs import files
from runs.flag_types import Count, NonNegative
from runs.log import finite
from runs.printing import printable
from runs.progress import Bar

Explanation = Literal["saliency", "gradcam", "hirescam", "perturbation", "occlusion", "attention"]


@dataclasses.dataclass(frozen=True)
class Config:
    folder: Annotated[Path, tyro.conf.Positional]  # a run's folder
    games: Count = 30  # whole games to play
    checkpoint: Literal["best", "last"] = "best"  # by evaluation return, or the latest saved
    seed: int = 1  # of the games and of exploration
    greedy: bool = False  # always the most probable or best action, whatever the run's own evaluations do
    device: str = "auto"  # auto, cpu, cuda, mps
    film: bool = True  # write a game as mp4, from the same seed as the first one
    film_seconds: NonNegative = 120.0  # at most, of film; 0 for none
    explain: Explanation | None = None  # drawn into the film
    stage: int = -1  # whose map gradcam and hirescam weight, from 0 or from the end
    import_world: bool = False  # import the package of a world "package:Id" that the folder names: this runs its code
    out: Path | None = None  # folder for watch.jsonl and videos/; None: the run's own
    export_coco: Path | None = None  # folder for labeled images of its games, recorded instead of scores
    frames: Count = 20_000  # of that recording
    every: Count = 4  # agent steps between its frames, on average


def main(config: Config) -> None:
    folder = config.folder
    program, trained = load_config(folder, config.import_world)
    if config.explain and not (config.film and config.film_seconds > 0):
        raise ValueError("--explain is drawn into the film: leave --no-film and --film-seconds 0 out")
    if config.greedy:
        trained = without_exploration(trained, folder)
    device = runs.prepare(config.device, config.seed)
    state = load_checkpoint(folder, config.checkpoint)
    place = config.out or folder
    filmed = config.film and config.film_seconds > 0
    if hasattr(program, "watch"):  # it was trained on images
        draw = program.watch(trained, folder, state, device, config.seed)
        if filmed:
            with optional("picture of its glimpses", place):
                print(printable(f"glimpses at {draw(place / 'videos')}"))
        return
    if config.export_coco is not None:
        export_coco(config, program, trained, state, device)
        return
    seed = WATCH_SEED + config.seed
    world = envs.make(
        trained.env,
        min(config.games, 16),
        seed=seed,
        device=device,
        evaluation=True,
        **program.world_options(trained),
    )
    protocol = f", protocol {world.protocol}" if world.protocol else ""
    print(
        f"{printable(folder)}: {state['which']} weights, of step {state['step']:,}, "
        f"{config.games} games of {world.name}{protocol}",
        flush=True,
    )
    policy = program.load(trained, folder, state["parts"], world, config.seed)
    scores = score(policy, world, config.games, getattr(trained, "evaluate_steps", 0))
    low, high = bootstrap_interval(scores) if config.games > 1 else (None, None)
    line = {"checkpoint": state["which"], "step": state["step"], "games": config.games, "seed": config.seed}
    line |= {"greedy": True} if config.greedy else {}
    line |= {"mean": float(np.mean(scores)), "low": low, "high": high, "returns": scores}
    line |= {"run": str(folder)} if config.out else {}
    with optional(f"line in watch.jsonl{' and no film' if filmed else ''}", place):
        place.mkdir(parents=True, exist_ok=True)
        with files.append(place / "watch.jsonl") as file:
            file.write(json.dumps(finite(line)).encode() + b"\n")
        if filmed:
            kind = f"{state['which']}{'-greedy' * config.greedy}{f'-{config.explain}' if config.explain else ''}"
            path = place / "videos" / f"watch-{kind}-step-{state['step']:012d}-seed-{config.seed}.mp4"
            policy = program.load(trained, folder, state["parts"], world, config.seed)
            draw = None
            if config.explain:
                from agents.explanations import Explained  # here: most calls would only start more slowly by it

                draw = Explained(config.explain, policy, config.stage)
            print(f"filming a game, at most {config.film_seconds:g} s of it", file=sys.stderr, flush=True)
            with optional("film", place):
                total, ended = film(
                    policy,
                    trained.env,
                    path,
                    config.film_seconds,
                    seed,
                    device,
                    draw,
                    **program.world_options(trained),
                )
                print(f"filmed a game ({'return' if ended else 'so far'} {total:.1f}): {printable(path)}")


def export_coco(config: Config, program: ModuleType, trained: object, state: dict, device: torch.device) -> None:
    """Record an agent's games of Atari as labeled images, and say how many boxes hold their object's color."""
    from agents.recording import Recording, Settings  # here, as above

    game = envs.atari.canonical(trained.env) or trained.env
    options = {"evaluation": True} | program.world_options(trained)
    limit = max(1, config.frames // 40)
    player = f"{config.folder.resolve()}, {state['which']} weights of step {state['step']}"
    recorded = Settings(game, player, config.frames, config.every, limit, config.seed, options)
    recording = Recording(config.export_coco, recorded)
    world = envs.make(game, 1, device=device, ram=True, threads=1, **options)
    try:
        recording.run(
            world, lambda episode: program.load(trained, config.folder, state["parts"], world, config.seed + episode)
        )
    finally:
        world.close()
    print(printable(recording.table()))
    recording.check()


def score(policy: Policy, world: envs.World, games: int, limit: int = 0) -> list[float]:
    """Play whole games with a progress bar, print and return their returns, and close the world.

    On Ctrl-C or an error of the world the scores so far are printed before it is raised.
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
    """Mean, its 95% interval, median and range of scores as text."""
    low, high = bootstrap_interval(scores)
    between = f"95% interval {low:.2f} to {high:.2f}  " if len(scores) > 1 else ""
    return (
        f"return {np.mean(scores):.2f}  {between}"
        f"median {np.median(scores):.1f}  min {min(scores):.1f}  max {max(scores):.1f}"
    )


@contextlib.contextmanager
def optional(what: str, place: Path) -> Iterator[None]:
    """Continue without `what` where it cannot be made, with a message on stderr."""
    try:
        yield
    except Exception as error:  # a renderer, a codec, a disk: each has errors of its own
        why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else error
        hint = (
            f"; --out FOLDER keeps it elsewhere than in {place}" if isinstance(error, OSError | runs.RunError) else ""
        )
        print(printable(f"no {what} ({why}){hint}"), file=sys.stderr, flush=True)


if __name__ == "__main__":
    runs.launch(main, Config, None, "agents.watch", __doc__)
