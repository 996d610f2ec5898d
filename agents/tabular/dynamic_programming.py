"""Dynamic programming: a world's exact model as tables, value iteration, policy evaluation and policy iteration."""

from __future__ import annotations

import math
from typing import NamedTuple

import gymnasium
import torch
from torch import Tensor, nn


class Model(NamedTuple):
    """A Markov decision process of S states and A actions, as tables."""

    transition: Tensor  # (S, A, S) float64, probability that an action leads to a state and the game goes on
    reward: Tensor  # (S, A) float64, expected
    start: Tensor  # (S,) float64, probability of starting there


def model(env: gymnasium.Env) -> Model:
    """The exact model of a Gymnasium environment, from `unwrapped.P` and `unwrapped.initial_state_distrib`.

    A transition that ends the game has no next state (discount 0); time limits are not part of the model. Unreachable
    states (ends, walls) have neither transitions nor rewards, so that their values are 0.

    Raises:
        ValueError: the environment does not publish its model.
    """
    world = env.unwrapped
    if not hasattr(world, "P") or not hasattr(world, "initial_state_distrib"):
        raise ValueError(
            f"{env.spec.id} does not publish its model: a table needs `P` and `initial_state_distrib`, as "
            "FrozenLake, CliffWalking, Taxi and Gridworld have them"
        )
    states, actions = len(world.P), len(world.P[0])
    transition = torch.zeros(states, actions, states, dtype=torch.float64)
    reward = torch.zeros(states, actions, dtype=torch.float64)
    for state, choices in world.P.items():
        for action, outcomes in choices.items():
            for probability, next_state, gain, terminated in outcomes:
                reward[state, action] += probability * gain
                if not terminated:
                    transition[state, action, next_state] += probability
    start = torch.as_tensor(world.initial_state_distrib, dtype=torch.float64)
    reachable = reaches(transition.sum(1) > 0)[start > 0].any(0)
    return Model(transition * reachable[:, None, None], reward * reachable[:, None], start)


def reaches(leads: Tensor) -> Tensor:
    """Which states are reachable from which in zero or more steps. (S, S) bool -> (S, S) bool."""
    reached = leads | torch.eye(len(leads), dtype=torch.bool)
    for _ in range(math.ceil(math.log2(max(len(leads), 2)))):
        reached = reached.float() @ reached.float() > 0
    return reached


def backup(values: Tensor, world: Model, discount: float) -> Tensor:
    """Q(s, a) = r(s, a) + gamma * sum_s' p(s' | s, a) V(s'). Bellman 1957. (S,) -> (S, A)."""
    return world.reward + discount * world.transition @ values


def bellman_residual(table: Tensor, world: Model, discount: float) -> Tensor:
    """max |Q - T Q|, with T the optimal backup: 0 for the optimal table alone. (S, A) -> scalar.

    With a discount below 1 no entry is further than residual / (1 - discount) from the optimal one.
    """
    return (table - backup(table.max(1).values, world, discount)).abs().max()


def value_iteration(
    world: Model, discount: float, tolerance: float = 1e-9, sweeps: int = 100_000
) -> tuple[Tensor, list[Tensor]]:
    """Value iteration: Q <- T Q, from zero. Bellman 1957.

    Args:
        tolerance: greatest error of any value when it stops, by the contraction of T; with discount 1, where T need
            not contract, the greatest change in the last sweep.
        sweeps: at most.

    Returns:
        The table (S, A), and how much each sweep changed it.

    Raises:
        ValueError: the values have not converged after `sweeps`.
    """
    table, changes = torch.zeros_like(world.reward), []
    stop = tolerance * (1 - discount) / discount if 0 < discount < 1 else tolerance
    while not changes or changes[-1] > stop:
        if len(changes) == sweeps:
            raise ValueError(
                f"value iteration still changes by {changes[-1]:.1e} after {sweeps:,} sweeps: choose a larger "
                "--tolerance or a smaller --discount"
            )
        updated = backup(table.max(1).values, world, discount)
        changes.append((updated - table).abs().max())
        table = updated
    return table, changes


def policy_evaluation(policy: Tensor, world: Model, discount: float) -> Tensor:
    """V = (I - gamma P_pi)^-1 r_pi. Howard 1960.

    Args:
        policy: (S, A), the probability of each action.

    Returns:
        (S,); NaN where, undiscounted, the policy may never end.
    """
    policy = policy.double()
    transition = torch.einsum("sa,sat->st", policy, world.transition)
    reward = (policy * world.reward).sum(1)
    if discount == 1:
        reached = reaches(transition > 0)
        dead = ~reached[:, transition.sum(1) < 1 - 1e-9].any(1)  # no end is reachable from here
        endless = reached[:, dead].any(1)
        transition = transition * ~endless[:, None]
    values = torch.linalg.solve(torch.eye(len(reward), dtype=torch.float64) - discount * transition, reward)
    return torch.where(endless, math.nan, values) if discount == 1 else values


def policy_iteration(world: Model, discount: float) -> tuple[Tensor, list[Tensor]]:
    """Policy iteration: evaluate and improve until nothing changes, from the uniform policy. Howard 1960.

    Returns:
        The table (S, A), and its Bellman residual after each improvement.

    Raises:
        ValueError: undiscounted, and some policy never ends.
    """
    policy = torch.full_like(world.reward, 1 / world.reward.shape[1])
    residuals = []
    while True:
        values = policy_evaluation(policy, world, discount)
        if values.isnan().any():
            raise ValueError(
                "with discount 1 policy iteration met a policy that never ends: choose a --discount below 1, or "
                "--method value_iteration"
            )
        table = backup(values, world, discount)
        residuals.append(bellman_residual(table, world, discount))
        # Rounding must not make two equally good actions alternate forever.
        better = table.max(1).values > (policy * table).sum(1) + 1e-12 * table.abs().max()
        improved = torch.where(better[:, None], greedy(table), policy)
        if torch.equal(improved, policy):
            return table, residuals
        policy = improved


def greedy(table: Tensor) -> Tensor:
    """The policy that takes the best action, the first of equals. (S, A) -> (S, A) probabilities."""
    return nn.functional.one_hot(table.argmax(1), table.shape[1]).double()


def best_policy(table: Tensor, world: Model, discount: float) -> Tensor:
    """The policy of an optimal table (S, A): greedy and, undiscounted, the one that ends soonest.

    Undiscounted, waiting is worth as much as moving, so that a greedy policy may never end. Going backwards from the
    ends, each state takes a best action that may end the game or lead to a state settled before; then policy
    iteration minimizes the number of steps among the best actions. Best are the actions within 1e-12 of the maximum
    or, if such a policy never ends, within a larger tolerance.

    Returns:
        (S, A) probabilities.
    """
    policy = greedy(table)
    if discount < 1:
        return policy
    ends = world.transition.sum(2) < 1 - 1e-9
    for slack in (1e-12, 1e-10, 1e-8, 1e-6):
        best = table >= table.max(1, keepdim=True).values - slack * table.abs().max().clamp(min=1)
        settled, more = torch.zeros(len(table), dtype=torch.bool), torch.ones(1, dtype=torch.bool)
        while more.any():
            leads = best & (ends | ((world.transition * settled).sum(2) > 0))
            more = leads.any(1) & ~settled
            policy[more] = greedy(table.masked_fill(~leads, -math.inf))[more]
            settled |= more
        if not policy_evaluation(policy, world, discount)[world.start > 0].isnan().any():
            break
    clock = world._replace(reward=-torch.ones_like(world.reward))
    while True:
        left = backup(policy_evaluation(policy, clock, discount).nan_to_num(-1e9), clock, discount)  # (S, A)
        soonest = left.masked_fill(~best, -math.inf).max(1).values
        better = soonest > (policy * left).sum(1) + 1e-9 * soonest.abs()
        if not better.any():
            return policy
        policy[better] = greedy(left.masked_fill(~best, -math.inf))[better]
