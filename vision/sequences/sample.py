"""Samples of a trained sequence network: text that goes on from a prompt, or answers.

python -m vision.sequences sample results/reference/sequences-1 --prompt "The " --length 1000
python -m vision.sequences sample results/sums/sequences-1 --prompt 123+456
python -m vision.sequences sample results/numerals/sequences-1 --prompt 305
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro

import runs
from runs import saved
from runs.flag_types import Count, NonNegative, Whole
from runs.machine import choose
from runs.printing import printable
from vision import backbones
from vision.sequences import train
from vision.sequences.network import SequenceNetwork
from vision.sequences.tasks import TASKS, Task
from vision.sequences.tasks.numerals import DIGITS, features


@dataclasses.dataclass(frozen=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # its folder
    prompt: str = ""  # a text to go on from, a sum, a number; empty: as in the run's own samples
    length: Count = 500  # characters of a text
    temperature: NonNegative = 0.7  # of a text; 0: the likeliest character
    seed: Whole = 1
    device: str = "auto"  # auto, cpu, cuda, mps


class Trained(NamedTuple):
    """A run's network: load(run).sample(prompt)."""

    config: train.Config
    task: Task
    network: SequenceNetwork  # of the best evaluation

    def sample(self, prompt: str = "", length: int = 500, temperature: float = 0.7, seed: int = 1) -> str:
        """What the network says to a prompt: a text that goes on, the result of a sum, or a number in words.

        Raises ValueError for a prompt that the task cannot read.
        """
        generator = torch.Generator().manual_seed(seed)
        if not prompt:
            return self.task.show(self.network, generator)
        if self.config.task == "sums":
            asked = self.task.read(prompt)[None].to(self.network.device)
            return self.network.generate(asked, train.LONGEST)[0]
        if self.config.task == "numerals":
            if not prompt.isdecimal() or len(prompt) > DIGITS:
                raise ValueError(f"{prompt!r} is no number of {DIGITS} digits at most")
            asked = features(torch.tensor([int(prompt)])).to(self.network.device)
            return self.network.generate(asked, train.LONGEST)[0]
        if self.config.task not in ("text", "hello"):
            raise ValueError(f"the task {self.config.task} takes no prompt: leave it out")
        return self.network.continue_text(prompt, length, temperature, generator)


def load(folder: Path | str, device: str | torch.device = "auto") -> Trained:
    """A run's config, task and network, that of the best evaluation.

    A text has to be where the run found it. Raises RunError where there is no such run, nothing was saved yet, or the
    text is another one.
    """
    device, folder = choose(str(device)), Path(folder)
    config, parts = saved.trained(train.Config, folder, "vision.sequences")
    task = TASKS[config.task](config)
    if config.backbone not in backbones.BACKBONES:
        config = dataclasses.replace(config, backbone=str(folder))
    network = train.build(config, task)
    try:
        network.load_state_dict(parts["network"])
    except RuntimeError as error:
        raise runs.RunError(f"{folder} was trained on other symbols, as of another text: {error}") from error
    return Trained(config, task, network.to(device).eval())


def main(config: Config) -> None:
    trained = load(config.run, config.device)
    print(printable(trained.sample(config.prompt, config.length, config.temperature, config.seed)))
