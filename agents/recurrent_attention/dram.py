"""DRAM, the deep recurrent attention model: several digits in one image, read one after the other.

Ba et al. 2015, "Multiple object recognition with visual attention". A context network over a coarse view of the image
chooses the first location; of two stacked LSTMs the first is for classification and the second for locations; after
every few glimpses one digit is classified. The loop and the flags are those of ram.py.

    python -m agents.recurrent_attention.dram --env Pairs
    python -m agents.recurrent_attention.dram --env Pairs --images glyphs     # drawn digits, no download
    python -m agents.recurrent_attention.dram --env Cluttered100              # a single digit
    python -m agents.recurrent_attention --env Pairs                          # RAM, for comparison

Deviations from the paper:
1. Its pairs are classified as one of 55 unordered pairs; here digits are read from left to right, like its house
   numbers, and an image counts as right if both digits are.
2. The glimpse network is a backbone of the registry, by default one layer; the paper has three convolutions.
3. Features of the patch are multiplied by 1 + features of the location; without the 1 it learns far slower.
4. Those of ram.py.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

import runs
from agents.recurrent_attention import model, ram
from runs.flag_types import Count, NonNegative
from vision import backbones


@dataclasses.dataclass(frozen=True)
class Config(ram.Config):
    env: str = "Pairs"  # the task: Pairs, MNIST, Translated, Cluttered or Cluttered100
    overview: Count = 16  # pixels, side of the coarse view of the whole picture
    core: Literal["lstm"] = "lstm"  # there are two
    location_lr_scale: NonNegative = (
        0.1  # of the learning rate, for the location modules: with 1 they saturate before any reward
    )
    context: str = "small"  # backbone of the coarse view


PAIRS = ram.RECIPES["Pairs"] | dict(
    glimpses=2,  # a digit, as in the paper
    core_units=128,
    learning_rate=2e-3,
    steps=3_300_000,
    bf16=False,  # no faster with so few units
    evaluate_passes=1,  # deterministic rollouts are always the same
)
RECIPES = ram.RECIPES | {"Pairs": PAIRS}


def recipe(asked: Config) -> Config:
    """The config that suits the task asked for. Raises ValueError on an unknown one."""
    name = ram.task_name(asked)
    return Config(env=name, **RECIPES[name])


class DeepRecurrentAttention(model.RecurrentAttention):
    """Prepared images (B, C, P) and noise (T, B, 2) -> Glimpses. Ba et al. 2015, section 3 and figure 1."""

    chooses_first = True

    def _build_core(self, features: int) -> None:
        config = self.config
        self.what = nn.Sequential(nn.Linear(features, config.glimpse_units), nn.ReLU())
        model.init_he(self.what[0])
        self.classification_lstm = nn.LSTMCell(config.glimpse_units, config.core_units)
        shape = (self.retina.channels, config.overview, config.overview)
        context = backbones.build(config.context, shape)
        self.location_lstm = nn.ModuleDict(
            {
                "encoder": context,
                "context": nn.Linear(context.output_size(shape), config.core_units),
                "core": nn.LSTMCell(config.core_units, config.core_units),
            }
        )

    def initial_state(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Hidden and cell (B, units): zeros of the classification LSTM; of the location LSTM from the coarse view."""
        nothing = maps.new_zeros(len(maps), self.config.core_units)
        side = self.config.overview
        coarse = F.adaptive_avg_pool2d(self.retina.whole(maps), (side, side))
        start = self.location_lstm["context"](self.location_lstm["encoder"](coarse)[-1].flatten(1)).tanh()
        return nothing, nothing, start, nothing

    def glimpse_features(self, maps: Tensor, location: Tensor) -> Tensor:
        """Features of the patch times 1 + features of the location, (B, units)."""
        patches = self.retina.extract(maps, location, smooth=self.config.attention == "differentiable")
        return self.what(self.backbone(patches)[-1].flatten(1)) * (1 + self.where(location))

    def core_step(self, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        classified = self.classification_lstm(seen, state[:2])
        return *classified, *self.location_lstm["core"](self.for_location(classified[0]), state[2:])

    def location_input(self, state: tuple[Tensor, ...]) -> Tensor:
        return state[2]

    def location_modules(self) -> list[nn.Module]:
        return [self.location_network, self.location_lstm]


build = functools.partial(ram.build, network=DeepRecurrentAttention)
watch = functools.partial(ram.watch, build=build)  # for agents.watch


def train(config: Config) -> None:
    ram.train(config, "agents.recurrent_attention.dram", build)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.recurrent_attention.dram", __doc__)
