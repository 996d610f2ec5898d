"""Model-predictive control in a world model's dream: the cross-entropy method over sequences of actions."""

from __future__ import annotations

import torch
from torch import Tensor

import envs
from agents.studies.world_model.model import State, WorldModel

ELITES = 0.1  # share of the sequences that the next ones are drawn from
SMOOTHING = 0.1  # share of the uniform distribution that stays


class Planner:
    """A policy that dreams sequences of actions and takes the first action of the best: (observation, transition) ->
    actions (N,).

    Cross-entropy method (Rubinstein 1999; for planning in learned models Chua et al. 2018, arXiv 1805.12114, and
    Hafner et al. 2019, "PlaNet", arXiv 1811.04551, algorithm 2): sequences are drawn from a categorical distribution
    at each decision, and those of the best tenth make the next distribution. With one iteration it is random
    shooting. A sequence is worth its expected signs of rewards, discounted, as long as the dream does not end.

    horizon: steps of a dream. hold: steps for which each action of a sequence is kept, in the dream and in the game.
    samples: sequences an iteration. discount: per step.
    """

    def __init__(
        self,
        model: WorldModel,
        horizon: int = 20,
        samples: int = 64,
        iterations: int = 2,
        hold: int = 1,
        discount: float = 0.99,
        seed: int = 1,
    ) -> None:
        self.model, self.horizon, self.samples, self.iterations = model.eval(), horizon, samples, iterations
        self.hold, self.discount, self.generator = hold, discount, torch.Generator().manual_seed(seed)
        self.decisions = -(-horizon // hold)
        self.state: State | None = None
        self.z: Tensor | None = None
        self.since = 0  # steps since the last decision
        self.action: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, observation: Tensor, transition: envs.Transition | None = None) -> Tensor:
        frame = observation[:, -self.model.encoder.options.frame :]
        if transition is None:
            self.state, self.action, self.since = None, None, 0
        else:
            _, self.state = self.model.predict(self.z, transition.action, self.state)
            going = (~transition.last)[:, None, None, None]
            self.state = tuple(each * going for each in self.state)
            self.since = 0 if transition.last.any() else (self.since + 1) % self.hold
        self.z = self.model.encode(frame)
        if self.since == 0 or self.action is None:
            self.action = self.plan(self.z, self.state)[:, 0]
        return self.action

    @torch.inference_mode()
    def plan(self, z: Tensor, state: State | None) -> Tensor:
        """The best sequences of actions (N, decisions) found for levels z (N, L, h, w) and the LSTM's state."""
        count, actions = len(z), self.model.actions
        chance = torch.full((count, self.decisions, actions), 1 / actions)
        best, best_value = None, torch.full((count,), -torch.inf, device=z.device)
        for _ in range(self.iterations):
            drawn = torch.multinomial(chance.flatten(0, 1), self.samples, True, generator=self.generator)
            sequences = drawn.view(count, self.decisions, self.samples).transpose(1, 2)  # (N, samples, decisions)
            value = self.value(z, state, sequences.to(z.device))
            value_here, place = value.max(1)
            found = sequences[torch.arange(count), place.cpu()]
            better = (value_here > best_value).cpu()
            best = found if best is None else torch.where(better[:, None], found, best)
            best_value = torch.maximum(best_value, value_here)
            elite = value.topk(max(1, round(ELITES * self.samples)), 1).indices.cpu()
            chosen = sequences.gather(1, elite[:, :, None].expand(-1, -1, self.decisions))
            share = torch.nn.functional.one_hot(chosen, actions).float().mean(1)
            chance = (1 - SMOOTHING) * share + SMOOTHING / actions
        return best.to(z.device)

    def value(self, z: Tensor, state: State | None, sequences: Tensor) -> Tensor:
        """Expected discounted signs of rewards (N, S) of sequences (N, S, decisions) from levels z (N, L, h, w)."""
        count, samples = sequences.shape[:2]
        z = z.repeat_interleave(samples, 0)
        state = None if state is None else tuple(each.repeat_interleave(samples, 0) for each in state)
        total, going = torch.zeros(len(z), device=z.device), torch.ones(len(z), device=z.device)
        for step in range(self.horizon):
            found, state = self.model.predict(z, sequences[:, :, step // self.hold].flatten(), state)
            total += self.discount**step * going * found.expected_reward()
            going = going * (1 - found.end.sigmoid())
            z = found.draw()
        return total.view(count, samples)
