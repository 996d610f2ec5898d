"""Answering network: an LSTM reads the question and modulates how the image's map is read (FiLM).

Perez et al. 2017, "FiLM: visual reasoning with a general conditioning layer", arXiv 1709.07871.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vision.backbones import Backbone
from vision.backbones.layers.pooling import global_max_pool
from vision.captioning.captioner import nearest_map, places
from vision.captioning.questions import ANSWERS, words
from vision.sequences.recurrent import Recurrent


def film(features: Tensor, gains: Tensor, shifts: Tensor) -> Tensor:
    """Feature-wise linear modulation, equation 2: gains (B, C) times features (B, C, H, W) plus shifts (B, C)."""
    return gains[..., None, None] * features + shifts[..., None, None]


class ModulatedBlock(nn.Module):
    """A residual block that a question modulates, figure 3: forward(maps (B, C, H, W), gains (B, C), shifts (B, C)).

    The places' coordinates are read beside the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 2, channels, 1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, maps: Tensor, gains: Tensor, shifts: Tensor) -> Tensor:
        where = places(tuple(maps.shape[-2:]), maps.device).expand(len(maps), -1, -1, -1)
        kept = self.first(torch.cat([maps, where], 1)).relu()
        return kept + film(self.norm(self.second(kept)), gains, shifts).relu()


class Answerer(nn.Module):
    """Logits (B, answers) of ANSWERS for images (B, C, H, W) and questions (B, T).

    questions: numbers of words from `encode`, 0 behind the end. stride: pixels; the backbone's map whose stride is
    nearest is read.
    """

    def __init__(self, backbone: Backbone, stride: int, channels: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.backbone, self.map = backbone, nearest_map(backbone, stride)
        self.words = words()
        self.embedding = nn.Embedding(len(self.words) + 1, hidden, padding_idx=0)
        self.question = Recurrent("lstm", hidden, hidden)
        self.modulation = nn.Linear(hidden, 2 * channels * blocks)
        self.project = nn.Conv2d(backbone.channels[self.map], channels, 1)
        self.blocks = nn.ModuleList(ModulatedBlock(channels) for _ in range(blocks))
        self.head = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, len(ANSWERS)))

    def encode(self, questions: list[str]) -> Tensor:
        """Questions (B, T) int64, of words in lower case. Raises ValueError for a word that is never asked with."""
        rows = []
        for question in questions:
            asked = question.lower().replace("?", "").split()
            if strange := [word for word in asked if word not in self.words]:
                raise ValueError(f"no question has the word {strange[0]!r}: there are {', '.join(self.words)}")
            rows.append(torch.tensor([self.words.index(word) + 1 for word in asked]))
        return pad_sequence(rows, batch_first=True)

    def read(self, questions: Tensor) -> Tensor:
        """The LSTM's state (B, H) after the last word of each question (B, T)."""
        outputs = self.question(self.embedding(questions))[0]
        ends = (questions > 0).sum(1) - 1
        return outputs[torch.arange(len(questions), device=questions.device), ends]

    def forward(self, images: Tensor, questions: Tensor) -> Tensor:
        maps = self.project(self.backbone(images)[self.map].float()).relu()
        modulations = self.modulation(self.read(questions)).chunk(len(self.blocks), 1)
        for block, modulation in zip(self.blocks, modulations, strict=True):
            gains, shifts = modulation.chunk(2, 1)
            maps = block(maps, 1 + gains, shifts)
        return self.head(torch.cat([global_max_pool(maps), maps.mean((2, 3))], 1))
