"""Training speed of agents.dqn against SB3's DQN and CleanRL's dqn_atari recipe, in agent steps a second.

    pip install -e ".[bench]"
    python tests/benchmarks/dqn_speed.py
    python tests/benchmarks/dqn_speed.py --seconds 15 --rounds 4 --json results/dqn_speed.json

All train the Nature network on the same game (84 x 84 grayscale, stack 4, frame skip 4), and learn from 8
samples for every agent step (batch x updates / steps). What is measured is the whole loop after warm-up:
acting, emulating, storing, sampling, learning. Each contestant is a process of its own; they take turns in
windows of `--seconds` while the others wait, idle. A ratio is the median over rounds of the ratio within a
round. Leave the machine alone meanwhile: programs on several threads suffer out of proportion when one of
their cores is taken, and the table says how many cores others kept busy in the worst window.

- saccade: `agents.dqn` as its recipe has it, without evaluations and checkpoints, which the peers do not make.
- saccade-256, saccade-512: the same with batches of 256 every 32 steps and of 512 every 64, and as many worlds.
- sb3-1, sb3-8: stable_baselines3.DQN("CnnPolicy") over make_atari_env and VecFrameStack with 1 and 8 worlds,
  batch 32, train_freq 4; with 8 worlds gradient_steps is 8, which keeps 8 samples a step.
- cleanrl: the parts of CleanRL's dqn_atari.py (Huang et al., 2022) in Gymnasium 1.x: one world in SB3's
  wrappers, SB3's ReplayBuffer, Adam 1e-4, batch 32 every 4 steps, target copied every 1,000, fp32, eager.
- "+flush" is the same with torch.set_flush_denormal(True), which agents.dqn does itself.

Deviations from the recipes, ours included: learning starts after 1,000 steps, exploration is at its final
rate by then, and memories hold 100,000 transitions; so the windows see what most of a long run looks like.
"""

import argparse
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from paired import Contestants, Gate, circumstances, median, ratio, report

import runs

LEARNING_STARTS = 1_000  # agent steps before the first update, every contestant
WARM_UP = 1_400  # agent steps before the first window: some hundred with learning on
SAMPLES = 8  # learned from per agent step
SEED = 1


def sb3(game: str, worlds: int, device: str) -> None:
    """Train SB3's DQN as its documentation and RL Zoo do it on Atari; gated by a callback."""
    import ale_py  # noqa: F401  (registers the games)
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gate = Gate(WARM_UP)

    class Turn(BaseCallback):
        def _on_step(self) -> bool:
            gate(self.num_timesteps)
            return True

    world = VecFrameStack(make_atari_env(f"{game}NoFrameskip-v4", n_envs=worlds, seed=SEED), n_stack=4)
    DQN(
        "CnnPolicy",
        world,
        learning_rate=1e-4,
        buffer_size=100_000,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        batch_size=32,
        learning_starts=LEARNING_STARTS,
        train_freq=4,  # vector steps
        gradient_steps=worlds,  # 32 x worlds samples for 4 x worlds agent steps
        target_update_interval=1_000,
        exploration_initial_eps=0.01,
        exploration_final_eps=0.01,
        seed=SEED,
        device=device,
    ).learn(1_000_000_000, callback=Turn())


def cleanrl(game: str, device: str) -> None:
    """Train with CleanRL's dqn_atari recipe: its parts, its order, its hyperparameters."""
    import ale_py
    import gymnasium
    import numpy as np
    from gymnasium import wrappers
    from stable_baselines3.common import atari_wrappers, buffers
    from torch import nn
    from torch.nn import functional as F

    def make() -> gymnasium.Env:
        world = wrappers.RecordEpisodeStatistics(gymnasium.make(f"{game}NoFrameskip-v4"))
        world = atari_wrappers.NoopResetEnv(world, noop_max=30)
        world = atari_wrappers.MaxAndSkipEnv(world, skip=4)
        world = atari_wrappers.EpisodicLifeEnv(world)
        if "FIRE" in world.unwrapped.get_action_meanings():
            world = atari_wrappers.FireResetEnv(world)
        world = atari_wrappers.ClipRewardEnv(world)
        world = wrappers.GrayscaleObservation(wrappers.ResizeObservation(world, (84, 84)))
        return wrappers.FrameStackObservation(world, 4)

    class QNetwork(nn.Module):
        def __init__(self, actions: int):
            super().__init__()
            self.network = nn.Sequential(
                nn.Conv2d(4, 32, 8, stride=4),
                nn.ReLU(),
                nn.Conv2d(32, 64, 4, stride=2),
                nn.ReLU(),
                nn.Conv2d(64, 64, 3, stride=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(3136, 512),
                nn.ReLU(),
                nn.Linear(512, actions),
            )

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return self.network(observation / 255.0)

    gymnasium.register_envs(ale_py)
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    worlds = gymnasium.vector.SyncVectorEnv(
        [make], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )  # as the Gymnasium 0.2x that CleanRL pins
    online = QNetwork(worlds.single_action_space.n).to(device)
    target = QNetwork(worlds.single_action_space.n).to(device)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4)
    memory = buffers.ReplayBuffer(
        100_000,
        worlds.single_observation_space,
        worlds.single_action_space,
        device,
        optimize_memory_usage=True,
        handle_timeout_termination=False,
    )
    gate = Gate(WARM_UP)
    observation, _ = worlds.reset(seed=SEED)
    for step in range(1_000_000_000):
        gate(step)
        if random.random() < 0.01:
            action = np.array([worlds.single_action_space.sample()])
        else:
            action = online(torch.Tensor(observation).to(device)).argmax(dim=1).cpu().numpy()
        next_observation, reward, termination, truncation, info = worlds.step(action)
        real_next_observation = next_observation.copy()
        for index in np.flatnonzero(termination | truncation):
            real_next_observation[index] = info["final_obs"][index]
        memory.add(observation, real_next_observation, action, reward, termination, [{}])
        observation = next_observation
        if step > LEARNING_STARTS and step % 4 == 0:
            batch = memory.sample(32)
            with torch.no_grad():
                best, _ = target(batch.next_observations).max(dim=1)
                goal = batch.rewards.flatten() + 0.99 * best * (1 - batch.dones.flatten())
            value = online(batch.observations).gather(1, batch.actions).squeeze()
            loss = F.mse_loss(goal, value)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step > LEARNING_STARTS and step % 1_000 == 0:
            target.load_state_dict(online.state_dict())


def saccade(game: str, device: str, folder: Path, batch: int | None) -> None:
    """Run the program agents.dqn as a user does, its loop gated at its head. batch: the recipe's, if None."""
    gate, steps = Gate(WARM_UP), runs.Run.steps

    def gated(run: runs.Run, *arguments: object, **options: object) -> Iterator[int]:
        for step in steps(run, *arguments, **options):
            gate(step)
            yield step

    runs.Run.steps = gated
    sys.argv = ["agents.dqn", "--env", game, "--device", device, "--folder", str(folder), "--seed", str(SEED)]
    if batch:
        every = str(batch // SAMPLES)
        sys.argv += ["--name", f"batch-{batch}", "--batch", str(batch), "--learn-every", every, "--worlds", every]
    sys.argv += ["--capacity", "100000"]
    sys.argv += ["--learn-start", str(LEARNING_STARTS), "--epsilon-steps", "0"]
    never = "1000000000"  # the peers do not evaluate or save either
    sys.argv += ["--steps", never, "--evaluate-every", never, "--save-every", never, "--wandb", "disabled"]
    runpy.run_module("agents.dqn", run_name="__main__", alter_sys=True)


def compete(name: str, game: str, device: str, folder: Path) -> None:
    """Be one contestant: train until the parent goes away."""
    recipe, _, flush = name.partition("+")
    if flush:
        torch.set_flush_denormal(True)
    match recipe:
        case "sb3-1":
            sb3(game, 1, device)
        case "sb3-8":
            sb3(game, 8, device)
        case "cleanrl":
            cleanrl(game, device)
        case "saccade":
            saccade(game, device, folder, None)
        case "saccade-256" | "saccade-512":
            saccade(game, device, folder, int(recipe.removeprefix("saccade-")))
        case _:
            raise ValueError(f"unknown contestant {name!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Breakout")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for every contestant")
    parser.add_argument("--seconds", type=float, default=7.0, help="length of a window (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each contestant (default %(default)s)")
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=[
            "saccade",
            "saccade-256",
            "saccade-512",
            "sb3-1",
            "sb3-1+flush",
            "sb3-8",
            "sb3-8+flush",
            "cleanrl",
            "cleanrl+flush",
        ],
    )
    parser.add_argument("--json", type=Path, help="write the result there")
    # How this program starts its contestants:
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        compete(options.contestant, options.game, options.device, options.folder)
        return

    setting = circumstances(options.device)
    command = [sys.executable, __file__, "--game", options.game, "--device", options.device]
    with tempfile.TemporaryDirectory() as folder:
        commands = {name: [*command, "--contestant", name, "--folder", folder] for name in options.contestants}
        with Contestants(commands, Path(folder)) as contestants:
            rates = contestants.measure(options.rounds, options.seconds)
    ours = [name for name in rates if name.startswith("saccade")]
    peers = [name for name in rates if name not in ours]
    ratios = {name: {peer: ratio(rates, name, peer) for peer in peers} for name in ours}
    report(
        f"DQN on {options.game}: agent steps/s, {options.rounds} windows of {options.seconds:g} s",
        ["contestant", "median", "least", "most", "others' cores", *(f"{name} / it" for name in ours)],
        [
            [
                name,
                median(windows),
                min(windows),
                max(windows),
                f"{max(contestants.others[name]):.2f}",
                *(f"{ratios[our][name]:.2f}" if name in peers else "" for our in ours),
            ]
            for name, windows in rates.items()
        ],
        {
            "benchmark": "dqn_speed",
            "game": options.game,
            "seconds": options.seconds,
            "learn_start": LEARNING_STARTS,
            "steps_per_second": rates,
            "ratios": ratios,
            "cores_busy_with_others": contestants.others,
        }
        | setting,
        options.json,
    )


if __name__ == "__main__":
    main()
