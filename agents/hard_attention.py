"""Hard attention agent: PPO that sees the game through glimpses and learns where to look next.

Mnih et al. 2014, "Recurrent models of visual attention" (section 4.2 plays a game too), and Sorokin et al. 2015,
"Deep attention recurrent Q-network", whose hard variant learned little. Each step the agent samples an action and,
beside it, the location of its next glimpse; both are learned by PPO from the same reward. The loop and its flags are
those of agents/ppo.py.

    python -m agents.hard_attention --env Catch
    python -m agents.hard_attention --env Pong
    python -m agents.watch results/Pong/hard_attention-1           # films are dark outside of the glimpse

Deviations from the paper:
1. PPO instead of REINFORCE, and an LSTM.
2. The glimpse network is a backbone of the zoo over the patches of all scales, stacked as channels; it receives the
   location of the glimpse too.
3. With --subtract-mean the mean picture of random play is subtracted before patches are cut, so that what lies beyond
   the game's edges is 0.
4. With --context the widest patch stays in the middle of the picture, after the context network of Ba et al. 2015,
   "Multiple object recognition with visual attention".
5. On Atari evaluations take the most probable action and location. The papers do not say how theirs play; of the same
   weights sampling both makes -0.80 of Pong's 9.8, since every glimpse is then off by --location-std.
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
    build_backbone,
    from_recipe,
    world_options,
)
from agents.networks import actor_critic, distributions, normalization
from agents.networks.layers import dense
from agents.networks.lstm import build_lstm
from agents.ppo import PPOFlags
from envs import World
from envs.glimpse import Retina
from runs.flag_types import Count, Positive, Whole

__all__ = ["Config", "load", "world_options", "recipe", "train"]


@dataclasses.dataclass(frozen=True)
class Config(WorldFlags, BackboneFlags, PPOFlags, PolicyGradientFlags, ComputeFlags, EvaluationFlags, runs.Options):
    stack: Whole = 1  # frames in an observation of pictures
    hidden: Count = 512  # units between the glimpse network and the LSTM
    lstm_units: Count = 256  # of the LSTM that location, policy and value read
    backbone: str = "mlp"  # of the glimpse network; mlp, small, impala, or another that fits the patches
    patch_size: Count = 14  # pixels, side of a patch
    scales: Count = 3  # patches of a glimpse, each twice as wide as the one before
    context: bool = False  # the widest of them stays in the middle of the picture
    location_std: Positive = 0.1  # standard deviation of the location, in half widths of the picture


ATARI = dict(  # Pong: 9.8 (runs/published/atari), 31 minutes of one thread
    steps=800_000,
    worlds=64,
    rollout=16,
    minibatches=8,
    learning_rate=5e-4,
    backbone="small",
    patch_size=20,  # with 3 scales the paddles are seen from the middle
    context=True,  # when the glimpse moves, everything in it does: without context motion is hard to tell
    subtract_mean=True,  # the background is far brighter than a ball of four pixels
    norm="layer",
    evaluate_greedy=True,
)
CATCH = dict(
    steps=300_000,
    worlds=8,
    rollout=36,
    backbone="mlp",
    hidden=64,
    lstm_units=64,
    patch_size=10,
    learning_rate=2e-3,
    clip=0.2,
    evaluate_every=30_000,
    log_every=2_000,
)
PIXELS = dict(steps=1_000_000, evaluate_every=50_000)
RECIPES = {"atari": ATARI, "catch": CATCH, "pixels": PIXELS}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on an unknown world, or one without pictures."""
    return from_recipe(asked, RECIPES)


class ActionLocationHead(nn.Module):
    """features (B, F) -> logits of the game's actions and the mean of the next location, (B, A + 2).

    A sample is (action, x, y), float32; locations are within [-1, 1] after clipping, as in envs/glimpse.py. The
    location network's gradient stops at the features: it is about 1 / location_std times the action's, mostly noise.
    """

    dtype, shape = torch.float32, (3,)

    def __init__(self, features: int, world: World, location_std: float) -> None:
        super().__init__()
        self.action = distributions.Categorical(features, world)
        self.location = nn.Linear(features, 2)
        distributions.init_near_zero(self.location)
        self.location_std = location_std

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.action(features), self.location(features.detach()).tanh()], 1)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3), the location before it is clipped."""
        logits, mean = parameters[:, :-2], parameters[:, -2:]
        noise = torch.empty_like(mean).normal_(generator=generator)
        action = self.action.sample(logits, generator)
        return torch.cat([action[:, None].float(), mean + self.location_std * noise], 1)

    def mode(self, parameters: Tensor) -> Tensor:
        """(B, 3), the most probable."""
        return torch.cat([parameters[:, :-2].argmax(1, keepdim=True).float(), parameters[:, -2:]], 1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(B,), of action and location together."""
        deviation = (action[:, 1:] - parameters[:, -2:]) / self.location_std
        location = -0.5 * deviation.square() - math.log(self.location_std * math.sqrt(2 * math.pi))
        return self.action.log_prob(parameters[:, :-2], action[:, 0].long()) + location.sum(1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """(B,) nats, of the action: that of the location is a constant."""
        return self.action.entropy(parameters[:, :-2])

    @staticmethod
    def environment_action(action: Tensor) -> Tensor:
        """The action (B,) int64 that the world receives: the sample (B, 3) without the location."""
        return action[:, 0].long()


class HardAttentionNetwork(actor_critic.ActorCritic):
    """An ActorCritic that sees glimpses of (C, H, W) pictures, at the location that it sampled in the step before.

    With --context the widest patch stays in the middle. Its state is the LSTM's and the last action: one-hot, with
    the location behind it. An episode begins in the middle, with a last action of zeros.
    """

    is_recurrent = True

    def __init__(self, world: World, config: Config) -> None:
        nn.Module.__init__(self)
        if config.separate_critic:
            raise ValueError("--separate-critic: policy and value share the glimpses here")
        if config.normalize_observations:
            raise ValueError("--normalize-observations: it is for vectors, and glimpses are of pictures")
        if world.observation.dtype != torch.uint8:
            raise ValueError(f"{world.name} has no pictures to take glimpses of: try --pixels, or an Atari game")
        if world.actions is None:
            raise ValueError(f"{world.name} has continuous actions, and hard attention is for discrete ones")
        if config.context and config.scales == 1:
            raise ValueError("--context: of --scales 1 the widest patch is the only one, and would not move")
        self.normalize_observations = normalization.NoNormalizer()
        self.context = config.context
        self.retina = Retina(world.observation_shape, config.patch_size, config.scales, world.device)
        self.subtracts_mean = config.subtract_mean
        blank = torch.zeros(world.observation_shape, dtype=torch.uint8) if config.subtract_mean else None
        self.register_buffer("mean_observation", blank)  # subtracted from pictures, not from patches
        retina_config = dataclasses.replace(config, subtract_mean=False)
        self.backbone = build_backbone(retina_config, world, self.retina.patches, stem=None)
        self.hidden = dense(self.backbone.output_size(self.retina.patches), config.hidden, config.norm)
        self.action_size = world.actions + 2  # of the last action: one-hot, and the location
        self.action_encoder = dense(self.action_size, 64, config.norm)
        self.core = build_lstm(config.hidden + 64, config.lstm_units)
        self._set_heads(ActionLocationHead(config.lstm_units, world, config.location_std), config.lstm_units)

    def set_mean_observation(self, picture: Tensor) -> None:
        """From now on subtract `picture`, (C, H, W) uint8, from every observation."""
        self.mean_observation.copy_(picture)

    def initial_state(self, count: int) -> Tensor:
        return F.pad(self.core.initial_state(count), (0, self.action_size))

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        is_first = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        return self._unroll(observation.unsqueeze(1), is_first, state, state[:, None, -self.action_size :])

    def conditioned_on_action(self, state: Tensor, action: Tensor) -> Tensor:
        return torch.cat([state[:, : -self.action_size], self._encode_action(action)], 1)

    def _encode_action(self, action: Tensor) -> Tensor:
        one_hot = F.one_hot(action[..., 0].long(), self.action_size - 2)
        return torch.cat([one_hot, action[..., 1:].clamp(-1, 1)], -1)

    def unroll(self, observation: Tensor, is_first: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.cat(
            [state[:, None, -self.action_size :], self._encode_action(action[:, :-1])], 1
        ) * ~is_first.unsqueeze(2)
        return self._unroll(observation, is_first, state, before)[:2]

    def attention_map(self, observation: Tensor, state: Tensor) -> Tensor:
        """The glimpse as a map of the picture, (N, 1, H, W): 1 in the finest patch, half in each wider one."""
        height, width = observation.shape[2:]
        down, across = (torch.arange(side, device=state.device) for side in (height, width))
        seen = state.new_zeros(len(state), height, width)
        centers = ((self._patch_locations(state[:, -2:]) + 1) / 2 * state.new_tensor([width, height])).round()
        for k in reversed(range(self.retina.scales)):
            side = self.retina.size * 2**k
            x, y = centers[:, k].T[:, :, None, None]
            up, along = down[:, None] - (y - side // 2), across - (x - side // 2)  # from the patch's corner
            seen = torch.where((up >= 0) & (up < side) & (along >= 0) & (along < side), 0.5**k, seen)
        return seen.unsqueeze(1)

    def _patch_locations(self, location: Tensor) -> Tensor:
        """The location of each scale's patch, finest first, (N, scales, 2), of glimpses at `location` (N, 2)."""
        locations = location[:, None].repeat(1, self.retina.scales, 1)
        if self.context:
            locations[:, -1] = 0
        return locations

    def _unroll(
        self, observation: Tensor, is_first: Tensor, state: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        pictures, before = observation.flatten(0, 1).float(), before.flatten(0, 1)
        pictures = (pictures if self.mean_observation is None else pictures - self.mean_observation) / 255
        glimpse = self.retina.extract(self.retina.prepare(pictures), self._patch_locations(before[:, -2:]))
        features = torch.cat(
            [actor_critic.encode(self.backbone, self.hidden, glimpse), self.action_encoder(before)], 1
        )
        hidden, cell = state[:, : -self.action_size].chunk(2, 1)
        output, hidden, cell = self.core.unroll(features.unflatten(0, is_first.shape), is_first, hidden, cell)
        with torch.autocast(observation.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            after = torch.cat([hidden, cell, state[:, -self.action_size :]], 1)
            return self.head(flat), self.value(flat).squeeze(1), after


def build(config: Config, world: World) -> HardAttentionNetwork:
    """The network for a world, on its device."""
    return HardAttentionNetwork(world, config).to(world.device, memory_format=torch.channels_last)


load = functools.partial(actor_critic.load, build=build)


def train(config: Config) -> None:
    ppo.train(config, "agents.hard_attention", build)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.hard_attention", __doc__)
