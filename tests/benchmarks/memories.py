"""The memories that replay_speed.py compares, full of noise, as calls that add to them and draw from them."""

import os
import warnings
from collections.abc import Callable

import numpy as np
import torch

from envs import Transition
from replay import FrameReplay, PrioritizedReplay, RowReplay

SHAPE = (4, 84, 84)  # stacked frames of an observation, uint8
EPISODE = 128  # steps; about a life in Breakout
os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")  # TorchRL's; it announces every storage


def episode(worlds: int, seed: int = 1) -> list[Transition]:
    """One episode of noise, seen by every world: whole Transitions of (N, ...) CPU tensors."""
    random = np.random.default_rng(seed)
    frames = random.integers(256, size=(worlds, EPISODE + SHAPE[0], *SHAPE[1:]), dtype=np.uint8)
    frames[:, : SHAPE[0] - 1] = 0  # the first stack is padded with black, as ALE's
    stacks = [torch.from_numpy(frames[:, i : i + SHAPE[0]].copy()) for i in range(EPISODE + 1)]
    ends = [i == EPISODE - 1 for i in range(EPISODE)]
    return [
        Transition(
            observation=stacks[i],
            action=torch.from_numpy(random.integers(4, size=worlds)),
            reward=torch.from_numpy(random.random(worlds, dtype=np.float32)),
            discount=torch.full((worlds,), 0.0 if ends[i] else 1.0),
            next_observation=stacks[i + 1],
            last=torch.full((worlds,), ends[i]),
        )
        for i in range(EPISODE)
    ]


def adder(add: Callable, steps: list, worlds: int) -> Callable[[], int]:
    """A call that adds one episode of every world, and returns how many transitions that was."""

    def call() -> int:
        for step in steps:
            add(step)
        return len(steps) * worlds

    return call


def sampler(sample: Callable[[int], object], batch: int) -> Callable[[], int]:
    def call() -> int:
        sample(batch)
        return 1

    return call


def frame_replay(capacity: int, worlds: int) -> tuple[FrameReplay, Callable[[], int]]:
    memory = FrameReplay(capacity, worlds, stack=SHAPE[0])
    return memory, adder(memory.add, episode(worlds), worlds)


def sb3_buffer(capacity: int, worlds: int, optimize: bool) -> tuple[object, Callable[[], int]]:
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    memory = ReplayBuffer(
        capacity,
        spaces.Box(0, 255, SHAPE, np.uint8),
        spaces.Discrete(4),
        device="cpu",
        n_envs=worlds,
        optimize_memory_usage=optimize,
        handle_timeout_termination=not optimize,  # SB3 allows only one of the two
    )
    steps = [
        (
            step.observation.numpy(),
            step.next_observation.numpy(),
            step.action.numpy(),
            step.reward.numpy(),
            step.last.numpy(),
            [{} for _ in range(worlds)],
        )
        for step in episode(worlds)
    ]
    return memory, adder(lambda step: memory.add(*step), steps, worlds)


class TorchRLBuffer:
    """TorchRL's memory, which says what it takes."""

    def __init__(self, capacity: int):
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

        self.memory = TensorDictReplayBuffer(storage=LazyTensorStorage(capacity))
        self.sample = self.memory.sample

    @property
    def nbytes(self) -> int:
        return self.memory[:].bytes()


def torchrl_buffer(capacity: int, worlds: int) -> tuple[TorchRLBuffer, Callable[[], int]]:
    from tensordict import TensorDict

    memory = TorchRLBuffer(capacity)
    steps = []
    for step in episode(worlds):  # laid out as TorchRL's collectors do
        ended = {"terminated": step.discount == 0, "truncated": step.last & (step.discount != 0), "done": step.last}
        next_value = {"observation": step.next_observation, "reward": step.reward} | ended
        begun = {"observation": step.observation, "action": step.action}
        steps.append(TensorDict(begun | {"next": TensorDict(next_value, [worlds])}, [worlds]))
    return memory, adder(memory.memory.extend, steps, worlds)


UNIFORM: dict[str, Callable[[int, int], tuple[object, Callable[[], int]]]] = {
    "saccade": frame_replay,
    "SB3": lambda capacity, worlds: sb3_buffer(capacity, worlds, optimize=False),
    "SB3 optimized": lambda capacity, worlds: sb3_buffer(capacity, worlds, optimize=True),
    "TorchRL": torchrl_buffer,
}


def bytes_of(memory: object) -> int:
    if isinstance(memory, (FrameReplay, TorchRLBuffer)):
        return memory.nbytes
    arrays = (value for value in vars(memory).values() if isinstance(value, np.ndarray))
    return sum(array.nbytes for array in arrays)


# Prioritized: each call draws a batch and sets the priorities of what was drawn.

EXPONENT, BETA, AT_ONCE = 0.6, 0.4, 8  # AT_ONCE: worlds, and transitions of one add


def prioritized_cycle(capacity: int, batch: int) -> tuple[PrioritizedReplay, Callable[[], int]]:
    """A full memory, and a call that draws from it and sets the priorities of what was drawn."""
    memory = PrioritizedReplay(RowReplay(capacity, AT_ONCE), EXPONENT)
    zeros = torch.zeros(AT_ONCE)
    observation = torch.rand(AT_ONCE, 4)
    step = Transition(observation, zeros.long(), zeros, zeros + 1, observation, zeros.bool())
    for _ in range(capacity // AT_ONCE):
        memory.add(step)
    memory.sample(1)  # from now on all priorities are known
    for index in torch.arange(capacity // AT_ONCE * AT_ONCE).split(1 << 16):
        memory.update(index, torch.rand(len(index)))
    errors = torch.rand(batch)

    def call() -> int:
        memory.update(memory.sample(batch, beta=BETA).index, errors)
        return 1

    return memory, call


def cpprb_cycle(capacity: int, batch: int) -> tuple[object, Callable[[], int]]:
    from cpprb import PrioritizedReplayBuffer

    vector = {"shape": 4, "dtype": np.float32}
    flag = {"dtype": np.bool_}
    fields = {"obs": vector, "act": {"dtype": np.int64}, "rew": {}, "discount": {}, "next_obs": vector, "last": flag}
    memory = PrioritizedReplayBuffer(capacity, fields, alpha=EXPONENT)
    random, many = np.random.default_rng(0), 1000
    for _ in range(-(-capacity // many)):
        observation, zeros = random.random((many, 4), dtype=np.float32), np.zeros(many)
        memory.add(
            obs=observation,
            act=zeros,
            rew=zeros,
            discount=zeros,
            next_obs=observation,
            last=zeros,
            priorities=random.random(many),
        )
    errors = random.random(batch)

    def call() -> int:
        memory.update_priorities(memory.sample(batch, beta=BETA)["indexes"], errors)
        return 1

    return memory, call


def torchrl_cycle(capacity: int, batch: int) -> tuple[object, Callable[[], int]]:
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.data.replay_buffers.samplers import PrioritizedSampler

    memory = TensorDictReplayBuffer(
        storage=LazyTensorStorage(capacity),
        sampler=PrioritizedSampler(capacity, alpha=EXPONENT, beta=BETA),
        batch_size=batch,
        priority_key="error",
    )
    observation, zeros = torch.rand(capacity, 4), torch.zeros(capacity)
    ended = {name: zeros.bool() for name in ("terminated", "truncated", "done")}
    next_value = TensorDict({"observation": observation, "reward": zeros} | ended, [capacity])
    begun = {"observation": observation, "action": zeros.long(), "error": torch.rand(capacity)}
    memory.extend(TensorDict(begun | {"next": next_value}, [capacity]))  # takes its priorities from "error"
    errors = torch.rand(batch)

    def call() -> int:
        memory.update_priority(memory.sample()["index"], errors)
        return 1

    return memory, call


def torchrl_prioritizes() -> bool:
    """Whether TorchRL's compiled extension loads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchrl._torchrl  # noqa: F401
    except ImportError as error:
        print(f"TorchRL is left out, its extension does not load: {str(error)[:150]}")
        return False
    return True


PRIORITIZED: dict[str, Callable[[int, int], tuple[object, Callable[[], int]]]] = {
    "saccade": prioritized_cycle,
    "cpprb": cpprb_cycle,
    "TorchRL": torchrl_cycle,
}
