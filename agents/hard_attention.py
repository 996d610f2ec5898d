"""Hard attention that plays: an agent that sees the game sharply only where it points a small, foveated eye.

Mnih et al. 2014, "Recurrent models of visual attention" (section 4.2 plays a game too), and Sorokin et al. 2015,
"Deep attention recurrent Q-network", whose hard variant learned little. Each step the agent draws an action and,
beside it, where to look next; both are learned by PPO from the same reward (agents/ppo.py, whose loop and flags these
are).

    python -m agents.hard_attention --env Catch
    python -m agents.hard_attention --env Pong
    python -m agents.watch results/Pong/gaze-1                     # dark is what it did not see

Deviations from the paper: PPO instead of REINFORCE, and an LSTM. The eye is a backbone of the registry over the
patches of all scales, put side by side as channels, and it is told where it looked. With --subtract-mean the mean picture
of random play is taken from the game before the eye looks, so that beyond the game's edges there is nothing. With
--context the widest patch stays on the middle of the picture, a coarse view that does not move with the eye, after
the context of Ba et al. 2015, "Multiple object recognition with visual attention".
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runs
from agents import ppo, soft_attention
from agents.config import build_backbone, implied, world_options
from agents.networks import actor_critic, distributions, normalization
from agents.networks.layers import dense
from agents.networks.lstm import build_lstm
from envs import World
from envs.glimpse import Retina
from runs.flag_types import Count, Positive, Whole

__all__ = ["Config", "load", "world_options", "recipe", "train"]


@dataclasses.dataclass(frozen=True)
class Config(ppo.Config):
    stack: Whole = 1  # frames in an observation of pictures
    hidden: Count = 512  # units between the eye and the LSTM
    lstm_units: Count = 256  # of the LSTM that points and decides
    backbone: str = "mlp"  # of the eye; mlp, small, impala, or another that fits its patches
    patch_size: Count = 14  # pixels, side of a patch
    scales: Count = 3  # patches of a glimpse, each twice as wide as the one before
    context: bool = False  # the widest of them stays on the middle of the picture, wherever it looks
    location_std: Positive = 0.1  # standard deviation of where it looks, in half widths of the picture


ATARI = dict(
    backbone="small",
    patch_size=20,  # by 3 scales: from the middle the paddles are seen, too
    context=True,  # a moving eye moves all that it sees, and what moves in the game is then hard to tell
    subtract_mean=True,  # the brightness of the background drowns a ball that is four pixels
    norm="layer",
)
CATCH = ppo.CATCH | dict(
    steps=300_000, lstm_units=64, backbone="mlp", patch_size=10, separate_critic=False, evaluate_every=30_000
)
RECIPES = {"atari": ATARI, "catch": CATCH, "pixels": ppo.RECIPES["pixels"]}


def recipe(asked: Config) -> Config:
    """The config that suits the world asked for. Raises ValueError on one that is unknown or has no picture."""
    return Config(env=asked.env, **RECIPES[soft_attention.picture_recipe_key(asked, RECIPES)] | implied(asked))


class ActionLocationHead(nn.Module):
    """features (B, F) -> logits of the game's actions and the mean of where to look next, (B, A + 2).

    What is drawn is (action, x, y), float32; a place is within [-1, 1] after clipping, as envs.glimpse has it. The
    features are not taught where to look: that gradient is 1 / spread times the choice's, and mostly noise.
    """

    dtype, shape = torch.float32, (3,)

    def __init__(self, features: int, world: World, location_std: float) -> None:
        super().__init__()
        self.choice = distributions.Categorical(features, world)
        self.place = nn.Linear(features, 2)
        distributions.init_near_zero(self.place)
        self.location_std = location_std

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.choice(features), self.place(features.detach()).tanh()], 1)

    def sample(self, parameters: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3), the place before it is clipped."""
        logits, mean = parameters[:, :-2], parameters[:, -2:]
        noise = torch.empty_like(mean).normal_(generator=generator)
        choice = self.choice.sample(logits, generator)
        return torch.cat([choice[:, None].float(), mean + self.location_std * noise], 1)

    def mode(self, parameters: Tensor) -> Tensor:
        """(B, 3), the likeliest."""
        return torch.cat([parameters[:, :-2].argmax(1, keepdim=True).float(), parameters[:, -2:]], 1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """(B,), of action and place together."""
        deviation = (action[:, 1:] - parameters[:, -2:]) / self.location_std
        pointed = -0.5 * deviation.square() - math.log(self.location_std * math.sqrt(2 * math.pi))
        return self.choice.log_prob(parameters[:, :-2], action[:, 0].long()) + pointed.sum(1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """(B,) nats, of the choice: the other is the same everywhere."""
        return self.choice.entropy(parameters[:, :-2])

    @staticmethod
    def environment_action(action: Tensor) -> Tensor:
        """What the world is sent: the choice."""
        return action[:, 0].long()


class HardAttentionNetwork(actor_critic.ActorCritic):
    """An ActorCritic that sees (C, H, W) pictures through a retina, at the place that its last action named; with
    --context the widest patch lies in the middle instead.

    Its state is the LSTM's and that action: the choice as one of `actions` numbers that is 1, and the place. An
    episode begins with a look at the middle, and no choice before it.
    """

    is_recurrent = True

    def __init__(self, world: World, config: Config) -> None:
        nn.Module.__init__(self)
        if config.separate_critic:
            raise ValueError("--separate-critic: policy and value see through the same eye here")
        if config.normalize_observations:
            raise ValueError("--scale: it is for vectors, and an eye sees pictures")
        if world.observation.dtype != torch.uint8:
            raise ValueError(f"{world.name} has no picture to look at")
        if world.actions is None:
            raise ValueError(f"{world.name}'s actions are numbers: beside its place, this eye chooses among some")
        if config.context and config.scales == 1:
            raise ValueError("--context: of --scales 1 the widest patch is the only one, and would not move")
        self.normalize_observations = normalization.NoNormalizer()
        self.context = config.context
        self.retina = Retina(world.observation_shape, config.patch_size, config.scales, world.device)
        self.subtracts_mean = config.subtract_mean
        blank = torch.zeros(world.observation_shape, dtype=torch.uint8) if config.subtract_mean else None
        self.register_buffer("picture", blank)  # taken from what the retina sees, not from its patches
        retina_config = dataclasses.replace(config, subtract_mean=False)
        self.backbone = build_backbone(retina_config, world, self.retina.patches, stem=None)
        self.hidden = dense(self.backbone.output_size(self.retina.patches), config.hidden, config.norm)
        self.did = world.actions + 2  # numbers that the last action is
        self.where = dense(self.did, 64, config.norm)
        self.core = build_lstm(config.hidden + 64, config.lstm_units)
        self._set_heads(ActionLocationHead(config.lstm_units, world, config.location_std), config.lstm_units)

    def set_mean_observation(self, picture: Tensor) -> None:
        """From now on `picture`, (C, H, W) uint8, is taken from every observation."""
        self.picture.copy_(picture)

    def initial_state(self, count: int) -> Tensor:
        return F.pad(self.core.initial_state(count), (0, self.did))

    def step(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        is_first = torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)
        return self._unroll(observation.unsqueeze(1), is_first, state, state[:, None, -self.did :])

    def conditioned_on_action(self, state: Tensor, action: Tensor) -> Tensor:
        return torch.cat([state[:, : -self.did], self._done(action)], 1)

    def _done(self, action: Tensor) -> Tensor:
        choice = F.one_hot(action[..., 0].long(), self.did - 2)
        return torch.cat([choice, action[..., 1:].clamp(-1, 1)], -1)

    def unroll(self, observation: Tensor, is_first: Tensor, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        before = torch.cat([state[:, None, -self.did :], self._done(action[:, :-1])], 1) * ~is_first.unsqueeze(2)
        return self._unroll(observation, is_first, state, before)[:2]

    def attention_map(self, observation: Tensor, state: Tensor) -> Tensor:
        """What of the picture is seen, (N, 1, H, W): 1 in the finest window, half of that in each wider one."""
        height, width = observation.shape[2:]
        down, across = (torch.arange(side, device=state.device) for side in (height, width))
        seen = state.new_zeros(len(state), height, width)
        middles = ((self._places(state[:, -2:]) + 1) / 2 * state.new_tensor([width, height])).round()
        for k in reversed(range(self.retina.scales)):
            side = self.retina.patch_size * 2**k
            x, y = middles[:, k].T[:, :, None, None]
            up, along = down[:, None] - (y - side // 2), across - (x - side // 2)  # from the window's corner
            seen = torch.where((up >= 0) & (up < side) & (along >= 0) & (along < side), 0.5**k, seen)
        return seen.unsqueeze(1)

    def _places(self, place: Tensor) -> Tensor:
        """Where each scale's patch lies, finest first, (N, scales, 2), when the eye points at `place` (N, 2)."""
        places = place[:, None].repeat(1, self.retina.scales, 1)
        if self.context:
            places[:, -1] = 0
        return places

    def _unroll(
        self, observation: Tensor, is_first: Tensor, state: Tensor, before: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        pictures, before = observation.flatten(0, 1).float(), before.flatten(0, 1)
        pictures = (pictures if self.picture is None else pictures - self.picture) / 255
        glimpse = self.retina.extract(self.retina.prepare(pictures), self._places(before[:, -2:]))
        features = torch.cat([actor_critic.encode(self.backbone, self.hidden, glimpse), self.where(before)], 1)
        hidden, cell = state[:, : -self.did].chunk(2, 1)
        output, hidden, cell = self.core.unroll(features.unflatten(0, is_first.shape), is_first, hidden, cell)
        with torch.autocast(observation.device.type, enabled=False):
            flat = output.flatten(0, 1).float()
            after = torch.cat([hidden, cell, state[:, -self.did :]], 1)
            return self.head(flat), self.value(flat).squeeze(1), after


def build(config: Config, world: World) -> HardAttentionNetwork:
    """The network for a world, on its device."""
    return HardAttentionNetwork(world, config).to(world.device, memory_format=torch.channels_last)


load = functools.partial(actor_critic.load, build=build)  # for agents.watch


def train(config: Config) -> None:
    ppo.train(config, "agents.hard_attention", build)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.hard_attention", __doc__)
