"""Soft attention agent: PPO with top-down spatial attention, whose weights show where the agent looks.

Mott et al. 2019, "Towards interpretable reinforcement learning using attention augmented agents": queries from the
policy's LSTM, keys and values from the backbone's feature map beside a fixed spatial basis; the answers are the
policy's only input from the picture. An observation is a single frame. The loop and its flags are those of
agents/ppo.py; agents.watch overlays the attention on its films.

    python -m agents.soft_attention --env Pong
    python -m agents.soft_attention --env Breakout --queries 2
    python -m agents.soft_attention --env Catch
    python -m agents.watch results/Pong/soft_attention-1

Deviations from the paper:
1. PPO on a few worlds instead of IMPALA on many.
2. The vision core is a backbone of the zoo (--backbone) without the convolutional LSTM behind it: motion is seen by
   the policy's own LSTM alone, from one answer to the next.
3. The policy does not receive the last action and reward; attention reads the finest map of stride 8.
4. Queries are initialized to be distinct. A value has 64 channels instead of 120; --recipe paper has the paper's
   network, and this project's numbers of PPO where the paper has IMPALA's.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from agents import ppo
from agents.config import (
    BackboneFlags,
    ComputeFlags,
    EvaluationFlags,
    PolicyGradientFlags,
    WorldFlags,
    from_recipe,
    world_options,
)
from agents.networks import actor_critic
from agents.networks.layers import dense
from agents.networks.lstm import build_lstm
from agents.ppo import PPOFlags
from envs import World
from runs.flag_types import Count, Whole

__all__ = ["Config", "load", "world_options", "recipe", "train"]


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, PPOFlags, PolicyGradientFlags, ComputeFlags, EvaluationFlags, runs.Options):
    stack: Whole = 1  # frames in an observation of pictures
    hidden: Whole = 512  # unused: policy and value read the LSTM
    lstm_units: Count = 256  # of the LSTM that queries, policy and value read
    queries: Count = 4  # attention queries a step
    keys: Count = 8  # channels of a key, beside those of the spatial basis
    values: Count = 64  # channels of a value, beside those of the spatial basis
    basis: Count = 4  # frequencies of the spatial basis along each axis: 4 times its square channels
    level: int = -1  # which of the backbone's maps, from fine to coarse


ATARI = dict(  # Pong: 19.6 and 2.8 in seeds 1 and 2, the only runs (runs/published/atari), 53 to 71 minutes of a core
    steps=1_200_000,
    worlds=64,
    rollout=16,
    minibatches=8,
    width=0.5,
    norm="layer",
    level=1,
    learning_rate=5e-4,
)
CATCH = dict(
    steps=60_000,
    worlds=32,
    rollout=9,  # the LSTM unrolls step by step: many short sequences are faster
    hidden=64,
    lstm_units=64,
    values=32,
    learning_rate=2e-3,
    clip=0.2,
    evaluate_every=6_000,
    log_every=2_000,
)
PIXELS = dict(steps=1_000_000, level=1, evaluate_every=50_000)
RECIPES = {"atari": ATARI, "catch": CATCH, "pixels": PIXELS}
PAPER = {
    "atari": dict(  # Mott 2019, section 2 and its appendix on the network, as Lovering's replication has them
        width=1.0,
        norm="none",
        lstm_units=256,
        queries=4,
        keys=8,
        values=120,
        basis=4,  # 64 channels
    )
}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world, or one without pictures."""
    return from_recipe(asked, RECIPES, PAPER)


def spatial_basis(height: int, width: int, frequencies: int) -> Tensor:
    """Fourier basis of space: products of waves along both axes, (4 * F * F, H, W), within [-1, 1].

    sin and cos of pi f y, f = 1 .. F, y from 0 to 1 down the map, each times the same of x. Mott 2019, section 2.1.
    """

    def waves(length: int) -> Tensor:  # (2 F, length)
        place = torch.linspace(0, 1, length)
        phase = math.pi * torch.arange(1, frequencies + 1)[:, None] * place
        return torch.cat([phase.sin(), phase.cos()])

    down, across = waves(height), waves(width)
    return (down[:, None, :, None] * across[None, :, None, :]).flatten(0, 1)


def attend(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Dot-product attention over the P places of a map: softmax(query . key), and the values' mean under it.

    Mott 2019, section 2.2.

    Args:
        query: (B, Q, K). keys: (B, K, P). values: (B, P, V).

    Returns:
        Answers (B, Q, V), and weights (B, Q, P), which sum to 1 over places.
    """
    weights = torch.bmm(query, keys).softmax(2)
    return torch.bmm(weights, values), weights


class SoftAttentionNetwork(actor_critic.ActorCritic):
    """An ActorCritic that reads its backbone's map by soft attention, with queries from its LSTM."""

    is_recurrent = True

    def __init__(self, world: World, config: Config) -> None:
        if config.separate_critic:
            raise ValueError("--separate-critic: policy and value share the attention here")
        super().__init__(world, dataclasses.replace(config, hidden=0))

    def _build_heads(self, width: int, world: World, config: Config) -> None:
        self.level, self.key_channels, self.queries = config.level, config.keys, config.queries
        maps = len(self.backbone.channels)
        if not -maps <= config.level < maps:
            raise ValueError(f"--level {config.level}: {config.backbone} has {maps} maps, from 0 to {maps - 1}")
        channels = self.backbone.channels[config.level]
        self.project = nn.Conv2d(channels, config.keys + config.values, 1)
        nn.init.kaiming_normal_(self.project.weight, nonlinearity="linear")
        nn.init.zeros_(self.project.bias)
        with torch.no_grad():
            picture = world.observation[:1].cpu()  # as the network, until it is built
            height, width = self._map(picture).shape[2:]
        basis = spatial_basis(height, width, config.basis).flatten(1)  # (S, P)
        self.register_buffer("basis", basis, persistent=False)
        self.shape = (height, width)
        key, value = config.keys + len(basis), config.values + len(basis)
        self.query_network = nn.Sequential(dense(config.lstm_units, 128), nn.Linear(128, config.queries * key))
        init_distinct_queries(self.query_network[1].bias.view(config.queries, key)[:, : config.keys])
        self.answer_encoder = dense(config.queries * (key + value), config.lstm_units)
        self.core = build_lstm(config.lstm_units, config.lstm_units)
        super()._build_heads(config.lstm_units, world, config)

    def _map(self, observation: Tensor) -> Tensor:
        return self.project(self.backbone(observation)[self.level])

    def initial_state(self, count: int) -> Tensor:
        return self.core.initial_state(count)

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._unroll(observation.unsqueeze(1), None, state)[:3]

    def attention_map(self, observation: Tensor, state: Tensor) -> Tensor:
        """Attention of each query: observation (N, C, H, W), state (N, S) -> weights (N, Q, H, W), which sum to 1.

        A place of the map stands for the stride x stride pixels in the middle of its receptive field: without padding
        a map does not reach the edges of its picture. Behind padded convolutions it is up to two pixels off.
        """
        weights = self._unroll(observation.unsqueeze(1), None, state)[3][:, 0].unflatten(2, self.shape)
        stride = self.backbone.strides[self.level]
        pixels = weights.repeat_interleave(stride, 2).repeat_interleave(stride, 3) / stride**2
        margins = [side - stride * cells for side, cells in zip(observation.shape[2:], self.shape, strict=True)]
        (top, bottom), (left, right) = ((margin // 2, margin - margin // 2) for margin in margins)
        return F.pad(pixels, (left, right, top, bottom))

    def unroll(self, observation: Tensor, is_first: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return self._unroll(observation, is_first, state)[:2]

    def _unroll(
        self, observation: Tensor, is_first: Tensor | None, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = self._map(observation.flatten(0, 1)).float().flatten(2)  # (B L, K + V, P)
        basis = self.basis.expand(len(maps), -1, -1)
        keys = torch.cat([maps[:, : self.key_channels], basis], 1).unflatten(0, observation.shape[:2])
        values = (
            torch.cat([maps[:, self.key_channels :], basis], 1).transpose(1, 2).unflatten(0, observation.shape[:2])
        )
        hidden, cell = state.chunk(2, 1)
        not_first = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        outputs, attention = [], []
        with torch.autocast(observation.device.type, enabled=False):
            for t in range(observation.shape[1]):
                if is_first is not None:
                    kept = (~is_first[:, t : t + 1]).float()
                    hidden, cell = hidden * kept, cell * kept
                query = self.query_network(hidden).unflatten(1, (self.queries, -1))
                answer, weights = attend(query, keys[:, t], values[:, t])
                encoded = self.answer_encoder(torch.cat([answer.flatten(1), query.flatten(1)], 1))
                output, hidden, cell = self.core.unroll(encoded.unsqueeze(1), not_first, hidden, cell)
                outputs.append(output), attention.append(weights)
            flat = torch.cat(outputs, 1).flatten(0, 1)
            after = torch.cat([hidden, cell], 1)
            return self.head(flat), self.value(flat).squeeze(1), after, torch.stack(attention, 1)


def init_distinct_queries(queries: Tensor) -> None:
    """Initialize the queries' biases (Q, K) far apart, so that each attends to other features from the start.

    With small biases attention is uniform at first, and a single place is lost in the mean of all.
    """
    nn.init.normal_(queries, std=2.0)


def build(config: Config, world: World) -> SoftAttentionNetwork:
    """The network for a world, on its device."""
    return SoftAttentionNetwork(world, config).to(world.device, memory_format=torch.channels_last)


load = functools.partial(actor_critic.load, build=build)


def train(config: Config) -> None:
    ppo.train(config, "agents.soft_attention", build)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.soft_attention", __doc__)
