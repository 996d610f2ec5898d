"""Throughput of envs.make("Breakout") against the bare ale_py AtariVectorEnv, in agent steps a second.

    pip install -e .
    python tests/benchmarks/world_speed.py
    python tests/benchmarks/world_speed.py --counts 1 8 16 --json results/world_speed.json

Both play the same game in the same settings with the same random actions, drawn beforehand, in windows that
alternate within one process. The bare environment's output is looked at by nobody; ours arrives as the
Transition record in torch tensors, with whole-game scores counted.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from paired import alternate, circumstances, median, ratio, report

import envs
from envs.atari import PROTOCOLS

ACTIONS = 4_096  # random actions drawn beforehand, then repeated
STEPS = 16  # vector steps between two looks at the clock


def stepping(world: envs.World | AtariVectorEnv, actions: torch.Tensor | np.ndarray) -> Callable[[], int]:
    """A function that takes STEPS vector steps with the next of the actions (ACTIONS, N); returns steps taken."""
    position = 0

    def steps() -> int:
        nonlocal position
        for _ in range(STEPS):
            world.step(actions[position % ACTIONS])
            position += 1
        return STEPS * actions.shape[1]

    return steps


def ours(game: str, count: int, protocol: str) -> Callable[[], int]:
    world = envs.make(game, count=count, seed=1, protocol=protocol)
    actions = torch.randint(world.actions, (ACTIONS, count))
    return stepping(world, actions)


def bare(game: str, count: int, protocol: str) -> Callable[[], int]:
    world = AtariVectorEnv(
        game.lower(),
        num_envs=count,
        autoreset_mode=AutoresetMode.SAME_STEP,
        reward_clipping=False,
        use_fire_reset=False,
        **PROTOCOLS[protocol],
    )
    world.reset(seed=1)
    actions = np.random.default_rng(1).integers(world.single_action_space.n, size=(ACTIONS, count))
    return stepping(world, actions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Breakout", help="one whose ROM is its name in lower case")
    parser.add_argument("--protocol", default="classic", choices=["classic", "sticky"])
    parser.add_argument("--counts", type=int, nargs="+", default=[16], help="worlds side by side")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="windows of each (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()

    configuration = circumstances()
    rates, ratios = {}, {}
    for count in options.counts:
        calls = {
            "ours": ours(options.game, count, options.protocol),
            "bare": bare(options.game, count, options.protocol),
        }
        rates[count] = alternate(calls, options.rounds, options.seconds)
        ratios[count] = ratio(rates[count], "ours", "bare")
    report(
        f"{options.game} ({options.protocol}): {options.rounds} windows of {options.seconds:g} s, steps/s",
        ["worlds", "envs.make", "bare AtariVectorEnv", "ratio"],
        [
            [count, median(pair["ours"]), median(pair["bare"]), f"{ratios[count]:.3f}"]
            for count, pair in rates.items()
        ],
        {
            "benchmark": "world_speed",
            "game": options.game,
            "protocol": options.protocol,
            "seconds": options.seconds,
            "steps_per_second": rates,
            "ratios": ratios,
        }
        | configuration,
        options.json,
    )


if __name__ == "__main__":
    main()
