"""The flags that every program has for its run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from runs import flag_types
from runs.flag_types import Count, NonNegative, Whole


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags every program has for its run."""

    GROUP: ClassVar[str] = "run"

    seed: Whole = 1  # of everything random: the same seed gives the same run
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    folder: Path = Path("results")  # where runs lie
    name: str | None = None  # of this run's folder; <program>-<seed> unless given
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"  # auto: online when logged in, else offline
    wandb_project: str | None = None  # None: WANDB_PROJECT of the environment, else saccade
    wandb_entity: str | None = None  # the team or user it belongs to; None: the account's own
    wandb_group: str | None = None  # None: <world>/<program>, whose runs are seeds of one another
    threads: Whole = 0  # of torch on the CPU; 0: as many as cores are free at the start
    tags: tuple[str, ...] = ()  # W&B tags
    save_every: NonNegative = 120.0  # seconds between checkpoints
    log_every: Count = 5_000  # agent steps a line of metrics.jsonl
    accept_loss: bool = False  # go on without what is damaged of the run's folder; its record then says what was lost
    profile: Whole = 0  # iterations to profile, from a few after the first loss on, into profile/

    @property
    def binding(self) -> tuple[str, ...]:
        """Flags of folder.RESUME_MAY_CHANGE that change what this config learns, and may not change on resume."""
        return ()

    def validate(self) -> None:
        """Raise ValueError for numbers that a flag does not take, or that do not go together."""
        flag_types.check(self)
