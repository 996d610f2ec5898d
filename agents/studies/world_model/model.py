"""WorldModel: frames as latents by an autoencoder, and a convolutional LSTM that predicts the next ones.

The LSTM reads the latents z_t of frame t and action a_t and gives, as a categorical distribution for every latent,
z_t+1, the sign of the reward and, as in Ha & Schmidhuber's game of Doom, whether the game ends.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.studies.world_model.autoencoder import FrameAutoencoder
from vision import backbones

State = tuple[Tensor, Tensor]  # hidden and cell (B, H, h, w) of a ConvLSTM


class ConvLSTM(nn.Module):
    """Convolutional LSTM of maps (B, C, h, w). Shi et al. 2015, arXiv 1506.04214, equation 3, without peepholes.

    What the whole map shows (mean and maximum of the hidden map: pool-and-inject of Guez et al. 2019, arXiv
    1901.03559) and a vector, as an action, are added to the gates everywhere, and a learned bias at each
    place. Otherwise a point would be seen in the score steps later, when it had come there map cell by map cell.

    inputs: C. hidden: H. size: (h, w). vector: numbers of the vector.
    """

    def __init__(self, inputs: int, hidden: int, size: tuple[int, int], vector: int) -> None:
        super().__init__()
        self.hidden, self.size = hidden, size
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)
        self.everywhere = nn.Linear(2 * hidden + vector, 4 * hidden, bias=False)
        self.places = nn.Parameter(torch.zeros(4 * hidden, *size))
        with torch.no_grad():
            self.gates.bias[hidden : 2 * hidden] = 1.0  # cells keep at first: Jozefowicz et al. 2015

    def initial_state(self, like: Tensor) -> State:
        """Zeros, for as many maps as `like` (B, ...) has."""
        zeros = like.new_zeros(len(like), self.hidden, *self.size, dtype=torch.float32)
        return zeros, zeros

    def forward(self, x: Tensor, vector: Tensor, state: State) -> State:
        """The state after inputs x (B, C, h, w) and vector (B, V)."""
        hidden, cell = state
        pooled = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3)), vector], 1)
        found = self.gates(torch.cat([x, hidden.to(x.dtype)], 1)) + self.everywhere(pooled)[:, :, None, None]
        write, keep, show, content = (found + self.places).float().chunk(4, 1)
        cell = keep.sigmoid() * cell + write.sigmoid() * content.tanh()
        return show.sigmoid() * cell.tanh(), cell


class Prediction(NamedTuple):
    """Of the step after a frame: the level of each latent of the next frame, reward and end."""

    level: Tensor  # (B, N, L, h, w), logits of N levels
    reward: Tensor  # (B, 3), logits of a reward below, at and above 0
    end: Tensor  # (B,), logit that the game ends

    def draw(self, temperature: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """Levels (B, L, h, w) int64 drawn with logits divided by a temperature; 0: the most probable ones."""
        if temperature == 0:
            return self.level.max(1).indices  # seven times as fast as argmax on a CPU
        logits = self.level.movedim(1, -1) / temperature
        drawn = torch.multinomial(logits.softmax(-1).flatten(0, -2).cpu(), 1, generator=generator)
        return drawn.view(logits.shape[:-1]).to(logits.device)

    def expected_reward(self) -> Tensor:
        """P(reward above 0) - P(reward below 0), (B,)."""
        below, _, above = self.reward.float().softmax(1).unbind(1)
        return above - below


class WorldModel(nn.Module):
    """The autoencoder of frames and the LSTM of its latents.

    encoder: with levels. hidden: channels of the LSTM, and of what it reads. decoder_width: channels of the decoder,
    times the encoder's.
    """

    def __init__(
        self, encoder: backbones.FrameEncoder, actions: int, hidden: int = 48, decoder_width: int = 1
    ) -> None:
        super().__init__()
        self.actions = actions
        self.autoencoder = FrameAutoencoder(encoder, decoder_width)
        latents, *size = self.autoencoder.shape
        self.levels = encoder.quantize.levels
        self.embed = nn.Conv2d(latents * self.levels, hidden, 1)
        self.lstm = ConvLSTM(hidden, hidden, tuple(size), actions)
        self.mix = nn.Conv2d(hidden + hidden, hidden, 3, padding=1)
        self.next = nn.Conv2d(hidden, latents * self.levels, 1)
        self.stays = nn.Conv2d(latents * self.levels, latents * self.levels, 1, bias=False)
        self.outcome = nn.Linear(2 * hidden, 4)

    def fit_pixels(self, frames: Tensor) -> None:
        """Take pixels' means and deviations, and the picture that the encoder subtracts, from frames (N, C, H, W)
        uint8."""
        self.autoencoder.pixels.fit(frames)
        self.encoder.set_mean_observation((self.autoencoder.pixels.mean_frame * 255).round())

    @property
    def encoder(self) -> backbones.FrameEncoder:
        """Frames to latents, which agents take as --backbone."""
        return self.autoencoder.encoder

    def encode(self, frames: Tensor) -> Tensor:
        """Levels (B, L, h, w) int64 of the latents of frames (B, C, H, W) uint8."""
        return self.encoder.quantize.index(self.encoder(frames)[-1])

    def decode(self, z: Tensor) -> Tensor:
        """Frames (B, C, H, W) from 0 to 1 of levels z (B, L, h, w)."""
        return self.autoencoder.decode(self.encoder.quantize.value(z))

    def predict(self, z: Tensor, action: Tensor, state: State | None = None) -> tuple[Prediction, State]:
        """The prediction of one step, and the LSTM's state after it.

        Args:
            z: (B, L, h, w) int64, levels of the frame before the step.
            action: (B,) int64.
            state: of the LSTM before the step; None at the first frame that is known.
        """
        levels = torch.arange(self.levels, device=z.device)[:, None, None, None]
        chosen = (z[:, None] == levels).flatten(1, 2).to(self.embed.weight.dtype)  # one-hot
        x = F.relu(self.embed(chosen))
        vector = F.one_hot(action, self.actions).to(chosen.dtype)
        state = self.lstm(x, vector, state or self.lstm.initial_state(z))
        features = F.relu(self.mix(torch.cat([x, state[0].to(x.dtype)], 1)))
        level = self.next(features) + self.stays(chosen)
        outcome = self.outcome(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)).float()
        return Prediction(level.float().unflatten(1, (self.levels, -1)), outcome[:, :3], outcome[:, 3]), state

    def dynamics_losses(
        self, z: Tensor, action: Tensor, reward: Tensor, last: Tensor, given: Tensor, outcome_weight: float = 1.0
    ) -> dict[str, Tensor]:
        """The LSTM's losses of levels z (T + 1, B, L, h, w), scalars: nats of a frame, of the reward and of
        the end.

        action, reward, last: (T, B); the frame after a step with which a game ended is another game's: not predicted.
        given: (T, B) bool, whether the LSTM reads the frame before the step itself, else what it predicted for it.
        """
        state, read = None, z[0]
        nats, sign, end = [], [], []
        for t in range(len(action)):
            read = torch.where(given[t, :, None, None, None], z[t], read)
            found, state = self.predict(read, action[t], state)
            read = found.draw().detach()
            nats.append(F.cross_entropy(found.level, z[t + 1], reduction="none").sum((1, 2, 3)))
            sign.append(F.cross_entropy(found.reward, (reward[t].sign() + 1).long()))
            end.append(F.binary_cross_entropy_with_logits(found.end, last[t].float()))
        going = ~last
        return {
            "loss/latents": (torch.stack(nats) * going).sum() / going.sum().clamp(min=1),
            "loss/reward": outcome_weight * torch.stack(sign).mean(),
            "loss/end": outcome_weight * torch.stack(end).mean(),
        }
