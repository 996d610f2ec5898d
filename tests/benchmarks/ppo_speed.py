"""Training speed of agents.ppo against SB3's PPO and CleanRL's ppo_atari_envpool recipe, in agent steps a second.

    pip install -e ".[bench]"
    python tests/benchmarks/ppo_speed.py
    python tests/benchmarks/ppo_speed.py --seconds 20 --rounds 4 --json results/ppo_speed.json

All train the Nature network on the same game (84 x 84 grayscale, stack 4, frame skip 4) with the same numbers: 8
worlds, rollouts of 128 steps, 4 epochs of 4 minibatches of 256, Adam 2.5e-4, clip 0.1 (values too), lambda 0.95 and a
gradient of at most norm 0.5. What is measured is the whole loop after a warm-up of two rollouts: acting, emulating,
storing, learning. Each contestant is a process of its own; they take turns in windows of `--seconds`, which end
with a rollout, while the others wait, idle. A ratio is the median over rounds of the ratio within a round. Leave the
machine alone meanwhile.

- saccade: `agents.ppo` with these numbers, without evaluations and checkpoints, which the peers do not make.
- sb3: stable_baselines3.PPO("CnnPolicy") over make_atari_env and VecFrameStack, as RL Zoo has it.
- cleanrl: the parts of CleanRL's program (Huang et al., 2022) in their order, fp32 and eager. Its EnvPool is replaced
  by ALE's own vector environment, which ours wraps too, so that both have the same emulator.
- "+flush" is the same with torch.set_flush_denormal(True), which agents.ppo does itself.
"""

import numpy as np
import torch
from on_policy import EPOCHS, LEARNING, MINIBATCHES, ROLLOUT, STEPS, WARM_UP, WORLDS, Games, begun, saccade
from paired import NEVER, SEED, Scene, contest
from torch import nn
from torch.distributions import Categorical


def cleanrl(scene: Scene) -> None:
    """Train with CleanRL's ppo_atari_envpool recipe: its parts, its order, its hyperparameters."""
    device = scene.device
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    worlds = Games(scene)
    actions = int(worlds.single_action_space.n)
    backbone = nn.Sequential(
        begun(nn.Conv2d(4, 32, 8, stride=4)),
        nn.ReLU(),
        begun(nn.Conv2d(32, 64, 4, stride=2)),
        nn.ReLU(),
        begun(nn.Conv2d(64, 64, 3, stride=1)),
        nn.ReLU(),
        nn.Flatten(),
        begun(nn.Linear(3136, 512)),
        nn.ReLU(),
    )
    actor, critic = begun(nn.Linear(512, actions), 0.01), begun(nn.Linear(512, 1), 1.0)
    network = nn.ModuleList([backbone, actor, critic]).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=2.5e-4, eps=1e-5)
    observations = torch.zeros(ROLLOUT, WORLDS, 4, 84, 84, device=device)  # floats, as CleanRL keeps them
    taken, log_probs, rewards, dones, values = (torch.zeros(ROLLOUT, WORLDS, device=device) for _ in range(5))
    gate = scene.gate(WARM_UP)
    present = torch.Tensor(worlds.reset(seed=SEED)[0]).to(device)
    done = torch.zeros(WORLDS, device=device)
    batch = ROLLOUT * WORLDS
    for begin in range(0, NEVER, batch):
        gate(begin)
        optimizer.param_groups[0]["lr"] = max(1 - begin / STEPS, 0) * 2.5e-4
        for t in range(ROLLOUT):
            observations[t], dones[t] = present, done
            with torch.no_grad():
                features = backbone(present / 255.0)
                policy = Categorical(logits=actor(features))
                action = policy.sample()
                values[t], log_probs[t] = critic(features).flatten(), policy.log_prob(action)
            taken[t] = action
            next_value, reward, terminated, truncated, _ = worlds.step(action.cpu().numpy())
            rewards[t] = torch.tensor(reward, device=device)
            present = torch.Tensor(next_value).to(device)
            done = torch.Tensor(terminated | truncated).to(device)
        with torch.no_grad():
            advantages, recurrent_state = torch.zeros_like(rewards), 0
            following_value, going = critic(backbone(present / 255.0)).flatten(), 1 - done
            for t in reversed(range(ROLLOUT)):
                delta = rewards[t] + 0.99 * following_value * going - values[t]
                advantages[t] = recurrent_state = delta + 0.99 * 0.95 * going * recurrent_state
                following_value, going = values[t], 1 - dones[t]
            returns = advantages + values
        rows = np.arange(batch)
        kept = (observations, taken, log_probs, advantages, returns, values)
        flat = [field.flatten(0, 1) for field in kept]
        for _ in range(EPOCHS):
            random.shuffle(rows)
            for some in rows.reshape(MINIBATCHES, -1):
                observation, action, old, advantage, goal, value = (part[some] for part in flat)
                features = backbone(observation / 255.0)
                policy = Categorical(logits=actor(features))
                ratio = (policy.log_prob(action.long()) - old).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.9, 1.1)).mean()
                new = critic(features).flatten()
                clipped = value + (new - value).clamp(-0.1, 0.1)
                loss = loss + 0.5 * 0.5 * torch.max((new - goal) ** 2, (clipped - goal) ** 2).mean()
                loss = loss - 0.01 * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimizer.step()


def sb3(scene: Scene) -> None:
    """Train SB3's PPO as RL Zoo does it on Atari; gated by a callback where a rollout begins."""
    import ale_py  # noqa: F401  (registers the games)
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gate = scene.gate(WARM_UP)

    class Turn(BaseCallback):
        def _on_rollout_start(self) -> None:
            gate(self.num_timesteps)

        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    scene.played(info["episode"]["r"])
            return True

    world = VecFrameStack(make_atari_env(f"{scene.game}NoFrameskip-v4", n_envs=WORLDS, seed=SEED), n_stack=4)
    PPO(
        "CnnPolicy",
        world,
        learning_rate=lambda left: 2.5e-4 * left,
        n_steps=ROLLOUT,
        batch_size=WORLDS * ROLLOUT // MINIBATCHES,
        n_epochs=EPOCHS,
        clip_range=0.1,
        clip_range_vf=0.1,
        ent_coef=0.01,
        vf_coef=0.5,
        seed=SEED,
        device=scene.device,
    ).learn(STEPS, callback=Turn())


if __name__ == "__main__":
    contest(
        "PPO",
        __doc__,
        {"saccade": saccade("agents.ppo", norm="none"), "sb3": sb3, "cleanrl": cleanrl},
        seconds=10.0,
        numbers={"worlds": WORLDS} | LEARNING,
        default=["saccade", "sb3", "sb3+flush", "cleanrl", "cleanrl+flush"],
    )
