"""Options: the flags of every training program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from runs import flag_types
from runs.flag_types import Count, NonNegative, Whole


@dataclasses.dataclass(frozen=True)
class Options:
    """Seed, device, folder, checkpoints and W&B: the flags of every training program. Its Config extends it."""

    GROUP: ClassVar[str] = "run"

    seed: Whole = 1  # of everything random: the same seed gives the same run
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    folder: Path = Path("results")  # of all runs
    name: str | None = None  # of this run's folder; <program>-<seed> by default
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"  # auto: online when logged in, else offline
    wandb_project: str | None = None  # None: WANDB_PROJECT of the environment, else saccade
    wandb_entity: str | None = None  # the team or user it belongs to; None: the account's own
    wandb_group: str | None = None  # None: <world>/<program>, whose runs are seeds of one another
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    tags: tuple[str, ...] = ()  # W&B tags
    save_every: NonNegative = 120.0  # seconds between checkpoints
    log_every: Count = 5_000  # agent steps a line of metrics.jsonl
    accept_loss: bool = False  # resume without the folder's damaged parts; config.json records what was lost
    profile: Whole = 0  # iterations to profile, starting a few after the first loss; written to profile/

    @property
    def binding(self) -> tuple[str, ...]:
        """Flags of folder.RESUME_MAY_CHANGE that change what this config learns, and may not change on resume."""
        return ()

    def validate(self) -> None:
        """Raise ValueError for numbers outside of a flag's range, or that contradict each other."""
        flag_types.check(self)
