"""Whole episodes for updates by complete returns (REINFORCE): each world's first since the last update."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Episodes:
    """The first episode of each of N worlds since the last update, and the number of updates.

    It is part of a checkpoint, since an update may be many steps away. record: the type of a step, a NamedTuple with
    fields action and last (Transition).
    """

    def __init__(self, record: type[NamedTuple], device: torch.device | str = "cpu") -> None:
        self.record, self.device = record, device
        self.updates = 0
        self.steps: list[NamedTuple] = []  # (N, ...) each; action as sampled
        self.ended: Tensor | None = None  # (N,) bool, the world's first episode has ended

    def add(self, transition: NamedTuple, action: Tensor) -> Tensor:
        """Add a step and its action as sampled. Returns (N,) bool: the worlds whose first episode ended with it."""
        self.steps.append(transition._replace(action=action))
        before = torch.zeros_like(transition.last) if self.ended is None else self.ended
        self.ended = before | transition.last
        return transition.last & ~before

    @property
    def complete(self) -> bool:
        """Whether the first episode of every world has ended."""
        return self.ended is not None and bool(self.ended.all())

    def take(self) -> tuple[NamedTuple, Tensor]:
        """Remove and return all steps, every field (T, N, ...), and which are of a first episode, (T, N) bool."""
        record = self.record(*(torch.stack(field) for field in zip(*self.steps, strict=True)))
        ended_before = record.last.cumsum(0) - record.last.long()
        self.steps, self.ended = [], None
        self.updates += 1
        return record, ended_before == 0

    def state_dict(self) -> dict:
        fields = [torch.stack(field) for field in zip(*self.steps, strict=True)]
        return {"updates": self.updates, "fields": fields}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        fields = (field.to(self.device).unbind(0) for field in state["fields"])
        self.steps = [self.record(*step) for step in zip(*fields, strict=True)]
        self.ended = torch.stack([step.last for step in self.steps]).any(0) if self.steps else None

    def truncate_episodes(self, worlds: Tensor) -> None:
        """Set `last` of the newest step of the worlds in (N,) bool: a resumed run begins other games there."""
        if self.steps:
            worlds = worlds.to(self.device)
            self.steps[-1] = self.steps[-1]._replace(last=self.steps[-1].last | worlds)
            self.ended = self.ended | worlds
