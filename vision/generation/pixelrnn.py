"""PixelRNN: autoregressive models of images by two-dimensional LSTMs, Row LSTM and Diagonal BiLSTM.

    python -m vision.generation --model pixelrnn --data mnist
    python -m vision.generation --model pixelrnn --data mnist --recurrence diagonal

van den Oord et al. 2016, "Pixel recurrent neural networks", arXiv 1601.06759, sections 3.1 to 3.3 and table 1: a 7x7
convolution with mask A, layers of LSTM of half the features with a 1x1 back and a residual connection, two 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.generation.autoregressive import Autoregressive, Sampler
from vision.generation.masked import MaskedConv2d, groups
from vision.generation.pixelcnn import FIRST, Head

State = tuple[Tensor, Tensor]  # hidden and cell (B, features, ...)


def lstm(gates: Tensor, cell: Tensor) -> State:
    """Hidden state and cell (B, F, ...) after gates (B, 4 F, ...), before their activations: output, forget, input
    and content, as equation 1 has them."""
    o, f, i, g = gates.chunk(4, 1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class RowLSTM(nn.Module):
    """LSTM from row to row: (B, inputs, H, W) to hidden states (B, outputs, H, W).

    Input to state by a masked 3x1 convolution, state to state by one of the row above, for a triangle of context.
    """

    def __init__(self, inputs: Tensor, outputs: Tensor, kernel: int = 3) -> None:
        super().__init__()
        count = len(outputs)
        self.to_gates = MaskedConv2d(inputs, outputs.repeat(4), kernel, rows=1)
        self.recurrent = nn.Conv1d(count, 4 * count, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gates, rows = self.to_gates(x), []
        state = self.begin(x)
        for index in range(x.shape[2]):
            state = self.step(gates[:, :, index], state)
            rows.append(state[0])
        return torch.stack(rows, 2)

    def begin(self, x: Tensor) -> State:
        """The state above the first row, zeros (B, features, W) twice, for inputs x (B, inputs, H, W)."""
        zeros = x.new_zeros(len(x), self.recurrent.in_channels, x.shape[3])
        return zeros, zeros

    def step(self, gates: Tensor, state: State) -> State:
        """The state of a row from its gates (B, 4 * features, W) and the state of the row above."""
        hidden, cell = state
        return lstm(gates + self.recurrent(hidden), cell)


def skew(x: Tensor) -> Tensor:
    """Maps (B, F, H, W) with each row one further to the right than the row above: (B, F, H, W + H - 1)."""
    count, features, tall, wide = x.shape
    padded = F.pad(x, (0, tall)).flatten(2)  # rows of W + H values, then read as rows of one less
    return padded[:, :, : tall * (wide + tall - 1)].view(count, features, tall, wide + tall - 1)


def unskew(x: Tensor) -> Tensor:
    """What `skew` was given, (B, F, H, W), of its result (B, F, H, W + H - 1)."""
    count, features, tall, long = x.shape
    flat = F.pad(x.flatten(2), (0, tall))
    return flat.view(count, features, tall, long + 1)[:, :, :, : long - tall + 1]


class DiagonalLSTM(nn.Module):
    """LSTM along diagonals from the upper left: (B, inputs, H, W) to hidden states (B, outputs, H, W).

    The state of a pixel is computed from those to its left and above it, by a 2x1 convolution of the skewed map.
    """

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        super().__init__()
        count = len(outputs)
        self.to_gates = MaskedConv2d(inputs, outputs.repeat(4), 1)
        self.recurrent = nn.Conv1d(count, 4 * count, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gates = skew(self.to_gates(x))
        hidden = cell = gates.new_zeros(len(x), self.recurrent.in_channels, x.shape[2])
        columns = []
        for index in range(gates.shape[3]):
            hidden, cell = lstm(gates[..., index] + self.recurrent(F.pad(hidden, (1, 0))), cell)
            columns.append(hidden)
        return unskew(torch.stack(columns, 3))


class DiagonalBiLSTM(nn.Module):
    """Diagonal LSTMs from both upper corners, added: (B, inputs, H, W) to (B, outputs, H, W).

    The map of the one from the right is shifted down by a row, so that no pixel to the right is seen.
    """

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self.from_left, self.from_right = DiagonalLSTM(inputs, outputs), DiagonalLSTM(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        right = self.from_right(x.flip(3)).flip(3)
        return self.from_left(x) + F.pad(right, (0, 0, 1, 0))[:, :, :-1]


RECURRENCES = {"row": RowLSTM, "diagonal": DiagonalBiLSTM}


class PixelRNN(Autoregressive):
    """PixelRNN for images (B, C, H, W). features: between layers, half as many in an LSTM. width: of the head.

    recurrence: of RECURRENCES. A label (classes) adds a bias after each layer.
    """

    def __init__(
        self, shape: Sequence[int], levels: int, classes: int, features: int, layers: int, recurrence: str, width: int
    ) -> None:
        super().__init__(shape, levels, classes)
        channels = self.shape[0]
        outer, inner = groups(features, channels), groups(max(channels, features // 2), channels)
        self.first = MaskedConv2d(torch.arange(channels), outer, FIRST, "A")
        self.layers = nn.ModuleList(RECURRENCES[recurrence](outer, inner) for _ in range(layers))
        self.ups = nn.ModuleList(MaskedConv2d(inner, outer, 1) for _ in range(layers))
        self.labels = nn.ModuleList(nn.Linear(classes, features, bias=False) for _ in range(layers if classes else 0))
        self.head = Head(outer, width, channels, self.pixels.outputs)
        self.recurrence = recurrence

    def biases(self, labels: Tensor | None, count: int) -> list[Tensor | float]:
        """What labels (count,) add after each layer, (count, features, 1, 1)."""
        condition = self.condition(labels, count)
        if not self.classes:
            return [0.0] * len(self.layers)
        return [each(condition)[:, :, None, None] for each in self.labels]

    def parameters_of(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.first(images)
        for layer, up, bias in zip(self.layers, self.ups, self.biases(labels, len(images)), strict=True):
            x = x + up(layer(x)) + bias
        return self.head(x)

    def sampler(self, count: int, labels: Tensor | None) -> Sampler:
        """For `count` images with labels (count,): Row LSTM keeps the states of the row above, and computes the
        pixel's row alone; the diagonal one computes the rows down to the pixel's."""
        biases = self.biases(labels, count)
        if self.recurrence == "diagonal":
            return Sampler(
                lambda images, row: None,
                lambda images, row, column: self.parameters_of(images[:, :, : row + 1], labels)[:, :, row, column],
            )
        states: list[State] = []  # of each layer in the row above
        made: list[State] = []  # and in this row, as far as its pixels are known

        def begin_row(images: Tensor, row: int) -> None:
            if row:
                run(images, row - 1)  # whose last pixel is known now
            states[:] = made

        def run(images: Tensor, row: int) -> Tensor:
            x = self.first(images[:, :, max(0, row - FIRST // 2) : row + 1])[:, :, -1:]
            made.clear()
            for index, (layer, up, bias) in enumerate(zip(self.layers, self.ups, biases, strict=True)):
                made.append(layer.step(layer.to_gates(x)[:, :, 0], states[index] if states else layer.begin(x)))
                x = x + up(made[-1][0][:, :, None]) + bias
            return self.head(x)

        return Sampler(begin_row, lambda images, row, column: run(images, row)[:, :, 0, column])
