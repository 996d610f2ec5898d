"""Recurrent attention model (RAM): glimpse network, core, location network, and the hybrid loss.

Equations and figures are those of Mnih et al. 2014, "Recurrent models of visual attention".
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.glimpse import Retina, Scenes
from runs.flag_types import Count, Positive
from runs.machine import precision
from vision import backbones


@dataclasses.dataclass(frozen=True)
class GlimpseFlags:
    """Flags of the recurrent attention model."""

    GROUP: ClassVar[str] = "network"

    glimpses: Count = 6  # for each digit in an image, the very first at a random location
    patch_size: Count = 8  # pixels, side of a patch
    scales: Count = 1  # patches a glimpse, each twice as wide as the one before
    attention: Literal["reinforce", "differentiable", "random", "center"] = "reinforce"  # how locations are chosen
    std: Positive = 0.1  # of a location around what the network proposes; the image reaches from -1 to 1
    backbone: str = "mlp"  # over the patches: mlp, small, ..., or a run's folder to transfer from
    glimpse_units: Count = 128  # units of the mlp for patches, and of the layer for locations
    core_units: Count = 256  # units of the glimpse and of the core
    core: Literal["relu", "lstm"] = "relu"  # the recurrent core
    location_network: Count = 128  # hidden units of the location network
    location_gradient: bool = False  # REINFORCE trains core and backbone too; else only the location network


class Glimpses(NamedTuple):
    """T glimpses at each of B images, K of them at locations that the network chose."""

    logits: Tensor  # (B, digits, classes), each after the last glimpse of its digit
    location: Tensor  # (T, B, 2), (x, y) in [-1, 1]
    log_prob: Tensor  # (K, B), of the last K locations; 0 where they are not sampled
    baseline: Tensor  # (K, B), the expected reward before each choice


class RecurrentAttention(nn.Module):
    """RAM: prepared images (B, C, P) and noise (T, B, 2) -> Glimpses. Mnih et al. 2014, section 3 and figure 1.

    A subclass with another core (dram.py) overrides `initial_state`, `glimpse_features`, `core_step` and
    `location_input`; classes are predicted from the first tensor of its state.
    """

    chooses_first = False  # whether the first location is chosen by the network; else it is random

    def __init__(self, config: GlimpseFlags, retina: Retina, world: Scenes) -> None:
        super().__init__()
        self.config, self.retina, self.digits = config, retina, world.task.digits
        options = {"hidden": (config.glimpse_units,)} if config.backbone == "mlp" else {}
        self.backbone = backbones.build(config.backbone, retina.patches, **options)
        self.where = nn.Sequential(nn.Linear(2, config.glimpse_units), nn.ReLU())
        self._build_core(self.backbone.output_size(retina.patches))
        self.location_network = nn.Sequential(
            nn.Linear(config.core_units, config.location_network), nn.ReLU(), nn.Linear(config.location_network, 2)
        )
        self.baseline = nn.Linear(config.core_units, 1)
        self.logits = nn.Linear(config.core_units, world.classes)
        for layer in (self.where[0], self.location_network[0]):
            init_he(layer)

    def _build_core(self, features: int) -> None:
        """Build the layers between the features of patches and the state."""
        core_units = self.config.core_units
        self.glimpse = nn.Sequential(nn.Linear(features + self.config.glimpse_units, core_units), nn.ReLU())
        init_he(self.glimpse[0])
        lstm = self.config.core == "lstm"
        self.core = (
            nn.LSTMCell(core_units, core_units) if lstm else nn.RNNCell(core_units, core_units, nonlinearity="relu")
        )
        init_keep_state(self.core)

    def initial_state(self, maps: Tensor) -> tuple[Tensor, ...]:
        """The state before the first glimpse, tensors (B, units)."""
        nothing = maps.new_zeros(len(maps), self.config.core_units)
        return (nothing, nothing) if self.config.core == "lstm" else (nothing,)

    def glimpse_features(self, maps: Tensor, location: Tensor) -> Tensor:
        """Features (B, units) of glimpses at locations (B, 2), from prepared images (B, C, P)."""
        patches = self.retina.extract(maps, location, smooth=self.config.attention == "differentiable")
        return self.glimpse(torch.cat([self.backbone(patches)[-1].flatten(1), self.where(location)], 1))

    def core_step(self, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after a glimpse: features (B, units) and state tensors (B, units) -> state tensors."""
        return self.core(seen, state) if len(state) == 2 else (self.core(seen, *state),)

    def location_input(self, state: tuple[Tensor, ...]) -> Tensor:
        """The input (B, units) of the location network."""
        return self.for_location(state[0])

    def for_location(self, core: Tensor) -> Tensor:
        """The core's output (B, units) for choosing locations, with a stop-gradient unless they train the core,
        too."""
        taught = self.config.location_gradient or self.config.attention == "differentiable"
        return core if taught else core.detach()

    def location_modules(self) -> list[nn.Module]:
        """The modules that learn from the reward alone."""
        return [self.location_network]

    def sample_noise(
        self, count: int, device: torch.device, generator: torch.Generator | None = None, deterministic: bool = False
    ) -> Tensor:
        """Noise for `count` rollouts, (T, B, 2): random locations, uniform in [-1, 1], where none is chosen; else
        standard normal noise of the chosen location, or 0 if deterministic."""
        looks = self.config.glimpses * self.digits
        places = looks if self.config.attention == "random" else int(not self.chooses_first)
        uniform = torch.rand(places, count, 2, generator=generator, device=device) * 2 - 1
        noise = torch.randn(looks - places, count, 2, generator=generator, device=device)
        return torch.cat([uniform, torch.zeros_like(noise) if deterministic else noise])

    def forward(self, maps: Tensor, chance: Tensor) -> Glimpses:
        how, std = self.config.attention, self.config.std
        locations, log_probs, states, read = [], [], [], []
        with precision(self.config, maps.device):
            state = self.initial_state(maps)
            for step, drawn in enumerate(chance):
                chosen = step > 0 or self.chooses_first
                if chosen:
                    states.append(self.location_input(state).float())
                if how == "center":
                    location = torch.zeros_like(drawn)
                elif how == "random" or not chosen:
                    location = drawn
                else:
                    mean = self.location_network(states[-1]).float().tanh()
                    location = mean + std * drawn
                    if how == "reinforce":
                        location = location.detach()
                        log_probs.append(gaussian_log_prob(location, mean, std))
                    location = location.clamp(-1, 1)
                locations.append(location)
                state = self.core_step(self.glimpse_features(maps, location), state)
                if (step + 1) % self.config.glimpses == 0:
                    read.append(state[0].float())
        none = chance.new_zeros(0, len(maps))
        baseline = self.baseline(torch.stack(states).detach()).squeeze(2) if states else none
        log_prob = torch.stack(log_probs) if log_probs else torch.zeros_like(baseline)
        return Glimpses(self.logits(torch.stack(read, 1)), torch.stack(locations), log_prob, baseline)


def init_he(layer: nn.Linear) -> None:
    """He initialization of a layer before a ReLU."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


def init_keep_state(core: nn.RNNCellBase) -> None:
    """Initialize a core to keep its state, so that early glimpses are not forgotten.

    A ReLU core adds its input to its state (Le et al. 2015, "A simple way to initialize recurrent networks of
    rectified linear units", arXiv 1504.00941); an LSTM's forget gates are open (Jozefowicz et al. 2015, "An empirical
    exploration of recurrent network architectures", section 3.2).
    """
    nn.init.zeros_(core.bias_ih)
    nn.init.zeros_(core.bias_hh)
    if isinstance(core, nn.LSTMCell):
        nn.init.ones_(core.bias_ih.data.chunk(4)[1])  # of the gates input, forget, candidate, output
    else:
        nn.init.eye_(core.weight_hh)


def gaussian_log_prob(drawn: Tensor, mean: Tensor, std: float) -> Tensor:
    """log N(drawn; mean, std^2) of locations (B, 2) -> (B,), without its constant."""
    return -0.5 * ((drawn - mean) / std).square().sum(-1)


def classification_reward(logits: Tensor, label: Tensor, kind: str) -> Tensor:
    """The reward (B, digits) of answers with logits (B, digits, classes), without gradient.

    "right": 1 where the most probable class is the true one, else 0, as in the paper. "probability": the probability
    of the true class, the mean of that reward for a sampled answer: it has less variance, and still distinguishes
    between glimpses of images that are classified correctly anyway.
    """
    if kind == "right":
        return (logits.argmax(2) == label).float()
    return logits.detach().softmax(2).gather(2, label[..., None]).squeeze(2)


def hybrid_loss(
    logits: Tensor, label: Tensor, reward: Tensor, log_prob: Tensor, baseline: Tensor, weight: float, glimpses: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy, REINFORCE with a baseline, and the baseline's squared error. Mnih et al. 2014, section 3.2.

    The term of location t is -log pi(l_t) (R_t - b_t), b_t held fixed, summed over t and averaged over images. R_t
    is the reward of the glimpse's own digit alone: with the rewards of later digits all glimpses went to the last
    one.

    Args:
        logits: (B, digits, classes). label: (B, digits) int64. reward: (B, digits).
        log_prob, baseline: (K, B), of the last K of digits * glimpses locations.
        weight: of the REINFORCE term.
        glimpses: for each digit.

    Returns:
        A scalar, and its parts to be logged.
    """
    assert log_prob.shape == baseline.shape and label.shape == reward.shape == logits.shape[:2]
    digits, choices = label.shape[1], len(log_prob)
    classify = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="sum") / len(label)
    own = reward.T.repeat_interleave(glimpses, 0)[digits * glimpses - choices :]  # (K, B)
    policy = -(log_prob * (own - baseline.detach())).sum(0).mean()
    value = (own - baseline).square().sum(0).mean()
    parts = {"loss/classify": classify, "loss/policy": policy, "loss/value": value}
    parts["train/accuracy"] = (logits.argmax(2) == label).all(1).float().mean()
    return classify + weight * policy + value, {name: part.detach() for name, part in parts.items()}
