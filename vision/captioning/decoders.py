"""Decoders: LSTMs that write a sentence, a word at a time, from the features of an image.

    state = decoder.begin(features)                      # (B, L, D)
    logits, state, weights = decoder.step(words, state)  # words (B,) -> logits (B, words), weights (B, L) or None

plain   Vinyals et al. 2014, "Show and tell", arXiv 1411.4555: the image is read once, before the first word
soft    Xu et al. 2015, "Show, attend and tell", arXiv 1502.03044: each word is written at a mean of places
hard    the same, at one place, which is drawn in training and the likeliest one otherwise
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vision.captioning import attention
from vision.sequences.cells import LSTMCell

DecoderState = tuple[Tensor, ...]  # each (B, ...)


class Decoder(nn.Module):
    """Base class of decoders. words: how many there are; another one is read before the first.

    forward(features (B, L, D), words (B, T)) reads the right words and gives logits (B, T, words), and of an
    attention its weights (B, T, L) and drawn places (B, T), else None.
    """

    attends = False

    def __init__(self, words: int, features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, hidden)
        self.dropout = nn.Dropout(dropout)
        self.words, self.features, self.hidden = words, features, hidden

    def begin(self, features: Tensor) -> DecoderState:
        """The state before the first word, of features (B, L, D)."""
        raise NotImplementedError

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Logits (B, words) of the next word, the state, and weights of places (B, L), after a word (B,)."""
        raise NotImplementedError

    def forward(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        state, rows, found = self.begin(features), [], []
        for word in words.unbind(1):
            logits, state, weights = self.step(word, state)
            rows.append(logits)
            found.append(weights)
        return torch.stack(rows, 1), torch.stack(found, 1) if self.attends else None, None


class PlainDecoder(Decoder):
    """Show and tell: the mean of the features is the LSTM's first input, before any word (equations 10 to 12)."""

    def __init__(self, words: int, features: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(words, features, hidden, dropout)
        self.image = nn.Linear(features, hidden)
        self.cell = LSTMCell(hidden, hidden)
        self.head = nn.Linear(hidden, words)

    def begin(self, features: Tensor) -> DecoderState:
        return self.cell(self.image(features.mean(1)), self.cell.initial_state(len(features)))

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, None]:
        state = self.cell(self.dropout(self.embedding(words)), state)
        return self.head(self.dropout(state[0])), state, None


class SoftAttention(Decoder):
    """Show, attend and tell, deterministic: the LSTM reads the last word and the gated mean of places (section 4.2).

    Initial states are perceptrons of the mean feature; beta = sigmoid(f(h)) gates what is seen (section 4.2.1); a
    deep output layer reads the word, the hidden state and what is seen (equation 7).
    """

    attends = True

    def __init__(self, words: int, features: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__(words, features, hidden, dropout)
        self.attention = attention.AdditiveAttention(features, hidden, hidden)
        self.first = nn.Linear(features, 2 * hidden)
        self.gate = nn.Linear(hidden, features)
        self.cell = LSTMCell(hidden + features, hidden)
        self.deep = nn.ModuleList([nn.Linear(hidden, hidden), nn.Linear(features, hidden, bias=False)])
        self.head = nn.Linear(hidden, words)

    def begin(self, features: Tensor) -> DecoderState:
        hidden, cell = self.first(features.mean(1)).tanh().chunk(2, 1)
        return hidden, cell, features, self.attention.project(features)

    def attend(self, weights: Tensor, features: Tensor) -> Tensor:
        """What is seen (B, D), by weights (B, L) of features (B, L, D)."""
        return attention.expected(weights, features)

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState, Tensor]:
        hidden, cell, features, projected = state
        weights = self.attention(projected, hidden)
        seen = self.gate(hidden).sigmoid() * self.attend(weights, features)
        return *self._write(words, seen, (hidden, cell, features, projected)), weights

    def _write(self, words: Tensor, seen: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        embedded = self.dropout(self.embedding(words))
        hidden, cell = self.cell(torch.cat([embedded, seen], 1), state[:2])
        deep = embedded + self.deep[0](self.dropout(hidden)) + self.deep[1](seen)
        return self.head(self.dropout(deep.tanh())), (hidden, cell, *state[2:])


class HardAttention(SoftAttention):
    """Show, attend and tell, stochastic: a place is drawn by the weights for each word (section 4.1).

    With a probability of a half a sentence's places are replaced by the expected value, against variance, as the
    paper does. `reinforce` of attention.py trains the weights. In evaluation the likeliest place is taken, so that
    captions are the same every time. In training forward also gives the drawn places (B, T), -1 where the expected
    value was seen.
    """

    def attend(self, weights: Tensor, features: Tensor) -> Tensor:
        return attention.chosen(weights.argmax(1), features)

    def forward(self, features: Tensor, words: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if not self.training:
            return super().forward(features, words)
        state, rows, found, places = self.begin(features), [], [], []
        soft = torch.rand(len(features), 1, device=features.device) < 0.5
        for word in words.unbind(1):
            weights = self.attention(state[3], state[0])
            place = torch.multinomial(weights.detach(), 1)[:, 0]
            seen = torch.where(soft, attention.expected(weights, features), attention.chosen(place, features))
            logits, state = self._write(word, self.gate(state[0]).sigmoid() * seen, state)
            rows.append(logits), found.append(weights), places.append(torch.where(soft[:, 0], -1, place))
        return torch.stack(rows, 1), torch.stack(found, 1), torch.stack(places, 1)


DECODERS: dict[str, type[Decoder]] = {"plain": PlainDecoder, "soft": SoftAttention, "hard": HardAttention}
