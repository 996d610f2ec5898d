"""SequenceNetwork: a recurrent network in the four shapes of tasks, and its samples.

logits, states = network(inputs, targets)             # training: the right symbols are read (teacher forcing)
network.generate(inputs, length)                      # one_to_many, encoder_decoder: texts, greedily
network.continue_text("The ", 500, 0.8, generator)    # many_to_many over characters: a sample
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones import Backbone
from vision.sequences.recurrent import Recurrent, States


class SequenceNetwork(nn.Module):
    """A recurrent network between inputs and outputs: logits (B, U, outputs) and the last states.

    shape: many_to_many, many_to_one, one_to_many or encoder_decoder (vision/sequences/tasks/task.py).
    inputs: symbols as strings, which are read one-hot; features of a vector (one_to_many). With a backbone the inputs
    are frames (B, T, C, H, W), of which each is read as its last map, flattened. outputs: symbols or classes.
    end: the symbol that ends a generated sequence.
    """

    def __init__(
        self,
        shape: str,
        inputs: tuple[str, ...] | int,
        outputs: tuple[str, ...],
        cell: str = "lstm",
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        truncate: int = 0,
        end: str | None = None,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.inputs, self.outputs, self.end = shape, inputs, outputs, end
        self.backbone = backbone
        read = len(inputs) if isinstance(inputs, tuple) else hidden
        if shape == "one_to_many":
            self.recurrent = None
        else:
            self.recurrent = Recurrent(cell, read, hidden, layers, dropout, truncate)
        if backbone is not None:
            self.frame = nn.Sequential(nn.Flatten(), nn.Linear(backbone.output_size(), hidden), nn.ReLU())
        self.decoder = None
        if shape in ("one_to_many", "encoder_decoder"):  # reads what it said, or that it is to begin
            self.decoder = Recurrent(cell, len(outputs) + 1, hidden, layers, dropout, truncate)
        if shape == "one_to_many":
            self.condition = nn.Linear(inputs, sum(each.hidden * each.STATES for each in self.decoder.cells))
        self.head = nn.Linear(hidden, len(outputs))

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.head.weight.device

    def read(self, inputs: Tensor) -> Tensor:
        """Inputs as vectors (B, T, F): one-hot symbols (B, T), or features of frames (B, T, C, H, W)."""
        if self.backbone is None:
            return F.one_hot(inputs, len(self.inputs)).float()
        return self.frame(self.backbone(inputs.flatten(0, 1))[-1]).view(*inputs.shape[:2], -1)

    def encode(self, inputs: Tensor) -> States:
        """The states in which the decoder begins, of vectors (B, F) or symbols (B, T)."""
        if self.shape == "encoder_decoder":
            return self.recurrent(self.read(inputs))[1]
        parts = iter(self.condition(inputs).tanh().split(self.head.in_features, 1))
        return [tuple(next(parts) for _ in range(cell.STATES)) for cell in self.decoder.cells]

    def forward(
        self, inputs: Tensor, targets: Tensor | None = None, states: States | None = None
    ) -> tuple[Tensor, States]:
        if self.decoder is None:
            outputs, states = self.recurrent(self.read(inputs), states)
            return self.head(outputs if self.shape == "many_to_many" else outputs[:, -1:]), states
        begin = torch.full_like(targets[:, :1], len(self.outputs))
        said = torch.cat([begin, targets[:, :-1].clamp(min=0)], 1)  # what is ignored comes after the end
        outputs, states = self.decoder(F.one_hot(said, len(self.outputs) + 1).float(), self.encode(inputs))
        return self.head(outputs), states

    @torch.no_grad()
    def generate(self, inputs: Tensor, length: int) -> list[str]:
        """The likeliest symbol at each step, up to the end symbol or `length`, of inputs (B, F) or (B, T)."""
        states = self.encode(inputs)
        said = torch.full((len(inputs),), len(self.outputs), device=inputs.device)
        rows = []
        for _ in range(length):
            output, states = self.decoder.step(F.one_hot(said, len(self.outputs) + 1).float(), states)
            said = self.head(output).argmax(1)
            rows.append(said)
        texts = ("".join(self.outputs[each] for each in row) for row in torch.stack(rows, 1).tolist())
        return [text.partition(self.end)[0] if self.end else text for text in texts]

    @torch.no_grad()
    def continue_text(self, prompt: str, length: int, temperature: float, generator: torch.Generator) -> str:
        """The prompt and `length` characters that the network says after it, each drawn and read again.

        temperature: logits are divided by it before softmax; 0: the likeliest character. generator: on the CPU.
        Raises ValueError for an empty prompt, and for a character that the network does not know.
        """
        if strange := [character for character in prompt if character not in self.inputs]:
            raise ValueError(f"this network knows no {strange[0]!r}: it read {''.join(self.inputs)!r}")
        if not prompt:
            raise ValueError("a text is continued from one character at least")
        indices = torch.tensor([[self.inputs.index(character) for character in prompt]], device=self.device)
        states, said = None, []
        for _ in range(length):
            logits, states = self(indices, states=states)
            indices = draw(logits[:, -1], temperature, generator)[:, None].to(self.device)
            said.append(self.outputs[indices.item()])
        return prompt + "".join(said)


def draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A class (B,) int64 for each row of logits (B, classes), drawn by softmax(logits / temperature).

    The likeliest one where the temperature is 0.
    """
    if temperature == 0:
        return logits.argmax(1)
    return torch.multinomial((logits.float().cpu() / temperature).softmax(1), 1, generator=generator)[:, 0]
