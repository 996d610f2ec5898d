"""Training speed of agents.rainbow against Tianshou's Rainbow, in agent steps a second.

    pip install -e ".[bench]"
    python tests/benchmarks/rainbow_speed.py
    python tests/benchmarks/rainbow_speed.py --seconds 15 --rounds 4 --json results/rainbow_speed.json

Both train the Nature network with all six components (double, dueling, prioritized 0.5, 3-step, noisy, C51 with 51
atoms in -10 .. 10) on the same game (84 x 84 grayscale, stack 4, frame skip 4), and learn from 8 samples for every
agent step, as Hessel et al. 2018 do. What is measured is the whole loop after warm-up, in turns; see dqn_speed.py.

- saccade: `agents.rainbow` as its recipe has it, less --subtract-mean and layer norms, for the network to be the
  peer's; and without evaluations and checkpoints, which the peer does not make.
- saccade-256, saccade-512: the same with batches of 256 every 32 steps and of 512 every 64, and as many worlds.
- tianshou: Tianshou's atari_rainbow.py example (RainbowNet, C51Policy, RainbowDQN, PrioritizedVectorReplayBuffer of
  single frames, OffPolicyTrainer), 8 worlds, 2 updates of 32 after every step of all. Its example has 10 worlds and
  3.2 samples a step.
- tianshou-400: the same with 100 updates after 400 steps; see dqn_speed.py.
- saccade-recipe: with both.
- "+flush" is the same with torch.set_flush_denormal(True), which agents.rainbow does itself.

Deviations from the recipes, ours included: learning starts after 1,000 steps, noise alone explores, and memories hold
100,000 transitions.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from off_policy import CAPACITY, NUMBERS, saccade, tianshou
from paired import Scene, contest

if TYPE_CHECKING:
    import gymnasium
    from tianshou.algorithm import RainbowDQN
    from tianshou.data import PrioritizedVectorReplayBuffer


def tianshou_rainbow(shape: tuple[int, ...], actions: "gymnasium.Space") -> "RainbowDQN":
    from tianshou.algorithm import RainbowDQN
    from tianshou.algorithm.modelfree.c51 import C51Policy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.env.atari.atari_network import RainbowNet

    channels, height, width = shape
    network = RainbowNet(c=channels, h=height, w=width, action_shape=actions.n, num_atoms=51, noisy_std=0.1)
    return RainbowDQN(
        policy=C51Policy(model=network, action_space=actions, num_atoms=51, v_min=-10.0, v_max=10.0),
        optim=AdamOptimizerFactory(lr=6.25e-5),
        gamma=0.99,
        n_step_return_horizon=3,
        target_update_freq=500,
    )


def tianshou_memory(worlds: int) -> "PrioritizedVectorReplayBuffer":
    from tianshou.data import PrioritizedVectorReplayBuffer

    return PrioritizedVectorReplayBuffer(
        CAPACITY,
        worlds,
        ignore_obs_next=True,
        save_only_last_obs=True,
        stack_num=4,
        alpha=0.5,
        beta=0.4,
        weight_norm=True,
    )


PLAIN = dict(subtract_mean=False, norm="none")
CONTESTANTS: dict[str, Callable[[Scene], None]] = {
    "saccade": saccade("agents.rainbow", **PLAIN),
    "saccade-256": saccade("agents.rainbow", 256, **PLAIN),
    "saccade-512": saccade("agents.rainbow", 512, **PLAIN),
    "saccade-recipe": saccade("agents.rainbow", name="recipe"),
    "tianshou": tianshou(tianshou_rainbow, tianshou_memory, together=8),
    "tianshou-400": tianshou(tianshou_rainbow, tianshou_memory, together=400),
}

if __name__ == "__main__":
    contest("Rainbow", __doc__, CONTESTANTS, seconds=7.0, numbers=NUMBERS)
