"""Tabular methods: action values from dynamic programming on a world's exact model, or learned by acting in it.

Planned: value iteration (Bellman 1957, "Dynamic programming") and policy iteration (Howard 1960, "Dynamic programming
and Markov processes"). Learned: Q-learning (Watkins 1989, "Learning from delayed rewards"), SARSA (Rummery & Niranjan
1994, "On-line Q-learning using connectionist systems") and on-policy Monte-Carlo control (Sutton & Barto 2018,
section 5.4). Learners do not use the model; it serves to evaluate their greedy policies exactly.

    python -m agents.tabular --env FrozenLake --method value_iteration
    python -m agents.tabular --env CliffWalking --method q_learning
    python -m agents.tabular --env Gridworld --map "S.../.#.P/...G" --slip 0.1 --method sarsa

Any world works whose `unwrapped.P` is its model, as in Gymnasium's toy texts. The run's folder gets values.png, a
picture of V, Q and the policy over the map.

Deviations from the sources:
1. Several worlds side by side; simultaneous updates of one entry of the table count as that many updates in a row
   towards their mean.
2. Step sizes fall with an entry's visits n as n^-power (Even-Dar & Mansour 2003, "Learning rates for Q-learning").
3. A time limit is not an end: targets and returns bootstrap from the value of the state after it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

import envs
import runs
from agents.evaluation import Policy, evaluate, open_run
from agents.q_learning import epsilon_greedy
from agents.tabular import dynamic_programming, plots
from envs import Transition, gridworld, gymnasium_world
from runs.flag_types import Count, NonNegative, Share, Whole
from runs.wandb_mirror import agent_run

DYNAMIC_PROGRAMMING = ("value_iteration", "policy_iteration")


@dataclasses.dataclass(frozen=True)
class Config(runs.Options):
    env: str = "FrozenLake"  # the world: Gridworld, FrozenLake, FrozenLake8x8, CliffWalking, Taxi, a Gymnasium id
    method: Literal["value_iteration", "policy_iteration", "q_learning", "sarsa", "monte_carlo"] = "q_learning"
    map: str | None = None  # Gridworld: 4x3, four-rooms, maze, or its rows as envs/gridworld.py explains
    slip: float | None = None  # Gridworld: probability of going sideways; 0.2 unless given
    step_reward: float | None = None  # Gridworld: earned by every step; -0.04 unless given
    slippery: bool | None = None  # FrozenLake, CliffWalking: whether feet slip; the world's own unless given
    limit: int | None = None  # steps after which a game is cut short; the world's own unless given
    discount: Share = 0.99  # of the return, per step
    tolerance: float = 1e-9  # of value iteration: greatest error of any value when it stops
    steps: Count = 500_000  # agent steps of a learner; planners stop by themselves
    worlds: Count = 32  # games side by side
    learning_rate: NonNegative = 1.0  # step size of an entry's first update
    learning_rate_power: float = 0.6  # it falls with an entry's updates n as n^-power; 0 keeps it
    epsilon: Share = 0.1  # exploration rate at the end
    epsilon_steps: Whole = 250_000  # steps in which it falls from 1 to that; 0: it is that from the start
    evaluate_every: Whole = 50_000  # steps between evaluations
    evaluate_games: Count = 200  # whole games each, played greedily
    evaluate_steps: Count = 27_000  # of each game at most: longer ones count as they stand (27,000: Atari's limit)
    device: str = "cpu"  # auto or cpu, which is the same: a table of float64 is too small to gain from anything else
    threads: Whole = 1  # of torch on the CPU


def recipe(asked: Config) -> Config:
    """The config that suits the world and the method asked for. Raises ValueError on an unknown world."""
    world = identify(asked.env).rsplit("-v", 1)[0]
    name = "-".join(filter(None, ("tabular", asked.method, str(asked.seed), agent_run())))
    chosen: dict[str, Any] = {"name": name, "seed": asked.seed}
    if asked.method in DYNAMIC_PROGRAMMING:
        chosen["log_every"] = 1
    if asked.method in ("sarsa", "monte_carlo"):
        chosen |= dict(epsilon=0.01, epsilon_steps=400_000)  # their values include exploration: it must end
    if world.startswith("CliffWalking"):
        chosen |= dict(discount=1.0, limit=500, evaluate_games=10)
    if asked.method != "monte_carlo" and (world == "Taxi" or (world == "CliffWalking" and not asked.slippery)):
        chosen |= dict(learning_rate=0.5, learning_rate_power=0.0)  # deterministic transitions need no averaging
    if world == "FrozenLake8x8":
        chosen |= dict(steps=1_500_000, epsilon_steps=750_000, evaluate_every=150_000)
    if world == "saccade/Gridworld":
        chosen |= dict(discount=1.0)
    return Config(env=asked.env, method=asked.method, **chosen)


def q_learning_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """y = r + gamma * max_a Q(s', a). Watkins 1989. reward, discount: (B,). next_value: (B, A). Returns (B,)."""
    return reward + discount * next_value.max(1).values


def sarsa_target(reward: Tensor, discount: Tensor, next_value: Tensor, action: Tensor) -> Tensor:
    """y = r + gamma * Q(s', a'). Rummery & Niranjan 1994.

    reward, discount: (B,). next_value: (B, A). action: (B,) int64, the action taken next. Returns (B,)."""
    return reward + discount * next_value.gather(1, action[:, None]).squeeze(1)


def monte_carlo_returns(reward: Tensor, discount: float, beyond: Tensor) -> Tensor:
    """G_t = r_t + gamma * G_{t+1}, (T,) -> (T,). beyond: the return after the last reward, 0 where the game ended."""
    total, totals = float(beyond), []
    for gain in reversed(reward.tolist()):
        total = gain + discount * total
        totals.append(total)
    return torch.tensor(totals[::-1], dtype=torch.float64)


def update(
    table: Tensor, visits: Tensor, state: Tensor, action: Tensor, target: Tensor, rate: float, power: float
) -> tuple[Tensor, Tensor]:
    """Q(s, a) <- Q(s, a) + alpha * (y - Q(s, a)), with alpha = rate / n^power at the entry's n-th visit.

    k targets for one entry count as k updates towards their mean, with the step size 1 - (1 - alpha)^k.

    Args:
        table, visits: (S, A) float64.
        state, action, target: (B,).

    Returns:
        The table and the visits afterwards.
    """
    place = state * table.shape[1] + action
    count = torch.bincount(place, minlength=table.numel()).view_as(table)
    mean = torch.bincount(place, weights=target, minlength=table.numel()).view_as(table) / count.clamp(min=1)
    visits = visits + count
    step = 1 - (1 - rate / visits.clamp(min=1) ** power) ** count
    return table + step * (mean - table), visits


def epsilon_at(config: Config, step: int) -> float:
    """Exploration at a step: from 1 linearly to config.epsilon in epsilon_steps."""
    fraction = min(step / config.epsilon_steps, 1.0) if config.epsilon_steps else 1.0
    return 1.0 + fraction * (config.epsilon - 1.0)


class Table(nn.Module):
    """State of a learner: values and visits (S, A) float64, and the action (N,) that each world takes next."""

    def __init__(self, states: int, actions: int, worlds: int):
        super().__init__()
        self.register_buffer("values", torch.zeros(states, actions, dtype=torch.float64))
        self.register_buffer("visits", torch.zeros(states, actions, dtype=torch.float64))
        self.register_buffer("action", torch.zeros(worlds, dtype=torch.int64))


class Episodes:
    """The steps of each world's current game."""

    def __init__(self, count: int):
        self.steps: list[list[list[float]]] = [[] for _ in range(count)]  # of state, action and reward

    def add(self, step: Transition, state: Tensor) -> list[tuple[int, Tensor, Tensor, Tensor]]:
        """Add a step from `state` (N,). Returns the games that ended: world, and state, action and reward (T,)."""
        for done, *now in zip(self.steps, state.tolist(), step.action.tolist(), step.reward.tolist(), strict=True):
            done.append(now)
        stopped = []
        for n in step.last.nonzero().flatten().tolist():
            past, action, reward = torch.tensor(self.steps[n], dtype=torch.float64).T
            stopped.append((n, past.long(), action.long(), reward))
            self.steps[n] = []
        return stopped

    def state_dict(self) -> dict[str, Any]:
        """The steps of all games, as lists."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps = state["steps"]

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Drop the games of the worlds in (N,) bool, which could not be resumed."""
        self.steps = [[] if cut else steps for steps, cut in zip(self.steps, worlds.tolist(), strict=True)]


def first_visits(place: Tensor) -> Tensor:
    """Which entries of (T,) have not occurred before. Returns (T,) bool."""
    first = torch.zeros(len(place), dtype=torch.bool)
    first[np.unique(place.numpy(), return_index=True)[1]] = True
    return first


def identify(name: str) -> str:
    """The Gymnasium id of a world. Raises ValueError on an unknown one, with near matches, and on an Atari game."""
    if identity := gymnasium_world.canonical(name):
        return identity
    envs.describe(name)  # raises where nothing is called that
    raise ValueError(f"{name} does not publish its model: try FrozenLake, CliffWalking, Taxi or Gridworld")


def world_options(config: Config) -> dict[str, object]:
    """Options of envs.make. Raises ValueError where flags of Gridworld are given for another world."""
    for flag in ("map", "slip", "step_reward"):
        if getattr(config, flag) is not None and identify(config.env) != gridworld.ID:
            raise ValueError(f"--{flag.replace('_', '-')}: it is for Gridworld, and {config.env} is none")
    given = {
        "map": config.map,
        "slip": config.slip,
        "step_reward": config.step_reward,
        "is_slippery": config.slippery,
        "max_episode_steps": config.limit,
    }
    return {key: value for key, value in given.items() if value is not None}


def greedy_or_exact_policy(config: Config, table: Tensor, exact: dynamic_programming.Model) -> Tensor:
    """The policy to evaluate, (S, A) probabilities: greedy on the table (S, A), or optimal for planners."""
    return (
        dynamic_programming.best_policy(table, exact, config.discount)
        if config.method in DYNAMIC_PROGRAMMING
        else dynamic_programming.greedy(table)
    )


def table_policy(policy: Tensor) -> Policy:
    """The policy (S, A) to play with: one-hot observations (N, S) -> actions (N,)."""
    best = policy.argmax(1)
    return lambda observation, transition=None: best[observation.argmax(1)]


def load(config: Config, folder: Path, parts: dict, world: envs.World, seed: int) -> Policy:
    """The policy that a run's saved parts describe, for agents.watch."""
    env = gymnasium.make(identify(config.env), disable_env_checker=True, **world_options(config))
    policy = greedy_or_exact_policy(config, parts["table"]["values"], dynamic_programming.model(env))
    env.close()
    return table_policy(policy.to(world.device))


def train(config: Config) -> None:
    if config.device not in ("auto", "cpu"):
        raise ValueError(f"--device {config.device}: a table is too small to gain from it, leave it at cpu")
    device = runs.prepare("cpu", config.seed, config.threads)
    chosen = world_options(config)
    identity = identify(config.env)
    world = envs.make(config.env, config.worlds, seed=config.seed, device=device, **chosen)
    env = gymnasium.make(identity, disable_env_checker=True, **chosen)
    exact = dynamic_programming.model(env)
    optimal, changes = dynamic_programming.value_iteration(exact, config.discount, config.tolerance)
    run = open_run(config, "agents.tabular", world)
    table, episodes = Table(*exact.reward.shape, world.count), Episodes(world.count)

    def act(state: Tensor, epsilon: float) -> Tensor:
        best = table.values[state].argmax(1)
        return epsilon_greedy(best, world.actions, epsilon)

    def improve(state: Tensor, action: Tensor, target: Tensor) -> dict[str, Tensor]:
        error = target - table.values[state, action]
        table.values, table.visits = update(
            table.values, table.visits, state, action, target, config.learning_rate, config.learning_rate_power
        )
        return {"loss/td": error.abs().mean()}

    def assess() -> None:
        policy = greedy_or_exact_policy(config, table.values, exact)
        begins = exact.start > 0
        best = exact.start @ optimal.max(1).values
        reached = exact.start[begins] @ dynamic_programming.policy_evaluation(policy, exact, config.discount)[begins]
        figures = {
            "value/optimal": best.item(),
            "value/error": (table.values - optimal).abs().max().item(),
            "loss/residual": dynamic_programming.bellman_residual(table.values, exact, config.discount).item(),
        }
        worth = "never comes to an end, so that undiscounted it has no value"
        if not reached.isnan():
            figures["value/start"] = reached.item()
            worth = f"is worth {reached:.6f}"
        played: dict[str, float] = {}
        with run.side_task("evaluation"):
            played = evaluate(
                table_policy(policy), config.env, config.evaluate_games, config.seed, device,
                limit=config.evaluate_steps, say=run.bar.say, **chosen,
            )  # fmt: skip
        run.log_evaluation(played | figures)
        run.bar.say(f"from the start the greedy policy {worth}, the optimal one is worth {best:.6f}")

    if config.method in DYNAMIC_PROGRAMMING:
        table.values = optimal
        if config.method == "policy_iteration":
            table.values, changes = dynamic_programming.policy_iteration(exact, config.discount)
        run.track(table=table)
        for step in run.steps(len(changes)):
            run.log({"loss/residual": changes[step]})
            if step + 1 == len(changes):  # before the last save: a run that is killed draws it when it goes on
                assess()
                with run.side_task("picture"):
                    picture(run, env, table, exact)
        return

    table.action = act(world.observation.argmax(1), epsilon_at(config, 0))
    run.track(table=table, episodes=episodes, world=world)
    for step in run.steps(config.steps, stride=world.count):
        epsilon = epsilon_at(config, step)
        state = world.observation.argmax(1)
        transition = world.step(table.action)
        arrived, present = transition.next_observation.argmax(1), world.observation.argmax(1)
        reward, next_value = transition.reward.double(), table.values[arrived]
        discount = config.discount * transition.discount.double()
        if config.method == "q_learning":
            run.log(improve(state, transition.action, q_learning_target(reward, discount, next_value)))
            table.action = act(present, epsilon)
        elif config.method == "sarsa":
            then = act(arrived, epsilon)
            run.log(improve(state, transition.action, sarsa_target(reward, discount, next_value, then)))
            table.action = torch.where(transition.last, act(present, epsilon), then)
        else:
            for n, past, taken, gained in episodes.add(transition, state):
                beyond = transition.discount[n] * next_value[n].max()
                target = monte_carlo_returns(gained, config.discount, beyond)
                first = first_visits(past * world.actions + taken)
                run.log(improve(past[first], taken[first], target[first]))
            table.action = act(present, epsilon)
        run.log(world.finished | {"explore/epsilon": epsilon})
        last = step + world.count >= config.steps
        if run.due(config.evaluate_every) or last:
            assess()
        if last:
            with run.side_task("picture"):
                picture(run, env, table, exact)


def picture(run: runs.Run, env: gymnasium.Env, table: Table, exact: dynamic_programming.Model) -> None:
    """Draw the finished table into the run's folder, where the world has a map."""
    if maps := plots.grids(env):
        path = run.folder / "values.png"
        reachable = (exact.transition.sum((1, 2)) + exact.reward.abs().sum(1) > 0).numpy()
        plots.draw(path, f"{run.world}, {run.config.method.replace('_', ' ')}", table.values, reachable, maps)
        print(f"picture {path}")
