"""Training speed of agents.dqn when its memory holds a million transitions, against when it holds 50,000.

    python tests/benchmarks/dqn_decay.py --json results/dqn_decay.json

Both run the Atari recipe with a memory of a million; before the first step "saccade" has 50,000 transitions of random
frames in it and "million" all that it takes (7.2 GB). They take turns, as in every benchmark here; the ratio is how
many times faster the run with 50,000 is: 1 where nothing decays. tests/test_decay.py asks for 5% at most.
"""

from collections.abc import Callable

import torch
from paired import NEVER, Scene, contest, program

from agents import q_learning
from envs import Transition
from replay import Memory

CAPACITY, FEW = 1_000_000, 50_000  # transitions
WARM_UP = 400  # agent steps before the first window, all of which learn
EPISODE = 100  # steps


def fill(memory: Memory, transitions: int) -> None:
    """Add random transitions of 84 x 84 x 4, in episodes."""
    reel = torch.randint(256, (memory.worlds, EPISODE + 4, 84, 84), dtype=torch.uint8)
    zeros = torch.zeros(memory.worlds)
    for step in range(transitions // memory.worlds):
        at = step % EPISODE
        last = torch.full((memory.worlds,), at == EPISODE - 1 or step == transitions // memory.worlds - 1)
        seen, then = reel[:, at : at + 4], reel[:, at + 1 : at + 5]
        memory.add(Transition(seen, zeros.long(), zeros, 1 - last.float(), then, last))


def trained_with(transitions: int) -> Callable[[Scene], None]:
    """agents.dqn, whose memory holds so many transitions before its first step."""

    def train(scene: Scene) -> None:
        build = q_learning.build_memory

        def filled(*arguments: object) -> Memory:
            memory = build(*arguments)
            fill(memory, transitions)
            return memory

        q_learning.build_memory = filled
        name = f"filled-{transitions}"
        program("agents.dqn", scene, WARM_UP, name=name, capacity=CAPACITY, learn_start=64, steps=NEVER)

    return train


if __name__ == "__main__":
    contest(
        "DQN with a million transitions in its memory",
        __doc__,
        {"saccade": trained_with(FEW), "million": trained_with(CAPACITY)},
        seconds=8,
        numbers={"capacity": CAPACITY, "few": FEW},
    )
