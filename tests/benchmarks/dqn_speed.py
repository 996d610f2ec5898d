"""Training speed of agents.dqn against the DQN of SB3, CleanRL, TorchRL and Tianshou, in agent steps a second.

    pip install -e ".[bench]"
    python tests/benchmarks/dqn_speed.py
    python tests/benchmarks/dqn_speed.py --seconds 15 --rounds 4 --json results/dqn_speed.json
    python tests/benchmarks/dqn_speed.py --contestants saccade saccade-512 torchrl tianshou tianshou-400

All train the Nature network on the same game (84 x 84 grayscale, stack 4, frame skip 4), and learn from 8
samples for every agent step (batch x updates / steps). What is measured is the whole loop after warm-up:
acting, emulating, storing, sampling, learning. Each contestant is a process of its own; they take turns in
windows of `--seconds` while the others wait, idle. A ratio is the median over rounds of the ratio within a
round. Leave the machine alone meanwhile: programs on several threads suffer out of proportion when one of
their cores is taken, and the table says how many cores others kept busy in the worst window.

- saccade: `agents.dqn`, 16 worlds, batch 64 every 8 steps, the Nature network in full width without layer norms, and
  without evaluations and checkpoints, which the peers do not make.
- saccade-256, saccade-512: the same with batches of 256 every 32 steps and of 512 every 64, and as many worlds.
- sb3-1, sb3-8: stable_baselines3.DQN("CnnPolicy") over make_atari_env and VecFrameStack with 1 and 8 worlds,
  batch 32, train_freq 4; with 8 worlds gradient_steps is 8, which keeps 8 samples a step.
- cleanrl: the parts of CleanRL's dqn_atari.py (Huang et al., 2022) in Gymnasium 1.x: one world in SB3's
  wrappers, SB3's ReplayBuffer, Adam 1e-4, batch 32 every 4 steps, target copied every 1,000, fp32, eager.
- torchrl: the parts of TorchRL's Atari example (Collector, TensorDictReplayBuffer, DQNLoss, HardUpdate; Adam,
  gradients of at most norm 10), which collects 400 steps and then makes 100 updates of 32. The world is that of
  cleanrl: TorchRL's own transforms store floats, 22 GB in 100,000 transitions.
- tianshou: Tianshou's atari_dqn.py example (DQNet, VectorReplayBuffer of single frames, OffPolicyTrainer), 8 worlds,
  2 updates of 32 after every step of all. Its example has 10 worlds and 3.2 samples a step, double Q and 3-step
  returns; here it is plain DQN, as everybody's. Its worlds are EnvPool's.
- tianshou-400: the same with 100 updates after 400 steps. After every collection its trainer looks for NaNs in the
  whole memory, all stacks of which it rebuilds for that: rarer collections spare it most of this. The windows see
  an almost empty memory; the fuller it is, the slower both become.
- "+flush" is the same with torch.set_flush_denormal(True), which agents.dqn does itself.

Deviations from the recipes, ours included: learning starts after 1,000 steps, exploration is at its final
rate by then, and memories hold 100,000 transitions; so the windows see what most of a long run looks like.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from off_policy import CAPACITY, LEARNING_STARTS, NUMBERS, WARM_UP, saccade, tianshou
from paired import NEVER, SEED, Scene, contest
from torch import nn

if TYPE_CHECKING:
    import gymnasium
    from tianshou.algorithm import DQN
    from tianshou.data import VectorReplayBuffer


def sb3(scene: Scene, worlds: int, **other: object) -> None:
    """Train SB3's DQN as its documentation and RL Zoo do it on Atari; gated by a callback. other: its arguments."""
    import ale_py  # noqa: F401  (registers the games)
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gate = scene.gate(WARM_UP)

    class Turn(BaseCallback):
        def _on_step(self) -> bool:
            gate(self.num_timesteps)
            for info in self.locals["infos"]:
                if "episode" in info:
                    scene.played(info["episode"]["r"])
            return True

    world = VecFrameStack(make_atari_env(f"{scene.game}NoFrameskip-v4", n_envs=worlds, seed=SEED), n_stack=4)
    arguments = dict(
        learning_rate=1e-4,
        buffer_size=CAPACITY,
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
        device=scene.device,
    )
    DQN("CnnPolicy", world, **arguments | other).learn(NEVER, callback=Turn())


class QNetwork(nn.Module):
    """CleanRL's: observation (..., 4, 84, 84) uint8 -> value of each action (..., A)."""

    def __init__(self, actions: int):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(-3),
            nn.Linear(3136, 512),
            nn.ReLU(),
            nn.Linear(512, actions),
        )

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.network(observation / 255.0)


def single(game: str) -> "gymnasium.Env":
    """One world in SB3's wrappers, in CleanRL's order: observations (4, 84, 84) uint8."""
    import ale_py
    import gymnasium
    from gymnasium import wrappers
    from stable_baselines3.common import atari_wrappers

    gymnasium.register_envs(ale_py)
    world = wrappers.RecordEpisodeStatistics(gymnasium.make(f"{game}NoFrameskip-v4"))
    world = atari_wrappers.NoopResetEnv(world, noop_max=30)
    world = atari_wrappers.MaxAndSkipEnv(world, skip=4)
    world = atari_wrappers.EpisodicLifeEnv(world)
    if "FIRE" in world.unwrapped.get_action_meanings():
        world = atari_wrappers.FireResetEnv(world)
    world = atari_wrappers.ClipRewardEnv(world)
    world = wrappers.GrayscaleObservation(wrappers.ResizeObservation(world, (84, 84)))
    return wrappers.FrameStackObservation(world, 4)


def cleanrl(scene: Scene) -> None:
    """Train with CleanRL's dqn_atari recipe: its parts, its order, its hyperparameters."""
    import gymnasium
    from stable_baselines3.common import buffers
    from torch.nn import functional as F

    device = scene.device
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    worlds = gymnasium.vector.SyncVectorEnv(
        [partial(single, scene.game)], autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
    )  # as the Gymnasium 0.2x that CleanRL pins
    online = QNetwork(worlds.single_action_space.n).to(device)
    target = QNetwork(worlds.single_action_space.n).to(device)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.Adam(online.parameters(), lr=1e-4)
    memory = buffers.ReplayBuffer(
        CAPACITY,
        worlds.single_observation_space,
        worlds.single_action_space,
        device,
        optimize_memory_usage=True,
        handle_timeout_termination=False,
    )
    gate = scene.gate(WARM_UP)
    observation, _ = worlds.reset(seed=SEED)
    for step in range(NEVER):
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


def torchrl(scene: Scene) -> None:
    """Train with the parts and numbers of TorchRL's Atari example."""
    from tensordict.nn import TensorDictSequential
    from torchrl.collectors import Collector
    from torchrl.data import Composite, LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.envs import GymWrapper
    from torchrl.modules import EGreedyModule, QValueActor
    from torchrl.objectives import DQNLoss, HardUpdate

    together, updates = 400, 100  # agent steps, and their updates of 32
    torch.manual_seed(SEED)
    world = GymWrapper(single(scene.game), categorical_action_encoding=True, device=scene.device)
    world.set_seed(SEED)
    spec = world.action_spec
    network = QNetwork(spec.space.n).to(scene.device)
    actor = QValueActor(network, in_keys=["observation"], spec=Composite(action=spec))
    explore = EGreedyModule(spec=actor.spec, eps_init=0.01, eps_end=0.01, device=scene.device)
    memory = TensorDictReplayBuffer(storage=LazyTensorStorage(CAPACITY), batch_size=32)
    if scene.device != "cpu":
        memory.append_transform(lambda batch: batch.to(scene.device))
    objective = DQNLoss(actor, loss_function="l2", delay_value=True)
    objective.make_value_estimator(gamma=0.99)
    target = HardUpdate(objective, value_network_update_interval=10_000)  # updates
    optimizer = torch.optim.Adam(objective.parameters(), lr=2.5e-4)
    collector = Collector(
        world,
        TensorDictSequential(actor, explore),
        frames_per_batch=together,
        total_frames=-1,
        device=scene.device,
        storing_device=scene.device,
        max_frames_per_traj=-1,
        init_random_frames=LEARNING_STARTS,
    )
    gate, collected = scene.gate(WARM_UP), 0
    for steps in collector:
        memory.extend(steps.reshape(-1))
        collected += steps.numel()
        if collected > LEARNING_STARTS:
            for _ in range(updates):
                loss = objective(memory.sample())["loss"]
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(objective.parameters(), max_grad_norm=10.0)
                optimizer.step()
                target.step()
        collector.update_policy_weights_()
        gate(collected)


def tianshou_dqn(shape: tuple[int, ...], actions: "gymnasium.Space") -> "DQN":
    from tianshou.algorithm import DQN
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.env.atari.atari_network import DQNet

    channels, height, width = shape
    network = DQNet(c=channels, h=height, w=width, action_shape=actions.n)
    return DQN(
        policy=DiscreteQLearningPolicy(model=network, action_space=actions, eps_training=0.01),
        optim=AdamOptimizerFactory(lr=1e-4),
        gamma=0.99,
        target_update_freq=500,
        is_double=False,
    )


def tianshou_memory(worlds: int) -> "VectorReplayBuffer":
    from tianshou.data import VectorReplayBuffer

    return VectorReplayBuffer(CAPACITY, worlds, ignore_obs_next=True, save_only_last_obs=True, stack_num=4)


PLAIN = dict(width=1.0, norm="none")  # the network of Mnih et al. 2015, which the peers have

CONTESTANTS: dict[str, Callable[[Scene], None]] = {
    "saccade": saccade("agents.dqn", **PLAIN),
    "saccade-256": saccade("agents.dqn", 256, **PLAIN),
    "saccade-512": saccade("agents.dqn", 512, **PLAIN),
    "sb3-1": partial(sb3, worlds=1),
    "sb3-8": partial(sb3, worlds=8),
    "cleanrl": cleanrl,
    "torchrl": torchrl,
    "tianshou": tianshou(tianshou_dqn, tianshou_memory, together=8),
    "tianshou-400": tianshou(tianshou_dqn, tianshou_memory, together=400),
}

if __name__ == "__main__":
    contest("DQN", __doc__, CONTESTANTS, seconds=7.0, numbers=NUMBERS)
