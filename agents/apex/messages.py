"""Messages of Ape-X's actors to their learner: consecutive steps with every frame once, and their priorities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs import Transition


class Message(NamedTuple):
    """T consecutive steps of N worlds, NumPy arrays.

    begins: whether an observation is not the next_observation of the step before: the first, and each after `last`.
    The message's own last step counts as `last`, for the memory's rows after it are another actor's; it bootstraps.
    """

    begun: np.ndarray  # (M, ...) the observations where begins
    begins: np.ndarray  # (T, N) bool
    newest: np.ndarray  # (T, N, ...) the newest frame of each next_observation; of vectors the whole
    action: np.ndarray  # (T, N)
    reward: np.ndarray  # (T, N)
    discount: np.ndarray  # (T, N)
    last: np.ndarray  # (T, N) bool
    error: np.ndarray  # (T, N) float32 absolute n-step errors, the first priorities
    finished: dict[str, list[float]]  # games that ended: "episode/return" and "episode/length"
    version: int  # of the weights that it was played with: the learner's updates until then


def pack(
    steps: Sequence[Transition], stack: int, error: Tensor, finished: dict[str, list[float]], version: int
) -> Message:
    """The message of T consecutive steps of N worlds.

    stack: frames in an observation. error: (T, N), absolute. finished: games that ended. version: of the weights.
    """
    last = torch.stack([step.last for step in steps])
    begins = torch.cat([torch.ones_like(last[:1]), last[:-1]])
    last[-1] = True
    begun = torch.cat([step.observation[which] for step, which in zip(steps, begins, strict=True)])
    frame = steps[0].next_observation.shape[1] // stack
    newest = torch.stack([step.next_observation[:, -frame:] for step in steps])
    fields = (torch.stack([getattr(step, name) for step in steps]) for name in ("action", "reward", "discount"))
    arrays = (each.numpy() for each in (begun, begins, newest, *fields, last, error))
    return Message(*arrays, finished, version)


def unpack(message: Message, device: torch.device) -> Iterator[tuple[Transition, Tensor]]:
    """The steps of a message in their order, and the errors (N,) of each."""
    begun, begins, newest, *fields, error = (_tensor(each, device) for each in message[:8])
    observation, taken = None, 0
    frame = newest.shape[2]
    for t, which in enumerate(begins):
        count = int(message.begins[t].sum())
        if observation is None:  # all worlds begin
            observation = begun[:count]
        elif count:
            observation = observation.clone()
            observation[which] = begun[taken : taken + count]
        taken += count
        following = torch.cat([observation[:, frame:], newest[t]], 1)
        action, reward, discount, last = (each[t] for each in fields)
        yield Transition(observation, action, reward, discount, following, last), error[t]
        observation = following


def size(message: Message) -> int:
    """The size of a message's arrays in bytes."""
    return sum(each.nbytes for each in message if isinstance(each, np.ndarray))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.tensor(array, device=device)  # a copy: Ray's arrays cannot be written to


def weights(network: torch.nn.Module) -> dict[str, Any]:
    """The weights of a network as NumPy arrays, which Ray's processes of a node share."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
