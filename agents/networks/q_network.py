"""The Q-network of DQN and PQN: a backbone, a dense layer and a value for each action. Mnih et al. 2015, figure 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from agents.config import build_backbone
from agents.networks.layers import dense
from agents.q_learning import require_discrete_actions
from envs import World
from vision import backbones


class QNetwork(nn.Module):
    """observation (B, C, H, W) uint8 or (B, D) float -> value of each action (B, A) float32."""

    def __init__(
        self, backbone: backbones.Backbone, shape: tuple[int, ...], actions: int, hidden: int, norm: str = "none"
    ):
        super().__init__()
        self.backbone, self.actions = backbone, actions
        features = backbone.output_size(shape)
        self.hidden = dense(features, hidden, norm)
        self.values = nn.Linear(hidden or features, actions)
        nn.init.uniform_(self.values.weight, -1e-3, 1e-3)  # values near zero at the start
        nn.init.zeros_(self.values.bias)

    def forward(self, observation: Tensor) -> Tensor:
        coarsest = self.backbone(observation)[-1]
        features = self.hidden(coarsest.permute(0, 2, 3, 1).flatten(1))  # as channels_last lies in memory
        with torch.autocast(observation.device.type, enabled=False):
            return self.values(features.float())  # bf16 would round away the gap between two actions


def build(config: Any, world: World) -> QNetwork:
    """The network for a world, on its device. config: with BackboneFlags and `hidden`.

    Raises ValueError where actions are not discrete.
    """
    require_discrete_actions(world)
    backbone = build_backbone(config, world)
    network = QNetwork(backbone, world.observation_shape, world.actions, config.hidden, config.norm)
    return network.to(world.device, memory_format=torch.channels_last)
