"""Training speed of agents.pqn against CleanRL's pqn_atari_envpool recipe, in agent steps a second.

    python tests/benchmarks/pqn_speed.py
    python tests/benchmarks/pqn_speed.py --seconds 20 --rounds 4 --json results/pqn_speed.json

Both train the Nature network with layer norms on the same game (84 x 84 grayscale, stack 4, frame skip 4) with the
same numbers: 8 worlds, rollouts of 128 steps, 4 epochs of 4 minibatches of 256, RAdam, Q(lambda), a gradient of at
most norm 10. What is measured is the whole loop after a warm-up of two rollouts: acting, emulating, storing,
learning. Each contestant is a process of its own; they take turns in windows of `--seconds`, which end with a
rollout, while the others wait, idle. A ratio is the median over rounds of the ratio within a round. Leave the
machine alone meanwhile.

- saccade: `agents.pqn` with these numbers, without evaluations and checkpoints, which the peer does not make.
- cleanrl: the parts of CleanRL's program (Huang et al., 2022) in their order, fp32 and eager. Its EnvPool is replaced
  by ALE's own vector environment, which ours wraps too, so that both have the same emulator.
- "+flush" is the same with torch.set_flush_denormal(True), which agents.pqn does itself.
"""

import numpy as np
import torch
from on_policy import EPOCHS, LEARNING, MINIBATCHES, ROLLOUT, STEPS, WARM_UP, WORLDS, Games, begun, saccade
from paired import NEVER, SEED, Scene, contest
from torch import nn
from torch.nn import functional as F


def cleanrl(scene: Scene) -> None:
    """Train with CleanRL's pqn_atari_envpool recipe: its parts, its order, its hyperparameters."""
    device = scene.device
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    worlds = Games(scene)
    actions = int(worlds.single_action_space.n)
    network = nn.Sequential(
        begun(nn.Conv2d(4, 32, 8, stride=4)),
        nn.LayerNorm([32, 20, 20]),
        nn.ReLU(),
        begun(nn.Conv2d(32, 64, 4, stride=2)),
        nn.LayerNorm([64, 9, 9]),
        nn.ReLU(),
        begun(nn.Conv2d(64, 64, 3, stride=1)),
        nn.LayerNorm([64, 7, 7]),
        nn.ReLU(),
        nn.Flatten(),
        begun(nn.Linear(3136, 512)),
        nn.LayerNorm(512),
        nn.ReLU(),
        begun(nn.Linear(512, actions)),
    ).to(device)
    optimizer = torch.optim.RAdam(network.parameters(), lr=2.5e-4)
    observations = torch.zeros(ROLLOUT, WORLDS, 4, 84, 84, device=device)  # floats, as CleanRL keeps them
    taken = torch.zeros(ROLLOUT, WORLDS, device=device)
    rewards, dones, values = (torch.zeros(ROLLOUT, WORLDS, device=device) for _ in range(3))
    gate = scene.gate(WARM_UP)
    present = torch.Tensor(worlds.reset(seed=SEED)[0]).to(device)
    done = torch.zeros(WORLDS, device=device)
    batch = ROLLOUT * WORLDS
    for begin in range(0, NEVER, batch):
        gate(begin)
        optimizer.param_groups[0]["lr"] = max(1 - begin / STEPS, 0) * 2.5e-4
        for t in range(ROLLOUT):
            observations[t], dones[t] = present, done
            epsilon = max(1 - 0.99 * (begin + t * WORLDS) / (0.1 * STEPS), 0.01)
            with torch.no_grad():
                values[t], best = network(present / 255.0).max(dim=1)
            explore = torch.rand(WORLDS, device=device) < epsilon
            action = torch.where(explore, torch.randint(actions, (WORLDS,), device=device), best)
            taken[t] = action
            next_value, reward, terminated, truncated, _ = worlds.step(action.cpu().numpy())
            rewards[t] = torch.tensor(reward, device=device)
            present = torch.Tensor(next_value).to(device)
            done = torch.Tensor(terminated | truncated).to(device)
        with torch.no_grad():
            returns = torch.zeros_like(rewards)
            for t in reversed(range(ROLLOUT)):
                if t == ROLLOUT - 1:
                    following_value = network(present / 255.0).max(dim=1).values
                    returns[t] = rewards[t] + 0.99 * following_value * (1 - done)
                else:
                    mixed = 0.65 * returns[t + 1] + 0.35 * values[t + 1] * (1 - dones[t + 1])
                    returns[t] = rewards[t] + 0.99 * mixed
        rows = np.arange(batch)
        flat = observations.flatten(0, 1), taken.flatten(), returns.flatten()
        for _ in range(EPOCHS):
            random.shuffle(rows)
            for some in rows.reshape(MINIBATCHES, -1):
                observation, action, goal = (part[some] for part in flat)
                value = network(observation / 255.0).gather(1, action[:, None].long()).squeeze()
                loss = F.mse_loss(goal, value)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 10.0)
                optimizer.step()


if __name__ == "__main__":
    contest(
        "PQN",
        __doc__,
        {"saccade": saccade("agents.pqn", norm="layer"), "cleanrl": cleanrl},
        seconds=10.0,
        numbers={"worlds": WORLDS} | LEARNING,
        default=["saccade", "cleanrl", "cleanrl+flush"],
    )
