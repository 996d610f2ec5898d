"""The deep recurrent attention model: several things in one picture, read one after the other.

Ba et al. 2015, "Multiple object recognition with visual attention". A coarse view of the whole picture says where to
look first; two LSTMs, one upon the other, keep apart what was read and where to look; after every few glimpses one
digit is named. The loop and the flags are those of agents/recurrent_attention.py.

    python -m agents.recurrent_attention.dram --env Pairs
    python -m agents.recurrent_attention.dram --env Pairs --images glyphs     # drawn digits, no download
    python -m agents.recurrent_attention.dram --env Cluttered100              # a single digit
    python -m agents.recurrent_attention --env Pairs                          # RAM, for comparison

Deviations from the paper:
1. Its pairs are to be named as one of 55 sets of two; here they are read from left to right, as its house numbers
   are, and an image counts as right if both digits are.
2. The glimpse network is a backbone of the registry, by default one layer; the paper has three convolutions.
3. What is there is multiplied by one more than the features of where it is; by those alone, it learns far slower.
4. And those of agents/recurrent_attention.py.
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
        0.1  # of the learning rate, for all that points: at 1 it is lost before any reward
    )
    context: str = "small"  # backbone of the coarse view


PAIRS = ram.RECIPES["Pairs"] | dict(
    glimpses=2,  # a digit, as in the paper
    core_units=128,
    learning_rate=2e-3,
    steps=3_300_000,
    bf16=False,  # so few units are no quicker
    evaluate_passes=1,  # a rollout that draws nothing is always the same
)
RECIPES = ram.RECIPES | {"Pairs": PAIRS}


def recipe(asked: Config) -> Config:
    """The config that suits the task asked for. Raises ValueError on an unknown one."""
    name = ram.task_name(asked)
    return Config(env=name, **RECIPES[name])


class DeepRecurrentAttention(model.RecurrentAttention):
    """Prepared images (B, C, P) and chances (T, B, 2) -> Rollout. Ba et al. 2015, section 3 and figure 1."""

    chooses_first = True

    def _build_core(self, features: int) -> None:
        config = self.config
        self.what = nn.Sequential(nn.Linear(features, config.glimpse_units), nn.ReLU())
        model.init_he(self.what[0])
        self.reader = nn.LSTMCell(config.glimpse_units, config.core_units)
        shape = (self.retina.channels, config.overview, config.overview)
        context = backbones.build(config.context, shape)
        self.pointer = nn.ModuleDict(
            {
                "eye": context,
                "context": nn.Linear(context.output_size(shape), config.core_units),
                "core": nn.LSTMCell(config.core_units, config.core_units),
            }
        )

    def initial_state(self, maps: Tensor) -> tuple[Tensor, ...]:
        """States and memories (B, units) of the reader, which knows nothing, and of the pointer, from the whole."""
        nothing = maps.new_zeros(len(maps), self.config.core_units)
        side = self.config.overview
        coarse = F.adaptive_avg_pool2d(self.retina.whole(maps), (side, side))
        hint = self.pointer["context"](self.pointer["eye"](coarse)[-1].flatten(1)).tanh()
        return nothing, nothing, hint, nothing

    def glimpse_features(self, maps: Tensor, location: Tensor) -> Tensor:
        """What is there times where it is, (B, sight): 1 + where, so that the first thing learned is what."""
        patches = self.retina.extract(maps, location, smooth=self.config.attention == "differentiable")
        return self.what(self.backbone(patches)[-1].flatten(1)) * (1 + self.where(location))

    def core_step(self, seen: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        reader = self.reader(seen, state[:2])
        return *reader, *self.pointer["core"](self.for_location(reader[0]), state[2:])

    def location_input(self, state: tuple[Tensor, ...]) -> Tensor:
        return state[2]

    def location_modules(self) -> list[nn.Module]:
        return [self.location_network, self.pointer]


build = functools.partial(ram.build, network=DeepRecurrentAttention)
watch = functools.partial(ram.watch, build=build)  # for agents.watch


def train(config: Config) -> None:
    ram.train(config, "agents.recurrent_attention.dram", build)


if __name__ == "__main__":
    runs.launch(train, Config, recipe, "agents.recurrent_attention.dram", __doc__)
